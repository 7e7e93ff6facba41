//! Text and meta lines to requests (doc/protocol.txt). Which mistakes are
//! `ERROR`, which are `CLIENT_ERROR`, and after which the value block is
//! swallowed, is memcached 1.6.45's doing and part of the contract.

use crate::limits::{KEY_MAX_BYTES, LINE_MAX_BYTES};
use crate::protocol::meta::{MetaRequest, parse_flags};
use crate::protocol::number::{lenient_i32, lenient_u32, lenient_u64, strict_i32, strict_u32};
use crate::protocol::plain::parse_plain;
use crate::protocol::request::{
    ControlVerb, GetLine, Request, ShutdownMode, StoreLine, StoreVerb, Tokens, tokens,
};

/// What the bytes at the start of the input are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A request on a line of so many bytes. A value may follow it.
    Request(Request<'a>, usize),
    /// A line of so many bytes that is no request.
    Malformed(Malformed, usize),
    /// No line end yet.
    Incomplete,
    /// No line end yet, but a retrieval with this many bytes of it that can
    /// be answered ahead of it.
    LongGet {
        /// `gets` rather than `get`.
        cas: bool,
        /// Bytes before the first key.
        used: usize,
    },
    /// No line end where one must have come: hang up.
    Endless,
}

/// A line that is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The answer, without its line end; `None` hangs up (an HTTP request,
    /// sent to make us do mischief).
    pub reply: Option<&'static str>,
    /// Bytes to skip behind the line: the value block of a storage command.
    pub swallow: usize,
}

const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
const BAD_EXPTIME: &str = "CLIENT_ERROR invalid exptime argument";
/// Shortest line that memcached looks at, its line end included.
const LINE_MIN_BYTES: usize = 4;

/// Why a line is no request. `silent` leaves the answer out (`noreply`).
struct Refusal {
    reply: &'static str,
    swallow: usize,
    silent: bool,
}

impl Refusal {
    fn loud(reply: &'static str) -> Self {
        Self {
            reply,
            swallow: 0,
            silent: false,
        }
    }

    fn unless(silent: bool, reply: &'static str) -> Self {
        Self {
            silent,
            ..Self::loud(reply)
        }
    }
}

/// Parses what stands at the start of `input`.
#[inline]
pub fn parse(input: &[u8]) -> Parsed<'_> {
    match parse_plain(input) {
        Some((request, used)) => Parsed::Request(request, used),
        None => parse_any(input),
    }
}

/// The same without the short way for plain lines.
pub(super) fn parse_any(input: &[u8]) -> Parsed<'_> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        return unfinished(input);
    };
    let used = end + 1;
    let line = match &input[..end] {
        [line @ .., b'\r'] => line,
        line => line,
    };
    match parse_line(line, used) {
        Ok(request) => Parsed::Request(request, used),
        Err(None) => Parsed::Malformed(
            Malformed {
                reply: None,
                swallow: 0,
            },
            used,
        ),
        Err(Some(refusal)) => {
            let reply = if refusal.silent { "" } else { refusal.reply };
            let malformed = Malformed {
                reply: Some(reply),
                swallow: refusal.swallow,
            };
            Parsed::Malformed(malformed, used)
        }
    }
}

fn unfinished(input: &[u8]) -> Parsed<'_> {
    if input.len() <= LINE_MAX_BYTES {
        return Parsed::Incomplete;
    }
    let blanks = input.iter().take_while(|byte| **byte == b' ').count();
    if blanks > 100 {
        return Parsed::Endless;
    }
    let rest = &input[blanks..];
    for (word, cas) in [(&b"get "[..], false), (b"gets ", true)] {
        // A line that begins with blanks is an error once it is complete.
        if rest.starts_with(word) && blanks == 0 {
            return Parsed::LongGet {
                cas,
                used: word.len(),
            };
        }
    }
    Parsed::Endless
}

fn parse_line(line: &[u8], used: usize) -> Result<Request<'_>, Option<Refusal>> {
    if used < LINE_MIN_BYTES {
        return Err(Some(Refusal::loud(BAD_FORMAT)));
    }
    let verb_len = memchr::memchr(b' ', line).unwrap_or(line.len());
    let (verb, rest) = line.split_at(verb_len);
    let request = match verb {
        b"get" => get(rest, false),
        b"gets" => get(rest, true),
        b"set" => store(rest, StoreVerb::Set),
        b"mg" => meta(rest, 2).map(Request::MetaGet),
        b"ms" => meta_set(rest),
        b"md" => meta(rest, 2).map(Request::MetaDelete),
        b"ma" => meta_arithmetic(rest),
        b"mn" => Ok(Request::MetaNoop),
        b"me" => meta_debug(rest),
        b"add" => store(rest, StoreVerb::Add),
        b"cas" => store(rest, StoreVerb::Cas),
        b"gat" => touching_get(rest, false),
        b"gats" => touching_get(rest, true),
        b"incr" => arithmetic(rest, false),
        b"decr" => arithmetic(rest, true),
        b"quit" => Ok(Request::Quit),
        b"touch" => touch(rest),
        b"delete" => delete(rest),
        b"append" => store(rest, StoreVerb::Append),
        b"replace" => store(rest, StoreVerb::Replace),
        b"prepend" => store(rest, StoreVerb::Prepend),
        b"version" => Ok(Request::Version),
        b"stats" => Ok(Request::Stats { arguments: rest }),
        _ => return rare(verb, rest),
    };
    request.map_err(Some)
}

