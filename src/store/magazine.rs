//! A worker's own small stock of free chunks, so that the common set takes
//! and frees memory without a lock.

use crate::store::classes::{CLASSES, chunk_bytes};
use crate::store::memory::Chunk;

/// Most chunks of one class a worker keeps.
const CAPACITY_MAX: usize = 16;
/// Most bytes of one class a worker keeps.
const CAPACITY_BYTES: usize = 4096;

/// One stock per size class; owned by one thread.
pub(crate) struct Magazines {
    stocks: Box<[Stock; CLASSES]>,
    /// Requests to give everything back that were met.
    pub(crate) recalls_heeded: u32,
}

#[derive(Clone, Copy)]
struct Stock {
    len: usize,
    chunks: [Option<Chunk>; CAPACITY_MAX],
}

// SAFETY: the chunks are free and belong to whoever owns the magazines.
unsafe impl Send for Magazines {}

impl Magazines {
    pub(crate) fn new() -> Self {
        let empty = Stock {
            len: 0,
            chunks: [None; CAPACITY_MAX],
        };
        Self {
            stocks: Box::new([empty; CLASSES]),
            recalls_heeded: 0,
        }
    }

    /// Chunks of `class` that are kept at most; 0 for large ones.
    pub(crate) const fn capacity(class: usize) -> usize {
        let fitting = CAPACITY_BYTES / chunk_bytes(class);
        if fitting < CAPACITY_MAX {
            fitting
        } else {
            CAPACITY_MAX
        }
    }

    /// Takes a free chunk of `class` out.
    pub(crate) fn pop(&mut self, class: usize) -> Option<Chunk> {
        let stock = &mut self.stocks[class];
        stock.len = stock.len.checked_sub(1)?;
        stock.chunks[stock.len].take()
    }

    /// Puts a free chunk of `class` in; false if there is no room.
    #[must_use]
    pub(crate) fn push(&mut self, class: usize, chunk: Chunk) -> bool {
        let stock = &mut self.stocks[class];
        if stock.len >= Self::capacity(class) {
            return false;
        }
        stock.chunks[stock.len] = Some(chunk);
        stock.len += 1;
        true
    }

    /// Classes that have chunks in stock.
    pub(crate) fn filled(&self) -> Vec<usize> {
        (0..CLASSES).filter(|&c| self.stocks[c].len > 0).collect()
    }
}
