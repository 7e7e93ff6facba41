//! Hot items: a thread's own references to the few items with the most hits. A
//! hit on such an item touches no shared state but the item itself and the
//! version of its shard. It needs no table look-up and no lock; all threads
//! would write to the lock's cache line.
//!
//! A held item is valid while the version of its shard is unchanged. Some hits
//! still take the ordinary path, so that the eviction policy sees the accesses.
//!
//! Hot keys are found in a sample of the table look-ups. Each candidate slot
//! keeps the key with the majority of the samples in that slot (Boyer and
//! Moore, "MJRTY: A Fast Majority Vote Algorithm"). Only a key with about 1% of
//! all look-ups becomes hot.

use crate::limits::{SEND_BY_REFERENCE_BYTES, TIGHT_SEND_BY_REFERENCE_BYTES};
use crate::store::index::map::{Hashed, Map, ReadShard};
use crate::store::index::version::ObservedVersion;
use crate::store::item::layout::Item;
use crate::store::item::pin::Pin;
use crate::time::Now;

/// Hot items that one thread holds at most.
pub(in crate::store) const PLACES: usize = 32;
/// Slots for keys that may become hot.
const CANDIDATES: usize = 64;
/// Range of the distance between two sampled table look-ups.
const SAMPLE_EVERY: std::ops::Range<u32> = 9..25;
/// Lead in samples at which a key is hot.
const AHEAD_HOT: u8 = 8;
/// Upper bound of a key's lead.
const AHEAD_MAX: u8 = 32;
/// Hits without a table look-up, after which the next hit takes the ordinary
/// path.
const HITS_MAX: u32 = 64;
/// If an item is replaced after fewer hits than this, its reference is dropped
/// until its key is sampled as hot again.
const HITS_WORTHWHILE: u32 = 4;
/// Values above this are not held: copying them takes longer than the lock.
const VALUE_MAX_BYTES: usize = 4096;
// `read_often` may call its callback twice and drop the first reply. That only
// works for replies that are copied to the output, not sent by reference.
const _: () = assert!(VALUE_MAX_BYTES < TIGHT_SEND_BY_REFERENCE_BYTES);
const _: () = assert!(VALUE_MAX_BYTES < SEND_BY_REFERENCE_BYTES);

/// The hot items of one thread, and the candidates.
pub(crate) struct Hot {
    /// The held items; a hash selects its place.
    pub(in crate::store) places: [Option<Held>; PLACES],
    /// Number of held items.
    pub(in crate::store) held: usize,
    /// The candidates; a hash selects its slot.
    pub(in crate::store) candidates: [Candidate; CANDIDATES],
    /// Table look-ups until the next sample.
    pub(in crate::store) until_sample: u32,
    /// State of the random generator that draws the distances between samples.
    pub(in crate::store) random: u32,
    /// Second of the last pass of [`Store::release_cold`](crate::store::Store::release_cold).
    pub(in crate::store) released: u32,
}

/// A hot item.
pub(in crate::store) struct Held {
    /// Hash of its key.
    pub(in crate::store) hash: u64,
    /// The thread's reference to the item.
    pub(in crate::store) pin: Pin,
    /// The shard version at which the item was looked up.
    pub(in crate::store) observed: ObservedVersion,
    /// Second of the last table look-up.
    pub(in crate::store) second: u32,
    /// Hits left until the next table look-up.
    pub(in crate::store) left: u32,
}

/// A key that may become hot: part of its hash, and its lead in samples.
#[derive(Clone, Copy, Default)]
pub(in crate::store) struct Candidate {
    tag: u32,
    ahead: u8,
}

impl Hot {
    /// Creates an empty set.
    pub(crate) fn new() -> Self {
        Self {
            places: [const { None }; PLACES],
            held: 0,
            candidates: [Candidate::default(); CANDIDATES],
            until_sample: SAMPLE_EVERY.start,
            random: 1,
            released: 0,
        }
    }

