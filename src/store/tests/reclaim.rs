//! Tests of limbo: when what was unlinked is freed, step by step in one thread.

use std::thread;

use crate::store::evict::reclaim::{DrainMode, EVICT_AHEAD_MAX};
use crate::store::memory::classes::{PAGE_BYTES, chunk_bytes, class_for, per_page};
use crate::store::reclaim::limbo::{LIMBO_BYTES_MAX, LIMBO_CHUNKS_MAX};
use crate::store::reclaim::retire::TABLE_BYTES_MAX;
use crate::store::tests::{Bench, set};
use crate::store::{Local, NoMemory, Options, Store};
use crate::sync::{AtomicBool, Ordering};

/// Returns the local part of another thread, which is inside.
fn reader(store: &Store) -> Local {
    let mut reader = store.local();
    store.enter(&mut reader);
    reader
}

#[test]
fn an_item_outlives_readers_that_may_have_found_it() {
    let mut bench = Bench::new(80);
    let mut other = reader(&bench.store);
    bench.set(1, 100).unwrap();
    bench.set(1, 100).unwrap();
    bench.delete(1);
    assert!(!bench.is_empty(), "both items may be read");
    bench.store.free_retired(&mut bench.local);
    assert!(!bench.is_empty());
    // One that entered later cannot have found them.
    let mut later = reader(&bench.store);
    bench.store.leave(&mut other);
    assert!(bench.store.free_retired(&mut bench.local));
    assert!(bench.is_empty());
    bench.store.leave(&mut later);
}

#[test]
fn the_own_epoch_keeps_nothing() {
    let mut bench = Bench::new(80);
    bench.store.enter(&mut bench.local);
    bench.set(1, 100).unwrap();
    bench.delete(1);
    bench.store.leave(&mut bench.local);
    assert!(bench.is_empty());
}

#[test]
fn a_thread_that_waits_or_ends_leaves_its_limbo_to_others() {
    let mut bench = Bench::new(80);
    for ends in [false, true] {
        let mut other = reader(&bench.store);
        bench.set(1, 100).unwrap();
        bench.delete(1);
        bench.store.memory.request_flush();
        bench.store.prepare_to_wait(&mut bench.local);
        assert!(bench.local.limbo.is_empty() && !bench.is_empty());
        if ends {
            bench.local = bench.store.local();
        }
        bench.store.leave(&mut other);
        bench.store.memory.flush(&mut other.magazines);
        assert!(bench.is_empty());
    }
    // Places of ended threads are used again.
    for _ in 0..1000 {
        bench.store.leave(&mut reader(&bench.store));
    }
    assert!(bench.store.local().limbo.enter());
}

#[test]
fn a_full_limbo_is_emptied_before_more_is_allocated() {
    for len in [10, 8100] {
        let mut bench = Bench::new(4096);
        let bytes = chunk_bytes(class_for(len + 30).unwrap());
        let most = LIMBO_CHUNKS_MAX.min(LIMBO_BYTES_MAX / bytes);
        bench.store.enter(&mut bench.local);
        (0..=most).for_each(|key| bench.set(key, len).unwrap());
        let mut other = reader(&bench.store);
        for key in 0..=most {
            assert!(!bench.local.limbo.is_full(), "{key}");
            bench.delete(key);
        }
        assert!(bench.local.limbo.is_full(), "{most} of {bytes} bytes");
        bench.store.leave(&mut other);
        bench.set(most + 1, len).unwrap();
        assert!(bench.local.limbo.is_empty());
    }
}

