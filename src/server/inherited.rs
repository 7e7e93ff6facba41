//! Listening sockets that the service manager opened and handed to the
//! process (`LISTEN_FDS`, as systemd's socket units do).

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Inherited {
    pub(super) tcp: Vec<TcpListener>,
    pub(super) unix: Vec<UnixListener>,
}

impl Inherited {
    /// Takes what was handed to this process, once; none if nothing was. Call
    /// it before there are other threads, since it changes the environment.
    ///
    /// # Errors
    /// One of them is no stream socket.
    pub fn take() -> io::Result<Self> {
        let mut handed = ListenFd::from_env();
        let mut taken = Self::default();
        for index in 0..handed.len() {
            match handed.take_tcp_listener(index) {
                Ok(listener) => taken.tcp.extend(listener),
                Err(_) => taken.unix.extend(handed.take_unix_listener(index)?),
            }
        }
        Ok(taken)
    }

    /// Nothing was handed over.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.unix.is_empty()
    }
}
