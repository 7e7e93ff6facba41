//! A worker: one thread, one poll, its share of the connections. Sockets
//! that are ready together are read together, so that the memory their first
//! commands touch is on its way while others are being served.

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
use crate::server::mailbox::Mailbox;
use crate::server::transport::udp::Bound;
use crate::server::worker::client_memory::ClientMemory;
use crate::server::worker::handle::Handle;
use crate::server::worker::queues::Queues;
use crate::sync::{AtomicUsize, Ordering};

/// Connections taken over before those that are ready are served.
const ADMITS_MAX: usize = 32;
/// Events fetched at once.
const EVENTS_MAX: usize = 256;
/// The first UDP socket's token; those of the others are below it.
const UDP: usize = usize::MAX - 1;
/// How often connections are looked over for having been idle too long.
const IDLE_CHECK: Duration = Duration::from_secs(1);
/// How long a stopping worker waits for clients to take their answers.
const LAST_FLUSH: Duration = Duration::from_millis(500);

/// See the module's documentation.
pub(in crate::server) struct Worker {
    pub(super) poll: Poll,
    pub(super) handle: Arc<Handle>,
    /// Events that were fetched while a connection was served.
    pub(super) arrived: Events,
    pub(super) connections: Slab<Connection>,
    /// Connections to be served.
    pub(super) queues: Queues,
    /// Sockets for datagrams, where they are taken.
    pub(super) datagrams: Vec<Bound>,
    /// Arrivals that began with a handshake, and the second they came in.
    pub(super) handshakes: VecDeque<(u32, usize)>,
    /// One read buffer for each socket of a batch.
    pub(super) buffers: Vec<u8>,
    /// Second in which idle connections were last looked for.
    pub(super) idle_checked: u32,
    /// Some client is slow to take the dump it asked for.
    pub(super) stalled: bool,
    /// Second in which such clients were last looked for.
    pub(super) stalled_checked: u32,
    pub(super) memory: ClientMemory,
    /// Connections wait to be taken over.
    pub(super) more_arrivals: bool,
    pub(super) context: Context,
}

/// A connection's share of a batch: input, and what of it is parsed.
struct Job<'a> {
    token: usize,
    input: &'a [u8],
    steps: std::ops::Range<usize>,
    used: usize,
    stop: Option<Stop<'a>>,
}

