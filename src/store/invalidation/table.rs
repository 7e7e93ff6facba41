//! The tables of invalidations, and the hints ahead of them.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use twox_hash::XxHash3_64;

use crate::limits::{INVALIDATION_PART, INVALIDATION_SLOTS_MAX, KEY_MAX_BYTES};
use crate::store::invalidation::name::{Effect, InvalidationState};
use crate::store::invalidation::order::{Counter, Slot};
use crate::store::item::layout::Item;
use crate::store::item::tags::{NAME_HASH_BITS, NameHash};
use crate::sync::{AtomicU8, AtomicU64, Ordering};

/// Words of the set of lengths of prefixes.
const LENGTH_WORDS: usize = 4;
/// Words of the bitmap of outstanding names: 4 KiB.
const BITMAP_WORDS: usize = 512;
const BITS: usize = u64::BITS as usize;

/// Difference between the seeds of tags and prefixes.
const TAG_SEED: u64 = 0x9E37_79B9_7F4A_7C15;

const _: () = assert!(KEY_MAX_BYTES < LENGTH_WORDS * BITS);
const _: () = assert!(INVALIDATION_SLOTS_MAX <= 1 << NAME_HASH_BITS);

/// Result of the check of an item against the outstanding invalidations. The
/// later one outweighs the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) enum Verdict {
    /// No invalidation concerns the item.
    Spared,
    /// One marks it stale.
    Stale,
    /// One kills it.
    Dead,
}

/// The invalidations of a store.
pub(in crate::store) struct Invalidations {
    hints: Hints,
    /// By effect. Allocated by the first invalidation of each.
    tables: [OnceLock<Box<[Slot]>>; 2],
    /// Number of slots of a table, a power of two.
    slots: usize,
    delimiter: u8,
    /// Seed of the names' hashes. Memory files keep it: items hold the hashes of
    /// their tags.
    seed: AtomicU64,
    turn: Mutex<Turn>,
}

/// What lookups read ahead of the tables. Changes with each invalidation and at
/// the end of a lap.
#[repr(align(64))]
struct Hints {
    /// Whether invalidations are outstanding.
    is_outstanding: AtomicU8,
    /// The lengths of outstanding prefixes, as a set.
    lengths: [AtomicU64; LENGTH_WORDS],
    /// Part of the hashes of outstanding names, as a set.
    bitmap: [AtomicU64; BITMAP_WORDS],
}

/// State that only invalidations and the ends of laps access.
struct Turn {
    /// Invalidations so far.
    ticket: u64,
    /// The hints of those since the begin of the current lap.
    young: Box<Young>,
}

struct Young {
    is_outstanding: u8,
    lengths: [u64; LENGTH_WORDS],
    bitmap: [u64; BITMAP_WORDS],
}

const NONE_YOUNG: Young = Young {
    is_outstanding: 0,
    lengths: [0; LENGTH_WORDS],
    bitmap: [0; BITMAP_WORDS],
};

impl Invalidations {
    /// Creates the state of a store of `max_memory` bytes without invalidations.
    pub(in crate::store) fn new(max_memory: usize, delimiter: u8, seed: u64) -> Self {
        const SLOTS_MIN: usize = 1024;
        let slots = max_memory / INVALIDATION_PART / size_of::<Slot>();
        let slots = slots.clamp(SLOTS_MIN, INVALIDATION_SLOTS_MAX);
        Self {
            hints: Hints {
                is_outstanding: AtomicU8::new(0),
                lengths: [const { AtomicU64::new(0) }; LENGTH_WORDS],
                bitmap: [const { AtomicU64::new(0) }; BITMAP_WORDS],
            },
            tables: [OnceLock::new(), OnceLock::new()],
            slots: 1 << slots.ilog2(),
            delimiter,
            seed: AtomicU64::new(seed),
            turn: Mutex::new(Turn {
                ticket: 0,
                young: Box::new(NONE_YOUNG),
            }),
        }
    }

    /// Returns the bytes that it takes without tables.
    pub(in crate::store) fn bytes(&self) -> usize {
        size_of::<Self>() + size_of::<Young>()
    }

    /// Returns the seed of the names' hashes.
    pub(in crate::store) fn seed(&self) -> u64 {
        self.seed.load(Ordering::Relaxed)
    }

    /// Sets the seed. Only before the first item is stored.
    pub(in crate::store) fn set_seed(&self, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
    }

    /// Returns the hash of a prefix.
    #[inline]
    pub(in crate::store) fn hash_prefix(&self, prefix: &[u8]) -> NameHash {
        NameHash::new(XxHash3_64::oneshot_with_seed(self.seed(), prefix))
    }

    /// Returns the hash of a tag.
    pub(in crate::store) fn hash_tag(&self, tag: &[u8]) -> NameHash {
        let seed = self.seed() ^ TAG_SEED;
        NameHash::new(XxHash3_64::oneshot_with_seed(seed, tag))
    }

    /// Returns whether invalidations are outstanding.
    #[inline]
    pub(in crate::store) fn is_outstanding(&self) -> bool {
        self.hints.is_outstanding.load(Ordering::Relaxed) != 0
    }

