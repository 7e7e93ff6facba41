//! Requests in bytes, as a client writes them, and what their answers will look like.
//!
//! Owns the spelling of requests in the text, meta and binary protocols and the [`Expected`] note
//! that goes with each; `replies` reads the answers by these notes. Kept apart from the server's
//! own protocol code on purpose: a fault there must not hide itself by being made twice.

/// What kind of answer a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `VALUE` blocks, then `END`.
    Values,
    /// One line such as `STORED`.
    Stored,
    /// One line: a number, `DELETED` or `TOUCHED`; or `NOT_FOUND`.
    Found,
    /// `VA` with data, or `EN`.
    MetaValue,
    /// `HD`, or another two-letter status.
    MetaStatus,
    /// A binary header with a body.
    Binary,
}

/// What is known of an answer before it comes.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// How to read it.
    pub kind: Kind,
    /// How many keys the request named.
    pub keys: u16,
    /// The number of the (first) key.
    pub key: u32,
    /// Bytes of one `VALUE` block or one `VA` answer when it is a hit, 0 if that is not known.
    pub hit_length: u32,
}

impl Expected {
    /// An answer for one key.
    pub fn one(kind: Kind, key: u32) -> Self {
        Expected {
            kind,
            keys: 1,
            key,
            hit_length: 0,
        }
    }
}

/// `get` or `gets` with one key or several, already joined by spaces.
pub fn push_get(out: &mut Vec<u8>, verb: &str, keys: &[u8]) {
    push_parts(out, &[verb.as_bytes(), b" ", keys, b"\r\n"]);
}

/// `set`; the value follows from the caller by way of `push_value`, then the line end.
pub fn push_set(
    out: &mut Vec<u8>,
    key: &[u8],
    ttl: u32,
    size: usize,
    push_value: impl FnOnce(&mut Vec<u8>),
) {
    let (mut ttl_text, mut size_text) = (itoa::Buffer::new(), itoa::Buffer::new());
    let ttl = ttl_text.format(ttl).as_bytes();
    let size = size_text.format(size).as_bytes();
    push_parts(out, &[b"set ", key, b" 0 ", ttl, b" ", size, b"\r\n"]);
    push_value(out);
    out.extend_from_slice(b"\r\n");
}

/// `ms`, likewise.
pub fn push_meta_set(
    out: &mut Vec<u8>,
    key: &[u8],
    ttl: u32,
    size: usize,
    push_value: impl FnOnce(&mut Vec<u8>),
) {
    let (mut ttl_text, mut size_text) = (itoa::Buffer::new(), itoa::Buffer::new());
    let ttl = ttl_text.format(ttl).as_bytes();
    let size = size_text.format(size).as_bytes();
    push_parts(out, &[b"ms ", key, b" ", size, b" T", ttl, b"\r\n"]);
    push_value(out);
    out.extend_from_slice(b"\r\n");
}

/// `mg` that asks for the value.
pub fn push_meta_get(out: &mut Vec<u8>, key: &[u8]) {
    push_parts(out, &[b"mg ", key, b" v\r\n"]);
}

/// `incr` by one.
pub fn push_incr(out: &mut Vec<u8>, key: &[u8]) {
    push_parts(out, &[b"incr ", key, b" 1\r\n"]);
}

/// `delete`.
pub fn push_delete(out: &mut Vec<u8>, key: &[u8]) {
    push_parts(out, &[b"delete ", key, b"\r\n"]);
}

/// `touch`.
pub fn push_touch(out: &mut Vec<u8>, key: &[u8], ttl: u32) {
    let mut ttl_text = itoa::Buffer::new();
    let ttl = ttl_text.format(ttl).as_bytes();
    push_parts(out, &[b"touch ", key, b" ", ttl, b"\r\n"]);
}

/// A binary get (opcode 0), which answers misses too.
pub fn push_binary_get(out: &mut Vec<u8>, key: &[u8]) {
    let length = key.len() as u16;
    let mut header = [0u8; 24];
    header[0] = 0x80;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[8..12].copy_from_slice(&u32::from(length).to_be_bytes());
    push_parts(out, &[&header, key]);
}

/// Bytes of a `VALUE` block (without `END`) whose client flags are 0.
pub fn value_block_length(key_length: usize, size: usize) -> u32 {
    let fixed = "VALUE ".len() + " 0 ".len() + "\r\n".len() + "\r\n".len();
    (fixed + key_length + decimal_length(size) + size) as u32
}

/// Bytes of a `VA` answer without flags.
pub fn meta_value_length(size: usize) -> u32 {
    ("VA ".len() + decimal_length(size) + "\r\n".len() + size + "\r\n".len()) as u32
}

fn decimal_length(number: usize) -> usize {
    itoa::Buffer::new().format(number).len()
}

fn push_parts(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        meta_value_length, push_binary_get, push_get, push_meta_set, push_set, value_block_length,
    };

    #[test]
    fn requests_are_spelt_as_the_protocol_has_them() {
        let mut out = Vec::new();
        push_get(&mut out, "get", b"a b");
        push_set(&mut out, b"k", 60, 2, |out| out.extend_from_slice(b"hi"));
        push_meta_set(&mut out, b"k", 0, 1, |out| out.push(b'x'));
        assert_eq!(out, b"get a b\r\nset k 0 60 2\r\nhi\r\nms k 1 T0\r\nx\r\n");
    }

    #[test]
    fn a_binary_get_has_its_lengths_in_network_order() {
        let mut out = Vec::new();
        push_binary_get(&mut out, b"abc");
        assert_eq!(out.len(), 27);
        assert_eq!(&out[..12], &[0x80, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(&out[24..], b"abc");
    }

    #[test]
    fn hit_lengths_are_those_of_the_answers() {
        assert_eq!(
            value_block_length(3, 5),
            b"VALUE abc 0 5\r\nhello\r\n".len() as u32
        );
        assert_eq!(
            meta_value_length(10),
            b"VA 10\r\n0123456789\r\n".len() as u32
        );
    }
}
