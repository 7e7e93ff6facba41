//! Keys of meta commands in base64.

use crate::limits::KEY_MAX_BYTES;

/// The key of a meta command, decoded if it was sent in base64.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives on the stack for one command; a box would be memory per key"
)]
#[derive(Debug)]
pub enum MetaKey<'a> {
    /// The key as sent.
    Plain(&'a [u8]),
    /// The decoded key and its length in bytes.
    Decoded([u8; KEY_MAX_BYTES], usize),
}

impl<'a> MetaKey<'a> {
    /// Decodes a key if it was sent in base64. A key that does not decode is
    /// empty; the parser refuses it except in `me`.
    #[inline]
    pub fn new(key: &'a [u8], base64: bool) -> Self {
        if !base64 {
            return Self::Plain(key);
        }
        let mut buffer = [0; KEY_MAX_BYTES];
        let len = decode_key(key, &mut buffer).map_or(0, <[u8]>::len);
        Self::Decoded(buffer, len)
    }

    /// Returns the bytes of the decoded key.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(key) => key,
            Self::Decoded(buffer, len) => &buffer[..*len],
        }
    }
}

/// Returns whether a key that was sent in base64 must also be returned in base64,
/// because it contains a space, CR or LF. As in memcached, only items made by
/// `ms` otherwise remember that their key was sent in base64.
pub fn needs_base64(key: &[u8]) -> bool {
    key.iter().any(|byte| matches!(byte, b' ' | b'\r' | b'\n'))
}

/// Decodes a base64 key into `buffer`, as leniently as memcached: characters
/// outside the alphabet are skipped, unused bits may be set, and anything after
/// a padded group is ignored. Returns `None` if the key is invalid, empty or
/// too long.
pub fn decode_key<'b>(key: &[u8], buffer: &'b mut [u8; KEY_MAX_BYTES]) -> Option<&'b [u8]> {
    let symbols = || key.iter().copied().filter_map(symbol);
    let count = symbols().count();
    if count == 0 || !count.is_multiple_of(4) {
        return None;
    }
    let mut symbols = symbols();
    let mut len = 0;
    while let (Some(a), Some(b), Some(c), Some(d)) = (
        symbols.next(),
        symbols.next(),
        symbols.next(),
        symbols.next(),
    ) {
        let group = [a, b, c, d];
        let padding = group.iter().filter(|symbol| **symbol == PADDING).count();
        let bits = group
            .iter()
            .fold(0, |bits, symbol| bits << 6 | u32::from(symbol & 0x3f));
        let [_, bytes @ ..] = bits.to_be_bytes();
        let bytes = match padding {
            0..=2 => &bytes[..3 - padding],
            _ => return None,
        };
        buffer
            .get_mut(len..len + bytes.len())?
            .copy_from_slice(bytes);
        len += bytes.len();
        if padding > 0 {
            break;
        }
    }
    Some(&buffer[..len])
}

/// Symbol of `=`: its low six bits are zero and are cut off.
const PADDING: u8 = 0x40;

/// Returns the six bits of a base64 character; `None` if it is none.
fn symbol(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        b'=' => PADDING,
        _ => return None,
    })
}

/// Appends `key` in base64.
pub fn encode_key(key: &[u8], out: &mut Vec<u8>) {
    use base64::Engine as _;
    let start = out.len();
    out.resize(start + key.len().div_ceil(3) * 4, 0);
    let written = BASE64
        .encode_slice(key, &mut out[start..])
        .expect("four bytes for every three begun are room enough");
    out.truncate(start + written);
}

const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;
