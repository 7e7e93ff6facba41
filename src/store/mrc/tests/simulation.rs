//! Tests of the miniature memories on loads whose hit ratios can be computed.

use crate::config::{Eviction, Objective};
use crate::limits::MRC_KEYS_MAX;
use crate::store::mrc::footprint::{footprint, room_for_items};
use crate::store::mrc::sampling::{EVERY_KEY, Observed};
use crate::store::mrc::simulation::{GHOST_BYTES_MAX, Simulation};
use crate::store::mrc::sizes::{FACTORS, SIZES};
use crate::store::mrc::windows::Counts;
use crate::time::{Expiry, Now};

const SHARDS: usize = 16;
/// Bytes of an item where the size does not matter.
const BYTES: u32 = 1000;
const LIMIT: usize = 2 << 20;

/// What the store does, in whose place the memories are simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Real {
    MissesAll,
    HitsAll,
}

struct Load {
    simulation: Simulation,
    counts: Counts,
    now: Now,
    real: Real,
    random: u64,
}

impl Load {
    fn new(limit: usize, eviction: Eviction) -> Self {
        Self {
            simulation: Simulation::new(limit, SHARDS, eviction, true),
            counts: Counts::default(),
            now: Now::from_millis(60_000),
            real: Real::MissesAll,
            random: 1,
        }
    }

    fn see(&mut self, key: u64, what: Observed) {
        self.simulation
            .replay(hash(key), what, self.now, &mut self.counts);
    }

    /// Gets a key and, after a miss, sets it with this TTL in seconds.
    fn get(&mut self, key: u64, bytes: u32, ttl: i32) {
        let expiry = Expiry::from_protocol(ttl, self.now);
        match self.real {
            Real::HitsAll => self.see(key, Observed::Hit { bytes, expiry }),
            Real::MissesAll => {
                self.see(key, Observed::Miss);
                self.see(key, Observed::Set { bytes, expiry });
            }
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) % bound
    }

    fn wait(&mut self, seconds: u64) {
        self.now = Now::from_millis(self.now.millis() + seconds * 1000);
        self.simulation.upkeep(self.now);
    }

    /// Returns the hit ratio of each memory.
    fn hit_ratios(&self) -> [f64; SIZES] {
        self.counts.hits.map(|hits| hits / self.counts.gets)
    }
}

