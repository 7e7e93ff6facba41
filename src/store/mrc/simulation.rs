//! The miniature memories together: what each of them does with a request.
//! Lowers the threshold when there are too many keys or ghosts.

use crate::config::Eviction;
use crate::limits::{MRC_BYTES_MAX, MRC_KEYS_MAX, MRC_RING_SAMPLES};
use crate::store::mrc::keys::{KEYS_BYTES, Keys, Place};
use crate::store::mrc::miniature::{MINIATURE_BYTES, Miniature, Scale};
use crate::store::mrc::sampling::{EVERY_KEY, Observed, SAMPLE_BYTES, is_sampled};
use crate::store::mrc::sizes::{FACTORS, SIZES};
use crate::store::mrc::windows::Counts;
use crate::time::{Expiry, Now};

/// Places for misses of keys that no memory holds.
const UNFILLED: usize = 1 << 14;
const UNFILLED_BYTES: usize = UNFILLED * size_of::<u32>();

/// Bytes of smaller parts: the windows, and what the consumer keeps per ring.
const OTHER_BYTES: usize = 64 * 1024;

/// Most bytes of the ghosts of all memories: what the other parts leave.
pub(in crate::store) const GHOST_BYTES_MAX: usize = MRC_BYTES_MAX
    - KEYS_BYTES
    - UNFILLED_BYTES
    - SIZES * MINIATURE_BYTES
    - MRC_RING_SAMPLES * SAMPLE_BYTES
    - OTHER_BYTES;

/// The miniature memories and their keys.
pub(in crate::store) struct Simulation {
    keys: Keys,
    memories: [Miniature; SIZES],
    /// Parts of the hashes of keys that were missed and that no memory holds. A
    /// set that follows tells the size of what was missed.
    unfilled: Box<[u32]>,
    /// Threshold of the sampled keys.
    threshold: u64,
    /// The next place to sweep.
    sweep: usize,
    /// Whether an item with an expiry time was ever stored.
    expires: bool,
}

impl Simulation {
    /// Creates empty memories for a store with a memory limit of `limit` bytes.
    /// Every key is sampled.
    pub(in crate::store) fn new(
        limit: usize,
        shards: usize,
        eviction: Eviction,
        evicts: bool,
    ) -> Self {
        let memory = |number: usize| {
            let limit = limit as f64 * FACTORS[number];
            let rate = 1.0;
            let scale = Scale {
                limit,
                shards,
                rate,
            };
            Miniature::new(number, scale, eviction, evicts)
        };
        Self {
            keys: Keys::default(),
            memories: std::array::from_fn(memory),
            unfilled: vec![0; UNFILLED].into(),
            threshold: EVERY_KEY,
            sweep: 0,
            expires: false,
        }
    }

    /// Returns the threshold of the sampled keys.
    pub(in crate::store) fn threshold(&self) -> u64 {
        self.threshold
    }

    /// Returns the part of the keys that is sampled.
    pub(in crate::store) fn rate(&self) -> f64 {
        self.threshold as f64 / EVERY_KEY as f64
    }

    /// Returns the number of keys.
    pub(in crate::store) fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Returns the bytes of keys, memories and ghosts.
    pub(in crate::store) fn bytes(&self) -> usize {
        let fixed = UNFILLED_BYTES + SIZES * MINIATURE_BYTES + OTHER_BYTES;
        self.keys.bytes() + fixed + self.ghost_bytes()
    }

    /// Returns the bytes of all ghosts.
    pub(in crate::store) fn ghost_bytes(&self) -> usize {
        self.memories.iter().map(Miniature::ghost_bytes).sum()
    }

    /// Returns the number of items in each memory, after checking that the
    /// memories' counts agree with the keys.
    #[cfg(test)]
    pub(in crate::store) fn items(&self) -> [usize; SIZES] {
        let places = self.keys.places();
        assert!(places.iter().all(|place| self.keys.at(*place).held != 0));
        std::array::from_fn(|number| self.memories[number].checked_items(&self.keys))
    }

    /// Changes the threshold. Forgets keys that are not sampled any more.
    pub(in crate::store) fn set_threshold(&mut self, threshold: u64) {
        self.threshold = threshold.clamp(1, EVERY_KEY);
        for place in self.keys.places() {
            if !is_sampled(self.keys.at(place).hash, self.threshold) {
                self.forget(place);
            }
        }
        let rate = self.rate();
        self.rescale(|_, scale| Scale { rate, ..scale });
    }

