//! The table of sampled keys, which all miniature memories share.
//!
//! A key lies at a place that is drawn at random and does not change. A hand
//! that passes over the places therefore meets the keys in an order that does
//! not depend on their age, as in the store's hash table.

use crate::limits::MRC_KEYS_MAX;
use crate::store::mrc::sizes::SIZES;
use crate::time::{Expiry, Now};

/// Number of places of the index, a power of two. At most half of them are
/// taken.
const INDEX: usize = (2 * MRC_KEYS_MAX).next_power_of_two();
/// Marks an empty place of the index.
const EMPTY: Place = Place::MAX;

const _: () = assert!(MRC_KEYS_MAX <= EMPTY as usize);
const _: () = assert!(SIZES <= u8::BITS as usize);

/// Bytes of the table.
pub(in crate::store) const KEYS_BYTES: usize =
    MRC_KEYS_MAX * (size_of::<Key>() + size_of::<Place>()) + INDEX * size_of::<Place>();

/// Seconds per step of [`Key::missed`].
const MISS_STEP_SECONDS: u32 = 8;

/// Number of a key's place.
pub(in crate::store) type Place = u16;

/// A sampled key with its items in the miniature memories.
#[derive(Clone, Copy)]
pub(in crate::store) struct Key {
    /// Hash.
    pub(in crate::store) hash: u64,
    /// Bytes of an item of the key, the same in all memories.
    pub(in crate::store) bytes: u32,
    /// TTL that the last set gave, in eighths of a second; `u32::MAX` for none.
    pub(in crate::store) ttl: u32,
    /// Expiry time of the item in each memory.
    pub(in crate::store) expiry: [Expiry; SIZES],
    /// Bit set of the memories that hold an item.
    pub(in crate::store) held: u8,
    /// The step of time in which the store missed the key, from 1; 0 if the key
    /// was set or found since.
    missed: u8,
}

impl Key {
    const NONE: Self = Self {
        hash: 0,
        bytes: 0,
        ttl: u32::MAX,
        expiry: [Expiry::NEVER; SIZES],
        held: 0,
        missed: 0,
    };

    /// Records that the store missed the key, so that the client is expected to
    /// set it.
    pub(in crate::store) fn record_miss(&mut self, now: Now) {
        self.missed = step_of(now.second());
    }

    /// Returns whether the store has missed the key within the last 8 to 16
    /// seconds, and forgets the miss.
    pub(in crate::store) fn take_miss(&mut self, now: Now) -> bool {
        let missed = std::mem::take(&mut self.missed);
        let second = now.second();
        missed == step_of(second) || missed == step_of(second.saturating_sub(MISS_STEP_SECONDS))
    }

    /// Returns whether a memory holds an item.
    pub(in crate::store) fn is_in(&self, memory: usize) -> bool {
        self.held >> memory & 1 != 0
    }
}

/// Returns the step of time of a second: from 1 to 255, and again.
fn step_of(second: u32) -> u8 {
    (second / MISS_STEP_SECONDS % u32::from(u8::MAX)) as u8 + 1
}

/// The sampled keys. Allocated when the first key is added.
#[derive(Default)]
pub(in crate::store) struct Keys {
    keys: Box<[Key]>,
    /// The place of each key: open addressing with linear probing.
    index: Box<[Place]>,
    /// Places without a key.
    free: Vec<Place>,
    /// State of the random generator that draws places.
    random: u32,
}

impl Keys {
    fn allocate(&mut self) {
        self.keys = vec![Key::NONE; MRC_KEYS_MAX].into();
        self.index = vec![EMPTY; INDEX].into();
        self.free = (0..MRC_KEYS_MAX as Place).collect();
    }

    /// Returns the bytes of the table.
    pub(in crate::store) fn bytes(&self) -> usize {
        let free = self.free.capacity() * size_of::<Place>();
        size_of_val(&*self.keys) + size_of_val(&*self.index) + free
    }

    /// Returns the number of keys.
    pub(in crate::store) fn len(&self) -> usize {
        self.keys.len() - self.free.len()
    }

    /// Returns whether no key can be added.
    pub(in crate::store) fn is_full(&self) -> bool {
        self.len() == MRC_KEYS_MAX
    }

    /// Returns the key at a place.
    pub(in crate::store) fn at(&self, place: Place) -> &Key {
        &self.keys[usize::from(place)]
    }

    /// Returns the key at a place, to be changed.
    pub(in crate::store) fn at_mut(&mut self, place: Place) -> &mut Key {
        &mut self.keys[usize::from(place)]
    }

