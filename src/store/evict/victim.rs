//! Search for a victim and its eviction. The hand locks one shard at a time,
//! and looks at a bounded number of items per eviction. Also the eviction of a
//! neighbour, which keeps a shard's table from growing.

use crate::store::evict::hand::Visit;
use crate::store::evict::policy::SCAN_LIMIT;
use crate::store::index::map::WriteShard;
use crate::store::item::layout::Item;
use crate::store::memory::chunk::Chunk;
use crate::store::state::{Local, Store};
use crate::sync::Ordering;
use crate::time::Now;

/// Memory counts as exhausted if fewer than this many more pages fit the limit.
const SPARE_PAGES: usize = 8;
/// Searches between two surveys of the store.
const SURVEY_EVERY: u32 = 256;

/// The best victim that a search has seen so far.
struct Candidate {
    shard: usize,
    bucket: usize,
    chunk: Chunk,
    /// Ticks left until the item is due.
    left: i16,
}

/// A victim that was unlinked from the map. Its owner must release the chunk
/// after unlocking the shard.
pub(in crate::store) struct Victim {
    /// The head chunk, with the reference that was the map's.
    pub(in crate::store) head: Chunk,
    /// Whether the item was live rather than flushed or expired.
    pub(in crate::store) is_alive: bool,
}

impl Candidate {
    /// Returns whether the item still lies in its bucket. Another thread may
    /// have removed it: the shard was unlocked since, even if it is the last
    /// one seen.
    fn is_in(&self, shard: &WriteShard<'_>) -> bool {
        let slot = shard.slot(self.bucket);
        shard.index() == self.shard && slot.is_some_and(|slot| slot.chunk() == self.chunk)
    }
}

impl Store {
    /// Evicts the first due item. If the hand finds none among a bounded number
    /// of items, evicts the item with the fewest ticks left. Returns the bytes
    /// of the victim, 0 if another thread has removed it meanwhile, or `None`
    /// if the store is empty.
    pub(in crate::store) fn evict(&self, local: &mut Local) -> Option<usize> {
        let mut best: Option<Candidate> = None;
        let mut looked = 0;
        for _ in 0..=self.map.shard_count() {
            let shard = self.map.write_at(local.visit.shard);
            if let Some(bucket) =
                self.advance_hand(&mut local.visit, &shard, &mut looked, &mut best)
            {
                self.record_search(local, looked, true);
                return self.evict_at(local, shard, bucket);
            }
            if looked >= SCAN_LIMIT {
                self.record_search(local, looked, false);
                // The candidate was seen under this lock, or in the hand's
                // previous turn.
                if let Some(best) = best.as_ref()
                    && best.is_in(&shard)
                {
                    return self.evict_at(local, shard, best.bucket);
                }
                drop(shard);
                return self.evict_candidate(local, best);
            }
            drop(shard);
            local.visit = self.hand.next_visit();
        }
        self.record_search(local, looked, false);
        self.evict_candidate(local, best)
    }

    /// Locks the shard of the candidate and evicts it, if it is still there.
    /// Without a candidate, evicts any item.
    fn evict_candidate(&self, local: &mut Local, best: Option<Candidate>) -> Option<usize> {
        let Some(best) = best else {
            return self.evict_any(local);
        };
        let shard = self.map.write_at(best.shard);
        if best.is_in(&shard) {
            return self.evict_at(local, shard, best.bucket);
        }
        // Another thread has removed or moved it meanwhile.
        Some(0)
    }

    /// Advances the hand until it meets a due item or the visit is over.
    /// Returns the bucket of the due item. Keeps in `best` the item with the
    /// fewest ticks left.
    fn advance_hand(
        &self,
        visit: &mut Visit,
        shard: &WriteShard<'_>,
        looked: &mut usize,
        best: &mut Option<Candidate>,
    ) -> Option<usize> {
        let buckets = shard.positions();
        let position = &self.hand.positions[visit.shard];
        let mut next = position.load(Ordering::Relaxed) as usize;
        let part = || (buckets >> self.hand.visits.load(Ordering::Relaxed)).max(1);
        let mut left = visit.left.unwrap_or_else(part).min(buckets);
        let mut due = None;
        while left > 0 && *looked < SCAN_LIMIT && due.is_none() {
            left -= 1;
            // The table may have shrunk since the last visit.
            let bucket = if next < buckets { next } else { 0 };
            next = bucket + 1;
            let Some(slot) = shard.slot(bucket) else {
                continue;
            };
            *looked += 1;
            let ticks = self.policy.ticks_left(slot.stamp());
            if ticks <= 0 {
                slot.prefetch();
                due = Some(bucket);
            } else if best.as_ref().is_none_or(|best| ticks < best.left) {
                slot.prefetch();
                *best = Some(Candidate {
                    shard: visit.shard,
                    bucket,
                    chunk: slot.chunk(),
                    left: ticks,
                });
            }
        }
        position.store(next as u32, Ordering::Relaxed);
        visit.left = Some(left);
        due
    }

