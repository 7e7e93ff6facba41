//! State of one connection: its stream, its position in a command, and its
//! unsent output. It owns memory only for an incomplete command or unsent
//! output.

use std::io::{self, ErrorKind, IoSlice};

use arrayvec::ArrayVec;

use crate::command::{Dump, Output, Parked, Pending, SaslState};
use crate::config::ProtocolMode;
use crate::events::Filter;
use crate::protocol::binary::header::{HEADER_BYTES, REQUEST_MAGIC};
use crate::protocol::request::ClusterBlock;
use crate::server::connection::batch::WireProtocol;
use crate::server::transport::stream::Stream;
use crate::stats::{ConnState, ConnTable, Counters};
use crate::store::{Local, Store, prefetch_bytes};

/// Most bytes sent to one client per turn. Otherwise a fast reader would occupy
/// its worker for as long as a large value takes.
const SEND_MAX_BYTES: usize = 512 * 1024;
/// Most pieces in one `writev`.
const SLICES_MAX: usize = 64;

/// Bytes of large values that are prefetched before the kernel copies them.
/// About as many as a socket takes at once, and few enough to fit into the
/// processor's cache.
const PREFETCH_BYTES: usize = 256 * 1024;

/// Position of a connection in its input.
pub(in crate::server) enum State {
    /// Nothing was received yet. The first byte selects the protocol.
    New,
    /// Waiting for a password (`-Y`). No command is parsed before.
    Locked,
    /// Waiting for a command.
    Command,
    /// Receiving a value into its item.
    Receiving(Pending),
    /// Receiving a value whose state is parked.
    Parked,
    /// Skipping this many bytes: the data block of a refused command.
    Swallowing(usize),
    /// Receiving the list of `config set cluster`, which is short.
    ReceivingList {
        /// Flags and length.
        block: ClusterBlock,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// Within a retrieval, at its next key: the line is too long to be
    /// buffered, or the client must read some of the reply first.
    LongGet {
        /// The command is `gets` or `gats`.
        cas: bool,
        /// New expiry time of `gat` and `gats`; `None` for `get` and `gets`.
        touch: Option<i32>,
    },
    /// Skipping the rest of a long line after an error in it.
    SkippingLine,
    /// Streaming a dump, as fast as the client reads.
    Dumping(Box<Dump>),
    /// To be handed over to the log thread, as a watcher.
    Watching(Filter),
}

/// One client connection.
pub(in crate::server) struct Connection {
    /// Its socket, perhaps with TLS.
    pub(in crate::server) stream: Stream,
    /// Position in its input.
    pub(in crate::server) state: State,
    /// Input that was read but not used: an incomplete command, or commands
    /// left for the next turn.
    pub(in crate::server) leftover: Vec<u8>,
    /// Output that the socket has not taken.
    unsent: Option<Box<Output>>,
    /// Second of arrival while the header of the PROXY protocol is awaited.
    pub(in crate::server) awaits_header: Option<u32>,
    /// Protocol of the listener. `Auto` is replaced at the first byte.
    pub(in crate::server) protocol: ProtocolMode,
    /// State of its authentication.
    pub(in crate::server) login: SaslState,
    /// Set while the connection is in a queue of its worker.
    pub(in crate::server) queued: bool,
    /// Set if its last turn did not finish its work.
    pub(in crate::server) busy: bool,
    /// Set when the peer will send no more. The worker then reads to the end of
    /// the input, even without an event.
    pub(in crate::server) hung_up: bool,
    /// Set while the socket may have input.
    pub(in crate::server) readable: bool,
    /// Set if `leftover` may hold complete commands.
    pub(in crate::server) unserved: bool,
    /// Close once all output is sent.
    pub(in crate::server) closing: bool,
    /// Reason of the close as watchers see it.
    pub(in crate::server) close_reason: &'static str,
    /// Second in which the last command began or the last unsent reply was
    /// finished.
    pub(in crate::server) active: u32,
    /// Set while state of it is parked in `command::Stalled`.
    pub(in crate::server) parked: bool,
    /// Set while its output is parked there.
    output_parked: bool,
    /// Wake-up that reported the oldest input that is not served, in
    /// nanoseconds of the server's clock.
    pub(in crate::server) woken: u64,
    /// Time of the client's last progress, reading or sending, in milliseconds
    /// of the server's clock.
    pub(in crate::server) progressed: u64,
    /// Bytes of a value received since other connections had their turn.
    pub(in crate::server) received: usize,
    /// Bytes of the body of the packet that is answered by a dump: skipped when
    /// the dump is over.
    pub(in crate::server) skip_after_dump: usize,
    /// Bytes of incomplete input and TLS output as of the last accounting.
    pub(in crate::server) kept: usize,
    /// State as of the last update of the connection table.
    shown: ConnState,
}

/// Result of sending output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Sent {
    /// All output is sent.
    All,
    /// The socket takes no more for now.
    Blocked,
    /// The turn's share is sent; the socket may take more.
    Paused,
    /// The connection is lost.
    Lost,
}

impl Connection {
    /// Creates a connection that was accepted in `second` of the server's
    /// clock.
    pub(in crate::server) fn new(stream: Stream, protocol: ProtocolMode, second: u32) -> Self {
        Self {
            stream,
            state: State::New,
            leftover: Vec::new(),
            unsent: None,
            awaits_header: None,
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
            woken: 0,
            progressed: u64::from(second) * 1000,
            received: 0,
            skip_after_dump: 0,
            kept: 0,
            shown: ConnState::New,
        }
    }

