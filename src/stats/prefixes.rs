//! Counters by key prefix, for `stats detail`. The prefix of a key ends before
//! the first delimiter. Counts are collected only while `stats detail` is on.
//! Keys without a delimiter and prefixes beyond the limit are not counted.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::PREFIXES_MAX;

const PARTS: usize = 16;

/// Ordered, so that a listing can resume after the last prefix.
type Part = BTreeMap<Box<[u8]>, PrefixSums>;

/// Position of a listing of the prefixes.
#[derive(Clone, Debug, Default)]
pub struct PrefixCursor {
    part: usize,
    /// The last prefix listed of `part`; `None` before the first.
    last: Option<Box<[u8]>>,
}

/// Counters of all key prefixes. Split into parts with a lock each, to reduce
/// contention.
#[derive(Debug)]
pub struct Prefixes {
    delimiter: u8,
    parts: [Mutex<Part>; PARTS],
}

/// An operation to count for a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixCount {
    /// A retrieval of a key.
    Get {
        /// Whether it was a hit.
        hit: bool,
    },
    /// A storage command, whether it stored or not.
    Set,
    /// A deletion.
    Delete,
}

/// Counters of one prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixSums {
    /// Keys requested.
    pub gets: u64,
    /// Hits.
    pub hits: u64,
    /// Storage commands.
    pub sets: u64,
    /// Deletions.
    pub deletes: u64,
}

impl Prefixes {
    /// Creates an empty set of counters. Prefixes end before `delimiter`.
    pub fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            parts: std::array::from_fn(|_| Mutex::new(Part::new())),
        }
    }

    /// Counts an operation for the prefix of `key`, if it has one. Does nothing
    /// for a new prefix when the limit is reached.
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

    /// Calls `show` for every prefix, in no particular order. Holds the lock of
    /// a part meanwhile.
    pub fn each(&self, mut show: impl FnMut(&[u8], PrefixSums)) {
        for part in &self.parts {
            for (prefix, sums) in lock(part).iter() {
                show(prefix, *sums);
            }
        }
    }

    /// Calls `show` for up to `most` further prefixes and advances `cursor`.
    /// Returns false if none is left. Holds the lock of a part during each
    /// call.
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

    /// Removes all counts.
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
