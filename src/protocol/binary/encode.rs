//! Encodes replies of the binary protocol (doc/protocol-binary.txt): a header
//! of 24 bytes, then extras, key and value. Appends to a buffer.

use crate::protocol::binary::header::HEADER_BYTES;

/// First byte of a reply.
pub const MAGIC: u8 = 0x81;

/// Status of a reply, with its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    /// Success.
    Ok = 0x00,
    /// Key not found.
    NotFound = 0x01,
    /// The key exists, or the CAS value differs.
    Exists = 0x02,
    /// The value exceeds the item size limit.
    TooLarge = 0x03,
    /// The lengths or extras do not fit the command.
    Invalid = 0x04,
    /// `append` or `prepend` found no item, or no room for the result.
    NotStored = 0x05,
    /// `increment` or `decrement` on a value that is no number.
    NonNumeric = 0x06,
    /// Not permitted, or not without authentication.
    Auth = 0x20,
    /// Another authentication step is needed.
    AuthContinue = 0x21,
    /// Unknown command.
    Unknown = 0x81,
    /// Out of memory, and nothing can be evicted.
    OutOfMemory = 0x82,
}

impl Status {
    /// Returns the body of an error reply in memcached's words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Ok | Self::AuthContinue => "",
            Self::NotFound => "Not found",
            Self::Exists => "Data exists for key.",
            Self::TooLarge => "Too large.",
            Self::Invalid => "Invalid arguments",
            Self::NotStored => "Not stored.",
            Self::NonNumeric => "Non-numeric server-side value for incr or decr",
            Self::Auth => "Auth failure.",
            Self::Unknown => "Unknown command",
            Self::OutOfMemory => "Out of memory",
        }
    }
}

/// Header fields that a reply repeats from its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The opcode as received, quiet or not.
    pub opcode: u8,
    /// The opaque, uninterpreted.
    pub opaque: [u8; 4],
}

/// Lengths of the parts after the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Length of the extras in bytes.
    pub extras: u8,
    /// Length of the key in bytes.
    pub key: usize,
    /// Length of the value in bytes.
    pub value: usize,
}

/// Encodes the header of a reply; `cas` is 0 for none.
#[inline]
pub fn header(echo: Echo, status: Status, lengths: Lengths, cas: u64) -> [u8; HEADER_BYTES] {
    let body = usize::from(lengths.extras) + lengths.key + lengths.value;
    let mut bytes = [0; HEADER_BYTES];
    bytes[0] = MAGIC;
    bytes[1] = echo.opcode;
    bytes[2..4].copy_from_slice(&(lengths.key as u16).to_be_bytes());
    bytes[4] = lengths.extras;
    bytes[6..8].copy_from_slice(&(status as u16).to_be_bytes());
    bytes[8..12].copy_from_slice(&(body as u32).to_be_bytes());
    bytes[12..16].copy_from_slice(&echo.opaque);
    bytes[16..24].copy_from_slice(&cas.to_be_bytes());
    bytes
}

/// Appends a success reply with a value only.
pub fn plain(out: &mut Vec<u8>, echo: Echo, cas: u64, value: &[u8]) {
    let lengths = Lengths {
        value: value.len(),
        ..Lengths::default()
    };
    out.extend_from_slice(&header(echo, Status::Ok, lengths, cas));
    out.extend_from_slice(value);
}

/// Appends the reply to a retrieval up to its value, which follows. `key` is
/// empty unless the reply includes it. Without a value, this is the reply to
/// `touch`.
#[inline]
pub fn item(out: &mut Vec<u8>, echo: Echo, key: &[u8], flags: u32, value_len: usize, cas: u64) {
    const FLAGS_BYTES: usize = 4;
    let lengths = Lengths {
        extras: FLAGS_BYTES as u8,
        key: key.len(),
        value: value_len,
    };
    let mut front = [0; HEADER_BYTES + FLAGS_BYTES];
    let (head, extras) = front.split_at_mut(HEADER_BYTES);
    head.copy_from_slice(&header(echo, Status::Ok, lengths, cas));
    extras.copy_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&front);
    out.extend_from_slice(key);
}

/// Appends the reply to `increment` or `decrement`.
#[inline]
pub fn number(out: &mut Vec<u8>, echo: Echo, cas: u64, number: u64) {
    plain(out, echo, cas, &number.to_be_bytes());
}

/// Appends an error reply with the text of its status.
pub fn error(out: &mut Vec<u8>, echo: Echo, status: Status) {
    let text = status.text().as_bytes();
    let lengths = Lengths {
        value: text.len(),
        ..Lengths::default()
    };
    out.extend_from_slice(&header(echo, status, lengths, 0));
    out.extend_from_slice(text);
}

/// Appends a reply with key and value, without extras: a statistic, or a miss
/// of `getk`.
pub fn keyed(out: &mut Vec<u8>, echo: Echo, status: Status, key: &[u8], value: &[u8]) {
    let lengths = Lengths {
        extras: 0,
        key: key.len(),
        value: value.len(),
    };
    out.extend_from_slice(&header(echo, status, lengths, 0));
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::{Echo, Status, error, item, keyed, plain};

    const ECHO: Echo = Echo {
        opcode: 0x0a,
        opaque: *b"mark",
    };

    #[test]
    fn an_answer_has_its_parts_in_network_order() {
        let mut out = Vec::new();
        plain(&mut out, ECHO, 0x0102_0304_0506_0708, b"abc");
        let want = b"\x81\x0a\0\0\0\0\0\0\0\0\0\x03mark\x01\x02\x03\x04\x05\x06\x07\x08abc";
        assert_eq!(out, want);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let mut out = Vec::new();
        error(&mut out, ECHO, Status::Unknown);
        let want = b"\x81\x0a\0\0\0\0\0\x81\0\0\0\x0fmark\0\0\0\0\0\0\0\0Unknown command";
        assert_eq!(out, want);
    }

    #[test]
    fn keys_come_before_values() {
        let mut out = Vec::new();
        keyed(&mut out, ECHO, Status::NotFound, b"key", b"v");
        let want = b"\x81\x0a\0\x03\0\0\0\x01\0\0\0\x04mark\0\0\0\0\0\0\0\0keyv";
        assert_eq!(out, want);
    }

    #[test]
    fn client_flags_come_before_the_key() {
        let mut out = Vec::new();
        item(&mut out, ECHO, b"key", 5, 2, 7);
        out.extend_from_slice(b"hi");
        let want = b"\x81\x0a\0\x03\x04\0\0\0\0\0\0\x09mark\0\0\0\0\0\0\0\x07\0\0\0\x05keyhi";
        assert_eq!(out, want);
    }
}
