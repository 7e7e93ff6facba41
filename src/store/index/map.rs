//! The map from keys to items: a DashMap of 8-byte slots. Only this file names
//! dashmap, hashbrown and ahash. A slot holds an item's address in its low 48
//! bits and the eviction policy's stamp above. Hashes and comparisons read the
//! key through the slot.
//!
//! No guard leaves this file except inside [`ReadShard`] and [`WriteShard`],
//! and no caller may hold two of them at a time. A shard's table is allocated
//! and freed under its write lock: when it grows, shrinks, or is rebuilt to
//! drop tombstones.

use std::hash::{BuildHasher, Hasher};
use std::ptr::NonNull;

use ahash::RandomState;
use dashmap::{DashMap, RwLock, RwLockReadGuard, RwLockWriteGuard, SharedValue};
use hashbrown::raw::RawTable;

use crate::store::evict::policy::Stamp;
use crate::store::index::prefetch::{CACHE_LINE_BYTES, prefetch};
use crate::store::index::version::Version;
use crate::store::item::layout::Item;
use crate::store::memory::chunk::Chunk;
use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Name of the hash function, for `stats settings`.
pub const HASH_NAME: &str = "ahash";

/// Maximum number of cache lines of an item that are prefetched.
const LINES_MAX: usize = 4;

/// Bits of an item's address in a slot.
const ADDRESS_BITS: u32 = 48;
const ADDRESS: u64 = ((1 << ADDRESS_BITS) - 1) & !MARKS;
/// Marks of an item, in the bits of its address that are always 0.
pub(in crate::store) const MARK_BITS: usize = 3;
const MARKS: u64 = (1 << MARK_BITS) - 1;

/// Bytes of a bucket in the table: the slot and its control byte.
pub(in crate::store) const BUCKET_BYTES: usize = 9;
/// Bytes of a table besides its buckets: the control bytes that hashbrown
/// repeats at the end.
pub(in crate::store) const TABLE_BYTES: usize = 16;

/// A full table is rebuilt at its size, not doubled, if at least its capacity
/// divided by this is tombstones of removed entries.
const TOMBSTONE_PART: usize = 32;

/// Tables with fewer buckets are always allowed to grow: they are too small to
/// matter.
const GROUP_BUCKETS: usize = 64;
/// Distance in entries of the prefetches ahead of a rebuild, which reads every
/// key.
const REBUILD_AHEAD: usize = 16;
/// Bytes of each item that are prefetched for a rebuild.
const REBUILD_BYTES: usize = CACHE_LINE_BYTES;

type Table = RawTable<(Slot, SharedValue<()>)>;

/// A key and its hash.
#[derive(Clone, Copy, Debug)]
pub struct Hashed<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The key's hash in this store; seeded at random.
    pub hash: u64,
}

/// The address of an item, its eviction stamp and its marks, packed into 64 bits.
pub(crate) struct Slot {
    bits: AtomicU64,
    /// Marks the slot as a pointer. The address is in `bits`.
    _not_a_number: std::marker::PhantomData<*mut u8>,
}

// SAFETY: a slot is an atomic number; the rules of `Item` guard the memory it
// points to.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

// DashMap requires these traits. The store works on the raw tables, with its
// own hashes and comparisons.
impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        self.chunk() == other.chunk()
    }
}
impl Eq for Slot {}
impl std::hash::Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.chunk().hash(state);
    }
}

