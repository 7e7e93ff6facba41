//! The tables of invalidations, and the hints ahead of them.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use twox_hash::XxHash3_64;

use crate::limits::{INVALIDATION_PART, INVALIDATION_SLOTS_MAX, KEY_MAX_BYTES};
use crate::store::index::map::Map;
use crate::store::invalidation::name::{Effect, InvalidationState, Name};
use crate::store::invalidation::order::{Counter, Slot};
use crate::store::item::layout::Item;
use crate::store::item::tags::{NAME_HASH_BITS, NameHash};
use crate::sync::{AtomicU8, AtomicU64, Ordering};

/// Words of the set of lengths of prefixes.
const LENGTH_WORDS: usize = 4;
/// Words of the bitmap of outstanding names: 4 KiB.
const BITMAP_WORDS: usize = 512;
const BITS: usize = u64::BITS as usize;
/// Binary logarithm of the number of its bits.
const MARK_BITS: u32 = (BITMAP_WORDS * BITS).ilog2();

/// Bit of [`Hints::outstanding`]: invalidations of prefixes are outstanding.
const PREFIXES: u8 = 1;
/// Bit of [`Hints::outstanding`]: invalidations of tags are outstanding.
const TAGS: u8 = 1 << 1;

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
    /// Seed of the tags' hashes. Memory files keep it, because items hold these
    /// hashes. No item holds the hash of a prefix, which is that of the map.
    seed: AtomicU64,
    turn: Mutex<Turn>,
}

/// What lookups read ahead of the tables. Changes with each invalidation and at
/// the end of a lap.
#[repr(align(64))]
struct Hints {
    /// Kinds of outstanding invalidations: a set of bits.
    outstanding: AtomicU8,
    /// The lengths of outstanding prefixes, as a set.
    lengths: [AtomicU64; LENGTH_WORDS],
    /// The marks of outstanding names, as a set: part of a hash.
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
    outstanding: u8,
    lengths: [u64; LENGTH_WORDS],
    bitmap: [u64; BITMAP_WORDS],
}

