//! Turning input into a batch of requests: parsed, with their values and the
//! hashes of their keys, ready to be prefetched and executed in order.

use arrayvec::ArrayVec;

use crate::limits::BATCH_MAX;
use crate::protocol::binary;
use crate::protocol::request::Request;
use crate::protocol::text::{Malformed, Parsed, parse};
use crate::store::Store;

/// Requests of several sockets that are prefetched together.
pub(super) const STEPS_MAX: usize = 2 * BATCH_MAX;

/// Value blocks up to this length are waited for in the read buffer; longer
/// ones are received into their item.
const WAIT_FOR_BLOCK_BYTES: usize = 4096;

/// How a connection's requests are spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Lines, classic and meta.
    Text,
    /// Packets.
    Binary,
}

/// One thing to do.
pub(super) enum Step<'a> {
    Execute {
        request: Request<'a>,
        hash: Option<u64>,
        /// The value block of a storage command.
        block: &'a [u8],
    },
    Refuse(Malformed),
}

/// Why a batch ends where it ends.
pub(super) enum Stop<'a> {
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
    /// A line that does not end, or something that is no client.
    HangUp,
}

pub(super) type Steps<'a> = ArrayVec<Step<'a>, STEPS_MAX>;

/// Parses commands from `input` into `steps`, at most `limit` of them.
/// Returns the bytes used and why it stopped.
#[inline]
pub(super) fn parse_batch<'a>(
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
                    Ok(block) => used += line + block,
                    Err(Stop::Incomplete) => return (used, Stop::Incomplete),
                    Err(stop) => return (used + line, stop),
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
        match push_request(store, Request::Packet(packet), &rest[front..], steps) {
            Ok(block) => used += front + block,
            Err(Stop::Incomplete) => return (used, Stop::Incomplete),
            Err(stop) => return (used + front, stop),
        }
        if packet.value_len().is_none() && packet.rest > 0 {
            // A body that the command does not have.
            return (used, Stop::Swallow(packet.rest as usize));
        }
    }
    (used, Stop::Full)
}

/// How many of the steps, from the first on, are one and the same `get` of one
/// key; at least 1.
#[inline]
pub(super) fn repeats(steps: &[Step<'_>]) -> usize {
    let Some(Step::Execute {
        request: first @ Request::Get(line),
        hash: Some(hash),
        ..
    }) = steps.first()
    else {
        return 1;
    };
    if line.touch.is_some() {
        return 1;
    }
    let is_same = |step: &&Step<'_>| {
        matches!(step, Step::Execute { request, hash: Some(other), .. }
            if other == hash && request == first)
    };
    1 + steps[1..].iter().take_while(is_same).count()
}

/// Adds a request, if its value block stands whole in what follows it, and
/// returns the block's bytes; else says what to wait for.
#[inline]
fn push_request<'a>(
    store: &Store,
    request: Request<'a>,
    behind: &'a [u8],
    steps: &mut Steps<'a>,
) -> Result<usize, Stop<'a>> {
    let Some(block) = block_of(&request, behind) else {
        let wanted = request.block_len().unwrap_or(0);
        if wanted <= WAIT_FOR_BLOCK_BYTES {
            return Err(Stop::Incomplete);
        }
        return Err(Stop::ValueToCome(request));
    };
    let hash = request.plain_key().map(|key| store.hashed(key).hash);
    steps.push(Step::Execute {
        request,
        hash,
        block,
    });
    Ok(block.len())
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
