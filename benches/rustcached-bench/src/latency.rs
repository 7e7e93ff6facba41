//! Latency distributions: their histogram and their percentiles.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Upper bound of a histogram in nanoseconds: a minute.
const MAX_NS: u64 = 60_000_000_000;

/// Returns an empty histogram of latencies in nanoseconds, with a resolution of three digits.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_NS, 3).expect("the bounds are constants that fit")
}

/// Percentiles of a latency distribution in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Maximum.
    pub max: f64,
}

impl Latency {
    /// Computes the percentiles of a histogram in nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Latency {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p999: us(0.999),
            max: histogram.max() as f64 / 1000.0,
        }
    }

    /// Returns all percentiles in ascending order, as columns of a table.
    pub fn figures(&self) -> [f64; 5] {
        [self.p50, self.p90, self.p99, self.p999, self.max]
    }
}

#[cfg(test)]
mod tests {
    use super::{Latency, latency_histogram};

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut histogram = latency_histogram();
        for us in 1..=1000u64 {
            histogram.record(us * 1000).unwrap();
        }
        let latency = Latency::of(&histogram);
        assert!((latency.p50 - 500.0).abs() < 1.0, "{latency:?}");
        assert!(
            (latency.p999 - 999.0).abs() < 2.0 && latency.max >= 1000.0,
            "{latency:?}"
        );
    }
}
