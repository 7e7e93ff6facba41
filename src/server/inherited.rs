//! Socket activation: listening sockets that the service manager has opened and
//! passed to the process (`LISTEN_FDS`, see `sd_listen_fds(3)`).

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

/// Listening sockets passed to the process.
#[derive(Debug, Default)]
pub struct Inherited {
    /// TCP listeners, in the order of their descriptors.
    pub(super) tcp: Vec<TcpListener>,
    /// Unix socket listeners, in the order of their descriptors.
    pub(super) unix: Vec<UnixListener>,
}

impl Inherited {
    /// Takes the sockets passed to this process. Returns none if there are
    /// none, or if they were taken before.
    ///
    /// Call it while the process has one thread, because it changes environment
    /// variables.
    ///
    /// # Errors
    /// A passed descriptor is not a listening stream socket.
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

    /// Returns whether no socket was passed.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.unix.is_empty()
    }
}
