//! Answers as binary packets (doc/protocol-binary.txt): a header of 24 bytes,
//! then extras, key and value. Appends to a buffer; never formats.

use crate::protocol::binary::header::HEADER_BYTES;

/// First byte of an answer.
pub const MAGIC: u8 = 0x81;

/// What became of a request, with the number that says so on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    /// Done.
    Ok = 0x00,
    /// No such key.
    NotFound = 0x01,
    /// There is such a key, or its CAS value is another one.
    Exists = 0x02,
    /// The value is larger than an item may be.
    TooLarge = 0x03,
    /// Lengths or extras that do not fit the command.
    Invalid = 0x04,
    /// There was nothing to add to.
    NotStored = 0x05,
    /// The value to count on is no number.
    NonNumeric = 0x06,
    /// Not allowed, or not without authentication.
    Auth = 0x20,
    /// Authentication goes on.
    AuthContinue = 0x21,
    /// No such command.
    Unknown = 0x81,
    /// No memory, and nothing may be evicted.
    OutOfMemory = 0x82,
}

impl Status {
    /// The body of an answer with this status, in memcached's words.
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

/// What an answer repeats of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The opcode as it came, quiet or not.
    pub opcode: u8,
    /// The client's mark, in whatever byte order it is.
    pub opaque: [u8; 4],
}

/// Lengths of the parts that follow a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Bytes of extras.
    pub extras: u8,
    /// Bytes of the key.
    pub key: usize,
    /// Bytes of the value.
    pub value: usize,
}

/// The header of an answer.
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

/// Appends an answer that is nothing but a value.
pub fn plain(out: &mut Vec<u8>, echo: Echo, cas: u64, value: &[u8]) {
    let lengths = Lengths {
        value: value.len(),
        ..Lengths::default()
    };
    out.extend_from_slice(&header(echo, Status::Ok, lengths, cas));
    out.extend_from_slice(value);
}

/// Appends an answer that says why not.
pub fn error(out: &mut Vec<u8>, echo: Echo, status: Status) {
    let text = status.text().as_bytes();
    let lengths = Lengths {
        value: text.len(),
        ..Lengths::default()
    };
    out.extend_from_slice(&header(echo, status, lengths, 0));
    out.extend_from_slice(text);
}

/// Appends an answer with a key: a statistic, or a miss that tells its key.
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
    use super::{Echo, Status, error, keyed, plain};

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
}
