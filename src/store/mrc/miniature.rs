//! A miniature memory: what a store with another memory limit would hold, scaled
//! down to the sampled keys. It evicts with the store's own policy and ghosts.

use crate::config::Eviction;
use crate::limits::MRC_KEYS_MAX;
use crate::store::evict::ghosts::{BYTES_PER_GHOST, GHOST_BYTES, GHOSTS_PER_BUCKET, Ghosts};
use crate::store::evict::policy::{Policy, SCAN_LIMIT, Stamp};
use crate::store::memory::classes::CLASSES;
use crate::store::mrc::footprint::{footprint, head_class, room_for_items};
use crate::store::mrc::keys::{Keys, Place, scatter};
use crate::time::{Expiry, Now};

/// Searches for a victim between two surveys.
const SURVEY_EVERY: u32 = 16;
/// An item counts as at most the limit divided by this. In a memory scaled down
/// far, a large item would otherwise displace all others.
const LARGEST_PART: f64 = 8.0;
/// Words of the set of places.
const WORDS: usize = MRC_KEYS_MAX.div_ceil(WORD_BITS);
const WORD_BITS: usize = u64::BITS as usize;

/// Bytes of a memory without ghosts.
pub(in crate::store) const MINIATURE_BYTES: usize =
    WORDS * size_of::<u64>() + MRC_KEYS_MAX * size_of::<Stamp>();

/// The memory limits that a miniature stands for.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Scale {
    /// Memory limit of the store, in bytes, not scaled down.
    pub(in crate::store) limit: f64,
    /// Shards of the store.
    pub(in crate::store) shards: usize,
    /// Part of the keys that is sampled.
    pub(in crate::store) rate: f64,
}

/// A miniature memory.
pub(in crate::store) struct Miniature {
    /// Its number in the arrays of a [`Key`](crate::store::mrc::keys::Key).
    number: usize,
    scale: Scale,
    /// Evict when the memory is full; if false (`-M`), do not store.
    evicts: bool,
    policy: Policy,
    /// Use counts of evicted items. `None` until the first eviction.
    ghosts: Option<Ghosts>,
    /// Whether an item was evicted since the ghosts were last dropped.
    has_evicted: bool,
    /// Bit set of the places whose keys have an item.
    present: Box<[u64]>,
    /// The eviction policy's stamp of the item at each place. Apart from the
    /// keys, so that the hand reads little memory.
    stamps: Box<[Stamp]>,
    /// The next place that the hand looks at.
    hand: usize,
    items: usize,
    /// Bytes of all items.
    item_bytes: u64,
    /// Items by size class, and the number of classes with items.
    by_class: [u32; CLASSES],
    classes: usize,
    /// Footprints of all items, in bytes.
    used: usize,
    /// Most bytes of footprints, as of the last survey.
    room: usize,
    searches: u32,
}

impl Miniature {
    /// Creates an empty memory.
    pub(in crate::store) fn new(
        number: usize,
        scale: Scale,
        eviction: Eviction,
        evicts: bool,
    ) -> Self {
        let mut memory = Self {
            number,
            scale,
            evicts,
            policy: Policy::new(eviction),
            ghosts: None,
            has_evicted: false,
            present: vec![0; WORDS].into(),
            stamps: vec![Stamp(0); MRC_KEYS_MAX].into(),
            hand: 0,
            items: 0,
            item_bytes: 0,
            by_class: [0; CLASSES],
            classes: 0,
            used: 0,
            room: 0,
            searches: 0,
        };
        memory.survey();
        memory
    }

    /// Returns the scale.
    pub(in crate::store) fn scale(&self) -> Scale {
        self.scale
    }

    /// Returns the number of items, after checking that all counts agree with
    /// the keys.
    #[cfg(test)]
    pub(in crate::store) fn checked_items(&self, keys: &Keys) -> usize {
        let mut held = keys.places();
        held.retain(|place| keys.at(*place).is_in(self.number));
        let bytes = || held.iter().map(|place| keys.at(*place).bytes);
        let is_present = |place: &Place| self.present[word_of(*place)] & bit_of(*place) != 0;
        let present: u32 = self.present.iter().map(|word| word.count_ones()).sum();
        assert!(held.iter().all(is_present));
        assert_eq!((self.items, present as usize), (held.len(), held.len()));
        assert_eq!(self.item_bytes, bytes().map(u64::from).sum::<u64>());
        let used: usize = bytes().map(|bytes| self.taken_by(bytes)).sum();
        assert_eq!(self.used, used);
        assert!(self.used <= self.room || !self.evicts || held.len() == 1);
        self.items
    }

