//! A thread's own references to the few items that everybody asks for, so
//! that a hit on them touches nothing but the item: no lock, whose line all
//! threads would write, and no table. What is held is good while the version
//! of its shard is; now and then a look-up goes the ordinary way all the
//! same, so that the eviction policy hears of the accesses.
//!
//! Which keys are hot, a sample of the look-ups in the table tells: each place keeps the
//! key that is ahead in it (Boyer and Moore's majority vote), so that only a
//! key with about a hundredth of all look-ups gets there.

use crate::limits::{SEND_BY_REFERENCE_BYTES, TIGHT_SEND_BY_REFERENCE_BYTES};
use crate::store::index::map::{Hashed, Map, ReadShard};
use crate::store::index::version::Relied;
use crate::store::item::layout::Item;
use crate::store::item::pin::Pin;
use crate::time::Now;

/// Items that one thread holds at most.
pub(in crate::store) const PLACES: usize = 32;
/// Keys that may be becoming hot.
const CANDIDATES: usize = 64;
/// One look-up in the table in about so many is looked at: between these.
const SAMPLE_EVERY: std::ops::Range<u32> = 9..25;
/// By how many samples a key must be ahead,
const AHEAD_HOT: u8 = 8;
/// and can be.
const AHEAD_MAX: u8 = 32;
/// Hits in a row that may go past the table.
const HITS_MAX: u32 = 64;
/// An item that is replaced after fewer is not held again at once.
const HITS_WORTHWHILE: u32 = 4;
/// Larger values are not held: copying them takes longer than the lock.
const VALUE_MAX_BYTES: usize = 4096;
// A hot value may be shown twice, and the first answer taken back, which only
// works for answers that are copied.
const _: () = assert!(VALUE_MAX_BYTES < TIGHT_SEND_BY_REFERENCE_BYTES);
const _: () = assert!(VALUE_MAX_BYTES < SEND_BY_REFERENCE_BYTES);

/// See the module's documentation.
pub(crate) struct Hot {
    pub(in crate::store) places: [Option<Held>; PLACES],
    pub(in crate::store) held: usize,
    pub(in crate::store) candidates: [Candidate; CANDIDATES],
    pub(in crate::store) until_sample: u32,
    /// State of the generator of distances between samples.
    pub(in crate::store) random: u32,
    /// Second in which it was last looked for what has gone cold.
    pub(in crate::store) cooled: u32,
}

pub(in crate::store) struct Held {
    pub(in crate::store) hash: u64,
    pub(in crate::store) pin: Pin,
    pub(in crate::store) relied: Relied,
    /// Second of the last look-up in the table.
    pub(in crate::store) second: u32,
    /// Hits until the next one.
    pub(in crate::store) left: u32,
}

#[derive(Clone, Copy, Default)]
pub(in crate::store) struct Candidate {
    tag: u32,
    ahead: u8,
}

impl Hot {
    pub(crate) fn new() -> Self {
        Self {
            places: [const { None }; PLACES],
            held: 0,
            candidates: [Candidate::default(); CANDIDATES],
            until_sample: SAMPLE_EVERY.start,
            random: 1,
            cooled: 0,
        }
    }

    /// Whether anything is held.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Whether an item of this hash is held.
    #[inline]
    pub(crate) fn has(&self, hash: u64) -> bool {
        self.held > 0 && matches!(&self.places[place(hash)], Some(held) if held.hash == hash)
    }

    /// The key's item, if it is held and still the one, and the version on
    /// which that rests.
    #[inline]
    pub(crate) fn find(
        &mut self,
        key: &Hashed<'_>,
        map: &Map,
        now: Now,
    ) -> Option<(Item<'_>, Relied)> {
        if self.held == 0 {
            return None;
        }
        let held = self.places[place(key.hash)].as_mut()?;
        let good = held.hash == key.hash
            && held.left > 0
            && held.second == now.second()
            && map.version(key.hash).holds(held.relied);
        if !good {
            return None;
        }
        held.left -= 1;
        let item = held.pin.item();
        (item.key() == key.key).then_some((item, held.relied))
    }

    /// Takes note of an access to an item that was looked up in its shard, and
    /// holds it if its key is hot. Returns what is no longer held, to be released when the
    /// shard is unlocked.
    #[inline]
    pub(crate) fn note(
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

    /// Counts a look-up among the samples; true if its key is hot.
    #[cold]
    fn sample(&mut self, hash: u64) -> bool {
        // Not at even distances, lest the pattern of the requests show. (A
        // linear congruential generator, as in Numerical Recipes.)
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
                held.relied = shard.version().rely();
                held.second = second;
                held.left = HITS_MAX;
                return None;
            }
            // Replaced too often.
            Some(held) if held.hash == hash && !hot && HITS_MAX - held.left < HITS_WORTHWHILE => {
                self.held -= 1;
                return place.take().map(|held| held.pin);
            }
            // Another key's, and that is as hot.
            Some(held) if held.hash != hash && held.second == second => return None,
            _ => {}
        }
        // One of several chunks could not be moved while it is held.
        let fits = item.value_len() <= VALUE_MAX_BYTES && !item.is_chained();
        let fresh = fits.then(|| item.pin()).flatten().map(|pin| Held {
            hash,
            pin,
            relied: shard.version().rely(),
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