/// Commands for operators, and what is no command at all.
fn rare<'a>(verb: &[u8], rest: &'a [u8]) -> Result<Request<'a>, Option<Refusal>> {
    let last = tokens(rest).last();
    let noreply = last == Some(b"noreply");
    let control = |verb| {
        Ok(Request::Control {
            verb,
            arguments: rest,
            noreply,
        })
    };
    match verb {
        b"flush_all" => flush_all(rest, noreply).map_err(Some),
        b"verbosity" => match tokens(rest).next().and_then(strict_u32) {
            Some(level) => Ok(Request::Verbosity { level, noreply }),
            None => Err(Some(Refusal::unless(noreply, BAD_FORMAT))),
        },
        b"cache_memlimit" => Ok(Request::MemoryLimit {
            mebibytes: tokens(rest).next().and_then(strict_u32),
            noreply,
        }),
        b"shutdown" => Ok(Request::Shutdown {
            mode: shutdown_mode(rest),
            noreply,
        }),
        b"refresh_certs" => Ok(Request::RefreshCerts { noreply }),
        b"watch" => control(ControlVerb::Watch),
        b"lru" => control(ControlVerb::Lru),
        b"lru_crawler" => control(ControlVerb::LruCrawler),
        b"slabs" => control(ControlVerb::Slabs),
        b"extstore" => control(ControlVerb::Extstore),
        #[cfg(feature = "debugtime")]
        b"debugtime" => control(ControlVerb::DebugTime),
        _ if last.is_some_and(|token| token.starts_with(b"HTTP/")) => Err(None),
        _ => Err(Some(Refusal::unless(noreply, "ERROR"))),
    }
}

fn shutdown_mode(rest: &[u8]) -> ShutdownMode {
    let mut arguments = tokens(rest);
    match (arguments.next(), arguments.next()) {
        (None, _) => ShutdownMode::Now,
        (Some(b"graceful"), None) => ShutdownMode::Graceful,
        _ => ShutdownMode::Unknown,
    }
}

#[inline]
fn get(rest: &[u8], cas: bool) -> Result<Request<'_>, Refusal> {
    get_line(rest, cas, None)
}

fn touching_get(rest: &[u8], cas: bool) -> Result<Request<'_>, Refusal> {
    let mut tokens = tokens(rest);
    let exptime = tokens.next();
    if tokens.clone().next().is_none() {
        return Err(Refusal::loud(BAD_FORMAT));
    }
    let Some(exptime) = exptime.and_then(strict_i32) else {
        return Err(Refusal::loud(BAD_EXPTIME));
    };
    get_line(tokens.rest(), cas, Some(exptime))
}

/// At least one key, none too long. The whole line is looked at first, so
/// that an error is the only answer the line gets.
#[inline]
fn get_line(rest: &[u8], cas: bool, touch: Option<i32>) -> Result<Request<'_>, Refusal> {
    let mut keys = tokens(rest);
    let first = keys.next().ok_or(Refusal::loud(BAD_FORMAT))?;
    let mut single = true;
    let mut longest = first.len();
    for key in keys {
        single = false;
        longest = longest.max(key.len());
    }
    if longest > KEY_MAX_BYTES {
        return Err(Refusal::loud(BAD_FORMAT));
    }
    Ok(Request::Get(GetLine {
        keys: if single { first } else { rest },
        single,
        cas,
        touch,
    }))
}

#[inline]
fn store(rest: &[u8], verb: StoreVerb) -> Result<Request<'_>, Refusal> {
    let mut tokens = tokens(rest);
    let (Some(key), Some(flags), Some(exptime), Some(length)) =
        (tokens.next(), tokens.next(), tokens.next(), tokens.next())
    else {
        return Err(Refusal::loud(BAD_FORMAT));
    };
    let value_len = match strict_i32(length) {
        Some(length @ 0..=0x7FFF_FFFD) => length as u32,
        _ => return Err(Refusal::loud(BAD_FORMAT)),
    };
    let unique = tokens.next();
    let noreply = tokens.last().or(unique) == Some(b"noreply");
    let refusal = || Refusal {
        reply: BAD_FORMAT,
        swallow: value_len as usize + 2,
        silent: noreply,
    };
    let cas = match verb {
        StoreVerb::Cas => unique.and_then(lenient_u64).ok_or_else(refusal)?,
        _ => 0,
    };
    if key.len() > KEY_MAX_BYTES {
        return Err(refusal());
    }
    let (Some(flags), Some(exptime)) = (lenient_u32(flags), lenient_i32(exptime)) else {
        return Err(refusal());
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

/// A key, at least `wanted` more tokens, and whether the last is `noreply`.
fn simple(rest: &[u8], wanted: usize) -> Result<(&[u8], Tokens<'_>, bool), Refusal> {
    let mut tokens = tokens(rest);
    let key = tokens.next().ok_or(Refusal::loud(BAD_FORMAT))?;
    let mut more = 0;
    let mut last = key;
    for token in tokens.clone() {
        more += 1;
        last = token;
    }
    if more < wanted {
        return Err(Refusal::loud(BAD_FORMAT));
    }
    let noreply = last == b"noreply";
    if key.len() > KEY_MAX_BYTES {
        return Err(Refusal::unless(noreply, BAD_FORMAT));
    }
    Ok((key, tokens, noreply))
}

/// Whatever follows the key is ignored, as old clients send a 0 there.
fn delete(rest: &[u8]) -> Result<Request<'_>, Refusal> {
    let (key, _, noreply) = simple(rest, 0)?;
    Ok(Request::Delete { key, noreply })
}

