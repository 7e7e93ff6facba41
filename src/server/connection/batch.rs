//! Parsing input into a batch of requests, with their data blocks and key
//! hashes, ready to be prefetched and executed in order.

use arrayvec::ArrayVec;

use crate::limits::{BATCH_MAX, WAIT_FOR_BLOCK_BYTES};
use crate::protocol::binary::parse as binary;
use crate::protocol::request::{GetLine, Request};
use crate::protocol::text::parse::{ErrorReply, Malformed, Parsed, parse};
use crate::store::Store;

/// Most requests of one batch, over all its sockets.
pub(in crate::server) const STEPS_MAX: usize = 2 * BATCH_MAX;

/// Wire protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum WireProtocol {
    /// Text lines, classic and meta commands.
    Text,
    /// Binary packets.
    Binary,
}

/// One element of a batch.
pub(in crate::server) enum Step<'a> {
    /// Execute a request.
    Execute {
        /// The parsed request.
        request: Request<'a>,
        /// Hash of its key; `None` if it has none or several.
        hash: Option<u64>,
        /// Data block of a storage command, its CRLF included; empty for other
        /// commands.
        block: &'a [u8],
    },
    /// Reply with the error of a malformed request.
    Refuse(Malformed),
}

/// Why parsing a batch ended.
pub(in crate::server) enum Stop<'a> {
    /// The batch is full.
    Full,
    /// The remaining input is not a complete command.
    Incomplete,
    /// A storage command is complete but for its data block.
    ValueToCome(Request<'a>),
    /// Skip this many bytes: the data block or body of a refused request.
    Swallow(usize),
    /// A retrieval line that is too long to be buffered.
    LongGet { cas: bool },
    /// A line that is too long to be buffered and has had its error reply. Skip
    /// the rest of it.
    SkipLine,
    /// Close the connection: the line is endless, or the peer is no memcached
    /// client.
    Close,
}

/// The steps of one batch.
pub(in crate::server) type Steps<'a> = ArrayVec<Step<'a>, STEPS_MAX>;

/// Parses at most `limit` commands from `input` and appends them to `steps`.
/// Returns the bytes used and why parsing ended.
#[inline]
pub(in crate::server) fn parse_batch<'a>(
    store: &Store,
    spelling: WireProtocol,
    input: &'a [u8],
    steps: &mut Steps<'a>,
    limit: usize,
) -> (usize, Stop<'a>) {
    match spelling {
        WireProtocol::Text => parse_lines(store, input, steps, limit),
        WireProtocol::Binary => parse_packets(store, input, steps, limit),
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
                if malformed.reply == ErrorReply::Close {
                    return (used, Stop::Close);
                }
                if malformed.swallow > 0 {
                    return (used, Stop::Swallow(malformed.swallow));
                }
            }
            Parsed::Incomplete => return (used, Stop::Incomplete),
            Parsed::LongGet { cas, used: word } => return (used + word, Stop::LongGet { cas }),
            Parsed::LongError => {
                steps.push(Step::Refuse(Malformed {
                    reply: ErrorReply::Line("ERROR"),
                    swallow: 0,
                }));
                return (used, Stop::SkipLine);
            }
            Parsed::TooLong => return (used, Stop::Close),
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
            binary::Parsed::BadMagic => return (used, Stop::Close),
        };
        let request = Request::Packet(packet);
        match push_request(store, request, &rest[front..], steps) {
            Some(block) => used += front + block,
            None => return wait_for_block(request, used, front),
        }
        if packet.value_len().is_none() && packet.rest > 0 {
            // A body that this command must not have.
            return (used, Stop::Swallow(packet.rest as usize));
        }
    }
    (used, Stop::Full)
}

/// Returns the `get` line with which `steps` begin, the hash of its key, and
/// how often the same line repeats. `None` if the line is not repeated or not a
/// `get` of one key.
#[inline]
pub(in crate::server) fn repeated_get<'s>(
    steps: &'s [Step<'_>],
) -> Option<(&'s GetLine<'s>, u64, usize)> {
    let same_hash = |step: &Step<'_>, hash: u64| matches!(step, Step::Execute { hash: Some(other), .. } if *other == hash);
    let [Step::Execute { request, hash, .. }, second, ..] = steps else {
        return None;
    };
    // A cheap test first: it rules out nearly all different neighbours.
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

/// Appends a request whose data block is complete in `behind`, the input after
/// its line or header. Returns the length of the block; `None` if it is
/// incomplete.
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

/// Ends a batch at a request whose data block is incomplete. `used` is the
/// bytes before the request, `front` its length without the block.
///
/// Waits in the read buffer for a small block. A larger one is received
/// directly into its item.
#[cold]
fn wait_for_block(request: Request<'_>, used: usize, front: usize) -> (usize, Stop<'_>) {
    if request.block_len().unwrap_or(0) <= WAIT_FOR_BLOCK_BYTES {
        return (used, Stop::Incomplete);
    }
    (used + front, Stop::ValueToCome(request))
}

/// Returns the data block after a request's line or header, empty if the
/// request has none; `None` while the block is incomplete.
#[inline]
fn block_of<'a>(request: &Request<'_>, rest: &'a [u8]) -> Option<&'a [u8]> {
    match request.block_len() {
        None => Some(&[]),
        Some(len) => rest.get(..len),
    }
}
