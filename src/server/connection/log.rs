//! Log lines about connections.
//!
//! | level | logged |
//! |---|---|
//! | `-v` | errors and refused connections |
//! | `-vv` | connections, commands, and the first line of each reply |
//! | `-vvv` | the next state of a connection |
//!
//! Lines go to the queue of [`crate::logging`], so no caller waits for standard
//! error. A line above the current verbosity costs one load and is neither
//! formatted nor allocated. Keys come from clients: they are escaped and cut.
//! Values are never logged.

use std::fmt;
use std::net::SocketAddr;

use crate::protocol::binary::encode::MAGIC;
use crate::protocol::binary::header::HEADER_BYTES;
use crate::protocol::binary::packet::{Packet, Verb};
use crate::protocol::request::Request;
use crate::protocol::text::parse::ErrorReply;
use crate::protocol::verb::ControlVerb;
use crate::server::connection::batch::Step;
use crate::server::connection::outcome::Served;
use crate::shared::Shared;
use crate::sync::Ordering;

/// Most bytes of a client's input that one line shows.
const SHOWN_MAX: usize = 256;
/// Verbosity from which commands are logged.
const COMMANDS: u32 = 2;
/// Verbosity from which connection states are logged.
const STATES: u32 = 3;

/// Logs an event that an operator may want to act on, from `-v` on.
pub(in crate::server) fn notice(shared: &Shared, text: fmt::Arguments<'_>) {
    if level(shared) >= 1 {
        shared.log.put(text);
    }
}

/// Logs why a connection failed, from `-v` on. `peer` is `None` for a unix socket.
pub(in crate::server) fn failure(shared: &Shared, peer: Option<SocketAddr>, failure: &str) {
    match peer {
        Some(peer) => notice(shared, format_args!("{peer}: {failure}")),
        None => notice(shared, format_args!("{failure}")),
    }
}

/// Logs the outcome of a password authentication, from `-vv` on. Neither the
/// user nor the password is logged.
pub(in crate::server) fn login(shared: &Shared, admitted: bool) {
    if level(shared) >= COMMANDS {
        let outcome = if admitted { "accepted" } else { "refused" };
        shared.log.put(format_args!("< login {outcome}"));
    }
}

/// Logs a command. The caller has checked the verbosity.
pub(in crate::server) fn step(shared: &Shared, connection: i32, step: &Step<'_>) {
    match step {
        Step::Execute { request, .. } => {
            let request = Described(request);
            shared.log.put(format_args!("<{connection} {request}"));
        }
        Step::Refuse(malformed) => {
            let reply = match malformed.reply {
                ErrorReply::Line(reply) => reply,
                ErrorReply::Silent => "",
                ErrorReply::Close => "not a client",
            };
            shared
                .log
                .put(format_args!("<{connection} malformed: {reply}"));
        }
    }
}

/// Logs the first line of a text reply, or the opcode and status of a packet.
/// The caller has checked the verbosity.
pub(in crate::server) fn answer(shared: &Shared, connection: i32, answer: &[u8]) {
    if answer.is_empty() {
        return;
    }
    if answer[0] == MAGIC && answer.len() >= HEADER_BYTES {
        let (opcode, status) = (answer[1], u16::from_be_bytes([answer[6], answer[7]]));
        shared.log.put(format_args!(
            ">{connection} packet {opcode:#04x} status {status}"
        ));
    } else {
        let line = answer.split(|byte| *byte == b'\n').next();
        let line = Shown(line.unwrap_or_default().trim_ascii_end());
        shared.log.put(format_args!(">{connection} {line}"));
    }
}

/// Logs what a connection does next, from `-vvv` on.
#[inline]
pub(in crate::server) fn state(shared: &Shared, connection: i32, served: Served) {
    if level(shared) >= STATES {
        log_state(shared, connection, served);
    }
}

/// Logs a new connection, from `-vv` on. `peer` is `None` for a unix socket.
pub(in crate::server) fn opened(shared: &Shared, connection: i32, peer: Option<SocketAddr>) {
    if level(shared) >= COMMANDS {
        let peer = peer.map_or("a unix socket".to_owned(), |peer| peer.to_string());
        shared.log.put(format_args!(
            "<{connection} new client connection from {peer}"
        ));
    }
}

