//! A connection: its stream, what it is in the middle of, and what it could
//! not send yet. It owns memory only for a partial command or unsent output.

use std::io::{self, ErrorKind, IoSlice};

use arrayvec::ArrayVec;

use crate::command::{Dump, Output, Parked, Pending, SaslState};
use crate::config::ProtocolMode;
use crate::events::Filter;
use crate::protocol::binary::header::{HEADER_BYTES, REQUEST_MAGIC};
use crate::server::connection::batch::Spelling;
use crate::server::transport::stream::Stream;
use crate::stats::{ConnState, ConnTable, Counters};
use crate::store::{Local, Store, prefetch_bytes};

/// Bytes sent to one client before others get their turn. Some fast reader
/// would otherwise have a worker to itself for as long as a large value takes.
const SEND_MAX_BYTES: usize = 512 * 1024;
/// Pieces that one system call sends.
const SLICES_MAX: usize = 64;

/// Bytes of large values that are asked for before the kernel copies them:
/// about as many as a socket takes at once, and no more than fit the cache.
const PREFETCH_BYTES: usize = 256 * 1024;

/// What a connection is in the middle of.
pub(in crate::server) enum State {
    /// Nothing sent yet; the first byte tells the protocol.
    New,
    /// Waiting for a password, which everything else needs.
    Locked,
    /// Waiting for a command.
    Command,
    /// Receiving a value into its item.
    Receiving(Pending),
    /// In the middle of a value that is parked.
    Parked,
    /// Skipping the value of a refused command.
    Swallowing(usize),
    /// In a retrieval, at the next of its keys: the line is too long to wait
    /// for, or the client has to take some of the answer first.
    LongGet {
        /// `gets` or `gats`.
        cas: bool,
        /// The new expiry time of `gat` and `gats`.
        touch: Option<i32>,
    },
    /// Skipping the rest of such a line, after an error in it.
    SkippingLine,
    /// Answering with a walk through the store, as the client takes it.
    Dumping(Box<Dump>),
    /// On its way to the log thread.
    Watching(Filter),
}

/// See the module's documentation.
pub(in crate::server) struct Connection {
    pub(in crate::server) stream: Stream,
    pub(in crate::server) state: State,
    /// Input that makes no command yet.
    pub(in crate::server) leftover: Vec<u8>,
    /// Output that the socket did not take, or not yet.
    unsent: Option<Box<Output>>,
    /// What it may speak, and once the first byte is there, does.
    pub(in crate::server) protocol: ProtocolMode,
    /// How far it has got with authenticating, where it must.
    pub(in crate::server) login: SaslState,
    /// In a queue of connections to be served.
    pub(in crate::server) queued: bool,
    /// It had more to do than its last turn allowed.
    pub(in crate::server) busy: bool,
    /// The peer will send no more: read on until the end is seen.
    pub(in crate::server) hung_up: bool,
    /// More input may be waiting than was read.
    pub(in crate::server) readable: bool,
    /// What is left over may hold whole commands.
    pub(in crate::server) unserved: bool,
    /// Close when everything is sent.
    pub(in crate::server) closing: bool,
    /// Why it is closed when it is over, as watchers are told.
    pub(in crate::server) close_reason: &'static str,
    /// Second in which a command last began or a paused answer was finished.
    pub(in crate::server) active: u32,
    /// Something it holds is parked with the stalled clients.
    pub(in crate::server) parked: bool,
    /// So is its output.
    output_parked: bool,
    /// When its client last took or sent something, in milliseconds of the
    /// cache's clock.
    pub(in crate::server) progressed: u64,
    /// Bytes of a value received since others had their turn.
    pub(in crate::server) received: usize,
    /// Bytes of the body of the packet that is answered by a dump: skipped when
    /// the dump is over.
    pub(in crate::server) skip_after_dump: usize,
    /// Bytes of input and TLS output that it was last found to keep.
    pub(in crate::server) kept: usize,
    /// What the table of connections says that it is doing.
    shown: ConnState,
}

/// How sending ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Sent {
    All,
    /// The socket takes no more for now.
    Blocked,
    /// It may take more, but others come first.
    Paused,
    /// The peer is gone.
    Lost,
}