impl Slot {
    /// Prefetches the start of the item.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch_item(self, 1);
    }

    fn new(chunk: Chunk, stamp: Stamp) -> Self {
        Self {
            bits: AtomicU64::new(pack(chunk, stamp)),
            _not_a_number: std::marker::PhantomData,
        }
    }

    /// Returns the item's head chunk.
    #[inline]
    pub(crate) fn chunk(&self) -> Chunk {
        let address = (self.bits.load(Ordering::Relaxed) & ADDRESS) as usize;
        // `pack` exposes the provenance of every address that it puts into a
        // slot.
        let pointer = std::ptr::with_exposed_provenance_mut(address);
        NonNull::new(pointer).expect("a slot holds an address")
    }

    /// Returns the eviction policy's stamp.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp((self.bits.load(Ordering::Relaxed) >> ADDRESS_BITS) as u16)
    }

    /// Sets the stamp, under the shard's read lock. Of two concurrent calls,
    /// one may be lost; the address does not change under the read lock.
    #[inline]
    pub(crate) fn set_stamp(&self, stamp: Stamp) {
        let others = self.bits.load(Ordering::Relaxed) & (ADDRESS | MARKS);
        let bits = others | u64::from(stamp.0) << ADDRESS_BITS;
        self.bits.store(bits, Ordering::Relaxed);
    }

    /// Returns the marks of the item's key.
    #[inline]
    pub(in crate::store) fn marks(&self) -> u8 {
        (self.bits.load(Ordering::Relaxed) & MARKS) as u8
    }

    /// Adds marks. The caller holds the shard's write lock: [`Slot::set_stamp`]
    /// would lose them.
    fn mark(&self, marks: u8) {
        let marks = u64::from(marks) & MARKS;
        self.bits.fetch_or(marks, Ordering::Relaxed);
    }

    /// Sets another item of the same key, which has the same marks.
    fn set(&self, chunk: Chunk, stamp: Stamp) {
        let marks = self.bits.load(Ordering::Relaxed) & MARKS;
        let bits = pack(chunk, stamp) | marks;
        self.bits.store(bits, Ordering::Relaxed);
    }

    /// Returns the same slot for another table.
    fn moved(&self) -> Self {
        Self {
            bits: AtomicU64::new(self.bits.load(Ordering::Relaxed)),
            _not_a_number: std::marker::PhantomData,
        }
    }
}

fn pack(chunk: Chunk, stamp: Stamp) -> u64 {
    let address = chunk.as_ptr().expose_provenance() as u64;
    debug_assert!(
        address & !ADDRESS == 0,
        "user addresses have 48 bits, and chunks are aligned"
    );
    address | u64::from(stamp.0) << ADDRESS_BITS
}

/// The map: sharded tables of slots, each under a reader-writer lock.
pub(crate) struct Map {
    inner: DashMap<Slot, (), RandomState>,
    /// One per shard.
    hints: Box<[Hint]>,
}

/// The state of a shard that is read without its lock: its version, and where
/// its table lies, for prefetching. The table may have moved since: prefetching
/// a wrong address does no harm.
struct Hint {
    /// Address of the table's control bytes.
    control: AtomicPtr<u8>,
    /// Number of the table's buckets minus 1.
    mask: AtomicUsize,
    /// How often the table was rebuilt. A rebuild moves entries to other
    /// buckets.
    rebuilds: AtomicUsize,
    version: Version,
}

impl Hint {
    /// Records the address and size of a rebuilt table.
    fn record_table(&self, table: &Table) {
        let control = table.data_end().as_ptr().cast();
        self.control.store(control, Ordering::Relaxed);
        self.mask.store(table.buckets() - 1, Ordering::Relaxed);
        self.rebuilds.fetch_add(1, Ordering::Relaxed);
    }
}

impl Map {
    /// Creates an empty map of `shards` shards, a power of two.
    pub(crate) fn new(shards: usize) -> Self {
        let hint = || Hint {
            control: AtomicPtr::new(std::ptr::null_mut()),
            mask: AtomicUsize::new(0),
            rebuilds: AtomicUsize::new(0),
            version: Version::new(),
        };
        Self {
            inner: DashMap::with_hasher_and_shard_amount(RandomState::new(), shards),
            hints: (0..shards).map(|_| hint()).collect(),
        }
    }

