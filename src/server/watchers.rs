//! The log thread: it drains the rings of events and writes lines to the
//! watchers, whose connections are its own. It sleeps until there is one. A
//! watcher that is slow to take its lines misses some and is told how many;
//! nobody waits for it, and what waits for it is bounded.

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
use crate::store::Store;
use crate::sync::Ordering;

/// Events drained before lines are sent.
const DRAIN_MAX: usize = 1024;
/// Bounds of the pause between two looks at the rings.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// Bytes of a line that tells how many were missed.
const SKIPPED_LINE_BYTES: usize = 64;

/// Where workers hand over the connections of watchers, whose places have been
/// taken already.
pub(super) type WatcherInbox = Mailbox<(Stream, Filter)>;

/// See the module's documentation.
pub(super) struct LogThread {
    poll: Poll,
    watcher_inbox: Arc<WatcherInbox>,
    store: Arc<Store>,
    shared: Arc<Shared>,
    watchers: Slab<Watcher>,
    /// Receives the events of watchers' connections that are closed.
    ring: Arc<Ring>,
    /// One line.
    line: Vec<u8>,
}

struct Watcher {
    stream: Stream,
    filter: Filter,
    /// Events up to this one happened before it came.
    since_gid: u64,
    /// Events that passed its filter, for taking one in so many.
    passed: u32,
    unsent: Vec<u8>,
    /// Lines it has missed since it was last told.
    skipped: u64,
    /// The socket takes nothing until its next event.
    blocked: bool,
    lost: bool,
}

impl LogThread {
    pub(super) fn new(
        store: Arc<Store>,
        shared: Arc<Shared>,
    ) -> io::Result<(Self, Arc<WatcherInbox>)> {
        let poll = Poll::new()?;
        let watcher_inbox = Arc::new(WatcherInbox::new(&poll)?);
        let thread = Self {
            poll,
            watcher_inbox: Arc::clone(&watcher_inbox),
            ring: store.events().ring(),
            store,
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
        self.store.events()
    }

    fn admit(&mut self) {
        while let Some((mut stream, filter)) = self.watcher_inbox.take() {
            let entry = self.watchers.vacant_entry();
            let (token, interest) = (entry.key(), Interest::READABLE | Interest::WRITABLE);
            let registered = self
                .poll
                .registry()
                .register(&mut stream, Token(token), interest);
            self.store.events().want(filter.kinds, true);
            entry.insert(Watcher {
                stream,
                filter,
                since_gid: self.store.events().last_gid(),
                passed: 0,
                unsent: b"OK\r\n".to_vec(),
                skipped: 0,
                blocked: false,
                lost: registered.is_err(),
            });
        }
    }

    /// Writes lines for what has happened; returns how much that was.
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

    fn close(&mut self, token: usize) {
        let watcher = self.watchers.remove(token);
        let fd = watcher.stream.fd();
        if self.ring.wanted().any_of(Kinds::CONNECTIONS) {
            let known = self.shared.table.get(fd);
            self.ring.put(EventKind::Closed {
                peer: known.and_then(|conn| conn.peer),
                connection: fd,
                // memcached gives this reason for a watcher, whoever closed it.
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
        self.hub().want(watcher.filter.kinds.without(kinds), false);
    }
}

impl Watcher {
    fn wants(&mut self, event: &Event) -> bool {
        let accepted =
            event.gid > self.since_gid && self.filter.accepts(event.what.kind(), event.what.key());
        if !accepted {
            return false;
        }
        self.passed = self.passed % self.filter.sample + 1;
        self.passed == 1
    }

    /// Takes a line; false if there is no room for it.
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

    /// Sends what the socket takes.
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

    /// Reads and forgets what a watcher says. False if it is gone.
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
