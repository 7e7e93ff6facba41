//! Serving UDP: a datagram is a whole request, and nothing is kept from one to
//! the next. What is sent back is bounded, since the sender's address may be
//! somebody else's.

use std::io::ErrorKind;
use std::net::SocketAddr;

use crate::command::{After, Dump, StreamedReply};
use crate::config::ProtocolMode;
use crate::limits::BATCH_MAX;
use crate::protocol::binary::header::REQUEST_MAGIC;
use crate::protocol::request::Request;
use crate::protocol::text::encode;
use crate::protocol::udp::{DATAGRAM_MAX_BYTES, FRAME_BYTES, MULTI_PACKET, frame, parse};
use crate::protocol::verb::ControlVerb;
use crate::server::connection::batch::{Spelling, Step, Steps, Stop, parse_batch};
use crate::server::connection::context::Context;
use crate::server::transport::udp::Bound;

/// Bytes of an answer in one datagram.
const DATA_BYTES: usize = DATAGRAM_MAX_BYTES - FRAME_BYTES;
/// Datagrams received from one socket before others get their turn.
const DATAGRAMS_MAX: usize = 64;

/// What has become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    /// The answers stand in the output.
    Sent,
    /// They are more than may be sent.
    TooLarge,
}

/// The answer to who wants to be told of events without a connection.
const NO_WATCH: &str = "CLIENT_ERROR watch commands not allowed";

impl Context {
    /// Receives datagrams and answers each.
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
                // An answer that did not arrive is reported here.
                Err(_) => {}
            }
        }
    }

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

    /// Sends what stands in the output, in as many datagrams as it takes. One
    /// that the system does not take is lost like any other, and with it the
    /// use of the rest.
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

    /// Writes a list at once, as far as it may be sent.
    fn complete(&mut self, list: &mut Dump, limit: usize) {
        while list.step(&self.store, &self.shared, self.now, &mut self.out) {
            if self.out.len() > limit {
                return;
            }
        }
    }

    /// Executes the commands of a datagram. What is not whole is refused:
    /// there will be no more of it.
    fn serve_datagram(&mut self, payload: &[u8], protocol: ProtocolMode) -> Answered {
        let first_is_magic = payload.first() == Some(&REQUEST_MAGIC);
        let spelling = match protocol {
            ProtocolMode::Binary => Spelling::Binary,
            ProtocolMode::Auto if first_is_magic => Spelling::Binary,
            ProtocolMode::Auto | ProtocolMode::Ascii => Spelling::Text,
        };
        let limit = self.shared.config.udp_reply_limit;
        let pause_bytes = self.out.set_pause_bytes(limit + 1);
        let answered = self.serve_commands(payload, spelling, limit);
        self.out.set_pause_bytes(pause_bytes);
        answered
    }

    fn serve_commands(&mut self, payload: &[u8], spelling: Spelling, limit: usize) -> Answered {
        let mut used = 0;
        // Datagrams do not authenticate.
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
                    match self.run_step(step) {
                        After::Continue => {}
                        After::Paused { .. } => return Answered::TooLarge,
                        After::StreamedReply(StreamedReply::Dump(mut dump))
                            if !dump.walks_store() =>
                        {
                            self.complete(&mut dump, limit);
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
                Stop::HangUp => break,
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

/// Whether somebody wants to be told of events, for which there must be a
/// connection.
fn is_watch(step: &Step<'_>) -> bool {
    let Step::Execute { request, .. } = step else {
        return false;
    };
    let verb = ControlVerb::Watch;
    matches!(request, Request::Control { verb: asked, .. } if *asked == verb)
}
