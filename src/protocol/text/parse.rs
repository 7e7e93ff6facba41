//! Parses command lines of the text and meta protocols (doc/protocol.txt).
//!
//! Which mistakes return `ERROR`, which return `CLIENT_ERROR`, and after which
//! the data block is swallowed follows memcached 1.6.45.

use crate::limits::{
    GET_LINE_MAX_BYTES, KEY_MAX_BYTES, LINE_MAX_BYTES, LINE_TOKENS_MAX, LINE_WHOLE_MAX_BYTES,
};
use crate::protocol::cas::Cas;
use crate::protocol::meta::request::{
    MetaError, MetaRequest, check_tags, count_flags, parse_flags,
};
use crate::protocol::number::{
    parse_client_flags, parse_exptime, strict_i32, strict_u32, strict_u64,
};
use crate::protocol::request::{GetLine, Request, StoreLine};
use crate::protocol::text::cluster::parse_config;
use crate::protocol::text::fast_path::parse_plain;
use crate::protocol::text::reply::Reply;
use crate::protocol::tokens::{Tokens, tokens};
use crate::protocol::verb::{ArithmeticVerb, ControlVerb, NameKind, ShutdownMode, StoreVerb};

/// Result of parsing the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A request and the length of its line in bytes. A data block may follow.
    Request(Request<'a>, usize),
    /// A line that is no request, and its length in bytes.
    Malformed(Malformed, usize),
    /// The newline has not arrived.
    Incomplete,
    /// A retrieval longer than the buffer limit without a newline yet. The keys
    /// that have arrived can be executed.
    LongGet {
        /// `gets` rather than `get`.
        cas: bool,
        /// Bytes before the first key.
        used: usize,
    },
    /// A line without a newline yet that is an error however it ends. Skip it
    /// up to the newline.
    LongError,
    /// A line over its length limit: close the connection.
    TooLong,
}

/// A line that is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The reply.
    pub reply: ErrorReply,
    /// Bytes to skip behind the line: the data block of a storage command.
    pub swallow: usize,
}

impl Malformed {
    /// Creates an error with this reply line.
    fn new(reply: &'static str) -> Self {
        Self {
            reply: ErrorReply::Line(reply),
            swallow: 0,
        }
    }

    /// Creates an error with this reply line unless `noreply` suppresses it.
    fn unless(noreply: bool, reply: &'static str) -> Self {
        match noreply {
            true => Self {
                reply: ErrorReply::Silent,
                swallow: 0,
            },
            false => Self::new(reply),
        }
    }

    /// Skips the data block of a storage command, `value_len` bytes and CRLF.
    fn with_block(self, value_len: u32) -> Self {
        Self {
            swallow: value_len as usize + 2,
            ..self
        }
    }
}

/// Reply to a malformed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorReply {
    /// A line, without its CRLF.
    Line(&'static str),
    /// No reply, because the line ends with `noreply`.
    Silent,
    /// The connection is closed without a reply. The line is an HTTP request,
    /// whose body could contain commands.
    Close,
}

const BAD_FORMAT: &str = Reply::BadFormat.text();
const BAD_EXPTIME: &str = "CLIENT_ERROR invalid exptime argument";
/// Shortest line that memcached parses, its newline included.
const LINE_MIN_BYTES: usize = 4;

/// Parses the start of the input.
#[inline]
pub fn parse(input: &[u8]) -> Parsed<'_> {
    match parse_plain(input) {
        Some((request, used)) => Parsed::Request(request, used),
        None => parse_any(input),
    }
}

/// Parses any line, without the fast path for plain ones.
pub(super) fn parse_any(input: &[u8]) -> Parsed<'_> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        return parse_incomplete(input);
    };
    let used = end + 1;
    if used > LINE_WHOLE_MAX_BYTES && !is_long_get(input) {
        return Parsed::TooLong;
    }
    let line = match &input[..end] {
        [line @ .., b'\r'] => line,
        line => line,
    };
    match parse_line(line, used) {
        Ok(request) => Parsed::Request(request, used),
        Err(malformed) => Parsed::Malformed(malformed, used),
    }
}

