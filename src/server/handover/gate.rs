//! The gate: the thread that speaks with would-be successors until one is ready.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, TrySendError};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::unistd::geteuid;
use slab::Slab;

use crate::limits::{HANDOVER_CONNECTIONS_MAX, HANDOVER_WAIT_MAX};
use crate::logging::Log;
use crate::server::handover::channel::{Channel, Message, VERSION};
use crate::server::handover::sockets::Sockets;
use crate::server::handover::successor::Successor;
use crate::server::mailbox::{Stopper, WAKER};
use crate::server::stop::StopRequest;

const EVENTS_MAX: usize = 16;
/// Token of the listening socket.
const LISTENER: Token = Token(usize::MAX - 1);
/// Interval of the checks for connections that wait too long.
const CHECK: Duration = Duration::from_secs(1);

/// State of the gate.
pub(in crate::server) struct Gate {
    poll: Poll,
    stopper: Arc<Stopper>,
    sockets: Arc<Sockets>,
    /// Device and inode of the memory file, if it has a name.
    file: Option<(u64, u64)>,
    stop: Sender<StopRequest>,
    log: Arc<Log>,
    visitors: Slab<Visitor>,
    /// A successor is found. If it fails, the server starts another gate.
    is_done: bool,
}

/// A would-be successor.
struct Visitor {
    channel: Channel,
    process: i32,
    /// Time of its last message.
    active: Instant,
    /// It has the sockets.
    is_offered: bool,
}

/// What follows a message.
enum Next {
    Wait,
    Leave,
    TakeOver,
}

impl Gate {
    /// Creates the gate, and its stopper. `sockets` has a socket to listen at.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub(in crate::server) fn new(
        sockets: Arc<Sockets>,
        file: Option<(u64, u64)>,
        stop: Sender<StopRequest>,
        log: Arc<Log>,
    ) -> io::Result<(Self, Arc<Stopper>)> {
        let poll = Poll::new()?;
        if let Some(gate) = &sockets.gate {
            let descriptor = gate.socket.as_raw_fd();
            poll.registry()
                .register(&mut SourceFd(&descriptor), LISTENER, Interest::READABLE)?;
        }
        let stopper = Arc::new(Stopper::new(&poll)?);
        let gate = Self {
            poll,
            stopper: Arc::clone(&stopper),
            sockets,
            file,
            stop,
            log,
            visitors: Slab::new(),
            is_done: false,
        };
        Ok((gate, stopper))
    }

    /// Serves would-be successors until one is ready, or until stopped. A second one
    /// must not take the place of a signal in the channel of stop requests.
    pub(in crate::server) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.is_done && !self.stopper.is_stopping() {
            let timeout = (!self.visitors.is_empty()).then_some(CHECK);
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                debug_assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
                continue;
            }
            for event in &events {
                match event.token() {
                    _ if self.is_done => break,
                    WAKER => {}
                    LISTENER => self.accept_all(),
                    Token(visitor) => self.serve(visitor),
                }
            }
            self.visitors
                .retain(|_, visitor| visitor.active.elapsed() < HANDOVER_WAIT_MAX);
        }
        for (_, visitor) in &self.visitors {
            let reason = "the server is stopping, or another process takes over";
            // It leaves in any case.
            let _ = visitor
                .channel
                .send(&Message::Refused(reason.to_owned()), None);
        }
    }

    fn accept_all(&mut self) {
        let Some(gate) = &self.sockets.gate else {
            return;
        };
        while let Ok((socket, _)) = gate.socket.accept() {
            let admitted = Channel::over(socket).and_then(|channel| {
                let (process, user) = channel.peer()?;
                let reason = if user != 0 && user != geteuid().as_raw() {
                    "only root and the server's own user may take over"
                } else if self.visitors.len() >= HANDOVER_CONNECTIONS_MAX {
                    "too many processes try to take over"
                } else {
                    return Ok((channel, process));
                };
                channel.send(&Message::Refused(reason.to_owned()), None)?;
                Err(io::Error::other(reason))
            });
            let admitted = admitted.and_then(|(channel, process)| {
                let entry = self.visitors.vacant_entry();
                let descriptor = channel.as_fd().as_raw_fd();
                let token = Token(entry.key());
                let mut source = SourceFd(&descriptor);
                let registry = self.poll.registry();
                registry.register(&mut source, token, Interest::READABLE)?;
                entry.insert(Visitor {
                    channel,
                    process,
                    active: Instant::now(),
                    is_offered: false,
                });
                Ok(())
            });
            if let Err(error) = admitted {
                self.log.put(format_args!("take-over refused: {error}"));
            }
        }
    }

    /// Reads the messages of a would-be successor.
    fn serve(&mut self, number: usize) {
        let next = loop {
            let Some(visitor) = self.visitors.get_mut(number) else {
                // It left earlier in this turn.
                return;
            };
            let next = match visitor.channel.receive_arrived() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => Next::Leave,
                Ok((message, _)) => visitor.answer(&message, &self.sockets, self.file),
            };
            match next {
                Next::Wait => {}
                next => break next,
            }
        };
        // Closing its descriptor removes it from the poll; a descriptor that goes
        // to another thread must be removed before.
        let visitor = self.visitors.remove(number);
        let descriptor = visitor.channel.as_fd().as_raw_fd();
        let _ = self.poll.registry().deregister(&mut SourceFd(&descriptor));
        if matches!(next, Next::TakeOver) {
            let successor = Successor::new(visitor.channel, visitor.process);
            let request = StopRequest::HandOver(successor);
            match self
                .stop
                .try_send(request)
                .map_err(TrySendError::into_inner)
            {
                Ok(()) => self.is_done = true,
                Err(StopRequest::HandOver(successor)) => successor.refuse("the server is stopping"),
                Err(StopRequest::Stop) => {}
            }
        }
    }
}

impl Visitor {
    fn answer(&mut self, message: &Message, sockets: &Sockets, file: Option<(u64, u64)>) -> Next {
        self.active = Instant::now();
        match message {
            Message::Hello(VERSION) if !self.is_offered => {
                self.is_offered = true;
                match sockets.offer(&self.channel, file) {
                    Ok(()) => Next::Wait,
                    Err(_) => Next::Leave,
                }
            }
            Message::Hello(version) => {
                let reason = format!(
                    "the running server takes part in take-overs of version {VERSION}, not {version}"
                );
                // It leaves in any case.
                let _ = self.channel.send(&Message::Refused(reason), None);
                Next::Leave
            }
            Message::Ready if self.is_offered => Next::TakeOver,
            _ => Next::Leave,
        }
    }
}
