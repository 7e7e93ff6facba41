//! Tests of the map against the standard library's, with a fixed seed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::config::Config;
use crate::store::evict::policy::Stamp;
use crate::store::index::bucket::Lookup;
use crate::store::index::map::{Hashed, Map};
use crate::store::index::table::{buckets_for, capacity_of, mean_bytes};
use crate::store::item::layout::ItemSpec;
use crate::store::memory::chunk::Chunk;
use crate::store::state::{Local, Options, Store};
use crate::time::Now;

const NOW: Now = Now::from_millis(5000);

/// A map of one shard beside a model of it. A store makes the items.
struct Bench {
    map: Map,
    model: HashMap<usize, Chunk>,
    store: Store,
    local: Local,
    random: u64,
}

impl Bench {
    fn new() -> Self {
        let store = Store::new(Options {
            max_memory: 64 << 20,
            ..Options::from(&Config::default())
        });
        let local = store.local();
        Self {
            map: Map::seeded(2),
            model: HashMap::new(),
            store,
            local,
            random: 1,
        }
    }

    /// Returns a random number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) as usize % end
    }

    fn hash(&self, key: usize) -> u64 {
        self.map.hash(key.to_string().as_bytes())
    }

    /// Makes a key's item, which stays for the rest of the test.
    fn item(&mut self, key: usize) -> Chunk {
        let name = key.to_string();
        let key = self.store.hashed(name.as_bytes());
        let spec = ItemSpec::new(key.key, 1);
        let value = std::iter::once(&b"v"[..]);
        let (store, local) = (&self.store, &mut self.local);
        let new = store.new_filled(local, &key, &spec, NOW, value);
        new.expect("there is memory").into_chunk()
    }

    /// Adds or replaces a key, all in shard 0.
    fn put(&mut self, key: usize) {
        let chunk = self.item(key);
        let (name, hash) = (key.to_string(), self.hash(key));
        let mut shard = self.map.write_at(0);
        let found = shard.find(&Hashed {
            key: name.as_bytes(),
            hash,
        });
        match self.model.entry(key) {
            Entry::Occupied(mut entry) => {
                let position = found.expect("it was added");
                shard.replace(position, chunk, Stamp(key as u16));
                entry.insert(chunk);
            }
            Entry::Vacant(entry) => {
                assert_eq!(found, None);
                let (position, _) = shard.insert(hash, chunk, Stamp(key as u16));
                shard.mark(position, key as u8 & 7);
                entry.insert(chunk);
            }
        }
    }

    fn remove(&mut self, key: usize) {
        let (name, hash) = (key.to_string(), self.hash(key));
        let mut shard = self.map.write_at(0);
        let found = shard.find(&Hashed {
            key: name.as_bytes(),
            hash,
        });
        assert_eq!(found.is_some(), self.model.remove(&key).is_some());
        if let Some(position) = found {
            shard.erase(position);
        }
    }

    /// Checks that the map holds what the model holds, for all ways to look.
    /// Returns the numbers of items in secondary buckets and in the stash.
    fn check(&self) -> (usize, usize) {
        let mut stashed = 0;
        for (key, chunk) in &self.model {
            let (name, hash) = (key.to_string(), self.hash(*key));
            let wanted = Hashed {
                key: name.as_bytes(),
                hash,
            };
            let shard = self.map.read_at(0);
            let slot = shard.find(&wanted).expect("it was added");
            assert_eq!(slot.chunk(), *chunk);
            assert_eq!(slot.stamp(), Stamp(*key as u16));
            assert_eq!(slot.marks(), *key as u8 & 7);
            drop(shard);
            let shard = self.map.write_at(0);
            let position = shard.find(&wanted).expect("it was added");
            assert_eq!(shard.slot(position).expect("found").chunk(), *chunk);
            match shard.find_unlocked(&wanted) {
                Lookup::At(same, _) => assert_eq!(same, position),
                Lookup::MaybeStashed => stashed += 1,
                Lookup::Absent => panic!("{key} is missed without the lock"),
            }
        }
        let shard = self.map.write_at(0);
        let full = |position: &usize| shard.slot(*position).is_some();
        let positions = (0..shard.positions()).filter(full).count();
        assert_eq!(
            (positions, shard.len()),
            (self.model.len(), self.model.len())
        );
        assert_eq!(shard.stashed(), stashed);
        let moved = (0..shard.positions()).filter(|position| shard.is_secondary(*position));
        (moved.count(), stashed)
    }

    fn shrink(&mut self) -> usize {
        self.map.write_at(0).shrink()
    }

    /// Returns keys whose primary bucket is the same in tables of some sizes.
    fn colliding(&self, count: usize) -> Vec<usize> {
        let keys = (0..).filter(|key| (self.hash(*key) as u32) < 1 << 16);
        keys.take(count).collect()
    }
}

#[test]
fn the_map_agrees_with_a_model() {
    let mut bench = Bench::new();
    let (mut moved_most, mut stashed_most) = (0, 0);
    for (round, keys) in [30, 300, 4000, 1000, 50].into_iter().enumerate() {
        for _ in 0..4 * keys {
            let key = bench.below(keys);
            match bench.below(3) {
                0 => bench.remove(key),
                _ => bench.put(key),
            }
        }
        let (moved, stashed) = bench.check();
        moved_most = moved_most.max(moved);
        stashed_most = stashed_most.max(stashed);
        // Sorted, so that every run removes the same ones.
        let mut keys: Vec<usize> = bench.model.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            if bench.below(4) != 0 {
                bench.remove(key);
            }
        }
        assert!(round < 1 || bench.shrink() > 0, "most entries are gone");
        bench.check();
    }
    assert!(moved_most > 100, "{moved_most}");
    // The stash is reached by a later test; here it is nearly unused.
    assert!(stashed_most < 40, "{stashed_most}");
}

