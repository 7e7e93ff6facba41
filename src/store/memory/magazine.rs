//! Magazines: a thread's own small stock of free chunks, so that most sets
//! allocate and free chunks without a lock. (The name is from Bonwick and
//! Adams, "Magazines and Vmem", USENIX 2001.)

use std::sync::Arc;

use crate::store::memory::chunk::Chunk;
use crate::store::memory::classes::{CLASSES, chunk_bytes};
use crate::sync::{AtomicU8, Ordering};

/// Maximum number of chunks in a magazine.
const CAPACITY_MAX: usize = 16;
/// Maximum bytes of chunks in a magazine.
const CAPACITY_BYTES: usize = 4096;

/// The magazines of one thread, one per size class.
pub(crate) struct Magazines {
    stocks: Box<[Stock; CLASSES]>,
    levels: Arc<Levels>,
    /// The last flush request that this thread has seen when it allocated or
    /// freed; see `Memory::request_flush`.
    pub(crate) flush_requests_seen: u32,
}

/// A magazine of one size class.
#[derive(Clone, Copy)]
struct Stock {
    chunks: [Option<Chunk>; CAPACITY_MAX],
}

/// Number of chunks in each magazine of one thread. Only that thread writes it;
/// any thread may read it.
pub(crate) struct Levels([AtomicU8; CLASSES]);

impl Levels {
    /// Returns the number of chunks of `class`.
    #[inline]
    pub(crate) fn of(&self, class: usize) -> usize {
        self.0[class].load(Ordering::Relaxed).into()
    }

    #[inline]
    fn set(&self, class: usize, len: usize) {
        self.0[class].store(len as u8, Ordering::Relaxed);
    }
}

// SAFETY: the chunks are free and belong to the owner of the magazines.
unsafe impl Send for Magazines {}

impl Magazines {
    /// Creates empty magazines.
    pub(crate) fn new() -> Self {
        let empty = Stock {
            chunks: [None; CAPACITY_MAX],
        };
        Self {
            stocks: Box::new([empty; CLASSES]),
            levels: Arc::new(Levels(std::array::from_fn(|_| AtomicU8::new(0)))),
            flush_requests_seen: 0,
        }
    }

    /// Returns the capacity of the magazine of `class`: at most 16 chunks and
    /// 4096 bytes; 0 if a chunk is larger.
    pub(crate) const fn capacity(class: usize) -> usize {
        let fitting = CAPACITY_BYTES / chunk_bytes(class);
        if fitting < CAPACITY_MAX {
            fitting
        } else {
            CAPACITY_MAX
        }
    }

    /// Returns the levels of these magazines, for other threads to read.
    pub(crate) fn levels(&self) -> Arc<Levels> {
        Arc::clone(&self.levels)
    }

    /// Takes a free chunk of `class` out of its magazine. Returns `None` if
    /// that is empty.
    pub(crate) fn pop(&mut self, class: usize) -> Option<Chunk> {
        let last = self.levels.of(class).checked_sub(1)?;
        self.levels.set(class, last);
        self.stocks[class].chunks[last].take()
    }

    /// Puts a free chunk of `class` into its magazine. Returns false if that is
    /// full.
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

    /// Returns the classes whose magazines are not empty.
    pub(crate) fn filled(&self) -> Vec<usize> {
        (0..CLASSES).filter(|&c| self.levels.of(c) > 0).collect()
    }
}