    /// Invalidates a name; `prefix_len` is 0 for a tag. Returns the bytes that
    /// were allocated.
    pub(in crate::store) fn invalidate(
        &self,
        name: NameHash,
        prefix_len: usize,
        effect: Effect,
        counter: &Counter,
    ) -> usize {
        let mut turn = self.lock();
        turn.ticket += 1;
        let table = &self.tables[effect as usize];
        let is_new = table.get().is_none();
        let slots = table.get_or_init(|| zeroed_slots(self.slots));
        // Before the slot, so that a thread that draws a higher number sees
        // them.
        let (word, bit) = bit_of(name);
        turn.young.bitmap[word] |= bit;
        self.hints.bitmap[word].fetch_or(bit, Ordering::Release);
        if prefix_len > 0 {
            let (word, bit) = (prefix_len / BITS, 1 << (prefix_len % BITS));
            turn.young.lengths[word] |= bit;
            self.hints.lengths[word].fetch_or(bit, Ordering::Release);
        }
        turn.young.is_outstanding = 1;
        self.hints.is_outstanding.store(1, Ordering::Release);
        slots[self.slot_of(name)].invalidate(turn.ticket, counter);
        if is_new { size_of_val(&**slots) } else { 0 }
    }

    /// Checks an item against the outstanding invalidations.
    pub(in crate::store) fn verdict(&self, item: Item<'_>, counter: &Counter) -> Verdict {
        let (key, birth) = (item.key(), item.birth());
        let mut verdict = Verdict::Spared;
        for (number, word) in self.hints.lengths[..=key.len() / BITS].iter().enumerate() {
            let mut word = word.load(Ordering::Relaxed);
            while word != 0 {
                let len = number * BITS + word.trailing_zeros() as usize;
                word &= word - 1;
                let prefix = key.get(..len).unwrap_or_default();
                if prefix.last() == Some(&self.delimiter) {
                    verdict =
                        verdict.max(self.verdict_of(self.hash_prefix(prefix), birth, counter));
                }
            }
        }
        for tag in item.tag_hashes() {
            verdict = verdict.max(self.verdict_of(tag, birth, counter));
        }
        verdict
    }

    /// Checks a birth against the invalidations of a name.
    #[inline]
    fn verdict_of(&self, name: NameHash, birth: u64, counter: &Counter) -> Verdict {
        let (word, bit) = bit_of(name);
        if self.hints.bitmap[word].load(Ordering::Relaxed) & bit == 0 {
            return Verdict::Spared;
        }
        let is_hit = |effect: Effect| {
            let slots = self.tables[effect as usize].get();
            slots.is_some_and(|slots| slots[self.slot_of(name)].is_dead(birth, counter))
        };
        if is_hit(Effect::Delete) {
            Verdict::Dead
        } else if is_hit(Effect::MarkStale) {
            Verdict::Stale
        } else {
            Verdict::Spared
        }
    }

    #[inline]
    fn slot_of(&self, name: NameHash) -> usize {
        name.number() & (self.slots - 1)
    }

    /// Begins a lap; see [`Store::begin_lap`](crate::store::Store::begin_lap).
    pub(in crate::store) fn begin_lap(&self) -> bool {
        if !self.is_outstanding() {
            return false;
        }
        *self.lock().young = NONE_YOUNG;
        true
    }

    /// Ends a lap: the hints of invalidations from before it are cleared.
    pub(in crate::store) fn end_lap(&self) {
        let turn = self.lock();
        let (hints, young) = (&self.hints, &turn.young);
        // Release: a reader that misses a hint also sees that the items are gone.
        for (word, young) in hints.bitmap.iter().zip(young.bitmap) {
            word.store(young, Ordering::Release);
        }
        for (word, young) in hints.lengths.iter().zip(young.lengths) {
            word.store(young, Ordering::Release);
        }
        hints
            .is_outstanding
            .store(young.is_outstanding, Ordering::Release);
    }

    /// Returns the state for reports.
    pub(in crate::store) fn state(&self) -> InvalidationState {
        let tables = self.tables.iter().filter_map(OnceLock::get);
        let lengths = self.hints.lengths.iter();
        InvalidationState {
            is_outstanding: self.is_outstanding(),
            prefix_lengths: lengths
                .map(|word| word.load(Ordering::Relaxed).count_ones() as usize)
                .sum(),
            slots: self.slots,
            table_bytes: tables.map(|slots| size_of_val(&**slots)).sum(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the word and the bit of a name in the bitmap.
#[inline]
fn bit_of(name: NameHash) -> (usize, u64) {
    let bit = name.number() % (BITMAP_WORDS * BITS);
    (bit / BITS, 1 << (bit % BITS))
}

/// Allocates the slots of names that were never invalidated. The system zeroes
/// their memory when it is first used, so that the first invalidation is as fast
/// as the others.
fn zeroed_slots(count: usize) -> Box<[Slot]> {
    debug_assert!(!Slot::new().is_dead(0, &Counter::new(0)), "as zeroed ones");
    let words = Box::into_raw(vec![0u64; count].into_boxed_slice());
    const _: () = assert!(size_of::<Slot>() == size_of::<u64>());
    const _: () = assert!(align_of::<Slot>() == align_of::<u64>());
    // SAFETY: a slot is an atomic number with the layout of a plain one, and the
    // box is its only owner.
    unsafe { Box::from_raw(words as *mut [Slot]) }
}
