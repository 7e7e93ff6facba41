//! Hit ratio of the store under memory pressure, on synthetic request streams
//! through its public interface, compared with an LRU of the same size.
//! Requests are seeded. Only the hash seed differs between runs, and the bounds
//! allow for that. Every miss is followed by a set.

use std::collections::{BTreeMap, HashMap};

use rustcached::config::{Eviction, Objective};
use rustcached::store::{Access, ItemSpec, Local, Options, Store};
use rustcached::time::{Expiry, Now};
use rustcached_bench::random::{Random, Zipf};

const LIMIT: usize = 8 << 20;
/// Value size in bytes where the size does not matter.
const VALUE: usize = 200;
/// Approximate bytes per item in addition to its value, for the LRU.
const OVERHEAD: usize = 48;
const VALUE_MAX: usize = 64 * 1024;
/// Maximum number of windows to wait for an adaptation. A window is as many
/// requests as fill half the memory.
const WINDOWS_MAX: usize = 60;

struct Cache {
    store: Store,
    local: Local,
    now: Now,
    bytes: Vec<u8>,
}

impl Cache {
    fn new(eviction: Eviction) -> Self {
        let store = Store::new(Options {
            max_memory: LIMIT,
            evict: true,
            max_item_size: 1 << 20,
            eviction,
            cas: true,
            delimiter: b':',
        });
        Self {
            local: store.local(),
            store,
            now: Now::from_millis(10_000),
            bytes: vec![b'x'; VALUE_MAX],
        }
    }

    /// Gets a key. Returns whether it was a hit.
    fn get(&mut self, key: u64) -> bool {
        let name = name(key);
        let hashed = self.store.hashed(&name);
        let found = self.store.read(&mut self.local, &hashed, self.now, |item| {
            assert_eq!(item.key(), name);
            (Access::Counted, ())
        });
        found.is_ok()
    }

    /// Returns whether a key is present, without counting as an access.
    fn has(&mut self, key: u64) -> bool {
        let name = name(key);
        let hashed = self.store.hashed(&name);
        let found = self
            .store
            .read(&mut self.local, &hashed, self.now, |_| (Access::Peek, ()));
        found.is_ok()
    }

    fn set(&mut self, key: u64, size: usize, expiry: Expiry) {
        let name = name(key);
        let hashed = self.store.hashed(&name);
        let spec = ItemSpec {
            expiry,
            ..ItemSpec::new(&name, size)
        };
        let pieces = std::iter::once(&self.bytes[..size]);
        let new = self
            .store
            .new_filled(&mut self.local, &hashed, &spec, self.now, pieces);
        let new = new.expect("there is always something to evict");
        let cas = self.store.next_cas();
        self.store
            .edit(&mut self.local, &hashed, self.now, |entry| {
                entry.put(new, cas)
            });
    }

    fn evictions(&self) -> u64 {
        self.store.stats().snapshot().evictions
    }

    fn sweep(&mut self) {
        for shard in 0..self.store.shard_count() {
            self.store.sweep_shard(&mut self.local, shard, self.now);
        }
    }
}

fn name(key: u64) -> [u8; 16] {
    let mut name = [b'0'; 16];
    let mut rest = key;
    for digit in name.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    name
}

/// An LRU cache limited to `limit` bytes.
struct Lru {
    limit: usize,
    used: usize,
    time: u64,
    items: HashMap<u64, (u64, usize)>,
    order: BTreeMap<u64, u64>,
}

impl Lru {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            time: 0,
            items: HashMap::new(),
            order: BTreeMap::new(),
        }
    }

    /// Gets a key and sets it on a miss. Returns whether it was a hit.
    fn request(&mut self, key: u64, size: usize) -> bool {
        self.time += 1;
        let bytes = size + OVERHEAD;
        let before = self.items.insert(key, (self.time, bytes));
        self.order.insert(self.time, key);
        if let Some((time, _)) = before {
            self.order.remove(&time);
            return true;
        }
        self.used += bytes;
        while self.used > self.limit {
            let (_, oldest) = self.order.pop_first().expect("something is used");
            let (_, bytes) = self.items.remove(&oldest).expect("both know it");
            self.used -= bytes;
        }
        false
    }
}

/// The store and an LRU that receive the same requests.
struct Pair {
    cache: Cache,
    lru: Lru,
}

/// Hits of both caches over some requests.
#[derive(Clone, Copy, Debug, Default)]
struct Hits {
    requests: u32,
    ours: u32,
    lru: u32,
}

impl Hits {
    fn ours(self) -> f64 {
        f64::from(self.ours) / f64::from(self.requests)
    }

    fn lru(self) -> f64 {
        f64::from(self.lru) / f64::from(self.requests)
    }
}

impl Pair {
    fn new() -> Self {
        Self::with(Objective::default())
    }

    fn with(objective: Objective) -> Self {
        Self {
            cache: Cache::new(Eviction::FrequencySize(objective)),
            lru: Lru::new(capacity() * (VALUE + OVERHEAD)),
        }
    }

