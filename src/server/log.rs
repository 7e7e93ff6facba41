//! What `-v` (errors and refusals), `-vv` (connections, commands and the first
//! line of each answer) and `-vvv` (what a connection does next) tell on
//! standard error. Keys come from clients: they are escaped and cut, so that
//! neither terminals nor log files are at risk. Values are never told.

use std::net::SocketAddr;

use crate::protocol::binary::encode::MAGIC;
use crate::protocol::binary::{HEADER_BYTES, Packet, Verb};
use crate::protocol::request::{ControlVerb, Request};
use crate::server::batch::Step;
use crate::server::drive::Served;
use crate::shared::Shared;
use crate::sync::Ordering;

/// Bytes of a client's input that one line shows.
const SHOWN_MAX: usize = 256;
/// Level from which on commands are told.
const COMMANDS: u32 = 2;
/// Level from which on it is told what connections do next.
const STATES: u32 = 3;

/// Logs something that operators may want to change, from `-v` on.
pub(super) fn notice(shared: &Shared, text: &str) {
    if level(shared) >= 1 {
        eprintln!("{text}");
    }
}

/// Logs, at `-vv`, that somebody tried to log in; not who, nor with what.
pub(super) fn login(shared: &Shared, admitted: bool) {
    if level(shared) >= COMMANDS {
        let outcome = if admitted { "accepted" } else { "refused" };
        eprintln!("< login {outcome}");
    }
}

/// Logs a command.
pub(super) fn step(connection: i32, step: &Step<'_>) {
    match step {
        Step::Execute { request, .. } => eprintln!("<{connection} {}", describe(request)),
        Step::Refuse(malformed) => {
            let answer = malformed.reply.unwrap_or("not a client");
            eprintln!("<{connection} malformed: {answer}");
        }
    }
}

/// Logs the first line of a command's answer, or the status of a packet.
pub(super) fn answer(connection: i32, answer: &[u8]) {
    if answer.is_empty() {
        return;
    }
    if answer[0] == MAGIC && answer.len() >= HEADER_BYTES {
        let status = u16::from_be_bytes([answer[6], answer[7]]);
        eprintln!(">{connection} packet {:#04x} status {status}", answer[1]);
    } else {
        let line = answer.split(|byte| *byte == b'\n').next();
        let line = line.unwrap_or_default().trim_ascii_end();
        eprintln!(">{connection} {}", shown(line));
    }
}

/// Logs what a connection does next.
#[inline]
pub(super) fn state(shared: &Shared, connection: i32, served: Served) {
    if level(shared) >= STATES {
        tell_state(connection, served);
    }
}

/// Logs a new connection.
pub(super) fn opened(shared: &Shared, connection: i32, peer: Option<SocketAddr>) {
    if level(shared) >= COMMANDS {
        match peer {
            Some(peer) => eprintln!("<{connection} new client connection from {peer}"),
            None => eprintln!("<{connection} new client connection from a unix socket"),
        }
    }
}

/// Logs the end of a connection.
pub(super) fn closed(shared: &Shared, connection: i32, reason: &str) {
    if level(shared) >= COMMANDS {
        eprintln!("<{connection} connection closed ({reason})");
    }
}

#[cold]
fn tell_state(connection: i32, served: Served) {
    let state = match served {
        Served::Hungry => "waits for input",
        Served::Yielding => "has more to do and lets others go first",
        Served::Blocked => "waits for its client to take the answer",
        Served::Finished => "is to be closed",
        Served::Sending => "goes on with its answer when others had their turn",
        Served::Dumping => "goes on with a dump when others had their turn",
        Served::Leaving => "becomes a watcher",
    };
    eprintln!("={connection} {state}");
}

fn level(shared: &Shared) -> u32 {
    shared.runtime.verbosity.load(Ordering::Relaxed)
}

fn describe(request: &Request<'_>) -> String {
    let name = match request {
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
        Request::Packet(packet) => return describe_packet(packet),
        Request::Stats { arguments } => return with_arguments("stats", arguments),
        Request::Control {
            verb, arguments, ..
        } => return with_arguments(control_name(*verb), arguments),
        other => return shown(format!("{other:?}").as_bytes()),
    };
    let key = match request {
        Request::Get(line) => line.keys,
        other => other.plain_key().unwrap_or_default(),
    };
    format!("{name} {}", shown(key.trim_ascii()))
}

fn describe_packet(packet: &Packet<'_>) -> String {
    let (opcode, verb) = (packet.echo.opcode, packet.verb);
    // What says that it is a mechanism may, with lengths that lie, be a secret.
    let key = match verb {
        Verb::SaslList | Verb::SaslAuth | Verb::SaslStep => String::new(),
        _ => shown(packet.key),
    };
    format!("packet {opcode:#04x} {key} {verb:?}")
}

fn control_name(verb: ControlVerb) -> &'static str {
    match verb {
        ControlVerb::Lru => "lru",
        ControlVerb::LruCrawler => "lru_crawler",
        ControlVerb::Slabs => "slabs",
        ControlVerb::Watch => "watch",
        ControlVerb::Extstore => "extstore",
        #[cfg(feature = "debugtime")]
        ControlVerb::DebugTime => "debugtime",
    }
}

fn with_arguments(name: &str, arguments: &[u8]) -> String {
    match arguments.trim_ascii() {
        b"" => name.to_owned(),
        arguments => format!("{name} {}", shown(arguments)),
    }
}

fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN_MAX)];
    cut.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::{SHOWN_MAX, shown};

    #[test]
    fn what_clients_send_is_escaped_and_cut() {
        assert_eq!(shown(b"a\x1b[2Jb\0\xff"), r"a\x1b[2Jb\x00\xff");
        assert!(shown(&[b'\n'; 10_000]).len() <= 4 * SHOWN_MAX);
    }
}
