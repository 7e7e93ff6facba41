//! Latencies of the last minute. The workers do not know of it: a reader takes
//! a snapshot once a second, and the history keeps the differences.

use std::collections::VecDeque;

use crate::stats::latency::buckets::{BUCKETS, COARSE_BUCKETS, coarse_of};
use crate::stats::latency::histogram::LatencySummary;
use crate::stats::latency::recorder::{CommandKind, KINDS, LatencySnapshot};

/// Seconds that are kept.
const SECONDS: usize = 60;

/// Latencies by second, for the last minute.
#[derive(Debug, Default)]
pub struct LatencyHistory {
    last: LatencySnapshot,
    /// The oldest second first.
    seconds: VecDeque<Second>,
}

/// Latencies of one second. Only buckets in use are kept: usually a few hundred
/// of 3696.
#[derive(Debug)]
struct Second {
    counts: Vec<Count>,
    sums_ns: [u64; KINDS],
}

#[derive(Clone, Copy, Debug)]
struct Count {
    kind: CommandKind,
    bucket: u16,
    count: u32,
}

const _: () = assert!(BUCKETS <= u16::MAX as usize);

/// Latencies of one kind of command, or of all.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyRow {
    /// Name of the kind, or `all`.
    pub name: &'static str,
    /// Since the start.
    pub since_start: LatencySummary,
    /// During the last minute.
    pub last_minute: LatencySummary,
}

impl LatencyHistory {
    /// Creates an empty history. `base` is the snapshot from which the first
    /// second counts.
    pub fn new(base: LatencySnapshot) -> Self {
        Self {
            last: base,
            seconds: VecDeque::with_capacity(SECONDS),
        }
    }

    /// Adds a second, which ends with `snapshot`. Call this once a second.
    pub fn tick(&mut self, snapshot: LatencySnapshot) {
        if self.seconds.len() == SECONDS {
            self.seconds.pop_front();
        }
        let mut second = Second {
            counts: Vec::new(),
            sums_ns: [0; KINDS],
        };
        for kind in CommandKind::ALL {
            let (now, before) = (snapshot.of(kind), self.last.of(kind));
            now.each_since(before, |bucket, count| {
                second.counts.push(Count {
                    kind,
                    bucket: bucket as u16,
                    count: u32::try_from(count).unwrap_or(u32::MAX),
                });
            });
            second.sums_ns[kind.index()] = now.sum_ns().saturating_sub(before.sum_ns());
        }
        second.counts.shrink_to_fit();
        self.seconds.push_back(second);
        self.last = snapshot;
    }

    /// Returns the sums of the last 60 seconds, or of fewer after the start.
    /// Maxima are estimated from the buckets.
    pub fn last_minute(&self) -> LatencySnapshot {
        let mut sum = LatencySnapshot::default();
        for second in &self.seconds {
            for count in &second.counts {
                let histogram = sum.of_mut(count.kind);
                histogram.add_to_bucket(count.bucket.into(), count.count.into());
            }
            for kind in CommandKind::ALL {
                sum.of_mut(kind).add_sum(second.sums_ns[kind.index()]);
            }
        }
        for kind in CommandKind::ALL {
            let limit = self.last.of(kind).max_ns();
            sum.of_mut(kind).estimate_max(limit);
        }
        sum
    }

    /// Returns the latencies by second, the oldest first, in the buckets of
    /// [`Histogram::coarse`](crate::stats::Histogram::coarse): of one kind of
    /// command, or of all with `None`.
    pub fn heat_map(&self, kind: Option<CommandKind>) -> Vec<[u64; COARSE_BUCKETS]> {
        let column = |second: &Second| {
            let mut column = [0; COARSE_BUCKETS];
            for count in &second.counts {
                if kind.is_none_or(|kind| kind == count.kind) {
                    column[coarse_of(count.bucket.into())] += u64::from(count.count);
                }
            }
            column
        };
        self.seconds.iter().map(column).collect()
    }