    /// Returns the bytes of the locks, empty tables and hints.
    pub(crate) fn base_bytes(&self) -> usize {
        std::mem::size_of_val(self.inner.shards()) + std::mem::size_of_val(&*self.hints)
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

    #[inline]
    fn shard_of(&self, hash: u64) -> &RwLock<Table> {
        &self.inner.shards()[self.shard_index(hash)]
    }

    /// Prefetches the cache line of the lock that guards `hash`.
    #[inline]
    pub(crate) fn prefetch_lock(&self, hash: u64) {
        prefetch(std::ptr::from_ref(self.shard_of(hash)).cast());
    }

    /// Prefetches the control bytes and the slot where the probe for `hash`
    /// begins.
    #[inline]
    pub(crate) fn prefetch_slot(&self, hash: u64) {
        let hint = &self.hints[self.shard_index(hash)];
        let control = hint.control.load(Ordering::Relaxed);
        let first = hash as usize & hint.mask.load(Ordering::Relaxed);
        prefetch(control.wrapping_add(first));
        prefetch(control.wrapping_sub((first + 1) * size_of::<Slot>()));
    }

    /// Prefetches the first `bytes` bytes of the items whose control byte
    /// matches `hash`. Takes the shard's read lock.
    #[inline]
    pub(crate) fn prefetch_item(&self, hash: u64, bytes: usize) {
        let table = self.shard_of(hash).read();
        // SAFETY: the iterator does not outlive the guard.
        for bucket in unsafe { table.iter_hash(hash) } {
            // SAFETY: the bucket is full and the guard keeps it so.
            prefetch_item(unsafe { &bucket.as_ref().0 }, bytes);
        }
    }

    /// Locks the shard of `hash` for reading.
    #[inline]
    pub(crate) fn read(&self, hash: u64) -> ReadShard<'_> {
        self.read_at(self.shard_index(hash))
    }

    /// Locks shard number `index` for reading.
    #[inline]
    pub(crate) fn read_at(&self, index: usize) -> ReadShard<'_> {
        ReadShard {
            table: self.inner.shards()[index].read(),
            hint: &self.hints[index],
        }
    }

    /// Returns the version of the shard that `hash` belongs to.
    #[inline]
    pub(crate) fn version(&self, hash: u64) -> &Version {
        &self.hints[self.shard_index(hash)].version
    }

    /// Returns how often the table of shard number `index` was rebuilt. The
    /// count does not change while the shard is locked.
    pub(crate) fn rebuild_count(&self, index: usize) -> usize {
        self.hints[index].rebuilds.load(Ordering::Relaxed)
    }

    /// Locks the shard of `hash` for writing.
    #[inline]
    pub(crate) fn write(&self, hash: u64) -> WriteShard<'_> {
        self.write_at(self.shard_index(hash))
    }

    /// Locks shard number `index` for writing.
    #[inline]
    pub(crate) fn write_at(&self, index: usize) -> WriteShard<'_> {
        let table = self.inner.shards()[index].write();
        self.hints[index].version.bump();
        WriteShard {
            table,
            map: self,
            index,
        }
    }
}

/// A shard locked for reading.
pub(crate) struct ReadShard<'a> {
    table: RwLockReadGuard<'a, Table>,
    hint: &'a Hint,
}

impl ReadShard<'_> {
    /// Returns the shard's version.
    pub(crate) fn version(&self) -> &Version {
        &self.hint.version
    }

    /// Returns the slot of a key, or `None` if the key is not in the table.
    #[inline]
    pub(crate) fn find(&self, key: &Hashed<'_>) -> Option<&Slot> {
        let found = self.table.get(key.hash, |entry| has_key(&entry.0, key.key));
        found.map(|entry| &entry.0)
    }

    /// Returns the number of buckets, full or not; 0 if the table has no
    /// entries.
    pub(crate) fn buckets(&self) -> usize {
        if self.table.is_empty() {
            return 0;
        }
        self.table.buckets()
    }

    /// Returns the slot in bucket `index`, or `None` if the bucket is empty or
    /// there is no such bucket.
    pub(crate) fn slot(&self, index: usize) -> Option<&Slot> {
        // SAFETY: the index is checked, and the bucket is full.
        unsafe {
            if index >= self.table.buckets() || !self.table.is_bucket_full(index) {
                return None;
            }
            Some(&self.table.bucket(index).as_ref().0)
        }
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
    table: RwLockWriteGuard<'a, Table>,
    map: &'a Map,
    index: usize,
}