/// Logs the end of a connection, from `-vv` on.
pub(in crate::server) fn closed(shared: &Shared, connection: i32, reason: &str) {
    if level(shared) >= COMMANDS {
        shared
            .log
            .put(format_args!("<{connection} connection closed ({reason})"));
    }
}

#[cold]
fn log_state(shared: &Shared, connection: i32, served: Served) {
    let state = match served {
        Served::NeedInput => "waits for input",
        Served::Yielding => "has more to do and lets others go first",
        Served::Blocked => "waits for its client to take the answer",
        Served::Finished => "is to be closed",
        Served::Sending => "goes on with its answer when others had their turn",
        Served::Dumping => "goes on with a dump when others had their turn",
        Served::Leaving => "becomes a watcher",
    };
    shared.log.put(format_args!("={connection} {state}"));
}

fn level(shared: &Shared) -> u32 {
    shared.runtime.verbosity.load(Ordering::Relaxed)
}

/// Formats a request as its command and its keys or arguments.
struct Described<'a>(&'a Request<'a>);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            Request::Get(_) => "get",
            Request::Store(_) => "store",
            Request::Delete { .. } => "delete",
            Request::Arithmetic { .. } => "arithmetic",
            Request::Touch { .. } => "touch",
            Request::MetaGet(_) => "mg",
            Request::MetaSet(_) => "ms",
            Request::MetaDelete(_) => "md",
            Request::MetaArithmetic(_) => "ma",
            Request::MetaDebug { .. } => "me",
            Request::MetaNoop => "mn",
            Request::Invalidate { kind, name, .. } => {
                return write!(f, "invalidate {} {}", kind.name(), Shown(name));
            }
            Request::Packet(packet) => return describe_packet(f, packet),
            Request::Stats { arguments } => return with_arguments(f, "stats", arguments),
            Request::Control {
                verb, arguments, ..
            } => return with_arguments(f, control_name(*verb), arguments),
            other => return write!(f, "{other:?}"),
        };
        let key = match self.0 {
            Request::Get(line) => line.keys,
            other => other.plain_key().unwrap_or_default(),
        };
        write!(f, "{name} {}", Shown(key.trim_ascii()))
    }
}

fn describe_packet(f: &mut fmt::Formatter<'_>, packet: &Packet<'_>) -> fmt::Result {
    let (opcode, verb) = (packet.echo.opcode, packet.verb);
    // The key is the SASL mechanism. If the packet's lengths are wrong, it may
    // contain a part of the password.
    let key = match verb {
        Verb::SaslList | Verb::SaslAuth | Verb::SaslStep => &[],
        _ => packet.key,
    };
    write!(f, "packet {opcode:#04x} {} {verb:?}", Shown(key))
}

fn control_name(verb: ControlVerb) -> &'static str {
    match verb {
        ControlVerb::Lru => "lru",
        ControlVerb::LruCrawler => "lru_crawler",
        ControlVerb::Slabs => "slabs",
        ControlVerb::Watch => "watch",
        ControlVerb::Extstore => "extstore",
        ControlVerb::PrefixLimit => "prefix_limit",
        #[cfg(feature = "debugtime")]
        ControlVerb::DebugTime => "debugtime",
    }
}

fn with_arguments(f: &mut fmt::Formatter<'_>, name: &str, arguments: &[u8]) -> fmt::Result {
    match arguments.trim_ascii() {
        b"" => f.write_str(name),
        arguments => write!(f, "{name} {}", Shown(arguments)),
    }
}

/// Formats the first [`SHOWN_MAX`] bytes of a client's input, escaped.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = &self.0[..self.0.len().min(SHOWN_MAX)];
        cut.escape_ascii().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{SHOWN_MAX, Shown};

    #[test]
    fn what_clients_send_is_escaped_and_cut() {
        assert_eq!(Shown(b"a\x1b[2Jb\0\xff").to_string(), r"a\x1b[2Jb\x00\xff");
        assert!(Shown(&[b'\n'; 10_000]).to_string().len() <= 4 * SHOWN_MAX);
    }
}
