//! Chains: a large item's segments behind its head, and how they are linked,
//! moved and extended. `layout.rs` has the layout of the head and the rules of
//! access.

use std::mem::offset_of;
use std::ptr::{NonNull, null_mut};

use crate::store::item::layout::{CHAIN_OFFSET, Item, copy_header, word_of};
use crate::store::item::refs::RefWord;
use crate::store::item::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::store::memory::chunk::{Chunk, class_of};
use crate::store::memory::classes::{PIECE_MIN, chunk_bytes};

/// Segments of less than [`PIECE_MIN`] bytes that an item can have. Appending in
/// place adds a segment only with room for a part of the item's size, so that
/// there are about 200 of them before all are long.
const SHORT_SEGMENTS_MAX: usize = 1024;

/// Writes the header of a segment into `chunk` and links it behind `previous`.
/// Returns the address of its data.
///
/// # Safety
/// `chunk` is a free chunk private to the caller and at least `len` bytes
/// longer than a segment's header. `previous` is the last chunk of an item that
/// is still private to the caller, or that is changed under its shard's write
/// lock.
pub(crate) unsafe fn write_segment(
    chunk: Chunk,
    len: usize,
    hash: u64,
    previous: Chunk,
    previous_is_head: bool,
) -> NonNull<u8> {
    // SAFETY: the chunk is the caller's; the link lies inside the previous
    // chunk.
    unsafe {
        let segment = chunk.cast::<Segment>().as_ptr();
        (&raw mut (*segment).len).write(len as u32);
        (&raw mut (*segment).hash).write(hash);
        (&raw mut (*segment).next).write(null_mut());
        (*segment).word.init_segment();
        next_link(previous, previous_is_head).write(chunk.as_ptr());
        chunk.add(SEGMENT_HEADER_BYTES)
    }
}

/// Returns the address of a chunk's link to the next chunk.
///
/// # Safety
/// `chunk` is the head of a chained item if `is_head`, else a segment.
unsafe fn next_link(chunk: Chunk, is_head: bool) -> NonNull<*mut u8> {
    let offset = if is_head {
        CHAIN_OFFSET
    } else {
        offset_of!(Segment, next)
    };
    // SAFETY: both headers are longer than the offset.
    unsafe { chunk.add(offset).cast() }
}

/// Returns the hash of the key of the item that a pinned segment belongs to.
///
/// # Safety
/// The caller has pinned the segment `chunk`.
pub(crate) unsafe fn segment_hash(chunk: Chunk) -> u64 {
    // SAFETY: written before the segment could be pinned, and unchanged since.
    unsafe { (&raw const (*chunk.cast::<Segment>().as_ptr()).hash).read() }
}

impl<'a> Item<'a> {
    /// Returns the item's segments in order; none if it lies in one chunk.
    pub(crate) fn segments(self) -> impl Iterator<Item = Chunk> {
        let mut next = if !self.is_chained() {
            null_mut()
        } else {
            // SAFETY: a chained item's head.
            unsafe { next_link(self.chunk, true).read() }
        };
        std::iter::from_fn(move || {
            let segment = NonNull::new(next)?;
            // SAFETY: a segment of an item that the caller holds.
            next = unsafe { next_link(segment, false).read() };
            Some(segment)
        })
    }

    /// Returns the last segment and how many more bytes fit into it. Returns
    /// `None` if the item lies in one chunk.
    pub(crate) fn last_segment(self) -> Option<(Chunk, usize)> {
        let last = self.segments().last()?;
        // SAFETY: a segment of an item that the caller holds; its page does not
        // change its class.
        unsafe {
            let len = (&raw const (*last.cast::<Segment>().as_ptr()).len).read() as usize;
            let capacity = chunk_bytes(class_of(last)) - SEGMENT_HEADER_BYTES;
            Some((last, capacity - len))
        }
    }