    /// Updates the state in the connection table, if it has changed.
    #[inline]
    pub(in crate::server) fn show(&mut self, table: &ConnTable) {
        let doing = match self.state {
            _ if self.is_blocked() => ConnState::Sending,
            State::New | State::Locked => ConnState::New,
            State::Receiving(_) | State::ReceivingList { .. } | State::Parked => {
                ConnState::Receiving
            }
            State::Swallowing(_) | State::SkippingLine => ConnState::Swallowing,
            _ if !self.unserved && self.lacks_value() => ConnState::Receiving,
            _ => ConnState::Waiting,
        };
        if doing != self.shown {
            self.shown = doing;
            table.set_state(self.stream.fd(), doing);
        }
    }

    /// Returns whether `leftover` is a command without its complete data block.
    fn lacks_value(&self) -> bool {
        match self.protocol {
            _ if self.leftover.is_empty() => false,
            ProtocolMode::Binary => self.leftover.len() >= HEADER_BYTES,
            _ => memchr::memchr(b'\n', &self.leftover).is_some(),
        }
    }

    /// Returns whether a dump is being streamed.
    pub(in crate::server) fn is_dumping(&self) -> bool {
        matches!(self.state, State::Dumping(_))
    }

    /// Returns the wire protocol. On the first input of a connection in mode
    /// `Auto`, selects it by the first byte.
    pub(in crate::server) fn wire_protocol(&mut self, input: &[u8]) -> WireProtocol {
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
            ProtocolMode::Binary => WireProtocol::Binary,
            ProtocolMode::Ascii | ProtocolMode::Auto => WireProtocol::Text,
        }
    }

    /// Returns whether there is unsent output.
    pub(in crate::server) fn is_blocked(&self) -> bool {
        self.unsent.is_some() || self.output_parked || self.stream.has_unsent()
    }

    /// Returns the second in which the connection was last active.
    ///
    /// Between commands that is the second of the last command or reply. Within
    /// a value or a reply it is the second of the client's last progress.
    pub(in crate::server) fn last_active(&self) -> u32 {
        let no_value = self.is_awaiting_command() && !self.keeps_part_of_value();
        match no_value && !self.is_blocked() {
            true => self.active,
            false => self.active.max((self.progressed / 1000) as u32),
        }
    }

    /// Returns the second of arrival while a PROXY header or a TLS handshake is
    /// incomplete.
    pub(in crate::server) fn handshaking_since(&self) -> Option<u32> {
        let handshake = || self.stream.handshaking_since();
        self.awaits_header.or_else(handshake)
    }

    fn is_awaiting_command(&self) -> bool {
        matches!(self.state, State::New | State::Locked | State::Command)
    }

    /// Returns whether nothing of a command has been received, and all replies
    /// are sent.
    pub(in crate::server) fn is_between_commands(&self) -> bool {
        self.is_awaiting_command() && !self.is_blocked() && self.leftover.is_empty()
    }

    /// Returns whether `leftover` is a request without its complete data block.
    /// An incomplete command line does not count: its client may be
    /// disconnected sooner.
    fn keeps_part_of_value(&self) -> bool {
        self.leftover.first() == Some(&REQUEST_MAGIC) || self.leftover.contains(&b'\n')
    }

    /// Returns whether there is state to be parked.
    #[inline]
    pub(in crate::server) fn is_stalled(&self) -> bool {
        self.unsent.is_some() || matches!(self.state, State::Receiving(_))
    }

    /// Takes the unsent output and the half-received value out of the
    /// connection, to be parked. `None` if there is neither.
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

    /// Restores state that was parked.
    pub(in crate::server) fn resume(&mut self, parked: Parked) {
        (self.parked, self.output_parked) = (false, false);
        self.unsent = parked.output;
        if let Some(pending) = parked.pending {
            self.state = State::Receiving(pending);
        }
    }

    /// Returns the bytes of memory for incomplete input, and for output that the
    /// TLS session buffers.
    #[inline]
    pub(in crate::server) fn input_bytes(&self) -> usize {
        self.leftover.capacity() + self.stream.session_bytes()
    }

    /// Sends the output of a batch. Output that the socket does not take stays
    /// with the connection.
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

    /// Continues to send unsent output.
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

    /// Releases the items and the memory that the connection holds.
    pub(in crate::server) fn dispose(self, store: &Store, local: &mut Local) {
        if let State::Receiving(pending) = self.state {
            pending.abandon(store, local);
        }
        if let Some(mut unsent) = self.unsent {
            unsent.clear(store, local);
        }
    }

    /// Keeps unused input for the next turn.
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
    /// Returns whether output is left to send.
    pub(in crate::server) fn is_unfinished(self) -> bool {
        matches!(self, Self::Blocked | Self::Paused)
    }
}

/// Writes unsent output, at most about [`SEND_MAX_BYTES`].
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

/// Writes pieces of the output with one system call, after prefetching them.
fn write_pieces(stream: &mut Stream, output: &Output) -> io::Result<usize> {
    let (mut slices, mut bytes) = (ArrayVec::<IoSlice<'_>, SLICES_MAX>::new(), 0);
    let limit = stream.write_limit();
    // What this write does not take is prefetched before the next one.
    let prefetched = limit.unwrap_or(PREFETCH_BYTES).min(PREFETCH_BYTES);
    let most = limit.unwrap_or(SEND_MAX_BYTES).min(SEND_MAX_BYTES);
    for piece in output.pieces().take(SLICES_MAX) {
        let wanted = piece.len().min(prefetched.saturating_sub(bytes));
        prefetch_bytes(&piece[..wanted]);
        slices.push(IoSlice::new(piece));
        bytes += piece.len();
        if bytes >= most {
            break;
        }
    }
    stream.write_vectored(&slices)
}
