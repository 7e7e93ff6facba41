//! A TLS connection as a non-blocking byte stream: the handshake happens
//! inside the first reads, decrypted bytes go straight to where the caller
//! wants them. Holds at most one record of them and the configured amount of
//! encrypted output; `Stream` alone calls this.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::ServerConnection;

use crate::sync::Ordering;
use crate::tls::Tls;

/// Encrypted bytes received at once.
const INPUT_BYTES: usize = 64 * 1024;
/// Largest payload of a record.
const RECORD_DATA_BYTES: usize = 16 * 1024;
/// A record's payload, header and tag.
const RECORD_MAX_BYTES: usize = RECORD_DATA_BYTES + 5 + 256;
/// A record's header, nonce, tag and the buffer that holds it, roughly.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// Received even where less is wanted, since the records are larger.
const INPUT_MIN_BYTES: usize = 4096;

thread_local! {
    /// Encrypted bytes on their way into a session.
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// See the module's documentation.
pub(in crate::server) struct TlsStream {
    pub(in crate::server) socket: TcpStream,
    session: ServerConnection,
    tls: Arc<Tls>,
    /// Encrypted bytes that the session had no room for.
    carry: Vec<u8>,
    /// Bytes of records that wait for the socket, roughly.
    sealed: usize,
    /// There may be more to read without an event.
    more: bool,
    /// What was received last has not made a whole record.
    partial: bool,
    /// The peer sends no more.
    ended: bool,
    /// Something has been received.
    begun: bool,
    /// Second of arrival, while the handshake lasts.
    since: Option<u32>,
    failure: Option<String>,
}

impl TlsStream {
    /// A connection that arrived in this second of the cache's clock.
    pub(in crate::server) fn new(
        socket: TcpStream,
        session: ServerConnection,
        tls: Arc<Tls>,
        second: u32,
    ) -> Self {
        Self {
            socket,
            session,
            tls,
            carry: Vec::new(),
            sealed: 0,
            more: false,
            partial: false,
            ended: false,
            begun: false,
            since: Some(second),
            failure: None,
        }
    }

    /// Reads as much as fits and is there.
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

    /// Takes over as much as may wait for the socket, and sends what it can.
    pub(in crate::server) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// As [`TlsStream::write`].
    pub(in crate::server) fn write_vectored(
        &mut self,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.flush()?;
        let len = self.session.writer().write_vectored(slices)?;
        self.sealed += len + len.div_ceil(RECORD_DATA_BYTES) * RECORD_OVERHEAD_BYTES;
        self.flush_some()?;
        Ok(len)
    }

    /// Sends what was taken over; `WouldBlock` if some of it must wait.
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

    /// Whether encrypted output waits for the socket.
    pub(in crate::server) fn has_unsent(&self) -> bool {
        self.session.wants_write()
    }

    /// Whether the last read may have left something behind for which no
    /// event will come.
    pub(in crate::server) fn holds_more(&self) -> bool {
        self.more
    }

    /// Bytes that it keeps of records: output that the socket has not taken, and
    /// records that the peer has not sent whole. The session does not tell the
    /// size of those, so the largest is assumed.
    pub(in crate::server) fn session_bytes(&self) -> usize {
        let record = if self.partial { RECORD_MAX_BYTES } else { 0 };
        record + self.carry.capacity() + self.sealed
    }

    /// Second of arrival, while the handshake lasts.
    pub(in crate::server) fn handshaking_since(&self) -> Option<u32> {
        self.since
    }

    /// Says goodbye, as far as the socket lets us, and counts a bad end.
    /// Returns what was wrong.
    pub(in crate::server) fn close(&mut self) -> Option<String> {
        if self.failure.is_none() {
            self.session.send_close_notify();
        }
        // The peer may have been gone first.
        let _ = self.flush();
        let counters = &self.tls.counters;
        match (self.since, self.failure.take()) {
            // Somebody who looks whether the port is open is no failure.
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
                    // A short receive has emptied the socket.
                    drained = len < wanted;
                    self.feed(&input[..len], buffer, &mut filled);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => drained = true,
                Err(error) if filled == 0 => return Err(error),
                // Reported by the next read.
                Err(_) => break,
            }
        }
        match (filled, &self.failure) {
            (0, Some(failure)) => Err(io::Error::new(ErrorKind::InvalidData, failure.as_str())),
            (0, None) if !self.ended => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(filled),
        }
    }

    /// Decrypts, until the buffer is full; keeps what is left over then.
    fn feed(&mut self, mut encrypted: &[u8], buffer: &mut [u8], filled: &mut usize) {
        while !encrypted.is_empty() && *filled < buffer.len() && self.failure.is_none() {
            let (state, before) = (self.session.is_handshaking(), *filled);
            let taken = self.session.read_tls(&mut encrypted);
            if let Err(error) = taken.and_then(|_| self.process()) {
                self.failure = Some(error.to_string());
                // The alert that tells the peer.
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

    /// Sends what the socket takes.
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
        // Nothing there, or nothing to come: `ended` knows the difference.
        self.session.reader().read(buffer).unwrap_or(0)
    }
}
