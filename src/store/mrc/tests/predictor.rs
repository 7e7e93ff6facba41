//! Tests of the consumer, beside a store.

use std::sync::Arc;

use crate::config::Eviction;
use crate::limits::{
    MRC_BYTES_MAX, MRC_KEYS_MAX, MRC_RING_SAMPLES, MRC_SAMPLES_PER_SECOND, MRC_STEP_SAMPLES_MAX,
    THREADS_MAX,
};
use crate::store::mrc::{Curve, Observed, Predictor, Sampler, Sampling};
use crate::store::{Access, Hashed, ItemSpec, Local, Options, Store};
use crate::time::{Expiry, Now};

/// A store with one worker, and its curve.
struct Server {
    store: Store,
    local: Local,
    sampling: Arc<Sampling>,
    sampler: Sampler,
    predictor: Predictor,
    now: Now,
    random: u64,
}

impl Server {
    fn new(limit: usize) -> Self {
        let store = Store::new(Options {
            max_memory: limit,
            evict: true,
            max_item_size: 1 << 20,
            eviction: Eviction::default(),
            cas: true,
            delimiter: b':',
        });
        let sampling = Arc::new(Sampling::new(1));
        Self {
            local: store.local(),
            sampler: sampling.sampler(),
            predictor: Predictor::new(Arc::clone(&sampling), &store),
            store,
            sampling,
            now: Now::from_millis(10_000),
            random: 1,
        }
    }

    /// Counts a retrieval of a key and notes it.
    fn count(&self, hash: u64, what: Observed) {
        self.local.counters.cmd_get.add(1);
        if what == Observed::Miss {
            self.local.counters.get_misses.add(1);
        }
        self.sampler.record(hash, || what);
    }

    /// Gets a key and sets it on a miss.
    fn get(&mut self, number: u64, size: usize) {
        let name = format!("{number:016}");
        let hash = self.store.hashed(name.as_bytes()).hash;
        let key = Hashed {
            key: name.as_bytes(),
            hash,
        };
        let (store, local, now) = (&self.store, &mut self.local, self.now);
        let found = store.read(local, &key, now, |item| {
            (Access::Counted, (Observed::hit(item), item.class()))
        });
        if let Ok((hit, class)) = found {
            self.local.classes.of(class).get_hits.add(1);
            return self.count(hash, hit);
        }
        let value = vec![b'v'; size];
        let pieces = std::iter::once(&value[..]);
        let spec = ItemSpec::new(key.key, size);
        let new = store.new_filled(local, &key, &spec, now, pieces);
        let new = new.expect("there is always something to evict");
        let set = Observed::set(new.item());
        store.edit(local, &key, now, |entry| entry.put(new, 1));
        self.count(hash, Observed::Miss);
        self.sampler.record(hash, || set);
    }

    fn step(&mut self, ms: u64) -> bool {
        self.now = Now::from_millis(self.now.millis() + ms);
        self.store.survey();
        self.store.measure_pace(self.now);
        self.predictor.step(&self.store, self.now)
    }

    fn step_to_end(&mut self) {
        while self.step(10) {}
    }

    fn curve(&mut self) -> Curve {
        self.predictor.curve(&self.store).expect("there were gets")
    }

    /// Returns a random hash.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) + 1;
        self.random.rotate_left(32)
    }

    /// Draws a key of which low numbers are more popular.
    fn draw(&mut self, keys: u64) -> u64 {
        let unit = (self.random() >> 11) as f64 / (1u64 << 53) as f64;
        (unit.powi(3) * keys as f64) as u64
    }
}

#[test]
fn the_prediction_for_the_store_itself_is_what_it_measures() {
    let mut server = Server::new(8 << 20);
    for request in 0..200_000 {
        let key = server.draw(60_000);
        server.get(key, 50 + (key % 37) as usize * 20);
        if request % 500 == 0 {
            server.step_to_end();
        }
    }
    server.step_to_end();
    let curve = server.curve();
    let counters = server.store.stats().snapshot();
    assert!(counters.evictions > 10_000);
    assert_eq!(curve.gets, counters.cmd_get);
    let real = 1.0 - counters.get_misses as f64 / counters.cmd_get as f64;
    let predicted = curve.predictions[3];
    assert_eq!((predicted.factor, predicted.limit), (1.0, 8 << 20));
    assert!(
        (predicted.hit_ratio - real).abs() < 0.015,
        "{real} {curve:?}"
    );
    let ratios = curve.predictions.map(|point| point.hit_ratio);
    assert!(
        ratios.is_sorted() && ratios[7] > ratios[0] + 0.1,
        "{curve:?}"
    );
    let bytes = curve.predictions.map(|point| point.byte_hit_ratio);
    assert!(bytes.is_sorted() && bytes[7] > bytes[0] + 0.1, "{curve:?}");
}

