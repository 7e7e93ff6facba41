//! Memory that items take, and the part of a memory limit that is left for
//! them: a model of page memory and index without their contents.

use crate::store::evict::ghosts::{BYTES_PER_GHOST, GHOST_BYTES};
use crate::store::index::table;
use crate::store::item::layout::CHAIN_BYTES;
use crate::store::item::segment::SEGMENT_HEADER_BYTES;
use crate::store::memory::classes::{
    PAGE_BYTES, chunk_bytes, class_for_item, class_for_next, per_page,
};

/// Bytes of a shard without its table: lock, counts, position of the hand.
const SHARD_BYTES: f64 = 156.0;
/// The limit divided by this is the bytes of the ghosts.
const GHOST_PART: f64 = (BYTES_PER_GHOST / GHOST_BYTES) as f64;
/// Bytes of free chunks in a full memory, per size class in use: half a page.
const FREE_CHUNK_BYTES: f64 = (PAGE_BYTES / 2) as f64;

/// Returns the index of the size class of an item of `bytes` bytes, that of its
/// first chunk.
pub(in crate::store) fn head_class(bytes: usize) -> usize {
    let plain = class_for_item(bytes, bytes + CHAIN_BYTES);
    if chunk_bytes(plain) >= bytes {
        return plain;
    }
    // A chained item: its bytes include those of the chain.
    class_for_item(bytes - CHAIN_BYTES, bytes)
}

/// Returns the page memory in bytes that an item of `bytes` bytes takes: its
/// chunks with their share of what their pages waste.
pub(in crate::store) fn footprint(bytes: usize) -> usize {
    let mut class = head_class(bytes);
    let (mut left, mut taken) = (bytes, 0);
    loop {
        taken += PAGE_BYTES / per_page(class);
        if chunk_bytes(class) >= left {
            return taken;
        }
        left = left - chunk_bytes(class) + SEGMENT_HEADER_BYTES;
        class = class_for_next(left);
    }
}

/// Returns the bytes that are left for the footprints of `items` items in a
/// full store of `shards` shards with a limit of `limit` bytes. The items are of
/// `classes` size classes.
pub(in crate::store) fn room_for_items(
    limit: f64,
    shards: usize,
    items: f64,
    classes: usize,
) -> f64 {
    let mean = items / shards as f64;
    // A table fits the most items that its shard ever had.
    let tables = [0.0, 1.0, 2.0].map(|spread| table::mean_bytes(mean + spread * mean.sqrt()));
    let tables = tables.iter().sum::<f64>() / tables.len() as f64;
    let index = shards as f64 * (SHARD_BYTES + tables) + limit / GHOST_PART;
    (limit - index - classes as f64 * FREE_CHUNK_BYTES).max(0.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{CHAIN_BYTES, footprint, head_class, room_for_items};
    use crate::config::Eviction;
    use crate::store::{Item, ItemSpec, Options, Store, Walk};
    use crate::time::Now;

    /// Fills a store with values of these sizes in turn. Returns the footprints
    /// of its items in bytes, and the room for them by the model.
    fn filled(limit: usize, sizes: &[usize]) -> (f64, f64) {
        let store = Store::new(Options {
            max_memory: limit,
            evict: true,
            max_item_size: 1 << 20,
            eviction: Eviction::Clock,
            cas: true,
            delimiter: b':',
        });
        let mut local = store.local();
        let now = Now::from_millis(10_000);
        let value = vec![b'v'; 1 << 20];
        let total: usize = sizes.iter().sum();
        for number in 0..3 * limit / total * sizes.len() {
            let name = format!("{number:020}");
            let size = sizes[number % sizes.len()];
            let key = store.hashed(name.as_bytes());
            let spec = ItemSpec::new(key.key, size);
            let pieces = std::iter::once(&value[..size]);
            let new = store.new_filled(&mut local, &key, &spec, now, pieces);
            let new = new.expect("there is always something to evict");
            store.edit(&mut local, &key, now, |entry| entry.put(new, 1));
        }
        let mut walk = Walk::default();
        let (mut taken, mut classes) = (0, BTreeSet::new());
        let mut count = |item: Item<'_>| {
            assert_eq!(head_class(item.bytes()), item.class().index());
            classes.insert(item.class().index());
            taken += footprint(item.bytes());
        };
        while store.walk(&mut walk, now, &mut count) {}
        let items = store.stats().snapshot().items as f64;
        let room = room_for_items(limit as f64, store.shard_count(), items, classes.len());
        (taken as f64, room)
    }

    #[test]
    fn a_full_store_has_items_of_the_predicted_footprint() {
        for (limit, sizes) in [
            (16 << 20, &[100][..]),
            (16 << 20, &[700, 2_000, 90, 5_000]),
            (32 << 20, &[40_000, 300, 9_000]),
        ] {
            let (taken, room) = filled(limit, sizes);
            let off = (taken - room) / limit as f64;
            assert!(off.abs() < 0.05, "{sizes:?}: {taken} of {room}");
        }
    }

    #[test]
    fn a_chain_takes_what_the_item_says() {
        let spec = ItemSpec::new(b"key", 100_000);
        assert_eq!(spec.chained_bytes() - spec.bytes(), CHAIN_BYTES);
    }

    #[test]
    fn an_item_takes_at_least_its_bytes() {
        for bytes in (40..400_000).step_by(37) {
            let taken = footprint(bytes);
            assert!(taken >= bytes && taken < bytes + bytes / 8 + 64, "{bytes}");
        }
    }
}
