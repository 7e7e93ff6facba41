//! Sweeps: walks through all items that remove the dead ones. A sweep locks a
//! shard for a few buckets at a time.

use std::ops::Range;

use crate::store::census::count_unfetched;
use crate::store::item::layout::Item;
use crate::store::outcome::{Condition, Miss};
use crate::store::state::{Local, Store};
use crate::sync::Ordering;
use crate::time::{Expiry, Now};

/// Positions that a sweep looks at under one lock.
const SWEEP_POSITIONS: usize = 256;

/// Restarts of a shard's sweep, because its table was rebuilt, before the sweep
/// looks at all positions under one lock.
const SWEEP_RESTARTS_MAX: usize = 3;

/// Result of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Items looked at, dead ones included.
    pub looked: usize,
    /// Of these, items with an expiry time, expired or not.
    pub expirable: usize,
}

/// Value of [`ShardSweep::next`] after all positions were looked at under one
/// lock; above any position.
const ALL_SEEN: usize = usize::MAX;

/// The position of a sweep in one shard.
pub(in crate::store) struct ShardSweep {
    shard: usize,
    /// The next position, or [`ALL_SEEN`].
    next: usize,
    /// The shard's count of rebuilds at the last part.
    rebuilt: usize,
    /// How often the sweep began anew.
    restarts: usize,
    /// The shard's count of displaced items when the sweep began, or began anew.
    displaced: usize,
    /// Whether this is the second pass, over items that may have been displaced.
    again: bool,
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
            displaced: 0,
            again: false,
            swept: Swept::default(),
        }
    }

    /// Returns the positions to look at under the current lock. If the table was
    /// rebuilt since the last part, items not seen yet may lie at positions
    /// already passed: the sweep begins anew. After several restarts, it takes
    /// all positions under one lock.
    fn next_part(&mut self, rebuilt: usize, displaced: usize) -> Range<usize> {
        let has_begun = (self.next > 0 || self.again) && self.next != ALL_SEEN;
        if self.rebuilt != rebuilt && has_begun {
            self.next = 0;
            self.again = false;
            self.restarts += 1;
        }
        if self.next == 0 && !self.again {
            self.displaced = displaced;
        }
        self.rebuilt = rebuilt;
        let start = self.next;
        self.next = if self.restarts > SWEEP_RESTARTS_MAX {
            ALL_SEEN
        } else {
            start + SWEEP_POSITIONS
        };
        start..self.next
    }

    /// Begins a second pass if items were displaced during the first one: they
    /// may have moved to positions that were passed already. They lie in
    /// secondary buckets now, and do not move again. Returns false if no second
    /// pass is needed.
    fn pass_again(&mut self, displaced: usize) -> bool {
        if self.again || self.displaced == displaced || self.next == ALL_SEEN {
            return false;
        }
        self.again = true;
        self.next = 0;
        true
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

    /// Continues a sweep under one lock: removes the dead items at some positions
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
        let positions = shard.positions();
        let displaced = self.map.displaced_count(sweep.shard);
        let part = sweep.next_part(self.map.rebuild_count(sweep.shard), displaced);
        if part.start >= positions {
            if sweep.pass_again(displaced) {
                return true;
            }
            let shrunk = shard.shrink();
            drop(shard);
            self.memory.pool().sub_overhead(shrunk);
            return false;
        }
        for position in part.start..positions.min(part.end) {
            if shard.slot(position).is_none() || sweep.again && !shard.is_secondary(position) {
                continue;
            }
            let item = shard.item(position);
            let class = local.classes.of(item.class());
            // Nearly all items of a second pass were counted and shown in the
            // first one.
            if !sweep.again {
                sweep.swept.looked += 1;
                sweep.swept.expirable += usize::from(item.expiry() != Expiry::NEVER);
                class.crawler_items_checked.add(1);
                local.counters.crawler_items_checked.add(1);
            }
            let mut condition = self.condition(item, now);
            if condition == Condition::TurnsStale {
                condition = self.turn_stale_counted(local, item, now);
            }
            let Condition::Dead(miss) = condition else {
                self.oldest.record(item, now);
                if !sweep.again {
                    visit(item);
                }
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
            self.unlink(local, &mut shard, position);
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
