//! The acceptor: one thread that accepts connections within the connection
//! limit and hands over each to the worker with the fewest.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::config::ClientCertificates;
use crate::server::connection::log;
use crate::server::listen::Listening;
use crate::server::mailbox::{Stopper, WAKER};
use crate::server::transport::stream::Stream;
use crate::server::transport::tls::TlsStream;
use crate::server::worker::handle::{Arrival, Handle};
use crate::shared::Shared;
use crate::sync::Ordering;

/// Most events fetched by one poll.
const EVENTS_MAX: usize = 16;
/// Most connections accepted from one listener before the others get their
/// turn.
const ACCEPTS_MAX: usize = 256;
/// Pause before accepting again while the system is out of file descriptors or
/// the connection limit is reached.
const PAUSE: Duration = Duration::from_millis(10);
/// Reply to a connection above the limit, as memcached writes it.
const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";

/// Accepts connections from all listeners.
pub(super) struct Acceptor {
    poll: Poll,
    handle: Arc<Stopper>,
    listeners: Vec<Listening>,
    /// For each listener, the local address of its connections, if they share one.
    locals: Vec<Option<Arc<str>>>,
    /// For each listener, whether connections may be waiting.
    waiting: Vec<bool>,
    workers: Vec<Arc<Handle>>,
    shared: Arc<Shared>,
    /// Start of the current pause; `None` while accepting.
    paused_since: Option<Instant>,
}

/// Why accepting from a listener stopped.
enum Accepted {
    /// No connection is waiting.
    Drained,
    /// [`ACCEPTS_MAX`] are accepted; more may be waiting.
    More,
    /// The connection limit is reached, or the system refuses more connections.
    Exhausted,
}

impl Acceptor {
    /// Creates an acceptor that distributes connections to `workers`, and the
    /// handle that stops it.
    ///
    /// # Errors
    /// The system has no more descriptors, or a listener cannot be registered.
    pub(super) fn new(
        mut listeners: Vec<Listening>,
        workers: Vec<Arc<Handle>>,
        shared: Arc<Shared>,
    ) -> io::Result<(Self, Arc<Stopper>)> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Token(index))?;
        }
        let handle = Arc::new(Stopper::new(&poll)?);
        shared.connections.accepting.store(true, Ordering::Relaxed);
        let acceptor = Self {
            poll,
            handle: Arc::clone(&handle),
            locals: listeners.iter().map(Listening::local_name).collect(),
            waiting: vec![true; listeners.len()],
            listeners,
            workers,
            shared,
            paused_since: None,
        };
        Ok((acceptor, handle))
    }

    /// Accepts connections until stopped. The listeners are closed at the end.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.handle.is_stopping() {
            let timeout = match (self.paused_since, self.waiting.contains(&true)) {
                (Some(_), _) => Some(PAUSE),
                (None, true) => Some(Duration::ZERO),
                (None, false) => None,
            };
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                debug_assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
                continue;
            }
            for event in &events {
                if event.token() != WAKER {
                    self.waiting[event.token().0] = true;
                }
            }
            self.accept_all();
        }
    }

    fn accept_all(&mut self) {
        for index in 0..self.listeners.len() {
            if !self.waiting[index] {
                continue;
            }
            match self.accept_from(index) {
                Accepted::Drained => self.waiting[index] = false,
                Accepted::More => {}
                Accepted::Exhausted => return self.pause(),
            }
        }
        self.resume();
    }

    fn accept_from(&mut self, index: usize) -> Accepted {
        let connections = &self.shared.connections;
        for _ in 0..ACCEPTS_MAX {
            let config = &self.shared.config;
            let open = connections.open.load(Ordering::Relaxed);
            let full = open >= config.max_connections as u64;
            if full && !config.maxconns_fast {
                return Accepted::Exhausted;
            }
            match self.listeners[index].accept() {
                Ok((stream, _)) if full => self.reject(stream, &self.listeners[index]),
                Ok((stream, peer)) => self.admit(stream, peer, index),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Accepted::Drained,
                    // The client disconnected before it was accepted.
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                    _ => return Accepted::Exhausted,
                },
            }
        }
        Accepted::More
    }

    /// Counts a connection and hands it over to the worker with the fewest.
    fn admit(&self, stream: Stream, peer: Option<SocketAddr>, index: usize) {
        let listener = &self.listeners[index];
        let stream = match listener.tls {
            None => stream,
            Some(ask) => match encrypted(&self.shared, stream, ask) {
                Some(stream) => stream,
                None => return,
            },
        };
        let connections = &self.shared.connections;
        connections.total.fetch_add(1, Ordering::Relaxed);
        let open = connections.open.fetch_add(1, Ordering::Relaxed) + 1;
        connections.structures.fetch_max(open, Ordering::Relaxed);
        let idlest = self
            .workers
            .iter()
            .min_by_key(|worker| worker.load.load(Ordering::Relaxed));
        if let Some(worker) = idlest {
            worker.hand_over(Arrival {
                stream,
                peer,
                local: self.locals[index].clone(),
                protocol: listener.protocol,
                proxy: listener.proxy,
            });
        }
    }

    /// Refuses a connection above the limit (`-o maxconns_fast`).
    fn reject(&self, mut stream: Stream, listener: &Listening) {
        self.shared
            .connections
            .rejected
            .fetch_add(1, Ordering::Relaxed);
        log::notice(
            &self.shared,
            format_args!("refused a connection: too many are open"),
        );
        if listener.tls.is_none() {
            // The connection is closed even if the client does not read this.
            let _ = stream.write(TOO_MANY);
        }
    }

    /// Stops accepting for [`PAUSE`], and counts the pause.
    fn pause(&mut self) {
        if self.paused_since.is_some() {
            return;
        }
        self.paused_since = Some(Instant::now());
        let connections = &self.shared.connections;
        connections.listen_disabled.fetch_add(1, Ordering::Relaxed);
        connections.accepting.store(false, Ordering::Relaxed);
        log::notice(
            &self.shared,
            format_args!("stopped accepting: no connection can be taken"),
        );
    }

    /// Ends a pause.
    fn resume(&mut self) {
        if let Some(since) = self.paused_since.take() {
            let connections = &self.shared.connections;
            let paused = since.elapsed().as_micros() as u64;
            connections.disabled_us.fetch_add(paused, Ordering::Relaxed);
            connections.accepting.store(true, Ordering::Relaxed);
        }
    }
}

/// Wraps a stream in TLS. Returns `None`, which closes the connection, if it is
/// not TCP or a TLS session cannot be created.
pub(super) fn encrypted(
    shared: &Shared,
    stream: Stream,
    ask: ClientCertificates,
) -> Option<Stream> {
    let (Stream::Tcp(socket), Some(tls)) = (stream, &shared.tls) else {
        return None;
    };
    let session = tls.session(ask).ok()?;
    let second = shared.clock.now().second();
    let stream = TlsStream::new(socket, session, Arc::clone(tls), second);
    Some(Stream::Tls(Box::new(stream)))
}
