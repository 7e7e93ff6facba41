//! The CLOCK hand: its position in each shard and the order in which it visits
//! them. The search for a victim, which moves it, is in `victim.rs`.

use crossbeam::utils::CachePadded;

use crate::sync::{AtomicU32, AtomicUsize, Ordering};

/// Items that one visit to a shard passes over on average: between this number
/// and twice this number.
pub(in crate::store) const VISIT_ITEMS: usize = 16;

/// The CLOCK hand, which all threads advance together. It visits the shards in
/// turn and passes over an equal part of each. If it finished one shard before
/// the next, the shards that wait would have to grow their tables.
pub(crate) struct Hand {
    /// The shard to visit next, modulo the number of shards.
    pub(in crate::store) next: CachePadded<AtomicUsize>,
    /// The next bucket in each shard; changed under the shard's write lock.
    pub(in crate::store) positions: Box<[AtomicU32]>,
    /// Binary logarithm of the number of visits in which the hand passes over a
    /// whole shard.
    pub(in crate::store) visits: AtomicU32,
}

/// A thread's visit to a shard: the part of the shard it searches for a victim.
#[derive(Default)]
pub(crate) struct Visit {
    /// The shard's number.
    pub(in crate::store) shard: usize,
    /// Buckets left to look at; `None` before the first look.
    pub(in crate::store) left: Option<usize>,
}

impl Hand {
    /// Creates a hand over `shards` shards.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            next: CachePadded::new(AtomicUsize::new(0)),
            positions: (0..shards).map(|_| AtomicU32::new(0)).collect(),
            visits: AtomicU32::new(0),
        }
    }

    /// Returns the bytes of the positions.
    pub(crate) fn bytes(&self) -> usize {
        std::mem::size_of_val(&*self.positions)
    }

    /// Adjusts the length of a visit to the number of items in the store.
    pub(crate) fn survey(&self, items: u64) {
        let visits = items as usize / self.positions.len() / VISIT_ITEMS;
        let visits = visits.max(1).ilog2();
        self.visits.store(visits, Ordering::Relaxed);
    }

    /// Begins a visit to the next shard.
    pub(in crate::store) fn next_visit(&self) -> Visit {
        Visit {
            shard: self.next.fetch_add(1, Ordering::Relaxed) % self.positions.len(),
            left: None,
        }
    }
}
