//! Finding memory faults in debug builds: free chunks are filled with a
//! pattern that is no valid item, and looked at before they are handed out,
//! so that reading a freed chunk fails and writing to one is found. Does
//! nothing in release builds; called by [`super::memory`] alone.

use std::ops::Range;
use std::slice;

use crate::store::item::refs::RefWord;
use crate::store::memory::chunk::{Chunk, NEXT_FREE_OFFSET, page_of};
use crate::store::memory::classes::{PAGE_HEADER_BYTES, chunk_bytes};

/// What a free chunk is filled with in debug builds: no valid item.
const POISON: u8 = 0xDD;
/// There is poison between the reference word and the link,
const FIRST: Range<usize> = size_of::<RefWord>()..NEXT_FREE_OFFSET;
/// and from the link's end to the chunk's.
const SECOND_OFFSET: usize = 2 * NEXT_FREE_OFFSET;

/// In debug builds, fills a free chunk so that reading it is seen to be a use
/// after free, and makes sure that it is a chunk and free.
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

/// In debug builds, makes sure that nobody has written to a free chunk.
pub(crate) fn check_poison(chunk: Chunk, class: usize) {
    if !cfg!(debug_assertions) {
        return;
    }
    // SAFETY: every chunk begins with its reference word.
    let word = unsafe { chunk.cast::<RefWord>().as_ref() };
    assert!(word.is_free(), "a chunk was free and held: {word:?}");
    // SAFETY: the chunk is free and this long.
    let bytes = unsafe { free_bytes_of_chunk(chunk, class) };
    assert!(
        bytes
            .iter()
            .flat_map(|bytes| bytes.iter())
            .all(|byte| *byte == POISON),
        "a free chunk of class {class} was written to"
    );
}

/// The bytes of a free chunk that nothing is kept in.
///
/// # Safety
/// The chunk is of this class, free and the caller's.
unsafe fn free_bytes_of_chunk<'a>(chunk: Chunk, class: usize) -> [&'a mut [u8]; 2] {
    [FIRST, SECOND_OFFSET..chunk_bytes(class)].map(|part| {
        // SAFETY: the caller's promise; the parts lie apart.
        unsafe { slice::from_raw_parts_mut(chunk.as_ptr().add(part.start), part.len()) }
    })
}