impl WriteShard<'_> {
    /// Returns the bucket of a key, or `None` if the key is not in the table.
    #[inline]
    pub(crate) fn find(&self, key: &Hashed<'_>) -> Option<usize> {
        let bucket = self
            .table
            .find(key.hash, |entry| has_key(&entry.0, key.key))?;
        // SAFETY: the bucket was just found in this table.
        Some(unsafe { self.table.bucket_index(&bucket) })
    }

    /// Returns the bucket of the item with this hash that `wanted` accepts.
    pub(crate) fn find_by(&self, hash: u64, wanted: impl Fn(Item<'_>) -> bool) -> Option<usize> {
        // SAFETY: items in the table are linked; the lock is held.
        let found = |entry: &(Slot, _)| wanted(unsafe { Item::at(entry.0.chunk()) });
        let bucket = self.table.find(hash, found)?;
        // SAFETY: the bucket was just found in this table.
        Some(unsafe { self.table.bucket_index(&bucket) })
    }

    /// Returns the number of buckets, full or not; 0 if the table has no
    /// entries.
    pub(crate) fn buckets(&self) -> usize {
        if self.table.is_empty() {
            return 0;
        }
        self.table.buckets()
    }

    /// Returns the slot in bucket `index`, or `None` if the bucket is empty or
    /// there is no such bucket.
    #[inline]
    pub(crate) fn slot(&self, index: usize) -> Option<&Slot> {
        // SAFETY: the index is checked, and the bucket is full.
        unsafe {
            if index >= self.table.buckets() || !self.table.is_bucket_full(index) {
                return None;
            }
            Some(&self.table.bucket(index).as_ref().0)
        }
    }

    /// Returns the item in bucket `index`, which must be full.
    pub(crate) fn item(&self, index: usize) -> Item<'_> {
        let slot = self.slot(index).expect("the bucket is full");
        // SAFETY: the item is linked, and the lock is held for the view's
        // lifetime.
        unsafe { Item::at(slot.chunk()) }
    }

    /// Adds a slot for a key that is not in the table. If the table is full,
    /// rebuilds it first: allocates a new table and frees the old one. Returns
    /// the bucket, and by how many bytes the table grew.
    pub(crate) fn insert(&mut self, hash: u64, chunk: Chunk, stamp: Stamp) -> (usize, usize) {
        let before = table_bytes(&self.table);
        if self.table.capacity() == self.table.len() {
            self.make_room();
        }
        let entry = (Slot::new(chunk, stamp), SharedValue::new(()));
        let rehash = |_: &(Slot, _)| unreachable!("there is room");
        let bucket = self.table.insert(hash, entry, rehash);
        // SAFETY: the bucket was just filled in this table.
        let index = unsafe { self.table.bucket_index(&bucket) };
        (index, table_bytes(&self.table) - before)
    }

    /// Makes room for `more` further items. Returns by how many bytes the table
    /// grew.
    pub(crate) fn reserve(&mut self, more: usize) -> usize {
        let before = table_bytes(&self.table);
        if self.table.capacity() - self.table.len() < more {
            self.rebuild(self.table.len() + more);
        }
        table_bytes(&self.table) - before
    }

    /// Returns the shard's number.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Returns the number of items in the shard.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns whether the table is so full that one more item may make it
    /// grow.
    #[inline]
    pub(crate) fn is_nearly_full(&self) -> bool {
        let fitting = capacity_of(self.table.buckets());
        self.table.len() + fitting / TOMBSTONE_PART >= fitting
            && self.table.buckets() >= GROUP_BUCKETS
    }

    /// Returns the bytes of the table after it has doubled.
    pub(crate) fn grown_bytes(&self) -> usize {
        2 * table_bytes(&self.table)
    }

    /// Doubles the table. Rebuilds it at its size instead, if enough of it is
    /// tombstones of removed entries: under constant eviction it would
    /// otherwise grow to twice the size it needs.
    fn make_room(&mut self) {
        let fitting = capacity_of(self.table.buckets());
        let tombstones = fitting - self.table.len().min(fitting);
        if tombstones > 0 && tombstones >= fitting / TOMBSTONE_PART {
            self.rebuild(fitting);
        } else {
            self.rebuild(fitting + 1);
        }
    }

    /// Moves all entries to a new table for at least `capacity` entries, and
    /// frees the old table.
    fn rebuild(&mut self, capacity: usize) {
        let mut fresh = Table::with_capacity(capacity);
        // SAFETY: the iterators do not outlive the table.
        let (mut ahead, all) = unsafe { (self.table.iter(), self.table.iter()) };
        for bucket in ahead.by_ref().take(REBUILD_AHEAD) {
            // SAFETY: the bucket is full.
            prefetch_item(unsafe { &bucket.as_ref().0 }, REBUILD_BYTES);
        }
        for bucket in all {
            if let Some(bucket) = ahead.next() {
                // SAFETY: the bucket is full.
                prefetch_item(unsafe { &bucket.as_ref().0 }, REBUILD_BYTES);
            }
            // SAFETY: the bucket is full.
            let slot = unsafe { &bucket.as_ref().0 };
            // SAFETY: items in the table are linked; the lock is held.
            let hash = self.map.hash(unsafe { Item::at(slot.chunk()) }.key());
            let entry = (slot.moved(), SharedValue::new(()));
            fresh.insert(hash, entry, |_| unreachable!("there is room"));
        }
        *self.table = fresh;
        self.map.hints[self.index].record_table(&self.table);
    }

    /// Adds marks to the item in bucket `index`, which must be full.
    pub(in crate::store) fn mark(&self, index: usize, marks: u8) {
        self.slot(index).expect("the bucket is full").mark(marks);
    }

    /// Sets item and stamp of the slot in bucket `index`, which must be full. The
    /// item is of the same key.
    pub(crate) fn replace(&mut self, index: usize, chunk: Chunk, stamp: Stamp) {
        self.slot(index)
            .expect("the bucket is full")
            .set(chunk, stamp);
    }

    /// Rebuilds the table at half its size or less if few of its buckets are
    /// full. Returns by how many bytes it shrank.
    pub(crate) fn shrink(&mut self) -> usize {
        let before = table_bytes(&self.table);
        // The table has grown while the shard had more items than others, or
        // while the memory limit was higher.
        let wanted = self.table.len() + self.table.len() / 8;
        if self.table.buckets() > 1 && wanted <= capacity_of(self.table.buckets() / 2) {
            self.rebuild(wanted);
        }
        before - table_bytes(&self.table)
    }

    /// Empties bucket `index`, which must be full.
    pub(crate) fn erase(&mut self, index: usize) {
        debug_assert!(self.slot(index).is_some());
        // SAFETY: the bucket is full.
        unsafe {
            let bucket = self.table.bucket(index);
            self.table.erase(bucket);
        }
    }
}

