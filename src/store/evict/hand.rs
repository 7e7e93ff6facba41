//! The CLOCK hand: walks the map's shards looking for the item to evict, as
//! the policy judges them. Called where memory is short; bounded work per
//! eviction, and one shard locked at a time.

use crossbeam::utils::CachePadded;

use crate::sync::{AtomicU32, AtomicUsize, Ordering};

/// Items that the hand passes over in one visit to a shard, or up to twice
/// as many.
pub(in crate::store) const VISIT_ITEMS: usize = 16;

/// The CLOCK hand, which all threads move together. It passes over an equal
/// part of each shard in turn: if it went through one to its end before the
/// next, those waiting would overflow their tables.
pub(crate) struct Hand {
    /// The shard that is next.
    pub(in crate::store) next: CachePadded<AtomicUsize>,
    /// In each shard, the bucket that is next; changed under its write lock.
    pub(in crate::store) positions: Box<[AtomicU32]>,
    /// Binary logarithm of the visits to a shard that make a full turn.
    pub(in crate::store) visits: AtomicU32,
}

/// A thread's visit to a shard, on behalf of the hand.
#[derive(Default)]
pub(crate) struct Visit {
    pub(in crate::store) shard: usize,
    /// Buckets still to be looked at; none before the first look.
    pub(in crate::store) left: Option<usize>,
}

impl Hand {
    /// A hand over so many shards.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            next: CachePadded::new(AtomicUsize::new(0)),
            positions: (0..shards).map(|_| AtomicU32::new(0)).collect(),
            visits: AtomicU32::new(0),
        }
    }

    /// Bytes of the positions.
    pub(crate) fn bytes(&self) -> usize {
        std::mem::size_of_val(&*self.positions)
    }

    /// Takes note of how many items there are.
    pub(crate) fn survey(&self, items: u64) {
        let visits = items as usize / self.positions.len() / VISIT_ITEMS;
        let visits = visits.max(1).ilog2();
        self.visits.store(visits, Ordering::Relaxed);
    }

    pub(in crate::store) fn next_visit(&self) -> Visit {
        Visit {
            shard: self.next.fetch_add(1, Ordering::Relaxed) % self.positions.len(),
            left: None,
        }
    }
}
