//! The busiest key prefixes, for `stats prefixes`. Requests are counted by
//! sampling, items and bytes by upkeep's sweep, so that no request pays for
//! them. Keys without a delimiter have no prefix.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::BUSY_PREFIXES_MAX;

/// Parts with a lock each.
const PARTS: usize = 8;
/// Most prefixes of a part.
const PART_MAX: usize = BUSY_PREFIXES_MAX / PARTS;

type Part = HashMap<Box<[u8]>, PrefixFigures>;

/// Figures of the busiest prefixes. At most [`BUSY_PREFIXES_MAX`]; a further
/// one replaces the one with the fewest requests of its part.
#[derive(Debug)]
pub struct BusyPrefixes {
    delimiter: u8,
    parts: [Mutex<Part>; PARTS],
}

/// Figures of one prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixFigures {
    /// Keys requested, estimated from samples: reads and writes.
    pub requests: u64,
    /// Hits of reads, estimated likewise.
    pub hits: u64,
    /// Writes, estimated likewise.
    pub sets: u64,
    /// Items, as of the last sweep.
    pub items: u64,
    /// Bytes of these items.
    pub bytes: u64,
}

/// Items and bytes by prefix, counted during a sweep.
#[derive(Debug)]
pub struct PrefixCensus {
    delimiter: u8,
    counts: HashMap<Box<[u8]>, (u64, u64)>,
}

impl BusyPrefixes {
    /// Creates an empty table. Prefixes end before `delimiter`.
    pub fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            parts: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Counts `n` reads of the prefix of `key`, of which all or none hit.
    pub fn count_reads(&self, key: &[u8], hit: bool, n: u64) {
        self.change(key, |figures| {
            figures.requests += n;
            figures.hits += if hit { n } else { 0 };
        });
    }

    /// Counts `n` writes of the prefix of `key`.
    pub fn count_writes(&self, key: &[u8], n: u64) {
        self.change(key, |figures| {
            figures.requests += n;
            figures.sets += n;
        });
    }

    /// Returns an empty census for a sweep.
    pub fn census(&self) -> PrefixCensus {
        PrefixCensus {
            delimiter: self.delimiter,
            counts: HashMap::new(),
        }
    }

    /// Publishes the counts of a complete sweep.
    pub fn publish(&self, census: &mut PrefixCensus) {
        for part in &self.parts {
            for figures in lock(part).values_mut() {
                (figures.items, figures.bytes) = (0, 0);
            }
        }
        for (prefix, (items, bytes)) in census.counts.drain() {
            let mut part = lock(&self.parts[part_of(&prefix)]);
            let has_room = part.len() < PART_MAX;
            if let Some(figures) = part.get_mut(&prefix) {
                (figures.items, figures.bytes) = (items, bytes);
            } else if has_room {
                let figures = PrefixFigures {
                    items,
                    bytes,
                    ..PrefixFigures::default()
                };
                part.insert(prefix, figures);
            }
        }
    }

    /// Returns the `most` prefixes with the most requests, in descending order.
    pub fn busiest(&self, most: usize) -> Vec<(Box<[u8]>, PrefixFigures)> {
        let mut all = Vec::new();
        for part in &self.parts {
            let part = lock(part);
            all.extend(
                part.iter()
                    .map(|(prefix, figures)| (prefix.clone(), *figures)),
            );
        }
        all.sort_by(|(a, of_a), (b, of_b)| {
            let rank = |it: &PrefixFigures| (it.requests, it.items);
            rank(of_b).cmp(&rank(of_a)).then_with(|| a.cmp(b))
        });
        all.truncate(most);
        all
    }

    /// Removes all prefixes.
    pub fn clear(&self) {
        self.parts.iter().for_each(|part| lock(part).clear());
    }

    #[cold]
    fn change(&self, key: &[u8], change: impl FnOnce(&mut PrefixFigures)) {
        let Some(prefix) = prefix_of(key, self.delimiter) else {
            return;
        };
        let mut part = lock(&self.parts[part_of(prefix)]);
        if let Some(figures) = part.get_mut(prefix) {
            return change(figures);
        }
        if part.len() >= PART_MAX {
            let least = part.iter().min_by_key(|(_, figures)| figures.requests);
            let least = least.map(|(prefix, _)| prefix.clone());
            least.and_then(|prefix| part.remove(&prefix));
        }
        change(part.entry(prefix.into()).or_default());
    }
}

impl PrefixCensus {
    /// Counts an item that stands for `n`. Does nothing for a new prefix beyond
    /// [`BUSY_PREFIXES_MAX`].
    pub fn count(&mut self, key: &[u8], bytes: usize, n: u64) {
        let Some(prefix) = prefix_of(key, self.delimiter) else {
            return;
        };
        if let Some((items, sum)) = self.counts.get_mut(prefix) {
            *items += n;
            *sum += bytes as u64 * n;
        } else if self.counts.len() < BUSY_PREFIXES_MAX {
            self.counts.insert(prefix.into(), (n, bytes as u64 * n));
        }
    }
}

fn prefix_of(key: &[u8], delimiter: u8) -> Option<&[u8]> {
    memchr::memchr(delimiter, key).map(|end| &key[..end])
}

fn part_of(prefix: &[u8]) -> usize {
    let mix = |hash: usize, byte: &u8| hash.wrapping_mul(31).wrapping_add(usize::from(*byte));
    prefix.iter().fold(0, mix) % PARTS
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{BusyPrefixes, PrefixFigures};
    use crate::limits::BUSY_PREFIXES_MAX;

    #[test]
    fn requests_and_items_are_counted() {
        let prefixes = BusyPrefixes::new(b':');
        prefixes.count_reads(b"user:1", true, 3);
        prefixes.count_reads(b"user:2:x", false, 2);
        prefixes.count_writes(b"page:1", 4);
        prefixes.count_writes(b"none", 9);
        let mut census = prefixes.census();
        census.count(b"user:1", 10, 2);
        census.count(b"idle:1", 5, 1);
        census.count(b"none", 5, 1);
        prefixes.publish(&mut census);
        let user = PrefixFigures {
            requests: 5,
            hits: 3,
            sets: 0,
            items: 2,
            bytes: 20,
        };
        let page = PrefixFigures {
            requests: 4,
            sets: 4,
            ..PrefixFigures::default()
        };
        let idle = PrefixFigures {
            items: 1,
            bytes: 5,
            ..PrefixFigures::default()
        };
        let all = [("user", user), ("page", page), ("idle", idle)];
        let all = all.map(|(prefix, figures)| (prefix.as_bytes().into(), figures));
        assert_eq!(prefixes.busiest(9), all);
        assert_eq!(prefixes.busiest(1), all[..1]);
        prefixes.publish(&mut prefixes.census());
        assert_eq!(prefixes.busiest(1)[0].1.items, 0);
        prefixes.clear();
        assert_eq!(prefixes.busiest(9), []);
    }

    #[test]
    fn their_number_is_limited_and_busy_ones_stay() {
        let prefixes = BusyPrefixes::new(b':');
        prefixes.count_reads(b"busy:1", true, 100);
        let mut census = prefixes.census();
        for number in 0..4 * BUSY_PREFIXES_MAX {
            let key = format!("rare{number}:1");
            prefixes.count_reads(key.as_bytes(), true, 1);
            census.count(key.as_bytes(), 1, 1);
        }
        prefixes.publish(&mut census);
        let all = prefixes.busiest(usize::MAX);
        assert_eq!(all.len(), BUSY_PREFIXES_MAX);
        assert_eq!(&*all[0].0, b"busy");
    }
}
