//! Listening sockets: binding them, and those passed by the service manager.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{ClientCertificates, Config, Endpoint, HandedOver, Listener, ProtocolMode};
use crate::server::error::StartError;
use crate::server::inherited::Inherited;
use crate::server::transport::stream::{Stream, tcp_name, unix_name};

/// A listening socket and its settings.
pub(super) struct Listening {
    socket: Bound,
    /// Protocol of its connections.
    pub(super) protocol: ProtocolMode,
    /// Whether its connections use TLS, and if so, whether clients must present
    /// a certificate.
    pub(super) tls: Option<ClientCertificates>,
}

enum Bound {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// The socket's file; `None` if the service manager owns it.
        _file: Option<SocketFile>,
    },
}

/// File of a unix socket. Dropping it removes the file.
struct SocketFile {
    path: PathBuf,
    /// Device and inode, to recognize another file that has replaced it.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    fn of(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            identity: identity(path),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == self.identity {
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
    /// Accepts one connection.
    ///
    /// # Errors
    /// `WouldBlock` if none is waiting, or an error of the system.
    pub(super) fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Bound::Tcp(listener) => Ok(Stream::Tcp(listener.accept()?.0)),
            Bound::Unix { listener, .. } => Ok(Stream::Unix(listener.accept()?.0)),
        }
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

    /// Registers the socket with a poll.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.socket {
            Bound::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            Bound::Unix { listener, .. } => listener.register(registry, token, Interest::READABLE),
        }
    }
}

/// Binds listeners, with `backlog` connections in the queue of each.
///
/// An address with port 0 gets an ephemeral port. If the listener is optional,
/// it uses the port of the first TCP listener instead, so that IPv4 and IPv6
/// share one. An optional listener is skipped if the system lacks its address
/// family.
pub(super) fn bind_all(listeners: &[Listener], backlog: i32) -> Result<Vec<Listening>, StartError> {
    let mut bound: Vec<Listening> = Vec::new();
    for listener in listeners {
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
                    _file: Some(file),
                }
            }
        };
        bound.push(Listening {
            socket,
            protocol: listener.protocol,
            tls: listener.tls,
        });
    }
    Ok(bound)
}

/// Takes over sockets that the service manager has bound. Their files are not
/// removed.
pub(super) fn take_over(config: &Config, inherited: Inherited) -> io::Result<Vec<Listening>> {
    let HandedOver { protocol, tls, .. } = config.handed_over;
    let mut taken = Vec::new();
    for listener in inherited.tcp {
        listener.set_nonblocking(true)?;
        taken.push(Listening {
            socket: Bound::Tcp(TcpListener::from_std(listener)),
            protocol,
            tls,
        });
    }
    for listener in inherited.unix {
        listener.set_nonblocking(true)?;
        taken.push(Listening {
            socket: Bound::Unix {
                listener: UnixListener::from_std(listener),
                _file: None,
            },
            protocol,
            tls: None,
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
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if net::UnixStream::connect(path).is_ok() {
            return Err(ErrorKind::AddrInUse.into());
        }
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    let file = SocketFile::of(path);
    // Set before `listen`, so that no client can connect with wrong
    // permissions.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    Ok((UnixListener::from_std(socket.into()), file))
}
