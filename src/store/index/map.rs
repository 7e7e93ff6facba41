//! The map from keys to items: a DashMap whose shards are the locks and stashes
//! of tables of our own. Only this file names dashmap, hashbrown and ahash.
//! Hashes and comparisons read the key through the slot.
//!
//! A shard's entries lie in the buckets of its table (`bucket.rs`), which are
//! found without the lock. Entries for which there is no room there lie in the
//! stash: the shard's own table in the DashMap, under its lock. Positions number
//! the entries of a shard: first those in buckets, then those in the stash.
//!
//! No guard leaves this file except inside [`ReadShard`] and [`WriteShard`],
//! and no caller may hold two of them at a time. A shard's table is replaced
//! under its write lock, and retired.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use ahash::RandomState;
use dashmap::{DashMap, RwLockReadGuard, RwLockWriteGuard, SharedValue};
use hashbrown::raw::RawTable;

use crate::store::evict::policy::Stamp;
use crate::store::index::bucket;
use crate::store::index::bucket::{Bucket, Lookup, POSITIONS, Place};
use crate::store::index::counts::Counts;
use crate::store::index::slot::{Slot, chunk_of, key_of, pack, prefetched};
use crate::store::index::table::{Buckets, Table, buckets_for, bytes_of, capacity_of, find_in};
use crate::store::item::layout::Item;
use crate::store::memory::chunk::Chunk;
use crate::store::reclaim::limbo::Reclaim;
use crate::sync::Ordering;

/// Name of the hash function, for `stats settings`.
pub const HASH_NAME: &str = "ahash";

/// Tables with fewer buckets are always allowed to grow: they are too small to
/// matter.
const SMALL_BUCKETS: usize = 8;
/// A stash is full if it has more entries than [`STASH_BASE`] and the shard's
/// entries divided by this.
const STASH_PART: usize = 64;
/// See [`STASH_PART`].
const STASH_BASE: usize = 4;
/// A table with a full stash is rebuilt at its size if at least its entries
/// divided by this were added since its last rebuild. Otherwise, it grows.
const WORN_PART: usize = 4;
/// Bytes of a stash besides its slots: a control byte for each, and those that
/// hashbrown repeats at the end.
const STASH_TAIL_BYTES: usize = 16;

type Stash = RawTable<(Slot, SharedValue<()>)>;

/// A key and its hash.
#[derive(Clone, Copy, Debug)]
pub struct Hashed<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The key's hash in this store; seeded at random.
    pub hash: u64,
}

/// The map: sharded tables of slots, each under a reader-writer lock.
pub(crate) struct Map {
    inner: DashMap<Slot, (), RandomState>,
    /// One per shard. Written only when a table is replaced.
    tables: Box<[Table]>,
    /// One per shard.
    counts: Box<[Counts]>,
    /// Frees replaced tables when no reader is left.
    reclaim: Arc<Reclaim>,
}

impl Map {
    /// Creates an empty map of `shards` shards, a power of two.
    pub(crate) fn new(shards: usize, reclaim: Arc<Reclaim>) -> Self {
        Self::with_hasher(shards, RandomState::new(), reclaim)
    }

    /// Creates an empty map that hashes in every run alike.
    #[cfg(test)]
    pub(in crate::store::index) fn seeded(shards: usize) -> Self {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        Self::with_hasher(shards, hasher, Arc::new(Reclaim::new()))
    }

    fn with_hasher(shards: usize, hasher: RandomState, reclaim: Arc<Reclaim>) -> Self {
        Self {
            inner: DashMap::with_hasher_and_shard_amount(hasher, shards),
            tables: (0..shards).map(|_| Table::new()).collect(),
            counts: (0..shards).map(|_| Counts::default()).collect(),
            reclaim,
        }
    }

    /// Returns the bytes of the locks, empty stashes and counts.
    pub(crate) fn base_bytes(&self) -> usize {
        size_of_val(self.inner.shards()) + size_of_val(&*self.tables) + size_of_val(&*self.counts)
    }

    /// Returns the number of shards.
    pub(crate) fn shard_count(&self) -> usize {
        self.inner.shards().len()
    }

