//! A TLS connection as a non-blocking byte stream. The handshake happens within
//! the first reads. Input is decrypted directly into the caller's buffer.
//!
//! The stream buffers at most one decrypted record, encrypted input for which
//! the caller's buffer had no room, and encrypted output: the configured amount,
//! or up to [`BURST_FACTOR`] times as much for a client that has kept up.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::ServerConnection;

use crate::sync::Ordering;
use crate::tls::Tls;

/// Most encrypted bytes received by one read.
const INPUT_BYTES: usize = 64 * 1024;
/// Largest payload of a record.
const RECORD_DATA_BYTES: usize = 16 * 1024;
/// Longest TLS record: header, payload of 16 KiB, and expansion.
const RECORD_MAX_BYTES: usize = RECORD_DATA_BYTES + 5 + 256;
/// A record's header, nonce, tag and the buffer that holds it, roughly.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// Fewest encrypted bytes received by one read. A small rest of the caller's
/// buffer would cost many reads, since records are larger.
const INPUT_MIN_BYTES: usize = 4096;

/// How much more than the configured amount is encrypted at once, as long as the
/// socket takes all of it. Each send costs a system call and wakes the client.
const BURST_FACTOR: usize = 4;
/// Most bytes encrypted at once, unless more are configured.
const BURST_BYTES: usize = 64 * 1024;

