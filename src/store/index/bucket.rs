//! Buckets of the index: one cache line each, with 7 entries and a word of
//! metadata. An entry lies in the primary or in the secondary bucket of its
//! hash.
//!
//! There is one writer at a time, under the shard's write lock. Readers may look
//! an entry up without a lock: an entry that is there all the time is found,
//! whatever the writer does meanwhile. Therefore:
//!
//! - The writer stores a word before its tag, and clears a tag before its word.
//! - An entry moves from its primary to its secondary bucket only. It is written
//!   at the new place first. Then one store of the primary bucket's metadata
//!   clears its tag and counts it as moved.
//! - A reader that found another entry behind a matching tag checks the metadata
//!   again: the entry it wants may have moved.

use crate::sync::{AtomicU64, Ordering};

/// Entries of a bucket.
pub(crate) const SLOTS: usize = 7;
/// Positions of a bucket, for numbering entries. The last one is never used.
pub(crate) const POSITIONS: usize = 8;
/// Bytes of a bucket.
pub(crate) const BUCKET_BYTES: usize = 64;

/// Set in the tag of an entry that lies in its secondary bucket.
const SECONDARY: u8 = 0x80;
/// Number of different tags, besides [`SECONDARY`]. Tags begin at 1; 0 is an
/// empty slot.
const TAGS: u64 = 127;
/// First bit of the hash that a tag depends on. The bits below select the bucket.
const TAG_SHIFT: u32 = 32;
/// Number of bits of the hash that a tag depends on.
const TAG_BITS: u32 = 10;

/// Bit of [`Meta`]: entries of this primary bucket may lie in the stash.
const STASHED: u64 = 1 << 63;
/// First bit of [`Meta`]'s count of entries in their secondary bucket.
const MOVED_SHIFT: u32 = 56;
/// Maximum of that count. Further entries go to the stash.
const MOVED_MAX: u64 = 0x7f;

const ONES: u64 = 0x0001_0101_0101_0101;
const TAG_HIGHS: u64 = 0x0080_8080_8080_8080;
const LOWS: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// A bucket: the words of 7 entries and their metadata. A word of 0 is no entry.
#[repr(C, align(64))]
pub(crate) struct Bucket {
    words: [AtomicU64; SLOTS],
    meta: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == BUCKET_BYTES);

/// The metadata of a bucket: a byte of tag for each slot; above, the number of
/// entries of this primary bucket that lie in their secondary bucket, and
/// whether some lie in the stash.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Meta(u64);

/// A set of slots: the highest bit of their bytes is set.
struct Matches(u64);

/// Where a hash belongs in a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Number of the primary bucket.
    pub(crate) primary: usize,
    tag: u8,
}

/// The result of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The entry with this word, at this position.
    At(usize, u64),
    /// There is none.
    Absent,
    /// There is none in the buckets; it may be in the stash.
    MaybeStashed,
}

/// The result of an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inserted {
    /// Position of the new entry.
    pub(crate) position: usize,
    /// Whether another entry moved to make room.
    pub(crate) displaced: bool,
}

impl Iterator for Matches {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let slot = self.0.trailing_zeros() as usize / 8;
        self.0 &= self.0 - 1;
        Some(slot)
    }
}

impl Meta {
    /// Returns the slots with this tag.
    #[inline]
    fn matching(self, tag: u8) -> Matches {
        // The highest bit of each byte that is not 0, without carries between
        // bytes.
        let differing = self.0 ^ (u64::from(tag) * ONES);
        let differing = ((differing & LOWS) + LOWS) | differing;
        Matches(!differing & TAG_HIGHS)
    }

    /// Returns an empty slot.
    #[inline]
    fn empty(self) -> Option<usize> {
        self.matching(0).next()
    }

    #[inline]
    fn tag(self, slot: usize) -> u8 {
        (self.0 >> (8 * slot)) as u8
    }