    /// Changes the scale. If there are then more items than fit, they are
    /// evicted by [`Miniature::shrink`].
    pub(in crate::store) fn rescale(&mut self, keys: &Keys, scale: Scale) {
        self.scale = scale;
        // The most that an item counts as has changed.
        let places = keys.places();
        let held = places.iter().map(|place| keys.at(*place));
        let held = held.filter(|key| key.is_in(self.number));
        self.used = held.map(|key| self.taken_by(key.bytes)).sum();
        self.survey();
    }

    /// Records a hit on an item.
    pub(in crate::store) fn hit(&mut self, keys: &Keys, place: Place, now: Now) {
        let key = keys.at(place);
        let remaining = now.remaining_eighths(key.expiry[self.number]);
        let stamp = &mut self.stamps[usize::from(place)];
        *stamp = self.policy.on_hit(*stamp, key.bytes as usize, remaining);
    }

    /// Replaces an item.
    pub(in crate::store) fn replace(
        &mut self,
        keys: &mut Keys,
        place: Place,
        expiry: Expiry,
        now: Now,
    ) {
        let key = keys.at_mut(place);
        key.expiry[self.number] = expiry;
        let (bytes, remaining) = (key.bytes as usize, now.remaining_eighths(expiry));
        let stamp = &mut self.stamps[usize::from(place)];
        *stamp = self.policy.on_insert(bytes, stamp.uses(), remaining);
    }

    /// Accounts for an item that has got another size, in bytes.
    pub(in crate::store) fn resize(&mut self, before: u32, bytes: u32) {
        self.uncount(before);
        self.count(bytes);
    }

    /// Stores an item of a key that has none. Evicts others to make room.
    pub(in crate::store) fn insert(
        &mut self,
        keys: &mut Keys,
        place: Place,
        expiry: Expiry,
        now: Now,
    ) {
        let key = *keys.at(place);
        let taken = self.taken_by(key.bytes);
        while self.used + taken > self.room && self.items > 0 {
            if !self.evicts {
                return;
            }
            self.evict(keys, place, now);
        }
        let ghosts = self.ghosts.as_ref();
        let uses = ghosts.and_then(|ghosts| ghosts.find_uses(scatter(key.hash)));
        let (bytes, remaining) = (key.bytes as usize, now.remaining_eighths(expiry));
        let stamp = self.policy.on_insert(bytes, uses.unwrap_or(0), remaining);
        let key = keys.at_mut(place);
        key.held |= 1 << self.number;
        key.expiry[self.number] = expiry;
        self.stamps[usize::from(place)] = stamp;
        self.present[word_of(place)] |= bit_of(place);
        self.count(key.bytes);
    }

    /// Removes an item.
    pub(in crate::store) fn remove(&mut self, keys: &mut Keys, place: Place) {
        let key = keys.at_mut(place);
        debug_assert!(key.is_in(self.number));
        key.held &= !(1 << self.number);
        self.present[word_of(place)] &= !bit_of(place);
        self.uncount(key.bytes);
    }

    /// Evicts items until they fit. Removes keys that no memory holds any more.
    pub(in crate::store) fn shrink(&mut self, keys: &mut Keys, now: Now) {
        while self.evicts && self.used > self.room && self.items > 0 {
            self.evict(keys, Place::MAX, now);
        }
    }

    /// Passes the number of items and their bytes to policy and ghosts, and
    /// updates the room for items.
    pub(in crate::store) fn survey(&mut self) {
        let Scale {
            limit,
            shards,
            rate,
        } = self.scale;
        let room = room_for_items(limit, shards, self.items as f64 / rate, self.classes) * rate;
        self.room = room as usize;
        self.policy.survey(self.items as u64, self.item_bytes);
        if let Some(ghosts) = &self.ghosts {
            ghosts.survey(self.ghosts_that_count() as u64);
        }
    }

    /// Measures the pace of the hand: see [`Policy::measure_pace`].
    pub(in crate::store) fn measure_pace(&self, now: Now) {
        self.policy.measure_pace(now.millis());
    }

    /// Returns the bytes of the ghosts.
    pub(in crate::store) fn ghost_bytes(&self) -> usize {
        self.ghosts.as_ref().map_or(0, Ghosts::bytes)
    }

