//! Counts of replayed retrievals, in windows of time. The curve is that of the
//! last windows, so that it follows a load that changes.

use crate::limits::CLASSES_MAX;
use crate::store::memory::classes::chunk_bytes;
use crate::store::mrc::footprint::head_class;
use crate::store::mrc::sizes::SIZES;
use crate::time::Now;

/// Length of a window in milliseconds.
pub(in crate::store) const WINDOW_MS: u64 = 5 * 60 * 1000;
/// Number of windows, the present one included: the last hour.
const WINDOWS: usize = 12;

/// Sums over retrievals. A sampled retrieval counts as often as the inverse of
/// the sampling rate at its time, so that sums over different rates add up
/// (Waldspurger et al., FAST 2015, section 3.3).
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Counts {
    /// Sampled retrievals, unweighted.
    pub(in crate::store) samples: u64,
    /// Sampled retrievals that the store missed, unweighted.
    pub(in crate::store) missed_samples: u64,
    /// Sampled retrievals.
    pub(in crate::store) gets: f64,
    /// Of these, retrievals that the store missed.
    pub(in crate::store) misses: f64,
    /// Bytes of their items, as far as they are known.
    pub(in crate::store) bytes: f64,
    /// Of these, bytes of items that the store missed.
    pub(in crate::store) missed_bytes: f64,
    /// Hits of each memory, and their bytes.
    pub(in crate::store) hits: [f64; SIZES],
    pub(in crate::store) hit_bytes: [f64; SIZES],
    /// All retrievals of the store, sampled or not.
    pub(in crate::store) all_gets: f64,
    /// All misses of the store.
    pub(in crate::store) all_misses: f64,
    /// The store's hits by size class.
    pub(in crate::store) found: [Found; CLASSES_MAX],
}

/// The store's hits of one size class.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store) struct Found {
    /// Number of hits, sampled or not.
    pub(in crate::store) all: f64,
    /// Number of sampled hits, and their bytes.
    sampled: f64,
    bytes: f64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            samples: 0,
            missed_samples: 0,
            gets: 0.0,
            misses: 0.0,
            bytes: 0.0,
            missed_bytes: 0.0,
            hits: [0.0; SIZES],
            hit_bytes: [0.0; SIZES],
            all_gets: 0.0,
            all_misses: 0.0,
            found: [Found::default(); CLASSES_MAX],
        }
    }
}

impl Counts {
    /// Adds a retrieval at a sampling rate. `bytes` is the size of its item, 0
    /// if that is not known; `found` is whether the store had the item.
    pub(in crate::store) fn add_get(&mut self, bytes: u32, found: bool, rate: f64) {
        self.samples += 1;
        self.gets += 1.0 / rate;
        self.bytes += f64::from(bytes) / rate;
        if found {
            let found = &mut self.found[head_class(bytes as usize)];
            found.sampled += 1.0 / rate;
            found.bytes += f64::from(bytes) / rate;
        } else {
            self.missed_bytes += f64::from(bytes) / rate;
            self.missed_samples += 1;
            self.misses += 1.0 / rate;
        }
    }

    /// Adds the size of an item that the store and all memories missed.
    pub(in crate::store) fn add_missed_bytes(&mut self, bytes: u32, rate: f64) {
        self.bytes += f64::from(bytes) / rate;
        self.missed_bytes += f64::from(bytes) / rate;
    }

    /// Returns the bytes of all hits of the store, sampled or not. For each size
    /// class, the sampled hits tell the mean size, and the store the number of
    /// all hits.
    pub(in crate::store) fn all_found_bytes(&self) -> f64 {
        let bytes = |(class, found): (usize, &Found)| {
            let mean = if found.sampled > 0.0 {
                found.bytes / found.sampled
            } else {
                chunk_bytes(class) as f64
            };
            found.all * mean
        };
        self.found.iter().enumerate().map(bytes).sum()
    }

