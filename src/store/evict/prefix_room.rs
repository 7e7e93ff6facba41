//! Room for new items of a prefix with a limit: the eviction of its own items.
//!
//! Each limit has a hand of its own, which passes over all buckets and looks at
//! the prefix's items only. It evicts those that are due, or of every few the one
//! with the fewest ticks left, and lets the others age. The clock of the eviction
//! policy does not move: the other items have nothing to do with it.

use std::fmt;

use crate::config::{MemoryShare, PrefixLimit};
use crate::limits::{KEY_MAX_BYTES, PREFIX_LIMITS_MAX};
use crate::store::evict::prefix_limits::{Limited, PrefixUse};
use crate::store::evict::prefix_pool::Seen;
use crate::store::index::map::Hashed;
use crate::store::invalidation::name::BadName;
use crate::store::item::layout::Item;
use crate::store::outcome::NoMemory;
use crate::store::state::{Local, Store};
use crate::sync::Ordering;
use crate::time::Now;

/// Buckets that one visit of a limit's hand looks at, under one read lock.
const VISIT_BUCKETS: usize = u64::BITS as usize;
/// Visits in a row to one shard: processors prefetch what is read in order.
const RUN_VISITS: usize = 8;
/// Looks that the search for a new item's room takes: items of limited prefixes.
const LOOKS_MAX: usize = 1024;
/// Looks that a visit costs besides its items.
const VISIT_LOOKS: usize = 4;
/// Looks that the search takes if the prefix would be well over its limit: the item
/// is large, or few of the store's items are of the prefix.
const LOOKS_OVER_MAX: usize = 8 * LOOKS_MAX;
/// The part of its limit by which a prefix is well over it.
const OVER_PART: usize = 32;
/// Items evicted, and looks, in a step of upkeep.
const STEP_ITEMS: usize = 1000;
const STEP_LOOKS: usize = 16 * LOOKS_MAX;
/// Items in the store up to which they are counted for a new limit at once.
const COUNT_AT_ONCE: u64 = 10_000;
/// Slots that are prefetched ahead of counting.
const COUNT_AHEAD: usize = 16;

