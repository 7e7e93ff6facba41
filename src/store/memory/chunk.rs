//! Chunks and the pages they lie in.

use std::ptr::NonNull;

use crate::store::memory::classes::{PAGE_BYTES, PAGE_HEADER_BYTES};

/// A chunk of page memory, by its first byte.
pub(crate) type Chunk = NonNull<u8>;

/// Where a free chunk keeps the pointer to the next one. The reference word
/// lies before it and stays valid while the chunk is free.
pub(crate) const NEXT_FREE_OFFSET: usize = 8;

/// Header of a page, at its first byte.
#[repr(C)]
pub(crate) struct Page {
    pub(in crate::store) class: u16,
    pub(in crate::store) stock: Stock,
}

/// What is free in a page. Apart from the class, which others read while a
/// reference to this exists.
pub(in crate::store) struct Stock {
    /// Chunks that are free, those beyond `bump` included.
    pub(in crate::store) free: u16,
    /// Chunks before this index have been handed out at least once.
    pub(in crate::store) bump: u16,
    pub(in crate::store) bin: u8,
    pub(in crate::store) draining: bool,
    /// Did not run empty when it was drained, and nothing was freed since:
    /// allocate from it first, and drain it last.
    pub(in crate::store) stuck: bool,
    pub(in crate::store) free_head: *mut u8,
    pub(in crate::store) prev: *mut Page,
    pub(in crate::store) next: *mut Page,
}

const _: () = assert!(size_of::<Page>() <= PAGE_HEADER_BYTES);

/// The page that a chunk lies in.
pub(crate) fn page_of(chunk: Chunk) -> NonNull<Page> {
    let address = chunk.as_ptr().addr();
    let base = chunk.as_ptr().map_addr(|_| address & !(PAGE_BYTES - 1));
    NonNull::new(base.cast()).expect("no page lies at address 0")
}

/// The class of the page that `chunk` lies in.
///
/// # Safety
/// The chunk is in use (or held by the caller), so that its page does not
/// change hands.
pub(crate) unsafe fn class_of(chunk: Chunk) -> usize {
    // SAFETY: the page is valid; its class was written before the chunk was
    // handed out and is not written again while the chunk is held.
    usize::from(unsafe { (&raw const (*page_of(chunk).as_ptr()).class).read() })
}
