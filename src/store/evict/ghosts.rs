//! Ghosts: fingerprints of evicted items, so that an item that comes back
//! regains its use count. (The name is from ARC: Megiddo and Modha, FAST 2003.)
//! A lossy table of fixed size without locks: a fingerprint that is
//! overwritten, torn by a race, or mistaken for another one costs some hit
//! ratio and nothing else.

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Bytes of memory limit per ghost.
pub(in crate::store) const BYTES_PER_GHOST: usize = 512;
/// Bits of a ghost: fingerprint, then class of use counts.
const GHOST_BITS: u32 = 16;
const USES_BITS: u32 = 2;
const FINGERPRINT_BITS: u32 = GHOST_BITS - USES_BITS;
/// Bytes of a ghost.
pub(in crate::store) const GHOST_BYTES: usize = (GHOST_BITS / u8::BITS) as usize;
const GHOSTS_PER_WORD: u32 = u64::BITS / GHOST_BITS;
const WORDS_PER_BUCKET: usize = 2;
/// Ghosts per bucket.
pub(in crate::store) const GHOSTS_PER_BUCKET: usize = WORDS_PER_BUCKET * GHOSTS_PER_WORD as usize;

/// Use count of an item that comes back, by the class of its use count when it
/// was evicted.
const RETURNED_USES: [u16; 4] = [1, 2, 4, 7];

/// The table of ghosts.
pub(crate) struct Ghosts {
    /// Buckets of two words of four ghosts each, newest first; 0 is no ghost.
    words: Box<[AtomicU64]>,
    /// Number of ghosts of a bucket that count. The ghosts that count are about
    /// as many as the items in the store; older ones do not predict reuse well.
    depth: AtomicUsize,
}

impl Ghosts {
    /// Creates a table for a store with a memory limit of `max_memory` bytes.
    pub(crate) fn new(max_memory: usize) -> Self {
        let ghosts = max_memory / BYTES_PER_GHOST;
        let buckets = ghosts / GHOSTS_PER_BUCKET;
        let words = WORDS_PER_BUCKET * buckets.max(1);
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            depth: AtomicUsize::new(GHOSTS_PER_BUCKET),
        }
    }

    /// Adjusts the number of ghosts that count to the number of items in the
    /// store.
    pub(crate) fn survey(&self, items: u64) {
        let buckets = self.words.len() / WORDS_PER_BUCKET;
        let depth = (items as usize)
            .div_ceil(buckets)
            .clamp(1, GHOSTS_PER_BUCKET);
        self.depth.store(depth, Ordering::Relaxed);
    }

    /// Returns the bytes of the table.
    pub(crate) fn bytes(&self) -> usize {
        std::mem::size_of_val(&*self.words)
    }

    /// Records the eviction of an item with this hash and use count.
    pub(crate) fn record(&self, hash: u64, uses: u16) {
        let class = match uses {
            0 => 0,
            1 => 1,
            2..4 => 2,
            _ => 3,
        };
        let ghost = fingerprint_of(hash) << USES_BITS | class;
        let [newer, older] = self.bucket(hash);
        let (first, second) = (newer.load(Ordering::Relaxed), older.load(Ordering::Relaxed));
        let pushed_out = first >> (u64::BITS - GHOST_BITS);
        older.store(second << GHOST_BITS | pushed_out, Ordering::Relaxed);
        newer.store(first << GHOST_BITS | ghost, Ordering::Relaxed);
    }

    /// Returns the use count with which a new item begins if its key was
    /// evicted recently, else `None`.
    pub(crate) fn find_uses(&self, hash: u64) -> Option<u16> {
        let fingerprint = fingerprint_of(hash);
        let words = self.bucket(hash);
        for place in 0..self.depth.load(Ordering::Relaxed) as u32 {
            let word = words[(place / GHOSTS_PER_WORD) as usize].load(Ordering::Relaxed);
            let shift = place % GHOSTS_PER_WORD * GHOST_BITS;
            let ghost = word >> shift & ((1 << GHOST_BITS) - 1);
            if ghost == 0 {
                return None;
            }
            if ghost >> USES_BITS == fingerprint {
                let class = (ghost & ((1 << USES_BITS) - 1)) as usize;
                return Some(RETURNED_USES[class]);
            }
        }
        None
    }

    /// Returns the two words of the bucket for `hash`: newer ghosts, older
    /// ghosts.
    fn bucket(&self, hash: u64) -> [&AtomicU64; WORDS_PER_BUCKET] {
        let buckets = (self.words.len() / WORDS_PER_BUCKET) as u64;
        // The upper half of the product is evenly distributed below `buckets`.
        let bucket = (((hash & u64::from(u32::MAX)) * buckets) >> u32::BITS) as usize;
        let start = bucket * WORDS_PER_BUCKET;
        [&self.words[start], &self.words[start + 1]]
    }
}

/// Returns the fingerprint of a hash. It is never 0, which marks an empty
/// place.
fn fingerprint_of(hash: u64) -> u64 {
    (hash >> (u64::BITS - FINGERPRINT_BITS)).max(1)
}

#[cfg(test)]
mod tests {
    use super::Ghosts;

    /// Returns an evenly distributed hash.
    fn hash(n: u64) -> u64 {
        n.wrapping_add(1)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(31)
            ^ n << 50
    }

    #[test]
    fn what_was_used_more_returns_with_more() {
        let ghosts = Ghosts::new(1 << 20);
        for (n, uses) in [(1, 0), (2, 1), (3, 3), (4, 7)] {
            ghosts.record(hash(n), uses);
        }
        let returned: Vec<_> = (1..=5).map(|n| ghosts.find_uses(hash(n))).collect();
        assert_eq!(returned, [Some(1), Some(2), Some(4), Some(7), None]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let ghosts = Ghosts::new(1);
        for n in 0..9 {
            ghosts.record(n << 50, 0);
        }
        assert_eq!(ghosts.find_uses(8 << 50), Some(1));
        assert_eq!(ghosts.find_uses(1 << 50), Some(1), "the eighth newest");
        assert_eq!(ghosts.find_uses(9 << 50), None);
    }

    #[test]
    fn strangers_are_rarely_recognised() {
        let ghosts = Ghosts::new(1 << 20);
        for n in 0..4096 {
            ghosts.record(hash(n), 1);
        }
        let strangers = (10_000..20_000).filter(|n| ghosts.find_uses(hash(*n)).is_some());
        assert!(strangers.count() < 30);
    }
}