    /// Returns the bytes that the ghosts should have: 0 before the first
    /// eviction, and the present ones as long as their number fits.
    pub(in crate::store) fn wanted_ghost_bytes(&self) -> usize {
        if !self.has_evicted {
            return 0;
        }
        let count = self.ghosts_that_count();
        let present = self.ghost_bytes();
        let fitting = count * GHOST_BYTES as f64..=4.0 * count * GHOST_BYTES as f64;
        if fitting.contains(&(present as f64)) {
            return present;
        }
        let buckets = (1.5 * count / GHOSTS_PER_BUCKET as f64).ceil();
        buckets as usize * GHOSTS_PER_BUCKET * GHOST_BYTES
    }

    /// Allocates empty ghosts of the wanted size, unless the present ones have
    /// it.
    pub(in crate::store) fn fit_ghosts(&mut self) {
        let wanted = self.wanted_ghost_bytes();
        if wanted != self.ghost_bytes() {
            self.ghosts = None;
            let memory = wanted / GHOST_BYTES * BYTES_PER_GHOST;
            self.ghosts = Some(Ghosts::new(memory));
            self.survey();
        }
    }

    /// Returns the number of ghosts that would count in the store, scaled down.
    /// They are as many as the items, but at least one and at most all eight of
    /// each bucket.
    fn ghosts_that_count(&self) -> f64 {
        let all = self.scale.limit * self.scale.rate / BYTES_PER_GHOST as f64;
        (self.items as f64)
            .max(all / GHOSTS_PER_BUCKET as f64)
            .min(all)
            .max(1.0)
    }

    /// Counts an item that is added.
    fn count(&mut self, bytes: u32) {
        let class = &mut self.by_class[head_class(bytes as usize)];
        self.classes += usize::from(*class == 0);
        *class += 1;
        self.items += 1;
        self.item_bytes += u64::from(bytes);
        self.used += self.taken_by(bytes);
    }

    /// Counts an item that is removed.
    fn uncount(&mut self, bytes: u32) {
        let class = &mut self.by_class[head_class(bytes as usize)];
        *class -= 1;
        self.classes -= usize::from(*class == 0);
        self.items -= 1;
        self.item_bytes -= u64::from(bytes);
        self.used -= self.taken_by(bytes);
    }

    /// Returns the bytes that an item of `bytes` bytes takes.
    fn taken_by(&self, bytes: u32) -> usize {
        let most = self.scale.limit * self.scale.rate / LARGEST_PART;
        footprint(bytes as usize).min(most as usize)
    }

    /// Evicts an item as the store does: the first due one, or the one with the
    /// fewest ticks left. Removes its key if no memory holds it any more, unless
    /// it is `spared`.
    fn evict(&mut self, keys: &mut Keys, spared: Place, now: Now) {
        let (mut looked, mut due, mut best) = (0, None, None);
        while looked < SCAN_LIMIT.min(self.items) && due.is_none() {
            let place = self.next_present();
            looked += 1;
            let left = self.policy.ticks_left(self.stamps[usize::from(place)]);
            if left <= 0 {
                due = Some(place);
            } else if best.is_none_or(|(fewest, _)| left < fewest) {
                best = Some((left, place));
            }
        }
        self.policy.advance(looked);
        self.policy.adjust_speed(due.is_some());
        self.searches = self.searches.wrapping_add(1);
        if self.searches.is_multiple_of(SURVEY_EVERY) {
            self.survey();
        }
        let victim = due.or(best.map(|(_, place)| place));
        let victim = victim.expect("it looked at an item at least");
        let key = *keys.at(victim);
        self.has_evicted = true;
        if let Some(ghosts) = &self.ghosts
            && !key.expiry[self.number].is_over(now)
        {
            let uses = self.stamps[usize::from(victim)].uses();
            ghosts.record(scatter(key.hash), uses);
        }
        self.remove(keys, victim);
        if keys.at(victim).held == 0 && victim != spared {
            keys.remove(victim);
        }
    }

    /// Moves the hand past the next place with an item. There must be one.
    fn next_present(&mut self) -> Place {
        let mut word = self.hand / WORD_BITS;
        let mut bits = self.present[word] & u64::MAX << (self.hand % WORD_BITS);
        while bits == 0 {
            word = (word + 1) % WORDS;
            bits = self.present[word];
        }
        let place = word * WORD_BITS + bits.trailing_zeros() as usize;
        self.hand = (place + 1) % (WORDS * WORD_BITS);
        place as Place
    }
}

fn word_of(place: Place) -> usize {
    usize::from(place) / WORD_BITS
}

fn bit_of(place: Place) -> u64 {
    1 << (usize::from(place) % WORD_BITS)
}