/// Returns how many entries fit into `buckets` buckets: hashbrown's maximum
/// load of 7/8.
fn capacity_of(buckets: usize) -> usize {
    match buckets {
        1 => 0,
        2..8 => buckets - 1,
        _ => buckets / 8 * 7,
    }
}

/// Prefetches the first `bytes` bytes of a slot's item, up to 4 cache lines.
/// The hardware prefetcher follows longer reads.
#[inline]
fn prefetch_item(slot: &Slot, bytes: usize) {
    let item = slot.chunk().as_ptr();
    let lines = (item.addr() % CACHE_LINE_BYTES + bytes).div_ceil(CACHE_LINE_BYTES);
    for line in 0..lines.clamp(1, LINES_MAX) {
        prefetch(item.wrapping_add(line * CACHE_LINE_BYTES));
    }
}

/// Returns whether the slot's item has this key.
#[inline]
fn has_key(slot: &Slot, key: &[u8]) -> bool {
    // SAFETY: called for slots of a locked table, whose items are linked.
    unsafe { Item::at(slot.chunk()) }.key() == key
}

/// Returns the bytes of a table's allocation.
fn table_bytes(table: &Table) -> usize {
    match table.buckets() {
        1 => 0,
        buckets => buckets * BUCKET_BYTES + TABLE_BYTES,
    }
}