    /// Evicts the first item in any shard. Threads share the hand's turn, so
    /// that one thread's search may miss the few shards that are not empty.
    fn evict_any(&self, local: &mut Local) -> Option<usize> {
        (0..self.map.shard_count()).find_map(|index| {
            let shard = self.map.write_at(index);
            let bucket = (0..shard.positions()).find(|&bucket| shard.slot(bucket).is_some())?;
            self.evict_at(local, shard, bucket)
        })
    }

    /// Reports a search for a victim to the policy. Every 256th search of a
    /// thread surveys the store.
    fn record_search(&self, local: &mut Local, looked: usize, found_due: bool) {
        self.policy.advance(looked);
        self.policy.adjust_speed(found_due);
        if local.searches.is_multiple_of(SURVEY_EVERY) {
            self.survey();
        }
        local.searches = local.searches.wrapping_add(1);
    }

    /// Evicts the item in `bucket`, unlocks the shard, and frees the item.
    /// Returns its bytes.
    fn evict_at(
        &self,
        local: &mut Local,
        mut shard: WriteShard<'_>,
        bucket: usize,
    ) -> Option<usize> {
        let bytes = shard.item(bucket).bytes();
        let victim = self.remove_victim(local, &mut shard, bucket, local.now);
        drop(shard);
        if victim.is_alive {
            // SAFETY: this function owns the reference that was the map's.
            local.report_evicted(unsafe { Item::at(victim.head) });
        }
        self.release_chunk(local, victim.head);
        Some(bytes)
    }

    /// Evicts an item of a shard that is about to store another, so that its
    /// table does not grow. Does so only if no memory is left and the shard has far
    /// more items than its share of the memory holds.
    #[inline]
    pub(in crate::store) fn evict_in_shard(
        &self,
        local: &Local,
        shard: &mut WriteShard<'_>,
        now: Now,
    ) -> Option<Victim> {
        if !shard.is_full() || !self.options.evict {
            return None;
        }
        self.evict_in_full_shard(local, shard, now)
    }

    /// Does the work of [`Store::evict_in_shard`] for a shard whose
    /// table is full.
    #[cold]
    fn evict_in_full_shard(
        &self,
        local: &Local,
        shard: &mut WriteShard<'_>,
        now: Now,
    ) -> Option<Victim> {
        let pool = self.memory.pool();
        if !pool.over_limit(SPARE_PAGES) {
            return None;
        }
        let share = pool.limit() / self.map.shard_count();
        let item_bytes = self.mean_bytes.load(Ordering::Relaxed).max(1);
        let would_take = share.saturating_sub(shard.grown_bytes()) / item_bytes;
        // Tables grow in small steps, and the mean may be older than a change of
        // sizes: only a shard with far more items than others does not grow.
        if 2 * would_take > shard.len() {
            return None;
        }
        let mut visit = Visit {
            shard: shard.index(),
            left: Some(usize::MAX),
        };
        let (mut looked, mut best) = (0, None);
        let due = self.advance_hand(&mut visit, shard, &mut looked, &mut best);
        self.policy.advance(looked);
        self.policy.adjust_speed(due.is_some());
        let bucket = due.or(best.map(|best| best.bucket))?;
        Some(self.remove_victim(local, shard, bucket, now))
    }

    /// Unlinks a victim from the map, counts it and records its ghost.
    pub(in crate::store) fn remove_victim(
        &self,
        local: &Local,
        shard: &mut WriteShard<'_>,
        bucket: usize,
        now: Now,
    ) -> Victim {
        let item = shard.item(bucket);
        let head = item.chunk();
        let dead = self.miss_reason(item, now);
        if let Some(miss) = dead {
            self.count_reclaimed(local, item, miss);
        } else {
            local.count_evicted(item);
            let hash = self.map.hash(item.key());
            let uses = shard.slot(bucket).map_or(0, |slot| slot.stamp().uses());
            self.ghosts.record(hash, uses);
        }
        self.unlink(local, shard, bucket);
        Victim {
            head,
            is_alive: dead.is_none(),
        }
    }
}
