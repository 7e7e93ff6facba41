//! Sampling by a worker: selects the requests to count, and their weight.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use crate::stats::hot_keys::sketch::{KeyAccess, Sample, Sketch, window_at};
use crate::sync::{AtomicBool, Ordering};
use crate::time::Now;

/// Largest mean distance of two samples, in requests.
const WEIGHT_MAX: u32 = 128;

/// Samples in a window after which the mean distance doubles.
const SAMPLES_PER_WEIGHT: u32 = 32 * 1024;

/// The sketch of one worker's requests. The worker writes it with a
/// [`HotSampler`]; any thread may turn it on and off, and read it.
#[derive(Debug, Default)]
pub struct HotKeys {
    on: AtomicBool,
    /// Allocated while on.
    sketch: Mutex<Option<Sketch>>,
}

impl HotKeys {
    /// Starts to count, and allocates the sketch. Does nothing if it is on.
    pub fn turn_on(&self, now: Now) {
        if !self.on.load(Ordering::Relaxed) {
            let sketch = Sketch::new(now);
            *self.sketch.lock().unwrap_or_else(PoisonError::into_inner) = Some(sketch);
            self.on.store(true, Ordering::Relaxed);
        }
    }

    /// Stops to count, and frees the sketch.
    pub fn turn_off(&self) {
        self.on.store(false, Ordering::Relaxed);
        let sketch = &mut *self.sketch.lock().unwrap_or_else(PoisonError::into_inner);
        *sketch = None;
    }

    /// Returns whether requests are counted.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Counts a sample and the requests since the sample before, if the sketch
    /// is on. Returns false if a reader has locked it: waiting would delay
    /// requests.
    fn try_record(&self, window: u64, requests: u64, sample: &Sample<'_>) -> bool {
        let mut sketch = match self.sketch.try_lock() {
            Ok(sketch) => sketch,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        if let Some(sketch) = &mut *sketch {
            sketch.record(window, requests, sample);
        }
        true
    }

    /// Calls `read` with the sketch, if it is on. Meanwhile the worker postpones
    /// samples.
    pub(super) fn read(&self, read: impl FnOnce(&Sketch)) {
        let sketch = self.sketch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sketch) = &*sketch {
            read(sketch);
        }
    }
}

/// Samples the requests of one worker.
///
/// The distances of samples are random, so that a periodic pattern of requests
/// hides no key. The weight of a sample is the mean distance, a power of two up
/// to 128. A worker with few requests samples all of them. The weight doubles
/// after 32,768 samples in the same time window. A window begins with the weight
/// that suits the number of requests in the previous one.
#[derive(Debug)]
pub struct HotSampler {
    keys: Arc<HotKeys>,
    /// Requests up to the next sample, which is the last of them.
    left: u32,
    /// Requests from the last sample to the next.
    distance: u32,
    weight: u32,
    /// Samples with this weight since the window began.
    samples: u32,
    /// Number of the window.
    window: u64,
    /// Requests of the window.
    requests: u64,
    /// State of a xorshift generator; not 0.
    random: u64,
}

