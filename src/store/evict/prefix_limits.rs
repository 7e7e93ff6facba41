//! Limits on the memory of prefixes (`--prefix-limit`), and the exact sums of
//! their items. What happens at a limit is in `prefix_room.rs`.
//!
//! An item counts for each limit whose prefix its key begins with, from the time
//! it is linked until it is unlinked. Both happen under its shard's write lock.
//! For a limit that comes later, upkeep counts the items that are there, shard by
//! shard under that lock, and records under it how many limits the shard now counts
//! for. So every item is counted once.
//!
//! The index marks the items that count for a limit, so that a search for one of
//! them touches few others. Marks are set under the write lock, too.
//!
//! A prefix keeps its place for the life of the store, also when its limit is
//! taken away, so that a shard never has to forget one.

use std::sync::{Mutex, OnceLock, PoisonError};

use crossbeam::utils::CachePadded;

use crate::config::MemoryShare;
use crate::limits::PREFIX_LIMITS_MAX;
use crate::store::evict::prefix_pool::Pool;
use crate::store::index::slot::MARK_BITS;
use crate::sync::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// Share of a prefix without a limit.
const UNLIMITED: u64 = u64::MAX;
/// Bit of a share that is a percentage.
const PERCENT: u64 = 1 << 63;

const _: () = assert!(PREFIX_LIMITS_MAX <= u8::MAX as usize);

/// The limits of a store.
pub(in crate::store) struct PrefixLimits {
    /// Places in use. They are filled in order.
    used: AtomicUsize,
    places: Box<[CachePadded<Limited>]>,
    /// By shard, the number of places for which its items are counted. Changed
    /// under the shard's lock.
    counted: Box<[AtomicU8]>,
    /// Serializes additions.
    turn: Mutex<()>,
}

/// A prefix that has or had a limit.
#[derive(Default)]
pub(in crate::store) struct Limited {
    prefix: OnceLock<Box<[u8]>>,
    /// Mark of its items in the index. Several prefixes may share one.
    pub(in crate::store) mark: u8,
    /// A [`MemoryShare`], encoded.
    share: AtomicU64,
    items: AtomicU64,
    bytes: AtomicU64,
    /// Items evicted to keep the limit.
    pub(in crate::store) evictions: AtomicU64,
    /// Visits of the prefix's own hand so far.
    pub(in crate::store) visits: AtomicUsize,
    /// Items that its hand has seen.
    pub(in crate::store) pool: Pool,
}

/// A prefix with a limit, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixUse {
    /// First bytes of the keys.
    pub prefix: Box<[u8]>,
    /// The limit as it was given.
    pub share: MemoryShare,
    /// The limit in bytes.
    pub limit_bytes: usize,
    /// Items in the store, dead ones that are not removed yet included.
    pub items: u64,
    /// Bytes of these items.
    pub bytes: u64,
    /// Items evicted to keep the limit.
    pub evictions: u64,
    /// Whether all items are counted. False for a while after a limit was added.
    pub is_counted: bool,
}

impl Limited {
    /// Returns the first bytes of the keys.
    pub(in crate::store) fn prefix(&self) -> &[u8] {
        self.prefix.get().map_or(b"", |prefix| prefix)
    }

    /// Returns the limit; `None` if it was taken away.
    pub(in crate::store) fn share(&self) -> Option<MemoryShare> {
        match self.share.load(Ordering::Relaxed) {
            UNLIMITED => None,
            share if share & PERCENT != 0 => Some(MemoryShare::Percent(share as u8)),
            share => Some(MemoryShare::Bytes(share as usize)),
        }
    }