#[test]
fn keys_of_one_bucket_go_to_the_stash_and_come_back() {
    let mut bench = Bench::new();
    let others = 10_000_000..10_002_000;
    others.clone().for_each(|key| bench.put(key));
    let colliding = bench.colliding(200);
    for key in &colliding {
        bench.put(*key);
    }
    let (_, stashed) = bench.check();
    assert!(stashed > 20, "{stashed}");
    // Growth for the sake of the stash ends once the table is sparse.
    let shard = bench.map.write_at(0);
    let bytes = shard.bytes();
    assert!(bytes < 40 * shard.len(), "{bytes} bytes");
    drop(shard);
    // A missing key of that bucket is looked for in the stash.
    let absent = colliding[0];
    bench.remove(absent);
    bench.check();
    for key in &colliding {
        bench.remove(*key);
        bench.put(*key);
        bench.remove(*key);
    }
    let (_, stashed) = bench.check();
    assert_eq!(stashed, 0);
    let (name, hash) = (absent.to_string(), bench.hash(absent));
    let shard = bench.map.write_at(0);
    let lookup = shard.find_unlocked(&Hashed {
        key: name.as_bytes(),
        hash,
    });
    assert_eq!(lookup, Lookup::Absent, "the mark of the stash is gone");
}

#[test]
fn a_full_table_keeps_nearly_all_entries_out_of_the_stash() {
    let mut bench = Bench::new();
    (0..5000).for_each(|key| bench.put(key));
    let room = capacity_of(buckets_for(5000, 0));
    (5000..room).for_each(|key| bench.put(key));
    let (moved, stashed) = bench.check();
    assert!(moved < room / 4, "{moved} of {room}");
    assert!(stashed < room / 100, "{stashed} of {room}");
    assert!(bench.map.write_at(0).is_full());
    // Under eviction, the entries change and their number does not.
    let before = bench.map.rebuild_count(0);
    let (mut sum, mut bytes) = (0, 0);
    for key in room..3 * room {
        bench.remove(key - room);
        bench.put(key);
        let shard = bench.map.write_at(0);
        sum += shard.stashed();
        bytes = bytes.max(shard.bytes());
    }
    bench.check();
    let mean = sum / (2 * room);
    assert!(mean < room / 64, "{mean} of {room}");
    let rebuilds = bench.map.rebuild_count(0) - before;
    assert!(rebuilds < 60, "{rebuilds}");
    let most = 12.5 * room as f64;
    assert!((bytes as f64) < most, "{bytes} bytes for {room}");
}

#[test]
fn tables_of_all_shards_take_few_bytes_an_item() {
    const SHARDS: usize = 1024;
    for items in [1, 2, 3, 5, 10, 20].map(|millions| millions * 1_000_000) {
        let items = items / SHARDS;
        let slots = |shard| buckets_for(items, shard);
        let bytes = (0..SHARDS).map(slots).sum::<usize>() * 64;
        let each = bytes as f64 / (items * SHARDS) as f64;
        assert!(each < 11.0, "{each}");
        let modelled = mean_bytes(items as f64) / items as f64;
        assert!((each / modelled - 1.0).abs() < 0.02, "{each} {modelled}");
    }
}

#[test]
fn a_table_of_each_size_fits_what_it_is_for() {
    for shard in [0, 1, 2, 777] {
        for items in (1..3000).chain([1 << 20, (1 << 20) + 1]) {
            let buckets = buckets_for(items, shard);
            assert!(capacity_of(buckets) >= items, "{items}");
            let next = buckets_for(capacity_of(buckets) + 1, shard);
            assert!(next > buckets, "{buckets} {next}");
            // A rebuild for what the table fits does not grow it.
            assert_eq!(buckets_for(capacity_of(buckets), shard), buckets);
        }
    }
}

#[test]
#[ignore = "needs some gigabytes of memory"]
fn the_index_takes_eleven_bytes_an_item() {
    for (limit, most) in [(1 << 30, 12), (2 << 30, 20), (8 << 30, 20)] {
        let store = Store::new(Options {
            max_memory: limit,
            ..Options::from(&Config::default())
        });
        let mut local = store.local();
        let empty = store.index_bytes();
        let mut count = 0;
        for millions in [1, 2, 3, 5, 10, 20]
            .into_iter()
            .filter(|number| *number <= most)
        {
            while count < millions * 1_000_000 {
                let name = count.to_string();
                let key = store.hashed(name.as_bytes());
                let spec = ItemSpec::new(key.key, 1);
                let value = std::iter::once(&b"v"[..]);
                let new = store.new_filled(&mut local, &key, &spec, NOW, value);
                let new = new.expect("there is memory");
                store.edit(&mut local, &key, NOW, |entry| entry.put(new, 1));
                count += 1;
            }
            let items = store.stats().snapshot().items;
            let shards = 0..store.map.shard_count();
            let (mut stashed, mut bytes) = (0, 0);
            for shard in shards {
                let shard = store.map.write_at(shard);
                stashed += shard.stashed();
                bytes += shard.bytes();
            }
            let each = bytes as f64 / items as f64;
            let all = (store.index_bytes() - empty) as f64 / items as f64;
            let stashed = stashed as f64 / items as f64;
            let figures = format!("-m {}: {items}: {each}, {all}, {stashed}", limit >> 20);
            assert!(each < 11.0 && all < 11.0 && stashed < 0.001, "{figures}");
        }
    }
}
