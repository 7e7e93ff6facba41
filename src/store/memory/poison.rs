//! Detection of memory errors in debug builds. Free chunks are filled with a
//! pattern that is no valid item and are checked before they are handed out. A
//! read of a freed chunk then fails, and a write to it is detected. Does
//! nothing in release builds. Called only by the arena.

use std::ops::Range;
use std::slice;

use crate::store::item::refs::RefWord;
use crate::store::memory::chunk::{Chunk, NEXT_FREE_OFFSET, page_of};
use crate::store::memory::classes::{PAGE_HEADER_BYTES, chunk_bytes};

/// Fill byte of free chunks.
const POISON: u8 = 0xDD;
/// A block of fill bytes.
static BLOCK: [u8; 4096] = [POISON; 4096];
/// Poisoned bytes between the reference word and the link to the next free
/// chunk.
const FIRST: Range<usize> = size_of::<RefWord>()..NEXT_FREE_OFFSET;
/// Offset of the poisoned bytes after the link.
const SECOND_OFFSET: usize = 2 * NEXT_FREE_OFFSET;

/// Fills a free chunk with the pattern in debug builds.
///
/// # Panics
/// In debug builds, if no chunk of `class` begins at this address.
pub(crate) fn poison(chunk: Chunk, class: usize) {
    if !cfg!(debug_assertions) {
        return;
    }
    let offset = chunk.as_ptr().addr() - page_of(chunk).as_ptr().addr();
    let index = offset.checked_sub(PAGE_HEADER_BYTES);
    assert!(
        index.is_some_and(|index| index % chunk_bytes(class) == 0),
        "no chunk of class {class} begins at {offset} of its page"
    );
    // SAFETY: the chunk is free and this long.
    for bytes in unsafe { free_bytes_of_chunk(chunk, class) } {
        bytes.fill(POISON);
    }
}

/// Checks in debug builds that a free chunk was not written to.
///
/// # Panics
/// In debug builds, if the chunk's reference word is not 0 or the pattern is
/// damaged.
pub(crate) fn check_poison(chunk: Chunk, class: usize) {
    if !cfg!(debug_assertions) {
        return;
    }
    // SAFETY: every chunk begins with its reference word.
    let word = unsafe { chunk.cast::<RefWord>().as_ref() };
    assert!(word.is_free(), "a chunk was free and held: {word:?}");
    // SAFETY: the chunk is free and this long.
    let bytes = unsafe { free_bytes_of_chunk(chunk, class) };
    // Comparing with a block is many times faster than looking at each byte.
    let mut blocks = bytes.iter().flat_map(|bytes| bytes.chunks(BLOCK.len()));
    assert!(
        blocks.all(|block| *block == BLOCK[..block.len()]),
        "a free chunk of class {class} was written to"
    );
}

/// Returns the poisoned bytes of a free chunk.
///
/// # Safety
/// The chunk is of this class, is free, and belongs to the caller.
unsafe fn free_bytes_of_chunk<'a>(chunk: Chunk, class: usize) -> [&'a mut [u8]; 2] {
    [FIRST, SECOND_OFFSET..chunk_bytes(class)].map(|part| {
        // SAFETY: guaranteed by the caller; the parts do not overlap.
        unsafe { slice::from_raw_parts_mut(chunk.as_ptr().add(part.start), part.len()) }
    })
}
