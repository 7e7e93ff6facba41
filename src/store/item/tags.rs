//! Tags of an item. An item holds hashes instead of names: an invalidation finds
//! it by them, and nobody asks for the names.

use crate::limits::TAGS_MAX;

/// Bits of a [`NameHash`].
pub(crate) const NAME_HASH_BITS: u32 = 24;
/// Bytes of a [`NameHash`] in an item.
pub(in crate::store) const TAG_BYTES: usize = NAME_HASH_BITS as usize / 8;

/// Hash of a prefix or tag: the part that an item holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameHash(u32);

impl NameHash {
    /// Cuts a hash of 64 bits.
    #[inline]
    pub(crate) fn new(hash: u64) -> Self {
        Self(hash as u32 & ((1 << NAME_HASH_BITS) - 1))
    }

    /// Returns the number.
    #[inline]
    pub(crate) fn number(self) -> usize {
        self.0 as usize
    }
}

/// The tags of an item, at most [`TAGS_MAX`]; the default is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    count: u8,
    bytes: [u8; TAGS_MAX * TAG_BYTES],
}

impl Default for Tags {
    fn default() -> Self {
        Self {
            count: 0,
            bytes: [0; TAGS_MAX * TAG_BYTES],
        }
    }
}

impl Tags {
    /// Reads tags as [`Tags::bytes`] returns them; further ones than
    /// [`TAGS_MAX`] are left out.
    pub(in crate::store) fn of_bytes(bytes: &[u8]) -> Self {
        let mut tags = Self::default();
        let len = bytes.len().min(tags.bytes.len());
        tags.bytes[..len].copy_from_slice(&bytes[..len]);
        tags.count = (len / TAG_BYTES) as u8;
        tags
    }

    /// Adds a tag, unless it is there. Returns false if there are too many.
    #[must_use]
    pub(crate) fn add(&mut self, tag: NameHash) -> bool {
        if hashes_in(self.bytes()).any(|present| present == tag) {
            return true;
        }
        let start = self.bytes().len();
        let Some(place) = self.bytes.get_mut(start..start + TAG_BYTES) else {
            return false;
        };
        place.copy_from_slice(&tag.0.to_le_bytes()[..TAG_BYTES]);
        self.count += 1;
        true
    }

    /// Returns these tags and those of `more`; `None` if they are too many.
    #[must_use]
    pub fn union(mut self, more: &Self) -> Option<Self> {
        hashes_in(more.bytes())
            .all(|tag| self.add(tag))
            .then_some(self)
    }

    /// Returns the number of tags.
    pub fn count(&self) -> usize {
        self.count.into()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the tags as an item holds them.
    pub(in crate::store) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.count() * TAG_BYTES]
    }
}

/// Returns the hashes in the bytes of an item's tags.
pub(in crate::store) fn hashes_in(bytes: &[u8]) -> impl Iterator<Item = NameHash> {
    bytes
        .chunks_exact(TAG_BYTES)
        .map(|tag| NameHash(u32::from_le_bytes([tag[0], tag[1], tag[2], 0])))
}

#[cfg(test)]
mod tests {
    use super::{NameHash, Tags, hashes_in};
    use crate::limits::TAGS_MAX;

    #[test]
    fn tags_are_a_small_set() {
        let mut tags = Tags::default();
        assert!(tags.is_empty());
        for number in 0..TAGS_MAX as u64 {
            assert!(tags.add(NameHash::new(number << 8)));
            assert!(tags.add(NameHash::new(number << 8)), "already there");
        }
        assert_eq!(tags.count(), TAGS_MAX);
        assert!(!tags.add(NameHash::new(1)), "one too many");
        assert_eq!(Tags::of_bytes(tags.bytes()), tags);
        assert_eq!(tags.union(&tags), Some(tags));
        let numbers = hashes_in(tags.bytes()).map(NameHash::number);
        assert!(numbers.eq((0..TAGS_MAX).map(|number| number << 8)));
        let mut other = Tags::default();
        assert!(other.add(NameHash::new(1)));
        assert_eq!(tags.union(&other), None);
    }
}
