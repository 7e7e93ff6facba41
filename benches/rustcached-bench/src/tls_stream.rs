//! A client's TLS connection as a non-blocking stream. The handshake is done when it is created.
//!
//! A read that does not fill the caller's buffer has emptied the socket, as with the other streams.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use rustls::ClientConnection;

use super::tls::{TlsClient, negotiated};

/// Longest wait for a message of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Most encrypted bytes received by one system call.
const INPUT_BYTES: usize = 256 * 1024;
/// Most encrypted output that a stream buffers, roughly.
const OUTPUT_BYTES: usize = 256 * 1024;

thread_local! {
    /// Buffer for encrypted input on its way into a session.
    static INPUT: RefCell<Vec<u8>> = RefCell::new(vec![0; INPUT_BYTES]);
}

/// A TLS connection to a server.
#[derive(Debug)]
pub struct TlsStream {
    /// The TCP stream below it.
    pub(super) socket: TcpStream,
    session: ClientConnection,
    /// Encrypted input for which the session had no room.
    carry: Vec<u8>,
    ended: bool,
}

impl TlsStream {
    /// Connects and completes the handshake, blocking. The stream is non-blocking afterwards.
    pub(super) fn connect(address: SocketAddr, client: &TlsClient) -> io::Result<Self> {
        let mut socket = std::net::TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let session = handshake(&mut socket, client)?;
        socket.set_nonblocking(true)?;
        Ok(TlsStream {
            socket: TcpStream::from_std(socket),
            session,
            carry: Vec::new(),
            ended: false,
        })
    }

    /// Returns the negotiated version and cipher suite.
    pub fn negotiated(&self) -> String {
        negotiated(&self.session)
    }

    /// Returns whether encrypted output waits for the socket.
    pub(super) fn has_unsent(&self) -> bool {
        self.session.wants_write()
    }

    /// Receives and decrypts until `buffer` is full or the socket is empty. Returns the bytes
    /// decrypted.
    fn fill(&mut self, input: &mut [u8], buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = self.take(buffer);
        let carry = std::mem::take(&mut self.carry);
        self.feed(&carry, buffer, &mut filled)?;
        while filled < buffer.len() && !self.ended {
            let len = match self.socket.read(input) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            };
            self.feed(&input[..len], buffer, &mut filled)?;
            if len < input.len() && filled > 0 {
                break;
            }
        }
        Ok(filled)
    }

    /// Decrypts input until `buffer` is full. Keeps the rest in `carry`.
    fn feed(&mut self, mut data: &[u8], buffer: &mut [u8], filled: &mut usize) -> io::Result<()> {
        while !data.is_empty() && *filled < buffer.len() {
            self.session.read_tls(&mut data)?;
            let state = self.session.process_new_packets();
            let state = state.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            self.ended |= state.peer_has_closed();
            *filled += self.take(&mut buffer[*filled..]);
        }
        self.carry.extend_from_slice(data);
        Ok(())
    }

    fn take(&mut self, buffer: &mut [u8]) -> usize {
        if buffer.is_empty() {
            return 0;
        }
        // An error means that nothing is there.
        self.session.reader().read(buffer).unwrap_or(0)
    }
}

/// Completes a handshake over a blocking socket.
pub(super) fn handshake(
    socket: &mut std::net::TcpStream,
    client: &TlsClient,
) -> io::Result<ClientConnection> {
    let failed = |error: &dyn std::fmt::Display| format!("TLS handshake: {error}");
    let mut session = client
        .session()
        .map_err(|error| io::Error::other(failed(&error)))?;
    session.set_buffer_limit(Some(OUTPUT_BYTES));
    socket.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    while session.is_handshaking() {
        let done = session.complete_io(socket);
        done.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => io::Error::other(failed(&"the server does not answer")),
            kind => io::Error::new(kind, failed(&error)),
        })?;
    }
    Ok(session)
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_unsent() {
            match self.flush() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        INPUT.with_borrow_mut(|input| self.fill(input, buffer))
    }
}

impl Write for TlsStream {
    /// Encrypts `bytes`, as much as the session buffers, and sends as much as the socket takes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let len = self.session.writer().write(bytes)?;
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(len),
        }
    }

    /// Sends encrypted output. Fails with `WouldBlock` if the socket does not take all of it.
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => drop(result?),
            }
        }
        Ok(())
    }
}