    /// Returns the hash of a key.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.inner.hasher().build_hasher();
        hasher.write(key);
        hasher.finish()
    }

    /// Returns the number of the shard that `hash` belongs to.
    #[inline]
    pub(crate) fn shard_index(&self, hash: u64) -> usize {
        self.inner.determine_shard(hash as usize)
    }

    /// Returns the address of the lock that guards `hash`, for prefetching.
    #[inline]
    pub(in crate::store::index) fn lock_address(&self, hash: u64) -> *const u8 {
        std::ptr::from_ref(&self.inner.shards()[self.shard_index(hash)]).cast()
    }

    /// Returns the table of the shard that `hash` belongs to.
    #[inline]
    pub(in crate::store::index) fn table(&self, hash: u64) -> &Table {
        &self.tables[self.shard_index(hash)]
    }

    /// Locks the shard of `hash` for reading.
    #[inline]
    pub(crate) fn read(&self, hash: u64) -> ReadShard<'_> {
        self.read_at(self.shard_index(hash))
    }

    /// Locks shard number `index` for reading.
    #[inline]
    pub(crate) fn read_at(&self, index: usize) -> ReadShard<'_> {
        let stash = self.inner.shards()[index].read();
        ReadShard {
            // SAFETY: tables are replaced under the write lock only.
            buckets: unsafe { self.tables[index].buckets().as_slice() },
            stash,
            map: self,
            index,
        }
    }

    /// Returns how often entries of shard number `index` got other positions,
    /// all at once. The count does not change while the shard is locked.
    pub(crate) fn rebuild_count(&self, index: usize) -> usize {
        self.counts[index].rebuilds.get()
    }

    /// Returns how often a single entry of shard number `index` got another
    /// position. The count does not change while the shard is locked.
    pub(crate) fn displaced_count(&self, index: usize) -> usize {
        self.counts[index].displaced.get()
    }

    /// Locks the shard of `hash` for writing.
    #[inline]
    pub(crate) fn write(&self, hash: u64) -> WriteShard<'_> {
        self.write_at(self.shard_index(hash))
    }

    /// Locks shard number `index` for writing.
    #[inline]
    pub(crate) fn write_at(&self, index: usize) -> WriteShard<'_> {
        let stash = self.inner.shards()[index].write();
        WriteShard {
            buckets: self.tables[index].buckets(),
            stash,
            map: self,
            index,
        }
    }
}

/// A shard locked for reading.
pub(crate) struct ReadShard<'a> {
    buckets: &'a [Bucket],
    stash: RwLockReadGuard<'a, Stash>,
    map: &'a Map,
    index: usize,
}

impl ReadShard<'_> {
    /// Returns the slot of a key, or `None` if the key is not in the shard.
    #[inline]
    pub(crate) fn find(&self, key: &Hashed<'_>) -> Option<&Slot> {
        // SAFETY: items in the shard are linked; the lock is held.
        let is_wanted = |word| key.key == unsafe { key_of(word) };
        match find_in(self.buckets, key.hash, is_wanted) {
            Lookup::At(position, _) => bucket::word(self.buckets, position).map(Slot::of),
            Lookup::Absent => None,
            Lookup::MaybeStashed => self.find_stashed(key),
        }
    }

    #[cold]
    fn find_stashed(&self, key: &Hashed<'_>) -> Option<&Slot> {
        let hash = Place::of(key.hash, self.buckets.len()).stash_hash();
        // SAFETY: items in the shard are linked; the lock is held.
        let is_wanted = |entry: &(Slot, _)| key.key == unsafe { key_of(entry.0.word()) };
        let found = self.stash.get(hash, is_wanted);
        found.map(|entry| &entry.0)
    }

    /// Returns the number of positions, full or not; 0 if the shard has no
    /// entries.
    pub(crate) fn positions(&self) -> usize {
        if self.map.counts[self.index].entries.get() == 0 {
            return 0;
        }
        self.buckets.len() * POSITIONS + self.stash.buckets()
    }

    /// Returns the slot at a position, or `None` if it is empty or there is no
    /// such position.
    #[inline]
    pub(crate) fn slot(&self, position: usize) -> Option<&Slot> {
        slot_at(self.buckets, &self.stash, position)
    }

    /// Returns whether the entry at a position lies in its secondary bucket.
    pub(crate) fn is_secondary(&self, position: usize) -> bool {
        bucket::is_secondary(self.buckets, position)
    }

    /// Returns the item of a slot of this shard.
    #[inline]
    pub(crate) fn item(&self, slot: &Slot) -> Item<'_> {
        // SAFETY: the item is linked, and the lock is held for the view's
        // lifetime.
        unsafe { Item::at(slot.chunk()) }
    }
}

