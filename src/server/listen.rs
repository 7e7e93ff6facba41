//! Listening sockets: binding them, and those passed by the service manager.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::{ClientCertificates, Config, Endpoint, HandedOver, Listener, ProtocolMode};
use crate::server::error::StartError;
use crate::server::inherited::Inherited;
use crate::server::transport::stream::{Stream, tcp_name, unix_name};
use crate::sync::{AtomicBool, Ordering};

/// A listening socket and its settings.
pub(super) struct Listening {
    socket: Bound,
    /// Protocol of its connections.
    pub(super) protocol: ProtocolMode,
    /// Whether its connections use TLS, and if so, whether clients must present
    /// a certificate.
    pub(super) tls: Option<ClientCertificates>,
    /// Whether its connections begin with a header of the PROXY protocol.
    pub(super) proxy: bool,
    /// Whether the service manager has passed it.
    pub(super) is_inherited: bool,
}

enum Bound {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// The socket's file; `None` if the service manager owns it.
        file: Option<Arc<SocketFile>>,
    },
}

/// File of a unix socket. Dropping it removes the file, if it is this process's.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// False while the file belongs to a server that hands over.
    is_ours: AtomicBool,
    /// Device and inode, to recognize another file that has replaced it.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// Returns the file at `path`, which this process has made.
    pub(super) fn of(path: &Path) -> Self {
        let file = Self::of_predecessor(path);
        file.become_ours();
        file
    }

    /// Returns the file at `path`, which a server has made that hands over.
    pub(super) fn of_predecessor(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            is_ours: AtomicBool::new(false),
            identity: identity(path),
        }
    }

    /// Makes this process remove the file at the end.
    pub(super) fn become_ours(&self) {
        self.is_ours.store(true, Ordering::Relaxed);
    }

    /// Removes the file of a socket to which no process listens, as `is_used`
    /// finds out. Any other file is left alone.
    ///
    /// # Errors
    /// There is another file, or the socket is in use.
    pub(super) fn remove_stale(path: &Path, is_used: impl Fn(&Path) -> bool) -> io::Result<()> {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return Ok(());
        };
        if !metadata.file_type().is_socket() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if is_used(path) {
            return Err(ErrorKind::AddrInUse.into());
        }
        fs::remove_file(path)
    }

    /// Sets the permission bits of a socket's file.
    ///
    /// # Errors
    /// The file system refuses.
    pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = self.is_ours.load(Ordering::Relaxed);
        if is_ours && identity(&self.path) == self.identity {
            // The file may have been removed already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Listening {
    /// Accepts one connection. Returns it with the address of the peer; `None` for a unix socket.
    ///
    /// # Errors
    /// `WouldBlock` if none is waiting, or an error of the system.
    pub(super) fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match &self.socket {
            Bound::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Stream::Tcp(stream), Some(peer)))
            }
            Bound::Unix { listener, .. } => Ok((Stream::Unix(listener.accept()?.0), None)),
        }
    }

    /// Returns the local address of all its connections, as `stats conns` reports it; `None` if
    /// it accepts connections to several addresses.
    pub(super) fn local_name(&self) -> Option<Arc<str>> {
        let is_any = self
            .tcp_addr()
            .is_some_and(|address| address.ip().is_unspecified());
        (!is_any).then(|| self.about().1.into())
    }

    /// Returns the TCP address with the port that the system chose; `None` for
    /// a unix socket.
    pub(super) fn tcp_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Bound::Tcp(listener) => listener.local_addr().ok(),
            Bound::Unix { .. } => None,
        }
    }

    /// Returns the path of a unix socket; `None` for TCP.
    pub(super) fn unix_path(&self) -> Option<PathBuf> {
        match &self.socket {
            Bound::Tcp(_) => None,
            Bound::Unix { listener, .. } => {
                let address = listener.local_addr().ok()?;
                address.as_pathname().map(Path::to_path_buf)
            }
        }
    }

    /// Returns the URL of an HTTP server that listens here.
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        match (self.tcp_addr(), self.unix_path()) {
            (Some(address), _) => format!("{scheme}://{address}/"),
            (None, Some(path)) => format!("unix:{}", path.display()),
            (None, None) => String::new(),
        }
    }

    /// Returns the descriptor and the address as `stats conns` reports them.
    pub(super) fn about(&self) -> (i32, String) {
        match &self.socket {
            Bound::Tcp(listener) => {
                let name = listener.local_addr().map(tcp_name);
                (listener.as_raw_fd(), name.unwrap_or_default())
            }
            Bound::Unix { listener, .. } => {
                let path = self.unix_path();
                (listener.as_raw_fd(), unix_name(path.as_deref()))
            }
        }
    }

    /// Returns a listener with another descriptor of the same socket.
    ///
    /// # Errors
    /// The process has no more descriptors.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let descriptor = self.as_fd().try_clone_to_owned()?;
        let socket = match &self.socket {
            Bound::Tcp(_) => Bound::Tcp(TcpListener::from_std(descriptor.into())),
            Bound::Unix { file, .. } => Bound::Unix {
                listener: UnixListener::from_std(descriptor.into()),
                file: file.clone(),
            },
        };
        Ok(Self { socket, ..*self })
    }

    /// Returns the socket, whose file is to stay.
    pub(super) fn leave(self) -> OwnedFd {
        match self.socket {
            Bound::Tcp(listener) => listener.into(),
            Bound::Unix { listener, file } => {
                if let Some(file) = file {
                    file.is_ours.store(false, Ordering::Relaxed);
                }
                listener.into()
            }
        }
    }

    /// Makes this process remove the socket's file at the end, if it has one.
    pub(super) fn own_file(&self) {
        if let Bound::Unix {
            file: Some(file), ..
        } = &self.socket
        {
            file.become_ours();
        }
    }

    /// Registers the socket with a poll.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.socket {
            Bound::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            Bound::Unix { listener, .. } => listener.register(registry, token, Interest::READABLE),
        }
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Bound::Tcp(listener) => listener.as_fd(),
            Bound::Unix { listener, .. } => listener.as_fd(),
        }
    }
}

