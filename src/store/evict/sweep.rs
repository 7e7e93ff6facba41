//! Sweeps: walks through all items that remove the dead ones. A sweep locks a
//! shard for a few buckets at a time.

use std::ops::Range;

use crate::store::census::count_unfetched;
use crate::store::item::layout::Item;
use crate::store::outcome::{Condition, Miss};
use crate::store::state::{Local, Store};
use crate::sync::Ordering;
use crate::time::{Expiry, Now};

/// Buckets that a sweep looks at under one lock.
const SWEEP_BUCKETS: usize = 256;

/// Restarts of a shard's sweep, because its table was rebuilt, before the sweep
/// looks at all buckets under one lock.
const SWEEP_RESTARTS_MAX: usize = 3;

/// Result of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Items looked at, dead ones included.
    pub looked: usize,
    /// Of these, items with an expiry time, expired or not.
    pub expirable: usize,
}

/// Value of [`ShardSweep::next`] after all buckets were looked at under one
/// lock; above any bucket number.
const ALL_SEEN: usize = usize::MAX;

/// The position of a sweep in one shard.
pub(in crate::store) struct ShardSweep {
    shard: usize,
    /// The next bucket, or [`ALL_SEEN`].
    next: usize,
    /// The shard's count of rebuilds at the last part.
    rebuilt: usize,
    /// How often the sweep began anew.
    restarts: usize,
    swept: Swept,
}

impl ShardSweep {
    /// Creates a sweep at the start of a shard.
    pub(in crate::store) fn new(shard: usize) -> Self {
        Self {
            shard,
            next: 0,
            rebuilt: 0,
            restarts: 0,
            swept: Swept::default(),
        }
    }

    /// Returns the buckets to look at under the current lock. If the table was
    /// rebuilt since the last part, items not seen yet may lie in buckets
    /// already passed: the sweep begins anew. After several restarts, it takes
    /// all buckets under one lock.
    fn next_part(&mut self, rebuilt: usize) -> Range<usize> {
        if self.rebuilt != rebuilt && self.next > 0 && self.next != ALL_SEEN {
            self.next = 0;
            self.restarts += 1;
        }
        self.rebuilt = rebuilt;
        let start = self.next;
        self.next = if self.restarts > SWEEP_RESTARTS_MAX {
            ALL_SEEN
        } else {
            start + SWEEP_BUCKETS
        };
        start..self.next
    }
}

impl Store {
    /// Removes the dead items of shard number `index`, a few buckets under each
    /// lock, and shrinks its table if it is sparse.
    pub fn sweep_shard(&self, local: &mut Local, index: usize, now: Now) -> Swept {
        self.sweep_shard_with(local, index, now, |_| ())
    }

    /// Sweeps a shard as [`Store::sweep_shard`] does, and calls `visit` with
    /// each live item, under the shard's lock.
    pub fn sweep_shard_with(
        &self,
        local: &mut Local,
        index: usize,
        now: Now,
        mut visit: impl FnMut(Item<'_>),
    ) -> Swept {
        let mut sweep = ShardSweep::new(index);
        while self.sweep_part(local, &mut sweep, now, &mut visit) {}
        sweep.swept
    }

    /// Continues a sweep under one lock: removes the dead items of some buckets
    /// and frees them after unlocking. At the end of the shard, shrinks its
    /// table under the lock and returns false.
    pub(in crate::store) fn sweep_part(
        &self,
        local: &mut Local,
        sweep: &mut ShardSweep,
        now: Now,
        visit: &mut impl FnMut(Item<'_>),
    ) -> bool {
        let mut dead = Vec::new();
        let mut shard = self.map.write_at(sweep.shard);
        let buckets = shard.buckets();
        let part = sweep.next_part(self.map.rebuild_count(sweep.shard));
        if part.start >= buckets {
            let shrunk = shard.shrink();
            drop(shard);
            self.memory.pool().sub_overhead(shrunk);
            return false;
        }
        for bucket in part.start..buckets.min(part.end) {
            if shard.slot(bucket).is_none() {
                continue;
            }
            sweep.swept.looked += 1;
            let item = shard.item(bucket);
            sweep.swept.expirable += usize::from(item.expiry() != Expiry::NEVER);
            let class = local.classes.of(item.class());
            class.crawler_items_checked.add(1);
            local.counters.crawler_items_checked.add(1);
            let mut condition = self.condition(item, now);
            if condition == Condition::TurnsStale {
                condition = self.turn_stale_counted(local, item, now);
            }
            let Condition::Dead(miss) = condition else {
                self.oldest.record(item, now);
                visit(item);
                continue;
            };
            class.crawler_reclaimed.add(1);
            local.counters.crawler_reclaimed.add(1);
            if miss == Miss::Expired {
                count_unfetched(local, item);
            }
            if miss == Miss::Invalidated {
                local.counters.invalidated_items.add(1);
            }
            dead.push(item.chunk());
            self.unlink(local, &mut shard, bucket);
        }
        drop(shard);
        for chunk in dead {
            self.release_chunk(local, chunk);
        }
        true
    }

    /// Returns the number of shards, for [`Store::sweep_shard`].
    pub fn shard_count(&self) -> usize {
        self.map.shard_count()
    }

    /// Returns the current generation, to be passed to [`Store::end_sweep`] after a
    /// sweep of all shards that begins now.
    pub fn flush_generation(&self) -> u64 {
        self.flush.generation.load(Ordering::Relaxed)
    }

    /// Records that no item of a generation before `generation` is left. Items
    /// linked since [`Store::flush_generation`] are not older: they are stamped
    /// under the locks that the sweep takes.
    pub fn end_sweep(&self, generation: u64) {
        // Release pairs with the Acquire in `flush_all`: accesses to the
        // removed items came before.
        self.flush.oldest.fetch_max(generation, Ordering::Release);
        self.oldest.end_sweep();
    }

    /// Sweeps all shards in the calling thread.
    pub(crate) fn sweep_all(&self, local: &mut Local) {
        let begun = self.flush_generation();
        for index in 0..self.map.shard_count() {
            self.sweep_shard(local, index, local.now);
        }
        self.end_sweep(begun);
    }
}
