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
/// Bit: the item has an extension: tags, or a birth field.
pub(super) const HAS_EXTENSION: u8 = 1 << 7;

/// Offset of the fields that only a chained item has, behind the fixed part of a
/// header.
pub(in crate::store) const CHAIN_OFFSET: usize = 16;
/// Offset of their end.
pub(super) const CHAIN_END: usize = CHAIN_OFFSET + 16;
/// Bytes of the value length of an item that is not chained.
const VALUE_LEN_BYTES: usize = 2;
/// Bytes by which the header of a chained item is longer, apart from the
/// alignment of a birth field.
pub(in crate::store) const CHAIN_BYTES: usize = CHAIN_END - CHAIN_OFFSET - VALUE_LEN_BYTES;

/// Bits of an extension's first byte that hold the number of tags.
pub(super) const TAG_COUNT: u8 = 0x1f;
/// Bit of an extension's first byte: it has a birth field.
pub(super) const HAS_BIRTH: u8 = 1 << 7;
/// Bytes of a birth field: a CAS value and a birth.
pub(super) const BIRTH_BYTES: usize = 16;

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
    /// Reserve a birth field, because a client gives the CAS value. See
    /// [`Store::needs_birth_field`](crate::store::Store::needs_birth_field).
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

    /// Returns the same spec with a birth field.
    #[cold]
    pub(super) fn with_birth(&self) -> Self {
        Self {
            with_birth_field: true,
            ..*self
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
        self.bytes_with(self.bits())
    }

    /// Returns the bytes that the item takes if it is chained, without the
    /// headers of its segments.
    pub(crate) fn chained_bytes(&self) -> usize {
        self.bytes_with(self.bits() | CHAINED)
    }

    fn bytes_with(&self, bits: u8) -> usize {
        key_offset(bits, self.extension()) + self.key.len() + self.value_len
    }
}

pub(super) const fn fields_offset(bits: u8) -> usize {
    if bits & CHAINED != 0 {
        CHAIN_END
    } else {
        CHAIN_OFFSET
    }
}

pub(super) const fn flags_offset(bits: u8) -> usize {
    fields_offset(bits) + field_bytes(bits, HAS_EXPIRY)
}

/// Returns the offset of the value length of an item that is not chained. It lies
/// behind the fields of 4 bytes, so that these are aligned without a gap.
pub(super) const fn value_len_offset(bits: u8) -> usize {
    flags_offset(bits) + field_bytes(bits, HAS_FLAGS)
}

/// Returns the offset of the extension, or of the key if there is none.
pub(super) const fn extension_offset(bits: u8) -> usize {
    let value_len = if bits & CHAINED != 0 {
        0
    } else {
        VALUE_LEN_BYTES
    };
    value_len_offset(bits) + value_len
}

/// Returns the offset of the birth field: behind the tags, aligned to 8.
pub(super) const fn birth_offset(bits: u8, extension: u8) -> usize {
    tags_end(bits, extension).next_multiple_of(8)
}

const fn tags_end(bits: u8, extension: u8) -> usize {
    extension_offset(bits) + 1 + (extension & TAG_COUNT) as usize * TAG_BYTES
}

/// Returns the offset of the key of an item whose extension has this first byte;
/// 0 for no extension.
#[inline]
pub(super) const fn key_offset(bits: u8, extension: u8) -> usize {
    if extension == 0 {
        extension_offset(bits)
    } else if extension & HAS_BIRTH != 0 {
        birth_offset(bits, extension) + BIRTH_BYTES
    } else {
        tags_end(bits, extension)
    }
}

/// Returns the bytes of the field that `bit` announces: 4 or 0, without a
/// branch.
const fn field_bytes(bits: u8, bit: u8) -> usize {
    (bits & bit) as usize * 4 / bit as usize
}

#[cfg(test)]
mod tests {
    use super::ItemSpec;
    use crate::store::item::tags::{NameHash, Tags};
    use crate::time::Expiry;

    #[test]
    fn an_item_takes_what_its_fields_need() {
        let plain = ItemSpec::new(b"key", 10);
        assert_eq!((plain.bytes(), plain.chained_bytes()), (18 + 13, 32 + 13));
        let spec = |flags, expiry| ItemSpec {
            flags,
            expiry,
            ..plain
        };
        assert_eq!(spec(7, Expiry::NEVER).bytes(), 22 + 13);
        assert_eq!(spec(0, Expiry(7)).bytes(), 22 + 13);
        assert_eq!(spec(7, Expiry(7)).bytes(), 26 + 13);
        assert_eq!(spec(7, Expiry(7)).chained_bytes(), 40 + 13);
    }

    #[test]
    fn an_extension_costs_what_it_holds() {
        let plain = ItemSpec::new(b"key", 10);
        for count in [1, 2, 3, 5, 16] {
            let mut tags = Tags::default();
            assert!((0..count).all(|tag| tags.add(NameHash::new(tag))));
            let spec = ItemSpec {
                tags: Some(&tags),
                ..plain
            };
            let of_tags = 1 + 3 * count as usize;
            assert_eq!(spec.bytes() - plain.bytes(), of_tags, "{count} tags");
            let spec = ItemSpec {
                with_birth_field: true,
                ..spec
            };
            // Both of 8 bytes, aligned in the chunk.
            let end = (18 + of_tags).next_multiple_of(8) + 16;
            assert_eq!(spec.bytes(), end + 13, "{count} tags");
        }
        let spec = ItemSpec {
            with_birth_field: true,
            ..plain
        };
        assert_eq!((spec.bytes(), spec.chained_bytes()), (40 + 13, 56 + 13));
    }
}
