//! Runs memcached as the reference server: Debian's, or the program named by
//! `RUSTCACHED_PEER`.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::client::{Address, Client};
use crate::wait_until;

/// Environment variable with the path of another memcached.
const VARIABLE: &str = "RUSTCACHED_PEER";
const PATH: &str = "/usr/bin/memcached";

/// A running memcached, killed when dropped.
pub struct Memcached {
    child: Child,
    address: Address,
}

impl Memcached {
    /// Returns the path of the program if it is installed.
    pub fn find() -> Option<PathBuf> {
        match std::env::var_os(VARIABLE) {
            Some(path) => {
                let path = PathBuf::from(path);
                assert!(path.is_file(), "{VARIABLE} names no file: {path:?}");
                Some(path)
            }
            None => Some(PathBuf::from(PATH)).filter(|path| path.is_file()),
        }
    }

    /// Starts memcached with additional options. If it is not installed,
    /// reports a skipped test and returns `None`.
    pub fn start_or_skip(options: &[&str]) -> Option<Self> {
        let Some(program) = Self::find() else {
            crate::skip("memcached is not installed");
            return None;
        };
        // Another process may bind the chosen port before memcached does.
        for _ in 0..10 {
            if let Some(server) = Self::try_start(&program, options) {
                return Some(server);
            }
        }
        panic!("memcached did not start");
    }

    fn try_start(program: &PathBuf, options: &[&str]) -> Option<Self> {
        let port = free_port();
        let child = Command::new(program)
            .args(["-l", "127.0.0.1", "-u", "nobody", "-p"])
            .arg(port.to_string())
            .args(options)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("memcached can be executed");
        let address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
        let mut server = Self { child, address };
        let alive = wait_until("memcached answers or ends", || {
            if server
                .child
                .try_wait()
                .expect("a child can be waited for")
                .is_some()
            {
                return Some(false);
            }
            // Check that the server on this port is the child, not another
            // process.
            let mut client = Client::try_connect(&server.address).ok()?;
            client.try_send("stats\r\nmn\r\n").ok()?;
            // memcached 1.6.18 occasionally closes a new connection.
            let answer = client.answer_or_close().ok()?;
            let line = format!("STAT pid {}\r\n", server.child.id());
            let answer = String::from_utf8_lossy(&answer);
            Some(answer.contains(&line))
        });
        alive.then_some(server)
    }

    /// Returns the release as three numbers. Ignores the suffix of a build
    /// between releases, such as `1.6.45_3_gabcdef`.
    pub fn version(&self) -> [u32; 3] {
        let version = Client::connect(&self.address).stat("version");
        let mut parts = version.split('.').map(|part| {
            let digits = part.find(|letter: char| !letter.is_ascii_digit());
            let number = part[..digits.unwrap_or(part.len())].parse();
            number.unwrap_or_else(|_| panic!("no release: {version}"))
        });
        std::array::from_fn(|_| {
            parts
                .next()
                .unwrap_or_else(|| panic!("no release: {version}"))
        })
    }

    /// Returns the address of the TCP listener.
    pub fn address(&self) -> Address {
        self.address.clone()
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        // Errors mean that the child has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a port that was free at the time of the call.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has free ports");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}
