//! Counts by key prefix, for `stats detail`: what stands before the
//! delimiter. Collected only while it is switched on; keys without a
//! delimiter, and prefixes beyond the limit, are not counted.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::PREFIXES_MAX;

const PARTS: usize = 16;

/// Ordered, so that a list can go on where it left off.
type Part = BTreeMap<Box<[u8]>, PrefixSums>;

/// How far a list of the prefixes has come.
#[derive(Clone, Debug, Default)]
pub struct PrefixCursor {
    part: usize,
    /// The last prefix listed of that part.
    last: Option<Box<[u8]>>,
}

/// See the module's documentation. Divided into parts with a lock each, so
/// that threads seldom wait for one another.
#[derive(Debug)]
pub struct Prefixes {
    delimiter: u8,
    parts: [Mutex<Part>; PARTS],
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixCount {
    /// A key was asked for.
    Get {
        /// It was there.
        hit: bool,
    },
    /// A value was to be stored.
    Set,
    /// A deletion.
    Delete,
}

/// The counts of one prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixSums {
    /// Keys asked for.
    pub gets: u64,
    /// Of these, ones that were there.
    pub hits: u64,
    /// Values that were to be stored.
    pub sets: u64,
    /// Deletions.
    pub deletes: u64,
}

impl Prefixes {
    /// No counts yet.
    pub fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            parts: std::array::from_fn(|_| Mutex::new(Part::new())),
        }
    }

    /// Counts for the prefix of `key`.
    pub fn count(&self, key: &[u8], count: PrefixCount) {
        let Some(end) = memchr::memchr(self.delimiter, key) else {
            return;
        };
        let prefix = &key[..end];
        let mut part = self.part_of(prefix);
        if !part.contains_key(prefix) {
            if part.len() >= PREFIXES_MAX / PARTS {
                return;
            }
            part.insert(prefix.into(), PrefixSums::default());
        }
        let Some(sums) = part.get_mut(prefix) else {
            return;
        };
        match count {
            PrefixCount::Get { hit } => {
                sums.gets += 1;
                sums.hits += u64::from(hit);
            }
            PrefixCount::Set => sums.sets += 1,
            PrefixCount::Delete => sums.deletes += 1,
        }
    }

    /// Shows every prefix and its counts, in no order.
    pub fn each(&self, mut show: impl FnMut(&[u8], PrefixSums)) {
        for part in &self.parts {
            for (prefix, sums) in lock(part).iter() {
                show(prefix, *sums);
            }
        }
    }

    /// Shows the next prefixes, at most `most`. False if there are no more.
    pub fn next(
        &self,
        cursor: &mut PrefixCursor,
        most: usize,
        mut show: impl FnMut(&[u8], PrefixSums),
    ) -> bool {
        let mut left = most;
        while let Some(part) = self.parts.get(cursor.part) {
            let after = match &cursor.last {
                Some(last) => Bound::Excluded(last.clone()),
                None => Bound::Unbounded,
            };
            for (prefix, sums) in lock(part).range((after, Bound::Unbounded)) {
                if left == 0 {
                    return true;
                }
                show(prefix, *sums);
                cursor.last = Some(prefix.clone());
                left -= 1;
            }
            cursor.part += 1;
            cursor.last = None;
        }
        false
    }

    /// Forgets all counts.
    pub fn clear(&self) {
        for part in &self.parts {
            lock(part).clear();
        }
    }

    fn part_of(&self, prefix: &[u8]) -> MutexGuard<'_, Part> {
        let mix = |hash: usize, byte: &u8| hash.wrapping_mul(31).wrapping_add(usize::from(*byte));
        lock(&self.parts[prefix.iter().fold(0, mix) % PARTS])
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{PrefixCount, PrefixCursor, PrefixSums, Prefixes};
    use crate::limits::PREFIXES_MAX;

    fn all(prefixes: &Prefixes) -> Vec<(Vec<u8>, PrefixSums)> {
        let mut all = Vec::new();
        prefixes.each(|prefix, sums| all.push((prefix.to_vec(), sums)));
        all
    }

    #[test]
    fn what_stands_before_the_delimiter_is_counted() {
        let prefixes = Prefixes::new(b':');
        prefixes.count(b"user:1", PrefixCount::Get { hit: true });
        prefixes.count(b"user:2:x", PrefixCount::Get { hit: false });
        prefixes.count(b"user:2", PrefixCount::Set);
        prefixes.count(b"user:2", PrefixCount::Delete);
        prefixes.count(b"user", PrefixCount::Set);
        let sums = PrefixSums {
            gets: 2,
            hits: 1,
            sets: 1,
            deletes: 1,
        };
        assert_eq!(all(&prefixes), [(b"user".to_vec(), sums)]);
        prefixes.clear();
        assert_eq!(all(&prefixes), []);
    }

    #[test]
    fn a_list_in_steps_shows_each_prefix_once() {
        let prefixes = Prefixes::new(b':');
        for number in 0..100 {
            prefixes.count(format!("{number}:").as_bytes(), PrefixCount::Set);
        }
        for most in [1, 7, 100, 1000] {
            let (mut cursor, mut listed) = (PrefixCursor::default(), Vec::new());
            while prefixes.next(&mut cursor, most, |prefix, _| listed.push(prefix.to_vec())) {}
            listed.sort();
            listed.dedup();
            assert_eq!(listed.len(), 100, "{most} at a time");
        }
    }

    #[test]
    fn their_number_is_limited() {
        let prefixes = Prefixes::new(b':');
        for number in 0..2 * PREFIXES_MAX {
            prefixes.count(format!("{number}:").as_bytes(), PrefixCount::Set);
        }
        let count = all(&prefixes).len();
        assert!(count <= PREFIXES_MAX && count > PREFIXES_MAX / 2, "{count}");
    }
}
