//! The event loop of a worker: one thread, one poll, its share of the
//! connections.
//!
//! Sockets that are ready together are read together. Their first commands are
//! parsed and prefetched as one batch, so that cache misses overlap.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use mio::event::{Event, Source};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::limits::{BATCH_MAX, BATCH_SOCKETS_MAX, READ_BUFFER_BYTES};
use crate::server::connection::batch::{Step, Steps, Stop, parse_batch};
use crate::server::connection::budget::Budget;
use crate::server::connection::context::Context;
use crate::server::connection::log;
use crate::server::connection::outcome::Served;
use crate::server::connection::state::{Connection, State};
use crate::server::connection::timing::Share;
use crate::server::mailbox::Mailbox;
use crate::server::transport::udp::Bound;
use crate::server::worker::client_memory::ClientMemory;
use crate::server::worker::handle::{Arrival, Handle};
use crate::server::worker::queues::Queues;
use crate::stats::Counters;
use crate::sync::{AtomicUsize, Ordering};

/// Most connections admitted per turn of the loop. Connections that are ready
/// are served before the next ones are admitted.
const ADMITS_MAX: usize = 32;
/// Most events fetched by one poll.
const EVENTS_MAX: usize = 256;
/// Token of the first UDP socket. Further UDP sockets count down from it.
const UDP: usize = usize::MAX - 1;
/// Interval of the checks for idle connections and other timeouts.
const IDLE_CHECK: Duration = Duration::from_secs(1);
/// Longest time that a stopping worker waits for clients to read their replies.
const LAST_FLUSH: Duration = Duration::from_millis(500);

/// Worker thread: its poll, its connections and the state to serve them.
pub(in crate::server) struct Worker {
    /// Poll of all sockets of this worker.
    pub(super) poll: Poll,
    /// Handle through which other threads reach this worker.
    pub(super) handle: Arc<Handle>,
    /// Events fetched while a connection was being served, not yet noted.
    pub(super) arrived: Events,
    /// Connections by token.
    pub(super) connections: Slab<Connection>,
    /// Tokens of the connections to serve.
    pub(super) queues: Queues,
    /// UDP sockets, one for each configured address.
    pub(super) datagrams: Vec<Bound>,
    /// Second of arrival and token of connections with a PROXY header or a TLS
    /// handshake, oldest first. Entries stay when the handshake or the connection ends
    /// early.
    pub(super) handshakes: VecDeque<(u32, usize)>,
    /// Read buffers, one for each socket of a batch.
    pub(super) buffers: Vec<u8>,
    /// Second of the last check for idle connections.
    pub(super) idle_checked: u32,
    /// Set when a client does not read the dump that it requested.
    pub(super) stalled: bool,
    /// Second of the last check for such clients.
    pub(super) stalled_checked: u32,
    /// Memory held for clients.
    pub(super) memory: ClientMemory,
    /// Set when connections are left in the mailbox after [`ADMITS_MAX`].
    pub(super) more_arrivals: bool,
    /// When draining ends; `None` before a stop is requested.
    pub(super) drain_until: Option<Instant>,
    /// When draining last looked for connections at rest.
    pub(super) drain_checked: Option<Instant>,
    /// State for serving any connection of this worker.
    pub(super) context: Context,
}

/// One connection's share of a batch.
struct Job<'a> {
    /// Bytes to serve, in the connection's read buffer.
    token: usize,
    input: &'a [u8],
    /// The parsed steps, as a range of the batch.
    steps: std::ops::Range<usize>,
    /// Bytes of `input` that these steps use.
    used: usize,
    /// Why parsing ended; `None` if the connection's state needs no parsing.
    stop: Option<Stop<'a>>,
}

impl Worker {
    /// Creates a worker with its UDP sockets, and the handle to it.
    ///
    /// # Errors
    /// The system has no more descriptors, or a socket cannot be registered.
    pub(in crate::server) fn new(
        context: Context,
        mut datagrams: Vec<Bound>,
    ) -> io::Result<(Self, Arc<Handle>)> {
        let poll = Poll::new()?;
        for (index, socket) in datagrams.iter_mut().enumerate() {
            socket.register(poll.registry(), Token(UDP - index))?;
        }
        let handle = Arc::new(Handle {
            arrivals: Mailbox::new(&poll)?,
            load: AtomicUsize::new(0),
        });
        let waker = Arc::clone(&handle);
        context
            .stalled
            .set_waker(context.worker, move || waker.wake());
        let worker = Self {
            poll,
            handle: Arc::clone(&handle),
            arrived: Events::with_capacity(EVENTS_MAX),
            connections: Slab::new(),
            queues: Queues::default(),
            datagrams,
            handshakes: VecDeque::new(),
            // The system zeroes each page when it is first used.
            buffers: vec![0; BATCH_SOCKETS_MAX * READ_BUFFER_BYTES],
            idle_checked: 0,
            stalled: false,
            stalled_checked: 0,
            memory: ClientMemory::default(),
            more_arrivals: false,
            drain_until: None,
            drain_checked: None,
            context,
        };
        Ok((worker, handle))
    }

