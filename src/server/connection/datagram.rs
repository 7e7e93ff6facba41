//! Serving UDP. Each datagram is a complete request, and no state is kept
//! between datagrams.
//!
//! The size of a reply is bounded (`--udp-reply-limit`), since the sender's
//! address may be spoofed.

use std::io::ErrorKind;
use std::net::SocketAddr;

use crate::command::{After, AwaitedBlock, Dump, StreamedReply};
use crate::config::ProtocolMode;
use crate::limits::BATCH_MAX;
use crate::protocol::binary::header::REQUEST_MAGIC;
use crate::protocol::request::Request;
use crate::protocol::text::encode;
use crate::protocol::udp::{DATAGRAM_MAX_BYTES, FRAME_BYTES, MULTI_PACKET, frame, parse};
use crate::protocol::verb::ControlVerb;
use crate::server::connection::batch::{Step, Steps, Stop, WireProtocol, parse_batch};
use crate::server::connection::context::Context;
use crate::server::transport::udp::Bound;

/// Bytes of reply data per datagram.
const DATA_BYTES: usize = DATAGRAM_MAX_BYTES - FRAME_BYTES;
/// Most datagrams received from one socket per turn.
const DATAGRAMS_MAX: usize = 64;

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    /// The reply is in the output buffer. It may be empty.
    Sent,
    /// The reply exceeds the limit and is dropped.
    TooLarge,
}

/// Reply to `config set`, since the sender's address may be spoofed.
const NO_CONFIG: &str = "CLIENT_ERROR config set not allowed";

/// Reply to `watch`, which needs a connection.
const NO_WATCH: &str = "CLIENT_ERROR watch commands not allowed";

impl Context {
    /// Receives up to [`DATAGRAMS_MAX`] datagrams and answers each.
    pub(in crate::server) fn serve_datagrams(&mut self, socket: &mut Bound, buffer: &mut [u8]) {
        for _ in 0..DATAGRAMS_MAX {
            match socket.receive(buffer) {
                Ok((len, client)) => {
                    self.local.counters.bytes_read.add(len as u64);
                    self.answer(socket, &buffer[..len], client);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    socket.readable = false;
                    return;
                }
                // The system reports here that an earlier reply could not be
                // delivered.
                Err(_) => {}
            }
        }
    }

    /// Answers one datagram. A datagram without a valid frame is ignored. A
    /// request split over several datagrams gets the error [`MULTI_PACKET`], as
    /// in memcached.
    fn answer(&mut self, socket: &Bound, bytes: &[u8], client: SocketAddr) {
        let Some(request) = parse(bytes) else {
            return;
        };
        self.local.counters.udp_requests.add(1);
        self.attend(socket.fd());
        let answered = if request.total == 1 {
            self.serve_datagram(request.payload, socket.protocol)
        } else {
            encode::line(&mut self.out.bytes, MULTI_PACKET);
            Answered::Sent
        };
        match answered {
            Answered::Sent => self.send_datagrams(socket, request.id, client),
            Answered::TooLarge => self.local.counters.udp_dropped.add(1),
        }
        self.out.clear(&self.store, &mut self.local);
    }

    /// Sends the output buffer in as many datagrams as it needs. If the system
    /// refuses one, the client cannot use the rest, so the rest is not sent.
    fn send_datagrams(&self, socket: &Bound, id: u16, client: SocketAddr) {
        let mut answer: Vec<u8> = Vec::with_capacity(self.out.len());
        for piece in self.out.pieces() {
            answer.extend_from_slice(piece);
        }
        let Ok(total) = u16::try_from(answer.len().div_ceil(DATA_BYTES)) else {
            return self.local.counters.udp_dropped.add(1);
        };
        for (data, sequence) in answer.chunks(DATA_BYTES).zip(0..) {
            let datagram = [&frame(id, sequence, total)[..], data].concat();
            match socket.send(&datagram, client) {
                Ok(len) => self.local.counters.bytes_written.add(len as u64),
                Err(_) => return self.local.counters.udp_dropped.add(1),
            }
        }
    }

    /// Writes a listing to its end, or until the output exceeds `limit`.
    fn complete(&mut self, list: &mut Dump, limit: usize) {
        while list.step(&self.store, &self.shared, self.now, &mut self.out) {
            if self.out.len() > limit {
                return;
            }
        }
    }

    /// Executes the commands of a datagram. An incomplete command is refused,
    /// since no more input follows.
    fn serve_datagram(&mut self, payload: &[u8], protocol: ProtocolMode) -> Answered {
        let first_is_magic = payload.first() == Some(&REQUEST_MAGIC);
        let spelling = match protocol {
            ProtocolMode::Binary => WireProtocol::Binary,
            ProtocolMode::Auto if first_is_magic => WireProtocol::Binary,
            ProtocolMode::Auto | ProtocolMode::Ascii => WireProtocol::Text,
        };
        let limit = self.shared.config.udp_reply_limit;
        let pause_bytes = self.out.set_pause_bytes(limit + 1);
        let answered = self.serve_commands(payload, spelling, limit);
        self.out.set_pause_bytes(pause_bytes);
        answered
    }

    /// Executes the commands in `payload`. Stops when the output exceeds
    /// `limit`.
    fn serve_commands(&mut self, payload: &[u8], spelling: WireProtocol, limit: usize) -> Answered {
        let mut used = 0;
        // Datagrams cannot authenticate, so they get no reply.
        if self.is_guarded() || self.shared.passwords.is_some() {
            return Answered::Sent;
        }
        while used < payload.len() {
            let mut steps = Steps::new();
            let rest = &payload[used..];
            let (len, stop) = parse_batch(&self.store, spelling, rest, &mut steps, BATCH_MAX);
            used += len;
            self.prefetch(&steps);
            for step in &steps {
                if is_watch(step) {
                    encode::line(&mut self.out.bytes, NO_WATCH);
                } else {
                    self.timing.count(std::slice::from_ref(step));
                    match self.run_step(step) {
                        After::Continue => {}
                        After::Paused { .. } => return Answered::TooLarge,
                        After::StreamedReply(StreamedReply::Dump(mut dump))
                            if !dump.walks_store() =>
                        {
                            self.complete(&mut dump, limit);
                        }
                        After::Block(AwaitedBlock::Cluster { .. }) => {
                            encode::line(&mut self.out.bytes, NO_CONFIG);
                            return Answered::Sent;
                        }
                        _ => return Answered::Sent,
                    }
                }
                if self.out.len() > limit {
                    return Answered::TooLarge;
                }
            }
            match stop {
                Stop::Full => {}
                Stop::Swallow(len) => used += len,
                Stop::Close => break,
                Stop::Incomplete if used == payload.len() => {}
                Stop::Incomplete | Stop::ValueToCome(_) | Stop::LongGet { .. } | Stop::SkipLine => {
                    encode::line(&mut self.out.bytes, MULTI_PACKET);
                    break;
                }
            }
        }
        Answered::Sent
    }
}

/// Returns whether a step is the command `watch`.
fn is_watch(step: &Step<'_>) -> bool {
    let Step::Execute { request, .. } = step else {
        return false;
    };
    let verb = ControlVerb::Watch;
    matches!(request, Request::Control { verb: asked, .. } if *asked == verb)
}