impl Worker {
    /// A worker and the handle to it.
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
            // Zeroed by the system page by page as it is first used.
            buffers: vec![0; BATCH_SOCKETS_MAX * READ_BUFFER_BYTES],
            idle_checked: 0,
            stalled: false,
            stalled_checked: 0,
            memory: ClientMemory::default(),
            more_arrivals: false,
            context,
        };
        Ok((worker, handle))
    }

    /// Serves until stopped.
    pub(in crate::server) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.handle.arrivals.is_stopping() {
            let idle_check = self.context.shared.config.idle_timeout.map(|_| IDLE_CHECK);
            let timeout = if self.is_idle() {
                let waiting = self.stalled
                    || !self.handshakes.is_empty()
                    || self.context.local.holds_items()
                    || self.memory.is_held();
                idle_check.or(waiting.then_some(IDLE_CHECK))
            } else {
                Some(Duration::ZERO)
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

    /// Waits for events and serves them. False if the wait was interrupted.
    pub(in crate::server) fn turn(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> bool {
        if self.is_idle() {
            self.context.settle_memory();
        }
        if !self.wait(events, timeout) {
            return false;
        }
        self.context.now = self.context.shared.clock.now();
        self.context.local.now = self.context.now;
        self.context.cool();
        self.context.flush_if_due();
        self.look_after_memory();
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

    /// Answers the datagrams that have come.
    fn serve_datagrams(&mut self) {
        for socket in &mut self.datagrams {
            if socket.readable {
                let buffer = &mut self.buffers[..READ_BUFFER_BYTES];
                self.context.serve_datagrams(socket, buffer);
            }
        }
    }

    /// Whether it has nothing to do before the next event.
    pub(in crate::server) fn is_idle(&self) -> bool {
        let idle = self.queues.are_empty() && !self.more_arrivals;
        idle && !self.datagrams.iter().any(|socket| socket.readable)
    }

    /// Bytes of input that its connections keep for later.
    pub(in crate::server) fn kept_bytes(&self) -> usize {
        let kept = self.connections.iter().map(|(_, c)| c.leftover.capacity());
        kept.sum()
    }

    /// False if the wait was interrupted.
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

    fn note(&mut self, event: &Event) {
        let Token(token) = event.token();
        let Some(connection) = self.connections.get_mut(token) else {
            // The waker, a connection closed by an earlier event, or UDP.
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
            self.queues.enqueue(token, connection);
            if connection.parked {
                let (stalled, worker) = (&self.context.stalled, self.context.worker);
                stalled.end_waiting(worker, token);
            }
        }
    }

    /// Takes over the connections that have been handed to us. After the
    /// events have been dealt with, since a new connection may get the token
    /// of one that an event was for.
    fn admit(&mut self) {
        self.more_arrivals = false;
        for count in 0.. {
            if count == ADMITS_MAX {
                self.more_arrivals = true;
                return;
            }
            let Some((stream, protocol)) = self.handle.arrivals.take() else {
                return;
            };
            let second = self.context.now.second();
            let entry = self.connections.vacant_entry();
            let token = entry.key();
            let connection = entry.insert(Connection::new(stream, protocol, second));
            connection.stream.set_nodelay();
            if self.context.shared.passwords.is_some() {
                connection.state = State::Locked;
            }
            if let Some(since) = connection.stream.handshaking_since() {
                self.handshakes.push_back((since, token));
            }
            self.context.tell_opened(&connection.stream);
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

    /// Reads from each socket of a group, prefetches for all, then serves
    /// one after the other.
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
        self.enforce_limits();
    }

    fn parse_first<'a>(&mut self, job: &mut Job<'a>, steps: &mut Steps<'a>) {
        let Some(connection) = self.connections.get_mut(job.token) else {
            return;
        };
        if !matches!(connection.state, State::New | State::Command) {
            return;
        }
        let start = steps.len();
        let spelling = connection.spelling(job.input);
        let store = &self.context.store;
        let (used, stop) = parse_batch(store, spelling, job.input, steps, BATCH_MAX);
        job.steps = start..steps.len();
        job.used = used;
        job.stop = Some(stop);
    }

    fn serve_job(&mut self, job: Job<'_>, first: &[Step<'_>], alone: bool, turn: Duration) {
        let token = job.token;
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        let (poll, arrived) = (&mut self.poll, &mut self.arrived);
        let (mut more, mut hung_up) = (false, false);
        let mut others_wait = || {
            if poll.poll(arrived, Some(Duration::ZERO)).is_err() {
                // The next wait sees to it.
                arrived.clear();
            }
            let mut others = false;
            for event in &*arrived {
                // Its own come once, and the next look forgets them.
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
        let (used, served) = self
            .context
            .serve(connection, job.input, first, begun, budget);
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

    /// Takes note of events that were fetched while a connection was served.
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

    pub(super) fn close(&mut self, token: usize, reason: &'static str) {
        let Some(mut connection) = self.connections.try_remove(token) else {
            return;
        };
        self.context.tell_closed(&connection, reason);
        let context = &mut self.context;
        if let Some(failure) = connection.stream.close() {
            log::tls_failure(&context.shared, connection.stream.peer(), &failure);
        }
        // Before the client can see the end of it, and ask.
        let open = &context.shared.connections.open;
        open.fetch_sub(1, Ordering::Relaxed);
        self.handle.load.fetch_sub(1, Ordering::Relaxed);
        self.forget(token, &connection);
        let context = &mut self.context;
        connection.dispose(&context.store, &mut context.local);
    }

    /// Gives a connection that watches to the log thread.
    fn hand_to_log(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        // One that cannot be taken from the poll is served twice at worst.
        let _ = connection.stream.deregister(self.poll.registry());
        let connection = self.connections.remove(token);
        self.handle.load.fetch_sub(1, Ordering::Relaxed);
        self.forget(token, &connection);
        self.context.hand_to_log(connection);
    }

    fn note_blocked(&mut self, token: usize) {
        self.stalled |= self.connections[token].is_dumping();
    }

    /// Answers what has arrived, gives clients a moment to take it, and
    /// closes everything.
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
        let tokens: Vec<usize> = self.connections.iter().map(|(token, _)| token).collect();
        for token in tokens {
            self.close(token, "shutdown");
        }
        let Context { store, local, .. } = &mut self.context;
        store.let_all_go(local);
    }
}
