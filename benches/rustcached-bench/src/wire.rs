//! Encodes requests, with information about their replies.
//!
//! Encodes requests of the text, meta and binary protocols, and the [`Expected`] information by
//! which `replies` reads each reply. Deliberately independent of the server's protocol code: a bug
//! there must not be hidden by the same bug here.

/// The kind of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `VALUE` blocks, then `END`.
    Values,
    /// A line such as `STORED`.
    Stored,
    /// A line: a number, `DELETED`, `TOUCHED` or `NOT_FOUND`.
    Found,
    /// `VA` with a data block, or `EN`.
    MetaValue,
    /// `HD`, or another two-letter status.
    MetaStatus,
    /// A binary header with a body.
    Binary,
}

/// Information about a reply, known when the request is encoded.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Kind of the reply.
    pub kind: Kind,
    /// Number of keys in the request.
    pub keys: u16,
    /// Number of the (first) key.
    pub key: u32,
    /// Length in bytes of a `VALUE` block or `VA` reply if it is a hit, 0 if unknown.
    pub hit_length: u32,
}

impl Expected {
    /// Returns information about the reply to a request with a single key.
    pub fn one(kind: Kind, key: u32) -> Self {
        Expected {
            kind,
            keys: 1,
            key,
            hit_length: 0,
        }
    }
}

/// Appends a `get` or `gets` with one or several keys, already joined by spaces.
pub fn push_get(out: &mut Vec<u8>, verb: &str, keys: &[u8]) {
    push_parts(out, &[verb.as_bytes(), b" ", keys, b"\r\n"]);
}

/// Appends a `set`. The value is written by `push_value`, followed by the CRLF.
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

/// Appends an `ms`. The value is written by `push_value`, followed by the CRLF.
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

/// Appends an `mg` with the flag `v`.
pub fn push_meta_get(out: &mut Vec<u8>, key: &[u8]) {
    push_parts(out, &[b"mg ", key, b" v\r\n"]);
}

/// Appends an `incr` by 1.
pub fn push_incr(out: &mut Vec<u8>, key: &[u8]) {
    push_parts(out, &[b"incr ", key, b" 1\r\n"]);
}

/// Appends a `delete`.
pub fn push_delete(out: &mut Vec<u8>, key: &[u8]) {
    push_parts(out, &[b"delete ", key, b"\r\n"]);
}

/// Appends a `touch`; `ttl` is in seconds.
pub fn push_touch(out: &mut Vec<u8>, key: &[u8], ttl: u32) {
    let mut ttl_text = itoa::Buffer::new();
    let ttl = ttl_text.format(ttl).as_bytes();
    push_parts(out, &[b"touch ", key, b" ", ttl, b"\r\n"]);
}

/// Appends a binary get (opcode 0), which is answered on a miss too.
pub fn push_binary_get(out: &mut Vec<u8>, key: &[u8]) {
    let length = key.len() as u16;
    let mut header = [0u8; 24];
    header[0] = 0x80;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[8..12].copy_from_slice(&u32::from(length).to_be_bytes());
    push_parts(out, &[&header, key]);
}

/// Returns the length of a `VALUE` block in bytes, without `END`, for client flags 0.
pub fn value_block_length(key_length: usize, size: usize) -> u32 {
    let fixed = "VALUE ".len() + " 0 ".len() + "\r\n".len() + "\r\n".len();
    (fixed + key_length + decimal_length(size) + size) as u32
}

/// Returns the length of a `VA` reply without flags in bytes.
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