impl Connection {
    pub(in crate::server) fn new(stream: Stream, protocol: ProtocolMode, second: u32) -> Self {
        Self {
            stream,
            state: State::New,
            leftover: Vec::new(),
            unsent: None,
            protocol,
            login: SaslState::No,
            queued: false,
            busy: false,
            hung_up: false,
            readable: true,
            unserved: false,
            closing: false,
            close_reason: "error",
            active: second,
            parked: false,
            output_parked: false,
            progressed: u64::from(second) * 1000,
            received: 0,
            skip_after_dump: 0,
            kept: 0,
            shown: ConnState::New,
        }
    }

    /// Tells the table of connections what it is doing, if that has changed.
    #[inline]
    pub(in crate::server) fn show(&mut self, table: &ConnTable) {
        let doing = match self.state {
            _ if self.is_blocked() => ConnState::Sending,
            State::New | State::Locked => ConnState::New,
            State::Receiving(_) | State::Parked => ConnState::Receiving,
            State::Swallowing(_) | State::SkippingLine => ConnState::Swallowing,
            _ if !self.unserved && self.lacks_value() => ConnState::Receiving,
            _ => ConnState::Waiting,
        };
        if doing != self.shown {
            self.shown = doing;
            table.set_state(self.stream.fd(), doing);
        }
    }

    /// Whether what is left over is a command of which the value is missing.
    fn lacks_value(&self) -> bool {
        match self.protocol {
            _ if self.leftover.is_empty() => false,
            ProtocolMode::Binary => self.leftover.len() >= HEADER_BYTES,
            _ => memchr::memchr(b'\n', &self.leftover).is_some(),
        }
    }

    /// Whether it is being answered with a walk through the store.
    pub(in crate::server) fn is_dumping(&self) -> bool {
        matches!(self.state, State::Dumping(_))
    }

    /// How its requests are spelt, the first of which `input` begins with.
    pub(in crate::server) fn spelling(&mut self, input: &[u8]) -> Spelling {
        if self.protocol == ProtocolMode::Auto
            && matches!(self.state, State::New | State::Locked)
            && let Some(first) = input.first()
        {
            self.protocol = match *first == REQUEST_MAGIC {
                true => ProtocolMode::Binary,
                false => ProtocolMode::Ascii,
            };
        }
        match self.protocol {
            ProtocolMode::Binary => Spelling::Binary,
            ProtocolMode::Ascii | ProtocolMode::Auto => Spelling::Text,
        }
    }

    /// Whether there is output that is not sent.
    pub(in crate::server) fn is_blocked(&self) -> bool {
        self.unsent.is_some() || self.output_parked || self.stream.has_unsent()
    }

    /// Second of its last command or answer or, in the middle of an answer or a
    /// value, of the last progress that its client made.
    pub(in crate::server) fn last_active(&self) -> u32 {
        let between_commands = matches!(self.state, State::New | State::Locked | State::Command);
        match between_commands && !self.is_blocked() && !self.keeps_part_of_value() {
            true => self.active,
            false => self.active.max((self.progressed / 1000) as u32),
        }
    }

    /// Whether the input kept is a request whose value is incomplete. The rest
    /// of a command line is not waited for as long.
    fn keeps_part_of_value(&self) -> bool {
        self.leftover.first() == Some(&REQUEST_MAGIC) || self.leftover.contains(&b'\n')
    }

    /// Whether it holds something that is to be parked.
    #[inline]
    pub(in crate::server) fn is_stalled(&self) -> bool {
        self.unsent.is_some() || matches!(self.state, State::Receiving(_))
    }

    /// Hands over what is to be parked while its client is waited for.
    pub(in crate::server) fn park(&mut self) -> Option<Parked> {
        let output = self.unsent.take();
        self.output_parked = output.is_some();
        let pending = match std::mem::replace(&mut self.state, State::Parked) {
            State::Receiving(pending) => Some(pending),
            state => {
                self.state = state;
                None
            }
        };
        self.parked = output.is_some() || pending.is_some();
        self.parked.then_some(Parked { output, pending })
    }

    /// Takes back what was parked.
    pub(in crate::server) fn resume(&mut self, parked: Parked) {
        (self.parked, self.output_parked) = (false, false);
        self.unsent = parked.output;
        if let Some(pending) = parked.pending {
            self.state = State::Receiving(pending);
        }
    }

