//! Shared test support: the server (in process or as a program), a reference
//! memcached, clients that compare raw bytes, and a runner for scripts of
//! (send, expect) steps.
//!
//! Rules: ports are ephemeral, nothing sleeps for a fixed time, and every wait
//! has a deadline. Everything that a test starts stops when its handle is
//! dropped.

#![cfg(not(loom))]

pub mod binary;
pub mod client;
pub mod datagram;
pub mod http;
pub mod memcached;
pub mod program;
pub mod random;
pub mod script;
pub mod server;
pub mod tls;

use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Maximum duration of a single wait in a test.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Polls `ready` until it returns a value. Panics with the description `what`
/// after [`DEADLINE`].
pub fn wait_until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "waited {DEADLINE:?} in vain: {what}"
        );
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// A directory for a single test, removed when dropped. Its path is short,
/// because the path of a unix socket is limited to about 100 bytes.
pub struct TempDir(PathBuf);

impl TempDir {
    /// Creates the directory in the system's temporary directory.
    pub fn create() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rustcached-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory under the temporary one");
        Self(path)
    }

    /// Returns the path of the file `name` in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Failing to remove the directory must not fail a test that passed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns whether a missing tool fails the test (in CI) instead of skipping
/// it.
pub fn must_not_skip() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Reports on standard error that the test is skipped, or fails it in CI.
pub fn skip(why: &str) {
    assert!(!must_not_skip(), "CI must run every test, but {why}");
    eprintln!("skipped: {why}");
}

/// Returns a standard stream whose buffer is full, so that writes block, and
/// the other end. The stream stays blocked until the other end is read or
/// dropped.
pub fn stuck() -> (UnixStream, Stdio) {
    let (mut near, far) = UnixStream::pair().expect("a pair of sockets");
    near.set_nonblocking(true).expect("a socket");
    let kind = loop {
        if let Err(error) = near.write(&[b'x'; 4096]) {
            break error.kind();
        }
    };
    assert_eq!(kind, ErrorKind::WouldBlock);
    while near.write(b"x").is_ok() {}
    // Non-blocking mode belongs to the open file, so the child would inherit
    // it.
    near.set_nonblocking(false).expect("a socket");
    (far, Stdio::from(OwnedFd::from(near)))
}
