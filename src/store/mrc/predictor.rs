//! The consumer: drains the rings, replays the samples, and adapts the number
//! of sampled keys.

use std::sync::Arc;

use crate::limits::{CLASSES_MAX, MRC_KEYS_MAX, MRC_SAMPLES_PER_SECOND, MRC_STEP_SAMPLES_MAX};
use crate::store::mrc::curve::{Curve, predict};
use crate::store::mrc::sampling::{EVERY_KEY, Ring, Sample, Sampling};
use crate::store::mrc::simulation::{GHOST_BYTES_MAX, Simulation};
use crate::store::mrc::windows::Windows;
use crate::store::state::Store;
use crate::time::Now;

/// Interval between two publications of the curve, in milliseconds.
const PUBLISH_EVERY_MS: u64 = 1000;
/// Time over which the rate of samples is measured, in milliseconds.
const LOAD_MS: u64 = 1000;
/// Shortest such time, if there are too many samples before its end.
const LOAD_MIN_MS: u64 = 100;
/// Samples per second from which the threshold is lowered.
const EXCESSIVE_SAMPLES: u64 = MRC_SAMPLES_PER_SECOND + MRC_SAMPLES_PER_SECOND / 4;
/// Largest factor by which the threshold is lowered at once.
const LOWER_MAX: u64 = 16;
/// More keys are sampled if this multiple of the keys, of the ghosts and of the
/// samples stays within the limits.
const SPARE_FACTOR: u64 = 4;
/// Items that upkeep sweeps per second (1000 in a step of 10 ms), and the
/// shortest sweep in milliseconds.
const SWEPT_PER_SECOND: u64 = 100_000;
const SWEEP_MIN_MS: u64 = 1000;

/// The consumer of the samples. The upkeep thread owns it and calls
/// [`Predictor::step`].
pub struct Predictor {
    sampling: Arc<Sampling>,
    simulation: Simulation,
    windows: Windows,
    rings: Vec<Arc<Ring>>,
    /// The oldest sample of each ring.
    heads: Vec<Option<Sample>>,
    /// Number of the last sample that was replayed.
    last: u32,
    /// Counters of the store when they were last read.
    totals: Totals,
    load: Load,
    /// The memory limit and the flush generation of the store.
    limit: usize,
    generation: u64,
    /// Time of the last step, and of the last publication, in milliseconds.
    stepped: u64,
    published: u64,
}

/// The store's counters of retrievals.
#[derive(Clone, Copy)]
struct Totals {
    gets: u64,
    misses: u64,
    hits: [u64; CLASSES_MAX],
    /// Items in the store.
    items: u64,
}

/// The rate of samples.
#[derive(Clone, Copy, Default)]
struct Load {
    /// Start of the measurement in milliseconds.
    since: u64,
    /// Samples replayed since the start.
    replayed: u64,
    /// Samples replayed and dropped at the start of the measurement.
    before: u64,
    /// The threshold at the start of the measurement.
    threshold: u64,
    /// The largest number of samples per second in this window.
    most: u64,
    /// The largest number of keys in this window.
    keys: usize,
}

impl Predictor {
    /// Creates the consumer for a store and begins to sample all keys. There
    /// must be one consumer only.
    pub fn new(sampling: Arc<Sampling>, store: &Store) -> Self {
        let limit = store.memory_limit();
        let (eviction, evicts) = (store.options.eviction, store.evicts());
        let simulation = Simulation::new(limit, store.shard_count(), eviction, evicts);
        sampling.set_threshold(simulation.threshold());
        Self {
            rings: sampling.rings(),
            sampling,
            simulation,
            windows: Windows::default(),
            heads: Vec::new(),
            last: 0,
            totals: Totals::read(store),
            load: Load {
                threshold: EVERY_KEY,
                ..Load::default()
            },
            limit,
            generation: store.flush_generation(),
            stepped: 0,
            published: 0,
        }
    }

    /// Replays up to [`MRC_STEP_SAMPLES_MAX`] samples, and publishes the curve
    /// once a second. Call it about every 10 ms. Returns whether samples are
    /// left.
    pub fn step(&mut self, store: &Store, now: Now) -> bool {
        let window_ended = self.windows.advance(now);
        self.follow_store(store);
        let left = self.drain(now);
        self.simulation.upkeep(now);
        self.sweep(now);
        self.limit_load(now);
        if window_ended {
            self.sample_more();
        }
        self.sampling.set_threshold(self.simulation.threshold());
        if now.millis() >= self.published + PUBLISH_EVERY_MS {
            self.published = now.millis();
            let curve = self.curve(store);
            self.sampling.publish(curve);
        }
        self.stepped = now.millis();
        left
    }

    /// Returns the curve as of the last step. `None` until there have been
    /// retrievals.
    pub fn curve(&mut self, store: &Store) -> Option<Curve> {
        self.count_totals(store);
        let counts = self.windows.sum();
        Some(Curve {
            predictions: predict(&counts, self.limit)?,
            gets: counts.all_gets as u64,
            samples: counts.samples,
            dropped: self.dropped(),
            rate: self.simulation.rate(),
            keys: self.simulation.keys(),
            bytes: self.bytes(),
        })
    }