    /// Sets the tag of an empty slot.
    fn with_tag(self, slot: usize, tag: u8) -> Self {
        Self(self.0 | u64::from(tag) << (8 * slot))
    }

    fn without_tag(self, slot: usize) -> Self {
        Self(self.0 & !(0xff << (8 * slot)))
    }

    /// Returns how many entries of this primary bucket lie in their secondary
    /// bucket.
    #[inline]
    fn moved(self) -> u64 {
        self.0 >> MOVED_SHIFT & MOVED_MAX
    }

    fn one_more_moved(self) -> Self {
        debug_assert!(self.moved() < MOVED_MAX);
        Self(self.0 + (1 << MOVED_SHIFT))
    }

    fn one_less_moved(self) -> Self {
        debug_assert!(self.moved() > 0);
        Self(self.0 - (1 << MOVED_SHIFT))
    }
}

impl Place {
    /// Returns the place of a hash in a table of `buckets` buckets, at least 1.
    #[inline]
    pub(crate) fn of(hash: u64, buckets: usize) -> Self {
        let primary = (u64::from(hash as u32) * buckets as u64) >> 32;
        let tag = (hash >> TAG_SHIFT) & ((1 << TAG_BITS) - 1);
        Self {
            primary: primary as usize,
            tag: 1 + ((tag * TAGS) >> TAG_BITS) as u8,
        }
    }

    /// Returns the number of the secondary bucket. With a single bucket, it is
    /// the primary one.
    #[inline]
    pub(crate) fn secondary(self, buckets: usize) -> usize {
        let sum = self.primary + distance(self.tag, buckets);
        if sum < buckets { sum } else { sum - buckets }
    }

    /// Returns the hash under which the stash holds an entry: one for all entries
    /// of a primary bucket.
    pub(crate) fn stash_hash(self) -> u64 {
        let scattered = (self.primary as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        scattered ^ scattered >> 32
    }
}

/// Returns the distance from primary to secondary bucket, from 1 to
/// `buckets - 1`. It depends on the tag only, so that an entry can move, and a
/// moved one be erased, without its hash.
#[inline]
fn distance(tag: u8, buckets: usize) -> usize {
    let scattered = u32::from(tag & !SECONDARY).wrapping_mul(0x9e37_79b1);
    let below = (u64::from(scattered) * (buckets as u64 - 1)) >> 32;
    1 + below as usize
}

impl Bucket {
    /// Creates an empty bucket.
    pub(crate) fn new() -> Self {
        Self {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            meta: AtomicU64::new(0),
        }
    }

    #[inline]
    fn meta(&self) -> Meta {
        Meta(self.meta.load(Ordering::Acquire))
    }

    #[inline]
    fn set_meta(&self, meta: Meta) {
        self.meta.store(meta.0, Ordering::Release);
    }

    /// Returns the words of the entries whose tags match, in this bucket number
    /// `number`, and their positions.
    #[inline]
    fn find(
        &self,
        number: usize,
        matches: Matches,
        wanted: &mut impl FnMut(u64) -> bool,
    ) -> Option<Lookup> {
        for slot in matches {
            let word = self.words[slot].load(Ordering::Acquire);
            if word != 0 && wanted(word) {
                return Some(Lookup::At(number * POSITIONS + slot, word));
            }
        }
        None
    }

