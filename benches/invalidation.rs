//! Measures invalidations: what an outstanding one costs a lookup, and what
//! invalidating one of 1,000 prefixes does to a store of millions of items:
//! `cargo bench --bench invalidation [-- <items>]`.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustcached::config::Config;
use rustcached::shared::Shared;
use rustcached::store::{Access, Effect, Hashed, ItemSpec, Local, Name, Options, Store};
use rustcached::time::Now;
use rustcached::upkeep::Upkeep;

const PREFIXES: usize = 1000;
const BATCH: usize = 32;
const VALUE: [u8; 16] = [b'v'; 16];
/// Bytes of memory for an item, roughly.
const ITEM_BYTES: usize = 112;
/// Items of which lookups are measured.
const LOOKED_UP: usize = 100_000;
const ROUNDS: usize = 101;
const LOOKUPS: usize = 200_000;

fn key(number: usize) -> String {
    format!("user:{:03}:{:09}", number % PREFIXES, number)
}

fn options(max_memory: usize) -> Options {
    Options {
        max_memory,
        ..Options::from(&Config::default())
    }
}

fn set(store: &Store, local: &mut Local, key: &str, tag: Option<&[u8]>, now: Now) {
    let tags = store.tags(tag.into_iter());
    let hashed = store.hashed(key.as_bytes());
    let spec = ItemSpec {
        tags: Some(&tags),
        ..ItemSpec::new(hashed.key, VALUE.len())
    };
    let pieces = std::iter::once(&VALUE[..]);
    let new = store.new_filled(local, &hashed, &spec, now, pieces);
    let new = new.expect("there is memory");
    store.edit(local, &hashed, now, |entry| {
        entry.put_born(new, store.draw(None));
    });
}

/// Looks keys up in batches of 32, as workers do. Returns nanoseconds per key.
fn look_up(store: &Store, local: &mut Local, keys: &[String], start: usize, now: Now) -> f64 {
    let mut numbers = (0..LOOKUPS).map(|number| &keys[(start + number * 7919) % keys.len()]);
    let begun = Instant::now();
    for _ in 0..LOOKUPS / BATCH {
        let batch: [Hashed<'_>; BATCH] = std::array::from_fn(|_| {
            let key = numbers.next().expect("there are enough");
            store.hashed(key.as_bytes())
        });
        store.prefetch(local, &batch.map(|key| key.hash));
        for key in &batch {
            let found = store.read_unlocked(local, key, now, |item| {
                (Access::Counted, black_box(item.value_len()))
            });
            assert!(found.is_ok());
        }
    }
    begun.elapsed().as_nanos() as f64 / LOOKUPS as f64
}

