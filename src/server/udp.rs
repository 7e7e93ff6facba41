//! UDP: every worker has a socket of its own for each address, and the system
//! deals the datagrams out among them. A datagram is a whole request; nothing
//! is kept from one to the next. What is sent back is bounded, since the
//! sender's address may be somebody else's.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::command::{After, Dump, StreamedReply};
use crate::config::{Config, Datagrams, ProtocolMode};
use crate::limits::BATCH_MAX;
use crate::protocol::binary::REQUEST_MAGIC;
use crate::protocol::encode;
use crate::protocol::request::{ControlVerb, Request};
use crate::protocol::udp::{DATAGRAM_MAX_BYTES, FRAME_BYTES, MULTI_PACKET, frame, parse};
use crate::server::StartError;
use crate::server::batch::{Spelling, Step, Steps, Stop, parse_batch};
use crate::server::drive::Context;
use crate::server::listen::lacks_family;

/// Bytes of an answer in one datagram.
const DATA_BYTES: usize = DATAGRAM_MAX_BYTES - FRAME_BYTES;
/// Datagrams received from one socket before others get their turn.
const DATAGRAMS_MAX: usize = 64;

/// The answer to who wants to be told of events without a connection.
const NO_WATCH: &str = "CLIENT_ERROR watch commands not allowed";

/// One worker's socket for an address.
pub(super) struct Bound {
    socket: UdpSocket,
    protocol: ProtocolMode,
    /// Datagrams may be waiting.
    pub(super) readable: bool,
}

/// What has become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    /// The answers stand in the output.
    Sent,
    /// They are more than may be sent.
    TooLarge,
}

/// Binds the sockets of all workers, a list for each. An ephemeral port is
/// the same for all of them.
pub(super) fn bind_all(config: &Config) -> Result<Vec<Vec<Bound>>, StartError> {
    let mut workers: Vec<Vec<Bound>> = (0..config.threads).map(|_| Vec::new()).collect();
    let mut ephemeral = 0;
    for place in &config.udp {
        let mut address = place.address;
        if address.port() == 0 {
            address.set_port(ephemeral);
        }
        for (index, worker) in workers.iter_mut().enumerate() {
            let socket = match bind(address, index == 0) {
                Ok(socket) => socket,
                Err(error) if place.optional && lacks_family(&error) => break,
                Err(error) => return Err(StartError::udp(address, error)),
            };
            if let Ok(bound) = socket.local_addr() {
                address = bound;
            }
            worker.push(Bound::new(socket, place));
        }
        if place.address.port() == 0 {
            ephemeral = address.port();
        }
    }
    Ok(workers)
}

/// Binds one of the sockets that share an address, the first of which must
/// find it free: others who share ports would take a part of the requests.
fn bind(address: SocketAddr, first: bool) -> io::Result<UdpSocket> {
    if first && address.port() != 0 {
        open(address)?.bind(&address.into())?;
    }
    let socket = open(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Bound {
    fn new(socket: UdpSocket, place: &Datagrams) -> Self {
        Self {
            socket,
            protocol: place.protocol,
            readable: true,
        }
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// Its descriptor and its address, as operators are told of them.
    pub(super) fn about(&self) -> (i32, String) {
        let name = match self.local_addr() {
            Some(address) if address.is_ipv4() => format!("udp:{address}"),
            Some(address) => format!("udp6:{address}"),
            None => String::new(),
        };
        (self.socket.as_raw_fd(), name)
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE)
    }

    /// Receives datagrams and answers each.
    pub(super) fn serve(&mut self, context: &mut Context, buffer: &mut [u8]) {
        for _ in 0..DATAGRAMS_MAX {
            match self.socket.recv_from(buffer) {
                Ok((len, client)) => {
                    context.local.counters.bytes_read.add(len as u64);
                    self.answer(context, &buffer[..len], client);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return;
                }
                // An answer that did not arrive is reported here.
                Err(_) => {}
            }
        }
    }

    fn answer(&mut self, context: &mut Context, bytes: &[u8], client: SocketAddr) {
        let Some(request) = parse(bytes) else {
            return;
        };
        context.local.counters.udp_requests.add(1);
        let answered = if request.total == 1 {
            context.serve_datagram(request.payload, self.protocol)
        } else {
            encode::line(&mut context.out.bytes, MULTI_PACKET);
            Answered::Sent
        };
        match answered {
            Answered::Sent => self.send(context, request.id, client),
            Answered::TooLarge => context.local.counters.udp_dropped.add(1),
        }
        context.out.clear(&context.store, &mut context.local);
    }

    /// Sends what stands in the output, in as many datagrams as it takes. One
    /// that the system does not take is lost like any other, and with it the
    /// use of the rest.
    fn send(&self, context: &mut Context, id: u16, client: SocketAddr) {
        let mut answer: Vec<u8> = Vec::with_capacity(context.out.len());
        for piece in context.out.pieces() {
            answer.extend_from_slice(piece);
        }
        let Ok(total) = u16::try_from(answer.len().div_ceil(DATA_BYTES)) else {
            return context.local.counters.udp_dropped.add(1);
        };
        for (data, sequence) in answer.chunks(DATA_BYTES).zip(0..) {
            let datagram = [&frame(id, sequence, total)[..], data].concat();
            match self.socket.send_to(&datagram, client) {
                Ok(len) => context.local.counters.bytes_written.add(len as u64),
                Err(_) => return context.local.counters.udp_dropped.add(1),
            }
        }
    }
}

impl Context {
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
