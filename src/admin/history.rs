//! The last minutes of the counters, sampled once a second, for the charts of
//! the page.

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::{Value, json};

use crate::command::Reporter;
use crate::limits::HISTORY_SECONDS;
use crate::stats::{COARSE_BOUNDS_US, Histogram, LatencySummary, Snapshot, WorkerFigures};
use crate::sync::Ordering;
use crate::time::unix_micros;

/// Values of one interval. Counts are per second.
#[derive(Clone, Debug, Default)]
struct Sample {
    /// End of the interval, in milliseconds since 1970.
    unix_ms: u64,
    get_hits: u64,
    get_misses: u64,
    set: u64,
    delete: u64,
    arithmetic: u64,
    touch: u64,
    other: u64,
    item_bytes: u64,
    slack_bytes: u64,
    index_bytes: u64,
    client_bytes: u64,
    limit_bytes: u64,
    evictions: u64,
    expired: u64,
    /// Mean idle time of the items evicted, in seconds; `None` if there were
    /// none.
    evicted_age: Option<f64>,
    open: u64,
    accepted: u64,
    rejected: u64,
    read: u64,
    written: u64,
    /// Latencies of the interval; `None` if there were none.
    latency: Option<LatencySummary>,
    /// Commands by latency, in coarse buckets.
    heat: Box<[u32]>,
}

/// Counter values at the end of an interval.
#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    sum: Snapshot,
    accepted: u64,
    rejected: u64,
    workers: Vec<WorkerFigures>,
    latency: Histogram,
}

/// Samples of the last [`HISTORY_SECONDS`], and each worker's busy share in the
/// last interval.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    last: Option<Reading>,
    /// Share of the last interval that each worker spent on a processor.
    pub(super) busy: Vec<f64>,
}

impl History {
    /// Takes a sample. Call it about once a second.
    pub(super) fn sample(&mut self, at: Instant, reporter: &Reporter) {
        let shared = &reporter.shared;
        let connections = &shared.connections;
        let reading = Reading {
            at,
            sum: shared.stats.snapshot(),
            accepted: connections.total.load(Ordering::Relaxed),
            rejected: connections.rejected.load(Ordering::Relaxed),
            workers: shared.workers.figures(),
            latency: shared.latency_snapshot().total(),
        };
        if let Some(last) = &self.last {
            let seconds = at.duration_since(last.at).as_secs_f64().max(0.001);
            self.busy = busy_shares(last, &reading, seconds);
            if self.samples.len() == HISTORY_SECONDS {
                self.samples.pop_front();
            }
            let sample = interval(last, &reading, seconds, reporter);
            self.samples.push_back(sample);
        }
        self.last = Some(reading);
    }

    /// Returns the samples that end after `since`, in milliseconds since 1970,
    /// as columns.
    pub(super) fn columns(&self, since: u64) -> Value {
        let newer = self
            .samples
            .partition_point(|sample| sample.unix_ms <= since);
        let samples = || self.samples.range(newer..);
        let column = |of: fn(&Sample) -> u64| -> Value { samples().map(of).collect() };
        let ages: Value = samples().map(|sample| sample.evicted_age).collect();
        let latency = |of: fn(&LatencySummary) -> f64| -> Value {
            let values = samples().map(|sample| sample.latency.as_ref().map(of));
            values.collect()
        };
        json!({
            "interval_ms": 1000,
            "t": column(|it| it.unix_ms),
            "operations": {
                "get_hits": column(|it| it.get_hits),
                "get_misses": column(|it| it.get_misses),
                "set": column(|it| it.set),
                "delete": column(|it| it.delete),
                "arithmetic": column(|it| it.arithmetic),
                "touch": column(|it| it.touch),
                "other": column(|it| it.other),
            },
            "latency_us": {
                "p50": latency(|it| it.p50_us),
                "p99": latency(|it| it.p99_us),
                "p999": latency(|it| it.p999_us),
            },
            "heat": {
                "bounds_us": COARSE_BOUNDS_US,
                "counts": samples().map(|sample| json!(sample.heat)).collect::<Value>(),
            },
            "memory_bytes": {
                "items": column(|it| it.item_bytes),
                "slack": column(|it| it.slack_bytes),
                "index": column(|it| it.index_bytes),
                "clients": column(|it| it.client_bytes),
                "limit": column(|it| it.limit_bytes),
            },
            "evictions": column(|it| it.evictions),
            "expired": column(|it| it.expired),
            "evicted_age_seconds": ages,
            "connections": {
                "open": column(|it| it.open),
                "accepted": column(|it| it.accepted),
                "rejected": column(|it| it.rejected),
            },
            "network_bytes": {
                "read": column(|it| it.read),
                "written": column(|it| it.written),
            },
        })
    }
}

