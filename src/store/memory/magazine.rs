//! A worker's own small stock of free chunks, so that the common set takes
//! and frees memory without a lock.

use std::sync::Arc;

use crate::store::memory::chunk::Chunk;
use crate::store::memory::classes::{CLASSES, chunk_bytes};
use crate::sync::{AtomicU8, Ordering};

/// Most chunks of one class a worker keeps.
const CAPACITY_MAX: usize = 16;
/// Most bytes of one class a worker keeps.
const CAPACITY_BYTES: usize = 4096;

/// One stock per size class; owned by one thread.
pub(crate) struct Magazines {
    stocks: Box<[Stock; CLASSES]>,
    levels: Arc<Levels>,
    /// Requests to give everything back that were met.
    pub(crate) recalls_heeded: u32,
}

#[derive(Clone, Copy)]
struct Stock {
    chunks: [Option<Chunk>; CAPACITY_MAX],
}

/// How many chunks of each class one thread has in stock: written by that
/// thread alone, read by whoever asks.
pub(crate) struct Levels([AtomicU8; CLASSES]);

impl Levels {
    /// Chunks of `class` in stock.
    #[inline]
    pub(crate) fn of(&self, class: usize) -> usize {
        self.0[class].load(Ordering::Relaxed).into()
    }

    #[inline]
    fn set(&self, class: usize, len: usize) {
        self.0[class].store(len as u8, Ordering::Relaxed);
    }
}

// SAFETY: the chunks are free and belong to whoever owns the magazines.
unsafe impl Send for Magazines {}

impl Magazines {
    pub(crate) fn new() -> Self {
        let empty = Stock {
            chunks: [None; CAPACITY_MAX],
        };
        Self {
            stocks: Box::new([empty; CLASSES]),
            levels: Arc::new(Levels(std::array::from_fn(|_| AtomicU8::new(0)))),
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

    /// Where it can be read what is in stock.
    pub(crate) fn levels(&self) -> Arc<Levels> {
        Arc::clone(&self.levels)
    }

    /// Takes a free chunk of `class` out.
    pub(crate) fn pop(&mut self, class: usize) -> Option<Chunk> {
        let last = self.levels.of(class).checked_sub(1)?;
        self.levels.set(class, last);
        self.stocks[class].chunks[last].take()
    }

    /// Puts a free chunk of `class` in; false if there is no room.
    #[must_use]
    pub(crate) fn push(&mut self, class: usize, chunk: Chunk) -> bool {
        let len = self.levels.of(class);
        if len >= Self::capacity(class) {
            return false;
        }
        self.stocks[class].chunks[len] = Some(chunk);
        self.levels.set(class, len + 1);
        true
    }

    /// Classes that have chunks in stock.
    pub(crate) fn filled(&self) -> Vec<usize> {
        (0..CLASSES).filter(|&c| self.levels.of(c) > 0).collect()
    }
}
