//! Latencies that a worker records, by kind of command, and their sums over all
//! workers.

use std::array;

use crate::stats::counters::Counter;
use crate::stats::latency::buckets::{BUCKETS, bucket_of};
use crate::stats::latency::histogram::Histogram;

/// Kind of a command, for latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommandKind {
    /// Retrievals without touch: `get`, `gets`.
    Get,
    /// `touch`, `gat`, `gats`.
    Touch,
    /// Storage commands: `set`, `add`, `replace`, `append`, `prepend`, `cas`.
    Store,
    /// `delete`.
    Delete,
    /// `incr`, `decr`.
    Arithmetic,
    /// Meta commands: `mg`, `ms`, `md`, `ma`, `mn`, `me`.
    Meta,
    /// All others.
    Other,
}

impl CommandKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Get,
        Self::Touch,
        Self::Store,
        Self::Delete,
        Self::Arithmetic,
        Self::Meta,
        Self::Other,
    ];

    /// Returns the name for statistics and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Touch => "touch",
            Self::Store => "store",
            Self::Delete => "delete",
            Self::Arithmetic => "arithmetic",
            Self::Meta => "meta",
            Self::Other => "other",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// Number of kinds.
pub(super) const KINDS: usize = CommandKind::ALL.len();

/// Latencies that one worker has recorded. Only this worker writes; any thread
/// may read.
#[derive(Debug)]
pub struct Latencies {
    kinds: Box<[Recorder]>,
}

#[derive(Debug)]
struct Recorder {
    buckets: [Counter; BUCKETS],
    sum_ns: Counter,
    max_ns: Counter,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            buckets: array::from_fn(|_| Counter::default()),
            sum_ns: Counter::default(),
            max_ns: Counter::default(),
        }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            kinds: (0..KINDS).map(|_| Recorder::default()).collect(),
        }
    }
}

impl Latencies {
    /// Records `n` commands that took `nanos` nanoseconds each. Only the owning
    /// thread may call this.
    #[inline]
    pub fn record_n(&self, kind: CommandKind, nanos: u64, n: u64) {
        if n == 0 {
            return;
        }
        let recorder = &self.kinds[kind.index()];
        recorder.buckets[bucket_of(nanos)].add(n);
        recorder.sum_ns.add(nanos.saturating_mul(n));
        if nanos > recorder.max_ns.read() {
            recorder.max_ns.set(nanos);
        }
    }
}

/// Latencies by kind of command, summed over workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencySnapshot {
    kinds: [Histogram; KINDS],
}

impl LatencySnapshot {
    /// Adds the latencies of one worker. A command that is recorded meanwhile
    /// may be missing in the counts or in the sum.
    pub fn add(&mut self, worker: &Latencies) {
        for (histogram, recorder) in self.kinds.iter_mut().zip(&worker.kinds) {
            for (bucket, counter) in recorder.buckets.iter().enumerate() {
                histogram.add_to_bucket(bucket, counter.read());
            }
            histogram.add_sum(recorder.sum_ns.read());
            histogram.raise_max(recorder.max_ns.read());
        }
    }

    /// Returns the latencies of one kind of command.
    pub fn of(&self, kind: CommandKind) -> &Histogram {
        &self.kinds[kind.index()]
    }

    pub(super) fn of_mut(&mut self, kind: CommandKind) -> &mut Histogram {
        &mut self.kinds[kind.index()]
    }

    /// Returns the latencies of all commands.
    pub fn total(&self) -> Histogram {
        let mut total = Histogram::default();
        for histogram in &self.kinds {
            total.add(histogram);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::{CommandKind, Latencies, LatencySnapshot};
    use crate::stats::latency::histogram::Histogram;

    #[test]
    fn kinds_have_distinct_names_and_ascending_indexes() {
        let names = CommandKind::ALL.map(CommandKind::name);
        let distinct = names.iter().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(distinct.len(), names.len());
        let indexes = CommandKind::ALL.map(CommandKind::index);
        assert_eq!(indexes, std::array::from_fn(|index| index));
    }

    #[test]
    fn workers_are_summed_by_kind() {
        let (a, b) = (Latencies::default(), Latencies::default());
        a.record_n(CommandKind::Get, 1_000, 2);
        b.record_n(CommandKind::Get, 9_000, 1);
        b.record_n(CommandKind::Store, 5_000, 1);
        b.record_n(CommandKind::Store, 7_000, 0);
        let mut sum = LatencySnapshot::default();
        sum.add(&a);
        sum.add(&b);
        let want = |latencies: &[u64]| Histogram::from_iter(latencies.iter().copied());
        assert_eq!(*sum.of(CommandKind::Get), want(&[1_000, 1_000, 9_000]));
        assert_eq!(*sum.of(CommandKind::Store), want(&[5_000]));
        assert_eq!(*sum.of(CommandKind::Meta), want(&[]));
        assert_eq!(sum.total(), want(&[1_000, 1_000, 9_000, 5_000]));
    }

    #[test]
    fn readers_see_counts_grow_while_a_worker_records() {
        const RECORDS: u64 = 200_000;
        let worker = Latencies::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..RECORDS {
                    worker.record_n(CommandKind::Get, n, 1);
                }
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut last = 0;
                    while last < RECORDS {
                        let mut snapshot = LatencySnapshot::default();
                        snapshot.add(&worker);
                        let summary = snapshot.of(CommandKind::Get).summary();
                        assert!(summary.count >= last, "{} < {last}", summary.count);
                        assert!(summary.p50_us <= summary.p99_us);
                        assert!(summary.max_us < RECORDS as f64 / 1000.0);
                        last = summary.count;
                    }
                });
            }
        });
        let mut snapshot = LatencySnapshot::default();
        snapshot.add(&worker);
        let all = Histogram::from_iter(0..RECORDS);
        assert_eq!(*snapshot.of(CommandKind::Get), all);
    }
}