/// A shard locked for writing.
pub(crate) struct WriteShard<'a> {
    buckets: Buckets,
    stash: RwLockWriteGuard<'a, Stash>,
    map: &'a Map,
    index: usize,
}

impl WriteShard<'_> {
    #[inline]
    fn buckets(&self) -> &[Bucket] {
        // SAFETY: only `rebuild` retires them, which borrows the shard mutably.
        unsafe { self.buckets.as_slice() }
    }

    fn counts(&self) -> &Counts {
        &self.map.counts[self.index]
    }

    /// Returns the position of a key's entry, or `None` if the key is not in the
    /// shard.
    #[inline]
    pub(crate) fn find(&self, key: &Hashed<'_>) -> Option<usize> {
        self.find_by(key.hash, |item| item.key() == key.key)
    }

    /// Returns the position of the item with this hash that `wanted` accepts.
    #[inline]
    pub(crate) fn find_by(&self, hash: u64, wanted: impl Fn(Item<'_>) -> bool) -> Option<usize> {
        // SAFETY: items in the shard are linked; the lock is held.
        let wanted = |word| wanted(unsafe { Item::at(chunk_of(word)) });
        match find_in(self.buckets(), hash, wanted) {
            Lookup::At(position, _) => Some(position),
            Lookup::Absent => None,
            Lookup::MaybeStashed => self.find_stashed(hash, wanted),
        }
    }

    #[cold]
    fn find_stashed(&self, hash: u64, wanted: impl Fn(u64) -> bool) -> Option<usize> {
        let hash = Place::of(hash, self.buckets.len()).stash_hash();
        let found = self.stash.find(hash, |entry| wanted(entry.0.word()))?;
        // SAFETY: the entry was just found in this table.
        let index = unsafe { self.stash.bucket_index(&found) };
        Some(self.buckets.len() * POSITIONS + index)
    }

    /// Returns the number of positions, full or not; 0 if the shard has no
    /// entries.
    pub(crate) fn positions(&self) -> usize {
        if self.len() == 0 {
            return 0;
        }
        self.buckets.len() * POSITIONS + self.stash.buckets()
    }

    /// Returns the slot at a position, or `None` if it is empty or there is no
    /// such position.
    #[inline]
    pub(crate) fn slot(&self, position: usize) -> Option<&Slot> {
        slot_at(self.buckets(), &self.stash, position)
    }

    /// Returns whether the entry at a position lies in its secondary bucket.
    pub(crate) fn is_secondary(&self, position: usize) -> bool {
        bucket::is_secondary(self.buckets(), position)
    }

    /// Returns the item at a position, which must be full.
    pub(crate) fn item(&self, position: usize) -> Item<'_> {
        let slot = self.full_slot(position);
        // SAFETY: the item is linked, and the lock is held for the view's
        // lifetime.
        unsafe { Item::at(slot.chunk()) }
    }

    fn full_slot(&self, position: usize) -> &Slot {
        self.slot(position).expect("the position is full")
    }

    /// Adds a slot for a key that is not in the shard. If the table is full,
    /// rebuilds it first: allocates a new table and retires the old one. Returns
    /// the position, and by how many bytes table and stash grew.
    pub(crate) fn insert(&mut self, hash: u64, chunk: Chunk, stamp: Stamp) -> (usize, usize) {
        let is_full = self.len() >= capacity_of(self.buckets.len());
        if is_full {
            self.rebuild(self.len() + 1);
        }
        let word = pack(chunk, stamp);
        let (position, grown) = match self.insert_in_bucket(hash, word) {
            Some(position) if is_full => (position, self.account_growth()),
            Some(position) => (position, 0),
            None => (self.insert_displaced(hash, word), self.account_growth()),
        };
        let counts = self.counts();
        counts.entries.add_one();
        counts.added.add_one();
        (position, grown)
    }

    #[inline]
    fn insert_in_bucket(&self, hash: u64, word: u64) -> Option<usize> {
        let place = Place::of(hash, self.buckets.len());
        let inserted = bucket::insert(self.buckets(), place, word)?;
        if inserted.displaced {
            self.counts().displaced.add_one();
        }
        Some(inserted.position)
    }

    /// Adds an entry for which there is no room in its buckets. If the stash is
    /// full, first rebuilds the table.
    #[cold]
    fn insert_displaced(&mut self, hash: u64, word: u64) -> usize {
        if self.stash.len() >= STASH_BASE + self.len() / STASH_PART {
            // Entries leave their primary buckets over time and do not return.
            // A rebuild puts them back.
            let fitting = capacity_of(self.buckets.len());
            let is_worn = self.counts().added.get() >= self.len() / WORN_PART;
            // Growing does not help keys that collide in a sparse table.
            if is_worn || self.len() >= fitting / 2 {
                let growing = usize::from(!is_worn);
                self.rebuild(fitting.saturating_add(growing));
                if let Some(position) = self.insert_in_bucket(hash, word) {
                    return position;
                }
            }
        }
        self.insert_in_stash(hash, word)
    }

    fn insert_in_stash(&mut self, hash: u64, word: u64) -> usize {
        let place = Place::of(hash, self.buckets.len());
        bucket::set_stashed(self.buckets(), place.primary, true);
        let (map, buckets) = (self.map, self.buckets.len());
        if self.stash.capacity() == self.stash.len() {
            self.stash.reserve(1, |entry| {
                // SAFETY: items in the shard are linked; the lock is held.
                let hash = map.hash(unsafe { key_of(entry.0.word()) });
                Place::of(hash, buckets).stash_hash()
            });
            self.counts().rebuilds.add_one();
        }
        let entry = (Slot::new(word), SharedValue::new(()));
        let rehash = |_: &(Slot, _)| unreachable!("there is room");
        let inserted = self.stash.insert(place.stash_hash(), entry, rehash);
        // SAFETY: the entry was just put into this table.
        let index = unsafe { self.stash.bucket_index(&inserted) };
        buckets * POSITIONS + index
    }

    /// Makes room for `more` items. Returns by how many bytes the table grew.
    pub(crate) fn reserve(&mut self, more: usize) -> usize {
        let wanted = self.len() + more;
        if capacity_of(self.buckets.len()) < wanted {
            self.rebuild(wanted);
        }
        self.account_growth()
    }

    /// Returns by how many bytes table and stash are larger than was accounted
    /// for.
    fn account_growth(&self) -> usize {
        let (bytes, accounted) = (self.bytes(), &self.counts().accounted);
        let grown = bytes.saturating_sub(accounted.get());
        accounted.set((bytes as u32).max(accounted.get() as u32));
        grown
    }

    /// Returns the shard's number.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Returns the number of items in the shard.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.counts().entries.get()
    }

    /// Returns whether the table is so full that one more item makes it grow.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.buckets.len() >= SMALL_BUCKETS && self.len() >= capacity_of(self.buckets.len())
    }

    /// Returns the bytes of the table after it has grown.
    pub(crate) fn grown_bytes(&self) -> usize {
        let fitting = capacity_of(self.buckets.len());
        bytes_of(buckets_for(fitting.saturating_add(1), self.index))
    }

    /// Moves all entries to a new table for at least `items` items. Retires the
    /// old one: readers without the lock may be in it.
    fn rebuild(&mut self, items: usize) {
        let old = self.buckets;
        let fresh = Buckets::allocate(buckets_for(items.max(self.len()), self.index));
        let stash = std::mem::replace(&mut *self.stash, Stash::new());
        self.buckets = fresh;
        // SAFETY: the old buckets are retired below.
        let old_slice = unsafe { old.as_slice() };
        let positions = 0..old_slice.len() * POSITIONS;
        let in_buckets = positions.filter_map(|position| bucket::word(old_slice, position));
        let in_buckets = in_buckets.map(|word| word.load(Ordering::Relaxed));
        // SAFETY: the iterator does not outlive the stash; its entries are full.
        let stashed = unsafe { stash.iter() }.map(|entry| unsafe { entry.as_ref() }.0.word());
        prefetched(in_buckets.chain(stashed), |word| {
            // SAFETY: items in the shard are linked; the lock is held.
            let hash = self.map.hash(unsafe { key_of(word) });
            if self.insert_in_bucket(hash, word).is_none() {
                self.insert_in_stash(hash, word);
            }
        });
        self.map.tables[self.index].publish(fresh);
        self.counts().added.set(0);
        self.counts().rebuilds.add_one();
        // SAFETY: it was replaced just now.
        unsafe { old.retire(&self.map.reclaim) };
    }

    /// Adds marks to the item at a position, which must be full.
    pub(in crate::store) fn mark(&self, position: usize, marks: u8) {
        self.full_slot(position).mark(marks);
    }

    /// Sets item and stamp of the slot at a position, which must be full. The
    /// item is of the same key.
    pub(crate) fn replace(&mut self, position: usize, chunk: Chunk, stamp: Stamp) {
        self.full_slot(position).set(chunk, stamp);
    }

    /// Rebuilds the table at 3/4 of its size or less if few of its slots are in
    /// use. Returns by how many bytes it shrank.
    pub(crate) fn shrink(&mut self) -> usize {
        let wanted = self.len() + self.len() / 8;
        let buckets = self.buckets.len();
        if buckets > 0 && buckets_for(wanted, self.index) <= buckets - buckets.div_ceil(4) {
            self.rebuild(wanted);
        }
        let (bytes, accounted) = (self.bytes(), &self.counts().accounted);
        let shrunk = accounted.get().saturating_sub(bytes);
        accounted.set(bytes as u32);
        shrunk
    }

    /// Empties a position, which must be full. The item is still there.
    pub(crate) fn erase(&mut self, position: usize) {
        debug_assert!(self.slot(position).is_some());
        match position.checked_sub(self.buckets.len() * POSITIONS) {
            None => bucket::erase(self.buckets(), position),
            Some(index) => self.erase_stashed(position, index),
        }
        self.counts().entries.sub_one();
    }

    #[cold]
    fn erase_stashed(&mut self, position: usize, index: usize) {
        let (map, buckets) = (self.map, self.buckets.len());
        let hash = map.hash(self.item(position).key());
        // SAFETY: the entry is full.
        unsafe {
            let entry = self.stash.bucket(index);
            self.stash.erase(entry);
        }
        let place = Place::of(hash, buckets);
        let is_neighbour = |entry: &(Slot, _)| {
            // SAFETY: items in the shard are linked; the lock is held.
            let hash = map.hash(unsafe { key_of(entry.0.word()) });
            Place::of(hash, buckets).primary == place.primary
        };
        let others = self.stash.find(place.stash_hash(), is_neighbour);
        bucket::set_stashed(self.buckets(), place.primary, others.is_some());
    }

    /// Returns the number of stashed entries.
    #[cfg(test)]
    pub(in crate::store::index) fn stashed(&self) -> usize {
        self.stash.len()
    }

    /// Looks a key up as a reader without the lock does.
    #[cfg(test)]
    pub(in crate::store::index) fn find_unlocked(&self, key: &Hashed<'_>) -> Lookup {
        // SAFETY: the lock is held, so that no table is freed, and items in the
        // shard are linked.
        unsafe {
            let is_wanted = |word| key_of(word) == key.key;
            self.map.tables[self.index].find(key.hash, is_wanted)
        }
    }

    /// Returns the bytes of table and stash.
    pub(in crate::store::index) fn bytes(&self) -> usize {
        let stash = match self.stash.buckets() {
            1 => 0,
            slots => slots * (size_of::<Slot>() + 1) + STASH_TAIL_BYTES,
        };
        bytes_of(self.buckets.len()) + stash
    }
}

/// Returns the slot at a position.
#[inline]
fn slot_at<'a>(buckets: &'a [Bucket], stash: &'a Stash, position: usize) -> Option<&'a Slot> {
    match position.checked_sub(buckets.len() * POSITIONS) {
        None => bucket::word(buckets, position).map(Slot::of),
        Some(index) => stashed_at(stash, index),
    }
}

#[cold]
fn stashed_at(stash: &Stash, index: usize) -> Option<&Slot> {
    // SAFETY: the index is checked, and the entry is full.
    unsafe {
        if index >= stash.buckets() || !stash.is_bucket_full(index) {
            return None;
        }
        Some(&stash.bucket(index).as_ref().0)
    }
}
