//! Encodes the parts of meta replies. Appends to a buffer.

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
}

impl Status {
    /// Returns the letters.
    pub fn letters(self) -> &'static [u8; 2] {
        match self {
            Self::Done => b"HD",
            Self::NotStored => b"NS",
            Self::Exists => b"EX",
            Self::NotFound => b"NF",
        }
    }
}

/// Appends the return flag ` k<key>`, in base64 and followed by ` b` if
/// `base64` is set.
pub fn key(out: &mut Vec<u8>, key: &[u8], base64: bool) {
    out.extend_from_slice(b" k");
    if base64 {
        encode_key(key, out);
        out.extend_from_slice(b" b");
    } else {
        out.extend_from_slice(key);
    }
}

/// Appends the return flag ` <flag><number>`.
pub fn number(out: &mut Vec<u8>, flag: u8, value: u64) {
    out.extend_from_slice(&[b' ', flag]);
    encode::number(out, value);
}

/// Appends a token as the client sent it, after a space.
pub fn token(out: &mut Vec<u8>, token: &[u8]) {
    out.push(b' ');
    out.extend_from_slice(token);
}
