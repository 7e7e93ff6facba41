//! What the tests around the server share: the server itself (in process or
//! as a program), Debian's memcached beside it, a client that compares bytes,
//! and a runner for scripts of (send, expect).
//!
//! Rules: ports are ephemeral, nothing sleeps for a fixed time, every wait has
//! a deadline, and whatever is started is stopped when its handle is dropped.

#![cfg(not(loom))]

pub mod binary;
pub mod client;
pub mod datagram;
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

/// Longest that any single wait of a test may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Tries `ready` until it gives a value; panics with `what` after
/// [`DEADLINE`].
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

/// A directory of this test alone, removed when dropped. The path is short,
/// because a unix socket's address holds about a hundred bytes.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn create() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rustcached-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory under the temporary one");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A leftover directory must not fail a test that passed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a missing tool fails a test (in CI) rather than skips it.
pub fn must_not_skip() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Says on one line that a test could not run, or fails it in CI.
pub fn skip(why: &str) {
    assert!(!must_not_skip(), "CI must run every test, but {why}");
    eprintln!("skipped: {why}");
}

/// A standard stream that takes nothing more as long as its other end, which
/// is not read, is kept.
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
    // A flag of the open file: it holds for a child too.
    near.set_nonblocking(false).expect("a socket");
    (far, Stdio::from(OwnedFd::from(near)))
}