    /// Returns the place of a key, `None` if it is not in the table.
    pub(in crate::store) fn find(&self, hash: u64) -> Option<Place> {
        if self.keys.is_empty() {
            return None;
        }
        let mut at = home(hash);
        loop {
            match self.index[at] {
                EMPTY => return None,
                place if self.at(place).hash == hash => return Some(place),
                _ => at = (at + 1) % INDEX,
            }
        }
    }

    /// Adds a key that is not in the table, which must not be full. Returns its
    /// place.
    pub(in crate::store) fn add(&mut self, hash: u64) -> Place {
        if self.keys.is_empty() {
            self.allocate();
        }
        // A linear congruential generator, as in Numerical Recipes.
        let random = self.random.wrapping_mul(1_664_525);
        self.random = random.wrapping_add(1_013_904_223);
        let drawn = (u64::from(self.random) * self.free.len() as u64) >> u32::BITS;
        let place = self.free.swap_remove(drawn as usize);
        *self.at_mut(place) = Key { hash, ..Key::NONE };
        let mut at = home(hash);
        while self.index[at] != EMPTY {
            at = (at + 1) % INDEX;
        }
        self.index[at] = place;
        place
    }

    /// Removes the key at a place.
    pub(in crate::store) fn remove(&mut self, place: Place) {
        let mut hole = home(self.at(place).hash);
        while self.index[hole] != place {
            hole = (hole + 1) % INDEX;
        }
        // Entries behind the hole move into it unless they would come to lie
        // before the start of their probe (Knuth, TAOCP 6.4, algorithm R).
        let mut at = hole;
        loop {
            at = (at + 1) % INDEX;
            let moved = self.index[at];
            if moved == EMPTY {
                break;
            }
            let from_home = at.wrapping_sub(home(self.at(moved).hash)) % INDEX;
            if from_home >= at.wrapping_sub(hole) % INDEX {
                self.index[hole] = moved;
                hole = at;
            }
        }
        self.index[hole] = EMPTY;
        self.free.push(place);
    }

    /// Returns the places of all keys.
    pub(in crate::store) fn places(&self) -> Vec<Place> {
        let taken = self.index.iter().filter(|place| **place != EMPTY);
        taken.copied().collect()
    }
}

/// Returns the place of the index where the probe for a hash begins.
fn home(hash: u64) -> usize {
    (scatter(hash) >> (u64::BITS - INDEX.ilog2())) as usize
}

/// Scatters the hash of a sampled key over all 64 bits. Its low half is below
/// the threshold.
pub(in crate::store) fn scatter(hash: u64) -> u64 {
    (hash ^ hash >> u32::BITS).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Keys;
    use crate::limits::MRC_KEYS_MAX;
    use crate::time::Now;

    /// Returns hashes of sampled keys: the low half is small.
    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9E37_79B9_7F4A_7C15) & !0xFFFF_0000 | number & 0xFF
    }

    #[test]
    fn keys_are_found_until_they_are_removed() {
        let mut keys = Keys::default();
        assert_eq!((keys.find(7), keys.len(), keys.bytes()), (None, 0, 0));
        for number in 0..MRC_KEYS_MAX as u64 {
            keys.add(hash(number));
        }
        assert!(keys.is_full());
        let is_kept = |number: &u64| number.is_multiple_of(3);
        for number in (0..MRC_KEYS_MAX as u64).filter(|number| !is_kept(number)) {
            let place = keys.find(hash(number)).unwrap();
            assert_eq!(keys.at(place).hash, hash(number));
            keys.remove(place);
        }
        for number in 0..MRC_KEYS_MAX as u64 {
            let found = keys.find(hash(number)).map(|place| keys.at(place).hash);
            assert_eq!(found, is_kept(&number).then_some(hash(number)), "{number}");
        }
        let places = keys.places();
        assert_eq!(places.len(), keys.len());
        assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), keys.len());
    }

    #[test]
    fn a_miss_is_answered_within_seconds_and_once() {
        let mut keys = Keys::default();
        let place = keys.add(1);
        let key = keys.at_mut(place);
        let at = |second: u64| Now::from_millis(second * 1000);
        assert!(!key.take_miss(at(100)));
        key.record_miss(at(100));
        assert!(key.take_miss(at(108)));
        assert!(!key.take_miss(at(108)));
        key.record_miss(at(100));
        assert!(!key.take_miss(at(120)));
    }
}