/// Returns the bytes of memory by use: items, the rest of their pages, the
/// index, and buffers of stalled clients.
pub(super) fn memory_bytes(reporter: &Reporter, item_bytes: u64) -> [(&'static str, u64); 4] {
    let (store, stalled) = (&reporter.store, &reporter.stalled);
    let pages = store.page_bytes() as u64;
    [
        ("items", item_bytes),
        ("slack", pages.saturating_sub(item_bytes)),
        ("index", store.index_bytes() as u64),
        (
            "clients",
            (stalled.output_bytes() + stalled.input_bytes()) as u64,
        ),
    ]
}

fn interval(last: &Reading, now: &Reading, seconds: f64, reporter: &Reporter) -> Sample {
    let count = now.sum.since(&last.sum);
    let rate = |count: u64| (count as f64 / seconds).round() as u64;
    // `stats reset` sets these back.
    let since = |now: u64, last: u64| rate(now.checked_sub(last).unwrap_or(now));
    let memory = memory_bytes(reporter, now.sum.item_bytes).map(|(_, bytes)| bytes);
    let [item_bytes, slack_bytes, index_bytes, client_bytes] = memory;
    let evicted = count.evictions > 0;
    let latency = now.latency.since(&last.latency);
    let heat = latency.coarse();
    let heat = heat
        .iter()
        .map(|count| u32::try_from(*count).unwrap_or(u32::MAX));
    Sample {
        unix_ms: unix_micros() / 1000,
        get_hits: rate(count.cmd_get.saturating_sub(count.get_misses)),
        get_misses: rate(count.get_misses),
        set: rate(count.cmd_set),
        delete: rate(count.delete_hits + count.delete_misses),
        arithmetic: rate(count.incr_hits + count.incr_misses + count.decr_hits + count.decr_misses),
        touch: rate(count.cmd_touch),
        other: rate(count.cmd_flush + count.cmd_meta + count.auth_cmds),
        item_bytes,
        slack_bytes,
        index_bytes,
        client_bytes,
        limit_bytes: reporter.store.memory_limit() as u64,
        evictions: rate(count.evictions),
        expired: rate(count.reclaimed + count.crawler_reclaimed),
        evicted_age: evicted.then(|| count.evicted_age as f64 / count.evictions as f64),
        open: reporter.shared.connections.open.load(Ordering::Relaxed),
        accepted: since(now.accepted, last.accepted),
        rejected: since(now.rejected, last.rejected),
        read: rate(count.bytes_read),
        written: rate(count.bytes_written),
        latency: Some(latency.summary()).filter(|summary| summary.count > 0),
        heat: heat.collect(),
    }
}

fn busy_shares(last: &Reading, now: &Reading, seconds: f64) -> Vec<f64> {
    let pairs = now.workers.iter().zip(&last.workers);
    pairs
        .map(|(now, last)| now.cpu.saturating_sub(last.cpu).as_secs_f64() / seconds)
        .map(|share| share.min(1.0))
        .collect()
}