fn arithmetic(rest: &[u8], decrement: bool) -> Result<Request<'_>, Refusal> {
    let (key, mut tokens, noreply) = simple(rest, 1)?;
    let Some(delta) = tokens.next().and_then(lenient_u64) else {
        let reply = "CLIENT_ERROR invalid numeric delta argument";
        return Err(Refusal::unless(noreply, reply));
    };
    Ok(Request::Arithmetic {
        key,
        delta,
        decrement,
        noreply,
    })
}

fn touch(rest: &[u8]) -> Result<Request<'_>, Refusal> {
    let (key, mut tokens, noreply) = simple(rest, 1)?;
    let Some(exptime) = tokens.next().and_then(lenient_i32) else {
        return Err(Refusal::unless(noreply, BAD_EXPTIME));
    };
    Ok(Request::Touch {
        key,
        exptime,
        noreply,
    })
}

fn flush_all(rest: &[u8], noreply: bool) -> Result<Request<'_>, Refusal> {
    let arguments = tokens(rest).count();
    if arguments == usize::from(noreply) {
        return Ok(Request::FlushAll { delay: 0, noreply });
    }
    match tokens(rest).next().and_then(strict_i32) {
        Some(delay) => Ok(Request::FlushAll { delay, noreply }),
        None => Err(Refusal::unless(noreply, BAD_EXPTIME)),
    }
}

fn meta(rest: &[u8], leading: usize) -> Result<MetaRequest<'_>, Refusal> {
    let mut tokens = tokens(rest);
    let key = tokens.next().ok_or(Refusal::loud(BAD_FORMAT))?;
    let line = tokens.rest();
    let (flags, base64) =
        parse_flags(key, line, leading).map_err(|error| Refusal::loud(error.0))?;
    Ok(MetaRequest {
        key,
        base64,
        value_len: 0,
        tokens: line,
        flags,
    })
}

fn meta_set(rest: &[u8]) -> Result<Request<'_>, Refusal> {
    let mut tokens = tokens(rest);
    let (Some(key), Some(length)) = (tokens.next(), tokens.next()) else {
        return Err(Refusal::loud(BAD_FORMAT));
    };
    let value_len = match strict_i32(length) {
        Some(length @ 0..=0x7FFF_FFFD) => length as u32,
        _ => return Err(Refusal::loud(BAD_FORMAT)),
    };
    let refusal = |reply| Refusal {
        reply,
        swallow: value_len as usize + 2,
        silent: false,
    };
    let line = tokens.rest();
    let (flags, base64) = parse_flags(key, line, 3).map_err(|error| refusal(error.0))?;
    if !matches!(flags.mode, 0 | b'E' | b'A' | b'P' | b'R' | b'S') {
        return Err(refusal("CLIENT_ERROR invalid mode for ms M token"));
    }
    Ok(Request::MetaSet(MetaRequest {
        key,
        base64,
        value_len,
        tokens: line,
        flags,
    }))
}

fn meta_arithmetic(rest: &[u8]) -> Result<Request<'_>, Refusal> {
    let first = tokens(rest).next();
    let meta = meta(rest, 2).map_err(|refusal| {
        if first.is_none() || refusal.reply == "CLIENT_ERROR opaque token too long" {
            return refusal;
        }
        Refusal::loud("CLIENT_ERROR invalid or duplicate flag")
    })?;
    if !matches!(meta.flags.mode, 0 | b'I' | b'+' | b'D' | b'-') {
        return Err(Refusal::loud("CLIENT_ERROR invalid mode for ma M token"));
    }
    Ok(Request::MetaArithmetic(meta))
}

fn meta_debug(rest: &[u8]) -> Result<Request<'_>, Refusal> {
    let mut tokens = tokens(rest);
    let key = tokens.next().ok_or(Refusal::loud(BAD_FORMAT))?;
    if key.len() > KEY_MAX_BYTES {
        return Err(Refusal::loud(BAD_FORMAT));
    }
    let base64 = tokens.next() == Some(b"b");
    Ok(Request::MetaDebug { key, base64 })
}
