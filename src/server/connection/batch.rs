//! Turning input into a batch of requests: parsed, with their values and the
//! hashes of their keys, ready to be prefetched and executed in order.

use arrayvec::ArrayVec;

use crate::limits::{BATCH_MAX, WAIT_FOR_BLOCK_BYTES};
use crate::protocol::binary::parse as binary;
use crate::protocol::request::{GetLine, Request};
use crate::protocol::text::parse::{Malformed, Parsed, parse};
use crate::store::Store;

/// Requests of several sockets that are prefetched together.
pub(in crate::server) const STEPS_MAX: usize = 2 * BATCH_MAX;

/// How a connection's requests are spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Spelling {
    /// Lines, classic and meta.
    Text,
    /// Packets.
    Binary,
}

/// One thing to do.
pub(in crate::server) enum Step<'a> {
    Execute {
        request: Request<'a>,
        hash: Option<u64>,
        /// The value block of a storage command.
        block: &'a [u8],
    },
    Refuse(Malformed),
}

/// Why a batch ends where it ends.
pub(in crate::server) enum Stop<'a> {
    /// The batch is full.
    Full,
    /// The rest is no whole command.
    Incomplete,
    /// A storage command whose value is still to come, behind the line.
    ValueToCome(Request<'a>),
    /// A value to be skipped.
    Swallow(usize),
    /// A retrieval line too long to wait for.
    LongGet { cas: bool },
    /// A line too long to wait for, which has had its answer.
    SkipLine,
    /// A line that does not end, or something that is no client.
    HangUp,
}

pub(in crate::server) type Steps<'a> = ArrayVec<Step<'a>, STEPS_MAX>;

/// Parses commands from `input` into `steps`, at most `limit` of them.
/// Returns the bytes used and why it stopped.
#[inline]
pub(in crate::server) fn parse_batch<'a>(
    store: &Store,
    spelling: Spelling,
    input: &'a [u8],
    steps: &mut Steps<'a>,
    limit: usize,
) -> (usize, Stop<'a>) {
    match spelling {
        Spelling::Text => parse_lines(store, input, steps, limit),
        Spelling::Binary => parse_packets(store, input, steps, limit),
    }
}

#[inline]
fn parse_lines<'a>(
    store: &Store,
    input: &'a [u8],
    steps: &mut Steps<'a>,
    limit: usize,
) -> (usize, Stop<'a>) {
    let mut used = 0;
    let end = (steps.len() + limit).min(STEPS_MAX);
    while steps.len() < end {
        let rest = &input[used..];
        if rest.is_empty() {
            return (used, Stop::Incomplete);
        }
        match parse(rest) {
            Parsed::Request(request, line) => {
                match push_request(store, request, &rest[line..], steps) {
                    Some(block) => used += line + block,
                    None => return wait_for_block(request, used, line),
                }
            }
            Parsed::Malformed(malformed, line) => {
                used += line;
                steps.push(Step::Refuse(malformed));
                if malformed.reply.is_none() {
                    return (used, Stop::HangUp);
                }
                if malformed.swallow > 0 {
                    return (used, Stop::Swallow(malformed.swallow));
                }
            }
            Parsed::Incomplete => return (used, Stop::Incomplete),
            Parsed::LongGet { cas, used: word } => return (used + word, Stop::LongGet { cas }),
            Parsed::LongError => {
                steps.push(Step::Refuse(Malformed {
                    reply: Some("ERROR"),
                    swallow: 0,
                }));
                return (used, Stop::SkipLine);
            }
            Parsed::Endless => return (used, Stop::HangUp),
        }
    }
    (used, Stop::Full)
}

fn parse_packets<'a>(
    store: &Store,
    input: &'a [u8],
    steps: &mut Steps<'a>,
    limit: usize,
) -> (usize, Stop<'a>) {
    let mut used = 0;
    let end = (steps.len() + limit).min(STEPS_MAX);
    while steps.len() < end {
        let rest = &input[used..];
        let (packet, front) = match binary::parse(rest) {
            binary::Parsed::Packet(packet, front) => (packet, front),
            binary::Parsed::Incomplete => return (used, Stop::Incomplete),
            binary::Parsed::BadMagic => return (used, Stop::HangUp),
        };
        let request = Request::Packet(packet);
        match push_request(store, request, &rest[front..], steps) {
            Some(block) => used += front + block,
            None => return wait_for_block(request, used, front),
        }
        if packet.value_len().is_none() && packet.rest > 0 {
            // A body that the command does not have.
            return (used, Stop::Swallow(packet.rest as usize));
        }
    }
    (used, Stop::Full)
}

/// The `get` of one key that the first steps are, its hash and how many there
/// are of it, if more than one.
#[inline]
pub(in crate::server) fn repeated_get<'s>(
    steps: &'s [Step<'_>],
) -> Option<(&'s GetLine<'s>, u64, usize)> {
    let same_hash = |step: &Step<'_>, hash: u64| matches!(step, Step::Execute { hash: Some(other), .. } if *other == hash);
    let [Step::Execute { request, hash, .. }, second, ..] = steps else {
        return None;
    };
    // Of neighbours that are not the same, this tells nearly all.
    let hash = hash.filter(|hash| same_hash(second, *hash))?;
    let Request::Get(line @ GetLine { touch: None, .. }) = request else {
        return None;
    };
    let is_same = |step: &&Step<'_>| {
        same_hash(step, hash)
            && matches!(step, Step::Execute { request: Request::Get(other), .. } if other == line)
    };
    let times = 1 + steps[1..].iter().take_while(is_same).count();
    (times > 1).then_some((line, hash, times))
}

/// Adds a request, if its value block stands whole in what follows it, and
/// returns the block's bytes.
#[inline]
fn push_request<'a>(
    store: &Store,
    request: Request<'a>,
    behind: &'a [u8],
    steps: &mut Steps<'a>,
) -> Option<usize> {
    let block = block_of(&request, behind)?;
    let hash = request.plain_key().map(|key| store.hashed(key).hash);
    steps.push(Step::Execute {
        request,
        hash,
        block,
    });
    Some(block.len())
}

/// How a batch ends at a request whose block has not arrived: so many bytes
/// were used before the request, which takes `front` without its block.
#[cold]
fn wait_for_block(request: Request<'_>, used: usize, front: usize) -> (usize, Stop<'_>) {
    if request.block_len().unwrap_or(0) <= WAIT_FOR_BLOCK_BYTES {
        return (used, Stop::Incomplete);
    }
    (used + front, Stop::ValueToCome(request))
}

/// The value block behind a request's line, empty for one that has none;
/// `None` while it is incomplete.
#[inline]
fn block_of<'a>(request: &Request<'_>, rest: &'a [u8]) -> Option<&'a [u8]> {
    match request.block_len() {
        None => Some(&[]),
        Some(len) => rest.get(..len),
    }
}
