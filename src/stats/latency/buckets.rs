//! Bounds of the buckets: fine ones for percentiles, coarse ones for heat maps
//! and for cumulative counts.
//!
//! Latencies are counted in units of 1/1024 µs. Every power of two of a
//! microsecond is then a bound of a fine bucket, and the coarse counts are exact
//! sums. A bucket includes its upper bound, as the label `le` of Prometheus
//! demands.

/// Binary logarithm of the units in a microsecond.
const UNIT_BITS: u32 = 10;
/// Binary logarithm of the buckets in each power of two. 16 buckets make the
/// middle of a bucket at most 3.2 % wrong.
const STEP_BITS: u32 = 4;
/// Binary logarithm of the highest bound, in microseconds: 67 seconds.
const MAX_US_BITS: u32 = 26;
const MAX_NANOS: u64 = (1 << MAX_US_BITS) * 1000;

/// Number of fine buckets. The last one also counts longer latencies.
pub(super) const BUCKETS: usize = ((UNIT_BITS + MAX_US_BITS - STEP_BITS + 1) << STEP_BITS) as usize;

/// Upper bounds of the coarse buckets in microseconds: the powers of two from
/// 1 µs to 4.2 s.
pub const COARSE_BOUNDS_US: [u64; 23] = {
    let mut bounds = [1; 23];
    let mut at = 1;
    while at < bounds.len() {
        bounds[at] = bounds[at - 1] * 2;
        at += 1;
    }
    bounds
};

/// Number of coarse buckets: one for each bound and one for longer latencies.
pub const COARSE_BUCKETS: usize = COARSE_BOUNDS_US.len() + 1;

/// Returns the fine bucket of a latency.
#[inline]
pub(super) fn bucket_of(nanos: u64) -> usize {
    // 128/125 is 1024/1000. The subtraction puts bounds into the lower bucket.
    let units = (nanos.min(MAX_NANOS) * 128 / 125).saturating_sub(1);
    if units < 1 << STEP_BITS {
        return units as usize;
    }
    let shift = units.ilog2() - STEP_BITS;
    ((shift as usize) << STEP_BITS) + (units >> shift) as usize
}

/// Returns the exclusive lower bound of a fine bucket and its width, in units.
fn span(bucket: usize) -> (u64, u64) {
    let steps = 1 << STEP_BITS;
    if bucket < steps {
        return (bucket as u64, 1);
    }
    let shift = bucket / steps - 1;
    (((steps + bucket % steps) as u64) << shift, 1 << shift)
}

/// Returns the middle of a fine bucket in nanoseconds.
pub(super) fn middle_ns(bucket: usize) -> f64 {
    let (low, width) = span(bucket);
    (low as f64 + width as f64 / 2.0) * 125.0 / 128.0
}

/// Returns the longest latency of a fine bucket in nanoseconds.
pub(super) fn upper_ns(bucket: usize) -> u64 {
    let (low, width) = span(bucket);
    // The inverse of `bucket_of`, which rounds down.
    ((low + width + 1) * 125).div_ceil(128) - 1
}

/// Returns the coarse bucket that contains a fine one.
pub(super) fn coarse_of(bucket: usize) -> usize {
    let (low, _) = span(bucket);
    match (low >> UNIT_BITS).checked_ilog2() {
        Some(power) => (power as usize + 1).min(COARSE_BUCKETS - 1),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, COARSE_BOUNDS_US, COARSE_BUCKETS, MAX_NANOS};
    use super::{bucket_of, coarse_of, middle_ns, upper_ns};

    /// Latencies in nanoseconds around all bounds up to beyond the last.
    fn latencies() -> impl Iterator<Item = u64> {
        let steps = (0..4_000).map(|step| (1.007_f64.powi(step) * 10.0) as u64);
        steps.filter(|nanos| *nanos <= 2 * MAX_NANOS)
    }

    #[test]
    fn buckets_ascend_without_gaps() {
        let mut last = 0;
        for nanos in 0..2_000_000 {
            let bucket = bucket_of(nanos);
            assert!(bucket == last || bucket == last + 1, "{nanos}: {bucket}");
            last = bucket;
        }
        assert_eq!(bucket_of(MAX_NANOS), BUCKETS - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_middle_of_a_bucket_is_at_most_three_percent_wrong() {
        for nanos in latencies().filter(|nanos| (300..=MAX_NANOS).contains(nanos)) {
            let middle = middle_ns(bucket_of(nanos));
            let error = (middle / nanos as f64 - 1.0).abs();
            assert!(error < 0.033, "{nanos}: {middle}");
        }
    }

    #[test]
    fn a_bucket_includes_its_upper_bound() {
        for nanos in latencies().filter(|nanos| *nanos <= MAX_NANOS) {
            let bucket = bucket_of(nanos);
            assert!(upper_ns(bucket) >= nanos, "{nanos}");
            assert!(bucket == 0 || upper_ns(bucket - 1) < nanos, "{nanos}");
        }
    }

    #[test]
    fn coarse_buckets_end_at_powers_of_two_of_a_microsecond() {
        for (index, bound) in COARSE_BOUNDS_US.iter().enumerate() {
            assert_eq!(*bound, 1 << index);
            assert_eq!(coarse_of(bucket_of(bound * 1000)), index);
            assert_eq!(coarse_of(bucket_of(bound * 1000 + 1)), index + 1);
        }
        assert_eq!(coarse_of(0), 0);
        assert_eq!(coarse_of(BUCKETS - 1), COARSE_BUCKETS - 1);
    }
}
