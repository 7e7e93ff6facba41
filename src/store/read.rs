//! Look-ups: prefetch, read with and without the shard lock, release of
//! references and of a thread's hot items.

use crate::store::hot::{Held, PLACES};
use crate::store::index::map::Hashed;
use crate::store::item::layout::Item;
use crate::store::item::pin::Pin;
use crate::store::outcome::{Access, Condition, Miss};
use crate::store::state::{Local, Store};
use crate::sync::Ordering;
use crate::time::Now;

impl Local {
    /// Returns whether this thread holds a hot item with this hash. Prefetching
    /// for such a key is pointless.
    #[inline]
    pub fn is_hot(&self, hash: u64) -> bool {
        self.hot.has(hash)
    }

    /// Returns whether this thread holds hot items. If it does, call
    /// [`Store::release_cold`] about once a second.
    pub fn holds_items(&self) -> bool {
        !self.hot.is_empty()
    }
}

impl Store {
    /// Hashes a key. Call it once per command and pass the result on.
    #[inline]
    pub fn hashed<'k>(&self, key: &'k [u8]) -> Hashed<'k> {
        Hashed {
            key,
            hash: self.map.hash(key),
        }
    }

    /// Prefetches the locks, slots and items of a batch of hashes. All loads of
    /// one kind are issued before the next kind, so that their latencies
    /// overlap. Takes no lock.
    pub fn prefetch(&self, local: &mut Local, hashes: &[u64]) {
        for hash in hashes {
            self.map.prefetch_lock(*hash);
        }
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
        self.look_up(local, key, now, false, f)
    }

    /// Like [`Store::read`], but if the item is hot in this thread, reads it
    /// without the lock. If the shard has changed by the time `f` returns, `f`
    /// is called again under the lock, and only the second result counts: `f`
    /// must discard what its first call wrote.
    ///
    /// # Errors
    /// The reason of the miss, if there is no live item.
    #[inline]
    pub fn read_often<R>(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        now: Now,
        mut f: impl FnMut(Item<'_>) -> (Access, R),
    ) -> Result<R, Miss> {
        if let Some((item, observed)) = local.hot.find(key, &self.map, now)
            && self.is_live(item, now)
        {
            // The access of this second is recorded already. Do not write to
            // the item here: without the lock, the page mover may be copying
            // its header.
            let (_, result) = f(item);
            if self.map.version(key.hash).was_unchanged(observed) {
                return Ok(result);
            }
        }
        self.look_up(local, key, now, true, f)
    }

    /// Looks a key up under its shard's read lock. With `often`, the thread may
    /// take a reference to the item as a hot one.
    #[inline]
    pub(in crate::store) fn look_up<R>(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        now: Now,
        often: bool,
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
        let (access, result) = f(item);
        if access == Access::Counted {
            item.record_access(now.second());
            let stamp = slot.stamp();
            let remaining = now.remaining_eighths(item.expiry());
            let bumped = self.policy.on_hit(stamp, item.bytes(), remaining);
            if bumped != stamp {
                slot.set_stamp(bumped);
            }
            if often && let Some(pin) = local.hot.record(key.hash, item, &shard, now) {
                drop(shard);
                self.release(local, pin);
            }
        }
        Ok(result)
    }

    /// Releases a reference. Retires the item if it was the last one.
    pub fn release(&self, local: &mut Local, pin: Pin) {
        self.release_chunk(local, pin.into_chunk());
    }

    /// Releases the thread's hot items that were not looked up in the table in
    /// the current or the previous second. Does nothing if called again in the
    /// same second of `local.now`.
    #[inline]
    pub fn release_cold(&self, local: &mut Local) {
        let second = local.now.second();
        if local.hot.held > 0 && local.hot.released != second {
            local.hot.released = second;
            self.release_hot_where(local, |held| held.second + 1 < second);
        }
    }

    /// Releases all hot items of the thread.
    pub fn release_all_hot(&self, local: &mut Local) {
        self.release_hot_where(local, |_| true);
    }

    /// Releases the thread's hot items for which `is_cold` returns true.
    #[cold]
    pub(in crate::store) fn release_hot_where(
        &self,
        local: &mut Local,
        is_cold: impl Fn(&Held) -> bool,
    ) {
        for number in 0..PLACES {
            if let Some(held) = local.hot.places[number].take_if(|held| is_cold(held)) {
                local.hot.held -= 1;
                self.release(local, held.pin);
            }
        }
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
