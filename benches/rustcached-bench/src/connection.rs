//! A connection of a worker: batches in flight, unsent requests, and a partial reply.
//!
//! Reads into its worker's buffer, and owns memory only for a partial reply. The worker decides
//! when to send, and closes the connection after an error.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use mio::{Interest, Registry, Token};

use super::address::{Address, Stream};
use super::collector::Collector;
use super::replies::ReplyReader;
use super::ring::Ring;

/// The requests that a worker's connections send, with the number of operations left to send.
#[derive(Debug)]
pub(super) struct RequestSource {
    /// The encoded requests.
    pub(super) ring: Arc<Ring>,
    /// Number of operations left to send, `None` for no limit.
    pub(super) budget: Option<u64>,
}

impl RequestSource {
    /// Subtracts a batch from the budget. Returns false if the budget is exhausted.
    fn take(&mut self, batch: usize) -> bool {
        match &mut self.budget {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left = left.saturating_sub(self.ring.batches[batch].operations);
                true
            }
        }
    }
}

/// A batch that has been sent and not yet been answered.
#[derive(Debug)]
struct InFlight {
    batch: usize,
    since: Instant,
}

/// A connection and its batches in flight.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    token: Token,
    reader: ReplyReader,
    cursor: usize,
    in_flight: VecDeque<InFlight>,
    /// Ranges of the ring not yet written to the socket.
    unsent: VecDeque<(usize, usize)>,
    watches_writing: bool,
    /// Bytes of a partial reply.
    partial_reply: Vec<u8>,
    open: bool,
}

impl Connection {
    /// Connects and registers for readability under token `number`. `cursor` is the index of the
    /// first batch to send.
    pub(super) fn open(
        address: &Address,
        verify: bool,
        cursor: usize,
        registry: &Registry,
        number: usize,
    ) -> io::Result<Self> {
        let mut stream = Stream::connect(address)?;
        let token = Token(number);
        registry.register(&mut stream, token, Interest::READABLE)?;
        Ok(Connection {
            stream,
            token,
            reader: ReplyReader::new(verify),
            cursor,
            in_flight: VecDeque::new(),
            unsent: VecDeque::new(),
            watches_writing: false,
            partial_reply: Vec::new(),
            open: true,
        })
    }

    /// Returns whether the connection has not been closed.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Returns whether no batch awaits a reply. True for a closed connection.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Marks the connection as closed and drops its batches in flight.
    pub(super) fn close(&mut self) {
        self.open = false;
        self.in_flight.clear();
    }

    /// Sends the next batch, or nothing if the budget is exhausted. Latency counts from `since`.
    pub(super) fn send_next(
        &mut self,
        source: &mut RequestSource,
        since: Instant,
    ) -> io::Result<()> {
        let batch = self.cursor;
        if !source.take(batch) {
            return Ok(());
        }
        self.cursor = (batch + 1) % source.ring.batches.len();
        self.in_flight.push_back(InFlight { batch, since });
        let range = &source.ring.batches[batch];
        self.unsent.push_back((range.start, range.end));
        if self.unsent.len() == 1 {
            self.write(&source.ring)?;
        }
        Ok(())
    }

    /// Writes unsent requests until the socket is full.
    pub(super) fn write(&mut self, ring: &Ring) -> io::Result<()> {
        while let Some((start, end)) = self.unsent.front_mut() {
            match self.stream.write(&ring.bytes[*start..*end]) {
                Ok(written) if *start + written == *end => {
                    self.unsent.pop_front();
                }
                Ok(written) => *start += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match self.stream.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Registers for writability only while bytes are unsent: a unix socket otherwise reports an
    /// event for each read by the server.
    pub(super) fn watch_writing(&mut self, registry: &Registry) -> io::Result<()> {
        let unsent = !self.unsent.is_empty() || self.stream.has_unsent();
        if unsent == self.watches_writing {
            return Ok(());
        }
        self.watches_writing = unsent;
        let mut interest = Interest::READABLE;
        if self.watches_writing {
            interest |= Interest::WRITABLE;
        }
        registry.reregister(&mut self.stream, self.token, interest)
    }

    /// Reads until the socket is empty. A short read means that it is empty.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        source: &mut RequestSource,
        collector: &mut Collector,
        closed_loop: bool,
    ) -> io::Result<()> {
        loop {
            let partial_reply = self.partial_reply.len();
            buffer[..partial_reply].copy_from_slice(&self.partial_reply);
            let n = match self.stream.read(&mut buffer[partial_reply..]) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof)),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.partial_reply.clear();
            self.parse_replies(&buffer[..partial_reply + n], source, collector, closed_loop)?;
            if partial_reply + n < buffer.len() {
                return Ok(());
            }
        }
    }

    fn parse_replies(
        &mut self,
        data: &[u8],
        source: &mut RequestSource,
        collector: &mut Collector,
        closed_loop: bool,
    ) -> io::Result<()> {
        let now = Instant::now();
        let mut used = 0;
        while let Some(batch) = self.in_flight.front() {
            let expected = source.ring.expected_of(batch.batch);
            let parsed = self.reader.feed(&data[used..], expected, collector);
            let parsed = parsed.map_err(|invalid_reply| io::Error::other(invalid_reply.0))?;
            used += parsed.used;
            let waited = now.saturating_duration_since(batch.since).as_nanos() as u64;
            collector
                .latency
                .saturating_record_n(waited.max(1), parsed.answered);
            if !parsed.finished {
                break;
            }
            self.in_flight.pop_front();
            if closed_loop {
                self.send_next(source, now)?;
            }
        }
        let left = &data[used..];
        if self.in_flight.is_empty() && !left.is_empty() {
            let text = left[..left.len().min(80)].escape_ascii();
            return Err(io::Error::other(format!("unasked for \"{text}\"")));
        }
        self.partial_reply.extend_from_slice(left);
        Ok(())
    }
}
