//! Benchmarks the store, per key, by batch size, number of keys and threads:
//! `cargo bench --bench store`.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use rustcached::config::Config;
use rustcached::store::{Access, Hashed, ItemSpec, Local, Options, Store};
use rustcached::time::{Clock, Now};

const VALUE: [u8; 32] = [b'v'; 32];
const KEY_BYTES: usize = 20;
/// Length of the key sequence that threads request. Its items exceed the CPU's
/// caches.
const SEQUENCE: usize = 1 << 20;

/// A store filled with keys, and a random sequence of these keys.
struct Bench {
    store: Store,
    keys: Vec<[u8; KEY_BYTES]>,
    now: Now,
}

impl Bench {
    fn new(items: usize) -> Self {
        let (store, _, now) = filled(1 << 30, items);
        let all: Vec<_> = (0..items).map(key).collect();
        let mut random = 1_u64;
        let keys = (0..SEQUENCE).map(|_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            all[(random >> 33) as usize % items]
        });
        let keys = keys.collect();
        Self { store, keys, now }
    }

    /// Runs operations on `count` keys, beginning at index `start` of the
    /// sequence. Prefetches the keys of each batch of `batch` before the first
    /// operation on it, as the server does.
    fn run(&self, start: usize, count: u64, batch: usize, mix: Mix) {
        let mut calls = 0..;
        let mut local = self.store.local();
        let mut keys = self.keys.iter().cycle().skip(start % SEQUENCE);
        let mut done = 0;
        while done < count {
            let hashed: Vec<Hashed<'_>> = keys
                .by_ref()
                .take(batch)
                .map(|key| self.store.hashed(key))
                .collect();
            self.store.enter(&mut local);
            let sets = hashed
                .iter()
                .zip(&mut calls)
                .map(|(_, call)| mix.sets(call));
            let sets: Vec<bool> = sets.collect();
            if batch > 1 {
                let changed = hashed.iter().zip(&sets).filter(|(_, sets)| **sets);
                self.store.prefetch_locks(changed.map(|(key, _)| key.hash));
                let hashes: Vec<u64> = hashed.iter().map(|key| key.hash).collect();
                self.store.prefetch(&mut local, &hashes);
            }
            for (key, sets) in hashed.iter().zip(sets) {
                let operation = if sets { set } else { get };
                operation(&self.store, &mut local, key, self.now);
            }
            self.store.leave(&mut local);
            done += batch as u64;
        }
    }
}

/// Which operations are sets; the others are gets.
#[derive(Clone, Copy)]
enum Mix {
    Gets,
    Sets,
    /// One in this many.
    OneSetIn(u64),
}

impl Mix {
    /// Returns whether a thread's operation of this number is a set.
    fn sets(self, number: u64) -> bool {
        match self {
            Mix::Gets => false,
            Mix::Sets => true,
            Mix::OneSetIn(part) => number.is_multiple_of(part),
        }
    }
}

fn key(number: usize) -> [u8; KEY_BYTES] {
    let text = format!("{number:0KEY_BYTES$}");
    text.as_bytes()
        .try_into()
        .expect("it is padded to the length")
}

fn get(store: &Store, local: &mut Local, key: &Hashed<'_>, now: Now) {
    let found = store.read_unlocked(local, key, now, |item| {
        (Access::Counted, black_box(item.value_len()))
    });
    assert_eq!(found, Ok(VALUE.len()));
}

fn set(store: &Store, local: &mut Local, key: &Hashed<'_>, now: Now) {
    let spec = ItemSpec::new(key.key, VALUE.len());
    let pieces = std::iter::once(&VALUE[..]);
    let new = store
        .new_filled(local, key, &spec, now, pieces)
        .expect("there is memory");
    let cas = store.next_cas();
    store.edit(local, key, now, |entry| entry.put(new, cas));
}

fn operations(criterion: &mut Criterion) {
    for (items, named) in [(1_000, "1k"), (100_000, "100k"), (1_000_000, "1M")] {
        let bench = Bench::new(items);
        let mut group = criterion.benchmark_group(format!("store {named} keys"));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(800))
            .throughput(Throughput::Elements(1));
        for (name, mix) in [("get", Mix::Gets), ("set", Mix::Sets)] {
            for batch in [1, 8, 32] {
                for threads in [1, 2] {
                    let id = BenchmarkId::new(name, format!("batch {batch}, {threads} threads"));
                    group.bench_function(id, |bencher| {
                        bencher.iter_custom(|count| timed(&bench, count, batch, threads, mix));
                    });
                }
            }
        }
        group.finish();
    }
}

