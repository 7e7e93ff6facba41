//! The admin thread: owns the admin listeners and their connections, and answers
//! HTTP requests. It reads snapshots, so it cannot delay a worker, and it has a
//! poll of its own, so no worker can delay it.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::admin::Site;
use crate::admin::http::{Parsed, Request, Response};
use crate::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_MAX_BYTES, ADMIN_IDLE_MAX};
use crate::server::acceptor::encrypted;
use crate::server::listen::Listening;
use crate::server::mailbox::{Stopper, WAKER};
use crate::server::transport::stream::Stream;
use crate::shared::Shared;

/// Time between two samples of the counters.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time for which input behind a refused request is discarded.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// Tokens from here on belong to listeners.
const LISTENER: usize = 1 << 32;

/// State of the admin thread.
pub(super) struct AdminThread {
    poll: Poll,
    stopper: Arc<Stopper>,
    listeners: Vec<Listening>,
    shared: Arc<Shared>,
    site: Site,
    connections: Slab<AdminConnection>,
    next_sample: Instant,
}

/// A connection of an admin client.
struct AdminConnection {
    stream: Stream,
    /// Received bytes of an incomplete request.
    input: Vec<u8>,
    /// Unsent bytes of the response, and how many of them are sent.
    output: Vec<u8>,
    sent: usize,
    /// Time of the last progress.
    active: Instant,
    after: AfterOutput,
    /// The connection is to be closed.
    lost: bool,
}

/// What follows when the output is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterOutput {
    /// The next request.
    Serve,
    /// The end of the connection.
    Close,
    /// The end when the client has closed, or after [`LINGER_MAX`]. It may still
    /// be sending; closing earlier would reset the connection, and the client
    /// might lose the response.
    Linger,
}

impl AdminThread {
    /// Creates the admin thread, and its stopper.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub(super) fn new(
        mut listeners: Vec<Listening>,
        shared: Arc<Shared>,
        site: Site,
    ) -> io::Result<(Self, Arc<Stopper>)> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Token(LISTENER + index))?;
        }
        let stopper = Arc::new(Stopper::new(&poll)?);
        let thread = Self {
            poll,
            stopper: Arc::clone(&stopper),
            listeners,
            shared,
            site,
            connections: Slab::new(),
            next_sample: Instant::now(),
        };
        Ok((thread, stopper))
    }

    /// Serves admin clients until stopped.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(2 * ADMIN_CONNECTIONS_MAX);
        while !self.stopper.is_stopping() {
            let now = Instant::now();
            if now >= self.next_sample {
                self.site.sample(now);
                self.next_sample = now + SAMPLE_INTERVAL;
                self.close_idle(now);
            }
            let timeout = self.next_sample.saturating_duration_since(now);
            if let Err(error) = self.poll.poll(&mut events, Some(timeout)) {
                debug_assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
                continue;
            }
            for event in &events {
                match event.token() {
                    WAKER => {}
                    Token(token) if token >= LISTENER => self.accept(token - LISTENER),
                    Token(token) => self.serve(token),
                }
            }
        }
    }

    /// Accepts all waiting connections of a listener. Those beyond
    /// [`ADMIN_CONNECTIONS_MAX`] are closed.
    fn accept(&mut self, index: usize) {
        loop {
            let listener = &self.listeners[index];
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                // Out of descriptors: the next connection is another attempt.
                Err(_) => return,
            };
            if self.connections.len() >= ADMIN_CONNECTIONS_MAX {
                continue;
            }
            if let Some(ask) = listener.tls {
                stream = match encrypted(&self.shared, stream, ask) {
                    Some(stream) => stream,
                    None => continue,
                };
            }
            let place = self.connections.vacant_entry();
            let (token, interest) = (place.key(), Interest::READABLE | Interest::WRITABLE);
            let registry = self.poll.registry();
            if registry
                .register(&mut stream, Token(token), interest)
                .is_err()
            {
                continue;
            }
            place.insert(AdminConnection {
                stream,
                input: Vec::new(),
                output: Vec::new(),
                sent: 0,
                active: Instant::now(),
                after: AfterOutput::Serve,
                lost: false,
            });
            self.serve(token);
        }
    }

    /// Reads, answers and sends as far as the socket allows.
    fn serve(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        loop {
            connection.send();
            if connection.lost || connection.has_output() {
                break;
            }
            match connection.after {
                AfterOutput::Serve => {}
                AfterOutput::Close => connection.lost = true,
                AfterOutput::Linger => connection.linger(),
            }
            if connection.after != AfterOutput::Serve {
                break;
            }
            if !connection.answer(&mut self.site) && !connection.receive() {
                break;
            }
        }
        if connection.lost {
            self.close(token);
        }
    }

    fn close_idle(&mut self, now: Instant) {
        let is_idle = |connection: &AdminConnection| {
            let limit = match connection.after {
                AfterOutput::Linger if !connection.has_output() => LINGER_MAX,
                _ => ADMIN_IDLE_MAX,
            };
            now.saturating_duration_since(connection.active) >= limit
        };
        let idle = self.connections.iter().filter(|(_, it)| is_idle(it));
        let idle: Vec<usize> = idle.map(|(token, _)| token).collect();
        for token in idle {
            self.close(token);
        }
    }

    fn close(&mut self, token: usize) {
        let mut connection = self.connections.remove(token);
        // Its failure concerns nobody else.
        let _ = connection.stream.close();
    }
}

impl AdminConnection {
    fn has_output(&self) -> bool {
        self.sent < self.output.len() || self.stream.has_unsent()
    }

    /// Sends as much of the response as the socket takes.
    fn send(&mut self) {
        while !self.lost && self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => self.lost = true,
                Ok(len) => {
                    self.sent += len;
                    self.active = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.lost = true,
            }
        }
        if self.lost {
            return;
        }
        match self.stream.flush() {
            Ok(()) => {
                self.output.clear();
                self.sent = 0;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.lost = true,
        }
    }

    /// Receives input. Returns false if there is none.
    fn receive(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.lost = true,
            Ok(len) => {
                self.input.extend_from_slice(&buffer[..len]);
                self.active = Instant::now();
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.lost = true,
        }
        false
    }

    /// Ends the output and discards input, until the client closes.
    fn linger(&mut self) {
        self.stream.finish();
        self.input.clear();
        let active = self.active;
        while self.receive() {
            self.input.clear();
        }
        self.active = active;
    }

    /// Answers the first request of the input. Returns false if it is
    /// incomplete.
    fn answer(&mut self, site: &mut Site) -> bool {
        // A line end before a request is ignored (RFC 9112, section 2.2).
        let blank = self
            .input
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'));
        self.input.drain(..blank.count());
        if self.input.is_empty() {
            return false;
        }
        let response = match Request::parse(&self.input) {
            Parsed::Request(request, len) => {
                self.input.drain(..len);
                let response = site.respond(&request, self.stream.is_unix());
                if !request.keep_alive {
                    self.after = AfterOutput::Close;
                }
                response.write(request.is_head, request.keep_alive, &mut self.output);
                return true;
            }
            Parsed::Partial if self.input.len() <= ADMIN_HEAD_MAX_BYTES => return false,
            Parsed::Partial => Response::text(431, "the request is too long"),
            Parsed::Bad(response) => response,
        };
        self.after = AfterOutput::Linger;
        response.write(false, false, &mut self.output);
        true
    }
}