    /// Bytes of memory for incomplete input, and for output that its TLS session
    /// holds.
    #[inline]
    pub(in crate::server) fn input_bytes(&self) -> usize {
        self.leftover.capacity() + self.stream.session_bytes()
    }

    /// Sends a batch's answers, keeping what the socket does not take.
    pub(in crate::server) fn send(
        &mut self,
        output: &mut Output,
        store: &Store,
        local: &mut Local,
    ) -> Sent {
        if output.is_empty() {
            return Sent::All;
        }
        debug_assert!(self.unsent.is_none(), "blocked connections are not served");
        let result = write_from(&mut self.stream, output, &local.counters);
        if result.is_unfinished() {
            self.progressed = local.now.millis();
            self.unsent = Some(Box::new(output.take_unsent(store, local)));
        } else {
            output.clear(store, local);
        }
        result
    }

    /// Goes on with sending what there is.
    pub(in crate::server) fn flush(&mut self, store: &Store, local: &mut Local) -> Sent {
        let Some(unsent) = &mut self.unsent else {
            let before = self.stream.session_bytes();
            let result = flush_stream(&mut self.stream);
            if self.stream.session_bytes() < before {
                self.progressed = local.now.millis();
            }
            return result;
        };
        let before = unsent.len();
        let result = write_from(&mut self.stream, unsent, &local.counters);
        if unsent.len() < before {
            self.progressed = local.now.millis();
        }
        if !result.is_unfinished() {
            unsent.clear(store, local);
            self.unsent = None;
            self.active = local.now.second();
        }
        result
    }

    /// Gives back everything the connection holds of the store.
    pub(in crate::server) fn dispose(self, store: &Store, local: &mut Local) {
        if let State::Receiving(pending) = self.state {
            pending.abandon(store, local);
        }
        if let Some(mut unsent) = self.unsent {
            unsent.clear(store, local);
        }
    }

    /// Keeps input for the next time.
    pub(in crate::server) fn keep(&mut self, input: &[u8]) {
        let capacity = self.leftover.capacity();
        if input.is_empty() {
            // An idle connection owns no buffer.
            self.leftover = Vec::new();
        } else if (input.len()..=2 * input.len()).contains(&capacity) {
            self.leftover.clear();
            self.leftover.extend_from_slice(input);
        } else {
            self.leftover = input.to_vec();
        }
    }
}

impl Sent {
    /// Whether there is output left to send.
    pub(in crate::server) fn is_unfinished(self) -> bool {
        matches!(self, Self::Blocked | Self::Paused)
    }
}

/// Writes what of `output` is not sent.
fn write_from(stream: &mut Stream, output: &mut Output, counters: &Counters) -> Sent {
    let mut written = 0;
    while !output.is_empty() {
        if written >= SEND_MAX_BYTES {
            return Sent::Paused;
        }
        let result = match output.plain() {
            Some(bytes) => stream.write(bytes),
            None => write_pieces(stream, output),
        };
        match result {
            Ok(0) => return Sent::Lost,
            Ok(len) => {
                counters.bytes_written.add(len as u64);
                output.advance(len);
                written += len;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Sent::Blocked,
            Err(_) => return Sent::Lost,
        }
    }
    flush_stream(stream)
}

#[inline]
fn flush_stream(stream: &mut Stream) -> Sent {
    match stream.flush() {
        Ok(()) => Sent::All,
        Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Blocked,
        Err(_) => Sent::Lost,
    }
}

fn write_pieces(stream: &mut Stream, output: &Output) -> io::Result<usize> {
    let (mut slices, mut bytes) = (ArrayVec::<IoSlice<'_>, SLICES_MAX>::new(), 0);
    for piece in output.pieces().take(SLICES_MAX) {
        let wanted = piece.len().min(PREFETCH_BYTES.saturating_sub(bytes));
        prefetch_bytes(&piece[..wanted]);
        slices.push(IoSlice::new(piece));
        bytes += piece.len();
        if bytes >= SEND_MAX_BYTES {
            break;
        }
    }
    stream.write_vectored(&slices)
}
