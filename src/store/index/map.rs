//! The map from keys to items: a DashMap of 8-byte slots, and the only file
//! that names dashmap, hashbrown and ahash. A slot holds an item's address
//! in its low 48 bits and the eviction policy's stamp above; equality and
//! hash read the key through it.
//!
//! No guard leaves this file except inside [`ReadShard`] and [`WriteShard`],
//! and no caller may hold two of them at a time.

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

/// The hash function, by its name.
pub const HASH_NAME: &str = "ahash";

/// Lines of an item that are prefetched at most.
const LINES_MAX: usize = 4;

const ADDRESS_BITS: u32 = 48;
const ADDRESS: u64 = (1 << ADDRESS_BITS) - 1;

/// Bytes a bucket of the table takes: the slot and its control byte.
const BUCKET_BYTES: usize = 9;

/// A table is rebuilt rather than grown if at least this part of it is marks
/// of removed entries.
const MARKED_PART: usize = 32;

/// Tables below this size are too small to matter.
const GROUP_BUCKETS: usize = 64;
/// Entries whose items are on their way into the cache while a table is
/// rebuilt, which reads every key,
const REBUILD_AHEAD: usize = 16;
/// and bytes of each.
const REBUILD_BYTES: usize = CACHE_LINE_BYTES;

type Table = RawTable<(Slot, SharedValue<()>)>;

/// A key and its hash.
#[derive(Clone, Copy, Debug)]
pub struct Hashed<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its hash in this store.
    pub hash: u64,
}

/// Address and stamp of an item.
pub(crate) struct Slot {
    bits: AtomicU64,
    /// Keeps the address's provenance; the truth is in `bits`.
    _not_a_number: std::marker::PhantomData<*mut u8>,
}

// SAFETY: a slot is an atomic number; what it points to is guarded by the
// rules of `Item`.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

// DashMap asks for these by name; the store works on the raw tables, with
// hashes and comparisons of its own.
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
    /// Asks for the start of the item.
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

    /// The item's chunk.
    #[inline]
    pub(crate) fn chunk(&self) -> Chunk {
        let address = (self.bits.load(Ordering::Relaxed) & ADDRESS) as usize;
        // The pages' addresses are exposed when they are put into slots.
        let pointer = std::ptr::with_exposed_provenance_mut(address);
        NonNull::new(pointer).expect("a slot holds an address")
    }

    /// The eviction policy's stamp.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp((self.bits.load(Ordering::Relaxed) >> ADDRESS_BITS) as u16)
    }

    /// Changes the stamp of `chunk`'s slot; called under the read lock, where
    /// two may do so at once and one of them is lost.
    #[inline]
    pub(crate) fn set_stamp(&self, stamp: Stamp) {
        let address = self.bits.load(Ordering::Relaxed) & ADDRESS;
        let bits = address | u64::from(stamp.0) << ADDRESS_BITS;
        self.bits.store(bits, Ordering::Relaxed);
    }

    fn set(&self, chunk: Chunk, stamp: Stamp) {
        self.bits.store(pack(chunk, stamp), Ordering::Relaxed);
    }
}

fn pack(chunk: Chunk, stamp: Stamp) -> u64 {
    let address = chunk.as_ptr().expose_provenance() as u64;
    debug_assert!(address <= ADDRESS, "user addresses have 48 bits");
    address | u64::from(stamp.0) << ADDRESS_BITS
}

/// See the module's documentation.
pub(crate) struct Map {
    inner: DashMap<Slot, (), RandomState>,
    hints: Box<[Hint]>,
}

/// What there is to know of a shard without its lock: its version, and where
/// its table lies, for prefetching. That may have moved since: a prefetch of
/// the wrong place does no harm.
struct Hint {
    control: AtomicPtr<u8>,
    mask: AtomicUsize,
    /// How often the table was rebuilt: what lay in one bucket may then lie
    /// in another.
    rebuilt: AtomicUsize,
    version: Version,
}

impl Hint {
    fn follow(&self, table: &Table) {
        let control = table.data_end().as_ptr().cast();
        self.control.store(control, Ordering::Relaxed);
        self.mask.store(table.buckets() - 1, Ordering::Relaxed);
        self.rebuilt.fetch_add(1, Ordering::Relaxed);
    }
}

impl Map {
    /// A map of `shards` parts, a power of two.
    pub(crate) fn new(shards: usize) -> Self {
        let hint = || Hint {
            control: AtomicPtr::new(std::ptr::null_mut()),
            mask: AtomicUsize::new(0),
            rebuilt: AtomicUsize::new(0),
            version: Version::new(),
        };
        Self {
            inner: DashMap::with_hasher_and_shard_amount(RandomState::new(), shards),
            hints: (0..shards).map(|_| hint()).collect(),
        }
    }

