//! Counts of replies and latencies, collected while a load runs.

use std::sync::Arc;

use hdrhistogram::Histogram;

use super::latency::latency_histogram;
use super::replies::{Outcome, ReplyHandler};
use super::ring::Encoder;
use super::wire::Expected;

/// Counts of replies.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Keys looked up, stored or refused.
    pub operations: u64,
    /// Keys found.
    pub hits: u64,
    /// Keys not found.
    pub misses: u64,
    /// Sets stored.
    pub stored: u64,
    /// Requests answered by an error or a refusal such as `NOT_STORED`.
    pub refused: u64,
    /// Hits with a value that does not belong to the key.
    pub wrong_values: u64,
    /// Connections that were closed or received malformed replies.
    pub lost_connections: u64,
    /// Description of the first error, refusal or wrong value.
    pub first_error: Option<String>,
}

impl Counts {
    /// Adds the counts of another worker.
    pub fn add(&mut self, other: Counts) {
        self.operations += other.operations;
        self.hits += other.hits;
        self.misses += other.misses;
        self.stored += other.stored;
        self.refused += other.refused;
        self.wrong_values += other.wrong_values;
        self.lost_connections += other.lost_connections;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    pub(super) fn note_error(&mut self, text: impl FnOnce() -> String) {
        self.first_error.get_or_insert_with(text);
    }
}

/// Collects the measurements of a worker.
#[derive(Debug)]
pub struct Collector {
    /// Counts of replies.
    pub counts: Counts,
    /// Latency of batches in nanoseconds. With a rate, it begins when a batch was due.
    pub latency: Histogram<u64>,
    encoder: Arc<Encoder>,
}

impl Collector {
    pub(super) fn new(encoder: Arc<Encoder>) -> Self {
        Collector {
            counts: Counts::default(),
            latency: latency_histogram(),
            encoder,
        }
    }

    /// Resets the measurements at the start of the measured phase. Lost connections stay counted.
    pub(super) fn reset(&mut self) {
        self.counts = Counts {
            lost_connections: self.counts.lost_connections,
            first_error: self.counts.first_error.take(),
            ..Counts::default()
        };
        self.latency.reset();
    }
}

impl ReplyHandler for Collector {
    fn on_reply(&mut self, _index: usize, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Lookup { hits, misses } => {
                self.counts.operations += u64::from(hits + misses);
                self.counts.hits += u64::from(hits);
                self.counts.misses += u64::from(misses);
            }
            Outcome::Stored => {
                self.counts.operations += 1;
                self.counts.stored += 1;
            }
            Outcome::Refused(line) => {
                self.counts.operations += 1;
                self.counts.refused += 1;
                self.counts.note_error(|| line.escape_ascii().to_string());
            }
        }
    }

    fn on_value(&mut self, expected: &Expected, key: Option<&[u8]>, value: &[u8]) {
        if !self.encoder.value_is_right(expected.key, key, value) {
            self.counts.wrong_values += 1;
            self.counts.note_error(|| {
                let key = key.map_or(String::new(), |key| key.escape_ascii().to_string());
                format!("wrong value for key {} {key}", expected.key)
            });
        }
    }
}