    fn request(&mut self, key: u64, size: usize, hits: &mut Hits) {
        let ours = self.cache.get(key);
        if !ours {
            self.cache.set(key, size, Expiry::NEVER);
        }
        hits.requests += 1;
        hits.ours += u32::from(ours);
        hits.lru += u32::from(self.lru.request(key, size));
    }

    /// Sends `count` requests for keys drawn by `draw`, all of the same size.
    fn requests(&mut self, count: usize, mut draw: impl FnMut() -> u64) -> Hits {
        let mut hits = Hits::default();
        for _ in 0..count {
            self.request(draw(), VALUE, &mut hits);
        }
        hits
    }
}

/// Returns the number of items of the usual size that a store keeps. The LRU is
/// given the same capacity.
fn capacity() -> usize {
    static CAPACITY: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CAPACITY.get_or_init(|| {
        let mut cache = Cache::new(Eviction::default());
        let mut key = 0;
        while key < (2 * LIMIT / VALUE) as u64 {
            cache.set(key, VALUE, Expiry::NEVER);
            key += 1;
        }
        cache.store.stats().snapshot().items as usize
    })
}

/// Returns a source of keys that occur once and differ from all others.
fn once() -> impl FnMut() -> u64 {
    let mut key = 1 << 40;
    move || {
        key += 1;
        key
    }
}

fn zipf(seed: u64, keys: usize, theta: f64) -> impl FnMut() -> u64 {
    let (law, mut random) = (Zipf::new(keys as u64, theta), Random::new(seed));
    move || law.draw(&mut random)
}

#[test]
fn a_scan_does_not_flush_the_working_set() {
    scan_under(Objective::Hits, 0.08, 0.12);
    // New items are worth more than under the objective of hits.
    scan_under(Objective::Balanced, 0.12, 0.09);
}

/// Checks what a scan costs: at most `most_lost` of the hit ratio, and at least
/// `gain` less than an LRU of the same size loses.
fn scan_under(objective: Objective, most_lost: f64, gain: f64) {
    let mut pair = Pair::with(objective);
    let mut hot = zipf(1, 2 * capacity(), 0.9);
    let mut cold = once();
    pair.requests(20 * capacity(), &mut hot);
    let before = pair.requests(5 * capacity(), &mut hot);
    let mut during = Hits::default();
    let mut scanned = Hits::default();
    for _ in 0..10 * capacity() {
        pair.request(cold(), VALUE, &mut scanned);
        pair.request(hot(), VALUE, &mut during);
    }
    pair.requests(2 * capacity(), &mut cold);
    let after = pair.requests(capacity() / 2, &mut hot);
    let lost = before.ours() - during.ours();
    assert!(lost < most_lost, "during the scan: {before:?} {during:?}");
    assert!(
        during.ours() > during.lru() + gain,
        "an LRU suffers more: {during:?}"
    );
    // The scan was twice as large as the memory, and nothing requested the
    // working set meanwhile.
    assert!(after.ours() > 0.60, "after the scan: {after:?}");
    assert!(
        after.ours() > after.lru() + 0.09,
        "after the scan: {after:?}"
    );
}

#[test]
fn a_loop_larger_than_memory_is_kept_in_part() {
    let mut pair = Pair::new();
    let length = (capacity() + capacity() / 5) as u64;
    let mut key = 0;
    let mut turn = || {
        key = (key + 1) % length;
        key
    };
    pair.requests(10 * length as usize, &mut turn);
    let hits = pair.requests(5 * length as usize, &mut turn);
    assert_eq!(hits.lru, 0, "each key is gone when it comes again");
    assert!(hits.ours() > 0.08, "{hits:?}");
}

#[test]
fn keys_that_come_once_cost_little() {
    once_under(Objective::Hits, 0.12, 0.10);
    once_under(Objective::Balanced, 0.16, 0.06);
}

/// Checks what keys that occur once cost, as [`scan_under`] does.
fn once_under(objective: Objective, most_lost: f64, gain: f64) {
    let mut plain = Pair::with(objective);
    let mut hot = zipf(2, 2 * capacity(), 0.9);
    plain.requests(20 * capacity(), &mut hot);
    let alone = plain.requests(5 * capacity(), &mut hot);
    let mut pair = Pair::with(objective);
    let mut hot = zipf(2, 2 * capacity(), 0.9);
    let mut cold = once();
    let mut among = Hits::default();
    for round in 0..25 * capacity() {
        if round == 20 * capacity() {
            among = Hits::default();
        }
        pair.request(cold(), VALUE, &mut Hits::default());
        pair.request(hot(), VALUE, &mut among);
    }
    let lost = alone.ours() - among.ours();
    assert!(lost < most_lost, "{alone:?} {among:?}");
    assert!(among.ours() > among.lru() + gain, "{among:?}");
}

