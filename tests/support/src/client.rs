//! Text protocol client that works on raw bytes. To find the end of a reply it
//! sends `mn` after each request and reads up to the `MN`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::DEADLINE;

/// The address of a server, with the transport to use.
#[derive(Clone, Debug)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Tls(SocketAddr, Arc<ClientConfig>),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A client connection.
pub struct Client {
    stream: Stream,
    /// Received bytes that no call has consumed yet.
    pending: Vec<u8>,
}

impl Client {
    /// Connects. Panics if that fails.
    pub fn connect(address: &Address) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("connect {address:?}: {error}"))
    }

    /// Connects, and completes no TLS handshake yet. Reads and writes fail
    /// after [`DEADLINE`].
    pub fn try_connect(address: &Address) -> std::io::Result<Self> {
        let stream = match address {
            Address::Tcp(address) => Stream::Tcp(connect_tcp(address)?),
            Address::Tls(address, config) => {
                let name = "localhost".try_into().expect("a name");
                let session = ClientConnection::new(Arc::clone(config), name);
                let session = session.map_err(std::io::Error::other)?;
                let stream = connect_tcp(address)?;
                Stream::Tls(Box::new(StreamOwned::new(session, stream)))
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(DEADLINE))?;
                stream.set_write_timeout(Some(DEADLINE))?;
                Stream::Unix(stream)
            }
        };
        Ok(Self {
            stream,
            pending: Vec::new(),
        })
    }

    /// Sends bytes, in a single write unless the kernel's buffer is full.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the server takes what is sent");
    }

    /// Sends bytes. Fails if the server has closed the connection.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes.as_ref()),
            Stream::Unix(stream) => stream.write_all(bytes.as_ref()),
            Stream::Tls(stream) => {
                stream.write_all(bytes.as_ref())?;
                stream.flush()
            }
        }
    }

    /// Sends bytes in writes of a single byte.
    pub fn send_bytewise(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]);
        }
    }

    /// Returns the client's own address of a TCP connection.
    pub fn local_addr(&self) -> SocketAddr {
        let address = match &self.stream {
            Stream::Tcp(stream) => stream.local_addr(),
            Stream::Tls(stream) => stream.sock.local_addr(),
            Stream::Unix(_) => panic!("a unix socket's end has no such address"),
        };
        address.expect("it is connected")
    }

    /// Returns the socket of a TCP connection, and the bytes that were received but
    /// not consumed.
    pub fn into_tcp(self) -> (TcpStream, Vec<u8>) {
        match self.stream {
            Stream::Tcp(stream) => (stream, self.pending),
            _ => panic!("no TCP connection"),
        }
    }

    /// Returns a second handle of the connection, to send from another thread.
    pub fn another_end(&self) -> Self {
        let stream = match &self.stream {
            Stream::Tcp(stream) => stream.try_clone().map(Stream::Tcp),
            Stream::Unix(stream) => stream.try_clone().map(Stream::Unix),
            Stream::Tls(_) => panic!("a TLS connection has one end"),
        };
        Self {
            stream: stream.expect("a socket can be cloned"),
            pending: Vec::new(),
        }
    }

    /// Sends `bytes` repeatedly until a write blocks for 200 ms.
    pub fn send_until_blocked(&mut self, bytes: &[u8]) {
        let moment = Some(Duration::from_millis(200));
        let limited = match &self.stream {
            Stream::Tcp(stream) => stream.set_write_timeout(moment),
            Stream::Unix(stream) => stream.set_write_timeout(moment),
            Stream::Tls(_) => panic!("what TLS takes is not what is sent"),
        };
        limited.expect("a timeout can be set");
        let many = bytes.repeat(1000);
        let error = loop {
            if let Err(error) = self.try_send(&many) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    }

    /// Shuts down the sending direction (half-close).
    pub fn finish_sending(&mut self) {
        let result = match &mut self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush()
            }
        };
        result.expect("a connected socket can be half closed");
    }

    /// Shuts down the sending direction of a TCP connection that the server may
    /// have closed already.
    pub fn try_finish_sending(&mut self) {
        if let Stream::Tcp(stream) = &self.stream {
            // An error means that the server has closed the connection.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    /// Reads as many bytes as `want` has and compares them.
    pub fn expect(&mut self, want: impl AsRef<[u8]>) {
        let want = want.as_ref();
        while self.pending.len() < want.len() {
            if self.fill() == 0 {
                let got = show(&self.pending);
                panic!("closed early: wanted {}, got {got}", show(want));
            }
        }
        let got: Vec<u8> = self.pending.drain(..want.len()).collect();
        assert!(
            got == want,
            "wanted {}\n   got {} and {}",
            show(want),
            show(&got),
            show(&self.pending)
        );
    }

    /// Returns the next `len` bytes without consuming them, `None` if the
    /// server closes before they arrive.
    pub fn peek_exactly(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.pending.len() < len {
            if self.fill() == 0 {
                return None;
            }
        }
        Some(self.pending[..len].to_vec())
    }

    /// Reads and discards the next `len` bytes.
    pub fn skip(&mut self, len: usize) {
        self.peek_exactly(len).expect("more bytes before the close");
        self.pending.drain(..len);
    }

    /// Sends a request and compares the reply, which must be exactly `want`.
    pub fn ask(&mut self, send: impl AsRef<[u8]>, want: impl AsRef<[u8]>) {
        let got = self.answer(&send);
        assert!(
            got == want.as_ref(),
            "  sent {}\nwanted {}\n   got {}",
            show(send.as_ref()),
            show(want.as_ref()),
            show(&got)
        );
    }

    /// Sends a request followed by `mn`, and returns the reply without the
    /// `MN`.
    pub fn answer(&mut self, send: impl AsRef<[u8]>) -> Vec<u8> {
        let mut bytes = send.as_ref().to_vec();
        bytes.extend_from_slice(b"mn\r\n");
        self.send(bytes);
        self.read_answer()
    }

    /// Returns the bytes before the next `MN`, the reply to a `mn` already
    /// sent. Panics if the server closes the connection before it.
    pub fn read_answer(&mut self) -> Vec<u8> {
        self.answer_or_close()
            .unwrap_or_else(|got| panic!("closed before MN; got {}", show(&got)))
    }

    /// Returns the bytes before the next `MN`. If the server closes the
    /// connection, returns the bytes received before that as an error.
    pub fn answer_or_close(&mut self) -> Result<Vec<u8>, Vec<u8>> {
        loop {
            if let Some(end) = end_of_answer(&self.pending) {
                let mut got: Vec<u8> = self.pending.drain(..end + 4).collect();
                got.truncate(end);
                return Ok(got);
            }
            if self.fill() == 0 {
                return Err(std::mem::take(&mut self.pending));
            }
        }
    }

    /// Reads a line and returns it with its newline.
    pub fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return String::from_utf8_lossy(&line).into_owned();
            }
            if self.fill() == 0 {
                panic!("closed inside a line; got {}", show(&self.pending));
            }
        }
    }

    /// Reads a line as [`Client::line`] does. Returns `None` if the server closes the
    /// connection before its end.
    pub fn try_line(&mut self) -> Option<String> {
        while !self.pending.contains(&b'\n') {
            if self.fill() == 0 {
                return None;
            }
        }
        Some(self.line())
    }

    /// Reads until the server closes the connection and returns the bytes
    /// received.
    pub fn read_to_close(&mut self) -> Vec<u8> {
        while self.fill() != 0 {}
        std::mem::take(&mut self.pending)
    }

    /// Expects exactly `want` and then the end of the connection.
    pub fn expect_closed(&mut self, want: impl AsRef<[u8]>) {
        let got = self.read_to_close();
        assert!(
            got == want.as_ref(),
            "before the close wanted {}, got {}",
            show(want.as_ref()),
            show(&got)
        );
    }

    /// Returns the value of a `STAT` line of the general statistics.
    pub fn stat(&mut self, name: &str) -> String {
        let answer = self.answer("stats\r\n");
        let text = String::from_utf8_lossy(&answer).into_owned();
        text.lines()
            .filter_map(|line| line.strip_prefix("STAT "))
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .unwrap_or_else(|| panic!("no {name} among the statistics:\n{text}"))
            .to_owned()
    }

    /// Returns whether bytes that no call has consumed, or the end of the
    /// connection, have arrived over TCP.
    pub fn has_input(&self) -> bool {
        let Stream::Tcp(stream) = &self.stream else {
            panic!("only TCP can be peeked at");
        };
        stream.set_nonblocking(true).expect("a socket");
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).expect("a socket");
        !self.pending.is_empty() || peeked.is_ok()
    }

    /// Receives once into `pending`. Returns the number of bytes received, 0 if
    /// the connection is closed or reset.
    fn fill(&mut self) -> usize {
        let mut chunk = [0; 16 * 1024];
        // A read with a timeout is interrupted when the process is stopped and goes
        // on.
        let result = loop {
            let result = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(&mut chunk),
                Stream::Unix(stream) => stream.read(&mut chunk),
                Stream::Tls(stream) => stream.read(&mut chunk),
            };
            if !matches!(&result, Err(error) if error.kind() == ErrorKind::Interrupted) {
                break result;
            }
        };
        match result {
            Ok(count) => {
                self.pending.extend_from_slice(&chunk[..count]);
                count
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("read: {error}; so far {}", show(&self.pending)),
        }
    }
}

fn connect_tcp(address: &SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Returns the offset of the `MN` line that ends a reply, if it has arrived.
fn end_of_answer(bytes: &[u8]) -> Option<usize> {
    let end = bytes.len().checked_sub(4)?;
    let at_line_start = end == 0 || bytes[end - 1] == b'\n';
    (&bytes[end..] == b"MN\r\n" && at_line_start).then_some(end)
}

/// Formats bytes as a quoted string, with the middle of long ones left out.
pub fn show(bytes: &[u8]) -> String {
    const ENDS: usize = 400;
    if bytes.len() <= 2 * ENDS {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let (head, tail) = (&bytes[..ENDS], &bytes[bytes.len() - ENDS..]);
    format!(
        "\"{}\" … \"{}\" ({} bytes)",
        head.escape_ascii(),
        tail.escape_ascii(),
        bytes.len()
    )
}
