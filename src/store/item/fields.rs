//! Header bits of an item, the places of its fields, and the description from
//! which it is made. `layout.rs` draws the layout.

use crate::store::item::tags::{TAG_BYTES, Tags};
use crate::time::Expiry;

/// Bit: fetched since it was stored.
pub(crate) const FETCHED: u8 = 1;
/// Bit: marked stale (`md` with flag `I`).
pub(crate) const STALE: u8 = 1 << 1;
/// Bit: a client has won the token to recache the item.
pub(crate) const TOKEN_SENT: u8 = 1 << 2;
/// Bit: the key was sent in base64 (meta flag `b`).
pub(crate) const KEY_BINARY: u8 = 1 << 3;
/// Bit: the item has an expiry field.
pub(super) const HAS_EXPIRY: u8 = 1 << 4;
/// Bit: the item has a client flags field.
pub(super) const HAS_FLAGS: u8 = 1 << 5;
/// Bit: the item has segments.
pub(super) const CHAINED: u8 = 1 << 6;
/// Bit: the item has an extension: tags, or a birth of its own.
pub(super) const HAS_EXTENSION: u8 = 1 << 7;

/// Bytes of the fixed part of a header.
pub(super) const HEADER_BYTES: usize = 20;
/// Offset of the fields that only a chained item has.
pub(in crate::store) const CHAIN_OFFSET: usize = 24;
/// Offset of their end.
pub(super) const CHAIN_END: usize = CHAIN_OFFSET + 16;
/// Bytes by which the header of a chained item is longer.
pub(in crate::store) const CHAIN_BYTES: usize = CHAIN_END - HEADER_BYTES;

/// Bits of an extension's first byte that hold the number of tags.
pub(super) const TAG_COUNT: u8 = 0x1f;
/// Bit of an extension's first byte: it has a birth.
pub(super) const HAS_BIRTH: u8 = 1 << 7;
/// Bytes of a birth.
pub(super) const BIRTH_BYTES: usize = 8;

/// Everything an item is made from except its value.
#[derive(Clone, Copy, Debug)]
pub struct ItemSpec<'a> {
    /// The key, 1 to 250 bytes.
    pub key: &'a [u8],
    /// Opaque client flags.
    pub flags: u32,
    /// Expiry time.
    pub expiry: Expiry,
    /// Bytes of the value.
    pub value_len: usize,
    /// Whether the key was sent in base64.
    pub key_binary: bool,
    /// Reserve an expiry field even if the item never expires, so that its
    /// expiry time can be changed in place.
    pub with_expiry_field: bool,
    /// Reserve a birth field, because a client gives the CAS value.
    pub with_birth_field: bool,
    /// Tags, if there are any.
    pub tags: Option<&'a Tags>,
}

impl<'a> ItemSpec<'a> {
    /// Returns the spec of an item without client flags and tags that never
    /// expires.
    #[must_use]
    pub const fn new(key: &'a [u8], value_len: usize) -> Self {
        Self {
            key,
            flags: 0,
            expiry: Expiry::NEVER,
            value_len,
            key_binary: false,
            with_expiry_field: false,
            with_birth_field: false,
            tags: None,
        }
    }

    pub(super) fn bits(&self) -> u8 {
        let mut bits = 0;
        if self.with_expiry_field || self.expiry != Expiry::NEVER {
            bits |= HAS_EXPIRY;
        }
        if self.flags != 0 {
            bits |= HAS_FLAGS;
        }
        if self.key_binary {
            bits |= KEY_BINARY;
        }
        if self.extension() != 0 {
            bits |= HAS_EXTENSION;
        }
        bits
    }

    /// Returns the first byte of the extension; 0 if the item needs none.
    pub(super) fn extension(&self) -> u8 {
        let count = self.tags.map_or(0, |tags| tags.count() as u8);
        count | if self.with_birth_field { HAS_BIRTH } else { 0 }
    }

    /// Returns the bytes that the item takes if it lies in one chunk.
    pub(crate) fn bytes(&self) -> usize {
        let head = extension_offset(self.bits()) + extension_bytes(self.extension());
        head + self.key.len() + self.value_len
    }

    /// Returns the bytes that the item takes if it is chained, without the
    /// headers of its segments.
    pub(crate) fn chained_bytes(&self) -> usize {
        self.bytes() + CHAIN_BYTES
    }
}

pub(super) const fn fields_offset(bits: u8) -> usize {
    if bits & CHAINED != 0 {
        CHAIN_END
    } else {
        HEADER_BYTES
    }
}

pub(super) const fn flags_offset(bits: u8) -> usize {
    fields_offset(bits) + field_bytes(bits, HAS_EXPIRY)
}

/// Returns the offset of the extension, or of the key if there is none.
pub(super) const fn extension_offset(bits: u8) -> usize {
    flags_offset(bits) + field_bytes(bits, HAS_FLAGS)
}

/// Returns the bytes of an extension with this first byte; 0 for none.
pub(super) const fn extension_bytes(extension: u8) -> usize {
    if extension == 0 {
        return 0;
    }
    let birth = (extension & HAS_BIRTH) as usize / HAS_BIRTH as usize * BIRTH_BYTES;
    birth_offset(extension) + birth
}

/// Returns the offset of the birth within an extension: behind the tags, aligned
/// to 4.
pub(super) const fn birth_offset(extension: u8) -> usize {
    let tags = (extension & TAG_COUNT) as usize * TAG_BYTES;
    (1 + tags).next_multiple_of(4)
}

/// Returns the bytes of the field that `bit` announces: 4 or 0, without a
/// branch.
const fn field_bytes(bits: u8, bit: u8) -> usize {
    (bits & bit) as usize * 4 / bit as usize
}

#[cfg(test)]
mod tests {
    use super::{HAS_BIRTH, ItemSpec, extension_bytes};
    use crate::store::item::tags::{NameHash, Tags};

    #[test]
    fn an_extension_costs_what_it_holds() {
        let plain = ItemSpec::new(b"key", 10);
        assert_eq!(extension_bytes(0), 0);
        for (count, bytes) in [(1, 4), (2, 8), (3, 12), (5, 16), (16, 52)] {
            let mut tags = Tags::default();
            assert!((0..count).all(|tag| tags.add(NameHash::new(tag))));
            let tags = Some(&tags);
            let spec = ItemSpec { tags, ..plain };
            assert_eq!(spec.bytes() - plain.bytes(), bytes, "{count} tags");
            let spec = ItemSpec {
                with_birth_field: true,
                ..spec
            };
            assert_eq!(spec.bytes() - plain.bytes(), bytes + 8, "{count} tags");
        }
        assert_eq!(extension_bytes(HAS_BIRTH), 12);
    }
}