    /// Returns a row for each kind of command and one for all. The rows end with
    /// the last tick.
    pub fn report(&self) -> Vec<LatencyRow> {
        let minute = self.last_minute();
        let kinds = CommandKind::ALL.into_iter().map(|kind| LatencyRow {
            name: kind.name(),
            since_start: self.last.of(kind).summary(),
            last_minute: minute.of(kind).summary(),
        });
        let all = LatencyRow {
            name: "all",
            since_start: self.last.total().summary(),
            last_minute: minute.total().summary(),
        };
        kinds.chain([all]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{LatencyHistory, LatencyRow, SECONDS};
    use crate::stats::latency::recorder::{CommandKind, Latencies, LatencySnapshot};

    fn snapshot(worker: &Latencies) -> LatencySnapshot {
        let mut snapshot = LatencySnapshot::default();
        snapshot.add(worker);
        snapshot
    }

    fn row(history: &LatencyHistory, name: &str) -> LatencyRow {
        let rows = history.report();
        rows.into_iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn the_last_minute_forgets_older_seconds() {
        let worker = Latencies::default();
        let mut history = LatencyHistory::default();
        worker.record_n(CommandKind::Get, 80_000, 5);
        history.tick(snapshot(&worker));
        for _ in 1..SECONDS {
            worker.record_n(CommandKind::Get, 2_000, 10);
            history.tick(snapshot(&worker));
        }
        let get = row(&history, "get");
        assert_eq!(get.last_minute, get.since_start);
        assert_eq!((get.last_minute.count, get.last_minute.max_us), (595, 80.0));

        history.tick(snapshot(&worker));
        let get = row(&history, "get");
        assert_eq!((get.since_start.count, get.since_start.max_us), (595, 80.0));
        assert_eq!((get.last_minute.count, get.last_minute.mean_us), (590, 2.0));
        let max = get.last_minute.max_us;
        assert!((2.0..2.13).contains(&max), "{max}");

        for _ in 1..SECONDS {
            history.tick(snapshot(&worker));
        }
        assert_eq!(row(&history, "all").last_minute.count, 0);
        assert_eq!(row(&history, "all").since_start.count, 595);
    }

    #[test]
    fn a_history_starts_at_its_base() {
        let worker = Latencies::default();
        worker.record_n(CommandKind::Meta, 1_000, 7);
        let mut history = LatencyHistory::new(snapshot(&worker));
        worker.record_n(CommandKind::Meta, 3_000, 2);
        history.tick(snapshot(&worker));
        let meta = row(&history, "meta");
        assert_eq!((meta.since_start.count, meta.last_minute.count), (9, 2));
        assert_eq!(meta.last_minute.mean_us, 3.0);
    }

    #[test]
    fn a_latency_beyond_the_last_bucket_is_the_exact_maximum() {
        let worker = Latencies::default();
        worker.record_n(CommandKind::Other, 90_000_000_000, 1);
        let mut history = LatencyHistory::default();
        history.tick(snapshot(&worker));
        assert_eq!(row(&history, "other").last_minute.max_us, 90_000_000.0);
    }

    #[test]
    fn a_heat_map_has_a_column_for_each_second() {
        let worker = Latencies::default();
        let mut history = LatencyHistory::default();
        worker.record_n(CommandKind::Get, 1_500, 3);
        worker.record_n(CommandKind::Store, 1_500, 1);
        history.tick(snapshot(&worker));
        worker.record_n(CommandKind::Store, 900, 2);
        history.tick(snapshot(&worker));
        let columns = |kind| -> Vec<_> {
            let map = history.heat_map(kind);
            map.iter().map(|column| (column[0], column[1])).collect()
        };
        assert_eq!(columns(None), [(0, 4), (2, 0)]);
        assert_eq!(columns(Some(CommandKind::Get)), [(0, 3), (0, 0)]);
        assert_eq!(columns(Some(CommandKind::Store)), [(0, 1), (2, 0)]);
    }
}
