//! A histogram of latencies as readers see it, and its summary.

use crate::stats::latency::buckets::{
    BUCKETS, COARSE_BUCKETS, bucket_of, coarse_of, middle_ns, upper_ns,
};

/// Counts of latencies by bucket, with their exact sum and maximum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    buckets: Box<[u64]>,
    sum_ns: u64,
    max_ns: u64,
}

/// Summary of a histogram. Times are in microseconds; all are 0 if nothing was
/// counted. Percentiles are at most 3.2 % wrong up to 67 seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LatencySummary {
    /// Commands counted.
    pub count: u64,
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Maximum: exact since the start, otherwise the upper bound of its bucket.
    pub max_us: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS].into(),
            sum_ns: 0,
            max_ns: 0,
        }
    }
}

impl Histogram {
    /// Returns the number of latencies counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds the counts of another histogram.
    pub fn add(&mut self, other: &Self) {
        for (bucket, count) in other.buckets.iter().enumerate() {
            self.buckets[bucket] += count;
        }
        self.add_sum(other.sum_ns);
        self.raise_max(other.max_ns);
    }

    /// Adds `n` latencies to a bucket. The caller adds their sum.
    pub(super) fn add_to_bucket(&mut self, bucket: usize, n: u64) {
        self.buckets[bucket] += n;
    }

    /// Adds to the sum of all latencies.
    pub(super) fn add_sum(&mut self, nanos: u64) {
        self.sum_ns = self.sum_ns.saturating_add(nanos);
    }

    /// Raises the maximum to `nanos` if it is lower.
    pub(super) fn raise_max(&mut self, nanos: u64) {
        self.max_ns = self.max_ns.max(nanos);
    }

    /// Estimates the maximum from the highest bucket in use. `limit_ns` is a
    /// known upper bound.
    pub(super) fn estimate_max(&mut self, limit_ns: u64) {
        let highest = self.buckets.iter().rposition(|count| *count > 0);
        self.max_ns = match highest {
            Some(bucket) if bucket + 1 < BUCKETS => upper_ns(bucket).min(limit_ns),
            Some(_) => limit_ns,
            None => 0,
        };
    }

    /// Calls `found` with each bucket that has more latencies than in `base`,
    /// and the difference.
    pub(super) fn each_since(&self, base: &Self, mut found: impl FnMut(usize, u64)) {
        for (bucket, (count, before)) in self.buckets.iter().zip(&base.buckets).enumerate() {
            if count > before {
                found(bucket, count - before);
            }
        }
    }

    /// Returns the latencies counted since `base` was taken. Its maximum is
    /// estimated from the buckets.
    #[must_use]
    pub fn since(&self, base: &Self) -> Self {
        let mut counts = Self {
            sum_ns: self.sum_ns.saturating_sub(base.sum_ns),
            ..Self::default()
        };
        self.each_since(base, |bucket, count| counts.add_to_bucket(bucket, count));
        counts.estimate_max(self.max_ns);
        counts
    }

    /// Returns the sum of all latencies in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// Returns the longest latency in nanoseconds.
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// Returns the latency, in microseconds, that the share `q` of the commands
    /// did not exceed. `q` is from 0 to 1. Returns 0 if nothing was counted.
    pub fn percentile_us(&self, q: f64) -> f64 {
        self.percentile_of(q, self.count())
    }

    fn percentile_of(&self, q: f64, count: u64) -> f64 {
        let rank = ((q * count as f64).ceil() as u64).max(1);
        let mut passed = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            passed += n;
            if passed >= rank {
                return middle_ns(bucket).min(self.max_ns as f64) / 1000.0;
            }
        }
        0.0
    }

    /// Returns the summary.
    pub fn summary(&self) -> LatencySummary {
        let count = self.count();
        LatencySummary {
            count,
            mean_us: self.sum_ns as f64 / count.max(1) as f64 / 1000.0,
            p50_us: self.percentile_of(0.5, count),
            p90_us: self.percentile_of(0.9, count),
            p99_us: self.percentile_of(0.99, count),
            p999_us: self.percentile_of(0.999, count),
            max_us: self.max_ns as f64 / 1000.0,
        }
    }

    /// Returns the counts by power of two, for heat maps. The upper bounds are
    /// [`COARSE_BOUNDS_US`](crate::stats::COARSE_BOUNDS_US); the last bucket has
    /// none.
    pub fn coarse(&self) -> [u64; COARSE_BUCKETS] {
        let mut coarse = [0; COARSE_BUCKETS];
        for (bucket, count) in self.buckets.iter().enumerate() {
            coarse[coarse_of(bucket)] += count;
        }
        coarse
    }

    /// Returns cumulative counts with the bounds of [`Histogram::coarse`], as in
    /// a histogram of Prometheus. The last one is the total (`+Inf`).
    pub fn cumulative(&self) -> [u64; COARSE_BUCKETS] {
        let mut cumulative = self.coarse();
        for bucket in 1..COARSE_BUCKETS {
            cumulative[bucket] += cumulative[bucket - 1];
        }
        cumulative
    }
}