fn parse_incomplete(input: &[u8]) -> Parsed<'_> {
    let is_get = input.starts_with(b"get ") || input.starts_with(b"gets ");
    if input.len() <= LINE_MAX_BYTES || is_get && input.len() <= GET_LINE_MAX_BYTES {
        return Parsed::Incomplete;
    }
    // A line that begins with spaces is an error once it is complete.
    for (word, cas) in [(&b"get "[..], false), (b"gets ", true)] {
        if input.starts_with(word) {
            return Parsed::LongGet {
                cas,
                used: word.len(),
            };
        }
    }
    match is_long_get(input) {
        true => Parsed::LongError,
        false => Parsed::TooLong,
    }
}

/// Returns whether a line may exceed the length limit: a `get` or `gets` behind
/// at most 100 spaces.
#[cold]
fn is_long_get(input: &[u8]) -> bool {
    const SPACES_MAX: usize = 100;
    let blanks = input.iter().take_while(|byte| **byte == b' ').count();
    let words: [&[u8]; 2] = [b"get ", b"gets "];
    blanks <= SPACES_MAX && words.iter().any(|word| input[blanks..].starts_with(word))
}

fn parse_line(line: &[u8], used: usize) -> Result<Request<'_>, Malformed> {
    if used < LINE_MIN_BYTES {
        return Err(Malformed::new(BAD_FORMAT));
    }
    let verb_len = memchr::memchr(b' ', line).unwrap_or(line.len());
    let (verb, rest) = line.split_at(verb_len);
    match verb {
        b"get" => parse_get(rest, false),
        b"gets" => parse_get(rest, true),
        b"set" => parse_store(rest, StoreVerb::Set),
        b"mg" => parse_meta(rest).map(Request::MetaGet),
        b"ms" => parse_meta_set(rest),
        b"md" => parse_meta_delete(rest),
        b"ma" => parse_meta_arithmetic(rest),
        b"mn" => Ok(Request::MetaNoop),
        b"me" => parse_meta_debug(rest),
        b"add" => parse_store(rest, StoreVerb::Add),
        b"cas" => parse_store(rest, StoreVerb::Cas),
        b"gat" => parse_get_and_touch(rest, false),
        b"gats" => parse_get_and_touch(rest, true),
        b"incr" => parse_arithmetic(rest, ArithmeticVerb::Increment),
        b"decr" => parse_arithmetic(rest, ArithmeticVerb::Decrement),
        b"quit" => Ok(Request::Quit),
        b"touch" => parse_touch(rest),
        b"delete" => parse_delete(rest),
        b"append" => parse_store(rest, StoreVerb::Append),
        b"replace" => parse_store(rest, StoreVerb::Replace),
        b"prepend" => parse_store(rest, StoreVerb::Prepend),
        b"version" => Ok(Request::Version),
        b"stats" => Ok(Request::Stats { arguments: rest }),
        _ => parse_other(verb, rest),
    }
}

/// Returns the arguments that memcached parses.
fn arguments(rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    tokens(rest).take(LINE_TOKENS_MAX - 1)
}

/// Returns whether the last argument is `noreply`.
fn is_noreply(rest: &[u8]) -> bool {
    arguments(rest).last() == Some(b"noreply")
}

