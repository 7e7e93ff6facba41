//! Modification of a key's item under its shard's write lock.

use crate::limits::ClassId;
use crate::store::index::map::{Hashed, WriteShard};
use crate::store::invalidation::name::Birth;
use crate::store::item::build::{Extended, NewItem};
use crate::store::item::layout::{Item, STALE, TOKEN_SENT, word_of};
use crate::store::item::segment::SEGMENT_HEADER_BYTES;
use crate::store::memory::chunk::{Chunk, class_of};
use crate::store::memory::classes::chunk_bytes;
use crate::store::outcome::{Condition, Miss};
use crate::store::state::{Local, Store};
use crate::time::{Expiry, Now};

/// Largest value that is changed in place: the longest number. Such short values
/// are read under the lock only.
pub(in crate::store) const CHANGED_IN_PLACE_MAX_BYTES: usize = 20;

/// Growths of a table between two surveys of the store.
const SURVEY_EVERY_GROWTHS: u32 = 16;

/// Returns the data bytes that a spare chunk holds as a segment.
fn segment_capacity(chunk: Chunk) -> usize {
    // SAFETY: the chunk is the caller's, so its page does not change its class.
    chunk_bytes(unsafe { class_of(chunk) }) - SEGMENT_HEADER_BYTES
}

/// A chunk that was unlinked from the map and must be released after unlocking.
#[derive(Clone, Copy)]
enum Removed {
    /// The caller owns the reference that was the map's; there may be others.
    Held(Chunk),
    /// The caller owns the only reference.
    Sole(Chunk),
}

/// A key's entry in its locked shard. Items replaced or removed through it are
/// freed after the shard is unlocked.
pub struct Entry<'a> {
    store: &'a Store,
    local: &'a Local,
    shard: WriteShard<'a>,
    hash: u64,
    /// The bucket of the key's item, if it has one.
    bucket: Option<usize>,
    /// The reason of the miss while `bucket` is `None`.
    miss: Miss,
    /// Size class of the dead item that this edit removed, and whether it was
    /// fetched.
    dead: Option<(ClassId, bool)>,
    now: Now,
    /// The generation of items stored by this edit, read under the shard lock.
    /// If a flush begins during the edit, a copy of an old item must be flushed
    /// like the original.
    generation: u8,
    /// Items unlinked by this edit, at most three: the key's dead item, a dead
    /// neighbour evicted to make room, and an item replaced or removed.
    removed: [Option<Removed>; 3],
    /// A live item of the shard that was evicted to make room.
    evicted: Option<Chunk>,
    /// Bytes by which the shard's table grew.
    grown: usize,
}

impl Store {
    /// Locks the key's shard for writing, removes the key's item if it is dead,
    /// and calls `f` with the entry. Removed items are freed after unlocking.
    /// If the table grew, then gives up pages to keep the memory limit.
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
            // SAFETY: this function owns the reference that was the map's.
            local.report_evicted(unsafe { Item::at(chunk) });
            self.release_chunk(local, chunk);
        }
        for removed in removed.into_iter().flatten() {
            match removed {
                Removed::Held(chunk) => self.release_chunk(local, chunk),
                // SAFETY: `Entry::retire` found no other reference.
                Removed::Sole(chunk) => unsafe { self.retire(local, chunk) },
            }
        }
        if grown > 0 {
            self.memory.pool().add_overhead(grown);
            self.free_tables(local);
            self.shrink_to_limit(local);
            // A store that fills quickly has millions of items before upkeep's next
            // step, and the due ticks of all of them depend on their mean size.
            if local.growths.is_multiple_of(SURVEY_EVERY_GROWTHS) {
                self.survey();
            }
            local.growths = local.growths.wrapping_add(1);
        }
        result
    }
}