    /// Puts an entry into an empty slot.
    fn put(&self, slot: usize, tag: u8, word: u64) {
        self.words[slot].store(word, Ordering::Release);
        self.set_meta(self.meta().with_tag(slot, tag));
    }
}

/// Finds the entry of a place whose word `wanted` accepts. Needs no lock, as long
/// as the buckets are not freed.
#[inline]
pub(crate) fn find(
    buckets: &[Bucket],
    place: Place,
    mut wanted: impl FnMut(u64) -> bool,
) -> Lookup {
    let primary = &buckets[place.primary];
    let mut meta = primary.meta();
    loop {
        let matches = meta.matching(place.tag);
        let in_vain = matches.0 != 0;
        if let Some(found) = primary.find(place.primary, matches, &mut wanted) {
            return found;
        }
        if !in_vain {
            break;
        }
        // The entry may have moved after its tag was read. A word that is there
        // in its stead was stored after the metadata that counts the move.
        let again = primary.meta();
        if again == meta {
            break;
        }
        meta = again;
    }
    if meta.moved() > 0 {
        let number = place.secondary(buckets.len());
        let secondary = &buckets[number];
        let matches = secondary.meta().matching(place.tag | SECONDARY);
        if let Some(found) = secondary.find(number, matches, &mut wanted) {
            return found;
        }
    }
    match meta.0 & STASHED {
        0 => Lookup::Absent,
        _ => Lookup::MaybeStashed,
    }
}

/// Adds an entry that is not there. Returns `None` if there is no room, not even
/// after moving another entry.
pub(crate) fn insert(buckets: &[Bucket], place: Place, word: u64) -> Option<Inserted> {
    let inserted = |number, slot, displaced| {
        Some(Inserted {
            position: number * POSITIONS + slot,
            displaced,
        })
    };
    let primary = &buckets[place.primary];
    if let Some(slot) = primary.meta().empty() {
        primary.put(slot, place.tag, word);
        return inserted(place.primary, slot, false);
    }
    let number = place.secondary(buckets.len());
    if number == place.primary || primary.meta().moved() == MOVED_MAX {
        return None;
    }
    let secondary = &buckets[number];
    let put_in_secondary = |slot| {
        secondary.put(slot, place.tag | SECONDARY, word);
        primary.set_meta(primary.meta().one_more_moved());
    };
    if let Some(slot) = secondary.meta().empty() {
        put_in_secondary(slot);
        return inserted(number, slot, false);
    }
    if let Some(slot) = displace(buckets, place.primary) {
        primary.put(slot, place.tag, word);
        return inserted(place.primary, slot, true);
    }
    // An entry of the primary bucket may just have become impossible to count.
    let slot = displace(buckets, number)?;
    put_in_secondary(slot);
    inserted(number, slot, true)
}

/// Moves an entry of a full bucket from there, its primary, to its secondary
/// bucket. Returns its former slot, which is empty.
fn displace(buckets: &[Bucket], number: usize) -> Option<usize> {
    let from = &buckets[number];
    let meta = from.meta();
    if meta.moved() == MOVED_MAX {
        return None;
    }
    (0..SLOTS).find(|&slot| {
        let tag = meta.tag(slot);
        if tag & SECONDARY != 0 {
            return false;
        }
        let place = Place {
            primary: number,
            tag,
        };
        let to = &buckets[place.secondary(buckets.len())];
        let Some(free) = to.meta().empty() else {
            return false;
        };
        to.put(
            free,
            tag | SECONDARY,
            from.words[slot].load(Ordering::Relaxed),
        );
        from.set_meta(meta.without_tag(slot).one_more_moved());
        from.words[slot].store(0, Ordering::Release);
        true
    })
}

/// Removes the entry at a position.
pub(crate) fn erase(buckets: &[Bucket], position: usize) {
    let (number, slot) = (position / POSITIONS, position % POSITIONS);
    let bucket = &buckets[number];
    let meta = bucket.meta();
    let tag = meta.tag(slot);
    debug_assert!(tag != 0);
    bucket.set_meta(meta.without_tag(slot));
    bucket.words[slot].store(0, Ordering::Release);
    if tag & SECONDARY != 0 {
        let distance = distance(tag, buckets.len());
        let primary = match number.checked_sub(distance) {
            Some(primary) => primary,
            None => number + buckets.len() - distance,
        };
        let primary = &buckets[primary];
        primary.set_meta(primary.meta().one_less_moved());
    }
}

/// Returns the word at a position, if there is an entry.
#[inline]
pub(crate) fn word(buckets: &[Bucket], position: usize) -> Option<&AtomicU64> {
    let words = &buckets.get(position / POSITIONS)?.words;
    let word = words.get(position % POSITIONS)?;
    (word.load(Ordering::Relaxed) != 0).then_some(word)
}

/// Returns whether the entry at a position lies in its secondary bucket.
pub(crate) fn is_secondary(buckets: &[Bucket], position: usize) -> bool {
    let tag = |bucket: &Bucket| bucket.meta().tag(position % POSITIONS);
    position % POSITIONS < SLOTS
        && buckets
            .get(position / POSITIONS)
            .is_some_and(|bucket| tag(bucket) & SECONDARY != 0)
}

/// Records whether entries of a primary bucket may lie in the stash.
pub(crate) fn set_stashed(buckets: &[Bucket], primary: usize, is_stashed: bool) {
    let bucket = &buckets[primary];
    let rest = bucket.meta().0 & !STASHED;
    bucket.set_meta(Meta(rest | if is_stashed { STASHED } else { 0 }));
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::{Bucket, Lookup, Place, SECONDARY, SLOTS, displace, erase, find, set_stashed};

    const BUCKETS: usize = 3;
    const PLACE: Place = Place { primary: 0, tag: 5 };

    /// Returns buckets whose first one is full of entries with the words 1 to 7.
    fn full() -> Arc<[Bucket; BUCKETS]> {
        let buckets = [Bucket::new(), Bucket::new(), Bucket::new()];
        for slot in 0..SLOTS {
            buckets[0].put(slot, PLACE.tag, slot as u64 + 1);
        }
        Arc::new(buckets)
    }

    /// Moves an entry and puts one with this word into its slot.
    fn put_instead(buckets: &[Bucket], word: u64) {
        let slot = displace(buckets, 0).unwrap();
        buckets[0].put(slot, PLACE.tag, word);
    }

    fn is_found(buckets: &[Bucket], word: u64) -> bool {
        matches!(find(buckets, PLACE, |found| found == word), Lookup::At(_, found) if found == word)
    }

    #[test]
    fn an_entry_that_moves_is_never_missed() {
        loom::model(|| {
            let buckets = full();
            let writer = {
                let buckets = Arc::clone(&buckets);
                thread::spawn(move || put_instead(&*buckets, 8))
            };
            assert!(is_found(&*buckets, 1));
            writer.join().unwrap();
            assert!(is_found(&*buckets, 1) && is_found(&*buckets, 8));
        });
    }

    /// The metadata that a reader compares may take an earlier value again.
    #[test]
    fn an_entry_is_not_missed_though_another_leaves() {
        loom::model(|| {
            let buckets = full();
            put_instead(&*buckets, 8);
            let writer = {
                let buckets = Arc::clone(&buckets);
                thread::spawn(move || {
                    let Lookup::At(position, _) = find(&*buckets, PLACE, |found| found == 1) else {
                        panic!("it has moved");
                    };
                    put_instead(&*buckets, 9);
                    erase(&*buckets, position);
                })
            };
            assert!(is_found(&*buckets, 8));
            writer.join().unwrap();
            assert!(is_found(&*buckets, 8) && is_found(&*buckets, 9));
        });
    }

    #[test]
    fn a_moved_entry_stays_while_the_stash_mark_comes_and_goes() {
        loom::model(|| {
            let buckets = full();
            put_instead(&*buckets, 8);
            assert!(
                buckets[0]
                    .meta()
                    .matching(PLACE.tag | SECONDARY)
                    .next()
                    .is_none()
            );
            let writer = {
                let buckets = Arc::clone(&buckets);
                thread::spawn(move || {
                    set_stashed(&*buckets, 0, true);
                    set_stashed(&*buckets, 0, false);
                })
            };
            assert!(is_found(&*buckets, 1));
            writer.join().unwrap();
        });
    }
}
