//! Fuzzes the meta parser with single lines.
//!
//! Checks that the parsed flags agree with the flags on the line, and that
//! parsed requests respect the limits. Base64 keys must decode and encode back
//! to the same key.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rustcached::limits::{KEY_MAX_BYTES, META_TOKENS_MAX, OPAQUE_MAX_BYTES};
use rustcached::protocol::meta::key::{decode_key, encode_key};
use rustcached::protocol::meta::request::{FlagPositions, MetaMode, MetaRequest, parse_flags};
use rustcached::protocol::request::Request;
use rustcached::protocol::text::parse::{Parsed, parse};
use rustcached::protocol::tokens::tokens;

fuzz_target!(|input: &[u8]| {
    check_encoding(input);
    let (key, flags) = input.split_at(input.len().min(KEY_MAX_BYTES + 1) / 2);
    for leading in [2, 3] {
        // The line parser never passes a newline to `parse_flags`, but
        // `parse_flags` must not rely on that.
        let _ = parse_flags(key, flags, leading);
    }
    for verb in ["", "mg ", "ms ", "md ", "ma ", "me "] {
        let line = [verb.as_bytes(), input, b"\r\n"].concat();
        match parse(&line) {
            Parsed::Request(
                Request::MetaGet(meta)
                | Request::MetaSet(meta)
                | Request::MetaDelete(meta)
                | Request::MetaArithmetic(meta),
                _,
            ) => check(&meta),
            Parsed::Request(Request::MetaDebug { key, .. }, _) => {
                assert!(!key.is_empty() && key.len() <= KEY_MAX_BYTES);
            }
            _ => {}
        }
    }
});

fn check(meta: &MetaRequest<'_>) {
    assert!(!meta.key.is_empty() && meta.key.len() <= KEY_MAX_BYTES);
    assert!(tokens(meta.tokens).count() < META_TOKENS_MAX);
    let mut seen = Vec::new();
    for token in tokens(meta.tokens) {
        assert!(!seen.contains(&token[0]), "a flag twice");
        seen.push(token[0]);
        if token[0] == b'O' {
            let too_long = token.len() > OPAQUE_MAX_BYTES;
            assert_eq!(meta.flags.opaque_too_long, too_long);
        }
        if token[0] == b'M' {
            // Mode NUL means no mode, in memcached as well.
            let mode = match token.get(1) {
                Some(0) => MetaMode::Absent,
                Some(b'S') => MetaMode::Set,
                Some(b'E') => MetaMode::Add,
                Some(b'A') => MetaMode::Append,
                Some(b'P') => MetaMode::Prepend,
                Some(b'R') => MetaMode::Replace,
                Some(b'I' | b'+') => MetaMode::Increment,
                Some(b'D' | b'-') => MetaMode::Decrement,
                _ => MetaMode::Unknown,
            };
            assert_eq!(meta.flags.mode, mode);
        }
    }
    let flags = &meta.flags;
    let place_of = |letter: u8| {
        let position = seen.iter().position(|flag| *flag == letter);
        position.map_or(0, |position| position as u8 + 1)
    };
    let positions = FlagPositions {
        ttl: place_of(b'T'),
        vivify: place_of(b'N'),
        recache: place_of(b'R'),
        opaque: place_of(b'O'),
    };
    assert_eq!(meta.flags.positions, positions);
    for (letter, read) in [
        (b'b', meta.base64),
        (b'v', flags.value),
        (b'q', flags.quiet),
        (b'u', flags.no_bump),
        (b'I', flags.invalidate),
        (b'x', flags.remove_value),
        (b'N', flags.vivify.is_some()),
        (b'T', flags.ttl.is_some()),
        (b'R', flags.recache.is_some()),
        (b'C', flags.cas.is_some()),
        (b'E', flags.new_cas.is_some()),
        (b'D', flags.delta.is_some()),
        (b'P', flags.tagged),
    ] {
        assert_eq!(seen.contains(&letter), read, "{}", char::from(letter));
    }
    if meta.base64 {
        check_decoded(meta.key);
    }
}

/// Checks that a key accepted as base64 decodes to a key of permitted length,
/// and that encoding and decoding that key again returns it.
fn check_decoded(spelt: &[u8]) {
    let mut buffer = [0; KEY_MAX_BYTES];
    let key = decode_key(spelt, &mut buffer).expect("an accepted key decodes");
    assert!(!key.is_empty() && key.len() <= KEY_MAX_BYTES);
    let mut again = Vec::new();
    encode_key(key, &mut again);
    assert_eq!(decode_key(&again, &mut [0; KEY_MAX_BYTES]), Some(key));
}

fn check_encoding(input: &[u8]) {
    let key = &input[..input.len().min(KEY_MAX_BYTES)];
    let mut spelt = b"before".to_vec();
    encode_key(key, &mut spelt);
    let spelt = spelt.strip_prefix(b"before").expect("it appends");
    let mut buffer = [0; KEY_MAX_BYTES];
    let decoded = decode_key(spelt, &mut buffer);
    assert_eq!(decoded, (!key.is_empty()).then_some(key));
    // Decoding must not panic on any input.
    let _ = decode_key(input, &mut [0; KEY_MAX_BYTES]);
}