/// Parses administrative commands and unknown ones. Unlike other commands,
/// these may follow leading spaces.
fn parse_other<'a>(verb: &'a [u8], rest: &'a [u8]) -> Result<Request<'a>, Malformed> {
    let mut words = tokens(rest);
    let (verb, rest) = match verb {
        b"watch" => {
            return Ok(Request::Control {
                verb: ControlVerb::Watch,
                arguments: rest,
                noreply: false,
            });
        }
        b"" => match words.next() {
            Some(verb) => (verb, words.rest()),
            None => return Err(Malformed::new("ERROR")),
        },
        verb => (verb, rest),
    };
    if verb == b"config"
        && let Some(request) = parse_config(rest)
    {
        return Ok(request);
    }
    let noreply = is_noreply(rest);
    let control = |verb| {
        Ok(Request::Control {
            verb,
            arguments: rest,
            noreply,
        })
    };
    match verb {
        b"flush_all" => Ok(parse_flush_all(rest, noreply)),
        b"invalidate" => parse_invalidate(rest),
        b"verbosity" => match arguments(rest).next().and_then(strict_u32) {
            Some(level) => Ok(Request::Verbosity { level, noreply }),
            None => Err(Malformed::unless(noreply, BAD_FORMAT)),
        },
        b"cache_memlimit" => Ok(Request::MemoryLimit {
            mebibytes: arguments(rest).next().and_then(strict_u32),
            noreply,
        }),
        b"shutdown" => Ok(Request::Shutdown {
            mode: parse_shutdown_mode(rest),
            noreply,
        }),
        b"refresh_certs" => Ok(Request::RefreshCerts { noreply }),
        b"lru" => control(ControlVerb::Lru),
        b"lru_crawler" => control(ControlVerb::LruCrawler),
        b"slabs" => control(ControlVerb::Slabs),
        b"extstore" => control(ControlVerb::Extstore),
        b"prefix_limit" => control(ControlVerb::PrefixLimit),
        #[cfg(feature = "debugtime")]
        b"debugtime" => control(ControlVerb::DebugTime),
        _ => match arguments(rest).last() {
            Some(last) if last.starts_with(b"HTTP/") => Err(Malformed {
                reply: ErrorReply::Close,
                swallow: 0,
            }),
            None => Err(Malformed::unless(verb == b"noreply", "ERROR")),
            Some(_) => Err(Malformed::unless(noreply, "ERROR")),
        },
    }
}

/// As in memcached, the mode may be abbreviated.
fn parse_shutdown_mode(rest: &[u8]) -> ShutdownMode {
    let mut arguments = tokens(rest);
    match (arguments.next(), arguments.next()) {
        (None, _) => ShutdownMode::Now,
        (Some(mode), None) if b"graceful".starts_with(mode) => ShutdownMode::Graceful,
        _ => ShutdownMode::Unknown,
    }
}

#[inline]
fn parse_get(rest: &[u8], cas: bool) -> Result<Request<'_>, Malformed> {
    parse_keys(rest, cas, None)
}

fn parse_get_and_touch(rest: &[u8], cas: bool) -> Result<Request<'_>, Malformed> {
    let mut tokens = tokens(rest);
    let exptime = tokens.next();
    if tokens.clone().next().is_none() {
        return Err(Malformed::new(BAD_FORMAT));
    }
    let Some(exptime) = exptime.and_then(strict_i32) else {
        return Err(Malformed::new(BAD_EXPTIME));
    };
    parse_keys(tokens.rest(), cas, Some(exptime))
}

/// Parses at least one key. Checks all keys first: a key over the length limit
/// makes an error the only reply to the line.
#[inline]
fn parse_keys(rest: &[u8], cas: bool, touch: Option<i32>) -> Result<Request<'_>, Malformed> {
    let mut keys = tokens(rest);
    let first = keys.next().ok_or(Malformed::new(BAD_FORMAT))?;
    let mut single = true;
    let mut longest = first.len();
    for key in keys {
        single = false;
        longest = longest.max(key.len());
    }
    if longest > KEY_MAX_BYTES {
        return parse_keys_before_bad(rest, touch);
    }
    Ok(Request::Get(GetLine {
        keys: if single { first } else { rest },
        single,
        cas,
        touch,
    }))
}

/// As in memcached, the keys before the bad one are still looked up or touched.
#[cold]
fn parse_keys_before_bad(rest: &[u8], touch: Option<i32>) -> Result<Request<'_>, Malformed> {
    let mut keys = tokens(rest);
    let mut good = 0;
    while keys.next().is_some_and(|key| key.len() <= KEY_MAX_BYTES) {
        good = rest.len() - keys.rest().len();
    }
    match good {
        0 => Err(Malformed::new(BAD_FORMAT)),
        _ => Ok(Request::BrokenGet {
            keys: &rest[..good],
            touch,
        }),
    }
}

