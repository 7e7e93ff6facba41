//! Sketch of the most requested keys: the Space-Saving summary of Metwally,
//! Agrawal and El Abbadi (2005), for the current and the previous time window.
//!
//! Space-Saving has a fixed number of counters. A key without a counter takes
//! over the one with the lowest count. It inherits this count as its error: at
//! most so many of its requests were counted for other keys. Here the hash of a
//! key selects a set of 8 counters, and each set is a summary of its own. A
//! lookup then needs neither an index nor a heap. The error is at most an eighth
//! of the requests of the set.
//!
//! Counters identify keys by their 64-bit hash. The bytes of a key need most of
//! the memory, so they are stored only for 256 keys. A key with a higher count
//! takes the place of the lowest one.

use std::mem;

use crate::limits::{HOT_KEYS_BYTES, HOT_KEYS_MAX, KEY_MAX_BYTES};
use crate::time::Now;

/// Length of a time window in milliseconds.
pub(super) const WINDOW_MS: u64 = 10_000;

/// Sets of counters in a window.
const SETS: usize = 256;
/// Counters in a set.
const WAYS: usize = 8;
/// Keys whose bytes a window stores.
pub(super) const SLOTS: usize = 256;

const _: () = assert!(2 * HOT_KEYS_MAX < SLOTS);
const _: () = {
    let counters = SETS * WAYS * size_of::<Counter>();
    let slots = SLOTS * size_of::<Slot>();
    assert!(size_of::<Sketch>() + 2 * (counters + slots) <= HOT_KEYS_BYTES);
};

/// Kind of access to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAccess {
    /// A retrieval, hit or miss.
    Read,
    /// Any other command.
    Write,
}

/// A sampled request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    /// Hash of the key, of good quality in all 64 bits.
    pub(super) hash: u64,
    pub(super) key: &'a [u8],
    pub(super) access: KeyAccess,
    /// Bytes of the value.
    pub(super) bytes: u64,
    /// Number of requests for which the sample stands.
    pub(super) weight: u32,
}

/// Counts of one key, scaled from samples to requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counter {
    pub(super) hash: u64,
    pub(super) bytes: u64,
    pub(super) reads: u32,
    pub(super) writes: u32,
    /// Requests of the key, at most, that were counted for other keys.
    pub(super) error: u32,
    /// Number of the slot with the bytes of the key, from 1; 0 for none.
    slot: u16,
}

impl Counter {
    /// Returns the requests counted for this key.
    pub(super) fn requests(&self) -> u32 {
        self.reads.saturating_add(self.writes)
    }

    /// Returns the count of Space-Saving, an upper bound.
    fn bound(&self) -> u32 {
        self.requests().saturating_add(self.error)
    }

    fn slot_index(&self) -> Option<usize> {
        usize::from(self.slot).checked_sub(1)
    }
}

/// Bytes of one key.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Index of the counter of the key, which refers back to this slot.
    counter: u16,
    len: u8,
    bytes: [u8; KEY_MAX_BYTES],
}

