//! Lookups and prefetching without the locks of shards.

use crate::store::index::bucket;
use crate::store::index::bucket::Lookup;
use crate::store::index::map::{Hashed, Map};
use crate::store::index::prefetch::prefetch;
use crate::store::index::slot::{Slot, chunk_of, key_of, prefetch_item};
use crate::store::index::table::find_in;
use crate::store::item::layout::Item;

/// The result of a lookup without the lock.
pub(crate) enum Unlocked<'a> {
    /// The key was found.
    Found(Found<'a>),
    /// The key is not in the map.
    Absent,
    /// Only a lookup under the lock can tell.
    Unclear,
}

/// An item that was found without the lock.
pub(crate) struct Found<'a> {
    /// The slot, which may hold another item by now.
    pub(crate) slot: &'a Slot,
    /// The word of the slot when the item was found.
    pub(crate) word: u64,
    /// The item, which may be unlinked by now.
    pub(crate) item: Item<'a>,
}

impl Map {
    /// Prefetches the cache line of the lock that guards `hash`.
    #[inline]
    pub(crate) fn prefetch_lock(&self, hash: u64) {
        prefetch(self.lock_address(hash));
    }

    /// Prefetches the primary bucket of `hash`.
    #[inline]
    pub(crate) fn prefetch_slot(&self, hash: u64) {
        let buckets = self.table(hash).buckets();
        prefetch(buckets.primary(hash));
    }

    /// Prefetches the first `bytes` bytes of the first item whose tag matches
    /// `hash`: nearly always the right one. Takes no lock.
    ///
    /// # Safety
    /// The caller is inside an epoch.
    #[inline]
    pub(crate) unsafe fn prefetch_item(&self, hash: u64, bytes: usize) {
        let table = self.table(hash);
        // SAFETY: replaced tables are retired, and so are not freed meanwhile.
        unsafe {
            table.find(hash, |word| {
                prefetch_item(word, bytes);
                true
            });
        }
    }

    /// Looks a key up without the lock of its shard.
    ///
    /// # Safety
    /// For the whole lifetime, the caller is inside an epoch.
    #[inline]
    pub(crate) unsafe fn find_unlocked<'a>(&self, key: &Hashed<'_>) -> Unlocked<'a> {
        let table = self.table(key.hash);
        // SAFETY: replaced tables and unlinked items are retired, so that they
        // are not freed meanwhile.
        unsafe {
            let buckets = table.buckets().as_slice();
            match find_in(buckets, key.hash, |word| key.key == key_of(word)) {
                Lookup::At(position, word) => match bucket::word(buckets, position) {
                    Some(place) => Unlocked::Found(Found {
                        slot: Slot::of(place),
                        word,
                        item: Item::at(chunk_of(word)),
                    }),
                    None => Unlocked::Unclear,
                },
                Lookup::Absent => Unlocked::Absent,
                Lookup::MaybeStashed => Unlocked::Unclear,
            }
        }
    }
}