/// Returns an evenly distributed hash (the finalizer of SplitMix64).
fn hash(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Returns how many items of [`BYTES`] bytes fit a memory.
fn capacity(number: usize) -> f64 {
    let limit = LIMIT as f64 * FACTORS[number];
    let taken = footprint(BYTES as usize) as f64;
    let mut items = limit / taken;
    for _ in 0..10 {
        items = room_for_items(limit, SHARDS, items, 1) / taken;
    }
    items
}

#[test]
fn uniform_requests_hit_the_part_of_the_keys_that_fits() {
    const KEYS: u64 = 5000;
    for eviction in [Eviction::Clock, Eviction::Frequency, Eviction::default()] {
        let mut load = Load::new(LIMIT, eviction);
        for request in 0..120_000 {
            if request == 40_000 {
                load.counts = Counts::default();
            }
            let key = load.below(KEYS);
            load.get(key, BYTES, 0);
            if request % 1000 == 0 {
                load.simulation.upkeep(load.now);
            }
        }
        for (number, ratio) in load.hit_ratios().into_iter().enumerate() {
            let wanted = (capacity(number) / KEYS as f64).min(1.0);
            let off = (ratio - wanted).abs();
            assert!(off < 0.01, "{eviction:?} {number}: {ratio} for {wanted}");
        }
    }
}

#[test]
fn a_loop_misses_once_where_it_fits_and_is_kept_in_part_elsewhere() {
    const KEYS: u64 = 3500;
    const ROUNDS: u64 = 20;
    // The other objectives keep nothing of a loop over several times the memory.
    let mut load = Load::new(LIMIT, Eviction::FrequencySize(Objective::Hits));
    for request in 0..ROUNDS * KEYS {
        load.get(request % KEYS, BYTES, 0);
        if request % 1000 == 0 {
            load.simulation.upkeep(load.now);
        }
    }
    for (number, hits) in load.counts.hits.into_iter().enumerate() {
        if capacity(number) > KEYS as f64 {
            assert_eq!(hits as u64, (ROUNDS - 1) * KEYS, "{number}");
        } else {
            // No policy has more hits in a round than items before it.
            let most = (ROUNDS - 1) as f64 * capacity(number);
            assert!(
                hits > 0.0 && hits < 1.01 * most,
                "{number}: {hits} of {most}"
            );
        }
    }
    assert!(capacity(4) < KEYS as f64 && capacity(5) > KEYS as f64);
}

#[test]
fn the_hits_of_the_store_itself_change_nothing() {
    let run = |real| {
        let mut load = Load::new(LIMIT, Eviction::default());
        load.real = real;
        for request in 0..60_000 {
            // The square makes low numbers more popular.
            let key = load.below(100) * load.below(100);
            load.get(key, 100 + 40 * (key % 50) as u32, 0);
            if request % 500 == 0 {
                load.wait(1);
            }
        }
        load.simulation.items();
        (load.counts.gets, load.counts.hits)
    };
    let (missed, hit) = (run(Real::MissesAll), run(Real::HitsAll));
    assert_eq!(missed, hit);
    assert!(missed.1[0] > 0.1 * missed.0 && missed.1[0] < missed.1[3]);
}

#[test]
fn items_expire_a_ttl_after_each_memory_stored_them() {
    for real in [Real::MissesAll, Real::HitsAll] {
        let mut load = Load::new(LIMIT, Eviction::default());
        load.real = real;
        // In a cycle of 12 seconds: stored, two hits, expired.
        for _ in 0..30 {
            for key in 0..50 {
                load.get(key, BYTES, 10);
            }
            load.wait(4);
        }
        for ratio in load.hit_ratios() {
            assert!((ratio - 2.0 / 3.0).abs() < 1e-9, "{real:?}: {ratio}");
        }
    }
}

#[test]
fn sweeps_remove_what_has_expired() {
    let mut load = Load::new(LIMIT, Eviction::default());
    for key in 0..100 {
        load.get(key, BYTES, if key < 60 { 5 } else { 0 });
    }
    load.wait(10);
    assert_eq!(load.simulation.items(), [100; SIZES]);
    load.simulation.sweep(load.now, MRC_KEYS_MAX);
    assert_eq!(load.simulation.items(), [40; SIZES]);
    assert_eq!(load.simulation.keys(), 40);
}

#[test]
fn updates_deletions_and_touches_reach_all_memories() {
    let mut load = Load::new(LIMIT, Eviction::default());
    let set = |load: &mut Load, bytes| {
        let expiry = Expiry::from_protocol(10, load.now);
        load.see(1, Observed::Set { bytes, expiry });
    };
    // An update renews the expiry time, and has another size.
    set(&mut load, BYTES);
    load.wait(8);
    set(&mut load, 2 * BYTES);
    load.wait(8);
    load.see(1, Observed::Miss);
    assert_eq!(load.counts.hits, [1.0; SIZES]);
    assert_eq!(load.counts.hit_bytes, [f64::from(2 * BYTES); SIZES]);
    // The set that follows a miss does not happen where there was a hit.
    set(&mut load, BYTES);
    load.wait(4);
    load.see(1, Observed::Miss);
    assert_eq!(load.counts.hits, [1.0; SIZES], "expired");
    set(&mut load, BYTES);
    let expiry = Some(Expiry::from_protocol(100, load.now));
    load.see(1, Observed::Touch { expiry });
    load.wait(50);
    load.see(1, Observed::Touch { expiry: None });
    load.see(1, Observed::Miss);
    assert_eq!(load.counts.hits, [2.0; SIZES]);
    load.see(1, Observed::Delete);
    load.see(1, Observed::Miss);
    assert_eq!(load.counts.hits, [2.0; SIZES]);
    assert_eq!(
        (load.simulation.items(), load.simulation.keys()),
        ([0; 8], 0)
    );
}

#[test]
fn a_set_tells_the_size_of_what_all_have_missed() {
    let mut load = Load::new(LIMIT, Eviction::default());
    load.get(1, BYTES, 0);
    load.see(2, Observed::Miss);
    assert_eq!(load.counts.missed_bytes, f64::from(BYTES));
    let expiry = Expiry::NEVER;
    load.see(3, Observed::Set { bytes: 7, expiry });
    assert_eq!(load.counts.bytes, f64::from(BYTES), "nobody asked for it");
}

#[test]
fn without_eviction_a_full_memory_stores_nothing() {
    let mut load = Load::new(LIMIT, Eviction::default());
    load.simulation = Simulation::new(LIMIT, SHARDS, Eviction::default(), false);
    for key in 0..5000 {
        load.get(key, BYTES, 0);
        if key % 500 == 0 {
            load.simulation.upkeep(load.now);
        }
    }
    let items = load.simulation.items();
    let full = items[3] as f64 / capacity(3);
    assert!((0.98..=1.02).contains(&full), "{items:?}");
    load.counts = Counts::default();
    for key in 0..items[0] as u64 {
        load.get(key, BYTES, 0);
    }
    assert_eq!(load.hit_ratios(), [1.0; SIZES], "the first ones are kept");
}

#[test]
fn more_keys_than_the_limit_lower_the_threshold() {
    let mut load = Load::new(1 << 30, Eviction::default());
    let keys = 2 * MRC_KEYS_MAX as u64;
    for key in 0..keys {
        load.get(key, 100, 0);
        assert!(load.simulation.keys() <= MRC_KEYS_MAX);
    }
    let rate = load.simulation.rate();
    assert!(rate > 0.4 && rate < 0.5, "{rate}");
    let (items, sampled) = (load.simulation.items(), load.simulation.keys() as f64);
    assert_eq!(items, [sampled as usize; SIZES], "all fit");
    assert!((sampled / (rate * keys as f64) - 1.0).abs() < 0.03);
    // Requests at all rates together count like all requests.
    let gets = load.counts.gets / keys as f64;
    assert!((gets - 1.0).abs() < 0.02, "{gets}");
}

#[test]
fn ghosts_keep_their_limit() {
    // Large items leave many ghosts per item.
    let mut load = Load::new(1 << 30, Eviction::default());
    for key in 0..80_000 {
        load.get(key, 40_000, 0);
        if key % 1000 == 0 {
            load.wait(1);
            assert!(load.simulation.ghost_bytes() <= GHOST_BYTES_MAX);
        }
    }
    assert!(load.simulation.threshold() < EVERY_KEY / 4 * 3);
    assert!(load.simulation.ghost_bytes() > GHOST_BYTES_MAX / 2);
    load.simulation.items();
}

#[test]
fn counts_agree_after_any_requests() {
    let mut load = Load::new(LIMIT, Eviction::default());
    for request in 0..60_000 {
        let key = load.below(9000);
        let bytes = 50 + (load.below(60) * load.below(60) * load.below(60)) as u32;
        let ttl = load.below(3) as i32 * 5;
        let expiry = Expiry::from_protocol(ttl, load.now);
        match load.below(12) {
            0..6 => load.get(key, bytes, ttl),
            6 => load.see(key, Observed::Hit { bytes, expiry }),
            7..9 => load.see(key, Observed::Set { bytes, expiry }),
            9 => load.see(key, Observed::Delete),
            10 => load.see(key, Observed::Touch { expiry: None }),
            _ => load.see(key, Observed::Miss),
        }
        if request % 1000 == 0 {
            load.wait(1);
            load.simulation.sweep(load.now, 100);
        }
        if request % 9000 == 8999 {
            let threshold = load.simulation.threshold();
            load.simulation.set_threshold(threshold / 2);
            load.wait(1);
            load.simulation.items();
        }
    }
    load.simulation.set_limit(LIMIT / 3);
    load.simulation.upkeep(load.now);
    let items = load.simulation.items();
    assert!(items[0] > 0 && items[0] < items[7], "{items:?}");
    load.simulation.clear();
    assert_eq!(
        (load.simulation.items(), load.simulation.keys()),
        ([0; 8], 0)
    );
}