impl Slot {
    fn set(&mut self, key: &[u8]) {
        let len = key.len().min(KEY_MAX_BYTES);
        self.len = len as u8;
        self.bytes[..len].copy_from_slice(&key[..len]);
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Counts of one time window.
#[derive(Debug)]
pub(super) struct Window {
    /// Number of the window: the clock at its start, divided by [`WINDOW_MS`].
    pub(super) number: u64,
    /// Requests up to the last sample.
    pub(super) requests: u64,
    /// Sum of the samples' weights, an estimate of `requests`.
    pub(super) sampled: u64,
    /// Highest weight of a sample.
    pub(super) weight_max: u32,
    /// The lowest count of a stored key when slots were last compared.
    floor: u32,
    /// Slots in use. The others are behind them.
    used: usize,
    counters: Box<[Counter]>,
    slots: Box<[Slot]>,
}

impl Window {
    fn new(number: u64) -> Self {
        let slot = Slot {
            counter: 0,
            len: 0,
            bytes: [0; KEY_MAX_BYTES],
        };
        Self {
            number,
            requests: 0,
            sampled: 0,
            weight_max: 0,
            floor: 0,
            used: 0,
            counters: vec![Counter::default(); SETS * WAYS].into(),
            slots: vec![slot; SLOTS].into(),
        }
    }

    fn clear(&mut self, number: u64) {
        self.number = number;
        self.requests = 0;
        self.sampled = 0;
        self.weight_max = 0;
        self.floor = 0;
        self.used = 0;
        self.counters.fill(Counter::default());
    }

    fn record(&mut self, sample: &Sample<'_>) {
        self.sampled += u64::from(sample.weight);
        self.weight_max = self.weight_max.max(sample.weight);
        let index = match self.find(sample.hash) {
            Some(index) => index,
            None => self.replace_lowest(sample.hash, sample.key),
        };
        let counter = &mut self.counters[index];
        let requests = match sample.access {
            KeyAccess::Read => &mut counter.reads,
            KeyAccess::Write => &mut counter.writes,
        };
        *requests = requests.saturating_add(sample.weight);
        let bytes = sample.bytes.saturating_mul(u64::from(sample.weight));
        counter.bytes = counter.bytes.saturating_add(bytes);
        if counter.slot == 0 && exceeds(counter.requests(), self.floor) {
            self.store_key(index, sample.key);
        }
    }

    /// Returns the index of the counter for `hash`.
    fn find(&self, hash: u64) -> Option<usize> {
        let first = first_of_set(hash);
        let set = &self.counters[first..first + WAYS];
        let way = set.iter().position(|counter| counter.hash == hash)?;
        Some(first + way)
    }

    /// Returns the index of the lowest count in the set of `hash`.
    fn lowest(&self, hash: u64) -> usize {
        let first = first_of_set(hash);
        let set = first..first + WAYS;
        set.min_by_key(|index| self.counters[*index].bound())
            .unwrap_or(first)
    }

    /// Gives the counter with the lowest count of the set, and its slot if it
    /// has one, to another key. Returns its index.
    fn replace_lowest(&mut self, hash: u64, key: &[u8]) -> usize {
        let index = self.lowest(hash);
        let counter = &mut self.counters[index];
        *counter = Counter {
            hash,
            error: counter.bound(),
            slot: counter.slot,
            ..Counter::default()
        };
        if let Some(slot) = counter.slot_index() {
            self.slots[slot].set(key);
        }
        index
    }

    /// Stores the bytes of a counter's key, unless all slots have keys with more
    /// or nearly as many requests.
    fn store_key(&mut self, index: usize, key: &[u8]) {
        let slot = if self.used < SLOTS {
            self.used += 1;
            self.used - 1
        } else {
            let slots = self.slots.iter().enumerate();
            let requests = slots.map(|(slot, stored)| {
                let counter = &self.counters[usize::from(stored.counter)];
                (counter.requests(), slot)
            });
            let (requests, slot) = requests.min().unwrap_or_default();
            self.floor = requests;
            if !exceeds(self.counters[index].requests(), requests) {
                return;
            }
            self.counters[usize::from(self.slots[slot].counter)].slot = 0;
            slot
        };
        self.slots[slot].counter = index as u16;
        self.slots[slot].set(key);
        self.counters[index].slot = slot as u16 + 1;
    }

    /// Returns the hash of each stored key and its requests.
    pub(super) fn stored(&self) -> impl Iterator<Item = (u64, u32)> {
        self.slots[..self.used].iter().map(|slot| {
            let counter = &self.counters[usize::from(slot.counter)];
            (counter.hash, counter.requests())
        })
    }

    /// Returns the counts of a key, and its bytes if they are stored. For a key
    /// without a counter, all counts but the error are 0.
    pub(super) fn counts(&self, hash: u64) -> (Counter, Option<&[u8]>) {
        if let Some(index) = self.find(hash) {
            let counter = self.counters[index];
            let slot = counter.slot_index().map(|slot| &self.slots[slot]);
            return (counter, slot.map(Slot::key));
        }
        let missed = Counter {
            hash,
            error: self.counters[self.lowest(hash)].bound(),
            ..Counter::default()
        };
        (missed, None)
    }
}

/// Returns the index of the first counter of the set to which a key belongs.
fn first_of_set(hash: u64) -> usize {
    hash as usize % SETS * WAYS
}

/// Returns whether a key with `requests` may take the slot of one with `stored`.
/// The margin of a quarter prevents that keys with similar counts alternate.
fn exceeds(requests: u32, stored: u32) -> bool {
    requests > stored.saturating_add(stored / 4)
}

/// The sketch of one worker: the current and the previous time window.
#[derive(Debug)]
pub(super) struct Sketch {
    /// Time since which requests are counted, in milliseconds.
    pub(super) since_ms: u64,
    current: Window,
    previous: Window,
}

impl Sketch {
    pub(super) fn new(since: Now) -> Self {
        let number = window_at(since);
        Self {
            since_ms: since.millis(),
            current: Window::new(number),
            previous: Window::new(number.saturating_sub(1)),
        }
    }

    /// Counts a sample and the requests since the sample before. The number of
    /// the time window never decreases.
    pub(super) fn record(&mut self, window: u64, requests: u64, sample: &Sample<'_>) {
        if window != self.current.number {
            self.begin_window(window);
        }
        self.current.requests += requests;
        self.current.record(sample);
    }

    fn begin_window(&mut self, number: u64) {
        let follows = number == self.current.number + 1;
        mem::swap(&mut self.current, &mut self.previous);
        self.current.clear(number);
        if !follows {
            self.previous.clear(number.saturating_sub(1));
        }
    }

    /// Returns its windows that a report at time `now` covers.
    pub(super) fn windows(&self, now: Now) -> impl Iterator<Item = &Window> {
        let covered = first_window(now)..=window_at(now);
        let all = [&self.current, &self.previous].into_iter();
        all.filter(move |window| covered.contains(&window.number))
    }
}

/// Returns the number of the window at a time.
#[inline]
pub(super) fn window_at(now: Now) -> u64 {
    now.millis() / WINDOW_MS
}

/// Returns the number of the first window that a report at time `now` covers:
/// the one before the present window.
pub(super) fn first_window(now: Now) -> u64 {
    window_at(now).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rustcached_bench::random::{Random, Zipf, mix};

    use super::{KeyAccess, SETS, SLOTS, Sample, Sketch, WAYS, WINDOW_MS, Window};
    use crate::time::Now;

    fn read(hash: u64, key: &[u8]) -> Sample<'_> {
        Sample {
            hash,
            key,
            access: KeyAccess::Read,
            bytes: 10,
            weight: 1,
        }
    }

    fn in_window(number: u64) -> Now {
        Now::from_millis(number * WINDOW_MS + 1)
    }

    #[test]
    fn counts_are_scaled_by_the_weight() {
        let mut window = Window::new(1);
        window.record(&read(5, b"key"));
        let sample = Sample {
            weight: 4,
            ..read(5, b"key")
        };
        window.record(&sample);
        window.record(&Sample {
            access: KeyAccess::Write,
            bytes: 7,
            ..sample
        });
        let (counts, key) = window.counts(5);
        assert_eq!((counts.reads, counts.writes, counts.error), (5, 4, 0));
        assert_eq!((counts.bytes, key), (78, Some(b"key".as_slice())));
        assert_eq!((window.sampled, window.weight_max), (9, 4));
    }

    #[test]
    fn a_new_key_takes_over_the_lowest_count_of_a_full_set() {
        let mut window = Window::new(1);
        let hash = |number: usize| (number * SETS + 3) as u64;
        for number in 1..=WAYS {
            for _ in 0..=number {
                window.record(&read(hash(number), b"old"));
            }
        }
        assert_eq!(window.counts(hash(9)).0.error, 2);
        window.record(&read(hash(9), b"new"));
        let (counts, key) = window.counts(hash(9));
        assert_eq!((counts.requests(), counts.error), (1, 2));
        assert_eq!(key, Some(b"new".as_slice()));
        let (replaced, key) = window.counts(hash(1));
        assert_eq!((replaced.requests(), replaced.error), (0, 3));
        assert_eq!(key, None);
        assert_eq!(window.counts(hash(2)).0.requests(), 3);
    }

    #[test]
    fn errors_bound_what_was_missed_of_every_key() {
        const KEYS: u64 = 20_000;
        let (mut random, zipf) = (Random::new(3), Zipf::new(KEYS, 0.8));
        let mut window = Window::new(1);
        let mut exact = HashMap::<u64, u64>::new();
        for _ in 0..200_000 {
            let hash = mix(zipf.draw(&mut random));
            *exact.entry(hash).or_default() += 1;
            window.record(&read(hash, &hash.to_le_bytes()));
        }
        for rank in 1..=KEYS {
            let hash = mix(rank);
            let exact = exact.get(&hash).copied().unwrap_or(0);
            let (counts, _) = window.counts(hash);
            let lowest = u64::from(counts.requests());
            let highest = lowest + u64::from(counts.error);
            assert!((lowest..=highest).contains(&exact), "{rank}: {exact}");
        }
        let bounds = window.counters.iter().map(|c| u64::from(c.bound()));
        assert_eq!(bounds.sum::<u64>(), window.sampled);
    }

    #[test]
    fn the_bytes_of_the_highest_counts_are_stored() {
        let (mut random, zipf) = (Random::new(4), Zipf::new(100_000, 0.99));
        let mut window = Window::new(1);
        for _ in 0..100_000 {
            let hash = mix(zipf.draw(&mut random));
            window.record(&read(hash, &hash.to_le_bytes()));
        }
        for rank in 1..=100 {
            let key = window.counts(mix(rank)).1;
            assert_eq!(key, Some(mix(rank).to_le_bytes().as_slice()), "{rank}");
        }
        assert_eq!(window.stored().count(), SLOTS);
        for (hash, requests) in window.stored() {
            let (counts, key) = window.counts(hash);
            assert_eq!(key, Some(hash.to_le_bytes().as_slice()));
            assert_eq!(counts.requests(), requests);
        }
    }

    #[test]
    fn a_sketch_keeps_the_current_and_the_previous_window() {
        let mut sketch = Sketch::new(in_window(7));
        let numbers = |sketch: &Sketch, now| -> Vec<(u64, u64)> {
            let windows = sketch.windows(in_window(now));
            windows
                .map(|window| (window.number, window.requests))
                .collect()
        };
        sketch.record(7, 5, &read(1, b"a"));
        sketch.record(8, 2, &read(1, b"a"));
        assert_eq!(numbers(&sketch, 8), [(8, 2), (7, 5)]);
        assert_eq!(numbers(&sketch, 9), [(8, 2)]);
        assert_eq!(numbers(&sketch, 10), []);
        sketch.record(9, 1, &read(2, b"b"));
        assert_eq!(numbers(&sketch, 9), [(9, 1), (8, 2)]);
        assert_eq!(sketch.current.counts(1).0.requests(), 0);
        assert_eq!(sketch.previous.counts(1).1, Some(b"a".as_slice()));
        sketch.record(20, 1, &read(1, b"a"));
        assert_eq!(numbers(&sketch, 20), [(20, 1), (19, 0)]);
        assert_eq!(sketch.previous.stored().count(), 0);
    }
}