    /// Returns the bytes that the curve takes: keys, ghosts and rings.
    pub fn bytes(&self) -> usize {
        let rings = self.rings.iter().map(|ring| ring.bytes());
        self.simulation.bytes() + rings.sum::<usize>()
    }

    /// Follows changes of the memory limit and flushes. The counts of another
    /// limit are of no use.
    fn follow_store(&mut self, store: &Store) {
        let (limit, generation) = (store.memory_limit(), store.flush_generation());
        if limit != self.limit {
            self.limit = limit;
            self.simulation.set_limit(limit);
            self.count_totals(store);
            self.windows.clear();
        }
        if generation != self.generation {
            self.generation = generation;
            self.simulation.clear();
        }
    }

    /// Replays samples of all rings in the order of their numbers. Returns
    /// whether samples are left.
    fn drain(&mut self, now: Now) -> bool {
        self.rings = self.sampling.rings();
        self.heads.resize(self.rings.len(), None);
        for _ in 0..MRC_STEP_SAMPLES_MAX {
            for (head, ring) in self.heads.iter_mut().zip(&self.rings) {
                *head = head.or_else(|| ring.pop());
            }
            let heads = self.heads.iter_mut().filter(|head| head.is_some());
            let last = self.last;
            // Numbers wrap around. Those in the rings are close to the last one.
            let order =
                |head: &Option<Sample>| head.map(|head| head.number.wrapping_sub(last) as i32);
            let Some(sample) = heads.min_by_key(|head| order(head)).and_then(Option::take) else {
                return false;
            };
            self.last = sample.number;
            self.load.replayed += 1;
            let counts = self.windows.present();
            self.simulation
                .replay(sample.hash, sample.request, now, counts);
        }
        self.heads.iter().any(Option::is_some) || self.rings.iter().any(|ring| !ring.is_empty())
    }

    /// Sweeps as many places as belong to the time since the last step. A sweep
    /// takes as long as the store's.
    fn sweep(&mut self, now: Now) {
        let whole_ms = (self.totals.items * 1000 / SWEPT_PER_SECOND).max(SWEEP_MIN_MS);
        let passed_ms = now.millis().saturating_sub(self.stepped);
        let places = MRC_KEYS_MAX as u64 * passed_ms / whole_ms;
        self.simulation.sweep(now, places as usize);
    }

    /// Adds what the store counted since the last call to the present window.
    fn count_totals(&mut self, store: &Store) {
        let totals = Totals::read(store);
        let before = std::mem::replace(&mut self.totals, totals);
        let counts = self.windows.present();
        counts.all_gets += totals.gets.wrapping_sub(before.gets) as f64;
        counts.all_misses += totals.misses.wrapping_sub(before.misses) as f64;
        for (class, found) in counts.found.iter_mut().enumerate() {
            found.all += totals.hits[class].wrapping_sub(before.hits[class]) as f64;
        }
    }

    /// Lowers the threshold if there are too many samples.
    fn limit_load(&mut self, now: Now) {
        let seen = self.load.replayed + self.dropped();
        let load = &mut self.load;
        load.keys = load.keys.max(self.simulation.keys());
        let samples = seen - load.before;
        let passed = now.millis().saturating_sub(load.since);
        if passed < LOAD_MIN_MS || passed < LOAD_MS && samples <= EXCESSIVE_SAMPLES * LOAD_MS / 1000
        {
            return;
        }
        let begun_at = load.threshold;
        let threshold = self.simulation.threshold();
        (load.since, load.before, load.threshold) = (now.millis(), seen, threshold);
        let per_second = samples * 1000 / passed;
        load.most = load.most.max(per_second);
        if per_second > EXCESSIVE_SAMPLES {
            // Too many keys may have lowered it meanwhile.
            let lowered = begun_at * MRC_SAMPLES_PER_SECOND / per_second;
            let lowered = lowered.clamp(threshold / LOWER_MAX, threshold);
            self.simulation.set_threshold(lowered);
            load.threshold = lowered;
        }
    }

    /// Doubles the threshold if there were few keys, ghosts and samples in the
    /// last window. The new keys' items are unknown at first, so that the next
    /// window does not count.
    fn sample_more(&mut self) {
        let keys = std::mem::take(&mut self.load.keys) as u64;
        let most = std::mem::take(&mut self.load.most);
        let threshold = self.simulation.threshold();
        let ghosts = self.simulation.ghost_bytes() as u64;
        let has_room = keys * SPARE_FACTOR < MRC_KEYS_MAX as u64
            && ghosts * SPARE_FACTOR < GHOST_BYTES_MAX as u64
            && most * SPARE_FACTOR < MRC_SAMPLES_PER_SECOND;
        if has_room && threshold < EVERY_KEY {
            self.simulation.set_threshold(2 * threshold);
            self.load.threshold = self.simulation.threshold();
            self.windows.pause();
        }
    }

    /// Returns the number of samples that were dropped.
    fn dropped(&self) -> u64 {
        self.rings.iter().map(|ring| ring.dropped()).sum()
    }
}

impl Totals {
    /// Reads the store's counters.
    fn read(store: &Store) -> Self {
        let sum = store.stats().snapshot();
        let classes = store.stats().class_snapshots();
        Self {
            gets: sum.cmd_get,
            misses: sum.get_misses,
            hits: classes.map(|class| class.get_hits),
            items: sum.items,
        }
    }
}