const NONE_YOUNG: Young = Young {
    outstanding: 0,
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
                outstanding: AtomicU8::new(0),
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

    /// Returns the seed of the tags' hashes.
    pub(in crate::store) fn seed(&self) -> u64 {
        self.seed.load(Ordering::Relaxed)
    }

    /// Sets the seed of the tags' hashes. Only before the first item is stored.
    pub(in crate::store) fn set_seed(&self, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
    }

    /// Returns the hash of a tag.
    pub(in crate::store) fn hash_tag(&self, tag: &[u8]) -> NameHash {
        NameHash::new(XxHash3_64::oneshot_with_seed(self.seed(), tag))
    }

    /// Returns whether invalidations are outstanding.
    #[inline]
    pub(in crate::store) fn is_outstanding(&self) -> bool {
        self.hints.outstanding.load(Ordering::Relaxed) != 0
    }

    /// Invalidates a name. `map` hashes prefixes. Returns the bytes that were
    /// allocated.
    pub(in crate::store) fn invalidate(
        &self,
        name: Name<'_>,
        effect: Effect,
        map: &Map,
        counter: &Counter,
    ) -> usize {
        let (hash, mark, kind) = match name {
            Name::Prefix(prefix) => {
                let hash = NameHash::new(map.hash(prefix));
                (hash, mark_of_prefix(prefix), PREFIXES)
            }
            Name::Tag(tag) => {
                let hash = self.hash_tag(tag);
                (hash, mark_of_tag(hash), TAGS)
            }
        };
        let mut turn = self.lock();
        turn.ticket += 1;
        let table = &self.tables[effect as usize];
        let is_new = table.get().is_none();
        let slots = table.get_or_init(|| zeroed_slots(self.slots));
        // Before the slot, so that a thread that draws a higher number sees
        // them.
        let (word, bit) = (mark / BITS, 1 << (mark % BITS));
        turn.young.bitmap[word] |= bit;
        self.hints.bitmap[word].fetch_or(bit, Ordering::Release);
        if let Name::Prefix(prefix) = name {
            let (word, bit) = (prefix.len() / BITS, 1 << (prefix.len() % BITS));
            turn.young.lengths[word] |= bit;
            self.hints.lengths[word].fetch_or(bit, Ordering::Release);
        }
        turn.young.outstanding |= kind;
        self.hints.outstanding.fetch_or(kind, Ordering::Release);
        slots[self.slot_of(hash)].invalidate(turn.ticket, counter);
        if is_new { size_of_val(&**slots) } else { 0 }
    }

    /// Returns false if no outstanding invalidation concerns an item. True is a
    /// hint: [`Invalidations::verdict`] decides.
    #[inline]
    pub(in crate::store) fn may_concern(&self, item: Item<'_>) -> bool {
        let outstanding = self.hints.outstanding.load(Ordering::Relaxed);
        outstanding & PREFIXES != 0 && self.any_marked_prefix(item.key(), |_| true)
            || outstanding & TAGS != 0
                && item
                    .tag_hashes()
                    .any(|tag| self.is_marked(mark_of_tag(tag)))
    }

    /// Returns whether `f` does, of a prefix of the key that may be outstanding. Calls
    /// it with each of them until it does.
    #[inline]
    fn any_marked_prefix(&self, key: &[u8], mut f: impl FnMut(&[u8]) -> bool) -> bool {
        for (number, word) in self.hints.lengths[..=key.len() / BITS].iter().enumerate() {
            let mut word = word.load(Ordering::Relaxed);
            while word != 0 {
                let len = number * BITS + word.trailing_zeros() as usize;
                word &= word - 1;
                let Some(prefix) = key.get(..len) else {
                    return false;
                };
                if prefix.last() == Some(&self.delimiter)
                    && self.is_marked(mark_of_prefix(prefix))
                    && f(prefix)
                {
                    return true;
                }
            }
        }
        false
    }

    /// Checks an item against the outstanding invalidations. `map` hashes
    /// prefixes.
    pub(in crate::store) fn verdict(
        &self,
        item: Item<'_>,
        map: &Map,
        counter: &Counter,
    ) -> Verdict {
        let mut verdict = Verdict::Spared;
        let outstanding = self.hints.outstanding.load(Ordering::Relaxed);
        if outstanding & PREFIXES != 0 {
            verdict = self.verdict_of_prefixes(item, map, counter);
        }
        if outstanding & TAGS != 0 {
            for tag in item.tag_hashes() {
                if self.is_marked(mark_of_tag(tag)) {
                    verdict = verdict.max(self.verdict_by_tables(tag, item.birth(), counter));
                }
            }
        }
        verdict
    }

    fn verdict_of_prefixes(&self, item: Item<'_>, map: &Map, counter: &Counter) -> Verdict {
        let mut verdict = Verdict::Spared;
        self.any_marked_prefix(item.key(), |prefix| {
            let name = NameHash::new(map.hash(prefix));
            verdict = verdict.max(self.verdict_by_tables(name, item.birth(), counter));
            false
        });
        verdict
    }

    /// Returns whether an outstanding name may have this mark.
    #[inline]
    fn is_marked(&self, mark: usize) -> bool {
        self.hints.bitmap[mark / BITS].load(Ordering::Relaxed) & 1 << (mark % BITS) != 0
    }

    /// Checks a birth against the invalidations of a name.
    #[cold]
    fn verdict_by_tables(&self, name: NameHash, birth: u64, counter: &Counter) -> Verdict {
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
            .outstanding
            .store(young.outstanding, Ordering::Release);
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

/// Returns the number of a prefix's bit in the bitmap. It depends on the last
/// bytes only: most lookups need not hash the prefix.
#[inline]
fn mark_of_prefix(prefix: &[u8]) -> usize {
    let end = match prefix.last_chunk() {
        Some(end) => u64::from_le_bytes(*end),
        None => prefix
            .iter()
            .fold(0, |end, byte| end << 8 | u64::from(*byte)),
    };
    // Multiplicative hashing by the golden ratio.
    (end.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (BITS as u32 - MARK_BITS)) as usize
}

/// Returns the number of a tag's bit in the bitmap.
#[inline]
fn mark_of_tag(tag: NameHash) -> usize {
    tag.number() % (BITMAP_WORDS * BITS)
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