#[test]
fn a_new_working_set_replaces_the_old_one_soon() {
    let mut pair = Pair::new();
    let mut old = zipf(3, 2 * capacity(), 0.9);
    pair.requests(20 * capacity(), &mut old);
    let steady = pair.requests(5 * capacity(), &mut old);
    let mut new = zipf(4, 2 * capacity(), 0.9);
    let window = |pair: &mut Pair, draw: &mut dyn FnMut() -> u64| {
        let hits = pair.requests(capacity() / 2, || (1 << 30) + draw());
        hits.ours() / steady.ours()
    };
    let recovers = |pair: &mut Pair, share: f64, draw: &mut dyn FnMut() -> u64| {
        (1..=WINDOWS_MAX).find(|_| window(pair, draw) > share)
    };
    let first = recovers(&mut pair, 0.75, &mut new);
    assert!(first.is_some_and(|windows| windows <= 6), "{first:?}");
    let later = recovers(&mut pair, 0.9, &mut new);
    assert!(later.is_some_and(|windows| windows <= 15), "{later:?}");
}

#[test]
fn small_items_are_kept_rather_than_large_ones() {
    let mut pair = Pair::with(Objective::Hits);
    let mut random = Random::new(5);
    // Sizes from 64 bytes to 16 KiB, each doubling equally frequent. The mean
    // is about 3.6 KB, so about a quarter of the items fits.
    let size_of = |key: u64| 64usize << (key % 9);
    let mean: usize = (0..9).map(size_of).sum::<usize>() / 9;
    let keys = (4 * LIMIT / mean) as u64;
    let mut hits = Hits::default();
    for round in 0..40 * keys {
        if round == 30 * keys {
            hits = Hits::default();
        }
        let key = random.below(keys);
        pair.request(key, size_of(key), &mut hits);
    }
    let kept = |cache: &mut Cache, sizes: std::ops::Range<u64>| {
        let keys: Vec<u64> = (0..keys).filter(|key| sizes.contains(&(key % 9))).collect();
        let found = keys.iter().filter(|&&key| cache.has(key)).count();
        found as f64 / keys.len() as f64
    };
    let small = kept(&mut pair.cache, 0..3);
    let large = kept(&mut pair.cache, 6..9);
    assert!(hits.ours() > hits.lru() + 0.29, "{hits:?}");
    assert!(small > 0.8 && large < 0.4, "kept: {small} {large}");
}

#[test]
fn the_first_items_of_a_store_are_weighed_by_size_too() {
    // Upkeep takes no step here: a store may be full before its first one.
    let mut cache = Cache::new(Eviction::FrequencySize(Objective::Hits));
    let (small, large) = (3 << 10, 60 << 10);
    let mut key = 0;
    while cache.evictions() == 0 {
        let size = if key % 8 == 0 { large } else { small };
        cache.set(key, size, Expiry::NEVER);
        key += 1;
    }
    let (first, part) = (0..key, LIMIT / large / 4);
    for other in 0..part as u64 {
        cache.set((1 << 40) + other, large, Expiry::NEVER);
    }
    let (larges, smalls): (Vec<u64>, Vec<u64>) = first.partition(|key| key % 8 == 0);
    let mut gone = |keys: Vec<u64>| {
        let gone = keys.iter().filter(|&&key| !cache.has(key)).count();
        gone as f64 / keys.len() as f64
    };
    let (larges, smalls) = (gone(larges), gone(smalls));
    assert!(larges > 0.15 && smalls < 0.02, "gone: {larges} {smalls}");
}

/// Returns a full store after the crawler has removed every other item as
/// expired, and the number of items removed.
fn half_expired() -> (Cache, u64) {
    let mut cache = Cache::new(Eviction::default());
    let mortal = Expiry::from_protocol(10, cache.now);
    let mut key = 0;
    while cache.evictions() == 0 {
        let expiry = if key % 2 == 0 { mortal } else { Expiry::NEVER };
        cache.set(key, VALUE, expiry);
        key += 1;
    }
    let live = (0..key).filter(|key| key % 2 == 1);
    let live = live.filter(|&key| cache.has(key)).count();
    cache.now = Now::from_millis(cache.now.millis() + 20_000);
    cache.sweep();
    let snapshot = cache.store.stats().snapshot();
    assert_eq!(snapshot.items, live as u64, "the others are swept out");
    (cache, snapshot.crawler_reclaimed)
}

#[test]
fn expired_items_make_room_before_live_ones_go() {
    let (mut cache, dead) = half_expired();
    let before = cache.evictions();
    let mut added = 0;
    while cache.evictions() == before {
        cache.set((1 << 40) + added, VALUE, Expiry::NEVER);
        added += 1;
    }
    assert!(added * 10 > dead * 9, "{dead} had expired, {added} came");
}

#[test]
fn expired_items_make_room_for_other_sizes_too() {
    for size in [40, 4 * VALUE, 40 * VALUE] {
        let (mut cache, dead) = half_expired();
        let before = cache.evictions();
        let room = dead as usize * (VALUE + OVERHEAD) * 4 / 5;
        for key in 0..room / (size + OVERHEAD) {
            cache.set((1 << 40) + key as u64, size, Expiry::NEVER);
        }
        let evicted = cache.evictions() - before;
        assert!(
            evicted * 12 < dead,
            "{dead} had expired, {evicted} went for values of {size}"
        );
    }
}
