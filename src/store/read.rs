//! Look-ups: prefetch, read with and without the shard lock, release of
//! references.

use crate::limits::{SEND_BY_REFERENCE_BYTES, TIGHT_SEND_BY_REFERENCE_BYTES};
use crate::store::index::map::Hashed;
use crate::store::index::slot::Slot;
use crate::store::index::unlocked::Unlocked;
use crate::store::item::entry::CHANGED_IN_PLACE_MAX_BYTES;
use crate::store::item::layout::Item;
use crate::store::item::pin::Pin;
use crate::store::outcome::{Access, Condition, Miss};
use crate::store::state::{Local, Store};
use crate::sync::Ordering;
use crate::time::Now;

/// Largest value that is read without the lock. Copying a larger one takes
/// longer than the lock.
const UNLOCKED_MAX_BYTES: usize = 4096;
// Larger values may be pinned, which needs the lock.
const _: () = assert!(UNLOCKED_MAX_BYTES < TIGHT_SEND_BY_REFERENCE_BYTES);
const _: () = assert!(UNLOCKED_MAX_BYTES < SEND_BY_REFERENCE_BYTES);

impl Store {
    /// Hashes a key. Call it once per command and pass the result on.
    #[inline]
    pub fn hashed<'k>(&self, key: &'k [u8]) -> Hashed<'k> {
        Hashed {
            key,
            hash: self.map.hash(key),
        }
    }

    /// Prefetches the locks for hashes of keys whose items will be changed. Keys
    /// that are read need no lock.
    #[inline]
    pub fn prefetch_locks(&self, hashes: impl Iterator<Item = u64>) {
        for hash in hashes {
            self.map.prefetch_lock(hash);
        }
    }

    /// Prefetches the buckets and items of a batch of hashes. All loads of one
    /// kind are issued before the next kind, so that their latencies overlap.
    /// Takes no lock.
    pub fn prefetch(&self, local: &mut Local, hashes: &[u64]) {
        for hash in hashes {
            self.map.prefetch_slot(*hash);
        }
        let was_inside = local.limbo.is_inside();
        if !local.limbo.enter() {
            return;
        }
        let bytes = self.mean_bytes.load(Ordering::Relaxed);
        for hash in hashes {
            // SAFETY: the thread is inside.
            unsafe { self.map.prefetch_item(*hash, bytes) };
        }
        if !was_inside {
            local.limbo.leave();
        }
    }

    /// Calls `f` with the key's item under its shard's read lock. `f` returns
    /// whether this is an access; the access is recorded after `f`, which
    /// therefore sees the previous access time. A dead item is removed.
    ///
    /// # Errors
    /// The reason of the miss, if there is no live item.
    #[inline]
    pub fn read<R>(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        now: Now,
        f: impl FnOnce(Item<'_>) -> (Access, R),
    ) -> Result<R, Miss> {
        let mut shard = self.map.read(key.hash);
        let (slot, item) = loop {
            let Some(slot) = shard.find(key) else {
                return Err(Miss::Absent);
            };
            let item = shard.item(slot);
            if self.is_live(item, now) {
                break (slot, item);
            }
            let condition = self.condition(item, now);
            drop(shard);
            self.settle(local, key, now);
            if let Condition::Dead(miss) = condition {
                return Err(miss);
            }
            shard = self.map.read(key.hash);
        };
        let word = slot.word();
        let (access, result) = f(item);
        if access == Access::Counted {
            self.record_hit(slot, word, item, now);
        }
        Ok(result)
    }

    /// Like [`Store::read`], but without the shard's lock if the thread is inside
    /// an epoch and the item is suitable: it writes to no memory that other
    /// threads use, except to record an access that is not recorded yet. `f` must
    /// not pin the item.
    ///
    /// If CAS value or bits of the item have changed by the time `f` returns, it
    /// is called again under the lock, and only the second result counts: `f`
    /// must discard what its first call wrote.
    ///
    /// # Errors
    /// The reason of the miss, if there is no live item.
    #[inline]
    pub fn read_unlocked<R>(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        now: Now,
        mut f: impl FnMut(Item<'_>) -> (Access, R),
    ) -> Result<R, Miss> {
        if local.limbo.is_inside() {
            // SAFETY: the thread is inside, and leaves after the last use of
            // what it finds.
            match unsafe { self.map.find_unlocked(key) } {
                Unlocked::Absent => return Err(Miss::Absent),
                Unlocked::Found(found) if self.is_readable_unlocked(found.item, now) => {
                    let before = found.item.state();
                    let (access, result) = f(found.item);
                    if found.item.state() == before {
                        if access == Access::Counted {
                            self.record_hit(found.slot, found.word, found.item, now);
                        }
                        return Ok(result);
                    }
                }
                Unlocked::Found(_) | Unlocked::Unclear => {}
            }
        }
        self.read(local, key, now, f)
    }

    /// Returns whether an item that was found without a lock is live, and nothing
    /// of it that a reader copies changes in place.
    #[inline]
    fn is_readable_unlocked(&self, item: Item<'_>, now: Now) -> bool {
        item.is_plain()
            && (CHANGED_IN_PLACE_MAX_BYTES + 1..=UNLOCKED_MAX_BYTES).contains(&item.value_len())
            && self.is_live(item, now)
    }

    /// Records an access to an item, which was found by this word of its slot.
    #[inline]
    fn record_hit(&self, slot: &Slot, word: u64, item: Item<'_>, now: Now) {
        item.record_access(now.second());
        let stamp = Slot::stamp_of(word);
        let remaining = now.remaining_eighths(item.expiry());
        let bumped = self.policy.on_hit(stamp, item.bytes(), remaining);
        if bumped != stamp {
            slot.replace_stamp(word, bumped);
        }
    }

    /// Releases a reference. Retires the item if it was the last one.
    pub fn release(&self, local: &mut Local, pin: Pin) {
        self.release_chunk(local, pin.into_chunk());
    }

    /// Removes the item of a key if it is dead, and marks it stale if an
    /// invalidation demands that.
    #[cold]
    fn settle(&self, local: &mut Local, key: &Hashed<'_>, now: Now) {
        // It does both before it calls the closure.
        self.edit(local, key, now, |_| ());
    }

    /// Returns whether a linked item is alive and no invalidation makes it stale.
    #[inline]
    pub(in crate::store) fn is_live(&self, item: Item<'_>, now: Now) -> bool {
        item.generation() == self.generation()
            && !item.expiry().is_over(now)
            && (!self.invalidations.is_outstanding() || self.is_spared(item))
    }

    /// Returns whether no outstanding invalidation concerns an item.
    #[cold]
    #[inline(never)]
    fn is_spared(&self, item: Item<'_>) -> bool {
        !self.invalidations.may_concern(item) || self.judge(item) == Condition::Live
    }

    /// Returns whether a linked item is alive, or why it is dead.
    #[inline(never)]
    pub(in crate::store) fn condition(&self, item: Item<'_>, now: Now) -> Condition {
        if item.generation() != self.generation() {
            return Condition::Dead(Miss::Flushed);
        }
        if item.expiry().is_over(now) {
            return Condition::Dead(Miss::Expired);
        }
        if self.invalidations.is_outstanding() {
            return self.judge(item);
        }
        Condition::Live
    }

    /// Returns why a linked item is dead (flushed, expired or invalidated), or
    /// `None` if it is live.
    #[inline]
    pub(in crate::store) fn miss_reason(&self, item: Item<'_>, now: Now) -> Option<Miss> {
        match self.condition(item, now) {
            Condition::Dead(miss) => Some(miss),
            Condition::Live | Condition::TurnsStale => None,
        }
    }
}
