//! Encodes the parts of meta replies. Appends to a buffer.

use crate::limits::ClassId;
use crate::protocol::meta::key::encode_key;
use crate::protocol::text::encode;

/// The two letters that begin a meta reply without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `HD`: done.
    Done,
    /// `NS`: not stored.
    NotStored,
    /// `EX`: the CAS value differs.
    Exists,
    /// `NF`: no such item.
    NotFound,
    /// `EN`: a miss of `mg` or `me`.
    Miss,
}

/// Value of a return flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagValue {
    /// The flag returns nothing.
    Absent,
    /// A number.
    Number(u64),
    /// -1, the TTL of an item that never expires.
    Never,
}

impl From<bool> for FlagValue {
    fn from(value: bool) -> Self {
        Self::Number(value.into())
    }
}

impl Status {
    /// Returns the letters.
    pub fn letters(self) -> &'static [u8; 2] {
        match self {
            Self::Done => b"HD",
            Self::NotStored => b"NS",
            Self::Exists => b"EX",
            Self::NotFound => b"NF",
            Self::Miss => b"EN",
        }
    }
}

/// Key of a reply, and how it is returned.
#[derive(Clone, Copy, Debug)]
pub struct ReturnKey<'a> {
    /// The decoded key.
    pub key: &'a [u8],
    /// Return it in base64.
    pub base64: bool,
}

/// Begins a reply without a value.
#[inline]
pub fn status(out: &mut Vec<u8>, status: Status) {
    out.extend_from_slice(status.letters());
}

/// Begins a reply with a value of `len` bytes, which follows the flags.
#[inline]
pub fn value(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(b"VA ");
    encode::number(out, len as u64);
}

/// Begins a reply whose value is `number` in decimal and follows the flags.
#[inline]
pub fn number_value(out: &mut Vec<u8>, number: u64) {
    value(out, itoa::Buffer::new().format(number).len());
}

/// Appends the return flags of a request in their order. `tokens` are its flags
/// as sent. The opaque and the key are always returned; `value_of` is called for
/// each other flag in turn and returns its value.
#[inline]
pub fn return_flags(
    out: &mut Vec<u8>,
    tokens: &[u8],
    key: ReturnKey<'_>,
    mut value_of: impl FnMut(u8) -> FlagValue,
) {
    for token in crate::protocol::tokens::tokens(tokens) {
        let flag = token[0];
        match flag {
            b'O' => {
                out.push(b' ');
                out.extend_from_slice(token);
            }
            b'k' => return_key(out, key),
            _ => match value_of(flag) {
                FlagValue::Absent => {}
                FlagValue::Number(value) => {
                    out.extend_from_slice(&[b' ', flag]);
                    encode::number(out, value);
                }
                FlagValue::Never => out.extend_from_slice(&[b' ', flag, b'-', b'1']),
            },
        }
    }
}

/// State of the token to recache an item, as a reply to `mg` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecacheState {
    /// `Z`: another client was sent the token.
    pub is_token_sent: bool,
    /// `X`: the item is stale.
    pub is_stale: bool,
    /// `W`: this client won the token.
    pub has_won: bool,
}

/// Appends the flags of the token to recache an item.
#[inline]
pub fn recache_flags(out: &mut Vec<u8>, state: RecacheState) {
    for (is_set, flag) in [
        (state.is_token_sent, b" Z"),
        (state.is_stale, b" X"),
        (state.has_won, b" W"),
    ] {
        if is_set {
            out.extend_from_slice(flag);
        }
    }
}

/// Appends the reply to `mn`.
pub fn noop(out: &mut Vec<u8>) {
    out.extend_from_slice(b"MN\r\n");
}

/// Properties of an item that `me` returns.
#[derive(Clone, Copy, Debug)]
pub struct ItemDebug<'a> {
    /// The key.
    pub key: ReturnKey<'a>,
    /// TTL in seconds; `None` if the item never expires.
    pub ttl: Option<u32>,
    /// Seconds since the last access.
    pub age: u32,
    /// CAS value.
    pub cas: u64,
    /// The item was fetched since it was stored.
    pub fetched: bool,
    /// Size class.
    pub class: ClassId,
    /// Bytes of memory.
    pub bytes: usize,
}

/// Appends the reply to `me`. A key in base64 is not marked as such.
pub fn debug(out: &mut Vec<u8>, item: ItemDebug<'_>) {
    use std::io::Write as _;
    out.extend_from_slice(b"ME ");
    write_key(out, item.key);
    let ttl = item.ttl.map_or(-1, i64::from);
    let fetched = if item.fetched { "yes" } else { "no" };
    let ItemDebug {
        age,
        cas,
        class,
        bytes,
        ..
    } = item;
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        " exp={ttl} la={age} cas={cas} fetch={fetched} cls={class} size={bytes}\r\n"
    );
}

/// Ends the line of a reply.
#[inline]
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

fn return_key(out: &mut Vec<u8>, key: ReturnKey<'_>) {
    out.extend_from_slice(b" k");
    write_key(out, key);
    if key.base64 {
        out.extend_from_slice(b" b");
    }
}

fn write_key(out: &mut Vec<u8>, key: ReturnKey<'_>) {
    if key.base64 {
        encode_key(key.key, out);
    } else {
        out.extend_from_slice(key.key);
    }
}

#[cfg(test)]
mod tests {
    use super::{FlagValue, RecacheState, ReturnKey, recache_flags, return_flags};

    fn written(tokens: &str, base64: bool) -> String {
        let mut out = Vec::new();
        let key = ReturnKey {
            key: b"foo",
            base64,
        };
        return_flags(&mut out, tokens.as_bytes(), key, |flag| match flag {
            b's' => FlagValue::Number(12),
            b't' => FlagValue::Never,
            b'h' => FlagValue::from(true),
            _ => FlagValue::Absent,
        });
        let state = RecacheState {
            is_token_sent: true,
            is_stale: false,
            has_won: true,
        };
        recache_flags(&mut out, state);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn flags_keep_the_order_of_the_request() {
        assert_eq!(
            written("t s v k Oabc h q", false),
            " t-1 s12 kfoo Oabc h1 Z W"
        );
        assert_eq!(written("b k", true), " kZm9v b Z W");
        assert_eq!(written("", false), " Z W");
    }
}