impl HotSampler {
    /// Creates the sampler of a worker. `seed` selects the random distances;
    /// workers should have different ones.
    pub fn new(keys: Arc<HotKeys>, seed: u64) -> Self {
        Self {
            keys,
            left: 1,
            distance: 1,
            weight: 1,
            samples: 0,
            window: 0,
            requests: 0,
            random: seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    /// Begins a batch of requests. Returns whether they shall be passed to
    /// [`HotSampler::record`].
    #[inline]
    pub fn begin_batch(&mut self, now: Now) -> bool {
        if !self.keys.is_on() {
            return false;
        }
        let window = window_at(now);
        if window != self.window {
            self.begin_window(window);
        }
        true
    }

    fn begin_window(&mut self, window: u64) {
        let follows = window == self.window + 1;
        let requests = if follows { self.requests } else { 0 };
        let weight = requests / u64::from(2 * SAMPLES_PER_WEIGHT);
        self.weight = weight.clamp(1, WEIGHT_MAX.into()).next_power_of_two() as u32;
        self.samples = 0;
        self.window = window;
        self.requests = 0;
    }

    /// Counts a request: its key, the hash of the key in the store, and the
    /// bytes of the value sent or stored. If it becomes a sample, returns the
    /// number of requests for which it stands; otherwise 0.
    #[inline]
    pub fn record(&mut self, hash: u64, key: &[u8], access: KeyAccess, bytes: u64) -> u32 {
        self.left -= 1;
        if self.left == 0 {
            return self.sample(hash, key, access, bytes);
        }
        0
    }

    #[cold]
    #[inline(never)]
    fn sample(&mut self, hash: u64, key: &[u8], access: KeyAccess, bytes: u64) -> u32 {
        let distance = self.distance;
        let requests = u64::from(distance);
        let sample = Sample {
            hash,
            key,
            access,
            bytes,
            weight: self.weight,
        };
        if self.keys.try_record(self.window, requests, &sample) {
            self.requests += requests;
            self.draw_distance();
            distance
        } else {
            self.left = 1;
            self.distance += 1;
            0
        }
    }

    /// Draws the distance to the next sample: evenly from 1 to twice the weight
    /// less 1, so that the weight is the mean.
    fn draw_distance(&mut self) {
        self.samples += 1;
        if self.samples >= SAMPLES_PER_WEIGHT && self.weight < WEIGHT_MAX {
            self.weight *= 2;
            self.samples = 0;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let below = u64::from(2 * self.weight - 1);
        self.distance = 1 + (((self.random >> 32) * below) >> 32) as u32;
        self.left = self.distance;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{HotKeys, HotSampler, SAMPLES_PER_WEIGHT, WEIGHT_MAX};
    use crate::stats::hot_keys::sketch::{KeyAccess, WINDOW_MS};
    use crate::time::Now;

    const NOW: Now = Now::from_millis(3 * WINDOW_MS);

    fn turned_on() -> (Arc<HotKeys>, HotSampler) {
        let keys = Arc::<HotKeys>::default();
        keys.turn_on(NOW);
        let mut sampler = HotSampler::new(Arc::clone(&keys), 1);
        assert!(sampler.begin_batch(NOW));
        (keys, sampler)
    }

    fn read(sampler: &mut HotSampler, hash: u64) {
        sampler.record(hash, &hash.to_le_bytes(), KeyAccess::Read, 1);
    }

    /// Returns the requests and the sum of weights of the current window.
    fn sums(keys: &HotKeys, now: Now) -> (u64, u64) {
        let mut sums = (0, 0);
        keys.read(|sketch| {
            let window = sketch.windows(now).next().unwrap();
            sums = (window.requests, window.sampled);
        });
        sums
    }

    #[test]
    fn while_off_nothing_is_counted_or_allocated() {
        let (keys, mut sampler) = turned_on();
        keys.turn_off();
        assert!(!sampler.begin_batch(NOW));
        // A batch may have begun before.
        read(&mut sampler, 1);
        assert!(keys.sketch.lock().unwrap().is_none());

        keys.turn_on(NOW);
        assert!(sampler.begin_batch(NOW));
        read(&mut sampler, 2);
        assert_eq!(sums(&keys, NOW), (1, 1));
        keys.turn_on(NOW);
        assert_eq!(sums(&keys, NOW), (1, 1), "turned on already");
    }

    #[test]
    fn few_requests_are_all_sampled() {
        let (keys, mut sampler) = turned_on();
        let requests = u64::from(SAMPLES_PER_WEIGHT);
        (0..requests).for_each(|_| read(&mut sampler, 9));
        assert_eq!(sums(&keys, NOW), (requests, requests));
    }

    #[test]
    fn many_requests_raise_the_weight_and_few_reset_it() {
        let (keys, mut sampler) = turned_on();
        let requests = 400 * u64::from(SAMPLES_PER_WEIGHT);
        (0..requests).for_each(|_| read(&mut sampler, 9));
        assert_eq!(sampler.weight, WEIGHT_MAX);
        let (counted, sampled) = sums(&keys, NOW);
        assert!(requests - counted < 2 * u64::from(WEIGHT_MAX), "{counted}");
        let error = sampled as f64 / counted as f64 - 1.0;
        assert!(error.abs() < 0.01, "{error}");

        assert!(sampler.begin_batch(Now::from_millis(NOW.millis() + WINDOW_MS)));
        assert_eq!(sampler.weight, WEIGHT_MAX);
        let requests = 7 * u64::from(SAMPLES_PER_WEIGHT);
        (0..requests).for_each(|_| read(&mut sampler, 9));
        assert!(sampler.begin_batch(Now::from_millis(NOW.millis() + 2 * WINDOW_MS)));
        assert_eq!(sampler.weight, 4);
        assert!(sampler.begin_batch(Now::from_millis(NOW.millis() + 4 * WINDOW_MS)));
        assert_eq!(sampler.weight, 1);
    }

    #[test]
    fn a_periodic_pattern_hides_no_key() {
        for period in [2, 31, 32, 63, 64] {
            let (keys, mut sampler) = turned_on();
            (0..8_000_000).for_each(|request| read(&mut sampler, request % period));
            keys.read(|sketch| {
                let window = sketch.windows(NOW).next().unwrap();
                for hash in 0..period {
                    let requests = window.counts(hash).0.requests();
                    let share = f64::from(requests) / window.sampled as f64;
                    let error = share * period as f64 - 1.0;
                    assert!(error.abs() < 0.1, "{hash} of {period}: {error}");
                }
            });
        }
    }

    #[test]
    fn samples_are_postponed_while_a_reader_holds_the_sketch() {
        let (keys, mut sampler) = turned_on();
        let reader = keys.sketch.lock().unwrap();
        (0..10).for_each(|_| read(&mut sampler, 9));
        drop(reader);
        read(&mut sampler, 9);
        assert_eq!(sums(&keys, NOW), (11, 1));
        read(&mut sampler, 9);
        assert_eq!(sums(&keys, NOW), (12, 2));
    }
}
