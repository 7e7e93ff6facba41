//! The extension of an item: tags, and a birth field. Few items have one.

use std::ptr::NonNull;
use std::slice;

use crate::limits::TAGS_MAX;
use crate::store::item::fields::{
    BIRTH_BYTES, HAS_BIRTH, HAS_EXTENSION, TAG_COUNT, birth_offset, extension_offset,
};
use crate::store::item::layout::{BIRTH_MAX, Item};
use crate::store::item::tags::{NameHash, TAG_BYTES, Tags, hashes_in};
use crate::sync::{AtomicU64, Ordering};

const _: () = assert!(TAGS_MAX <= TAG_COUNT as usize);
const _: () = assert!(BIRTH_BYTES == size_of::<[AtomicU64; 2]>());

impl<'a> Item<'a> {
    /// Returns the first byte of the extension; 0 if there is none.
    #[inline]
    pub(super) fn extension(self) -> u8 {
        if self.layout & HAS_EXTENSION == 0 {
            return 0;
        }
        // SAFETY: the field exists and does not change.
        unsafe { self.extension_start().read() }
    }

    /// Returns the address of the extension, which the item must have.
    fn extension_start(self) -> NonNull<u8> {
        // SAFETY: the offset lies inside the chunk.
        unsafe { self.chunk.add(extension_offset(self.layout)) }
    }

    fn tag_bytes(self) -> &'a [u8] {
        let count = usize::from(self.extension() & TAG_COUNT);
        if count == 0 {
            return &[];
        }
        // SAFETY: the tags lie in the extension and do not change.
        unsafe {
            let start = self.extension_start().add(1);
            slice::from_raw_parts(start.as_ptr(), count * TAG_BYTES)
        }
    }

    /// Returns the hashes of the item's tags.
    pub(in crate::store) fn tag_hashes(self) -> impl Iterator<Item = NameHash> {
        hashes_in(self.tag_bytes())
    }

    /// Returns the item's tags.
    pub fn tags(self) -> Tags {
        Tags::of_bytes(self.tag_bytes())
    }

    /// Returns the birth field: CAS value and birth.
    #[cold]
    fn birth_field(self) -> Option<&'a [AtomicU64; 2]> {
        let extension = self.extension();
        (extension & HAS_BIRTH != 0).then(|| {
            // SAFETY: the field exists, is aligned to 8, and consists of
            // atomics.
            unsafe {
                let field = self.chunk.add(birth_offset(self.layout, extension));
                field.cast::<[AtomicU64; 2]>().as_ref()
            }
        })
    }

    /// Returns whether the item has a birth field, which it needs for a CAS value
    /// that a client gives.
    pub fn has_birth_field(self) -> bool {
        self.extension() & HAS_BIRTH != 0
    }

    /// Returns whether the item can have this CAS value and birth.
    pub(in crate::store) fn can_hold(self, cas: u64, birth: u64) -> bool {
        cas == birth && birth <= BIRTH_MAX || self.has_birth_field()
    }

    /// Returns the CAS value.
    #[inline]
    pub fn cas(self) -> u64 {
        match self.wide_birth() {
            Some([cas, _]) => cas.load(Ordering::Relaxed),
            None => self.header_birth(),
        }
    }

    /// Returns the item's place in the order of invalidations.
    #[inline]
    pub(in crate::store) fn birth(self) -> u64 {
        match self.wide_birth() {
            Some([_, birth]) => birth.load(Ordering::Relaxed),
            None => self.header_birth(),
        }
    }

    #[inline]
    fn wide_birth(self) -> Option<&'a [AtomicU64; 2]> {
        if self.layout & HAS_EXTENSION == 0 {
            return None;
        }
        self.birth_field()
    }

    /// Sets CAS value and birth, which the item must be able to hold: see
    /// [`Item::can_hold`].
    pub(in crate::store) fn set_birth(self, cas: u64, birth: u64) {
        match self.wide_birth() {
            Some(field) => {
                field[0].store(cas, Ordering::Relaxed);
                field[1].store(birth, Ordering::Relaxed);
            }
            None => {
                debug_assert_eq!(cas, birth, "the item has no birth field");
                self.set_header_birth(birth);
            }
        }
    }

    /// Returns whether the first byte of an extension that was read from a file
    /// is one that a server writes. The byte lies in the item's chunk.
    pub(super) fn has_valid_extension(self) -> bool {
        let byte = self.extension();
        let count = usize::from(byte & TAG_COUNT);
        byte != 0 && byte & !(TAG_COUNT | HAS_BIRTH) == 0 && count <= TAGS_MAX
    }
}
