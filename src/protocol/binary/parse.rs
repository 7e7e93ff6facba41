//! Parses packets of the binary protocol.

use crate::limits::{BODY_MAX_BYTES, KEY_MAX_BYTES};
use crate::protocol::binary::encode::{Echo, Status};
use crate::protocol::binary::header::{HEADER_BYTES, REQUEST_MAGIC, opcode};
use crate::protocol::binary::packet::{Packet, Verb};
use crate::protocol::cas::Cas;
use crate::protocol::verb::{ArithmeticVerb, StoreVerb};

/// Exptime that keeps `increment` and `decrement` from creating a missing item.
const DO_NOT_CREATE: u32 = 0xffff_ffff;

/// Result of parsing the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A packet, and its length in bytes up to its value.
    Packet(Packet<'a>, usize),
    /// Header, extras and key have not arrived completely.
    Incomplete,
    /// The first byte is wrong: close the connection.
    BadMagic,
}

/// Parses the start of the input.
#[inline]
pub fn parse(input: &[u8]) -> Parsed<'_> {
    if input.first().is_some_and(|first| *first != REQUEST_MAGIC) {
        return Parsed::BadMagic;
    }
    let Some(header) = input.first_chunk::<HEADER_BYTES>() else {
        return Parsed::Incomplete;
    };
    let key_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let extras_len = usize::from(header[4]);
    let body_len = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    let refused = |status| {
        let verb = Verb::Refused {
            status,
            closes: true,
        };
        Parsed::Packet(packet(header, false, verb, &[], 0), HEADER_BYTES)
    };
    let Some(rest) = body_len.checked_sub((key_len + extras_len) as u32) else {
        return refused(Status::Unknown);
    };
    if body_len > BODY_MAX_BYTES || key_len > KEY_MAX_BYTES {
        return refused(Status::Invalid);
    }
    let value_at = HEADER_BYTES + extras_len + key_len;
    let Some(front) = input.get(HEADER_BYTES..value_at) else {
        return Parsed::Incomplete;
    };
    let (extras, key) = front.split_at(extras_len);
    match verb(header[1], extras, key, rest) {
        Some((quiet, verb)) => Parsed::Packet(packet(header, quiet, verb, key, rest), value_at),
        None => refused(Status::Invalid),
    }
}

#[inline]
fn packet<'a>(
    header: &[u8; HEADER_BYTES],
    quiet: bool,
    verb: Verb,
    key: &'a [u8],
    rest: u32,
) -> Packet<'a> {
    let [_, opcode, .., a, b, c, d, e, f, g, h] = *header;
    let opaque = [header[12], header[13], header[14], header[15]];
    Packet {
        verb,
        echo: Echo { opcode, opaque },
        quiet,
        cas: Cas::new(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        key,
        rest,
    }
}