/// Binds listeners, with `backlog` connections in the queue of each, unless
/// `take` has a socket that listens there already.
///
/// An address with port 0 gets an ephemeral port. If the listener is optional,
/// it uses the port of the first TCP listener instead, so that IPv4 and IPv6
/// share one. An optional listener is skipped if the system lacks its address
/// family.
pub(super) fn bind_all(
    listeners: &[Listener],
    backlog: i32,
    take: &mut dyn FnMut(&Endpoint) -> Option<OwnedFd>,
) -> Result<Vec<Listening>, StartError> {
    let mut bound: Vec<Listening> = Vec::new();
    for listener in listeners {
        if let Some(taken) = take(&listener.endpoint) {
            bound.push(Listening {
                socket: Bound::taken(taken, &listener.endpoint, backlog)?,
                protocol: listener.protocol,
                tls: listener.tls,
                proxy: listener.proxy,
                is_inherited: false,
            });
            continue;
        }
        let socket = match &listener.endpoint {
            Endpoint::Tcp(address) => {
                let mut address = *address;
                if address.port() == 0 && listener.optional {
                    let port = bound.iter().find_map(Listening::tcp_addr);
                    address.set_port(port.map_or(0, |first| first.port()));
                }
                match bind_tcp(address, backlog) {
                    Ok(socket) => Bound::Tcp(socket),
                    Err(error) if listener.optional && lacks_family(&error) => continue,
                    Err(error) => return Err(StartError::tcp(address, error)),
                }
            }
            Endpoint::Unix { path, mode } => {
                let (listener, file) = bind_unix(path, *mode, backlog)
                    .map_err(|error| StartError::unix(path, error))?;
                Bound::Unix {
                    listener,
                    file: Some(Arc::new(file)),
                }
            }
        };
        bound.push(Listening {
            socket,
            protocol: listener.protocol,
            tls: listener.tls,
            proxy: listener.proxy,
            is_inherited: false,
        });
    }
    Ok(bound)
}

impl Bound {
    /// Uses a TCP socket that another process has bound.
    fn inherited_tcp(listener: std::net::TcpListener) -> Self {
        // Accepted connections have it from the listener. One that lacks it still works, with
        // slower replies.
        let _ = SockRef::from(&listener).set_tcp_nodelay(true);
        Self::Tcp(TcpListener::from_std(listener))
    }

