//! Work that several threads share while memory is sealed or loaded.

use std::ops::Range;
use std::ptr::NonNull;

use crate::store::memory::classes::{PAGE_HEADER_BYTES, chunk_bytes};
use crate::sync::{AtomicUsize, Ordering};

/// Runs a function on several threads at the same time, and returns when all of
/// them have returned from it.
pub type Parallel<'a> = &'a dyn Fn(&(dyn Fn() + Sync));

/// Numbers that several threads take in turns.
pub(super) struct Turns {
    next: AtomicUsize,
    end: usize,
    per_turn: usize,
}

impl Turns {
    pub(super) fn new(end: usize, per_turn: usize) -> Self {
        Self {
            next: AtomicUsize::new(0),
            end,
            per_turn,
        }
    }

    /// Takes the next numbers; `None` once all are taken.
    pub(super) fn next(&self) -> Option<Range<usize>> {
        let start = self.next.fetch_add(self.per_turn, Ordering::Relaxed);
        (start < self.end).then(|| start..self.end.min(start + self.per_turn))
    }
}

/// Returns the CRC-32 of the first `bump` chunks of a page. No other thread may
/// write to it.
pub(super) fn chunks_crc(page: NonNull<u8>, class: usize, bump: usize) -> u32 {
    // SAFETY: the chunks lie in the page. Those that were ever handed out are
    // initialised.
    let bytes = unsafe {
        let start = page.as_ptr().add(PAGE_HEADER_BYTES);
        std::slice::from_raw_parts(start, bump * chunk_bytes(class))
    };
    crc32fast::hash(bytes)
}
