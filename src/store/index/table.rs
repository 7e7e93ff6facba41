//! Tables of the index: their buckets' memory, their sizes, and the word that
//! publishes a shard's table to readers.
//!
//! A published table is never rebuilt in place. A shard that needs another size
//! gets a new table, published by one store. The old one is not changed again,
//! and is freed by [`Buckets::retire`].

use crate::store::index::bucket::{BUCKET_BYTES, Bucket, Lookup, Place, SLOTS, find};
use crate::store::reclaim::limbo::Reclaim;
use crate::sync::{AtomicU64, Ordering};

/// The share of a table's slots that may be in use. Fuller tables need the
/// stash too often.
const FILL: f64 = 15.0 / 16.0;
/// Factor from one size of a table to the next.
const GROWTH: f64 = 1.25;
/// Part of the sizes' period by which the sizes of a shard differ from those of
/// its neighbour: the golden ratio's fraction, so that the shards spread evenly.
const PHASE: f64 = 0.618_033_988_749_894_9;

/// Bits of a published word that hold the number of buckets. The address is in
/// the bits above: it has 48 bits, of which 6 are 0.
const COUNT_BITS: u32 = 22;
const ADDRESS_SHIFT: u32 = COUNT_BITS - BUCKET_BYTES.trailing_zeros();
/// Maximum number of buckets of a table. In a larger shard, entries go to the
/// stash.
const BUCKETS_MAX: usize = (1 << COUNT_BITS) - 1;

/// A shard's published table.
pub(in crate::store::index) struct Table(AtomicU64);

/// The buckets of a table; none for an empty shard.
#[derive(Clone, Copy)]
pub(in crate::store::index) struct Buckets {
    start: *const Bucket,
    len: usize,
}

// SAFETY: buckets are atomics; whoever reaches them keeps the table's rules.
unsafe impl Send for Buckets {}
// SAFETY: as above.
unsafe impl Sync for Buckets {}

impl Buckets {
    /// Allocates empty buckets.
    pub(in crate::store::index) fn allocate(len: usize) -> Self {
        if len == 0 {
            let start = std::ptr::null();
            return Self { start, len };
        }
        let all: Box<[Bucket]> = (0..len).map(|_| Bucket::new()).collect();
        let start = Box::into_raw(all).cast();
        Self { start, len }
    }

    /// Returns the buckets.
    ///
    /// # Safety
    /// They are not freed during the lifetime.
    #[inline]
    pub(in crate::store::index) unsafe fn as_slice<'a>(self) -> &'a [Bucket] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the buckets were allocated with this length.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    /// Returns the number of buckets.
    #[inline]
    pub(in crate::store::index) fn len(self) -> usize {
        self.len
    }

    /// Returns the address of the primary bucket of a hash, for prefetching.
    #[inline]
    pub(in crate::store::index) fn primary(self, hash: u64) -> *const u8 {
        let place = Place::of(hash, self.len);
        self.start.wrapping_add(place.primary).cast()
    }

    /// Retires the buckets of a table that was replaced: they are freed when no
    /// reader is left. The only place where published buckets are freed, except
    /// with the whole map.
    ///
    /// # Safety
    /// No reader finds them any more, and they are retired once.
    pub(in crate::store::index) unsafe fn retire(self, reclaim: &Reclaim) {
        reclaim.retire_table(Box::new(Retired(self)), bytes_of(self.len));
    }
}

/// Buckets that are freed when the value is dropped.
struct Retired(Buckets);

impl Drop for Retired {
    fn drop(&mut self) {
        if self.0.len > 0 {
            let start = self.0.start.cast_mut();
            let all = std::ptr::slice_from_raw_parts_mut(start, self.0.len);
            // SAFETY: `allocate` made them from a box of this length, and nobody
            // uses them any more.
            drop(unsafe { Box::from_raw(all) });
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        drop(Retired(self.buckets()));
    }
}

impl Table {
    /// Creates a table without buckets.
    pub(in crate::store::index) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Returns the buckets of the present table.
    #[inline]
    pub(in crate::store::index) fn buckets(&self) -> Buckets {
        let word = self.0.load(Ordering::Acquire);
        let len = word as usize & BUCKETS_MAX;
        let address = (word & !(BUCKETS_MAX as u64)) >> ADDRESS_SHIFT;
        Buckets {
            start: std::ptr::with_exposed_provenance(address as usize),
            len,
        }
    }

    /// Publishes filled buckets as the table. The caller holds the shard's write
    /// lock.
    pub(in crate::store::index) fn publish(&self, buckets: Buckets) {
        let address = buckets.start.expose_provenance() as u64;
        debug_assert!(address >> 48 == 0, "user addresses have 48 bits");
        let word = address << ADDRESS_SHIFT | buckets.len as u64;
        self.0.store(word, Ordering::Release);
    }

    /// Finds the entry of a hash whose word `wanted` accepts, without a lock.
    ///
    /// # Safety
    /// No table that was published since the caller began to read is freed
    /// before the function returns.
    #[inline]
    pub(in crate::store::index) unsafe fn find(
        &self,
        hash: u64,
        wanted: impl FnMut(u64) -> bool,
    ) -> Lookup {
        // SAFETY: guaranteed by the caller.
        find_in(unsafe { self.buckets().as_slice() }, hash, wanted)
    }
}

/// Finds the entry of a hash whose word `wanted` accepts.
#[inline]
pub(in crate::store::index) fn find_in(
    buckets: &[Bucket],
    hash: u64,
    wanted: impl FnMut(u64) -> bool,
) -> Lookup {
    if buckets.is_empty() {
        return Lookup::Absent;
    }
    find(buckets, Place::of(hash, buckets.len()), wanted)
}

/// Returns how many entries a table of `buckets` buckets may have before it
/// grows.
#[inline]
pub(in crate::store::index) fn capacity_of(buckets: usize) -> usize {
    if buckets == BUCKETS_MAX {
        return usize::MAX;
    }
    // `FILL`, in whole numbers.
    let slots = buckets * SLOTS;
    slots - slots.div_ceil(16)
}

/// Returns the number of buckets for `items` items in shard number `shard`. The
/// sizes form a geometric sequence, which begins elsewhere for each shard. So the
/// shards do not grow at the same time, and the tables of all shards together are
/// always as full as they are on average.
pub(in crate::store::index) fn buckets_for(items: usize, shard: usize) -> usize {
    if items == 0 {
        return 0;
    }
    let phase = (shard as f64 * PHASE).fract();
    let size = |step: f64| {
        let size = GROWTH.powf(step + phase).ceil();
        size.clamp(1.0, BUCKETS_MAX as f64) as usize
    };
    let least = items as f64 / (SLOTS as f64 * FILL);
    // The smallest size that fits. Rounding may put it a step lower or higher.
    let mut step = ((least.ln() / GROWTH.ln()).max(0.0) - phase).ceil() - 1.0;
    while capacity_of(size(step)) < items {
        step += 1.0;
    }
    size(step)
}

/// Returns the bytes of a table of `buckets` buckets.
pub(in crate::store::index) fn bytes_of(buckets: usize) -> usize {
    buckets * BUCKET_BYTES
}

/// Returns the bytes of the table of a shard with `items` items, averaged over
/// the shards.
pub(in crate::store) fn mean_bytes(items: f64) -> f64 {
    let least = items / (SLOTS as f64 * FILL);
    (least * (GROWTH - 1.0) / GROWTH.ln() + 0.5) * BUCKET_BYTES as f64
}
