//! Room for new items of a prefix with a limit: the eviction of its own items.
//!
//! Each limit has a hand of its own, which passes over all buckets and looks at
//! the prefix's items only. Of every few of these, it evicts the one with the
//! fewest ticks left, and lets the others age. The clock of the eviction policy
//! does not move: the other items have nothing to do with it.

use std::fmt;

use crate::config::{MemoryShare, PrefixLimit};
use crate::limits::{KEY_MAX_BYTES, PREFIX_LIMITS_MAX};
use crate::store::evict::prefix_limits::{Limited, PrefixUse};
use crate::store::evict::victim::Candidate;
use crate::store::index::map::Hashed;
use crate::store::invalidation::name::BadName;
use crate::store::item::layout::Item;
use crate::store::outcome::NoMemory;
use crate::store::state::{Local, Store};
use crate::sync::Ordering;

/// Buckets that one visit of a limit's hand looks at, under one read lock.
const VISIT_BUCKETS: usize = 64;
/// Items of the prefix of which one is evicted.
const SAMPLE_ITEMS: usize = 16;
/// Buckets that a new item's search looks at.
const LOOKS_MAX: usize = 1024;
/// Buckets that it looks at if the prefix would be well over its limit: the item
/// is large, or few of the store's items are of the prefix.
const LOOKS_OVER_MAX: usize = 8 * LOOKS_MAX;
/// The part of its limit by which a prefix is well over it.
const OVER_PART: usize = 32;
/// Items evicted, and buckets looked at, in a step of upkeep.
const STEP_ITEMS: usize = 1000;
const STEP_LOOKS: usize = 16 * LOOKS_MAX;
/// Items in the store up to which they are counted for a new limit at once.
const COUNT_AT_ONCE: u64 = 10_000;
/// Slots that are prefetched ahead of counting.
const COUNT_AHEAD: usize = 16;

/// Reason why a prefix cannot have a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPrefixLimit {
    /// It is no prefix of keys.
    Name(BadName),
    /// [`PREFIX_LIMITS_MAX`] prefixes have or had a limit.
    TooMany,
}

impl fmt::Display for BadPrefixLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(BadName::Empty) => f.write_str("empty prefix"),
            Self::Name(BadName::TooLong) => {
                write!(f, "a prefix has at most {KEY_MAX_BYTES} bytes")
            }
            Self::Name(_) => f.write_str("prefix must end with the delimiter"),
            Self::TooMany => write!(
                f,
                "{PREFIX_LIMITS_MAX} prefixes have had a limit since the start"
            ),
        }
    }
}

impl Store {
    /// Sets the limit of a prefix; `None` takes it away. Items over a lowered
    /// limit are evicted by [`Store::keep_prefix_limits`].
    ///
    /// # Errors
    /// The prefix cannot have a limit.
    pub fn set_prefix_limit(
        &self,
        prefix: &[u8],
        share: Option<MemoryShare>,
    ) -> Result<(), BadPrefixLimit> {
        self.check_prefix(prefix).map_err(BadPrefixLimit::Name)?;
        if !self.prefix_limits.set(prefix, share) {
            return Err(BadPrefixLimit::TooMany);
        }
        if self.stats.snapshot().items <= COUNT_AT_ONCE {
            while self.count_for_prefix_limits() {}
        }
        Ok(())
    }

