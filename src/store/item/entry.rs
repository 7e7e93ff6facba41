//! Changing what a key has, under its shard's write lock.

use crate::store::index::map::{Hashed, WriteShard};
use crate::store::item::build::{Extended, NewItem};
use crate::store::item::layout::{Item, STALE, TOKEN_SENT, word_of};
use crate::store::item::segment::SEGMENT_HEADER_BYTES;
use crate::store::memory::chunk::{Chunk, class_of};
use crate::store::memory::classes::chunk_bytes;
use crate::store::outcome::Miss;
use crate::store::state::{Local, Store};
use crate::time::{Expiry, Now};

fn segment_capacity(chunk: Chunk) -> usize {
    // SAFETY: the chunk is the caller's, so its page does not change hands.
    chunk_bytes(unsafe { class_of(chunk) }) - SEGMENT_HEADER_BYTES
}

/// What the map no longer holds, and must be given back after unlocking.
#[derive(Clone, Copy)]
enum Removed {
    /// Held by the reference that was the map's, and maybe others.
    Held(Chunk),
    /// Held by nobody.
    Free(Chunk),
}

/// A key's place in its locked shard. What is replaced or removed through it
/// is freed after the lock is gone.
pub struct Entry<'a> {
    store: &'a Store,
    local: &'a Local,
    shard: WriteShard<'a>,
    hash: u64,
    bucket: Option<usize>,
    miss: Miss,
    /// Class of the dead item that was here, and whether it was fetched.
    dead: Option<(u8, bool)>,
    now: Now,
    /// What new items are stamped with. As of the locking: a flush that
    /// comes while this edit runs must take the copy that it makes of an
    /// old item with it.
    generation: u8,
    /// Items that the map no longer holds: at most a dead item and the
    /// item that was put in its place and removed again.
    removed: [Option<Removed>; 3],
    /// An item that had to go to make place for this one.
    evicted: Option<Chunk>,
    grown: usize,
}

