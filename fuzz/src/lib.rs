//! Helpers of the fuzz targets: expanding inputs, cutting a stream into reads,
//! and recognising streams whose meaning does not depend on the cuts.

pub mod reader;

use rustcached::limits::{KEY_MAX_BYTES, LINE_MAX_BYTES};
use rustcached::protocol::request::Request;
use rustcached::protocol::text::parse::{ErrorReply, Parsed, parse};
use rustcached::protocol::tokens::tokens;
use rustcached::protocol::verb::ControlVerb;

/// Escape byte in an input. Together with the next byte, N, it expands to N
/// times [`FILLER_BYTES`] bytes, so a short input makes a large value.
const FILLER: u8 = 1;
const FILLER_BYTES: usize = 64;
/// Maximum filler in one stream, in bytes. Bounds the cost of short inputs that
/// ask for many large values.
const FILLER_MAX_BYTES: usize = 96 * 1024;
/// Maximum number of cuts. The rest of the stream stays whole.
const PIECES_MAX: usize = 512;

/// Returns the stream that an input expands to.
pub fn expand(input: &[u8]) -> Vec<u8> {
    let mut stream = Vec::with_capacity(input.len());
    let mut filler = 0;
    let mut bytes = input.iter();
    while let Some(byte) = bytes.next() {
        if *byte != FILLER {
            stream.push(*byte);
            continue;
        }
        let len = FILLER_BYTES * usize::from(*bytes.next().unwrap_or(&0));
        filler += len;
        if filler <= FILLER_MAX_BYTES {
            stream.resize(stream.len() + len, b'x');
        }
    }
    stream
}

/// Cuts a stream into pieces. Knife 0 cuts it into single bytes, another knife
/// into pseudo-random lengths of at most `knife` bytes.
pub fn cut(knife: u8, mut stream: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut random = u32::from(knife);
    while pieces.len() < PIECES_MAX && !stream.is_empty() {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let longest = u32::from(knife).max(1);
        let len = 1 + (random >> 16) % longest;
        let (piece, rest) = stream.split_at(stream.len().min(len as usize));
        pieces.push(piece);
        stream = rest;
    }
    pieces.push(stream);
    pieces
}

/// Returns whether the meaning of a stream is independent of the cuts.
///
/// It depends on them if a line exceeds the limit: the connection is closed if
/// the newline has not arrived in time, or a retrieval is answered before an
/// error in it is seen. `watch` and key dumps depend on them too, as they are
/// refused while earlier replies are unsent; `metadump` and `mgdump` may be
/// abbreviated.
pub fn is_cut_proof(stream: &[u8]) -> bool {
    let mut rest = stream;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, behind) = rest.split_at(end + 1);
        if line.len() > LINE_MAX_BYTES && !is_answered_as_it_comes(&line[..end]) {
            return false;
        }
        let skip = match parse(line) {
            Parsed::Request(Request::Quit | Request::Shutdown { .. }, _) => return true,
            Parsed::Request(
                Request::Control {
                    verb: ControlVerb::Watch,
                    ..
                },
                _,
            ) => return false,
            Parsed::Request(
                Request::Control {
                    verb: ControlVerb::LruCrawler,
                    arguments,
                    ..
                },
                _,
            ) if arguments.trim_ascii_start().starts_with(b"m") => return false,
            Parsed::Request(request, _) => request.block_len().unwrap_or(0),
            Parsed::Malformed(malformed, _) if malformed.reply == ErrorReply::Close => return true,
            Parsed::Malformed(malformed, _) => malformed.swallow,
            other => panic!("a line with its end is {other:?}"),
        };
        let Some(next) = behind.get(skip..) else {
            return true;
        };
        rest = next;
    }
    rest.len() <= LINE_MAX_BYTES || is_answered_as_it_comes(rest)
}

/// Returns whether the line is a `get` or `gets` with permitted keys only. Such
/// a line is answered key by key as it arrives.
fn is_answered_as_it_comes(line: &[u8]) -> bool {
    let keys = line
        .strip_prefix(b"get ")
        .or_else(|| line.strip_prefix(b"gets "));
    let line_end = |key: &[u8]| usize::from(key.ends_with(b"\r"));
    keys.is_some_and(|keys| {
        let is_short = |key: &[u8]| key.len() <= KEY_MAX_BYTES + line_end(key);
        tokens(keys).all(is_short) && tokens(keys).any(|key| key != b"\r")
    })
}
