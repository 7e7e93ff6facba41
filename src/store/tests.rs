//! Tests of eviction, moving and draining, step by step in one thread.

mod births;
mod flush;
mod layout;
mod prefix_limits;
mod reclaim;
mod unlocked;

use crate::config::Eviction;
use crate::store::evict::reclaim::DrainMode;
use crate::store::memory::arena::PinnedClasses;
use crate::store::memory::classes::{PAGE_BYTES, class_for, per_page};
use crate::store::{Access, ItemSpec, Local, NewItem, NoMemory, Options, Pin, Store};
use crate::time::{Expiry, Now};

const NOW: Now = Now::from_millis(10_000);

/// A store and the thread-local part of one thread.
struct Bench {
    store: Store,
    local: Local,
}

/// Returns a value that depends on key and length.
fn value(key: usize, len: usize) -> Vec<u8> {
    let byte = |index: usize| (index * 7 + (index >> 8) + key * 131 + len) as u8;
    (0..len).map(byte).collect()
}

impl Bench {
    fn new(pages: usize) -> Self {
        let store = Store::new(Options {
            max_memory: 0,
            evict: true,
            max_item_size: 1 << 30,
            eviction: Eviction::default(),
            cas: true,
            delimiter: b':',
        });
        store.set_memory_limit(store.index_bytes() + pages * PAGE_BYTES);
        let local = store.local();
        Self { store, local }
    }

    fn set(&mut self, key: usize, len: usize) -> Result<(), NoMemory> {
        set(&self.store, &mut self.local, key, len)
    }

    fn make(&mut self, key: usize, len: usize) -> Result<NewItem, NoMemory> {
        make(&self.store, &mut self.local, key, len)
    }

    fn link(&mut self, key: usize, new: NewItem) {
        link(&self.store, &mut self.local, key, new);
    }

    /// Returns the length of the key's value, and checks its contents.
    fn get(&mut self, key: usize) -> Option<usize> {
        let name = key.to_string();
        let hashed = self.store.hashed(name.as_bytes());
        let found = self.store.read(&mut self.local, &hashed, NOW, |item| {
            let bytes: Vec<u8> = item.pieces().flatten().copied().collect();
            assert!(bytes == value(key, item.value_len()), "{key} is damaged");
            (Access::Peek, item.value_len())
        });
        found.ok()
    }

    fn pin(&mut self, key: usize) -> Pin {
        let name = key.to_string();
        let hashed = self.store.hashed(name.as_bytes());
        let pinned = self.store.read(&mut self.local, &hashed, NOW, |item| {
            (Access::Peek, item.pin())
        });
        pinned.unwrap().unwrap()
    }

    fn check_and_release(&mut self, key: usize, pin: Pin) {
        let bytes: Vec<u8> = pin.item().pieces().flatten().copied().collect();
        assert!(
            bytes == value(key, pin.item().value_len()),
            "{key} is damaged"
        );
        self.store.release(&mut self.local, pin);
    }

    fn delete(&mut self, key: usize) {
        let name = key.to_string();
        let hashed = self.store.hashed(name.as_bytes());
        self.store
            .edit(&mut self.local, &hashed, NOW, |entry| entry.remove());
    }

    /// Drains pages while they become empty. Returns how many did.
    fn drain_all(&mut self, mode: DrainMode) -> usize {
        let drain = |_: &usize| {
            self.store
                .drain(&mut self.local, mode, &mut PinnedClasses::default())
        };
        (0..).take_while(drain).count()
    }

    fn within_limit(&self) -> bool {
        self.store.page_bytes() + self.store.index_bytes() <= self.store.memory_limit()
    }

    /// Returns whether no item, no byte and no page is in use.
    fn is_empty(&mut self) -> bool {
        self.store.memory.flush(&mut self.local.magazines);
        let sum = self.store.stats().snapshot();
        (sum.items, sum.item_bytes, self.store.page_bytes()) == (0, 0, 0)
    }
}