/// Parses an opcode and the parts of its packet. Returns whether the command is
/// quiet, and the command; `None` if the parts do not fit the opcode.
#[inline]
fn verb(opcode: u8, extras: &[u8], key: &[u8], rest: u32) -> Option<(bool, Verb)> {
    let no_rest = rest == 0;
    let bare = extras.is_empty() && key.is_empty() && no_rest;
    let keyed = extras.is_empty() && !key.is_empty();
    let get = |quiet, with_key| {
        let touch = None;
        (keyed && no_rest).then_some((quiet, Verb::Get { with_key, touch }))
    };
    let touching_get = |quiet, with_key| {
        let touch = Some(exptime_of(extras, key)?);
        Some((quiet, Verb::Get { with_key, touch }))
    };
    let join = |quiet, verb| {
        let (flags, exptime) = (0, 0);
        keyed.then_some((
            quiet,
            Verb::Store {
                verb,
                flags,
                exptime,
            },
        ))
    };
    let only = |fits: bool, verb| fits.then_some((false, verb));
    match opcode {
        0x00 => get(false, false),
        0x09 => get(true, false),
        0x0c => get(false, true),
        0x0d => get(true, true),
        0x01 => store(false, StoreVerb::Set, extras, key),
        0x11 => store(true, StoreVerb::Set, extras, key),
        0x02 => store(false, StoreVerb::Add, extras, key),
        0x12 => store(true, StoreVerb::Add, extras, key),
        0x03 => store(false, StoreVerb::Replace, extras, key),
        0x13 => store(true, StoreVerb::Replace, extras, key),
        0x0e => join(false, StoreVerb::Append),
        0x19 => join(true, StoreVerb::Append),
        0x0f => join(false, StoreVerb::Prepend),
        0x1a => join(true, StoreVerb::Prepend),
        0x04 | 0x14 => (keyed && no_rest).then_some((opcode == 0x14, Verb::Delete)),
        0x05 | 0x15 => arithmetic(opcode == 0x15, ArithmeticVerb::Increment, extras, key, rest),
        0x06 | 0x16 => arithmetic(opcode == 0x16, ArithmeticVerb::Decrement, extras, key, rest),
        0x07 | 0x17 => bare.then_some((opcode == 0x17, Verb::Quit)),
        0x08 | 0x18 => flush(opcode == 0x18, extras, key, rest),
        0x0a => only(bare, Verb::Noop),
        opcode::VERSION => only(bare, Verb::Version),
        0x10 => only(extras.is_empty(), Verb::Stat),
        0x1c => exptime_of(extras, key).map(|exptime| (false, Verb::Touch { exptime })),
        0x1d => touching_get(false, false),
        0x1e => touching_get(true, false),
        0x23 => touching_get(false, true),
        0x24 => touching_get(true, true),
        opcode::SASL_LIST => only(bare, Verb::SaslList),
        opcode::SASL_AUTH => only(keyed, Verb::SaslAuth),
        opcode::SASL_STEP => only(keyed, Verb::SaslStep),
        _ => {
            let (status, closes) = (Status::Unknown, false);
            Some((false, Verb::Refused { status, closes }))
        }
    }
}

#[inline]
fn store(quiet: bool, verb: StoreVerb, extras: &[u8], key: &[u8]) -> Option<(bool, Verb)> {
    let extras: &[u8; 8] = extras.try_into().ok()?;
    let store = Verb::Store {
        verb,
        flags: u32_at(extras, 0),
        exptime: u32_at(extras, 4),
    };
    (!key.is_empty()).then_some((quiet, store))
}

fn arithmetic(
    quiet: bool,
    verb: ArithmeticVerb,
    extras: &[u8],
    key: &[u8],
    rest: u32,
) -> Option<(bool, Verb)> {
    let extras: &[u8; 20] = extras.try_into().ok()?;
    let exptime = u32_at(extras, 16);
    let arithmetic = Verb::Arithmetic {
        verb,
        delta: u64_at(extras, 0),
        initial: u64_at(extras, 8),
        exptime: (exptime != DO_NOT_CREATE).then_some(exptime),
    };
    (!key.is_empty() && rest == 0).then_some((quiet, arithmetic))
}

fn flush(quiet: bool, extras: &[u8], key: &[u8], rest: u32) -> Option<(bool, Verb)> {
    let delay = match extras {
        [] => 0,
        &[a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
        _ => return None,
    };
    (key.is_empty() && rest == 0).then_some((quiet, Verb::Flush { delay }))
}

/// Returns the exptime from the extras of a touch. A key is required.
fn exptime_of(extras: &[u8], key: &[u8]) -> Option<u32> {
    let &[a, b, c, d] = extras else {
        return None;
    };
    (!key.is_empty()).then_some(u32::from_be_bytes([a, b, c, d]))
}

#[inline]
fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}