    /// Changes the memory limit of the store, in bytes.
    pub(in crate::store) fn set_limit(&mut self, limit: usize) {
        self.rescale(|number, scale| Scale {
            limit: limit as f64 * FACTORS[number],
            ..scale
        });
    }

    fn rescale(&mut self, change: impl Fn(usize, Scale) -> Scale) {
        for (number, memory) in self.memories.iter_mut().enumerate() {
            memory.rescale(&self.keys, change(number, memory.scale()));
        }
    }

    /// Removes all items, as `flush_all` does.
    pub(in crate::store) fn clear(&mut self) {
        for place in self.keys.places() {
            self.forget(place);
        }
    }

    /// Replays a request, and adds retrievals to `counts`. Ignores keys that are
    /// not sampled any more.
    pub(in crate::store) fn replay(
        &mut self,
        hash: u64,
        request: Observed,
        now: Now,
        counts: &mut Counts,
    ) {
        if !is_sampled(hash, self.threshold) {
            return;
        }
        match request {
            Observed::Hit { bytes, expiry } => self.hit(hash, bytes, expiry, now, counts),
            Observed::Miss => self.miss(hash, now, counts),
            Observed::Set { bytes, expiry } => self.set(hash, bytes, expiry, now, counts),
            Observed::Delete => {
                if let Some(place) = self.keys.find(hash) {
                    self.forget(place);
                }
            }
            Observed::Touch { expiry } => self.touch(hash, expiry, now),
        }
    }

    /// Replays a retrieval that found an item in the store. A memory without
    /// the item misses, and its client sets the item.
    fn hit(&mut self, hash: u64, bytes: u32, expiry: Expiry, now: Now, counts: &mut Counts) {
        let Some(place) = self.find_or_add(hash) else {
            return;
        };
        self.expires |= expiry != Expiry::NEVER;
        counts.add_get(bytes, true, self.rate());
        let key = self.keys.at_mut(place);
        key.take_miss(now);
        if key.held == 0 {
            key.ttl = now.remaining_eighths(expiry);
        }
        let fresh = Expiry::from_remaining(key.ttl, now);
        self.set_bytes(place, bytes);
        for memory in 0..SIZES {
            if self.holds(memory, place, now) {
                counts.add_hit(memory, bytes, self.rate());
                self.memories[memory].hit(&self.keys, place, now);
            } else {
                self.memories[memory].insert(&mut self.keys, place, fresh, now);
            }
        }
        self.drop_if_unheld(place);
    }

    /// Replays a retrieval that the store missed. A memory without the item
    /// waits for the set.
    fn miss(&mut self, hash: u64, now: Now, counts: &mut Counts) {
        let Some(place) = self.keys.find(hash) else {
            counts.add_get(0, false, self.rate());
            self.unfilled[unfilled_place(hash)] = unfilled_print(hash);
            return;
        };
        let key = self.keys.at_mut(place);
        key.record_miss(now);
        let bytes = key.bytes;
        counts.add_get(bytes, false, self.rate());
        for memory in 0..SIZES {
            if self.holds(memory, place, now) {
                counts.add_hit(memory, bytes, self.rate());
                self.memories[memory].hit(&self.keys, place, now);
            }
        }
        self.drop_if_unheld(place);
    }

    /// Replays a storage command. If it follows a miss, a memory that had a hit
    /// instead does not see it.
    fn set(&mut self, hash: u64, bytes: u32, expiry: Expiry, now: Now, counts: &mut Counts) {
        let Some(place) = self.find_or_add(hash) else {
            return;
        };
        self.expires |= expiry != Expiry::NEVER;
        let key = self.keys.at_mut(place);
        let fills = key.take_miss(now);
        key.ttl = now.remaining_eighths(expiry);
        if key.held == 0 {
            let unfilled = &mut self.unfilled[unfilled_place(hash)];
            if *unfilled == unfilled_print(hash) {
                *unfilled = 0;
                counts.add_missed_bytes(bytes, self.rate());
            }
        }
        self.set_bytes(place, bytes);
        for memory in 0..SIZES {
            if !self.holds(memory, place, now) {
                self.memories[memory].insert(&mut self.keys, place, expiry, now);
            } else if !fills {
                self.memories[memory].replace(&mut self.keys, place, expiry, now);
            }
        }
        self.drop_if_unheld(place);
    }

