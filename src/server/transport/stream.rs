//! Byte streams of connections: TCP, TLS over TCP, or a unix socket.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::net::{RecvFlags, recv};

use crate::server::transport::tls::TlsStream;

/// A non-blocking byte stream. Calls interrupted by a signal are repeated.
pub(in crate::server) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Reads into `buffer`. Returns 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if no input is there.
    pub(in crate::server) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retrying(|| match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        })
    }

    /// Copies input of the socket into `buffer` and leaves it there. Under TLS, that
    /// is the encrypted input. Returns 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if no input is there.
    pub(in crate::server) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let socket = match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.socket.as_fd(),
        };
        retrying(|| Ok(recv(socket, &mut *buffer, RecvFlags::PEEK)?.0))
    }

    /// Reads input of the socket, under TLS the encrypted input.
    ///
    /// # Errors
    /// `WouldBlock` if no input is there.
    pub(in crate::server) fn read_raw(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retrying(|| match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.socket.read(buffer),
        })
    }

    /// Writes as much of `bytes` as the socket takes.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing.
    pub(in crate::server) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        retrying(|| match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        })
    }

    /// Writes as much of `slices` as the socket takes, in one system call.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing.
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

    /// Returns the most bytes that the next write takes under TLS; `None` if only
    /// the socket limits it.
    #[inline]
    pub(in crate::server) fn write_limit(&self) -> Option<usize> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(stream) => Some(stream.burst()),
        }
    }

    /// Sends encrypted output that the TLS session buffers.
    ///
    /// # Errors
    /// `WouldBlock` if the socket does not take all of it.
    #[inline]
    pub(in crate::server) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }

    /// Returns whether the TLS session buffers encrypted output.
    #[inline]
    pub(in crate::server) fn has_unsent(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.has_unsent())
    }

    /// Returns whether the TLS session may have input for which no event will
    /// come, although the last read was short.
    #[inline]
    pub(in crate::server) fn holds_more(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.holds_more())
    }

    /// Returns whether this is a unix socket.
    pub(in crate::server) fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Returns the approximate bytes of records that a TLS session buffers.
    #[inline]
    pub(in crate::server) fn session_bytes(&self) -> usize {
        match self {
            Self::Tcp(_) | Self::Unix(_) => 0,
            Self::Tls(stream) => stream.session_bytes(),
        }
    }

    /// Returns the second in which the connection arrived, while its TLS
    /// handshake lasts.
    pub(in crate::server) fn handshaking_since(&self) -> Option<u32> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(stream) => stream.handshaking_since(),
        }
    }

    /// Ends a TLS session in order. Returns the reason if it failed.
    pub(in crate::server) fn close(&mut self) -> Option<String> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(stream) => stream.close(),
        }
    }

    /// Ends the output, and a TLS session in order. Input can still be read.
    pub(in crate::server) fn finish(&mut self) {
        // The peer may have closed the connection already.
        let _ = self.close();
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(stream) => stream.socket.shutdown(Shutdown::Write),
        };
    }

    /// Returns the peer's address; `None` for a unix socket.
    pub(in crate::server) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Tls(stream) => stream.socket.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

impl Stream {
    /// Returns the descriptor, which identifies the connection in `stats conns`
    /// and log lines.
    pub(in crate::server) fn fd(&self) -> i32 {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Tls(stream) => stream.socket.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }

    /// Returns the local address as `stats conns` reports it.
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

/// Formats a TCP address as `stats conns` reports it.
pub(in crate::server) fn tcp_name(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(_) => format!("tcp:{address}"),
        SocketAddr::V6(_) => format!("tcp6:{address}"),
    }
}

/// Formats the path of a unix socket as `stats conns` reports it.
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

/// Repeats a system call that was interrupted by a signal.
fn retrying(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
