//! Sampling by the workers: selects keys by their hash, and puts requests for
//! them into a bounded ring per worker.
//!
//! A key is sampled if the low half of its hash is below a threshold. All
//! threads thus choose the same keys without coordination. A request for any
//! other key costs a load and a comparison.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::limits::MRC_RING_SAMPLES;
use crate::store::item::layout::Item;
use crate::store::mrc::curve::Curve;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::Expiry;

/// The threshold at which every key is sampled.
pub(in crate::store) const EVERY_KEY: u64 = 1 << u32::BITS;

/// A request as the miss ratio curve sees it. Sizes are those of
/// [`Item::bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// A retrieval that found an item.
    Hit {
        /// Bytes of the item.
        bytes: u32,
        /// Expiry time of the item.
        expiry: Expiry,
    },
    /// A retrieval that found no item.
    Miss,
    /// An item was stored, by any storage command.
    Set {
        /// Bytes of the new item.
        bytes: u32,
        /// Expiry time of the new item.
        expiry: Expiry,
    },
    /// The key was deleted, whether or not there was an item.
    Delete,
    /// The key was used without being retrieved, whether or not there was an
    /// item.
    Touch {
        /// The new expiry time. `None` if the command leaves it as it is, such
        /// as `incr`.
        expiry: Option<Expiry>,
    },
}

impl Observed {
    /// Returns a retrieval that found this item.
    #[inline]
    pub fn hit(item: Item<'_>) -> Self {
        let (bytes, expiry) = (item.bytes() as u32, item.expiry());
        Self::Hit { bytes, expiry }
    }

    /// Returns a storage command that stored this item.
    #[inline]
    pub fn set(item: Item<'_>) -> Self {
        let (bytes, expiry) = (item.bytes() as u32, item.expiry());
        Self::Set { bytes, expiry }
    }
}

/// A sampled request.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Sample {
    /// Hash of the key.
    pub(in crate::store) hash: u64,
    /// Number of the sample, ascending over all workers, modulo 2^32.
    pub(in crate::store) number: u32,
    /// The request.
    pub(in crate::store) request: Observed,
}

/// Bytes of a sample in a ring, which keeps a stamp beside it.
pub(in crate::store) const SAMPLE_BYTES: usize = size_of::<Sample>() + size_of::<usize>();

/// The sampling of a server: the threshold, the rings of all workers, and the
/// latest curve.
pub struct Sampling {
    common: Arc<Common>,
    rings: Mutex<Vec<Arc<Ring>>>,
    /// Capacity of each ring, in samples.
    capacity: usize,
    curve: Mutex<Option<Curve>>,
}

/// State that all workers share.
struct Common {
    /// Threshold for the low half of the hash of a sampled key. Every request
    /// reads it; it is rarely written.
    threshold: CachePadded<AtomicU64>,
    /// Number of the last sample. Written for sampled requests only.
    number: CachePadded<AtomicU32>,
}

/// A worker's ring.
pub(in crate::store) struct Ring {
    queue: ArrayQueue<Sample>,
    dropped: AtomicU64,
}

/// A worker's access to the sampling.
pub struct Sampler {
    common: Arc<Common>,
    ring: Arc<Ring>,
}

impl Sampling {
    /// Creates the sampling for `workers` workers. No key is sampled before a
    /// [`Predictor`](crate::store::mrc::Predictor) is created.
    pub fn new(workers: usize) -> Self {
        Self {
            common: Arc::new(Common {
                threshold: CachePadded::new(AtomicU64::new(0)),
                number: CachePadded::new(AtomicU32::new(0)),
            }),
            rings: Mutex::new(Vec::new()),
            capacity: (MRC_RING_SAMPLES / workers.max(1)).max(1),
            curve: Mutex::new(None),
        }
    }

    /// Creates a worker's sampler with its ring. Call it once per worker.
    pub fn sampler(&self) -> Sampler {
        let ring = Arc::new(Ring {
            queue: ArrayQueue::new(self.capacity),
            dropped: AtomicU64::new(0),
        });
        self.lock_rings().push(Arc::clone(&ring));
        Sampler {
            common: Arc::clone(&self.common),
            ring,
        }
    }