/// Returns the time that `threads` threads take for `count` operations each.
fn timed(bench: &Bench, count: u64, batch: usize, threads: usize, mix: Mix) -> Duration {
    let begun = Instant::now();
    thread::scope(|scope| {
        for number in 0..threads {
            let start = number * SEQUENCE / threads;
            scope.spawn(move || bench.run(start, count, batch, mix));
        }
    });
    begun.elapsed()
}

/// Compares the throughput of two threads with that of a single thread, by
/// share of sets and by key popularity, in batches of 32.
fn scaling(criterion: &mut Criterion) {
    const ITEMS: usize = 100_000;
    let mut group = criterion.benchmark_group("store scaling");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .throughput(Throughput::Elements(1));
    let mut bench = Bench::new(ITEMS);
    let uniform = bench.keys.clone();
    let zipf = zipf_sequence(ITEMS);
    for (popularity, keys) in [
        ("uniform", uniform),
        ("zipf 0.99", zipf),
        ("one key", vec![key(0); SEQUENCE]),
    ] {
        bench.keys = keys;
        for (name, mix) in [
            ("reads", Mix::Gets),
            ("5 % sets", Mix::OneSetIn(20)),
            ("50 % sets", Mix::OneSetIn(2)),
        ] {
            for threads in [1, 2] {
                let id = BenchmarkId::new(popularity, format!("{name}, {threads} threads"));
                group.bench_function(id, |bencher| {
                    bencher.iter_custom(|count| timed(&bench, count, 32, threads, mix));
                });
            }
        }
    }
    group.finish();
}

/// Draws keys from a Zipf distribution with exponent 0.99, by inverting the
/// cumulative distribution.
fn zipf_sequence(items: usize) -> Vec<[u8; KEY_BYTES]> {
    let mut sums = Vec::with_capacity(items);
    let mut sum = 0.0;
    for rank in 1..=items {
        sum += 1.0 / (rank as f64).powf(0.99);
        sums.push(sum);
    }
    let mut random = 1_u64;
    let draw = |_| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let wanted = (random >> 11) as f64 / (1u64 << 53) as f64 * sum;
        // Scatter the ranks, or popular items would be neighbours in memory.
        let rank = sums.partition_point(|sum| *sum < wanted);
        key(rank * 7919 % items)
    };
    (0..SEQUENCE).map(draw).collect()
}

/// Measures a set of a new key with free memory and at the memory limit. The
/// difference is the cost of eviction. Stores are filled outside the
/// measurement.
fn eviction(criterion: &mut Criterion) {
    const SMALL: usize = 64 << 20;
    const KEYS: usize = 200_000;
    let mut group = criterion.benchmark_group("store new keys");
    group.sample_size(10).throughput(Throughput::Elements(1));
    for (name, max_memory, before) in [
        ("with room", 4 * SMALL, 0),
        ("at the limit", SMALL, 1_500_000),
    ] {
        let mut number = before;
        let mut full = filled(max_memory, before);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let mut elapsed = Duration::ZERO;
                for done in (0..count as usize).step_by(KEYS) {
                    if before == 0 {
                        full = filled(max_memory, 0);
                    }
                    let end = number + (count as usize - done).min(KEYS);
                    let (store, local, now) = &mut full;
                    let begun = Instant::now();
                    for number in number..end {
                        set(store, local, &store.hashed(&key(number)), *now);
                    }
                    elapsed += begun.elapsed();
                    number = end;
                }
                elapsed
            });
        });
        let evicted = full.0.stats().snapshot().evictions;
        assert_eq!(evicted > 0, before > 0, "{evicted} evictions");
    }
    group.finish();
}

/// Returns a store after setting `keys` distinct keys.
fn filled(max_memory: usize, keys: usize) -> (Store, Local, Now) {
    let store = Store::new(Options {
        max_memory,
        ..Options::from(&Config::default())
    });
    let now = Clock::start().now();
    let mut local = store.local();
    for key in (0..keys).map(key) {
        set(&store, &mut local, &store.hashed(&key), now);
    }
    (store, local, now)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    operations(&mut criterion);
    scaling(&mut criterion);
    eviction(&mut criterion);
    criterion.final_summary();
}
