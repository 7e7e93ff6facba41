//! What is there, by size class: items and their bytes from the threads' own
//! counters, pages and chunks from page memory, and since when the longest
//! unused item was not used, which upkeep's sweep finds out as it passes over
//! all items anyway. Nothing here walks the store when it is asked.

use std::sync::PoisonError;

use crate::events::{EventKind, ItemSize, Kinds};
use crate::limits::CLASSES_MAX;
use crate::stats::{ClassSnapshot, Counter, Counters};
use crate::store::item::layout::Item;
use crate::store::memory::classes::{chunk_bytes, per_page};
use crate::store::outcome::Miss;
use crate::store::state::present;
use crate::store::state::{Local, Store};
use crate::sync::Ordering;
use crate::time::Expiry;

/// Page memory of one size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassMemory {
    /// Bytes of a chunk.
    pub chunk_bytes: usize,
    /// Chunks in a page.
    pub per_page: usize,
    /// Pages cut into such chunks.
    pub pages: usize,
    /// Chunks of these pages that are free, those included that threads keep
    /// in stock.
    pub free_chunks: usize,
}

impl Item<'_> {
    /// What counters and events say of it.
    #[inline]
    pub fn item_size(self) -> ItemSize {
        ItemSize {
            class: self.class(),
            value_len: self.value_len() as u32,
        }
    }
}

impl Counters {
    /// What counts dead items that commands meet: the flushed ones, or else
    /// the expired ones.
    pub(crate) fn met(&self, miss: Miss) -> &Counter {
        match miss {
            Miss::Flushed => &self.get_flushed,
            Miss::Expired | Miss::Absent => &self.get_expired,
        }
    }
}

impl Local {
    /// Counts an item that comes into the map.
    #[inline]
    pub(crate) fn count_in(&self, item: Item<'_>) {
        let (bytes, class) = (item.bytes() as u64, self.classes.of(item.class()));
        self.counters.item_bytes.add(bytes);
        self.counters.items.add(1);
        class.bytes.add(bytes);
        class.items.add(1);
    }

    /// Counts an item that leaves the map.
    #[inline]
    pub(crate) fn count_out(&self, item: Item<'_>) {
        let (bytes, class) = (item.bytes() as u64, self.classes.of(item.class()));
        self.counters.item_bytes.sub(bytes);
        self.counters.items.sub(1);
        class.bytes.sub(bytes);
        class.items.sub(1);
    }

    /// Counts an item that is removed alive, for lack of memory.
    pub(crate) fn count_evicted(&self, item: Item<'_>) {
        let class = self.classes.of(item.class());
        self.counters.evictions.add(1);
        class.evicted.add(1);
        if !item.is_fetched() {
            self.counters.evicted_unfetched.add(1);
            class.evicted_unfetched.add(1);
        }
        if item.expiry() != Expiry::NEVER {
            class.evicted_nonzero.add(1);
        }
        let second = self.now.second();
        class.note_eviction(second, item.age(self.now));
    }

    /// Tells watchers of an eviction; not to be called under a lock.
    pub(crate) fn tell_evicted(&self, item: Item<'_>) {
        if !self.events.wanted().any_of(Kinds::EVICTIONS) {
            return;
        }
        self.events.put(EventKind::Evicted {
            key: item.key().into(),
            fetched: item.is_fetched(),
            ttl: self.now.left(item.expiry()),
            idle: item.age(self.now),
            old: item.item_size(),
        });
    }
}

impl Store {
    /// The sum of all threads' counters by size class, class 1 first.
    pub fn class_snapshots(&self) -> [ClassSnapshot; CLASSES_MAX] {
        let mut sums = [ClassSnapshot::default(); CLASSES_MAX];
        let all = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in all.iter() {
            thread.classes.add_to(&mut sums);
        }
        for sum in &mut sums {
            sum.items = present(sum.items);
            sum.bytes = present(sum.bytes);
        }
        sums
    }

    /// The page memory of class number `id`, from 1; at least a chunk of it
    /// is there to be divided by.
    pub fn class_memory(&self, id: u8) -> ClassMemory {
        let class = usize::from(id) - 1;
        let (pages, free_in_pages) = self.memory.holdings_of(class);
        let all = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let in_stock: usize = all.iter().map(|thread| thread.stock.of(class)).sum();
        let free_chunks = (free_in_pages + in_stock).min(pages * per_page(class));
        ClassMemory {
            chunk_bytes: chunk_bytes(class),
            per_page: per_page(class),
            pages,
            free_chunks,
        }
    }

    /// The second in which the longest unused item of class number `id` was
    /// last used, as of upkeep's last sweep; `None` if it met none.
    pub fn oldest_use(&self, id: u8) -> Option<u32> {
        let second = self.oldest.known[usize::from(id) - 1].load(Ordering::Relaxed);
        (second != u32::MAX).then_some(second)
    }

    /// Pages that hold memory and belong to no class.
    pub fn idle_pages(&self) -> usize {
        self.memory.pool().idle_pages()
    }
}