    /// Returns the curve that was published last. `None` until there have been
    /// requests.
    pub fn curve(&self) -> Option<Curve> {
        *self.curve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a curve.
    pub(in crate::store) fn publish(&self, curve: Option<Curve>) {
        *self.curve.lock().unwrap_or_else(PoisonError::into_inner) = curve;
    }

    /// Sets the threshold.
    pub(in crate::store) fn set_threshold(&self, threshold: u64) {
        self.common.threshold.store(threshold, Ordering::Relaxed);
    }

    /// Returns the rings of all workers.
    pub(in crate::store) fn rings(&self) -> Vec<Arc<Ring>> {
        self.lock_rings().clone()
    }

    fn lock_rings(&self) -> MutexGuard<'_, Vec<Arc<Ring>>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Removes the oldest sample.
    pub(in crate::store) fn pop(&self) -> Option<Sample> {
        self.queue.pop()
    }

    /// Returns whether there is no sample.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the number of samples dropped because the ring was full.
    pub(in crate::store) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Returns the bytes of the ring.
    pub(in crate::store) fn bytes(&self) -> usize {
        self.queue.capacity() * SAMPLE_BYTES
    }
}

impl Sampler {
    /// Returns whether requests for a key with this hash are sampled.
    #[inline]
    pub fn is_sampled(&self, hash: u64) -> bool {
        is_sampled(hash, self.common.threshold.load(Ordering::Relaxed))
    }

    /// Puts a request into the ring if its key is sampled. Drops and counts it
    /// if the ring is full. `request` is called only for a sampled key.
    #[inline]
    pub fn record(&self, hash: u64, request: impl FnOnce() -> Observed) {
        if self.is_sampled(hash) {
            self.put(hash, request());
        }
    }

    #[cold]
    fn put(&self, hash: u64, request: Observed) {
        let number = self.common.number.fetch_add(1, Ordering::Relaxed);
        if self
            .ring
            .queue
            .push(Sample {
                hash,
                number,
                request,
            })
            .is_err()
        {
            let dropped = &self.ring.dropped;
            // Only this worker writes it, so that load and store suffice.
            dropped.store(dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }
}

/// Returns whether a key with this hash is sampled at this threshold.
#[inline]
pub(in crate::store) fn is_sampled(hash: u64, threshold: u64) -> bool {
    u64::from(hash as u32) < threshold
}

#[cfg(test)]
mod tests {
    use super::{EVERY_KEY, Observed, Sampling};
    use crate::limits::MRC_RING_SAMPLES;

    #[test]
    fn nothing_is_sampled_until_there_is_a_threshold() {
        let sampling = Sampling::new(1);
        let sampler = sampling.sampler();
        sampler.record(0, || unreachable!("the key is not sampled"));
        sampling.set_threshold(EVERY_KEY);
        sampler.record(u64::MAX, || Observed::Miss);
        sampling.set_threshold(EVERY_KEY / 4);
        let sampled = (0..1024).filter(|n| sampler.is_sampled(n * (EVERY_KEY / 1024)));
        assert_eq!(sampled.count(), 256);
        let ring = &sampling.rings()[0];
        assert_eq!(ring.pop().map(|sample| sample.hash), Some(u64::MAX));
        assert!(ring.is_empty());
    }

    #[test]
    fn samples_are_numbered_over_all_workers() {
        let sampling = Sampling::new(2);
        sampling.set_threshold(EVERY_KEY);
        let (one, two) = (sampling.sampler(), sampling.sampler());
        one.record(1, || Observed::Miss);
        two.record(2, || Observed::Delete);
        one.record(3, || Observed::Touch { expiry: None });
        let numbers = sampling.rings().into_iter().map(|ring| {
            let samples = std::iter::from_fn(|| ring.pop());
            samples.map(|sample| sample.number).collect::<Vec<_>>()
        });
        assert_eq!(numbers.collect::<Vec<_>>(), [vec![0, 2], vec![1]]);
    }

    #[test]
    fn a_full_ring_drops_and_counts() {
        let sampling = Sampling::new(4);
        sampling.set_threshold(EVERY_KEY);
        let sampler = sampling.sampler();
        let capacity = MRC_RING_SAMPLES / 4;
        for hash in 0..capacity as u64 + 7 {
            sampler.record(hash, || Observed::Miss);
        }
        let ring = &sampling.rings()[0];
        assert_eq!(ring.dropped(), 7);
        assert_eq!(std::iter::from_fn(|| ring.pop()).count(), capacity);
    }
}
