//! The byte streams a connection may be: TCP, TLS over it, or a unix socket.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use crate::server::transport::tls::TlsStream;

/// A non-blocking byte stream.
pub(in crate::server) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

impl Stream {
    pub(in crate::server) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retrying(|| match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        })
    }

    pub(in crate::server) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        retrying(|| match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        })
    }

    pub(in crate::server) fn write_vectored(
        &mut self,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        retrying(|| match self {
            Self::Tcp(stream) => stream.write_vectored(slices),
            Self::Unix(stream) => stream.write_vectored(slices),
            Self::Tls(stream) => stream.write_vectored(slices),
        })
    }

    /// Sends what the stream itself holds back; `WouldBlock` if it must wait.
    #[inline]
    pub(in crate::server) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }

    /// Whether the stream itself holds output back.
    #[inline]
    pub(in crate::server) fn has_unsent(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.has_unsent())
    }

    /// Whether there may be input for which no event will come, though the
    /// last read came back short.
    #[inline]
    pub(in crate::server) fn holds_more(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.holds_more())
    }

    /// Whether it is a unix socket.
    pub(in crate::server) fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Bytes of records that a TLS session keeps, roughly.
    #[inline]
    pub(in crate::server) fn session_bytes(&self) -> usize {
        match self {
            Self::Tcp(_) | Self::Unix(_) => 0,
            Self::Tls(stream) => stream.session_bytes(),
        }
    }

    /// Second in which a stream began that is not yet ready for use.
    pub(in crate::server) fn handshaking_since(&self) -> Option<u32> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(stream) => stream.handshaking_since(),
        }
    }

    /// Says goodbye where the stream has a way to; what went wrong with it.
    pub(in crate::server) fn close(&mut self) -> Option<String> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(stream) => stream.close(),
        }
    }

    /// The other end; `None` for a unix socket.
    pub(in crate::server) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Tls(stream) => stream.socket.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Answers go out at once, however small: they are already batched.
    pub(in crate::server) fn set_nodelay(&self) {
        let socket = match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => &stream.socket,
            Self::Unix(_) => return,
        };
        // A peer that is gone already shows on the first read.
        let _ = socket.set_nodelay(true);
    }
}

impl Stream {
    /// The descriptor, by which operators know the connection.
    pub(in crate::server) fn fd(&self) -> i32 {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Tls(stream) => stream.socket.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }

    /// This end, as operators are told of it.
    pub(in crate::server) fn local_name(&self) -> String {
        match self {
            Self::Tcp(stream) => stream.local_addr().map_or_else(|_| String::new(), tcp_name),
            Self::Tls(stream) => {
                let address = stream.socket.local_addr();
                address.map_or_else(|_| String::new(), tcp_name)
            }
            Self::Unix(stream) => match stream.local_addr() {
                Ok(address) => unix_name(address.as_pathname()),
                Err(_) => unix_name(None),
            },
        }
    }
}

/// A TCP address as operators are told of it.
pub(in crate::server) fn tcp_name(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(_) => format!("tcp:{address}"),
        SocketAddr::V6(_) => format!("tcp6:{address}"),
    }
}

/// A unix socket's path, the same way.
pub(in crate::server) fn unix_name(path: Option<&Path>) -> String {
    format!("unix:{}", path.unwrap_or(Path::new("<AF 1>")).display())
}

impl Source for Stream {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
            Self::Unix(stream) => stream.register(registry, token, interest),
            Self::Tls(stream) => stream.socket.register(registry, token, interest),
        }
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, interest),
            Self::Unix(stream) => stream.reregister(registry, token, interest),
            Self::Tls(stream) => stream.socket.reregister(registry, token, interest),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Unix(stream) => stream.deregister(registry),
            Self::Tls(stream) => stream.socket.deregister(registry),
        }
    }
}

fn retrying(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