    /// Runs the event loop until stopped and drained, then sends outstanding replies and
    /// closes all connections.
    pub(in crate::server) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let Context { shared, worker, .. } = &self.context;
        shared
            .workers
            .register(*worker, &self.context.local.counters);
        while !self.is_drained() {
            let idle_check = self.context.shared.config.idle_timeout.map(|_| IDLE_CHECK);
            let timeout = if self.is_idle() {
                let waiting = self.stalled || !self.handshakes.is_empty() || self.memory.is_held();
                idle_check.or(waiting.then_some(IDLE_CHECK))
            } else {
                Some(Duration::ZERO)
            };
            let timeout = match self.drain_until {
                Some(_) => {
                    let check = self.drain_check();
                    Some(timeout.unwrap_or(check).min(check))
                }
                None => timeout,
            };
            if !self.turn(&mut events, timeout) {
                continue;
            }
            if idle_check.is_some() {
                self.close_idle();
            }
            if !self.handshakes.is_empty() {
                self.close_unfinished_handshakes();
            }
        }
        self.finish();
    }

    /// Waits for events, at most for `timeout`, and serves them. Returns false
    /// if the wait was interrupted by a signal.
    pub(in crate::server) fn turn(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> bool {
        if self.is_idle() {
            self.context.prepare_to_wait();
        } else {
            self.context.leave();
        }
        if !self.wait(events, timeout) {
            return false;
        }
        let (now, nanos) = self.context.shared.clock.now_and_nanos();
        self.context.now = now;
        self.context.timing.wake(nanos);
        self.context.local.now = self.context.now;
        self.context.flush_if_due();
        self.adapt_to_pressure();
        for event in &*events {
            self.note(event);
        }
        self.serve_ready();
        self.serve_datagrams();
        self.serve_slices();
        self.close_stalled();
        self.admit();
        true
    }

    /// Answers the datagrams that have arrived.
    fn serve_datagrams(&mut self) {
        for socket in &mut self.datagrams {
            if socket.readable {
                let buffer = &mut self.buffers[..READ_BUFFER_BYTES];
                self.context.serve_datagrams(socket, buffer);
                let timing = &mut self.context.timing;
                timing.end_share(timing.woken);
            }
        }
        self.context.timing.end_batch(&self.context.shared);
    }

    /// Returns whether nothing is left to do before the next event.
    pub(in crate::server) fn is_idle(&self) -> bool {
        let idle = self.queues.are_empty() && !self.more_arrivals;
        idle && !self.datagrams.iter().any(|socket| socket.readable)
    }

    /// Returns the bytes of input that the connections keep until more arrives.
    pub(in crate::server) fn kept_bytes(&self) -> usize {
        let kept = self.connections.iter().map(|(_, c)| c.leftover.capacity());
        kept.sum()
    }

    /// Waits for events. Returns false if the wait was interrupted.
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> bool {
        match self.poll.poll(events, timeout) {
            Ok(()) => true,
            Err(error) => {
                debug_assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
                events.clear();
                false
            }
        }
    }

    /// Records an event in its connection or UDP socket, and queues the
    /// connection if there is work for it.
    fn note(&mut self, event: &Event) {
        let Token(token) = event.token();
        let Some(connection) = self.connections.get_mut(token) else {
            // The waker, a UDP socket, or a connection closed earlier in this
            // turn.
            let socket = UDP.checked_sub(token);
            if let Some(socket) = socket.and_then(|index| self.datagrams.get_mut(index)) {
                socket.readable = true;
            }
            return;
        };
        if event.is_readable() {
            connection.readable = true;
        }
        connection.hung_up |= event.is_read_closed() || event.is_error();
        let unblocked = event.is_writable() && connection.is_blocked();
        if connection.readable || connection.hung_up || unblocked {
            if !connection.queued && !connection.unserved {
                connection.woken = self.context.timing.woken;
            }
            self.queues.enqueue(token, connection);
            if connection.parked {
                let (stalled, worker) = (&self.context.stalled, self.context.worker);
                stalled.mark_runnable(worker, token);
            }
        }
    }

    /// Admits connections that other threads handed over.
    ///
    /// Runs after all events were noted: a new connection may get the token of
    /// a closed one for which an event was still pending.
    fn admit(&mut self) {
        self.more_arrivals = false;
        for count in 0.. {
            if count == ADMITS_MAX {
                self.more_arrivals = true;
                return;
            }
            let Some(arrival) = self.handle.arrivals.take() else {
                return;
            };
            let second = self.context.now.second();
            self.context.local.counters.connections.add(1);
            let entry = self.connections.vacant_entry();
            let token = entry.key();
            let Arrival {
                stream,
                peer,
                local,
                protocol,
                proxy,
            } = arrival;
            let connection = entry.insert(Connection::new(stream, protocol, second));
            if proxy {
                let since = connection.stream.handshaking_since();
                connection.awaits_header = Some(since.unwrap_or(second));
            }
            if self.context.shared.passwords.is_some() {
                connection.state = State::Locked;
            }
            if let Some(since) = connection.handshaking_since() {
                self.handshakes.push_back((since, token));
            }
            self.context
                .show_opened(&connection.stream, peer, local.as_deref());
            if !proxy {
                self.context.report_opened(connection.stream.fd(), peer);
            }
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registered =
                self.poll
                    .registry()
                    .register(&mut connection.stream, Token(token), interest);
            if registered.is_err() {
                self.close(token, "error");
            }
        }
    }

    /// Serves a group of connections as one batch: reads from each socket,
    /// parses and prefetches the first commands of all, then executes them
    /// connection by connection.
    pub(in crate::server) fn serve_group(&mut self, group: &[usize], turn: Duration) {
        let alone = group.len() == 1 && self.queues.are_empty();
        let mut buffers = take(&mut self.buffers);
        let mut jobs: ArrayVec<Job<'_>, BATCH_SOCKETS_MAX> = ArrayVec::new();
        for (token, buffer) in group.iter().zip(buffers.chunks_mut(READ_BUFFER_BYTES)) {
            if let Some(len) = self.prepare(*token, buffer) {
                jobs.push(Job {
                    token: *token,
                    input: &buffer[..len],
                    steps: 0..0,
                    used: 0,
                    stop: None,
                });
            }
        }
        let mut steps = Steps::new();
        for job in &mut jobs {
            self.parse_first(job, &mut steps);
        }
        self.context.prefetch(&steps);
        for job in jobs {
            let (token, first) = (job.token, &steps[job.steps.clone()]);
            self.serve_job(job, first, alone, turn);
            self.park(token);
        }
        drop(steps);
        self.buffers = buffers;
        self.context.timing.end_batch(&self.context.shared);
        self.enforce_limits();
    }

    /// Parses the first commands of a connection into the steps of the batch.
    fn parse_first<'a>(&mut self, job: &mut Job<'a>, steps: &mut Steps<'a>) {
        let Some(connection) = self.connections.get_mut(job.token) else {
            return;
        };
        if !matches!(connection.state, State::New | State::Command) {
            return;
        }
        let start = steps.len();
        let spelling = connection.wire_protocol(job.input);
        let store = &self.context.store;
        let (used, stop) = parse_batch(store, spelling, job.input, steps, BATCH_MAX);
        job.steps = start..steps.len();
        job.used = used;
        job.stop = Some(stop);
    }

    /// Executes a connection's share of a batch, then serves its remaining
    /// input within its budget and queues it again if there is more.
    fn serve_job(&mut self, job: Job<'_>, first: &[Step<'_>], alone: bool, turn: Duration) {
        let token = job.token;
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        let (poll, arrived) = (&mut self.poll, &mut self.arrived);
        let (mut more, mut hung_up) = (false, false);
        let mut others_wait = || {
            if poll.poll(arrived, Some(Duration::ZERO)).is_err() {
                // The next wait of the event loop handles the error.
                arrived.clear();
            }
            let mut others = false;
            for event in &*arrived {
                // The poll reports an event once, and the next poll overwrites
                // `arrived`. Record this connection's own events now.
                if event.token() == Token(token) {
                    more |= event.is_readable();
                    hung_up |= event.is_read_closed() || event.is_error();
                } else {
                    others = true;
                }
            }
            others
        };
        let budget = match alone {
            true => Budget::alone(&mut others_wait),
            false => Budget::of(self.context.shared.config.requests_per_event, turn),
        };
        let begun = (job.used, job.stop);
        self.context.commands = 0;
        let Context {
            shared,
            local,
            timing,
            ..
        } = &mut self.context;
        let (woken, fd) = (connection.woken, connection.stream.fd());
        let share = Share::begin(shared, timing, first, woken, || traffic(&local.counters));
        let (used, served) = self
            .context
            .serve(connection, job.input, first, begun, budget);
        let Context {
            shared,
            local,
            timing,
            ..
        } = &mut self.context;
        timing.end_share(woken);
        if let Some(share) = share {
            let bytes = traffic(&local.counters);
            share.end(shared, timing, fd, bytes, &local.events);
        }
        connection.readable |= more;
        connection.hung_up |= hung_up;
        connection.keep(&job.input[used..]);
        connection.unserved = !matches!(
            served,
            Served::NeedInput | Served::Finished | Served::Leaving
        );
        connection.busy = connection.unserved || connection.readable;
        if served != Served::Leaving {
            connection.show(&self.context.shared.table);
        }
        let limit = self.context.shared.config.requests_per_event;
        if self.context.commands > limit || served == Served::Yielding {
            self.context.count_yields(limit, served == Served::Yielding);
        }
        match served {
            Served::Finished => {
                let reason = connection.close_reason;
                self.close(token, reason);
            }
            Served::Blocked => self.note_blocked(token),
            Served::Dumping | Served::Sending => self.requeue(token),
            Served::Leaving => self.hand_to_log(token),
            Served::Yielding => self.requeue(token),
            Served::NeedInput if connection.readable || connection.hung_up => self.requeue(token),
            Served::NeedInput => {}
        }
        self.note_arrived();
    }

    /// Records the events that were fetched while a connection was being
    /// served.
    fn note_arrived(&mut self) {
        if self.arrived.is_empty() {
            return;
        }
        let mut arrived = std::mem::replace(&mut self.arrived, Events::with_capacity(0));
        for event in &arrived {
            self.note(event);
        }
        arrived.clear();
        self.arrived = arrived;
    }

    /// Closes a connection and releases its resources. Watchers are sent
    /// `reason`.
    pub(super) fn close(&mut self, token: usize, reason: &'static str) {
        let Some(mut connection) = self.connections.try_remove(token) else {
            return;
        };
        let context = &mut self.context;
        // Until its PROXY header is there, a connection has no TLS session to end.
        if connection.awaits_header.is_none()
            && let Some(failure) = connection.stream.close()
        {
            log::failure(&context.shared, context.peer_of(&connection), &failure);
        }
        context.report_closed(&connection, reason);
        // Count before the socket closes: a client that sees the end may ask
        // for the counters at once.
        let open = &context.shared.connections.open;
        open.fetch_sub(1, Ordering::Relaxed);
        context.local.counters.connections.sub(1);
        self.handle.load.fetch_sub(1, Ordering::Relaxed);
        self.forget(token, &connection);
        let context = &mut self.context;
        connection.dispose(&context.store, &mut context.local);
    }

    /// Hands over a watcher's connection to the log thread.
    fn hand_to_log(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        // If deregistering fails, both threads get its events; the socket works
        // all the same.
        let _ = connection.stream.deregister(self.poll.registry());
        let connection = self.connections.remove(token);
        self.context.local.counters.connections.sub(1);
        self.handle.load.fetch_sub(1, Ordering::Relaxed);
        self.forget(token, &connection);
        self.context.hand_to_log(connection);
    }

    /// Records that a client must be watched for a stalled dump.
    fn note_blocked(&mut self, token: usize) {
        self.stalled |= self.connections[token].is_dumping();
    }

    /// Answers input that has arrived, waits at most [`LAST_FLUSH`] for clients
    /// to read the replies, and closes all connections.
    fn finish(&mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let deadline = Instant::now() + LAST_FLUSH;
        self.admit();
        while self.more_arrivals {
            self.admit();
        }
        loop {
            let blocked = self.connections.iter().any(|(_, c)| c.is_blocked());
            let timeout = match blocked {
                true if self.queues.are_empty() => {
                    deadline.saturating_duration_since(Instant::now())
                }
                _ => Duration::ZERO,
            };
            self.wait(&mut events, Some(timeout));
            let quiet = events.is_empty() && self.queues.are_empty();
            for event in &events {
                self.note(event);
            }
            self.serve_ready();
            self.serve_slices();
            if quiet && !blocked || Instant::now() >= deadline {
                break;
            }
        }
        self.close_all();
    }

    /// Closes all connections and releases all references to items.
    pub(in crate::server) fn close_all(&mut self) {
        let tokens: Vec<usize> = self.connections.iter().map(|(token, _)| token).collect();
        for token in tokens {
            self.close(token, "shutdown");
        }
    }
}

/// Returns the bytes that a worker has received and sent.
fn traffic(counters: &Counters) -> u64 {
    counters.bytes_read.read() + counters.bytes_written.read()
}
