//! Magazines: a thread's own small stock of free chunks, so that most sets
//! allocate and free chunks without a lock. (The name is from Bonwick and
//! Adams, "Magazines and Vmem", USENIX 2001.)

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::store::memory::chunk::Chunk;
use crate::store::memory::classes::{CLASSES, chunk_bytes};
use crate::sync::{AtomicU8, Ordering};

/// Maximum number of chunks in a magazine. Enough for those that a batch of sets
/// retires at a time.
const CAPACITY_MAX: usize = 48;
/// Maximum bytes of chunks in a magazine: the memory limit divided by
/// [`LIMIT_PART`], within this range.
const CAPACITY_BYTES: RangeInclusive<usize> = 1024..=8192;
/// See [`CAPACITY_BYTES`]: 8 KiB from 128 MiB on.
const LIMIT_PART: usize = 16 * 1024;

/// The magazines of one thread, one per size class.
pub(crate) struct Magazines {
    stocks: Box<[Stock; CLASSES]>,
    /// Maximum number of chunks, by class.
    capacities: [u8; CLASSES],
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
    /// Creates empty magazines for a memory limit in bytes.
    pub(crate) fn new(limit: usize) -> Self {
        let bytes = (limit / LIMIT_PART).clamp(*CAPACITY_BYTES.start(), *CAPACITY_BYTES.end());
        let capacity = |class| (bytes / chunk_bytes(class)).min(CAPACITY_MAX) as u8;
        let empty = Stock {
            chunks: [None; CAPACITY_MAX],
        };
        Self {
            stocks: Box::new([empty; CLASSES]),
            capacities: std::array::from_fn(capacity),
            levels: Arc::new(Levels(std::array::from_fn(|_| AtomicU8::new(0)))),
            flush_requests_seen: 0,
        }
    }

    /// Returns the capacity of the magazine of `class`; 0 if a chunk is larger than
    /// a magazine.
    pub(crate) fn capacity(&self, class: usize) -> usize {
        self.capacities[class].into()
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
        if len >= self.capacity(class) {
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
