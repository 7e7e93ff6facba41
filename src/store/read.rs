//! Looking items up, and giving references back.

use crate::store::hot::{Held, PLACES};
use crate::store::index::map::Hashed;
use crate::store::item::layout::{Item, word_of};
use crate::store::item::pin::Pin;
use crate::store::memory::chunk::Chunk;
use crate::store::outcome::{Access, Miss};
use crate::store::state::{Local, Store};
use crate::sync::Ordering;
use crate::time::Now;

impl Local {
    /// Whether an item of this hash is at hand, so that prefetching for it is
    /// of no use.
    #[inline]
    pub fn is_hot(&self, hash: u64) -> bool {
        self.hot.has(hash)
    }

    /// Whether it holds items that it should let go of if nobody asks for
    /// them for a while: see [`Store::cool`].
    pub fn holds_items(&self) -> bool {
        !self.hot.is_empty()
    }
}

impl Store {
    /// Hashes a key; do it once per command.
    #[inline]
    pub fn hashed<'k>(&self, key: &'k [u8]) -> Hashed<'k> {
        Hashed {
            key,
            hash: self.map.hash(key),
        }
    }

    /// Brings what will be touched for these hashes into the cache, all of
    /// one kind before the next, so that their latencies overlap.
    pub fn prefetch(&self, hashes: &[u64]) {
        for hash in hashes {
            self.map.prefetch_lock(*hash);
        }
        for hash in hashes {
            self.map.prefetch_slot(*hash);
        }
        let bytes = self.mean_bytes.load(Ordering::Relaxed);
        for hash in hashes {
            self.map.prefetch_item(*hash, bytes);
        }
    }

    /// Shows a key's item to `f`, with its shard locked for reading. `f` says
    /// whether this is an access; it sees the item as it was before.
    ///
    /// # Errors
    /// Why there is no such item.
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

    /// Shows a key's item to `f` as [`Store::read`] does, but without the lock
    /// if this thread holds the item for being asked for all the time. If the
    /// item is changed meanwhile, `f` is called once more, and the first call
    /// must leave no trace.
    ///
    /// # Errors
    /// Why there is no such item.
    #[inline]
    pub fn read_often<R>(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        now: Now,
        mut f: impl FnMut(Item<'_>) -> (Access, R),
    ) -> Result<R, Miss> {
        if let Some((item, relied)) = local.hot.find(key, &self.map, now)
            && self.dead(item, now).is_none()
        {
            // It was accessed in this second already: there is nothing to
            // note. Nor may there be: whoever moves it now copies its header.
            let (_, result) = f(item);
            if self.map.version(key.hash).held(relied) {
                return Ok(result);
            }
        }
        self.look_up(local, key, now, true, f)
    }

    /// Looks a key up in its shard; `often` lets this thread hold its item.
    #[inline]
    pub(in crate::store) fn look_up<R>(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        now: Now,
        often: bool,
        f: impl FnOnce(Item<'_>) -> (Access, R),
    ) -> Result<R, Miss> {
        let shard = self.map.read(key.hash);
        let Some(slot) = shard.find(key) else {
            return Err(Miss::Absent);
        };
        let item = shard.item(slot);
        if let Some(miss) = self.dead(item, now) {
            drop(shard);
            // Editing removes what is dead.
            self.edit(local, key, now, |_| ());
            return Err(miss);
        }
        let (access, result) = f(item);
        if access == Access::Counted {
            item.note_access(now.second());
            let stamp = slot.stamp();
            let remaining = now.remaining(item.expiry());
            let bumped = self.policy.on_hit(stamp, item.bytes(), remaining);
            if bumped != stamp {
                slot.set_stamp(bumped);
            }
            if often && let Some(pin) = local.hot.note(key.hash, item, &shard, now) {
                drop(shard);
                self.release(local, pin);
            }
        }
        Ok(result)
    }

    /// Gives a reference back.
    pub fn release(&self, local: &mut Local, pin: Pin) {
        self.release_chunk(local, pin.0);
    }

    /// Lets a thread go of the items that it holds and has not found in the
    /// last second. To be called about once a second while it holds any.
    #[inline]
    pub fn cool(&self, local: &mut Local) {
        let second = local.now.second();
        if local.hot.held > 0 && local.hot.cooled != second {
            local.hot.cooled = second;
            self.let_go(local, |held| held.second + 1 < second);
        }
    }

    /// Lets a thread go of all items that it holds.
    pub fn let_all_go(&self, local: &mut Local) {
        self.let_go(local, |_| true);
    }

    #[cold]
    pub(in crate::store) fn let_go(&self, local: &mut Local, is_cold: impl Fn(&Held) -> bool) {
        for number in 0..PLACES {
            if let Some(held) = local.hot.places[number].take_if(|held| is_cold(held)) {
                local.hot.held -= 1;
                self.release(local, held.pin);
            }
        }
    }

    /// Why an item no longer counts, if it does not.
    #[inline]
    pub(in crate::store) fn dead(&self, item: Item<'_>, now: Now) -> Option<Miss> {
        if item.generation() != self.generation() {
            return Some(Miss::Flushed);
        }
        item.expiry().is_over(now).then_some(Miss::Expired)
    }

    /// Gives back a reference to a chunk and, with the last one, its memory.
    pub(in crate::store) fn release_chunk(&self, local: &mut Local, head: Chunk) {
        // SAFETY: the caller holds the reference it gives back.
        if unsafe { word_of(head) }.unpin() {
            // SAFETY: we took the count to 0.
            unsafe { self.free_item(local, head) };
        }
    }

    /// Frees the chunks of an item.
    ///
    /// # Safety
    /// It was the caller who took the count of references to the head to 0.
    pub(in crate::store) unsafe fn free_item(&self, local: &mut Local, head: Chunk) {
        // SAFETY: the item is the caller's alone, and its chunks are freed
        // once.
        unsafe {
            for segment in Item::at(head).segments() {
                if word_of(segment).unpin() {
                    self.memory.free(&mut local.magazines, segment);
                }
            }
            self.memory.free(&mut local.magazines, head);
        }
    }
}
