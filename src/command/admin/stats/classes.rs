//! `stats items` and `stats slabs`: statistics by size class, ids 1 to 63,
//! ascending. memcached's tools call them slab classes.

use crate::command::admin::stat_sink::{StatSink, stat};
use crate::command::executor::Executor;
use crate::limits::ClassId;
use crate::stats::ClassSnapshot;

/// Lines of `stats items` that memcached omits without its LRU maintainer.
const MAINTAINER_ONLY: [&str; 14] = [
    "number_hot",
    "number_warm",
    "number_cold",
    "age_hot",
    "age_warm",
    "evicted_active",
    "moves_to_cold",
    "moves_to_warm",
    "moves_within_lru",
    "direct_reclaims",
    "hits_to_hot",
    "hits_to_warm",
    "hits_to_cold",
    "hits_to_temp",
];

impl Executor<'_> {
    /// Writes the classes that have items. There is one queue per class here,
    /// reported as memcached's COLD queue.
    pub(in crate::command) fn items(&self, out: &mut StatSink<'_>) {
        for (id, class) in self.classes() {
            if class.items > 0 {
                self.items_of(id, &class, out);
            }
        }
        out.end();
    }

    fn items_of(&self, id: ClassId, class: &ClassSnapshot, out: &mut StatSink<'_>) {
        let tunables = *self.shared.runtime.tunables();
        let oldest = self.store.oldest_use(id);
        let age = oldest.map_or(0, |second| self.now.second().saturating_sub(second));
        for (name, value) in [
            ("number", class.items),
            ("number_hot", 0),
            ("number_warm", 0),
            ("number_cold", class.items),
            ("number_temp", 0),
            ("age_hot", 0),
            ("age_warm", 0),
            ("age", u64::from(age)),
            ("mem_requested", class.bytes),
            ("evicted", class.evicted),
            ("evicted_nonzero", class.evicted_nonzero),
            ("evicted_time", class.evicted_time()),
            ("outofmemory", class.outofmemory),
            ("tailrepairs", 0),
            ("reclaimed", class.reclaimed),
            ("expired_unfetched", class.expired_unfetched),
            ("evicted_unfetched", class.evicted_unfetched),
            ("evicted_active", 0),
            ("crawler_reclaimed", class.crawler_reclaimed),
            ("crawler_items_checked", class.crawler_items_checked),
            ("lrutail_reflocked", 0),
            ("moves_to_cold", 0),
            ("moves_to_warm", 0),
            ("moves_within_lru", 0),
            ("direct_reclaims", class.direct_reclaims),
            ("hits_to_hot", 0),
            ("hits_to_warm", 0),
            ("hits_to_cold", class.get_hits + class.touch_hits),
            ("hits_to_temp", 0),
        ] {
            let is_reported = match name {
                "number_temp" => tunables.maintainer && tunables.temporary,
                _ => tunables.maintainer || !MAINTAINER_ONLY.contains(&name),
            };
            if is_reported {
                stat(out, &format!("items:{id}:{name}"), value);
            }
        }
    }

    /// Writes the classes that have pages or items. Chunks in threads'
    /// magazines count as free: in memcached, every chunk without an item is
    /// free.
    pub(in crate::command) fn slabs(&self, out: &mut StatSink<'_>) {
        let mut active = 0;
        for (id, class) in self.classes() {
            let memory = self.store.class_memory(id);
            if memory.pages == 0 && class.items == 0 {
                continue;
            }
            active += 1;
            // An item may occupy a chunk of the next class, so a class with
            // items may have no pages. Tools divide by its number of chunks.
            let total = (memory.pages * memory.per_page).max(1);
            let free = memory.free_chunks;
            for (name, value) in [
                ("chunk_size", memory.chunk_bytes as u64),
                ("chunks_per_page", memory.per_page as u64),
                ("total_pages", memory.pages as u64),
                ("total_chunks", total as u64),
                ("used_chunks", (total - free) as u64),
                ("free_chunks", free as u64),
                ("free_chunks_end", 0),
                ("get_hits", class.get_hits),
                ("cmd_set", class.cmd_set),
                ("delete_hits", class.delete_hits),
                ("incr_hits", class.incr_hits),
                ("decr_hits", class.decr_hits),
                ("cas_hits", class.cas_hits),
                ("cas_badval", class.cas_badval),
                ("touch_hits", class.touch_hits),
            ] {
                stat(out, &format!("{id}:{name}"), value);
            }
        }
        stat(out, "active_slabs", active);
        stat(out, "total_malloced", self.store.page_bytes());
        out.end();
    }

    fn classes(&self) -> impl Iterator<Item = (ClassId, ClassSnapshot)> + use<> {
        let all = self
            .shared
            .classes_since_reset(self.shared.stats.class_snapshots());
        ClassId::all().zip(all)
    }
}