    /// Uses a socket that listens at `endpoint` already.
    fn taken(taken: OwnedFd, endpoint: &Endpoint, backlog: i32) -> Result<Self, StartError> {
        // The setting may have changed. Where it may not, the old one stays.
        let _ = SockRef::from(&taken).listen(backlog);
        Ok(match endpoint {
            Endpoint::Tcp(_) => Self::inherited_tcp(taken.into()),
            Endpoint::Unix { path, mode } => {
                SocketFile::set_mode(path, *mode).map_err(|error| StartError::unix(path, error))?;
                Self::Unix {
                    listener: UnixListener::from_std(taken.into()),
                    file: Some(Arc::new(SocketFile::of_predecessor(path))),
                }
            }
        })
    }
}

/// Takes sockets that the service manager has bound. Their files are not
/// removed.
pub(super) fn take_inherited(config: &Config, inherited: Inherited) -> io::Result<Vec<Listening>> {
    let HandedOver { protocol, tls, .. } = config.handed_over;
    let mut taken = Vec::new();
    for listener in inherited.tcp {
        listener.set_nonblocking(true)?;
        taken.push(Listening {
            socket: Bound::inherited_tcp(listener),
            protocol,
            tls,
            proxy: false,
            is_inherited: true,
        });
    }
    for listener in inherited.unix {
        listener.set_nonblocking(true)?;
        taken.push(Listening {
            socket: Bound::Unix {
                listener: UnixListener::from_std(listener),
                file: None,
            },
            protocol,
            tls: None,
            proxy: false,
            is_inherited: true,
        });
    }
    Ok(taken)
}

/// Returns whether binding failed because the system lacks the address family.
pub(super) fn lacks_family(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT)
    )
}

fn bind_tcp(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_keepalive(true)?;
    // Disables Nagle's algorithm, because replies are batched already. Accepted connections have
    // the setting from the listener.
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Binds a unix socket. Replaces a stale socket file, to which no process
/// listens. Any other file at the path is left alone and is an error.
fn bind_unix(path: &Path, mode: u32, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    SocketFile::remove_stale(path, |path| net::UnixStream::connect(path).is_ok())?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    let file = SocketFile::of(path);
    // Set before `listen`, so that no client can connect with wrong
    // permissions.
    SocketFile::set_mode(path, mode)?;
    socket.listen(backlog)?;
    Ok((UnixListener::from_std(socket.into()), file))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::fd::OwnedFd;

    use socket2::SockRef;

    use super::{Bound, Listening, bind_tcp};
    use crate::config::{Endpoint, ProtocolMode};
    use crate::server::transport::stream::Stream;

    fn listening(socket: Bound) -> Listening {
        Listening {
            socket,
            protocol: ProtocolMode::Auto,
            tls: None,
            proxy: false,
            is_inherited: false,
        }
    }

    #[test]
    fn accepted_connections_have_nodelay_from_any_listener() {
        let own = bind_tcp("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        foreign.set_nonblocking(true).unwrap();
        let endpoint = Endpoint::Tcp(foreign.local_addr().unwrap());
        let taken = Bound::taken(OwnedFd::from(foreign), &endpoint, 16).unwrap();
        for socket in [Bound::Tcp(own), taken] {
            let listening = listening(socket);
            let address = listening.tcp_addr().unwrap();
            let client = TcpStream::connect(address).unwrap();
            // The connection is there as soon as the client has it.
            let (stream, peer) = listening.accept().unwrap();
            assert_eq!(peer, client.local_addr().ok());
            assert_eq!(stream.local_name(), *listening.local_name().unwrap());
            let Stream::Tcp(socket) = stream else {
                panic!("TCP was accepted");
            };
            assert!(SockRef::from(&socket).tcp_nodelay().unwrap());
        }
    }

    #[test]
    fn a_listener_at_any_address_does_not_know_that_of_its_connections() {
        let any = bind_tcp("0.0.0.0:0".parse().unwrap(), 16).unwrap();
        assert_eq!(listening(Bound::Tcp(any)).local_name(), None);
    }
}
