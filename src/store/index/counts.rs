//! Counts of a shard. Only the holder of the shard's write lock changes them.

use crate::sync::{AtomicU32, Ordering};

/// The counts of a shard.
#[derive(Default)]
pub(in crate::store::index) struct Counts {
    /// Entries, stashed ones included.
    pub(in crate::store::index) entries: Count,
    /// Entries added since the table was last rebuilt.
    pub(in crate::store::index) added: Count,
    /// Bytes of table and stash as the memory limit counts them: at least those
    /// that they have.
    pub(in crate::store::index) accounted: Count,
    /// How often an entry moved to its secondary bucket.
    pub(in crate::store::index) displaced: Count,
    /// How often the table or the stash was rebuilt. A rebuild moves entries to
    /// other positions.
    pub(in crate::store::index) rebuilds: Count,
}

/// A count that one thread at a time changes.
#[derive(Default)]
pub(in crate::store::index) struct Count(AtomicU32);

impl Count {
    #[inline]
    pub(in crate::store::index) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed) as usize
    }

    #[inline]
    pub(in crate::store::index) fn set(&self, count: u32) {
        self.0.store(count, Ordering::Relaxed);
    }

    #[inline]
    pub(in crate::store::index) fn add_one(&self) {
        self.set(self.0.load(Ordering::Relaxed).wrapping_add(1));
    }

    #[inline]
    pub(in crate::store::index) fn sub_one(&self) {
        self.set(self.0.load(Ordering::Relaxed).wrapping_sub(1));
    }
}