    /// Adds a hit of a memory.
    pub(in crate::store) fn add_hit(&mut self, memory: usize, bytes: u32, rate: f64) {
        self.hits[memory] += 1.0 / rate;
        self.hit_bytes[memory] += f64::from(bytes) / rate;
    }

    fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.missed_samples += other.missed_samples;
        self.gets += other.gets;
        self.misses += other.misses;
        self.bytes += other.bytes;
        self.missed_bytes += other.missed_bytes;
        for memory in 0..SIZES {
            self.hits[memory] += other.hits[memory];
            self.hit_bytes[memory] += other.hit_bytes[memory];
        }
        self.all_gets += other.all_gets;
        self.all_misses += other.all_misses;
        for (found, other) in self.found.iter_mut().zip(&other.found) {
            found.all += other.all;
            found.sampled += other.sampled;
            found.bytes += other.bytes;
        }
    }
}

/// The counts of the last windows.
#[derive(Default)]
pub(in crate::store) struct Windows {
    counts: [Counts; WINDOWS],
    /// Number of the present window.
    present: usize,
    /// Time in milliseconds at which the present window began; 0 before the
    /// first call of [`Windows::advance`].
    began: u64,
    /// Whether the present window is left out of the sums.
    paused: bool,
}

impl Windows {
    /// Begins new windows as time passes. Returns whether a window ended.
    pub(in crate::store) fn advance(&mut self, now: Now) -> bool {
        if self.began == 0 {
            self.began = now.millis();
        }
        let passed = (now.millis().saturating_sub(self.began) / WINDOW_MS) as usize;
        for _ in 0..passed.min(WINDOWS) {
            if !self.paused {
                self.present = (self.present + 1) % WINDOWS;
            }
            self.paused = false;
            self.counts[self.present] = Counts::default();
        }
        self.began += passed as u64 * WINDOW_MS;
        passed > 0
    }

    /// Leaves the present window out of the sums.
    pub(in crate::store) fn pause(&mut self) {
        self.paused = true;
    }

    /// Returns the counts of the present window, to be added to.
    pub(in crate::store) fn present(&mut self) -> &mut Counts {
        &mut self.counts[self.present]
    }

    /// Returns the sums over all windows.
    pub(in crate::store) fn sum(&self) -> Counts {
        let mut sum = Counts::default();
        for (number, counts) in self.counts.iter().enumerate() {
            if number != self.present || !self.paused {
                sum.add(counts);
            }
        }
        sum
    }

    /// Forgets all counts.
    pub(in crate::store) fn clear(&mut self) {
        self.counts = [Counts::default(); WINDOWS];
    }
}

#[cfg(test)]
mod tests {
    use super::{WINDOW_MS, WINDOWS, Windows};
    use crate::time::Now;

    fn after(windows: u64) -> Now {
        Now::from_millis(1000 + windows * WINDOW_MS)
    }

    #[test]
    fn counts_older_than_an_hour_are_forgotten() {
        let mut windows = Windows::default();
        assert!(!windows.advance(after(0)));
        windows.present().add_get(100, true, 0.5);
        assert!(windows.advance(after(WINDOWS as u64 - 1)));
        windows.present().add_get(100, true, 0.25);
        let sum = windows.sum();
        assert_eq!((sum.samples, sum.gets, sum.bytes), (2, 6.0, 600.0));
        assert!(windows.advance(after(WINDOWS as u64)));
        assert_eq!(windows.sum().gets, 4.0);
        windows.advance(after(100));
        assert_eq!(windows.sum().gets, 0.0);
    }

    #[test]
    fn a_paused_window_does_not_count_and_costs_no_other() {
        let mut windows = Windows::default();
        windows.advance(after(0));
        windows.present().add_get(1, false, 1.0);
        windows.advance(after(1));
        windows.pause();
        windows.present().add_get(1, false, 1.0);
        assert_eq!(windows.sum().misses, 1.0);
        windows.advance(after(2));
        assert_eq!(windows.sum().misses, 1.0);
        windows.present().add_get(1, false, 1.0);
        assert_eq!(windows.sum().misses, 2.0);
    }
}