#[inline]
fn parse_store(rest: &[u8], verb: StoreVerb) -> Result<Request<'_>, Malformed> {
    let mut words = tokens(rest);
    let key = words.next();
    // As in memcached, these two numbers are parsed from the line, not from
    // tokens: they end at any white space.
    let flags = words.rest();
    words.next();
    let exptime = words.rest();
    words.next();
    let (Some(key), Some(length)) = (key, words.next()) else {
        return Err(Malformed::new(BAD_FORMAT));
    };
    let value_len = parse_value_len(length)?;
    let more = words.rest();
    let noreply = !more.is_empty() && is_last_noreply(more);
    let malformed = || Malformed::unless(noreply, BAD_FORMAT).with_block(value_len);
    if key.len() > KEY_MAX_BYTES {
        return Err(malformed());
    }
    let (Some(flags), Some(exptime)) = (parse_client_flags(flags), parse_exptime(exptime)) else {
        return Err(malformed());
    };
    let cas = match verb {
        StoreVerb::Cas => {
            let number = words.next().and_then(strict_u64);
            Cas::new(number.ok_or_else(malformed)?)
        }
        _ => None,
    };
    Ok(Request::Store(StoreLine {
        verb,
        key,
        flags,
        exptime,
        value_len,
        cas,
        noreply,
    }))
}

/// Returns whether the last argument behind the length is `noreply`.
fn is_last_noreply(more: &[u8]) -> bool {
    tokens(more).take(LINE_TOKENS_MAX - 5).last() == Some(b"noreply")
}

/// Longest data block in bytes, without CRLF: with it, the length must fit a
/// C `int`, as in memcached.
const VALUE_LEN_MAX: i32 = i32::MAX - 2;

/// Parses the length of a data block.
fn parse_value_len(token: &[u8]) -> Result<u32, Malformed> {
    match strict_i32(token) {
        Some(length @ 0..=VALUE_LEN_MAX) => Ok(length as u32),
        _ => Err(Malformed::new(BAD_FORMAT)),
    }
}

/// Parses a key and at least `wanted` more tokens. The flag returned is whether
/// the last token is `noreply`.
fn parse_key(rest: &[u8], wanted: usize) -> Result<(&[u8], Tokens<'_>, bool), Malformed> {
    let mut tokens = tokens(rest);
    let key = tokens.next().ok_or(Malformed::new(BAD_FORMAT))?;
    let mut more = 0;
    let mut last = key;
    for token in tokens.clone().take(LINE_TOKENS_MAX - 2) {
        more += 1;
        last = token;
    }
    if more < wanted {
        return Err(Malformed::new(BAD_FORMAT));
    }
    let noreply = last == b"noreply";
    if key.len() > KEY_MAX_BYTES {
        return Err(Malformed::unless(noreply, BAD_FORMAT));
    }
    Ok((key, tokens, noreply))
}

/// Ignores anything after the key, because old clients send a 0 there.
fn parse_delete(rest: &[u8]) -> Result<Request<'_>, Malformed> {
    let (key, _, noreply) = parse_key(rest, 0)?;
    Ok(Request::Delete { key, noreply })
}

fn parse_arithmetic(rest: &[u8], verb: ArithmeticVerb) -> Result<Request<'_>, Malformed> {
    let (key, mut tokens, noreply) = parse_key(rest, 1)?;
    let Some(delta) = tokens.next().and_then(strict_u64) else {
        let reply = "CLIENT_ERROR invalid numeric delta argument";
        return Err(Malformed::unless(noreply, reply));
    };
    Ok(Request::Arithmetic {
        verb,
        key,
        delta,
        noreply,
    })
}

fn parse_touch(rest: &[u8]) -> Result<Request<'_>, Malformed> {
    let (key, mut tokens, noreply) = parse_key(rest, 1)?;
    let Some(exptime) = tokens.next().and_then(strict_i32) else {
        return Err(Malformed::unless(noreply, BAD_EXPTIME));
    };
    Ok(Request::Touch {
        key,
        exptime,
        noreply,
    })
}

fn parse_flush_all(rest: &[u8], noreply: bool) -> Request<'_> {
    let delay = if arguments(rest).count() == usize::from(noreply) {
        Some(0)
    } else {
        tokens(rest).next().and_then(strict_i32)
    };
    Request::FlushAll { delay, noreply }
}

