//! The acceptor: one thread that takes connections in and hands each to the
//! worker with the fewest, within the connection limit.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::config::ClientCertificates;
use crate::server::connection::log;
use crate::server::listen::Listening;
use crate::server::mailbox::{Stopper, WAKER};
use crate::server::transport::stream::Stream;
use crate::server::transport::tls::TlsStream;
use crate::server::worker::handle::Handle;
use crate::shared::Shared;
use crate::sync::Ordering;

const EVENTS_MAX: usize = 16;
/// Connections accepted from one listener before the others get their turn.
const ACCEPTS_MAX: usize = 256;
/// How long to wait before accepting again, when the system has no more file
/// descriptors or the connection limit is reached.
const PAUSE: Duration = Duration::from_millis(10);
/// What a connection above the limit is told, in memcached's words.
const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";

/// See the module's documentation.
pub(super) struct Acceptor {
    poll: Poll,
    handle: Arc<Stopper>,
    listeners: Vec<Listening>,
    /// Listeners that may have connections waiting.
    waiting: Vec<bool>,
    workers: Vec<Arc<Handle>>,
    shared: Arc<Shared>,
    paused_since: Option<Instant>,
}

/// Why accepting stopped.
enum Accepted {
    /// Nobody is waiting.
    Drained,
    /// Others get their turn first.
    More,
    /// No connection can be taken at the moment.
    Exhausted,
}

impl Acceptor {
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
            waiting: vec![true; listeners.len()],
            listeners,
            workers,
            shared,
            paused_since: None,
        };
        Ok((acceptor, handle))
    }

    /// Accepts until stopped. The listeners close with it.
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
                Ok(stream) if full => self.reject(stream, &self.listeners[index]),
                Ok(stream) => self.admit(stream, &self.listeners[index]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Accepted::Drained,
                    // The client gave up before we came to it.
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                    _ => return Accepted::Exhausted,
                },
            }
        }
        Accepted::More
    }

    fn admit(&self, stream: Stream, listener: &Listening) {
        let stream = match listener.tls {
            None => stream,
            Some(ask) => match self.encrypted(stream, ask) {
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
            worker.hand_over(stream, listener.protocol);
        }
    }

    /// The stream with TLS around it; `None` where there can be none.
    fn encrypted(&self, stream: Stream, ask: ClientCertificates) -> Option<Stream> {
        let (Stream::Tcp(socket), Some(tls)) = (stream, &self.shared.tls) else {
            return None;
        };
        let session = tls.session(ask).ok()?;
        let second = self.shared.clock.now().second();
        let stream = TlsStream::new(socket, session, Arc::clone(tls), second);
        Some(Stream::Tls(Box::new(stream)))
    }

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
            // A client that does not take it is hung up on all the same.
            let _ = stream.write(TOO_MANY);
        }
    }

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

    fn resume(&mut self) {
        if let Some(since) = self.paused_since.take() {
            let connections = &self.shared.connections;
            let paused = since.elapsed().as_micros() as u64;
            connections.disabled_us.fetch_add(paused, Ordering::Relaxed);
            connections.accepting.store(true, Ordering::Relaxed);
        }
    }
}
