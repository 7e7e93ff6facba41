//! The log thread: drains the event rings and writes lines to the watchers,
//! whose sockets it owns. Without watchers it sleeps.
//!
//! A watcher that reads too slowly misses lines and is sent their number. No
//! other thread waits for it, and its backlog is bounded.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::events::{Event, EventKind, Filter, Hub, Kinds, Ring, write_line};
use crate::limits::{WATCHER_BUFFER_BYTES, WATCHERS_MAX};
use crate::server::mailbox::Mailbox;
use crate::server::transport::stream::Stream;
use crate::shared::Shared;
use crate::sync::Ordering;

/// Most events drained before lines are sent.
const DRAIN_MAX: usize = 1024;
/// Shortest and longest pause between two drains of the rings.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// Longest line that reports the number of skipped lines, in bytes.
const SKIPPED_LINE_BYTES: usize = 64;

/// Mailbox of the log thread for watchers' connections. A watcher place has
/// been taken for each.
pub(super) type WatcherInbox = Mailbox<(Stream, Filter)>;

/// State of the log thread.
pub(super) struct WatcherThread {
    poll: Poll,
    watcher_inbox: Arc<WatcherInbox>,
    shared: Arc<Shared>,
    watchers: Slab<Watcher>,
    /// Ring for events of this thread, which closes watchers' connections.
    ring: Arc<Ring>,
    /// Buffer of the current line.
    line: Vec<u8>,
}

/// One watcher.
struct Watcher {
    stream: Stream,
    filter: Filter,
    /// Number of the last event before the watcher came. Later ones are sent.
    since_gid: u64,
    /// Counts the events that passed the filter, from 1 to `sample`. The first
    /// is sent.
    passed: u32,
    /// Lines that the socket has not taken.
    unsent: Vec<u8>,
    /// Lines skipped since the last report of their number.
    skipped: u64,
    /// The socket is full: send again after its next event.
    blocked: bool,
    /// Set when the connection is to be closed.
    lost: bool,
}

impl WatcherThread {
    /// Creates the log thread and its mailbox.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<(Self, Arc<WatcherInbox>)> {
        let poll = Poll::new()?;
        let watcher_inbox = Arc::new(WatcherInbox::new(&poll)?);
        let thread = Self {
            poll,
            watcher_inbox: Arc::clone(&watcher_inbox),
            ring: shared.events.ring(),
            shared,
            watchers: Slab::new(),
            line: Vec::new(),
        };
        Ok((thread, watcher_inbox))
    }

    /// Serves watchers until stopped.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(2 * WATCHERS_MAX);
        let mut pause = PAUSE_MIN;
        while !self.watcher_inbox.is_stopping() {
            let timeout = (!self.watchers.is_empty()).then_some(pause);
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                debug_assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
                events.clear();
            }
            self.admit();
            for event in &events {
                if let Some(watcher) = self.watchers.get_mut(event.token().0) {
                    watcher.blocked &= !event.is_writable();
                    watcher.lost |= event.is_read_closed() || event.is_error();
                    watcher.lost |= event.is_readable() && !watcher.listen();
                }
            }
            let told = self.tell();
            self.send();
            pause = match told {
                _ if self.watchers.is_empty() => PAUSE_MIN,
                0 => (pause * 9 / 8).min(PAUSE_MAX),
                DRAIN_MAX.. => Duration::ZERO,
                _ => PAUSE_MIN,
            };
        }
        for token in self.tokens() {
            self.close(token);
        }
    }

    fn hub(&self) -> &Hub {
        &self.shared.events
    }

    /// Takes over the watchers that workers handed over.
    fn admit(&mut self) {
        while let Some((mut stream, filter)) = self.watcher_inbox.take() {
            let entry = self.watchers.vacant_entry();
            let (token, interest) = (entry.key(), Interest::READABLE | Interest::WRITABLE);
            let registered = self
                .poll
                .registry()
                .register(&mut stream, Token(token), interest);
            self.shared.events.set_wanted(filter.kinds, true);
            entry.insert(Watcher {
                stream,
                filter,
                since_gid: self.shared.events.last_gid(),
                passed: 0,
                unsent: b"OK\r\n".to_vec(),
                skipped: 0,
                blocked: false,
                lost: registered.is_err(),
            });
        }
    }

    /// Drains events and queues their lines for the watchers. Returns the
    /// number of events.
    fn tell(&mut self) -> usize {
        let events = self.hub().drain(DRAIN_MAX);
        let (mut sent, mut skipped) = (0, 0);
        for event in &events {
            self.line.clear();
            for (_, watcher) in &mut self.watchers {
                if !watcher.wants(event) {
                    continue;
                }
                if self.line.is_empty() {
                    write_line(&mut self.line, event);
                }
                if watcher.tell(&self.line) {
                    sent += 1;
                } else {
                    skipped += 1;
                }
            }
        }
        if !events.is_empty() {
            self.hub().count_lines(sent, skipped);
        }
        events.len()
    }

    fn send(&mut self) {
        for token in self.tokens() {
            let watcher = &mut self.watchers[token];
            watcher.send();
            if watcher.lost {
                self.close(token);
            }
        }
    }

    fn tokens(&self) -> Vec<usize> {
        self.watchers.iter().map(|(token, _)| token).collect()
    }

    /// Closes a watcher's connection. Events that no other watcher wants are no
    /// longer recorded.
    fn close(&mut self, token: usize) {
        let watcher = self.watchers.remove(token);
        let fd = watcher.stream.fd();
        if self.ring.wanted().any_of(Kinds::CONNECTIONS) {
            let known = self.shared.table.get(fd);
            self.ring.put(EventKind::Closed {
                peer: known.and_then(|conn| conn.peer),
                connection: fd,
                // memcached reports this reason for watchers, whichever side
                // closed.
                reason: "error",
            });
        }
        self.shared.table.close(fd);
        let open = &self.shared.connections.open;
        open.fetch_sub(1, Ordering::Relaxed);
        self.hub().dismiss_watcher();
        let none = Kinds::NONE;
        let kinds = self
            .watchers
            .iter()
            .fold(none, |kinds, (_, other)| kinds.with(other.filter.kinds));
        self.hub()
            .set_wanted(watcher.filter.kinds.without(kinds), false);
    }
}

