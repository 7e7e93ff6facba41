//! Chunks, and the headers of the pages they lie in.

use std::ptr::NonNull;

use crate::store::memory::classes::{PAGE_BYTES, PAGE_HEADER_BYTES, chunk_bytes};

/// A chunk of page memory: the address of its first byte.
pub(crate) type Chunk = NonNull<u8>;

/// Offset of a free chunk's link to the next free chunk. The reference word
/// lies before it and stays valid while the chunk is free.
pub(crate) const NEXT_FREE_OFFSET: usize = 8;

/// Header of a page, at its first byte.
#[repr(C)]
pub(crate) struct Page {
    /// Size class of the page's chunks.
    pub(in crate::store) class: u16,
    /// The page's free chunks.
    pub(in crate::store) stock: Stock,
}

/// The part of a page's header that describes its free chunks. It is separate
/// from the class, which other threads read while a reference to this part
/// exists.
pub(in crate::store) struct Stock {
    /// Number of free chunks, including those at `bump` and beyond.
    pub(in crate::store) free: u16,
    /// Chunks with a lower index have been handed out at least once.
    pub(in crate::store) bump: u16,
    /// The list of the class that the page is in, if it is in any.
    pub(in crate::store) bin: u8,
    /// The page is being drained: it is in no list.
    pub(in crate::store) draining: bool,
    /// The page did not become empty when it was drained, and no chunk of it
    /// was freed since. It is allocated from first and drained last.
    pub(in crate::store) stuck: bool,
    /// First chunk of the free list, or null.
    pub(in crate::store) free_head: *mut u8,
    /// Previous page in the list, which is a ring.
    pub(in crate::store) prev: *mut Page,
    /// Next page in the list.
    pub(in crate::store) next: *mut Page,
}

const _: () = assert!(size_of::<Page>() <= PAGE_HEADER_BYTES);

/// Returns chunk number `number` of a page of size class `class`.
///
/// # Safety
/// A page lies at this address, and it has that many chunks of the class.
pub(in crate::store) unsafe fn chunk_at(page: NonNull<u8>, class: usize, number: usize) -> Chunk {
    // SAFETY: the chunk lies in the page.
    unsafe { page.add(PAGE_HEADER_BYTES + number * chunk_bytes(class)) }
}

/// Returns the page that a chunk lies in.
pub(crate) fn page_of(chunk: Chunk) -> NonNull<Page> {
    let address = chunk.as_ptr().addr();
    let base = chunk.as_ptr().map_addr(|_| address & !(PAGE_BYTES - 1));
    NonNull::new(base.cast()).expect("no page lies at address 0")
}

/// Returns the size class of the page that `chunk` lies in.
///
/// # Safety
/// The chunk is in use or held by the caller, so that its page does not change
/// its class.
pub(crate) unsafe fn class_of(chunk: Chunk) -> usize {
    // SAFETY: the page is valid; its class was written before the chunk was
    // handed out and is not written again while the chunk is held.
    usize::from(unsafe { (&raw const (*page_of(chunk).as_ptr()).class).read() })
}
