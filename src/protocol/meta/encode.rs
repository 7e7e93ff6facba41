//! Parts of meta answers. Appends to a buffer; never formats.

use crate::protocol::meta::key::encode_key;
use crate::protocol::text::encode;

/// Appends ` k<key>`, with ` b` behind a key that is spelt in base64.
pub fn key(out: &mut Vec<u8>, key: &[u8], base64: bool) {
    out.extend_from_slice(b" k");
    if base64 {
        encode_key(key, out);
        out.extend_from_slice(b" b");
    } else {
        out.extend_from_slice(key);
    }
}

/// Appends ` <flag><number>`.
pub fn number(out: &mut Vec<u8>, flag: u8, value: u64) {
    out.extend_from_slice(&[b' ', flag]);
    encode::number(out, value);
}

/// Appends a token as it came, a blank before it.
pub fn token(out: &mut Vec<u8>, token: &[u8]) {
    out.push(b' ');
    out.extend_from_slice(token);
}
