//! Tests of flushes: the generation of an item, and the sweeps that remove old
//! items before their generation number is used again.

use std::thread;

use super::{Bench, NOW};
use crate::store::Access;
use crate::store::evict::sweep::ShardSweep;

/// Number of flushes after which a generation number is used again.
const GENERATIONS: usize = 256;

/// Returns keys that belong to the store's first shard.
fn keys_of_one_shard(bench: &Bench, count: usize) -> Vec<usize> {
    let is_there = |key: &usize| {
        let hash = bench.store.hashed(key.to_string().as_bytes()).hash;
        bench.store.map.shard_index(hash) == 0
    };
    (0..).filter(is_there).take(count).collect()
}

#[test]
fn a_flush_takes_what_is_there_and_nothing_else() {
    let mut bench = Bench::new(60);
    bench.set(1, 10).unwrap();
    let new = bench.make(2, 10).unwrap();
    bench.store.flush_all(&mut bench.local);
    bench.link(2, new);
    assert_eq!(bench.get(1), None);
    assert_eq!(bench.get(2), Some(10), "it was stored after the flush");
}

#[test]
fn what_was_flushed_stays_away_when_generations_come_again() {
    let mut bench = Bench::new(200);
    // A look-up removes a flushed item, so use another key for each flush.
    let keys = 3 * GENERATIONS;
    (0..keys).for_each(|key| bench.set(key, 10).unwrap());
    for key in 0..keys {
        bench.store.flush_all(&mut bench.local);
        assert_eq!(bench.get(key), None, "after {} flushes", key + 1);
        let late = keys + key;
        bench.set(late, 10).unwrap();
        assert_eq!(bench.get(late), Some(10));
    }
}

#[test]
fn what_was_flushed_stays_away_though_all_flush_at_once() {
    const THREADS: usize = 4;
    let mut bench = Bench::new(400);
    (0..THREADS * GENERATIONS).for_each(|key| bench.set(key, 10).unwrap());
    let store = &bench.store;
    thread::scope(|scope| {
        for keys in (0..THREADS).map(|part| part * GENERATIONS..(part + 1) * GENERATIONS) {
            scope.spawn(move || {
                let mut local = store.local();
                for key in keys {
                    store.flush_all(&mut local);
                    let name = key.to_string();
                    let hashed = store.hashed(name.as_bytes());
                    let found = store.read(&mut local, &hashed, NOW, |_| (Access::Peek, ()));
                    assert!(found.is_err(), "{key} came back");
                }
            });
        }
    });
}

#[test]
fn a_sweep_misses_nothing_where_the_table_is_rebuilt_under_it() {
    let mut bench = Bench::new(400);
    // First enough items for a table of 2048 buckets, then few enough for 1024.
    let keys = keys_of_one_shard(&bench, 1200);
    keys.iter().for_each(|key| bench.set(*key, 10).unwrap());
    keys[700..].iter().for_each(|key| bench.delete(*key));
    bench.store.flush_all(&mut bench.local);
    let mut sweep = ShardSweep::new(0);
    assert!(
        bench
            .store
            .sweep_part(&mut bench.local, &mut sweep, NOW, &mut |_| ())
    );
    let before = bench.store.stats().snapshot().items;
    assert!(0 < before && before < 700, "a part of them is gone");
    assert!(bench.store.map.write_at(0).shrink() > 0);
    while bench
        .store
        .sweep_part(&mut bench.local, &mut sweep, NOW, &mut |_| ())
    {}
    assert_eq!(bench.store.stats().snapshot().items, 0);
}

#[test]
fn a_sweep_ends_though_the_table_is_rebuilt_again_and_again() {
    let mut bench = Bench::new(400);
    let keys = keys_of_one_shard(&bench, 1200);
    let mut sweep = ShardSweep::new(0);
    let mut parts = 0;
    loop {
        keys.iter().for_each(|key| bench.set(*key, 10).unwrap());
        if !bench
            .store
            .sweep_part(&mut bench.local, &mut sweep, NOW, &mut |_| ())
        {
            break;
        }
        keys[10..].iter().for_each(|key| bench.delete(*key));
        assert!(bench.store.map.write_at(0).shrink() > 0);
        parts += 1;
        assert!(parts < 10, "it begins anew for ever");
    }
    assert!(parts > 2, "{parts}");
}