/// Stores the value of `key` with `len` bytes.
fn set(store: &Store, local: &mut Local, key: usize, len: usize) -> Result<(), NoMemory> {
    let new = make(store, local, key, len)?;
    link(store, local, key, new);
    Ok(())
}

fn make(store: &Store, local: &mut Local, key: usize, len: usize) -> Result<NewItem, NoMemory> {
    let name = key.to_string();
    let spec = ItemSpec::new(name.as_bytes(), len);
    let value = value(key, len);
    let pieces = std::iter::once(&value[..]);
    store.new_filled(local, &store.hashed(name.as_bytes()), &spec, NOW, pieces)
}

fn link(store: &Store, local: &mut Local, key: usize, new: NewItem) {
    let name = key.to_string();
    let hashed = store.hashed(name.as_bytes());
    store.edit(local, &hashed, NOW, |entry| entry.put(new, 1));
}

/// Stores `count` items of `len` bytes, pins item `pinned` if there is one, and
/// deletes all but every fifth item.
fn thin_out(len: usize, count: usize, pinned: Option<usize>) -> (Bench, Option<Pin>) {
    let mut bench = Bench::new(4096);
    for key in 0..count {
        bench.set(key, len).unwrap();
    }
    let pin = pinned.map(|key| bench.pin(key));
    (0..count)
        .filter(|key| key % 5 != 0)
        .for_each(|key| bench.delete(key));
    bench.store.memory.flush(&mut bench.local.magazines);
    (bench, pin)
}

fn finish(mut bench: Bench, len: usize, count: usize) {
    for key in (0..count).step_by(5) {
        assert_eq!(bench.get(key), Some(len), "{key}");
        bench.delete(key);
    }
    assert!(bench.is_empty());
}

#[test]
fn small_items_move_so_that_pages_run_empty() {
    let (mut bench, _) = thin_out(100, 5000, None);
    let before = bench.store.page_bytes();
    assert!(bench.drain_all(DrainMode::Spare) > 10);
    let after = bench.store.page_bytes();
    assert!(after < before / 2, "{before} {after}");
    finish(bench, 100, 5000);
}

#[test]
fn heads_and_segments_of_large_items_move() {
    for len in [40_000, 70_000, 101_000] {
        let (mut bench, _) = thin_out(len, 200, None);
        let before = bench.store.page_bytes();
        assert!(bench.drain_all(DrainMode::Spare) > 3, "{len}");
        let after = bench.store.page_bytes();
        assert!(after < before, "{len}: {before} {after}");
        assert!(bench.store.stats().snapshot().items_moved > 0);
        finish(bench, len, 200);
    }
}

#[test]
fn an_item_that_is_being_read_keeps_its_place_for_the_reader() {
    for (len, count) in [(100, 5000), (40_000, 200), (101_000, 200)] {
        // Items that are kept, and items that are deleted under the reader.
        for pinned in [0, 5, 6, count - 1] {
            let (mut bench, pin) = thin_out(len, count, Some(pinned));
            bench.drain_all(DrainMode::Spare);
            bench.check_and_release(pinned, pin.unwrap());
            bench.drain_all(DrainMode::Spare);
            finish(bench, len, count);
        }
    }
}

#[test]
fn what_fits_nowhere_is_evicted_by_force_and_nothing_is_lost() {
    for len in [100, 5000, 40_000, 101_000] {
        let mut bench = Bench::new(256);
        let count = 4_000_000 / len;
        (0..count).for_each(|key| bench.set(key, len).unwrap());
        // A page that is full, or the only one of its class, has no room for
        // moved items.
        (0..count).step_by(7).for_each(|key| bench.delete(key));
        bench.store.memory.flush(&mut bench.local.magazines);
        bench.store.set_memory_limit(0);
        bench.drain_all(DrainMode::Forced);
        bench.store.set_memory_limit(1 << 30);
        let left = (0..count).filter(|key| bench.get(*key).is_some()).count();
        assert_eq!(left as u64, bench.store.stats().snapshot().items);
        (0..count).for_each(|key| bench.delete(key));
        assert!(bench.is_empty(), "{len}");
    }
}

