//! Socket activation: listening sockets that the service manager has opened and
//! passed to the process (`LISTEN_FDS`, see `sd_listen_fds(3)`), and the memory
//! that it has stored since the last stop (`FDSTORE`, see `sd_notify(3)`).

use std::fs::{File, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use socket2::SockRef;

use crate::config::Endpoint;

/// Name under which the service manager stores the memory of the items.
pub(super) const STORED_MEMORY: &str = "rustcached-memory";

/// Name under which it stores each listening socket.
pub(super) const STORED_LISTENER: &str = "rustcached-listener";

/// Descriptors passed to the process.
#[derive(Debug, Default)]
pub struct Inherited {
    /// TCP listeners, in the order of their descriptors.
    pub(super) tcp: Vec<TcpListener>,
    /// Unix socket listeners, in the order of their descriptors.
    pub(super) unix: Vec<UnixListener>,
    /// Memory of the items, as the last server has left it.
    pub(super) memory: Option<File>,
    /// Listening sockets that the last server has left.
    pub(super) left: Vec<OwnedFd>,
}

impl Inherited {
    /// Takes the descriptors passed to this process. Returns none if there are
    /// none, or if they were taken before.
    ///
    /// Call it while the process has one thread, because it changes environment
    /// variables.
    ///
    /// # Errors
    /// A passed descriptor is neither a listening stream socket nor memory of the
    /// items.
    pub fn take() -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let mut handed = ListenFd::from_env();
        let mut taken = Self::default();
        for index in 0..handed.len() {
            if names.get(index) == Some(&STORED_MEMORY) {
                taken.memory = handed.take_raw_fd(index)?.map(reopen).transpose()?;
                continue;
            }
            if names.get(index) == Some(&STORED_LISTENER) {
                match handed.take_tcp_listener(index) {
                    Ok(listener) => taken.left.extend(listener.map(OwnedFd::from)),
                    Err(_) => {
                        let listener = handed.take_unix_listener(index)?;
                        taken.left.extend(listener.map(OwnedFd::from));
                    }
                }
                continue;
            }
            match handed.take_tcp_listener(index) {
                Ok(listener) => taken.tcp.extend(listener),
                Err(_) => taken.unix.extend(handed.take_unix_listener(index)?),
            }
        }
        Ok(taken)
    }

    /// Adds a listening socket, which the service manager has passed to the server
    /// before.
    pub(super) fn add_listener(&mut self, socket: OwnedFd) {
        let address = SockRef::from(&socket).local_addr();
        match address.is_ok_and(|address| address.is_unix()) {
            true => self.unix.push(socket.into()),
            false => self.tcp.push(socket.into()),
        }
    }

    /// Returns the names under which the service manager has stored what it has
    /// passed.
    pub fn stored(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        names.extend(self.memory.as_ref().map(|_| STORED_MEMORY));
        names.extend(self.left.first().map(|_| STORED_LISTENER));
        names
    }

    /// Takes the socket at `endpoint` that the last server has left.
    pub(super) fn take_left(&mut self, endpoint: &Endpoint) -> Option<OwnedFd> {
        let place = self
            .left
            .iter()
            .position(|it| listens_at(it.as_fd(), endpoint))?;
        Some(self.left.swap_remove(place))
    }

    /// Returns whether no socket was passed.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.unix.is_empty()
    }
}

/// Returns whether a socket listens at an endpoint. Port 0 stands for any port. The
/// file of a unix socket must be there.
pub(super) fn listens_at(socket: BorrowedFd<'_>, endpoint: &Endpoint) -> bool {
    let Ok(address) = SockRef::from(&socket).local_addr() else {
        return false;
    };
    match endpoint {
        Endpoint::Tcp(wanted) => address.as_socket().is_some_and(|address| {
            address.ip() == wanted.ip() && (wanted.port() == 0 || address.port() == wanted.port())
        }),
        Endpoint::Unix { path, .. } => address.as_pathname() == Some(path) && path.exists(),
    }
}

/// Opens the file of a descriptor anew, and closes the descriptor.
fn reopen(descriptor: RawFd) -> io::Result<File> {
    let path = format!("/proc/self/fd/{descriptor}");
    let file = OpenOptions::new().read(true).write(true).open(path);
    nix::unistd::close(descriptor)?;
    file
}
