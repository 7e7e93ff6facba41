//! The curve: predicted hit ratios by size of memory, and the correction for
//! the sampling.

use crate::store::mrc::sizes::{FACTORS, SIZES};
use crate::store::mrc::windows::Counts;

/// Sampled misses from which their number is compared with the misses of the
/// store.
const MISSED_SAMPLES_MIN: u64 = 64;
/// Bounds of the factor for that comparison.
const CORRECTION: std::ops::RangeInclusive<f64> = 0.25..=4.0;

/// A predicted point of the curve.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Size of memory as a multiple of the memory limit.
    pub factor: f64,
    /// Memory limit of this size, in bytes.
    pub limit: usize,
    /// Hits per retrieval, from 0 to 1.
    pub hit_ratio: f64,
    /// Bytes of items found per byte of items wanted, from 0 to 1. Items that
    /// are never stored have no size and do not count.
    pub byte_hit_ratio: f64,
}

/// The miss ratio curve of about the last hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curve {
    /// Predictions in ascending order of the size.
    pub predictions: [Prediction; SIZES],
    /// Retrievals that it is about, sampled or not.
    pub gets: u64,
    /// Retrievals that were sampled and replayed.
    pub samples: u64,
    /// Sampled requests that were dropped since the start, because a ring was
    /// full.
    pub dropped: u64,
    /// Part of the keys that is sampled now.
    pub rate: f64,
    /// Keys that are sampled now and are held in any of the memories.
    pub keys: usize,
    /// Bytes that the curve takes: keys, ghosts and rings.
    pub bytes: usize,
}

/// Predicts the points of the curve for a memory limit of `limit` bytes. Returns
/// `None` if there was no retrieval.
///
/// Sampled keys may be requested more or less often than others, mostly because
/// of a few very popular keys. Their hits do not matter: the misses of the
/// memories are set in relation to all retrievals of the store. This adds the
/// difference between the expected and the actual number of samples to the hits
/// of each memory (SHARDS-adj: Waldspurger et al., FAST 2015, section 3.4). For
/// the misses, the store itself tells how far the sampled keys are from typical:
/// its misses of sampled keys are compared with all its misses.
pub(in crate::store) fn predict(counts: &Counts, limit: usize) -> Option<[Prediction; SIZES]> {
    if counts.all_gets < 1.0 || counts.samples == 0 {
        return None;
    }
    let mut correction = 1.0;
    if counts.missed_samples >= MISSED_SAMPLES_MIN {
        correction = counts.all_misses / counts.misses;
        correction = correction.clamp(*CORRECTION.start(), *CORRECTION.end());
    }
    let all_bytes = counts.all_found_bytes() + counts.missed_bytes * correction;
    let ratio = |missed: f64, all: f64| {
        let part = missed * correction / all;
        // Without any bytes, this is not a number.
        if part.is_finite() {
            (1.0 - part).clamp(0.0, 1.0)
        } else {
            0.0
        }
    };
    let predict = |memory: usize| Prediction {
        factor: FACTORS[memory],
        limit: (limit as f64 * FACTORS[memory]) as usize,
        hit_ratio: ratio(counts.gets - counts.hits[memory], counts.all_gets),
        byte_hit_ratio: ratio(counts.bytes - counts.hit_bytes[memory], all_bytes),
    };
    Some(std::array::from_fn(predict))
}

#[cfg(test)]
mod tests {
    use super::predict;
    use crate::store::mrc::footprint::head_class;
    use crate::store::mrc::windows::Counts;

    /// Returns counts at a rate of 1/2: 1000 sampled retrievals, 400 of them
    /// misses of the store and 300 of the largest memory.
    fn counts() -> Counts {
        let mut counts = Counts::default();
        for number in 0..1000 {
            counts.add_get(100, number >= 400, 0.5);
            if number >= 300 {
                counts.add_hit(7, 100, 0.5);
            }
        }
        counts.all_gets = 2000.0;
        counts.all_misses = 800.0;
        counts.found[head_class(100)].all = 1200.0;
        counts
    }

    #[test]
    fn samples_like_all_requests_need_no_correction() {
        let predictions = predict(&counts(), 1 << 20).unwrap();
        let last = predictions[7];
        assert_eq!((last.factor, last.limit), (8.0, 8 << 20));
        assert!((last.hit_ratio - 0.7).abs() < 1e-9, "{last:?}");
        assert!((last.byte_hit_ratio - 0.7).abs() < 1e-9, "{last:?}");
        assert_eq!(predictions[0].hit_ratio, 0.0);
    }

    #[test]
    fn popular_keys_outside_the_sample_count_as_hits() {
        let mut counts = counts();
        counts.all_gets = 4000.0;
        counts.found[head_class(100)].all = 3200.0;
        let last = predict(&counts, 1 << 20).unwrap()[7];
        assert!((last.hit_ratio - 0.85).abs() < 1e-9, "{last:?}");
        assert!((last.byte_hit_ratio - 0.85).abs() < 1e-9, "{last:?}");
    }

    #[test]
    fn sampled_keys_that_miss_more_than_others_are_discounted() {
        let mut counts = counts();
        counts.all_misses = 400.0;
        counts.found[head_class(100)].all = 1600.0;
        let last = predict(&counts, 1 << 20).unwrap()[7];
        assert!((last.hit_ratio - 0.85).abs() < 1e-9, "{last:?}");
    }

    #[test]
    fn no_retrievals_give_no_curve() {
        assert_eq!(predict(&Counts::default(), 1 << 20), None);
        let mut counts = counts();
        (counts.bytes, counts.missed_bytes, counts.hit_bytes) = (0.0, 0.0, [0.0; 8]);
        counts.found[head_class(100)].all = 0.0;
        assert_eq!(predict(&counts, 1 << 20).unwrap()[7].byte_hit_ratio, 0.0);
    }
}