/// Parses `invalidate prefix <prefix> [noreply]` and the same with `tag`.
fn parse_invalidate(rest: &[u8]) -> Result<Request<'_>, Malformed> {
    let mut words = arguments(rest);
    let kind = match words.next() {
        Some(b"prefix") => Some(NameKind::Prefix),
        Some(b"tag") => Some(NameKind::Tag),
        _ => None,
    };
    let (name, last, more) = (words.next(), words.next(), words.next());
    match (kind, name, last, more) {
        (Some(kind), Some(name), None | Some(b"noreply"), None) => Ok(Request::Invalidate {
            kind,
            name,
            noreply: last.is_some(),
        }),
        _ => {
            let reply = "CLIENT_ERROR usage: invalidate prefix|tag name [noreply]";
            Err(Malformed::unless(is_noreply(rest), reply))
        }
    }
}

/// Parses `mg`, `md` and `ma`.
#[inline]
fn parse_meta(rest: &[u8]) -> Result<MetaRequest<'_>, Malformed> {
    let mut tokens = tokens(rest);
    let key = tokens.next().ok_or(Malformed::new(BAD_FORMAT))?;
    let line = tokens.rest();
    let (flags, base64) =
        parse_flags(key, line, 2).map_err(|error| Malformed::new(error.text()))?;
    Ok(MetaRequest {
        key,
        base64,
        value_len: 0,
        tokens: line,
        flags,
    })
}

/// As in memcached, the data block is not swallowed after a flag that begins
/// with garbage, but it is after other errors.
fn parse_meta_set(rest: &[u8]) -> Result<Request<'_>, Malformed> {
    let mut tokens = tokens(rest);
    let (Some(key), Some(length)) = (tokens.next(), tokens.next()) else {
        return Err(Malformed::new(BAD_FORMAT));
    };
    let value_len = parse_value_len(length)?;
    let line = tokens.rest();
    let (flags, base64) = parse_flags(key, line, 3).map_err(|error| match error {
        MetaError::Garbage => Malformed::new(BAD_FORMAT),
        error => Malformed::new(error.text()).with_block(value_len),
    })?;
    if !flags.mode.is_for_set() {
        let reply = "CLIENT_ERROR invalid mode for ms M token";
        return Err(Malformed::new(reply).with_block(value_len));
    }
    if flags.tagged {
        check_tags(line).map_err(|reply| Malformed::new(reply).with_block(value_len))?;
    }
    Ok(Request::MetaSet(MetaRequest {
        key,
        base64,
        value_len,
        tokens: line,
        flags,
    }))
}

/// memcached's `md` checks the length of the opaque before it looks up the
/// item, unlike the other meta commands.
fn parse_meta_delete(rest: &[u8]) -> Result<Request<'_>, Malformed> {
    let meta = parse_meta(rest)?;
    match meta.flags.opaque_too_long {
        true => Err(Malformed::new(Reply::OpaqueTooLong.text())),
        false => Ok(Request::MetaDelete(meta)),
    }
}

/// memcached's `ma` returns the same error for every bad flag.
fn parse_meta_arithmetic(rest: &[u8]) -> Result<Request<'_>, Malformed> {
    let mut tokens = tokens(rest);
    let key = tokens.next().ok_or(Malformed::new(BAD_FORMAT))?;
    let line = tokens.rest();
    let (flags, base64) = parse_flags(key, line, 2).map_err(|error| match error {
        MetaError::Garbage => Malformed::new(BAD_FORMAT),
        MetaError::Reply(_) => Malformed::new("CLIENT_ERROR invalid or duplicate flag"),
    })?;
    if !flags.mode.is_for_arithmetic() {
        return Err(Malformed::new("CLIENT_ERROR invalid mode for ma M token"));
    }
    if flags.tagged {
        check_tags(line).map_err(Malformed::new)?;
    }
    Ok(Request::MetaArithmetic(MetaRequest {
        key,
        base64,
        value_len: 0,
        tokens: line,
        flags,
    }))
}

/// As in memcached, `b` takes effect only if another token follows.
fn parse_meta_debug(rest: &[u8]) -> Result<Request<'_>, Malformed> {
    let mut tokens = tokens(rest);
    let key = tokens.next().ok_or(Malformed::new(BAD_FORMAT))?;
    if count_flags(tokens.rest(), 2).is_none() || key.len() > KEY_MAX_BYTES {
        return Err(Malformed::new(BAD_FORMAT));
    }
    let base64 = tokens.next() == Some(b"b") && tokens.next().is_some();
    Ok(Request::MetaDebug { key, base64 })
}