    /// Bytes that the locks and empty tables take.
    pub(crate) fn base_bytes(&self) -> usize {
        std::mem::size_of_val(self.inner.shards()) + std::mem::size_of_val(&*self.hints)
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.inner.shards().len()
    }

    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.inner.hasher().build_hasher();
        hasher.write(key);
        hasher.finish()
    }

    /// The number of the shard that `hash` belongs to.
    #[inline]
    pub(crate) fn shard_index(&self, hash: u64) -> usize {
        self.inner.determine_shard(hash as usize)
    }

    #[inline]
    fn shard_of(&self, hash: u64) -> &RwLock<Table> {
        &self.inner.shards()[self.shard_index(hash)]
    }

    /// Asks for the line of the lock that guards `hash`.
    #[inline]
    pub(crate) fn prefetch_lock(&self, hash: u64) {
        prefetch(std::ptr::from_ref(self.shard_of(hash)).cast());
    }

    /// Asks for the control bytes and the slot where `hash` is looked for.
    #[inline]
    pub(crate) fn prefetch_slot(&self, hash: u64) {
        let hint = &self.hints[self.shard_index(hash)];
        let control = hint.control.load(Ordering::Relaxed);
        let first = hash as usize & hint.mask.load(Ordering::Relaxed);
        prefetch(control.wrapping_add(first));
        prefetch(control.wrapping_sub((first + 1) * size_of::<Slot>()));
    }

    /// Asks for the first `bytes` bytes of the items that `hash` may belong to.
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

    /// The version of the shard of `hash`.
    #[inline]
    pub(crate) fn version(&self, hash: u64) -> &Version {
        &self.hints[self.shard_index(hash)].version
    }

    /// How often the table of shard number `index` was rebuilt; does not
    /// change while the shard is locked.
    pub(crate) fn rebuilt(&self, index: usize) -> usize {
        self.hints[index].rebuilt.load(Ordering::Relaxed)
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
        self.hints[index].version.change();
        WriteShard {
            table,
            map: self,
            index,
        }
    }
}

/// A shard that others may read as well.
pub(crate) struct ReadShard<'a> {
    table: RwLockReadGuard<'a, Table>,
    hint: &'a Hint,
}

impl ReadShard<'_> {
    /// The shard's version.
    pub(crate) fn version(&self) -> &Version {
        &self.hint.version
    }

    /// The slot of a key.
    #[inline]
    pub(crate) fn find(&self, key: &Hashed<'_>) -> Option<&Slot> {
        let found = self.table.get(key.hash, |entry| has_key(&entry.0, key.key));
        found.map(|entry| &entry.0)
    }

    /// Buckets of the table, full or not.
    pub(crate) fn buckets(&self) -> usize {
        if self.table.is_empty() {
            return 0;
        }
        self.table.buckets()
    }

    /// The slot in bucket `index`, if it is full.
    pub(crate) fn slot(&self, index: usize) -> Option<&Slot> {
        // SAFETY: the index is checked, and the bucket found full.
        unsafe {
            if index >= self.table.buckets() || !self.table.is_bucket_full(index) {
                return None;
            }
            Some(&self.table.bucket(index).as_ref().0)
        }
    }

    /// The item in a slot of this shard.
    #[inline]
    pub(crate) fn item(&self, slot: &Slot) -> Item<'_> {
        // SAFETY: the item is linked and the lock is held for the view's life.
        unsafe { Item::at(slot.chunk()) }
    }
}

/// A shard that is ours alone.
pub(crate) struct WriteShard<'a> {
    table: RwLockWriteGuard<'a, Table>,
    map: &'a Map,
    index: usize,
}