/// Collects latencies in nanoseconds.
impl FromIterator<u64> for Histogram {
    fn from_iter<I: IntoIterator<Item = u64>>(latencies: I) -> Self {
        let mut histogram = Self::default();
        for nanos in latencies {
            histogram.add_to_bucket(bucket_of(nanos), 1);
            histogram.add_sum(nanos);
            histogram.raise_max(nanos);
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::{Histogram, LatencySummary};
    use crate::stats::latency::buckets::COARSE_BUCKETS;

    #[track_caller]
    fn near(got: f64, want: f64) {
        assert!((got / want - 1.0).abs() < 0.033, "{got} instead of {want}");
    }

    #[test]
    fn a_summary_of_nothing_is_zero() {
        let empty = Histogram::default();
        assert_eq!(empty.summary(), LatencySummary::default());
        assert_eq!(empty.percentile_us(0.5), 0.0);
        assert_eq!(empty.cumulative(), [0; COARSE_BUCKETS]);
    }

    #[test]
    fn percentiles_of_an_even_spread() {
        let summary = Histogram::from_iter((1..=100_000).map(|n| n * 10)).summary();
        assert_eq!(summary.count, 100_000);
        near(summary.mean_us, 500.0);
        near(summary.p50_us, 500.0);
        near(summary.p90_us, 900.0);
        near(summary.p99_us, 990.0);
        near(summary.p999_us, 999.0);
        assert_eq!(summary.max_us, 1000.0);
    }

    #[test]
    fn no_percentile_exceeds_the_maximum() {
        let summary = Histogram::from_iter([1_001]).summary();
        assert_eq!(
            (summary.p50_us, summary.p999_us, summary.max_us),
            (1.001, 1.001, 1.001)
        );
        let long = Histogram::from_iter([500_000_000_000]).summary();
        assert_eq!(long.max_us, 500_000_000.0);
        assert!(long.p50_us > 60_000_000.0, "{}", long.p50_us);
    }

    #[test]
    fn the_lowest_and_the_highest_percentile() {
        let histogram = Histogram::from_iter([1_000, 1_000_000]);
        near(histogram.percentile_us(0.0), 1.0);
        near(histogram.percentile_us(0.5), 1.0);
        near(histogram.percentile_us(0.51), 1000.0);
        near(histogram.percentile_us(1.0), 1000.0);
    }

    #[test]
    fn coarse_and_cumulative_counts() {
        let histogram = Histogram::from_iter([0, 1_000, 1_001, 2_000, 4_000, 5_000_000_000]);
        let coarse = histogram.coarse();
        assert_eq!(coarse[..4], [2, 2, 1, 0]);
        assert_eq!(coarse[COARSE_BUCKETS - 1], 1);
        let cumulative = histogram.cumulative();
        assert_eq!(cumulative[..4], [2, 4, 5, 5]);
        assert_eq!(cumulative[COARSE_BUCKETS - 2], 5);
        assert_eq!(cumulative[COARSE_BUCKETS - 1], histogram.count());
    }

    #[test]
    fn a_sum_of_histograms_counts_all() {
        let mut sum = Histogram::from_iter([1_000, 3_000]);
        sum.add(&Histogram::from_iter([9_000]));
        assert_eq!(sum, Histogram::from_iter([1_000, 3_000, 9_000]));
        assert_eq!((sum.sum_ns(), sum.max_ns()), (13_000, 9_000));
    }
}
