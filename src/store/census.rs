//! Counters and reports of the store: items linked, unlinked and evicted, and
//! page memory by size class. The least recently accessed item of each
//! class is found by upkeep's sweep, which visits all items anyway. No query
//! walks the store.

use std::sync::PoisonError;

use crate::events::{EventKind, ItemSize, Kinds};
use crate::limits::ClassId;
use crate::stats::{Counter, Counters};
use crate::store::item::layout::Item;
use crate::store::memory::classes::{chunk_bytes, per_page};
use crate::store::outcome::Miss;
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
    /// Pages assigned to the class.
    pub pages: usize,
    /// Free chunks in these pages, including those in threads' magazines.
    pub free_chunks: usize,
}

impl Item<'_> {
    /// Returns the size class and value length for counters and events.
    #[inline]
    pub fn item_size(self) -> ItemSize {
        ItemSize {
            class: Some(self.class()),
            value_len: self.value_len() as u32,
        }
    }
}

impl Counters {
    /// Returns the counter of dead items met by commands: flushed or expired
    /// ones.
    pub(crate) fn dead_hit_counter(&self, miss: Miss) -> &Counter {
        match miss {
            Miss::Flushed => &self.get_flushed,
            Miss::Invalidated => &self.invalidated_items,
            Miss::Expired | Miss::Absent => &self.get_expired,
        }
    }
}

impl Local {
    /// Counts an item that is linked into the map.
    #[inline]
    pub(crate) fn count_linked(&self, item: Item<'_>) {
        let (bytes, class) = (item.bytes() as u64, self.classes.of(item.class()));
        self.counters.item_bytes.add(bytes);
        self.counters.items.add(1);
        class.bytes.add(bytes);
        class.items.add(1);
    }

    /// Counts an item that is unlinked from the map.
    #[inline]
    pub(crate) fn count_unlinked(&self, item: Item<'_>) {
        let (bytes, class) = (item.bytes() as u64, self.classes.of(item.class()));
        self.counters.item_bytes.sub(bytes);
        self.counters.items.sub(1);
        class.bytes.sub(bytes);
        class.items.sub(1);
    }

    /// Counts the eviction of a live item.
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
        let age = item.age(self.now);
        self.counters.evicted_age.add(u64::from(age));
        class.record_eviction(second, age);
    }

    /// Reports an eviction to watchers. Copies the key, so call it without a
    /// shard lock.
    pub(crate) fn report_evicted(&self, item: Item<'_>) {
        if !self.events.wanted().any_of(Kinds::EVICTIONS) {
            return;
        }
        self.events.put(EventKind::Evicted {
            key: item.key().into(),
            fetched: item.is_fetched(),
            ttl: self.now.remaining_seconds(item.expiry()),
            idle: item.age(self.now),
            old: item.item_size(),
        });
    }
}

impl Store {
    /// Counts an expired item that eviction met and removed.
    pub(crate) fn count_reclaimed(&self, local: &Local, item: Item<'_>, miss: Miss) {
        if miss == Miss::Expired {
            local.counters.reclaimed.add(1);
            local.classes.of(item.class()).reclaimed.add(1);
            count_unfetched(local, item);
        }
        if miss == Miss::Invalidated {
            local.counters.invalidated_items.add(1);
        }
    }

    /// Counts a dead item that a new item replaces. Without its maintainer
    /// thread, memcached reclaims such an item in its search for memory, so
    /// that the command does not meet it: the item counts as reclaimed.
    #[cold]
    pub(crate) fn count_overwritten(
        &self,
        local: &Local,
        miss: Miss,
        class: ClassId,
        fetched: bool,
    ) {
        if !self.counts_overwritten.load(Ordering::Relaxed) {
            return;
        }
        if miss == Miss::Invalidated {
            return;
        }
        local.counters.dead_hit_counter(miss).sub(1);
        local.counters.reclaimed.add(1);
        local.classes.of(class).reclaimed.add(1);
        if !fetched {
            local.counters.expired_unfetched.add(1);
            local.classes.of(class).expired_unfetched.add(1);
        }
    }

    /// Makes counters behave as in memcached without its LRU maintainer thread:
    /// a dead item that is overwritten counts as reclaimed.
    pub fn count_overwritten_as_reclaimed(&self) {
        self.counts_overwritten.store(true, Ordering::Relaxed);
    }

    /// Returns the page memory of a class.
    pub fn class_memory(&self, class: ClassId) -> ClassMemory {
        let class = class.index();
        let (pages, free_in_pages) = self.memory.holdings_of(class);
        let all = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let in_magazines: usize = all.iter().map(|levels| levels.of(class)).sum();
        let free_chunks = (free_in_pages + in_magazines).min(pages * per_page(class));
        ClassMemory {
            chunk_bytes: chunk_bytes(class),
            per_page: per_page(class),
            pages,
            free_chunks,
        }
    }

    /// Returns the second of the last access to the least recently accessed
    /// item of `class`, as of upkeep's last sweep. `None` if the
    /// sweep met none.
    pub fn oldest_use(&self, class: ClassId) -> Option<u32> {
        let second = self.oldest.known[class.index()].load(Ordering::Relaxed);
        (second != u32::MAX).then_some(second)
    }

    /// Returns the number of free pages whose memory has not been returned to
    /// the system.
    pub fn idle_pages(&self) -> usize {
        self.memory.pool().idle_pages()
    }
}

/// Counts an expired item that was never fetched.
pub(in crate::store) fn count_unfetched(local: &Local, item: Item<'_>) {
    if !item.is_fetched() {
        local.counters.expired_unfetched.add(1);
        local.classes.of(item.class()).expired_unfetched.add(1);
    }
}