impl WriteShard<'_> {
    /// The bucket of a key.
    #[inline]
    pub(crate) fn find(&self, key: &Hashed<'_>) -> Option<usize> {
        let bucket = self
            .table
            .find(key.hash, |entry| has_key(&entry.0, key.key))?;
        // SAFETY: the bucket was just found in this table.
        Some(unsafe { self.table.bucket_index(&bucket) })
    }

    /// The bucket of the item with this hash that `wanted` accepts.
    pub(crate) fn find_by(&self, hash: u64, wanted: impl Fn(Item<'_>) -> bool) -> Option<usize> {
        // SAFETY: items in the table are linked; the lock is held.
        let found = |entry: &(Slot, _)| wanted(unsafe { Item::at(entry.0.chunk()) });
        let bucket = self.table.find(hash, found)?;
        // SAFETY: the bucket was just found in this table.
        Some(unsafe { self.table.bucket_index(&bucket) })
    }

    /// Buckets of the table, full or not.
    pub(crate) fn buckets(&self) -> usize {
        if self.table.is_empty() {
            return 0;
        }
        self.table.buckets()
    }

    /// The slot in bucket `index`, if it is full.
    #[inline]
    pub(crate) fn slot(&self, index: usize) -> Option<&Slot> {
        // SAFETY: the index is checked, and the bucket found full.
        unsafe {
            if index >= self.table.buckets() || !self.table.is_bucket_full(index) {
                return None;
            }
            Some(&self.table.bucket(index).as_ref().0)
        }
    }

    /// The item in bucket `index`, which must be full.
    pub(crate) fn item(&self, index: usize) -> Item<'_> {
        let slot = self.slot(index).expect("the bucket is full");
        // SAFETY: the item is linked and the lock is held for the view's life.
        unsafe { Item::at(slot.chunk()) }
    }

    /// Adds a slot for a key that is not there. Returns its bucket, and by
    /// how many bytes the table grew.
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

    /// Its number.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Items in it.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether so many of the table's places are taken that one more item
    /// may make it grow.
    #[inline]
    pub(crate) fn is_nearly_full(&self) -> bool {
        let fitting = capacity_of(self.table.buckets());
        self.table.len() + fitting / MARKED_PART >= fitting && self.table.buckets() >= GROUP_BUCKETS
    }

    /// Bytes of the table after it has grown.
    pub(crate) fn grown_bytes(&self) -> usize {
        2 * table_bytes(&self.table)
    }

    /// Doubles the table; or rebuilds it at its size, if it is full of the
    /// marks that removed entries left behind: under constant eviction it
    /// would otherwise end up twice as large as it need be.
    fn make_room(&mut self) {
        let fitting = capacity_of(self.table.buckets());
        let marked = fitting - self.table.len().min(fitting);
        if marked > 0 && marked >= fitting / MARKED_PART {
            self.rebuild(fitting);
        } else {
            self.rebuild(fitting + 1);
        }
    }

    /// Moves everything to a new table for at least `capacity` entries.
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
            let entry = (Slot::new(slot.chunk(), slot.stamp()), SharedValue::new(()));
            fresh.insert(hash, entry, |_| unreachable!("there is room"));
        }
        *self.table = fresh;
        self.map.hints[self.index].follow(&self.table);
    }

    /// Points the slot in full bucket `index` to another item.
    pub(crate) fn replace(&mut self, index: usize, chunk: Chunk, stamp: Stamp) {
        self.slot(index)
            .expect("the bucket is full")
            .set(chunk, stamp);
    }

    /// Makes the table smaller if few of its buckets are full. Returns by how
    /// many bytes it shrank.
    pub(crate) fn shrink(&mut self) -> usize {
        let before = table_bytes(&self.table);
        // It grew when its shard had more than its share for a while, or when
        // there was more memory.
        let wanted = self.table.len() + self.table.len() / 8;
        if self.table.buckets() > 1 && wanted <= capacity_of(self.table.buckets() / 2) {
            self.rebuild(wanted);
        }
        before - table_bytes(&self.table)
    }

    /// Empties full bucket `index`.
    pub(crate) fn erase(&mut self, index: usize) {
        debug_assert!(self.slot(index).is_some());
        // SAFETY: the bucket is full.
        unsafe {
            let bucket = self.table.bucket(index);
            self.table.erase(bucket);
        }
    }
}

/// Entries that fit into so many buckets (hashbrown's rule).
fn capacity_of(buckets: usize) -> usize {
    match buckets {
        1 => 0,
        2..8 => buckets - 1,
        _ => buckets / 8 * 7,
    }
}

/// Asks for the first `bytes` bytes of a slot's item, up to a few lines: the
/// processor follows a longer one by itself.
#[inline]
fn prefetch_item(slot: &Slot, bytes: usize) {
    let item = slot.chunk().as_ptr();
    let lines = (item.addr() % CACHE_LINE_BYTES + bytes).div_ceil(CACHE_LINE_BYTES);
    for line in 0..lines.clamp(1, LINES_MAX) {
        prefetch(item.wrapping_add(line * CACHE_LINE_BYTES));
    }
}

#[inline]
fn has_key(slot: &Slot, key: &[u8]) -> bool {
    // SAFETY: called for slots of a locked table, whose items are linked.
    unsafe { Item::at(slot.chunk()) }.key() == key
}

fn table_bytes(table: &Table) -> usize {
    match table.buckets() {
        1 => 0,
        buckets => buckets * BUCKET_BYTES + 16,
    }
}