    /// Appends `more` to the value. Fills the last segment, then chunks from
    /// `spare`. Returns false if there is no segment; then nothing has changed.
    ///
    /// # Safety
    /// The caller holds the shard's write lock, the map's reference is the only
    /// one, the item is chained, and `hash` is its key's. `spare` yields free
    /// chunks with room for all bytes that the last segment does not hold.
    pub(crate) unsafe fn extend<'m>(
        self,
        more: impl Iterator<Item = &'m [u8]>,
        hash: u64,
        mut spare: impl FnMut() -> Option<Chunk>,
    ) -> bool {
        let Some((mut last, mut room)) = self.last_segment() else {
            return false;
        };
        // SAFETY: as the caller guarantees, no other thread reads or writes any
        // of the chunks; all lengths stay within the chunks' sizes.
        unsafe {
            let len_of = |chunk: Chunk| &raw mut (*chunk.cast::<Segment>().as_ptr()).len;
            let mut added = 0;
            for mut bytes in more {
                added += bytes.len();
                while !bytes.is_empty() {
                    if room == 0 {
                        let chunk = spare().expect("the caller brings room enough");
                        room = chunk_bytes(class_of(chunk)) - SEGMENT_HEADER_BYTES;
                        write_segment(chunk, 0, hash, last, false);
                        last = chunk;
                    }
                    let len = bytes.len().min(room);
                    let end = last.add(SEGMENT_HEADER_BYTES + len_of(last).read() as usize);
                    end.copy_from_nonoverlapping(NonNull::from(bytes).cast(), len);
                    *len_of(last) += len as u32;
                    room -= len;
                    bytes = &bytes[len..];
                }
            }
            self.set_chained_len(self.value_len() + added);
        }
        true
    }

    /// Links the segments of an item that was read from a file. `claim` returns
    /// the segment that lay at an address of the earlier process, and the bytes
    /// of its chunk. Writes `hash`, the hash of the key in this process, to each.
    /// Returns false if the item is damaged: also if it has more segments than
    /// any server makes, because moving one of them follows the whole chain.
    ///
    /// # Safety
    /// No other thread accesses the item. [`Item::fits`] has returned true. A
    /// segment that `claim` returns belongs to the caller.
    pub(in crate::store) unsafe fn relink(
        self,
        hash: u64,
        mut claim: impl FnMut(u64) -> Option<(Chunk, usize)>,
    ) -> bool {
        let mut left = self.value_len() - self.head_len();
        let most = SHORT_SEGMENTS_MAX + self.value_len() / PIECE_MIN;
        let (mut previous, mut is_head) = (self.chunk, true);
        for _ in 0..=most {
            // SAFETY: a chained head or a claimed segment, all the caller's.
            let link = unsafe { next_link(previous, is_head) };
            // SAFETY: as above. The link is a number from another process.
            let address = unsafe { link.cast::<u64>().read() };
            if address == 0 {
                return left == 0;
            }
            let Some((chunk, bytes)) = claim(address) else {
                return false;
            };
            let segment = chunk.cast::<Segment>().as_ptr();
            // SAFETY: the segment belongs to the caller, and every chunk is
            // longer than a segment's header.
            unsafe {
                let len = (&raw const (*segment).len).read() as usize;
                if len == 0 || len > left || len > bytes - SEGMENT_HEADER_BYTES {
                    return false;
                }
                left -= len;
                (&raw mut (*segment).hash).write(hash);
                link.write(chunk.as_ptr());
            }
            (previous, is_head) = (chunk, false);
        }
        false
    }

    /// Copies segment `old` to `new` and links `new` in its place. Returns
    /// false if `old` is not a segment of this item.
    ///
    /// # Safety
    /// The caller holds the shard's write lock, the map's reference to the item
    /// is the only one, and `new` is a free chunk of `old`'s class.
    pub(crate) unsafe fn replace_segment(self, old: Chunk, new: Chunk) -> bool {
        let mut previous = self.chunk;
        for segment in self.segments() {
            if segment != old {
                previous = segment;
                continue;
            }
            // SAFETY: both are chunks of this class; no other thread reads the
            // item.
            unsafe {
                let bytes = chunk_bytes(class_of(old)) - size_of::<RefWord>();
                let (from, to) = (old.add(size_of::<RefWord>()), new.add(size_of::<RefWord>()));
                to.copy_from_nonoverlapping(from, bytes);
                word_of(new).init_segment();
                next_link(previous, previous == self.chunk).write(new.as_ptr());
            }
            return true;
        }
        false
    }

    /// Copies the whole head chunk to `new`, except its reference word, which
    /// becomes that of an unlinked item.
    ///
    /// # Safety
    /// The caller holds the shard's write lock, and `new` is a free chunk of
    /// the same class. If the item is chained, both heads then link to the same
    /// segments: the caller must detach the old head and ensure that no other
    /// thread reads it.
    pub(crate) unsafe fn copy_head_to(self, new: Chunk) {
        // SAFETY: both chunks have that length.
        unsafe {
            copy_header(self.chunk, new);
            let bytes = chunk_bytes(class_of(self.chunk)) - CHAIN_OFFSET;
            let from = self.chunk.add(CHAIN_OFFSET);
            let to = new.add(CHAIN_OFFSET);
            to.copy_from_nonoverlapping(from, bytes);
            word_of(new).init_item();
        }
    }

    /// Detaches the segments from the head, so that freeing the head does not
    /// free them.
    ///
    /// # Safety
    /// The caller holds the shard's write lock and has linked the segments to
    /// another head with [`Item::copy_head_to`]. No other thread reads this
    /// head.
    pub(crate) unsafe fn detach_segments(self) {
        if self.is_chained() {
            // SAFETY: a chained item's head, changed under the write lock.
            unsafe { next_link(self.chunk, true).write(null_mut()) };
        }
    }
}