    /// Returns whether no item is held.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Returns whether an item with this hash is held.
    #[inline]
    pub(crate) fn has(&self, hash: u64) -> bool {
        self.held > 0 && matches!(&self.places[place(hash)], Some(held) if held.hash == hash)
    }

    /// Returns the key's held item and the version on which it depends. Returns
    /// `None` if there is none, if its shard has changed, or if the next table
    /// look-up is due: after 64 hits, and at the first hit in each second.
    #[inline]
    pub(crate) fn find(
        &mut self,
        key: &Hashed<'_>,
        map: &Map,
        now: Now,
    ) -> Option<(Item<'_>, ObservedVersion)> {
        if self.held == 0 {
            return None;
        }
        let held = self.places[place(key.hash)].as_mut()?;
        let good = held.hash == key.hash
            && held.left > 0
            && held.second == now.second()
            && map.version(key.hash).is_unchanged(held.observed);
        if !good {
            return None;
        }
        held.left -= 1;
        let item = held.pin.item();
        (item.key() == key.key).then_some((item, held.observed))
    }

    /// Records an access that looked the item up in its shard, and takes a
    /// reference to the item if its key is hot. Returns the reference that the
    /// new one replaces; the caller releases it after unlocking the shard.
    #[inline]
    pub(crate) fn record(
        &mut self,
        hash: u64,
        item: Item<'_>,
        shard: &ReadShard<'_>,
        now: Now,
    ) -> Option<Pin> {
        self.until_sample -= 1;
        let hot = self.until_sample == 0 && self.sample(hash);
        if !hot && !self.has(hash) {
            return None;
        }
        self.hold(hash, item, shard, now, hot)
    }

    /// Adds a look-up to the samples. Returns whether its key is hot.
    #[cold]
    fn sample(&mut self, hash: u64) -> bool {
        // Random distances, so that a periodic pattern of requests does not
        // bias the sample. (A linear congruential generator, as in Numerical
        // Recipes.)
        let length = SAMPLE_EVERY.end - SAMPLE_EVERY.start;
        self.random = self
            .random
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        self.until_sample = SAMPLE_EVERY.start + (self.random >> 16) % length;
        let tag = (hash >> 32) as u32;
        let candidate = &mut self.candidates[hash as usize % CANDIDATES];
        if candidate.tag == tag {
            candidate.ahead = (candidate.ahead + 1).min(AHEAD_MAX);
            return candidate.ahead >= AHEAD_HOT;
        }
        match candidate.ahead {
            0 => *candidate = Candidate { tag, ahead: 1 },
            _ => candidate.ahead -= 1,
        }
        false
    }

    fn hold(
        &mut self,
        hash: u64,
        item: Item<'_>,
        shard: &ReadShard<'_>,
        now: Now,
        hot: bool,
    ) -> Option<Pin> {
        let second = now.second();
        let place = &mut self.places[place(hash)];
        match place {
            Some(held) if held.hash == hash && item.is_same(&held.pin) => {
                held.observed = shard.version().observe();
                held.second = second;
                held.left = HITS_MAX;
                return None;
            }
            // The item is replaced too often: holding it does not pay.
            Some(held) if held.hash == hash && !hot && HITS_MAX - held.left < HITS_WORTHWHILE => {
                self.held -= 1;
                return place.take().map(|held| held.pin);
            }
            // The place belongs to another key that is just as hot.
            Some(held) if held.hash != hash && held.second == second => return None,
            _ => {}
        }
        // Chained items are excluded: the page mover cannot move a chained item
        // while it is pinned.
        let fits = item.value_len() <= VALUE_MAX_BYTES && !item.is_chained();
        let fresh = fits.then(|| item.pin()).flatten().map(|pin| Held {
            hash,
            pin,
            observed: shard.version().observe(),
            second,
            left: HITS_MAX,
        });
        let before = std::mem::replace(place, fresh);
        self.held += usize::from(place.is_some());
        self.held -= usize::from(before.is_some());
        before.map(|held| held.pin)
    }
}

#[inline]
fn place(hash: u64) -> usize {
    (hash >> 24) as usize % PLACES
}