#[test]
fn without_eviction_memory_in_limbo_is_waited_for() {
    let options = Options {
        evict: false,
        ..Bench::new(0).store.options
    };
    let store = Store::new(options);
    store.set_memory_limit(store.index_bytes() + 4 * PAGE_BYTES);
    let local = store.local();
    let mut bench = Bench { store, local };
    let keys = (0..)
        .take_while(|key| bench.set(*key, 1000).is_ok())
        .count();
    let mut other = reader(&bench.store);
    bench.delete(0);
    assert_eq!(bench.set(keys, 1000), Err(NoMemory), "it is still read");
    let Bench { store, local } = &mut bench;
    thread::scope(|scope| {
        scope.spawn(|| store.leave(&mut other));
        store.wait_for_readers(local);
    });
    assert_eq!(bench.set(keys, 1000), Ok(()));
}

/// Stores new items at the memory limit in batches, while a reader enters and
/// leaves if `reads`. Returns the number of evictions.
fn evictions(reads: bool) -> u64 {
    let mut bench = Bench::new(80);
    let keys = 100 * per_page(class_for(130).unwrap());
    (0..keys).for_each(|key| bench.set(key, 100).unwrap());
    let Bench { store, local } = &mut bench;
    let before = store.stats().snapshot().evictions;
    assert!(before > 0, "the limit is reached");
    let done = AtomicBool::new(!reads);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut reader = store.local();
            while !done.load(Ordering::Relaxed) {
                store.enter(&mut reader);
                thread::yield_now();
                store.leave(&mut reader);
            }
        });
        for batch in 0..1600 {
            store.enter(local);
            (0..32).for_each(|key| set(store, local, keys + batch * 32 + key, 100).unwrap());
            store.leave(local);
        }
        done.store(true, Ordering::Relaxed);
    });
    store.stats().snapshot().evictions - before
}

#[test]
fn readers_do_not_make_a_set_evict_more_than_one_item() {
    let (alone, beside) = (evictions(false), evictions(true));
    // Those evicted ahead, and a page's worth, are free or in limbo at the end.
    let ahead = (EVICT_AHEAD_MAX + per_page(class_for(130).unwrap()) + 32) as u64;
    assert!(beside <= alone + ahead, "{beside}, {alone} without readers");
}

#[test]
fn a_page_is_given_up_only_when_nobody_reads_what_lay_in_it() {
    let mut bench = Bench::new(4096);
    let keys = 6 * per_page(class_for(1030).unwrap());
    (0..keys).for_each(|key| bench.set(key, 1000).unwrap());
    (0..keys)
        .filter(|key| key % 3 != 0)
        .for_each(|key| bench.delete(key));
    bench.store.memory.flush(&mut bench.local.magazines);
    let mut other = reader(&bench.store);
    assert_eq!(
        bench.drain_all(DrainMode::Spare),
        0,
        "its items may be read"
    );
    bench.store.leave(&mut other);
    bench.store.free_retired(&mut bench.local);
    assert!(bench.drain_all(DrainMode::Spare) >= 2);
    for key in (0..keys).step_by(3) {
        assert_eq!(bench.get(key), Some(1000), "{key}");
    }
}

#[test]
fn a_replaced_table_is_freed_when_its_readers_have_left() {
    let mut bench = Bench::new(4096);
    let mut other = reader(&bench.store);
    bench.store.enter(&mut bench.local);
    (0..10_000).for_each(|key| bench.set(key, 10).unwrap());
    assert!(bench.store.reclaim.table_bytes() > 0, "tables have grown");
    bench.store.leave(&mut bench.local);
    assert!(bench.store.reclaim.table_bytes() > 0, "one may read them");
    bench.store.leave(&mut other);
    assert_eq!(bench.store.reclaim.table_bytes(), 0);
}

#[test]
fn replaced_tables_are_waited_for_when_they_take_much_memory() {
    let bench = Bench::new(0);
    let mut local = bench.store.local();
    let reclaim = &bench.store.reclaim;
    let mut other = reader(&bench.store);
    reclaim.retire_table(Box::new(()), TABLE_BYTES_MAX + 1);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::yield_now();
            bench.store.leave(&mut other);
        });
        bench.store.free_tables(&mut local);
        assert_eq!(reclaim.table_bytes(), 0);
    });
}
