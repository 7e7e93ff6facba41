//! Server addresses, and streams connected to them.
//!
//! Parses and prints the two forms of an address (`HOST:PORT`, `unix:PATH`), and hides from the
//! worker whether a stream is one of these or TLS over TCP. Never retries.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use super::failure::Failure;
use super::tls::TlsClient;
use super::tls_stream::TlsStream;

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address, resolved.
    Tcp(SocketAddr),
    /// The path of a unix stream socket.
    Unix(PathBuf),
    /// A TCP address where the server speaks TLS.
    Tls(SocketAddr, TlsClient),
}

impl Address {
    /// Returns the address for connections over TLS. Fails for a unix socket.
    pub fn over_tls(&self, client: TlsClient) -> Result<Address, Failure> {
        match self {
            Address::Tcp(address) | Address::Tls(address, _) => Ok(Address::Tls(*address, client)),
            Address::Unix(_) => Err(Failure::Usage("--tls: only over TCP".to_string())),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Address::Unix(PathBuf::from(path)));
        }
        text.to_socket_addrs()
            .map_err(|error| format!("{text}: {error} (HOST:PORT or unix:PATH is wanted)"))?
            .next()
            .map(Address::Tcp)
            .ok_or_else(|| format!("{text}: the name has no address"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tls(address, _) => write!(f, "{address} over TLS"),
        }
    }
}

/// A connected, non-blocking stream.
#[derive(Debug)]
pub enum Stream {
    /// A TCP stream with `TCP_NODELAY` set.
    Tcp(TcpStream),
    /// A unix stream socket.
    Unix(UnixStream),
    /// TLS over a TCP stream with `TCP_NODELAY` set.
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Connects (blocking) and makes the stream non-blocking.
    pub fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Tcp(address) => {
                let stream = std::net::TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok(Stream::Tcp(TcpStream::from_std(stream)))
            }
            Address::Unix(path) => {
                let stream = std::os::unix::net::UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Ok(Stream::Unix(UnixStream::from_std(stream)))
            }
            Address::Tls(address, client) => {
                TlsStream::connect(*address, client).map(|stream| Stream::Tls(Box::new(stream)))
            }
        }
    }

    /// Sends a request, and reads until the reply ends with `end`. Returns the reply. Fails if that
    /// takes longer than `timeout`.
    pub fn exchange(
        &mut self,
        request: &[u8],
        end: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let wrote = self.write_all(request);
        wrote.map_err(Failure::io("writing to the server"))?;
        let (mut reply, mut buffer) = (Vec::new(), [0u8; 256]);
        let begun = Instant::now();
        while !reply.ends_with(end) {
            match self.read(&mut buffer) {
                Ok(0) => return Err(Failure::Server("closed a connection".to_string())),
                Ok(n) => reply.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) => return Err(Failure::io("reading from the server")(error)),
            }
            if begun.elapsed() > timeout {
                return Err(Failure::Server("does not reply".to_string()));
            }
        }
        Ok(reply)
    }

    /// Returns whether encrypted output waits for the socket. Only TLS buffers output.
    pub fn has_unsent(&self) -> bool {
        matches!(self, Stream::Tls(stream) if stream.has_unsent())
    }

    /// Returns the TLS version and cipher suite; `None` without TLS.
    pub fn negotiated(&self) -> Option<String> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => None,
            Stream::Tls(stream) => Some(stream.negotiated()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => Ok(()),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, on: Interest) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.register(registry, token, on),
            Stream::Unix(stream) => stream.register(registry, token, on),
            Stream::Tls(stream) => stream.socket.register(registry, token, on),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, on: Interest) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.reregister(registry, token, on),
            Stream::Unix(stream) => stream.reregister(registry, token, on),
            Stream::Tls(stream) => stream.socket.reregister(registry, token, on),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.deregister(registry),
            Stream::Unix(stream) => stream.deregister(registry),
            Stream::Tls(stream) => stream.socket.deregister(registry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn both_spellings_are_read_and_printed_back() {
        for text in ["127.0.0.1:11211", "unix:/run/cache.sock", "[::1]:80"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert!("nowhere".parse::<Address>().is_err());
    }
}
