//! Slots: the words of the index's entries. A slot holds an item's address in
//! its low 48 bits and the eviction policy's stamp above. The bits of the
//! address that are always 0 hold the marks of the item's key.
//!
//! Only the holder of the shard's write lock changes address and marks. Stamps
//! may be set at any time, without a lock: by compare-exchange of the whole
//! word, so that such a store never brings an old address back.

use std::hash::{Hash, Hasher};
use std::ptr::NonNull;

use crate::store::evict::policy::Stamp;
use crate::store::index::prefetch::{CACHE_LINE_BYTES, prefetch};
use crate::store::item::layout::Item;
use crate::store::memory::chunk::Chunk;
use crate::sync::{AtomicU64, Ordering};

/// Maximum number of cache lines of an item that are prefetched.
const LINES_MAX: usize = 4;

/// Distance in entries of the prefetches ahead of a rebuild, which reads every
/// key.
const REBUILD_AHEAD: usize = 16;
/// Bytes of each item that are prefetched for a rebuild.
const REBUILD_BYTES: usize = CACHE_LINE_BYTES;

/// Bits of an item's address in a slot.
const ADDRESS_BITS: u32 = 48;
const ADDRESS: u64 = ((1 << ADDRESS_BITS) - 1) & !MARKS;
/// Marks of an item, in the bits of its address that are always 0.
pub(in crate::store) const MARK_BITS: usize = 3;
const MARKS: u64 = (1 << MARK_BITS) - 1;

/// The address of an item, its eviction stamp and its marks, packed into 64 bits.
#[repr(transparent)]
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
impl Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.chunk().hash(state);
    }
}

impl Slot {
    /// Creates a slot with this word.
    pub(in crate::store::index) fn new(word: u64) -> Self {
        Self {
            bits: AtomicU64::new(word),
            _not_a_number: std::marker::PhantomData,
        }
    }

    /// Returns an entry's word as a slot.
    #[inline]
    pub(in crate::store::index) fn of(word: &AtomicU64) -> &Self {
        // SAFETY: a slot is represented like its only field of a size.
        unsafe { &*std::ptr::from_ref(word).cast() }
    }

    /// Prefetches the start of the item.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch_item(self.word(), 1);
    }

    /// Returns the slot's word.
    #[inline]
    pub(in crate::store) fn word(&self) -> u64 {
        self.bits.load(Ordering::Relaxed)
    }

    /// Returns the item's head chunk.
    #[inline]
    pub(crate) fn chunk(&self) -> Chunk {
        chunk_of(self.word())
    }

    /// Returns the eviction policy's stamp.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        Self::stamp_of(self.word())
    }

    /// Returns the stamp in a word.
    #[inline]
    pub(crate) fn stamp_of(word: u64) -> Stamp {
        Stamp((word >> ADDRESS_BITS) as u16)
    }

    /// Sets the stamp if the slot still has this word. Needs no lock.
    #[inline]
    pub(crate) fn replace_stamp(&self, word: u64, stamp: Stamp) {
        let bits = word & (ADDRESS | MARKS) | u64::from(stamp.0) << ADDRESS_BITS;
        // The address is not new: the reader that saw it also saw the item.
        let _ = self
            .bits
            .compare_exchange(word, bits, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Sets the stamp. Needs no lock. The stamp is lost if the slot changes at
    /// the same time.
    #[inline]
    pub(crate) fn set_stamp(&self, stamp: Stamp) {
        self.replace_stamp(self.word(), stamp);
    }

    /// Returns the marks of the item's key.
    #[inline]
    pub(in crate::store) fn marks(&self) -> u8 {
        (self.word() & MARKS) as u8
    }

    /// Adds marks. The caller holds the shard's write lock.
    pub(in crate::store::index) fn mark(&self, marks: u8) {
        let marks = u64::from(marks) & MARKS;
        self.bits.fetch_or(marks, Ordering::Relaxed);
    }

    /// Sets another item of the same key, which has the same marks. The caller
    /// holds the shard's write lock.
    pub(in crate::store::index) fn set(&self, chunk: Chunk, stamp: Stamp) {
        let marks = self.word() & MARKS;
        // Release: a reader without the lock sees the item complete.
        self.bits
            .store(pack(chunk, stamp) | marks, Ordering::Release);
    }
}

/// Returns the word of a slot without marks.
pub(in crate::store::index) fn pack(chunk: Chunk, stamp: Stamp) -> u64 {
    let address = chunk.as_ptr().expose_provenance() as u64;
    debug_assert!(
        address & !ADDRESS == 0,
        "user addresses have 48 bits, and chunks are aligned"
    );
    address | u64::from(stamp.0) << ADDRESS_BITS
}

/// Returns the head chunk of the item in a slot with this word.
#[inline]
pub(in crate::store::index) fn chunk_of(word: u64) -> Chunk {
    let address = (word & ADDRESS) as usize;
    // `pack` exposes the provenance of every address that it puts into a slot.
    let pointer = std::ptr::with_exposed_provenance_mut(address);
    NonNull::new(pointer).expect("a slot holds an address")
}

/// Returns the key of the item in a slot with this word.
///
/// # Safety
/// The item is linked and stays so for the lifetime.
#[inline]
pub(in crate::store::index) unsafe fn key_of<'a>(word: u64) -> &'a [u8] {
    // SAFETY: guaranteed by the caller.
    unsafe { Item::at(chunk_of(word)) }.key()
}

/// Prefetches the first `bytes` bytes of the item in a slot with this word, up
/// to 4 cache lines. The hardware prefetcher follows longer reads.
#[inline]
pub(in crate::store::index) fn prefetch_item(word: u64, bytes: usize) {
    let item = std::ptr::without_provenance::<u8>((word & ADDRESS) as usize);
    let lines = (item.addr() % CACHE_LINE_BYTES + bytes).div_ceil(CACHE_LINE_BYTES);
    for line in 0..lines.clamp(1, LINES_MAX) {
        prefetch(item.wrapping_add(line * CACHE_LINE_BYTES));
    }
}

/// Calls `f` with all words, none of them 0, whose items were prefetched a while
/// before.
pub(in crate::store::index) fn prefetched(
    words: impl Iterator<Item = u64>,
    mut f: impl FnMut(u64),
) {
    let (mut waiting, mut next) = ([0; REBUILD_AHEAD], 0);
    let end = std::iter::repeat_n(0, REBUILD_AHEAD);
    for word in words.chain(end) {
        if word != 0 {
            prefetch_item(word, REBUILD_BYTES);
        }
        let ready = std::mem::replace(&mut waiting[next], word);
        next = (next + 1) % REBUILD_AHEAD;
        if ready != 0 {
            f(ready);
        }
    }
}