#[inline]
fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::{HEADER_BYTES, Parsed, Verb, parse};
    use crate::protocol::binary::encode::Status;
    use crate::protocol::cas::Cas;
    use crate::protocol::verb::{ArithmeticVerb, StoreVerb};

    /// Encodes a packet whose header may have wrong lengths of key and body.
    fn frame(opcode: u8, extras: &[u8], key: &[u8], key_len: u16, body_len: u32) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[0] = 0x80;
        bytes[1] = opcode;
        bytes[2..4].copy_from_slice(&key_len.to_be_bytes());
        bytes[4] = extras.len() as u8;
        bytes[8..12].copy_from_slice(&body_len.to_be_bytes());
        bytes[12..16].copy_from_slice(b"mark");
        bytes[16..24].copy_from_slice(&7u64.to_be_bytes());
        bytes.extend_from_slice(extras);
        bytes.extend_from_slice(key);
        bytes
    }

    fn verb_of(bytes: &[u8]) -> Verb {
        match parse(bytes) {
            Parsed::Packet(packet, _) => packet.verb,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_set_has_all_its_parts() {
        let bytes = frame(0x11, b"\0\0\0\x05\0\0\0\x09", b"key", 3, 8 + 3 + 100);
        let Parsed::Packet(packet, used) = parse(&bytes) else {
            panic!("no packet");
        };
        assert_eq!(used, HEADER_BYTES + 11);
        assert_eq!((packet.key, packet.rest), (&b"key"[..], 100));
        assert_eq!(packet.cas, Cas::new(7));
        assert_eq!((packet.echo.opcode, packet.quiet), (0x11, true));
        assert_eq!(packet.echo.opaque, *b"mark");
        let (verb, flags, exptime) = (StoreVerb::Set, 5, 9);
        let store = Verb::Store {
            verb,
            flags,
            exptime,
        };
        assert_eq!(packet.verb, store);
        assert_eq!(packet.value_len(), Some(100));
    }

    #[test]
    fn nothing_is_a_packet_before_its_key_is_there() {
        let bytes = frame(0x00, b"", b"key", 3, 3);
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len]), Parsed::Incomplete, "{len}");
        }
        assert_eq!(parse(b"get"), Parsed::BadMagic);
        assert_eq!(parse(b"\x81"), Parsed::BadMagic);
    }

    #[test]
    fn lengths_that_do_not_fit_end_the_connection() {
        let unknown = Verb::Refused {
            status: Status::Unknown,
            closes: true,
        };
        let invalid = Verb::Refused {
            status: Status::Invalid,
            closes: true,
        };
        for opcode in 0..=255 {
            assert_eq!(verb_of(&frame(opcode, b"", b"", 10, 9)), unknown);
            assert_eq!(verb_of(&frame(opcode, b"12345678", b"", 2, 9)), unknown);
            assert_eq!(verb_of(&frame(opcode, b"", b"", 251, 251)), invalid);
        }
        // No key; extras where none are allowed; no extras where some are
        // required; a value where none is allowed.
        for opcode in [0x00, 0x01, 0x04, 0x05, 0x0e, 0x1c, 0x1d, 0x21] {
            assert_eq!(verb_of(&frame(opcode, b"", b"", 0, 0)), invalid);
        }
        for opcode in [0x00, 0x04, 0x07, 0x08, 0x0a, 0x0b, 0x0e, 0x10, 0x20, 0x21] {
            assert_eq!(verb_of(&frame(opcode, b"x", b"k", 1, 2)), invalid);
        }
        for opcode in [0x01, 0x05, 0x1c, 0x1d, 0x23] {
            assert_eq!(verb_of(&frame(opcode, b"", b"k", 1, 1)), invalid);
        }
        for opcode in [0x00, 0x04, 0x07, 0x08, 0x0a, 0x0b, 0x20] {
            assert_eq!(verb_of(&frame(opcode, b"", b"k", 1, 2)), invalid);
        }
    }

    #[test]
    fn an_unknown_opcode_is_a_packet_of_its_length() {
        let bytes = frame(0x55, b"ex", b"key", 3, 12);
        let Parsed::Packet(packet, used) = parse(&bytes) else {
            panic!("no packet");
        };
        assert_eq!((used, packet.rest), (HEADER_BYTES + 5, 7));
        let (status, closes) = (Status::Unknown, false);
        assert_eq!(packet.verb, Verb::Refused { status, closes });
    }

    #[test]
    fn a_missing_number_is_not_created_with_the_last_expiry_time() {
        let mut extras = [0; 20];
        extras[7] = 3;
        extras[15] = 4;
        for (end, exptime) in [([0, 0, 0, 9], Some(9)), ([0xff; 4], None)] {
            extras[16..].copy_from_slice(&end);
            let want = Verb::Arithmetic {
                verb: ArithmeticVerb::Decrement,
                delta: 3,
                initial: 4,
                exptime,
            };
            assert_eq!(verb_of(&frame(0x06, &extras, b"n", 1, 21)), want);
        }
    }
}
