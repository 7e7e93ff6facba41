//! Fuzzes the text parser with arbitrary bytes.
//!
//! Checks that nothing panics, that the parser uses no byte beyond the input,
//! and that no field of a request exceeds its limit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rustcached::limits::{
    GET_LINE_MAX_BYTES, KEY_MAX_BYTES, LINE_MAX_BYTES, LINE_WHOLE_MAX_BYTES, META_TOKENS_MAX,
};
use rustcached::protocol::meta::request::MetaRequest;
use rustcached::protocol::request::Request;
use rustcached::protocol::text::parse::{ErrorReply, Parsed, parse};
use rustcached::protocol::tokens::tokens;

fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    while let Some(used) = look(rest) {
        rest = &rest[used..];
    }
});

/// Parses and checks the first request of the input. Returns its length in
/// bytes, `None` if the input ends before the request does.
fn look(input: &[u8]) -> Option<usize> {
    let line_end = memchr::memchr(b'\n', input);
    match parse(input) {
        Parsed::Request(request, used) => {
            assert_eq!(Some(used), line_end.map(|end| end + 1));
            check(&request);
            let block = request.block_len().unwrap_or(0);
            Some((used + block).min(input.len()))
        }
        Parsed::Malformed(malformed, used) => {
            assert_eq!(Some(used), line_end.map(|end| end + 1));
            match malformed.reply {
                ErrorReply::Line(reply) => {
                    let known = reply == "ERROR" || reply.starts_with("CLIENT_ERROR ");
                    assert!(known, "{reply}");
                }
                ErrorReply::Silent => {}
                ErrorReply::Close => return None,
            }
            Some((used + malformed.swallow).min(input.len()))
        }
        Parsed::Incomplete => {
            let is_get = input.starts_with(b"get ") || input.starts_with(b"gets ");
            let limit = if is_get {
                GET_LINE_MAX_BYTES
            } else {
                LINE_MAX_BYTES
            };
            assert!(line_end.is_none() && input.len() <= limit);
            None
        }
        Parsed::LongGet { used, .. } => {
            assert!(line_end.is_none() && input.len() > LINE_MAX_BYTES);
            assert!(input[..used].starts_with(b"get"));
            None
        }
        Parsed::LongError => {
            assert!(line_end.is_none() && input.len() > LINE_MAX_BYTES);
            assert_eq!(input[0], b' ');
            None
        }
        Parsed::TooLong => {
            let len = line_end.map_or(input.len(), |end| end + 1);
            let most = line_end.map_or(LINE_MAX_BYTES, |_| LINE_WHOLE_MAX_BYTES);
            assert!(len > most);
            None
        }
    }
}

fn check(request: &Request<'_>) {
    match request {
        Request::Get(line) => {
            assert_eq!(line.single, tokens(line.keys).count() == 1);
            assert!(!line.single || !line.keys.contains(&b' '));
            assert!(tokens(line.keys).next().is_some());
            tokens(line.keys).for_each(check_key);
        }
        Request::BrokenGet { keys, .. } => {
            assert!(tokens(keys).next().is_some());
            tokens(keys).for_each(check_key);
        }
        Request::Store(line) => check_key(line.key),
        Request::Delete { key, .. }
        | Request::Arithmetic { key, .. }
        | Request::Touch { key, .. }
        | Request::MetaDebug { key, .. } => check_key(key),
        Request::MetaGet(meta)
        | Request::MetaSet(meta)
        | Request::MetaDelete(meta)
        | Request::MetaArithmetic(meta) => check_meta(meta),
        _ => {}
    }
    if let Some(key) = request.plain_key() {
        check_key(key);
    }
    if let Some(len) = request.block_len() {
        assert!((2..=0x7FFF_FFFF).contains(&len));
    }
}

fn check_meta(meta: &MetaRequest<'_>) {
    check_key(meta.key);
    assert!(tokens(meta.tokens).count() < META_TOKENS_MAX);
}

fn check_key(key: &[u8]) {
    assert!(!key.is_empty() && key.len() <= KEY_MAX_BYTES);
    assert!(!key.contains(&b' ') && !key.contains(&b'\n'));
}