impl Store {
    /// Locks a key's shard and lets `f` change what the key has. A dead item
    /// is removed first.
    pub fn edit<R>(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        now: Now,
        f: impl FnOnce(&mut Entry<'_>) -> R,
    ) -> R {
        let shard = self.map.write(key.hash);
        let bucket = shard.find(key);
        let mut entry = Entry {
            store: self,
            local,
            shard,
            hash: key.hash,
            bucket,
            miss: Miss::Absent,
            dead: None,
            now,
            generation: self.generation(),
            removed: [None; 3],
            evicted: None,
            grown: 0,
        };
        entry.remove_dead();
        let result = f(&mut entry);
        let (removed, evicted, grown) = (entry.removed, entry.evicted, entry.grown);
        drop(entry);
        if let Some(chunk) = evicted {
            // SAFETY: the reference that was the map's is ours now.
            local.tell_evicted(unsafe { Item::at(chunk) });
            self.release_chunk(local, chunk);
        }
        for removed in removed.into_iter().flatten() {
            match removed {
                Removed::Held(chunk) => self.release_chunk(local, chunk),
                // SAFETY: retiring it took its count to 0.
                Removed::Free(chunk) => unsafe { self.free_item(local, chunk) },
            }
        }
        if grown > 0 {
            self.memory.pool().add_overhead(grown);
            self.shrink_to_limit(local);
        }
        result
    }
}

impl Entry<'_> {
    /// The key's item.
    pub fn item(&self) -> Option<Item<'_>> {
        self.bucket.map(|bucket| self.shard.item(bucket))
    }

    /// Why there is no item; meaningful while there is none.
    pub fn miss(&self) -> Miss {
        self.miss
    }

    /// Links a complete new item of this key in place of what is there.
    pub fn put(&mut self, new: NewItem, cas: u64) {
        debug_assert!(new.missing() == 0 && new.hash() == self.hash);
        let counters = &self.local.counters;
        let bytes = new.item().bytes();
        let remaining = self.now.remaining(new.item().expiry());
        new.item().set_cas(cas);
        new.item().set_generation(self.generation);
        let chunk = new.chunk();
        // SAFETY: the new item is ours; from here on it is the map's.
        unsafe { word_of(chunk) }.link();
        counters.total_items.add(1);
        self.local.count_in(new.item());
        match self.bucket {
            Some(bucket) => {
                let slot = self.shard.slot(bucket).expect("the bucket is full");
                let (old, before) = (slot.chunk(), slot.stamp());
                let stamp = self.store.policy.on_insert(bytes, before.uses(), remaining);
                self.local.count_out(self.shard.item(bucket));
                self.shard.replace(bucket, chunk, stamp);
                self.retire(old);
            }
            None => {
                if let Some((class, fetched)) = self.dead.take() {
                    self.store
                        .count_overwritten(self.local, self.miss, class, fetched);
                }
                self.make_place();
                let uses = self.store.ghosts.recall(self.hash).unwrap_or(0);
                let stamp = self.store.policy.on_insert(bytes, uses, remaining);
                let (bucket, grown) = self.shard.insert(self.hash, chunk, stamp);
                self.bucket = Some(bucket);
                self.grown += grown;
            }
        }
    }

    /// Lets another item of the shard go rather than let its table grow, where
    /// memory is short.
    fn make_place(&mut self) {
        let victim = self
            .store
            .evict_for_neighbour(self.local, &mut self.shard, self.now);
        match victim {
            Some((chunk, true)) => self.evicted = Some(chunk),
            Some((chunk, false)) => self.keep_removed(Removed::Held(chunk)),
            None => {}
        }
    }

    /// Puts a copy of the item in its place: its state goes over to it, and
    /// nothing is counted as stored.
    pub fn put_copy(&mut self, copy: NewItem) {
        let Some(item) = self.item() else {
            return self.put(copy, 0);
        };
        let cas = item.cas();
        copy.item().take_state(item);
        self.put(copy, cas);
        self.local.counters.total_items.sub(1);
    }

    /// Appends to the value in place, if that is large and nobody is reading
    /// it. `spare` is chunks to go on in, taken from as need be.
    pub(crate) fn extend(&self, more: Item<'_>, spare: &mut Vec<Chunk>) -> Extended {
        let Some(item) = self.item().filter(|item| item.word().is_sole()) else {
            return Extended::Impossible;
        };
        let Some((_, room)) = item.last_segment() else {
            return Extended::Impossible;
        };
        let wanted = more.value_len().saturating_sub(room);
        let brought: usize = spare.iter().map(|chunk| segment_capacity(*chunk)).sum();
        if brought < wanted {
            return Extended::Wanting(wanted - brought);
        }
        let (before, class) = (item.bytes(), self.local.classes.of(item.class()));
        // SAFETY: the write lock is held, the map's is the only reference,
        // the item has segments, and the spare chunks are enough.
        if !unsafe { item.extend(more.value_pieces(), self.hash, || spare.pop()) } {
            return Extended::Impossible;
        }
        let grown = item.bytes() - before;
        self.local.counters.item_bytes.add(grown as u64);
        class.items.sub(1);
        class.bytes.sub(before as u64);
        let class = self.local.classes.of(item.class());
        class.items.add(1);
        class.bytes.add(item.bytes() as u64);
        Extended::Done
    }

    /// Removes the item, if there is one.
    pub fn remove(&mut self) {
        let Some(bucket) = self.bucket.take() else {
            return;
        };
        let item = self.shard.item(bucket);
        let chunk = item.chunk();
        self.local.count_out(item);
        self.shard.erase(bucket);
        self.retire(chunk);
    }

    /// Notes an access to the item.
    pub fn bump(&self, now: Now) {
        if let Some(item) = self.item() {
            item.note_access(now.second());
        }
        self.promote();
    }

    /// Makes the item worth keeping as if it were accessed, though nobody
    /// has fetched it: somebody counted on it or tried to add it.
    pub fn promote(&self) {
        let Some(bucket) = self.bucket else {
            return;
        };
        let slot = self.shard.slot(bucket).expect("the bucket is full");
        let item = self.shard.item(bucket);
        let remaining = self.now.remaining(item.expiry());
        let policy = &self.store.policy;
        slot.set_stamp(policy.on_hit(slot.stamp(), item.bytes(), remaining));
    }

    /// Gives the item another CAS value.
    pub fn set_cas(&self, cas: u64) {
        if let Some(item) = self.item() {
            item.set_cas(cas);
        }
    }

    /// Marks the item stale, open for one client to win.
    pub fn mark_stale(&self) {
        if let Some(item) = self.item() {
            item.set_bits(STALE, TOKEN_SENT);
        }
    }

    /// Marks the item stale without opening it again if it is won.
    pub fn keep_stale(&self, token_sent: bool) {
        if let Some(item) = self.item() {
            item.set_bits(STALE | if token_sent { TOKEN_SENT } else { 0 }, 0);
        }
    }

    /// Notes that a client was told to recache the item.
    pub fn mark_token_sent(&self) {
        if let Some(item) = self.item() {
            item.set_bits(TOKEN_SENT, 0);
        }
    }

    /// Changes the expiry time. False if the item has no room for one: then
    /// it must be replaced by a copy that has.
    #[must_use]
    pub fn set_expiry(&self, expiry: Expiry) -> bool {
        self.item().is_none_or(|item| item.set_expiry(expiry))
    }

    /// Overwrites the value in place with `digits`, padded with blanks, if it
    /// is at least as long and nobody is reading it.
    #[must_use]
    pub fn overwrite(&self, digits: &[u8]) -> bool {
        let Some(item) = self.item() else {
            return false;
        };
        if digits.len() > item.value_len()
            || item.contiguous_value().is_none()
            || !item.word().is_sole()
        {
            return false;
        }
        let padded = digits.iter().copied().chain(std::iter::repeat(b' '));
        // SAFETY: the write lock is held, the map's is the only reference,
        // and the value lies in one piece.
        unsafe { item.overwrite(padded) };
        true
    }

    fn remove_dead(&mut self) {
        let Some(item) = self.item() else {
            return;
        };
        if let Some(miss) = self.store.dead(item, self.now) {
            self.local.counters.met(miss).add(1);
            self.dead = Some((item.class(), item.is_fetched()));
            self.remove();
            self.miss = miss;
        }
    }

    /// Takes the map's reference to a chunk, to be given back after unlock.
    fn retire(&mut self, chunk: Chunk) {
        // SAFETY: the map held this chunk until just now.
        let word = unsafe { word_of(chunk) };
        self.keep_removed(match word.unlink_sole() {
            true => Removed::Free(chunk),
            false => {
                word.unlink();
                Removed::Held(chunk)
            }
        });
    }

    fn keep_removed(&mut self, removed: Removed) {
        let free = self.removed.iter_mut().find(|place| place.is_none());
        *free.expect("an edit removes at most a dead, an old and a new item") = Some(removed);
    }
}