/// Measures lookups with and without outstanding invalidations. Rounds of all
/// kinds alternate, so that a slower machine slows all of them.
fn lookups(tag: Option<&[u8]>, items: &str) {
    let now = Now::from_millis(10_000);
    let kinds: [(&str, &[Name<'_>]); 5] = [
        ("none", &[]),
        ("a tag", &[Name::Tag(b"other")]),
        (
            "a prefix of another length",
            &[Name::Prefix(b"somebody:7:")],
        ),
        (
            "a prefix of the keys' length",
            &[Name::Prefix(b"user:xyz:")],
        ),
        (
            "two prefixes of theirs and a tag",
            &[
                Name::Prefix(b"user:xyz:"),
                Name::Prefix(b"abcd:"),
                Name::Tag(b"other"),
            ],
        ),
    ];
    let keys: Vec<String> = (0..LOOKED_UP).map(key).collect();
    // In one store, and with the same items: another place in memory would
    // weigh more than what is measured.
    let store = Store::new(options(256 << 20));
    let mut local = store.local();
    for key in &keys {
        set(&store, &mut local, key, tag, now);
    }
    let mut nanos = vec![Vec::new(); kinds.len()];
    for round in 0..ROUNDS {
        for (kind, (_, names)) in kinds.iter().enumerate() {
            for name in *names {
                store
                    .invalidate(&mut local, *name, Effect::Delete)
                    .expect("a good name");
            }
            let start = round * 31;
            nanos[kind].push(look_up(&store, &mut local, &keys, start, now));
            // No item is concerned.
            if store.begin_lap() {
                store.end_lap();
            }
        }
    }
    let none = nanos[0].clone();
    for ((name, _), nanos) in kinds.iter().zip(nanos) {
        // The least time is that without disturbance by other processes.
        let least = |nanos: &[f64]| nanos.iter().copied().fold(f64::MAX, f64::min);
        let (more, nanos) = (least(&nanos) - least(&none), least(&nanos));
        println!(
            "get, 32 keys, {items}; outstanding: {name:34} {nanos:7.1} ns per get, {more:+6.1}"
        );
    }
}

/// Invalidates one of 1,000 prefixes beside upkeep and a thread that looks keys
/// up.
fn one_of_many(items: usize) {
    let config = Config {
        max_memory: items * ITEM_BYTES + (64 << 20),
        ..Config::default()
    };
    let shared = Arc::new(Shared::new(config));
    let (stats, events) = (Arc::clone(&shared.stats), Arc::clone(&shared.events));
    let options = Options::from(&shared.config);
    let store = Arc::new(Store::with_telemetry(options, stats, events));
    let mut local = store.local();
    let now = shared.clock.now();
    for number in 0..items {
        set(&store, &mut local, &key(number), None, now);
    }
    let filled = shared.stats.snapshot();
    assert_eq!((filled.items, filled.evictions), (items as u64, 0));
    let pages = store.page_bytes();
    let ended = &AtomicBool::new(false);
    let longest = &AtomicU64::new(0);
    thread::scope(|scope| {
        let (upkeep, of_shared) = (Arc::clone(&store), Arc::clone(&shared));
        scope.spawn(move || {
            let mut upkeep = Upkeep::new(upkeep, of_shared);
            while !ended.load(Ordering::Relaxed) {
                thread::sleep(upkeep.step());
            }
        });
        let (store, shared) = (&store, &shared);
        scope.spawn(move || {
            let mut local = store.local();
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                let begun = Instant::now();
                for _ in 0..BATCH {
                    number = (number + 7919) % items;
                    let key = key(number);
                    let hashed = store.hashed(key.as_bytes());
                    let now = shared.clock.now();
                    let _ = store.read_unlocked(&mut local, &hashed, now, |item| {
                        (Access::Counted, black_box(item.value_len()))
                    });
                }
                let nanos = begun.elapsed().as_nanos() as u64;
                longest.fetch_max(nanos, Ordering::Relaxed);
            }
        });
        thread::sleep(Duration::from_millis(500));
        let before = longest.swap(0, Ordering::Relaxed);
        for turn in 0..3 {
            let prefix = format!("user:{:03}:", 7 + turn);
            let name = Name::Prefix(prefix.as_bytes());
            let items_before = shared.stats.snapshot().items;
            let begun = Instant::now();
            store
                .invalidate(&mut local, name, Effect::Delete)
                .expect("a good name");
            let caller = begun.elapsed();
            let gone = items_before - (items / PREFIXES) as u64;
            let wait = |ready: &dyn Fn() -> bool| {
                while !ready() {
                    thread::sleep(Duration::from_millis(1));
                }
                begun.elapsed().as_secs_f64()
            };
            let reclaimed = wait(&|| shared.stats.snapshot().items <= gone);
            let free = wait(&|| !store.invalidation_state().is_outstanding);
            let pause = longest.swap(0, Ordering::Relaxed);
            println!(
                "{items} items, prefix {prefix}: {:.1} us for the caller, items gone after \
                 {reclaimed:.2} s, lookups free again after {free:.2} s; longest batch of 32 \
                 lookups {:.2} ms (before: {:.2} ms)",
                caller.as_secs_f64() * 1e6,
                pause as f64 / 1e6,
                before as f64 / 1e6
            );
        }
        let name = Name::Prefix(b"user:");
        let begun = Instant::now();
        store
            .invalidate(&mut local, name, Effect::Delete)
            .expect("a good name");
        let caller = begun.elapsed();
        while shared.stats.snapshot().items > 0 || store.invalidation_state().is_outstanding {
            thread::sleep(Duration::from_millis(1));
        }
        let gone = begun.elapsed().as_secs_f64();
        while store.page_bytes() > pages / 20 + (4 << 20) {
            thread::sleep(Duration::from_millis(1));
        }
        println!(
            "{items} items, all of them: {:.1} us for the caller, items gone after {gone:.2} s, \
             95 % of {} MiB of pages free after {:.2} s; longest batch of 32 lookups {:.2} ms",
            caller.as_secs_f64() * 1e6,
            pages >> 20,
            begun.elapsed().as_secs_f64(),
            longest.load(Ordering::Relaxed) as f64 / 1e6
        );
        ended.store(true, Ordering::Relaxed);
    });
}

fn main() {
    let items = std::env::args().find_map(|argument| argument.parse().ok());
    lookups(None, "untagged items");
    lookups(Some(b"tag"), "items with a tag");
    one_of_many(items.unwrap_or(10_000_000));
}
