//! A connection of the driver: batches in flight, unsent requests, and a partial reply.
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
pub(super) struct Sender {
    /// The encoded requests.
    pub(super) ring: Arc<Ring>,
    /// Number of operations left to send, `None` for no limit.
    pub(super) budget: Option<u64>,
}

impl Sender {
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

#[derive(Debug)]
struct Flight {
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
    flights: VecDeque<Flight>,
    /// Ranges of the ring not yet written to the socket.
    unsent: VecDeque<(usize, usize)>,
    watches_writing: bool,
    /// Bytes of a partial reply.
    kept: Vec<u8>,
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
            flights: VecDeque::new(),
            unsent: VecDeque::new(),
            watches_writing: false,
            kept: Vec::new(),
            open: true,
        })
    }

    /// Returns whether the connection has not been closed.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Returns whether no batch awaits a reply. True for a closed connection.
    pub(super) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Marks the connection as closed and drops its batches in flight.
    pub(super) fn close(&mut self) {
        self.open = false;
        self.flights.clear();
    }

    /// Sends the next batch, or nothing if the budget is exhausted. Latency counts from `since`.
    pub(super) fn send_next(&mut self, sender: &mut Sender, since: Instant) -> io::Result<()> {
        let batch = self.cursor;
        if !sender.take(batch) {
            return Ok(());
        }
        self.cursor = (batch + 1) % sender.ring.batches.len();
        self.flights.push_back(Flight { batch, since });
        let range = &sender.ring.batches[batch];
        self.unsent.push_back((range.start, range.end));
        if self.unsent.len() == 1 {
            self.write(&sender.ring)?;
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
        Ok(())
    }

    /// Registers for writability only while bytes are unsent: a unix socket otherwise reports an
    /// event for each read by the server.
    pub(super) fn watch_writing(&mut self, registry: &Registry) -> io::Result<()> {
        if self.unsent.is_empty() != self.watches_writing {
            return Ok(());
        }
        self.watches_writing = !self.unsent.is_empty();
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
        sender: &mut Sender,
        collector: &mut Collector,
        closed_loop: bool,
    ) -> io::Result<()> {
        loop {
            let kept = self.kept.len();
            buffer[..kept].copy_from_slice(&self.kept);
            let n = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof)),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.kept.clear();
            self.digest(&buffer[..kept + n], sender, collector, closed_loop)?;
            if kept + n < buffer.len() {
                return Ok(());
            }
        }
    }

    fn digest(
        &mut self,
        data: &[u8],
        sender: &mut Sender,
        collector: &mut Collector,
        closed_loop: bool,
    ) -> io::Result<()> {
        let now = Instant::now();
        let mut used = 0;
        while let Some(flight) = self.flights.front() {
            let expected = sender.ring.expected_of(flight.batch);
            let fed = self.reader.feed(&data[used..], expected, collector);
            let fed = fed.map_err(|garbled| io::Error::other(garbled.0))?;
            used += fed.used;
            let waited = now.saturating_duration_since(flight.since).as_nanos() as u64;
            collector
                .latency
                .saturating_record_n(waited.max(1), fed.answered);
            if !fed.finished {
                break;
            }
            self.flights.pop_front();
            if closed_loop {
                self.send_next(sender, now)?;
            }
        }
        let left = &data[used..];
        if self.flights.is_empty() && !left.is_empty() {
            let text = left[..left.len().min(80)].escape_ascii();
            return Err(io::Error::other(format!("unasked for \"{text}\"")));
        }
        self.kept.extend_from_slice(left);
        Ok(())
    }
}