/// What a new item does to the present item of its key, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// It takes its place.
    Replaces,
    /// Its value is joined to that of the present item.
    Joins,
}

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

    /// Counts an item that is linked into a shard whose write lock is held. Returns
    /// its marks.
    #[inline]
    pub(in crate::store) fn count_linked(&self, local: &Local, shard: usize, item: Item<'_>) -> u8 {
        local.count_linked(item);
        if !self.prefix_limits.is_used() {
            return 0;
        }
        let bytes = item.bytes() as u64;
        self.prefix_limits.count(shard, item.key(), 1, bytes)
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
        let shard = self.map.write_at(index);
        let places = self.prefix_limits.uncounted(index);
        let mut sums = vec![(0, 0); places.len()];
        for bucket in 0..shard.positions() {
            if let Some(slot) = shard.slot(bucket + COUNT_AHEAD) {
                slot.prefetch();
            }
            if shard.slot(bucket).is_none() {
                continue;
            }
            let item = shard.item(bucket);
            let key = item.key();
            for (place, (items, bytes)) in places.iter().zip(&mut sums) {
                if key.starts_with(place.prefix()) {
                    *items += 1;
                    *bytes += item.bytes() as u64;
                    shard.mark(bucket, place.mark);
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
    /// exceed their limits. `bytes` are those of the new item.
    ///
    /// # Errors
    /// The item alone exceeds a limit, or nothing may be evicted. Nothing was
    /// evicted then.
    #[inline]
    pub fn make_prefix_room(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        bytes: usize,
        growth: Growth,
        now: Now,
    ) -> Result<(), NoMemory> {
        if !self.prefix_limits.is_used() {
            return Ok(());
        }
        local.now = now;
        self.make_room_in_each(local, key, bytes, growth)
    }

    #[cold]
    fn make_room_in_each(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        bytes: usize,
        growth: Growth,
    ) -> Result<(), NoMemory> {
        let concerned = |place: &&Limited| key.key.starts_with(place.prefix());
        let places = || self.prefix_limits.places().filter(concerned);
        if !places().any(|place| self.is_over(place, bytes)) {
            return Ok(());
        }
        let old = self.bytes_of(key);
        let (alone, more) = match growth {
            Growth::Replaces => (bytes, bytes.saturating_sub(old)),
            Growth::Joins => (bytes + old, bytes),
        };
        let is_refused = |place: &Limited| {
            self.limit_of(place) < alone || !self.options.evict && self.is_over(place, more)
        };
        if places().any(is_refused) {
            return Err(NoMemory);
        }
        for place in places() {
            let slack = self.limit_of(place) / OVER_PART;
            let mut looks = 0;
            while self.is_over(place, more) {
                let most = match self.is_over(place, more.saturating_sub(slack)) {
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

    /// Returns the bytes that the present item of a key counts, dead or not; 0
    /// without one.
    fn bytes_of(&self, key: &Hashed<'_>) -> usize {
        let shard = self.map.read(key.hash);
        shard.find(key).map_or(0, |slot| shard.item(slot).bytes())
    }

    /// Returns the limit of a prefix in bytes; the highest number without one.
    fn limit_of(&self, place: &Limited) -> usize {
        let share = place.share();
        share.map_or(usize::MAX, |share| share.bytes(self.memory_limit()))
    }

    /// Returns whether `more` further bytes would exceed the limit.
    fn is_over(&self, place: &Limited, more: usize) -> bool {
        place.bytes().saturating_add(more) > self.limit_of(place)
    }

    /// Evicts an item of the prefix: one that is due, or the one with the fewest
    /// ticks left of a few. Spares the item with the key `spared`. Visits no
    /// further buckets once `looks` has reached `most`.
    fn evict_of(
        &self,
        local: &mut Local,
        place: &Limited,
        spared: &[u8],
        looks: &mut usize,
        most: usize,
    ) {
        loop {
            let at_once = *looks >= most;
            match place.pool.take(&self.policy, at_once) {
                Some(seen) => {
                    if self.evict_seen(local, place, spared, seen) {
                        return;
                    }
                }
                None if at_once => return,
                None => self.look(local, place, spared, looks),
            }
        }
    }

    /// Looks at the next buckets. Ages the items of the prefix, and adds them to
    /// its pool.
    fn look(&self, local: &Local, place: &Limited, spared: &[u8], looks: &mut usize) {
        let visit = place.visits.fetch_add(1, Ordering::Relaxed);
        let (run, within) = (visit / RUN_VISITS, visit % RUN_VISITS);
        let index = run % self.map.shard_count();
        let part = run / self.map.shard_count() * RUN_VISITS + within;
        let shard = self.map.read_at(index);
        let parts = shard.positions().div_ceil(VISIT_BUCKETS).max(1);
        let start = part % parts * VISIT_BUCKETS;
        *looks += VISIT_LOOKS.min(shard.positions()).max(1);
        if within + 1 >= parts {
            // The shard has no more: go on with the next one.
            let next = (run + 1) * RUN_VISITS;
            place.visits.fetch_max(next, Ordering::Relaxed);
        }
        let mut marked = 0_u64;
        for offset in 0..VISIT_BUCKETS {
            if let Some(slot) = shard.slot(start + offset)
                && slot.marks() & place.mark != 0
            {
                slot.prefetch();
                marked |= 1 << offset;
            }
        }
        let (mut seen, mut count) = ([None; VISIT_BUCKETS], 0);
        while marked != 0 {
            let bucket = start + marked.trailing_zeros() as usize;
            marked &= marked - 1;
            let slot = shard.slot(bucket).expect("the lock is held");
            *looks += 1;
            let item = shard.item(slot);
            let key = item.key();
            if !key.starts_with(place.prefix()) || key == spared {
                continue;
            }
            let stamp = slot.stamp();
            let number = (visit * VISIT_BUCKETS + bucket % VISIT_BUCKETS) as u32;
            let by = place.pool.aging(number);
            let stamp = stamp.aged(self.policy.ticks_left(stamp), by);
            slot.set_stamp(stamp);
            seen[count] = Some(Seen {
                shard: index as u32,
                bucket: bucket as u32,
                chunk: slot.chunk().addr().get(),
                stamp,
                is_dead: self.miss_reason(item, local.now).is_some(),
            });
            count += 1;
        }
        drop(shard);
        if count > 0 {
            place.pool.add(&self.policy, seen.iter().flatten());
        }
    }

    /// Evicts an item that was seen. Returns false if it is not there any more, or
    /// was used since.
    fn evict_seen(&self, local: &mut Local, place: &Limited, spared: &[u8], seen: Seen) -> bool {
        let bucket = seen.bucket as usize;
        let mut shard = self.map.write_at(seen.shard as usize);
        let is_same = shard.slot(bucket).is_some_and(|slot| {
            let key = shard.item(bucket).key();
            slot.chunk().addr().get() == seen.chunk
                && slot.stamp() == seen.stamp
                // Another item may have got its memory and its bucket.
                && key.starts_with(place.prefix())
                && key != spared
        });
        if !is_same {
            return false;
        }
        let victim = self.remove_victim(local, &mut shard, bucket, local.now);
        drop(shard);
        if victim.is_alive {
            place.evictions.fetch_add(1, Ordering::Relaxed);
            local.counters.evicted_for_prefix.add(1);
            // SAFETY: this function owns the reference that was the map's.
            local.report_evicted(unsafe { Item::at(victim.head) });
        }
        self.release_chunk(local, victim.head);
        true
    }
}