    /// Replays a use that is no retrieval.
    fn touch(&mut self, hash: u64, expiry: Option<Expiry>, now: Now) {
        let Some(place) = self.keys.find(hash) else {
            return;
        };
        if let Some(expiry) = expiry {
            self.expires |= expiry != Expiry::NEVER;
            self.keys.at_mut(place).ttl = now.remaining_eighths(expiry);
        }
        for memory in 0..SIZES {
            if self.holds(memory, place, now) {
                if let Some(expiry) = expiry {
                    self.keys.at_mut(place).expiry[memory] = expiry;
                }
                self.memories[memory].hit(&self.keys, place, now);
            }
        }
        self.drop_if_unheld(place);
    }

    /// Returns the place of a key. Adds the key if it is not there, and lowers
    /// the threshold if the table is full. `None` if the key is then not sampled
    /// any more.
    fn find_or_add(&mut self, hash: u64) -> Option<Place> {
        let found = self.keys.find(hash);
        if found.is_some() {
            return found;
        }
        while self.keys.is_full() {
            self.lower();
        }
        is_sampled(hash, self.threshold).then(|| self.keys.add(hash))
    }

    /// Lowers the threshold by an eighth.
    fn lower(&mut self) {
        self.set_threshold(self.threshold - self.threshold.div_ceil(8));
    }

    /// Sets the size of the key's items.
    fn set_bytes(&mut self, place: Place, bytes: u32) {
        let key = self.keys.at_mut(place);
        let before = std::mem::replace(&mut key.bytes, bytes);
        if before == bytes {
            return;
        }
        let key = self.keys.at(place);
        for (number, memory) in self.memories.iter_mut().enumerate() {
            if key.is_in(number) {
                memory.resize(before, bytes);
            }
        }
    }

    /// Returns whether a memory holds a live item of the key. Removes an expired
    /// one.
    fn holds(&mut self, memory: usize, place: Place, now: Now) -> bool {
        let key = self.keys.at(place);
        if !key.is_in(memory) {
            return false;
        }
        if key.expiry[memory].is_over(now) {
            self.memories[memory].remove(&mut self.keys, place);
            return false;
        }
        true
    }

    fn drop_if_unheld(&mut self, place: Place) {
        if self.keys.at(place).held == 0 {
            self.keys.remove(place);
        }
    }

    /// Removes a key and all its items.
    fn forget(&mut self, place: Place) {
        for (number, memory) in self.memories.iter_mut().enumerate() {
            if self.keys.at(place).is_in(number) {
                memory.remove(&mut self.keys, place);
            }
        }
        self.keys.remove(place);
    }

    /// Does the periodic work: measures the pace of the hands, evicts down to
    /// the room, and allocates ghosts.
    pub(in crate::store) fn upkeep(&mut self, now: Now) {
        for memory in &mut self.memories {
            memory.survey();
            memory.measure_pace(now);
            memory.shrink(&mut self.keys, now);
        }
        let wanted = |memories: &[Miniature]| -> usize {
            memories.iter().map(Miniature::wanted_ghost_bytes).sum()
        };
        while wanted(&self.memories) > GHOST_BYTES_MAX && self.threshold > 1 {
            self.lower();
        }
        self.memories.iter_mut().for_each(Miniature::fit_ghosts);
    }

    /// Removes expired items at the next `places` places.
    pub(in crate::store) fn sweep(&mut self, now: Now, places: usize) {
        if !self.expires || self.keys.len() == 0 {
            return;
        }
        for _ in 0..places.min(MRC_KEYS_MAX) {
            self.sweep = (self.sweep + 1) % MRC_KEYS_MAX;
            let place = self.sweep as Place;
            if self.keys.at(place).held != 0 {
                for memory in 0..SIZES {
                    self.holds(memory, place, now);
                }
                self.drop_if_unheld(place);
            }
        }
    }
}

/// Returns the place of a missed key in [`Simulation::unfilled`].
fn unfilled_place(hash: u64) -> usize {
    (hash >> u32::BITS) as usize % UNFILLED
}

/// Returns what marks a missed key there. It is never 0.
fn unfilled_print(hash: u64) -> u32 {
    (hash >> 16) as u32 | 1
}