#[test]
fn requests_of_several_workers_are_replayed_in_order() {
    let mut server = Server::new(8 << 20);
    let other = server.sampling.sampler();
    for hash in 0..100 {
        let (bytes, expiry) = (100, Expiry::NEVER);
        // The first ring has the sets, the second one the misses before them.
        server.local.counters.cmd_get.add(1);
        server.local.counters.get_misses.add(1);
        other.record(hash, || Observed::Miss);
        server
            .sampler
            .record(hash, || Observed::Set { bytes, expiry });
    }
    server.step_to_end();
    let curve = server.curve();
    assert_eq!((curve.samples, curve.gets), (100, 100));
    assert_eq!(curve.predictions[7].hit_ratio, 0.0);
}

#[test]
fn a_step_is_bounded_and_what_does_not_fit_a_ring_is_counted() {
    let mut server = Server::new(8 << 20);
    for _ in 0..MRC_RING_SAMPLES + 11 {
        let hash = server.random();
        server.count(hash, Observed::Miss);
    }
    assert!(server.step(10), "not all in a step");
    let curve = server.curve();
    assert_eq!(
        (curve.samples, curve.dropped),
        (MRC_STEP_SAMPLES_MAX as u64, 11)
    );
    server.step_to_end();
    assert_eq!(server.curve().samples, MRC_RING_SAMPLES as u64);
}

#[test]
fn many_samples_lower_the_rate_and_few_raise_it_again() {
    let mut server = Server::new(64 << 20);
    let (bytes, expiry) = (100, Expiry::NEVER);
    let mut steps = 0;
    server.step(100);
    for _ in 0..100 {
        for _ in 0..2000 {
            let hash = server.random();
            server.count(hash, Observed::Hit { bytes, expiry });
        }
        server.step(10);
        steps += 1;
    }
    // 2000 requests in 10 milliseconds.
    let fitting = MRC_SAMPLES_PER_SECOND as f64 / 200_000.0;
    let rate = server.curve().rate;
    assert!((0.7 * fitting..=1.3 * fitting).contains(&rate), "{rate}");
    assert_eq!(server.curve().gets, 2000 * steps);
    // Too many keys are left to double their number, until they are deleted.
    server.step(300_000);
    assert_eq!(server.curve().rate, rate);
    server.store.flush_all(&mut server.local);
    server.step(300_000);
    let raised = server
        .predictor
        .curve(&server.store)
        .map(|curve| curve.rate);
    assert_eq!(raised, Some(2.0 * rate));
}

#[test]
fn another_limit_begins_new_counts() {
    let mut server = Server::new(8 << 20);
    for _ in 0..1000 {
        let key = server.draw(100);
        server.get(key, 100);
    }
    server.step_to_end();
    assert_eq!(server.curve().predictions[3].limit, 8 << 20);
    server.store.set_memory_limit(16 << 20);
    server.step(10);
    assert_eq!(server.predictor.curve(&server.store), None);
    server.get(1, 100);
    server.step(1000);
    let curve = server.sampling.curve().expect("a second has passed");
    assert_eq!((curve.gets, curve.predictions[3].limit), (1, 16 << 20));
    assert_eq!(curve.predictions[0].hit_ratio, 1.0, "the contents are kept");
}

#[test]
fn a_flush_empties_all_memories() {
    let mut server = Server::new(8 << 20);
    for _ in 0..1000 {
        let key = server.draw(100);
        server.get(key, 100);
    }
    server.step_to_end();
    assert!(server.curve().keys > 0);
    server.store.flush_all(&mut server.local);
    server.step(10);
    assert_eq!(server.curve().keys, 0);
}

#[test]
fn all_bytes_together_keep_their_limit() {
    let mut server = Server::new(1 << 30);
    let sampling = Arc::new(Sampling::new(THREADS_MAX));
    let samplers: Vec<Sampler> = (0..THREADS_MAX).map(|_| sampling.sampler()).collect();
    server.predictor = Predictor::new(sampling, &server.store);
    let expiry = Expiry::NEVER;
    let (mut most, mut most_keys) = (0, 0);
    for round in 0..1500 {
        for sampler in samplers.iter().take(128) {
            let hash = server.random();
            // Small items first, then large ones, which leave many ghosts.
            let bytes = if round < 1000 { 100 } else { 60_000 };
            server.local.counters.cmd_get.add(1);
            sampler.record(hash, || Observed::Hit { bytes, expiry });
        }
        server.step(10);
        let curve = server.curve();
        assert!(curve.bytes <= MRC_BYTES_MAX, "{}", curve.bytes);
        most = most.max(curve.bytes);
        most_keys = most_keys.max(curve.keys);
    }
    assert!(most_keys <= MRC_KEYS_MAX && most_keys > MRC_KEYS_MAX / 4 * 3);
    assert!(most > MRC_BYTES_MAX / 4 * 3, "{most}");
}