impl Watcher {
    /// Returns whether the watcher's filter and sampling select an event.
    fn wants(&mut self, event: &Event) -> bool {
        let accepted = event.gid > self.since_gid
            && self.filter.accepts(event.kind.as_set(), event.kind.key());
        if !accepted {
            return false;
        }
        self.passed = self.passed % self.filter.sample + 1;
        self.passed == 1
    }

    /// Queues a line. Returns false if its backlog has no room; the line is
    /// skipped then.
    fn tell(&mut self, line: &[u8]) -> bool {
        let room = WATCHER_BUFFER_BYTES.saturating_sub(self.unsent.len());
        if line.len() + SKIPPED_LINE_BYTES > room {
            self.send();
        }
        let room = WATCHER_BUFFER_BYTES.saturating_sub(self.unsent.len());
        if line.len() + SKIPPED_LINE_BYTES > room {
            self.skipped += 1;
            return false;
        }
        if self.skipped > 0 {
            let missed = format!("skipped={}\n", self.skipped);
            self.unsent.extend_from_slice(missed.as_bytes());
            self.skipped = 0;
        }
        self.unsent.extend_from_slice(line);
        true
    }

    /// Sends as much of the backlog as the socket takes.
    fn send(&mut self) {
        let mut sent = 0;
        while !self.lost && !self.blocked && sent < self.unsent.len() {
            let written = self.stream.write(&self.unsent[sent..]);
            match self.note_sent(written) {
                Some(0) => self.lost = true,
                Some(len) => sent += len,
                None => {}
            }
        }
        self.unsent.drain(..sent);
        // A TLS session may hold what was written last.
        if !self.lost && !self.blocked && self.stream.has_unsent() {
            let flushed = self.stream.flush();
            self.note_sent(flushed);
        }
    }

    fn note_sent<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(done) => return Some(done),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
            Err(_) => self.lost = true,
        }
        None
    }

    /// Reads and discards input. Returns false if the connection is closed.
    fn listen(&mut self) -> bool {
        let mut heard = [0; 1024];
        loop {
            match self.stream.read(&mut heard) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }
}