thread_local! {
    /// Buffer for encrypted input on its way into a session.
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A TLS connection.
pub(in crate::server) struct TlsStream {
    /// The TCP socket below it.
    pub(in crate::server) socket: TcpStream,
    session: ServerConnection,
    tls: Arc<Tls>,
    /// Encrypted input that was received but not decrypted.
    carry: Vec<u8>,
    /// Bytes of records that wait for the socket, roughly.
    sealed: usize,
    /// Most bytes that the next write encrypts.
    burst: usize,
    /// More input may be there although no event will come.
    more: bool,
    /// The last received bytes did not complete a record.
    partial: bool,
    /// The peer sends no more.
    ended: bool,
    /// Some input was received.
    begun: bool,
    /// Second of arrival on the server's clock, while the handshake lasts.
    since: Option<u32>,
    /// Error that ended the session.
    failure: Option<String>,
}

impl TlsStream {
    /// Creates the stream of a connection that arrived in `second` of the
    /// server's clock.
    pub(in crate::server) fn new(
        socket: TcpStream,
        session: ServerConnection,
        tls: Arc<Tls>,
        second: u32,
    ) -> Self {
        let burst = tls.write_buffer();
        Self {
            socket,
            session,
            tls,
            carry: Vec::new(),
            sealed: 0,
            burst,
            more: false,
            partial: false,
            ended: false,
            begun: false,
            since: Some(second),
            failure: None,
        }
    }

    /// Reads decrypted bytes into `buffer`, as many as are there. Returns 0 at
    /// the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if none are there, `InvalidData` if the session failed, or
    /// an error of the socket.
    pub(in crate::server) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = INPUT.with_borrow_mut(|input| {
            input.resize(INPUT_BYTES, 0);
            self.read_through(input, buffer)
        });
        self.more = match &result {
            Ok(len) => *len == buffer.len() || self.ended || self.failure.is_some(),
            Err(_) => false,
        };
        result
    }

    /// Encrypts as much as the session buffers, and sends as much as the socket
    /// takes. Returns the bytes taken, which are more for a client that reads
    /// quickly.
    ///
    /// # Errors
    /// `WouldBlock` while earlier output waits for the socket, or an error of
    /// the socket.
    pub(in crate::server) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Writes several slices. See [`TlsStream::write`] for the errors.
    pub(in crate::server) fn write_vectored(
        &mut self,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.flush()?;
        let len = self.session.writer().write_vectored(slices)?;
        self.sealed += len + len.div_ceil(RECORD_DATA_BYTES) * RECORD_OVERHEAD_BYTES;
        self.flush_some()?;
        if len >= self.burst || self.has_unsent() {
            self.adapt_burst();
        }
        Ok(len)
    }

    /// Returns the most bytes that the next write takes.
    pub(in crate::server) fn burst(&self) -> usize {
        self.burst
    }

    /// Lets the next write encrypt more if the socket has taken a full one, and
    /// little if the socket is full: what waits for a slow client takes memory.
    fn adapt_burst(&mut self) {
        let configured = self.tls.write_buffer();
        let most = (BURST_FACTOR * configured).min(configured.max(BURST_BYTES));
        let burst = match self.has_unsent() {
            true => configured,
            false => (2 * self.burst).min(most),
        };
        if burst != self.burst {
            self.burst = burst;
            self.session.set_buffer_limit(Some(burst));
        }
    }

    /// Sends buffered encrypted output.
    ///
    /// # Errors
    /// `WouldBlock` if the socket does not take all of it, or another error of
    /// the socket.
    pub(in crate::server) fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => self.sealed = self.sealed.saturating_sub(len),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.sealed = 0;
        Ok(())
    }

    /// Returns whether encrypted output waits for the socket.
    pub(in crate::server) fn has_unsent(&self) -> bool {
        self.session.wants_write()
    }

    /// Returns whether the last read may have left input for which no event
    /// will come.
    pub(in crate::server) fn holds_more(&self) -> bool {
        self.more
    }

    /// Returns the approximate bytes buffered for records: unsent output, and
    /// incomplete input. Counts a whole record for an incomplete one, since the
    /// session does not report its length.
    pub(in crate::server) fn session_bytes(&self) -> usize {
        let record = if self.partial { RECORD_MAX_BYTES } else { 0 };
        record + self.carry.capacity() + self.sealed
    }

    /// Returns the second of arrival while the handshake lasts.
    pub(in crate::server) fn handshaking_since(&self) -> Option<u32> {
        self.since
    }

    /// Sends `close_notify` as far as the socket takes it, and counts a failed
    /// handshake or session. Returns the reason of a failure.
    pub(in crate::server) fn close(&mut self) -> Option<String> {
        if self.failure.is_none() {
            self.session.send_close_notify();
        }
        // The peer may have disconnected already.
        let _ = self.flush();
        let counters = &self.tls.counters;
        match (self.since, self.failure.take()) {
            // A port scan or health check, which connects without sending
            // anything, is no failed handshake.
            (Some(_), None) if !self.begun && self.ended => None,
            (Some(_), failure) => {
                counters.handshake_errors.fetch_add(1, Ordering::Relaxed);
                let reason = failure.unwrap_or_else(|| "not finished".to_owned());
                Some(format!("TLS handshake failed: {reason}"))
            }
            (None, Some(failure)) => {
                counters.protocol_errors.fetch_add(1, Ordering::Relaxed);
                Some(format!("TLS connection failed: {failure}"))
            }
            (None, None) => None,
        }
    }

    /// Receives and decrypts until `buffer` is full or the socket is empty.
    fn read_through(&mut self, input: &mut [u8], buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = self.take_decrypted(buffer);
        let carry = std::mem::take(&mut self.carry);
        self.feed(&carry, buffer, &mut filled);
        let mut drained = false;
        while filled < buffer.len() && !drained && !self.ended && self.failure.is_none() {
            let wanted = (buffer.len() - filled).clamp(INPUT_MIN_BYTES, input.len());
            match self.socket.read(&mut input[..wanted]) {
                Ok(0) => self.ended = true,
                Ok(len) => {
                    self.begun = true;
                    // A short read has emptied the socket.
                    drained = len < wanted;
                    self.feed(&input[..len], buffer, &mut filled);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => drained = true,
                Err(error) if filled == 0 => return Err(error),
                // The next read reports the error.
                Err(_) => break,
            }
        }
        match (filled, &self.failure) {
            (0, Some(failure)) => Err(io::Error::new(ErrorKind::InvalidData, failure.as_str())),
            (0, None) if !self.ended => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(filled),
        }
    }

    /// Decrypts input until `buffer` is full. Keeps the rest in `carry`.
    fn feed(&mut self, mut encrypted: &[u8], buffer: &mut [u8], filled: &mut usize) {
        while !encrypted.is_empty() && *filled < buffer.len() && self.failure.is_none() {
            let (state, before) = (self.session.is_handshaking(), *filled);
            let taken = self.session.read_tls(&mut encrypted);
            if let Err(error) = taken.and_then(|_| self.process()) {
                self.failure = Some(error.to_string());
                // Send the alert that reports the error to the peer.
                let _ = self.flush();
            }
            *filled += self.take_decrypted(&mut buffer[*filled..]);
            self.partial = *filled == before && state == self.session.is_handshaking();
        }
        if !encrypted.is_empty() && self.failure.is_none() {
            self.carry = encrypted.to_vec();
        }
    }

    fn process(&mut self) -> io::Result<()> {
        let state = self.session.process_new_packets();
        let state = state.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        self.ended |= state.peer_has_closed();
        if self.since.is_some() && !self.session.is_handshaking() {
            self.since = None;
            self.tls.count_session(self.session.handshake_kind());
        }
        self.flush_some()
    }

    /// Sends as much buffered output as the socket takes.
    fn flush_some(&mut self) -> io::Result<()> {
        match self.flush() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    fn take_decrypted(&mut self, buffer: &mut [u8]) -> usize {
        if buffer.is_empty() {
            return 0;
        }
        // An error means that nothing is there; `ended` distinguishes the end
        // of the stream.
        self.session.reader().read(buffer).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    use rustls::{ClientConnection, StreamOwned};
    use test_support::tls::{Authority, Files};

    use super::{BURST_FACTOR, TlsStream};
    use crate::config::{ClientCertificates, TlsSettings};
    use crate::tls::Tls;

    type Client = StreamOwned<ClientConnection, TcpStream>;

    const CONFIGURED: usize = 8 * 1024;

    /// Returns both ends of a connection after the handshake.
    fn connected() -> (TlsStream, Client) {
        let files = Files::create();
        let settings = TlsSettings {
            chain: files.path("chain.pem"),
            key: Some(files.path("key.pem")),
            write_buffer: CONFIGURED,
            ..TlsSettings::default()
        };
        let tls = Arc::new(Tls::load(&settings).unwrap());
        let session = tls.session(ClientCertificates::Ignore).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let config = Authority::ours().trusting(None);
        let client = ClientConnection::new(config, "localhost".try_into().unwrap());
        let mut client = StreamOwned::new(client.unwrap(), socket);
        let (served, _) = listener.accept().unwrap();
        served.set_nonblocking(true).unwrap();
        let served = mio::net::TcpStream::from_std(served);
        let mut served = TlsStream::new(served, session, tls, 0);
        let writer = std::thread::spawn(move || {
            client.write_all(b"x").unwrap();
            client
        });
        let mut byte = [0; 10];
        let len = loop {
            match served.read(&mut byte) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                result => break result.unwrap(),
            }
        };
        assert_eq!(&byte[..len], b"x");
        (served, writer.join().unwrap())
    }

    #[test]
    fn a_client_that_keeps_up_is_sent_more_at_once() {
        let (mut served, mut client) = connected();
        let bytes = vec![7; 100 * CONFIGURED];
        let mut received = vec![0; bytes.len()];
        // A short write says nothing about the socket.
        assert_eq!(served.write(&bytes[..10]).unwrap(), 10);
        for factor in [1, 2, BURST_FACTOR, BURST_FACTOR] {
            assert_eq!(served.burst(), factor * CONFIGURED);
            assert_eq!(served.write(&bytes).unwrap(), factor * CONFIGURED);
        }
        let sent = 10 + (3 + 2 * BURST_FACTOR) * CONFIGURED;
        client.read_exact(&mut received[..sent]).unwrap();
        // A full socket makes the writes small again.
        let mut sent = 0;
        while !served.has_unsent() {
            sent += served.write(&bytes).unwrap();
        }
        assert!(served.session_bytes() < (BURST_FACTOR + 1) * CONFIGURED);
        assert_eq!(served.burst(), CONFIGURED);
        let blocked = served.write(&bytes).unwrap_err();
        assert_eq!(blocked.kind(), ErrorKind::WouldBlock);
        let reader = std::thread::spawn(move || {
            let mut received = vec![0; sent];
            client.read_exact(&mut received).unwrap();
            assert!(received.iter().all(|&byte| byte == 7));
        });
        while served.flush().is_err() {
            std::thread::yield_now();
        }
        reader.join().unwrap();
        assert_eq!(served.write(&bytes).unwrap(), CONFIGURED);
        assert_eq!(served.burst(), 2 * CONFIGURED);
    }
}