impl Entry<'_> {
    /// Returns the key's live item.
    pub fn item(&self) -> Option<Item<'_>> {
        self.bucket.map(|bucket| self.shard.item(bucket))
    }

    /// Returns the reason of the miss; meaningless if there is an item.
    pub fn miss(&self) -> Miss {
        self.miss
    }

    /// Links a complete new item of this key with CAS value `cas`, in place of
    /// the key's item if there is one. Updates counters and the eviction stamp.
    /// The item is born now; without a birth field, `cas` must be a value that
    /// the store gave since the shard was locked.
    pub fn put(&mut self, new: NewItem, cas: u64) {
        let number = match new.item().has_birth_field() {
            true => self.store.cas.last(),
            false => cas,
        };
        self.put_born(new, Birth { cas, number });
    }

    /// Links a complete new item like [`Entry::put`], with a birth that was drawn
    /// before.
    pub fn put_born(&mut self, new: NewItem, birth: Birth) {
        debug_assert!(new.missing() == 0 && new.hash() == self.hash);
        let counters = &self.local.counters;
        let bytes = new.item().bytes();
        let remaining = self.now.remaining_eighths(new.item().expiry());
        counters.total_items.add(1);
        if !new.item().can_hold(birth.cas, birth.number) {
            return self.evict_instead_of_linking(new);
        }
        new.item().set_birth(birth.cas, birth.number);
        new.item().set_generation(self.generation);
        let shard = self.shard.index();
        let marks = match self.bucket {
            Some(bucket) => {
                let old = self.shard.item(bucket);
                self.store
                    .count_replaced(self.local, shard, old, new.item());
                0
            }
            None => self.store.count_linked(self.local, shard, new.item()),
        };
        let chunk = new.into_chunk();
        // SAFETY: the new item is the caller's; from here on the map owns it.
        unsafe { word_of(chunk) }.link();
        match self.bucket {
            Some(bucket) => {
                let slot = self.shard.slot(bucket).expect("the bucket is full");
                let (old, before) = (slot.chunk(), slot.stamp());
                let stamp = self.store.policy.on_insert(bytes, before.uses(), remaining);
                self.shard.replace(bucket, chunk, stamp);
                self.retire(old);
            }
            None => {
                if let Some((class, fetched)) = self.dead.take() {
                    self.store
                        .count_overwritten(self.local, self.miss, class, fetched);
                }
                self.evict_instead_of_growing();
                let uses = self.store.ghosts.find_uses(self.hash).unwrap_or(0);
                let stamp = self.store.policy.on_insert(bytes, uses, remaining);
                let (bucket, grown) = self.shard.insert(self.hash, chunk, stamp);
                if marks != 0 {
                    self.shard.mark(bucket, marks);
                }
                self.bucket = Some(bucket);
                self.grown += grown;
            }
        }
    }

    /// Removes the key's item, and releases the one that would have replaced it.
    /// For an item that was made long ago, when births had fewer bits: its birth
    /// must not be cut.
    #[cold]
    fn evict_instead_of_linking(&mut self, new: NewItem) {
        self.remove();
        self.keep_removed(Removed::Held(new.into_chunk()));
    }

    /// Evicts another item of the shard instead of growing its table, if memory
    /// is short and the larger table would not pay.
    fn evict_instead_of_growing(&mut self) {
        let victim = self
            .store
            .evict_in_shard(self.local, &mut self.shard, self.now);
        match victim {
            Some(victim) if victim.is_alive => self.evicted = Some(victim.head),
            Some(victim) => self.keep_removed(Removed::Held(victim.head)),
            None => {}
        }
    }

    /// Draws CAS value and birth for a change that depends on the present item;
    /// `cas` is the CAS value if a client gives one. Returns `None` if the item
    /// has been invalidated since the edit began: then it is removed.
    ///
    /// The check comes after the draw, so that no content from before an
    /// invalidation outlives it (`order.rs`).
    #[must_use]
    pub fn renew(&mut self, cas: Option<u64>) -> Option<Birth> {
        let birth = self.store.draw(cas);
        self.remove_dead();
        self.bucket.map(|_| birth)
    }

    /// Returns the birth of the present item; `None` if there is none. `cas`
    /// replaces the CAS value.
    pub fn birth(&self, cas: Option<u64>) -> Option<Birth> {
        let item = self.item()?;
        let (cas, number) = (cas.unwrap_or(item.cas()), item.birth());
        Some(Birth { cas, number })
    }

    /// Replaces the item by `copy`, a new item with the same value. The copy
    /// takes over CAS value, birth, access time and state bits; it does not count
    /// as a stored item. Links `copy` with CAS value 0 if the key has no item.
    pub fn put_copy(&mut self, copy: NewItem) {
        let Some(item) = self.item() else {
            return self.put(copy, 0);
        };
        let (cas, number) = (item.cas(), item.birth());
        copy.item().copy_state_from(item);
        self.put_born(copy, Birth { cas, number });
        self.local.counters.total_items.sub(1);
    }

    /// Appends the value of `more` to a chained value in place, if the map's
    /// reference is the only one. Takes chunks from the end of `spare` as
    /// needed.
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
        // SAFETY: the write lock is held, the map's reference is the only one,
        // the item has segments, and the spare chunks suffice.
        if !unsafe { item.extend(more.pieces(), self.hash, || spare.pop()) } {
            return Extended::Impossible;
        }
        let grown = item.bytes() - before;
        self.store
            .count_grown(self.local, self.shard.index(), item, grown);
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
        self.store
            .count_unlinked(self.local, self.shard.index(), item);
        self.shard.erase(bucket);
        self.retire(chunk);
    }

    /// Records an access to the item: access time, `FETCHED` bit and eviction
    /// stamp.
    pub fn bump(&self, now: Now) {
        if let Some(item) = self.item() {
            item.record_access(now.second());
        }
        self.promote();
    }

    /// Renews the item's eviction stamp as a hit does, without marking it as
    /// fetched. For commands that use an item and do not fetch it, such as
    /// `incr` or a failed `add`.
    pub fn promote(&self) {
        let Some(bucket) = self.bucket else {
            return;
        };
        let slot = self.shard.slot(bucket).expect("the bucket is full");
        let item = self.shard.item(bucket);
        let remaining = self.now.remaining_eighths(item.expiry());
        let policy = &self.store.policy;
        slot.set_stamp(policy.on_hit(slot.stamp(), item.bytes(), remaining));
    }

    /// Returns whether a birth field must be added to the item before it is
    /// changed in place. `cas` is the new CAS value if a client gives one.
    #[inline]
    pub fn lacks_birth_field(&self, cas: Option<u64>) -> bool {
        self.store.needs_birth_field(cas) && self.item().is_some_and(|item| !item.has_birth_field())
    }

    /// Sets the item's CAS value and birth. If they differ, the item must have a
    /// birth field. Removes the item if it cannot hold them, which does not
    /// happen after [`Entry::lacks_birth_field`] has returned false.
    pub fn set_birth(&mut self, birth: Birth) {
        let Some(item) = self.item() else {
            return;
        };
        match item.can_hold(birth.cas, birth.number) {
            true => item.set_birth(birth.cas, birth.number),
            false => self.remove(),
        }
    }

    /// Marks the item stale and lets the next client win the token to recache
    /// it.
    pub fn mark_stale(&self) {
        if let Some(item) = self.item() {
            item.set_bits(STALE, TOKEN_SENT);
        }
    }

    /// Marks the item stale; if `token_sent`, the token to recache it stays
    /// won.
    pub fn keep_stale(&self, token_sent: bool) {
        if let Some(item) = self.item() {
            item.set_bits(STALE | if token_sent { TOKEN_SENT } else { 0 }, 0);
        }
    }

    /// Records that a client has won the token to recache the item.
    pub fn mark_token_sent(&self) {
        if let Some(item) = self.item() {
            item.set_bits(TOKEN_SENT, 0);
        }
    }

    /// Sets the expiry time. Returns false if the item has no room for an
    /// expiry time; the caller must then replace it with a copy that has.
    #[must_use]
    pub fn set_expiry(&self, expiry: Expiry) -> bool {
        self.item().is_none_or(|item| item.set_expiry(expiry))
    }

    /// Overwrites the value in place with `digits`, padded with spaces. Returns
    /// false if the value is shorter or so long that others read it without the
    /// lock, or is being sent by another thread.
    #[must_use]
    pub fn overwrite(&self, digits: &[u8]) -> bool {
        let Some(item) = self.item() else {
            return false;
        };
        if digits.len() > item.value_len()
            || item.value_len() > CHANGED_IN_PLACE_MAX_BYTES
            || item.contiguous_value().is_none()
            || !item.word().is_sole()
        {
            return false;
        }
        let padded = digits.iter().copied().chain(std::iter::repeat(b' '));
        // SAFETY: the write lock is held, the map's reference is the only one,
        // and the value lies in one piece.
        unsafe { item.overwrite(padded) };
        true
    }

    /// Removes and counts the item if it is dead. Marks it stale if an
    /// invalidation demands that.
    #[inline]
    fn remove_dead(&mut self) {
        if self
            .item()
            .is_some_and(|item| !self.store.is_live(item, self.now))
        {
            self.settle();
        }
    }

    #[cold]
    fn settle(&mut self) {
        let Some(item) = self.item() else {
            return;
        };
        let mut condition = self.store.condition(item, self.now);
        if condition == Condition::TurnsStale {
            condition = self.store.turn_stale_counted(self.local, item, self.now);
        }
        if let Condition::Dead(miss) = condition {
            self.local.counters.dead_hit_counter(miss).add(1);
            self.dead = Some((item.class(), item.is_fetched()));
            self.remove();
            self.miss = miss;
        }
    }

    /// Takes over the map's reference to an unlinked chunk, to be released
    /// after unlocking.
    fn retire(&mut self, chunk: Chunk) {
        // SAFETY: the map's reference to this chunk has not been released yet.
        let word = unsafe { word_of(chunk) };
        self.keep_removed(match word.unlink_sole() {
            true => Removed::Sole(chunk),
            false => {
                word.unlink();
                Removed::Held(chunk)
            }
        });
    }

    /// Remembers an unlinked chunk until the shard is unlocked.
    fn keep_removed(&mut self, removed: Removed) {
        let free = self.removed.iter_mut().find(|place| place.is_none());
        *free.expect("an edit removes at most a dead, an old and a new item") = Some(removed);
    }
}