    /// Replaces all limits. Returns the first prefix that has no place, if any;
    /// the ones before it have their limits.
    ///
    /// # Errors
    /// That prefix, and the reason.
    pub fn replace_prefix_limits<'l>(
        &self,
        limits: &'l [PrefixLimit],
    ) -> Result<(), (&'l [u8], BadPrefixLimit)> {
        for old in self.prefix_limits.places() {
            if !limits.iter().any(|limit| &*limit.prefix == old.prefix()) {
                self.prefix_limits.set(old.prefix(), None);
            }
        }
        for PrefixLimit { prefix, share } in limits {
            self.set_prefix_limit(prefix, Some(*share))
                .map_err(|bad| (&**prefix, bad))?;
        }
        Ok(())
    }

    /// Returns the limits of prefixes, and what their items take.
    pub fn prefix_uses(&self) -> Vec<PrefixUse> {
        self.prefix_limits.report(self.memory_limit())
    }

    /// Returns the limits of prefixes.
    pub fn prefix_limits(&self) -> Vec<PrefixLimit> {
        let limit = |place: &Limited| {
            let share = place.share()?;
            let prefix = place.prefix().into();
            Some(PrefixLimit { prefix, share })
        };
        self.prefix_limits.places().filter_map(limit).collect()
    }

    /// Counts an item that is linked into a shard whose write lock is held.
    #[inline]
    pub(in crate::store) fn count_linked(&self, local: &Local, shard: usize, item: Item<'_>) {
        local.count_linked(item);
        if self.prefix_limits.is_used() {
            let bytes = item.bytes() as u64;
            self.prefix_limits.count(shard, item.key(), 1, bytes);
        }
    }

    /// Counts an item that is unlinked from a shard whose write lock is held.
    #[inline]
    pub(in crate::store) fn count_unlinked(&self, local: &Local, shard: usize, item: Item<'_>) {
        local.count_unlinked(item);
        if self.prefix_limits.is_used() {
            let bytes = (item.bytes() as u64).wrapping_neg();
            self.prefix_limits
                .count(shard, item.key(), 1_u64.wrapping_neg(), bytes);
        }
    }

    /// Counts an item that takes the place of another one of its key.
    #[inline]
    pub(in crate::store) fn count_replaced(
        &self,
        local: &Local,
        shard: usize,
        old: Item<'_>,
        new: Item<'_>,
    ) {
        local.count_linked(new);
        local.count_unlinked(old);
        if self.prefix_limits.is_used() {
            let bytes = (new.bytes() as u64).wrapping_sub(old.bytes() as u64);
            self.prefix_limits.count(shard, new.key(), 0, bytes);
        }
    }

    /// Counts the growth of an item whose shard's write lock is held, in bytes.
    pub(in crate::store) fn count_grown(
        &self,
        local: &Local,
        shard: usize,
        item: Item<'_>,
        by: usize,
    ) {
        local.counters.item_bytes.add(by as u64);
        if self.prefix_limits.is_used() {
            self.prefix_limits.count(shard, item.key(), 0, by as u64);
        }
    }

    /// Counts the items of the next shard for limits that were added. Returns
    /// false if there is none.
    fn count_for_prefix_limits(&self) -> bool {
        let Some(index) = self.prefix_limits.uncounted_shard() else {
            return false;
        };
        let shard = self.map.read_at(index);
        let places = self.prefix_limits.uncounted(index);
        let mut sums = vec![(0, 0); places.len()];
        for bucket in 0..shard.buckets() {
            if let Some(slot) = shard.slot(bucket + COUNT_AHEAD) {
                slot.prefetch();
            }
            let Some(slot) = shard.slot(bucket) else {
                continue;
            };
            let item = shard.item(slot);
            let key = item.key();
            for (place, (items, bytes)) in places.iter().zip(&mut sums) {
                if key.starts_with(place.prefix()) {
                    *items += 1;
                    *bytes += item.bytes() as u64;
                }
            }
        }
        self.prefix_limits.add_counted(index, &sums);
        true
    }

    /// Counts items for limits that were added, and evicts items of prefixes over
    /// their limit; a bounded number of them. Returns whether more is to be done.
    /// Called by upkeep.
    pub fn keep_prefix_limits(&self, local: &mut Local) -> bool {
        if !self.prefix_limits.is_used() {
            return false;
        }
        if self.count_for_prefix_limits() {
            return true;
        }
        if !self.options.evict {
            return false;
        }
        let (mut left, mut looks) = (STEP_ITEMS, 0);
        for place in self.prefix_limits.places() {
            while self.is_over(place, 0) {
                if left == 0 || looks >= STEP_LOOKS {
                    return true;
                }
                left -= 1;
                self.evict_of(local, place, b"", &mut looks, STEP_LOOKS);
            }
        }
        false
    }

    /// Evicts items of the prefixes of a new item's key, as far as it would
    /// exceed their limits.
    ///
    /// # Errors
    /// The item alone exceeds a limit, or nothing may be evicted.
    #[inline]
    pub(in crate::store) fn make_prefix_room(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        bytes: usize,
    ) -> Result<(), NoMemory> {
        if !self.prefix_limits.is_used() {
            return Ok(());
        }
        self.make_room_in_each(local, key, bytes)
    }

    #[cold]
    fn make_room_in_each(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        bytes: usize,
    ) -> Result<(), NoMemory> {
        for place in self.prefix_limits.places() {
            if !key.key.starts_with(place.prefix()) || !self.is_over(place, bytes) {
                continue;
            }
            if !self.options.evict || self.limit_of(place) < bytes {
                return Err(NoMemory);
            }
            let slack = self.limit_of(place) / OVER_PART;
            let mut looks = 0;
            while self.is_over(place, bytes) {
                let most = match self.is_over(place, bytes.saturating_sub(slack)) {
                    true => LOOKS_OVER_MAX,
                    false => LOOKS_MAX,
                };
                if looks >= most {
                    break;
                }
                self.evict_of(local, place, key.key, &mut looks, most);
            }
        }
        Ok(())
    }

    /// Returns the limit of a prefix in bytes; the highest number without one.
    fn limit_of(&self, place: &Limited) -> usize {
        let memory_limit = || self.memory_limit();
        let share = place.share();
        share.map_or(usize::MAX, |share| share.bytes(memory_limit()))
    }

    /// Returns whether `more` further bytes would exceed the limit.
    fn is_over(&self, place: &Limited, more: usize) -> bool {
        place.bytes().saturating_add(more) > self.limit_of(place)
    }

    /// Searches a few items of the prefix, and evicts the one with the fewest
    /// ticks left, or the first one that is due. Spares the item with the key
    /// `spared`. Looks at no further buckets once `looks` has reached `most`.
    fn evict_of(
        &self,
        local: &mut Local,
        place: &Limited,
        spared: &[u8],
        looks: &mut usize,
        most: usize,
    ) {
        let (mut seen, mut best) = (0, None::<Candidate>);
        while seen < SAMPLE_ITEMS && *looks < most {
            let visit = place.visits.fetch_add(1, Ordering::Relaxed);
            let (index, part) = (
                visit % self.map.shard_count(),
                visit / self.map.shard_count(),
            );
            let shard = self.map.read_at(index);
            let parts = shard.buckets().div_ceil(VISIT_BUCKETS).max(1);
            let start = part % parts * VISIT_BUCKETS;
            // An empty shard costs a look, too.
            *looks += VISIT_BUCKETS.min(shard.buckets()).max(1);
            let buckets = start..start + VISIT_BUCKETS;
            for slot in buckets.clone().filter_map(|bucket| shard.slot(bucket)) {
                slot.prefetch();
            }
            for bucket in buckets {
                let Some(slot) = shard.slot(bucket) else {
                    continue;
                };
                let item = shard.item(slot);
                let key = item.key();
                if !key.starts_with(place.prefix()) || key == spared {
                    continue;
                }
                seen += 1;
                let is_dead = self.miss_reason(item, local.now).is_some();
                let stamp = slot.stamp();
                let left = if is_dead {
                    i16::MIN
                } else {
                    self.policy.ticks_left(stamp)
                };
                if best.as_ref().is_none_or(|best| left < best.left) {
                    best = Some(Candidate {
                        shard: index,
                        bucket,
                        chunk: slot.chunk(),
                        left,
                    });
                }
                slot.set_stamp(stamp.aged(left));
            }
        }
        if let Some(best) = best {
            self.evict_own(local, place, &best);
        }
    }

    /// Evicts the candidate, if it is still there.
    fn evict_own(&self, local: &mut Local, place: &Limited, candidate: &Candidate) {
        let mut shard = self.map.write_at(candidate.shard);
        if !candidate.is_in(&shard) {
            return;
        }
        let victim = self.remove_victim(local, &mut shard, candidate.bucket, local.now);
        drop(shard);
        if victim.is_alive {
            place.evictions.fetch_add(1, Ordering::Relaxed);
            local.counters.evicted_for_prefix.add(1);
            // SAFETY: this function owns the reference that was the map's.
            local.report_evicted(unsafe { Item::at(victim.head) });
        }
        self.release_chunk(local, victim.head);
    }
}