    /// Returns the bytes of its items.
    pub(in crate::store) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed) as usize
    }

    fn set_share(&self, share: Option<MemoryShare>) {
        let share = match share {
            None => UNLIMITED,
            Some(MemoryShare::Percent(percent)) => PERCENT | u64::from(percent),
            Some(MemoryShare::Bytes(bytes)) => bytes as u64 & !PERCENT,
        };
        self.share.store(share, Ordering::Relaxed);
    }

    /// Changes the sums. Differences wrap.
    fn add(&self, items: u64, bytes: u64) {
        if items != 0 {
            self.items.fetch_add(items, Ordering::Relaxed);
        }
        if bytes != 0 {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl PrefixLimits {
    /// Creates the limits of a store with `shards` shards: none.
    pub(in crate::store) fn new(shards: usize) -> Self {
        let place = |number| {
            CachePadded::new(Limited {
                mark: 1_u8 << (number % MARK_BITS),
                ..Limited::default()
            })
        };
        Self {
            used: AtomicUsize::new(0),
            places: (0..PREFIX_LIMITS_MAX).map(place).collect(),
            counted: (0..shards).map(|_| AtomicU8::new(0)).collect(),
            turn: Mutex::new(()),
        }
    }

    /// Returns the bytes that it takes.
    pub(in crate::store) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.places) + size_of_val(&*self.counted)
    }

    /// Returns whether there is or was a limit.
    #[inline]
    pub(in crate::store) fn is_used(&self) -> bool {
        // A link or unlink that misses a new limit comes before its shard is
        // counted for it: the shard's lock orders them.
        self.used.load(Ordering::Relaxed) != 0
    }

    /// Returns the prefixes that have or had a limit.
    pub(in crate::store) fn places(&self) -> impl Iterator<Item = &Limited> {
        let used = self.used.load(Ordering::Acquire);
        self.places[..used].iter().map(|place| &**place)
    }

    /// Sets or takes away the limit of a prefix. Returns false if there is no
    /// place for a new prefix.
    pub(in crate::store) fn set(&self, prefix: &[u8], share: Option<MemoryShare>) -> bool {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = self.places().find(|place| place.prefix() == prefix) {
            place.set_share(share);
            return true;
        }
        if share.is_none() {
            return true;
        }
        let used = self.used.load(Ordering::Relaxed);
        let Some(place) = self.places.get(used) else {
            return false;
        };
        place.prefix.get_or_init(|| prefix.into());
        place.set_share(share);
        self.used.store(used + 1, Ordering::Release);
        true
    }

    /// Counts a change of the items of a shard with this key. The caller holds
    /// the shard's write lock. Differences wrap. Returns the marks of the key.
    #[cold]
    pub(in crate::store) fn count(&self, shard: usize, key: &[u8], items: u64, bytes: u64) -> u8 {
        let counted = usize::from(self.counted[shard].load(Ordering::Relaxed));
        let mut marks = 0;
        for place in &self.places[..counted] {
            if key.starts_with(place.prefix()) {
                place.add(items, bytes);
                marks |= place.mark;
            }
        }
        marks
    }

    /// Returns the places for which the items of a shard are not counted yet. The
    /// caller holds the shard's write lock.
    pub(in crate::store) fn uncounted(&self, shard: usize) -> &[CachePadded<Limited>] {
        let used = self.used.load(Ordering::Acquire);
        let counted = usize::from(self.counted[shard].load(Ordering::Relaxed));
        &self.places[counted..used]
    }

    /// Adds the items of a shard, in number and bytes, to the places that
    /// [`PrefixLimits::uncounted`] returned, and records that they are counted.
    /// The caller has held the shard's write lock since: several threads may count
    /// at once.
    pub(in crate::store) fn add_counted(&self, shard: usize, sums: &[(u64, u64)]) {
        let counted = usize::from(self.counted[shard].load(Ordering::Relaxed));
        for (place, (items, bytes)) in self.places[counted..].iter().zip(sums) {
            place.add(*items, *bytes);
        }
        let counted = (counted + sums.len()) as u8;
        self.counted[shard].store(counted, Ordering::Relaxed);
    }

    /// Returns the first shard whose items are not counted for every place.
    pub(in crate::store) fn uncounted_shard(&self) -> Option<usize> {
        let used = self.used.load(Ordering::Acquire) as u8;
        let of_shard = |counted: &AtomicU8| counted.load(Ordering::Relaxed);
        self.counted
            .iter()
            .position(|counted| of_shard(counted) < used)
    }

    /// Returns the present limits and what their items take.
    pub(in crate::store) fn report(&self, memory_limit: usize) -> Vec<PrefixUse> {
        let counted = self
            .counted
            .iter()
            .map(|counted| counted.load(Ordering::Relaxed));
        let counted = usize::from(counted.min().unwrap_or(0));
        let rows = self.places().enumerate().filter_map(|(number, place)| {
            let share = place.share()?;
            Some(PrefixUse {
                prefix: place.prefix().into(),
                share,
                limit_bytes: share.bytes(memory_limit),
                items: place.items.load(Ordering::Relaxed),
                bytes: place.bytes.load(Ordering::Relaxed),
                evictions: place.evictions.load(Ordering::Relaxed),
                is_counted: number < counted,
            })
        });
        rows.collect()
    }
}