#[test]
fn there_is_memory_for_one_size_after_another() {
    let mut bench = Bench::new(64);
    for len in [
        10, 100_000, 700, 31_000, 33_000, 3000, 1_000_000, 50, 200_000,
    ] {
        let count = 4 * 64 * PAGE_BYTES / (len + 64);
        let mut kept = 0;
        for key in 0..count {
            assert_eq!(bench.set(key, len), Ok(()), "{len} {key}");
            // The item may have been evicted because the index grew for it.
            kept += usize::from(bench.get(key) == Some(len));
        }
        assert!(kept >= count * 9 / 10, "{len}: {kept} of {count}");
        while !bench.store.shrink_to_limit(&mut bench.local) {}
        assert!(bench.within_limit(), "{len}");
    }
}

#[test]
fn an_item_may_take_all_the_memory_and_no_more() {
    let mut bench = Bench::new(40);
    (0..100).for_each(|key| bench.set(key, 12_000).unwrap());
    assert_eq!(bench.set(1, 36 * PAGE_BYTES), Ok(()));
    assert_eq!(bench.get(1), Some(36 * PAGE_BYTES));
    assert_eq!(bench.set(2, 41 * PAGE_BYTES), Err(NoMemory));
    assert_eq!(bench.set(3, 500), Ok(()));
    (0..100).for_each(|key| bench.delete(key));
    assert!(bench.is_empty());
}

#[test]
fn free_chunks_of_other_sizes_do_not_stop_a_large_item() {
    let mut bench = Bench::new(60);
    // Leaves one chunk of many classes each in the thread's magazines.
    for len in (0..50).map(|step| step * 8) {
        bench.set(1, len).unwrap();
        bench.delete(1);
    }
    assert!(bench.store.page_bytes() > 30 * PAGE_BYTES);
    assert_eq!(bench.set(2, 20 * PAGE_BYTES), Ok(()));
}

#[test]
fn free_chunks_that_another_thread_keeps_are_asked_back() {
    let mut bench = Bench::new(60);
    for len in (0..50).map(|step| step * 8) {
        bench.set(1, len).unwrap();
        bench.delete(1);
    }
    let mut other = bench.store.local();
    std::mem::swap(&mut other, &mut bench.local);
    assert_eq!(bench.set(2, 20 * PAGE_BYTES), Err(NoMemory));
    bench.store.prepare_to_wait(&mut other);
    assert_eq!(bench.set(2, 20 * PAGE_BYTES), Ok(()));
}

#[test]
fn one_item_in_use_does_not_hold_up_other_pages() {
    let mut bench = Bench::new(80);
    let per_page = per_page(class_for(100).unwrap());
    let mut pins = Vec::new();
    // Every third page has a pinned item.
    for key in 0..50 * per_page {
        bench.set(key, 70).unwrap();
        if key % per_page == 5 && (key / per_page).is_multiple_of(3) {
            pins.push((key, bench.pin(key)));
        }
    }
    let free = bench.store.memory_limit() - bench.store.index_bytes() - bench.store.page_bytes();
    assert_eq!(bench.set(1 << 20, free + 8 * PAGE_BYTES), Ok(()));
    for (key, pin) in pins {
        bench.check_and_release(key, pin);
    }
}

#[test]
fn a_lowered_limit_is_reached() {
    let mut bench = Bench::new(256);
    (0..3000).for_each(|key| bench.set(key, 10 + key % 50 * 100).unwrap());
    let pages = |count| bench.store.index_bytes() + count * PAGE_BYTES;
    let (low, high) = (pages(20), pages(256));
    bench.store.set_memory_limit(low);
    while !bench.store.shrink_to_limit(&mut bench.local) {}
    assert!(bench.within_limit());
    assert!(
        bench.store.page_bytes() > 10 * PAGE_BYTES,
        "not all is evicted"
    );
    bench.store.set_memory_limit(high);
    (0..3000).for_each(|key| bench.set(key, 1000).unwrap());
    (0..3000).for_each(|key| bench.delete(key));
    assert!(bench.is_empty());
}

#[test]
fn nobody_is_refused_while_a_lowered_limit_is_not_reached_yet() {
    let mut bench = Bench::new(1024);
    (0..1000).for_each(|key| bench.set(key, 30_000).unwrap());
    let low = bench.store.index_bytes() + 20 * PAGE_BYTES;
    bench.store.set_memory_limit(low);
    for (key, len) in [(1000, 30_000), (1001, 100_000), (1002, 50)] {
        assert_eq!(bench.set(key, len), Ok(()));
        assert!(!bench.within_limit(), "in one go would take too long");
    }
    while !bench.store.shrink_to_limit(&mut bench.local) {}
    assert!(bench.within_limit());
    assert_eq!(bench.set(1003, 30_000), Ok(()));
    assert!(bench.within_limit());
}

#[test]
fn the_index_does_not_grow_under_eviction_alone() {
    let mut bench = Bench::new(160);
    let mut count = 0;
    while bench.store.stats().snapshot().evictions == 0 {
        bench.set(count, 20).unwrap();
        count += 1;
    }
    let full = bench.store.index_bytes();
    for key in count..8 * count {
        bench.set(key, 20).unwrap();
    }
    for shard in 0..bench.store.shard_count() {
        let now = Now::from_millis(10_000);
        bench.store.sweep_shard(&mut bench.local, shard, now);
    }
    assert!(
        bench.store.index_bytes() <= full + full / 4,
        "{full} {}",
        bench.store.index_bytes()
    );
}

/// Stores `count` items that expire at `expiry`, then makes the store give up
/// most of its pages at `now`.
fn shrunk(count: usize, len: usize, expiry: Expiry, now: Now) -> Bench {
    let mut bench = Bench::new(200);
    for key in 0..count {
        let name = key.to_string();
        let spec = ItemSpec {
            expiry,
            ..ItemSpec::new(name.as_bytes(), len)
        };
        let hashed = bench.store.hashed(name.as_bytes());
        let value = value(key, len);
        let pieces = std::iter::once(&value[..]);
        let (store, local) = (&bench.store, &mut bench.local);
        let new = store.new_filled(local, &hashed, &spec, NOW, pieces);
        store.edit(local, &hashed, NOW, |entry| entry.put(new.unwrap(), 1));
    }
    bench.local.now = now;
    let low = bench.store.index_bytes() + 20 * PAGE_BYTES;
    bench.store.set_memory_limit(low);
    while !bench.store.shrink_to_limit(&mut bench.local) {}
    bench
}

#[test]
fn a_drained_page_evicts_only_live_items() {
    let later = Now::from_millis(NOW.millis() + 60_000);
    let mut for_page = 0;
    // In one chunk, and chained.
    for (count, len) in [(150, 30_000), (50, 100_000)] {
        let expired = shrunk(count, len, Expiry::from_seconds(2, NOW), later);
        let sum = expired.store.stats().snapshot();
        assert_eq!(sum.evictions, 0, "{len}");
        assert!(sum.reclaimed > 0, "{len}");
        let live = shrunk(count, len, Expiry::NEVER, later);
        let sum = live.store.stats().snapshot();
        assert!(sum.evictions > 0, "{len}");
        for_page += sum.evicted_for_page;
        assert_eq!(sum.reclaimed, 0, "{len}");
        // The ghosts of so small a store are few.
        let mut keys = 0..count;
        let has_ghost = |key: usize| {
            let hash = live.store.hashed(key.to_string().as_bytes()).hash;
            live.store.ghosts.find_uses(hash).is_some()
        };
        assert!(keys.any(has_ghost), "{len}");
    }
    assert!(for_page > 0, "none was evicted for its page");
}
