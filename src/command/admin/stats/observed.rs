//! Statistics recorded from clients' requests: `stats latency`, `stats hotkeys`,
//! `stats prefixes`, `stats mrc` and `stats slowlog`; and `stats restart` about
//! the start of the server.

use crate::command::admin::stat_sink::{StatSink, stat};
use crate::command::executor::Executor;
use crate::events::escape_key;
use crate::stats::{LatencySummary, Restored, merge_hot_keys};

/// Keys that `stats hotkeys` lists without a number, and prefixes that `stats
/// prefixes` lists.
const HOT_DEFAULT: usize = 20;
/// Entries that `stats slowlog` lists without a number.
const SLOW_DEFAULT: usize = 10;

impl Executor<'_> {
    /// Writes the latencies by kind of command, since the start and, in names
    /// that begin with `minute_`, of the last minute. In microseconds.
    pub(in crate::command) fn latency(&self, out: &mut StatSink<'_>) {
        if self.shared.latencies.is_empty() {
            return out.end();
        }
        for row in self.shared.latency_history().report() {
            summary(out, row.name, "", row.since_start);
            summary(out, row.name, "minute_", row.last_minute);
        }
        out.end();
    }

    /// Writes what was kept of the last server's items. Writes nothing without a
    /// memory file (`-e`, `--save-path`).
    pub(in crate::command) fn restart(&self, out: &mut StatSink<'_>) {
        if let Some(report) = self.shared.restart_report() {
            let Restored {
                kept,
                dropped,
                away,
            } = report.restored;
            let was_empty = !report.empty_reason.is_empty();
            stat(out, "started_empty", u8::from(was_empty));
            if was_empty {
                stat(out, "reason", &report.empty_reason);
            }
            stat(
                out,
                "load_seconds",
                format_args!("{:.3}", report.took.as_secs_f64()),
            );
            stat(
                out,
                "away_seconds",
                format_args!("{:.3}", away.as_secs_f64()),
            );
            for (name, items) in [
                ("kept", kept),
                ("dropped_expired", dropped.expired),
                ("dropped_flushed", dropped.flushed),
                ("dropped_damaged", dropped.damaged),
                ("dropped_over_limit", dropped.over_limit),
            ] {
                stat(out, name, items);
            }
        }
        out.end();
    }

    /// Writes the `count` most requested keys of the last 10 to 20 seconds.
    /// Without permission for dumps, writes nothing.
    pub(in crate::command) fn hot_keys(&self, count: Option<usize>, out: &mut StatSink<'_>) {
        let shared = self.shared;
        if !shared.config.dump {
            return out.refuse("CLIENT_ERROR stats hotkeys not allowed");
        }
        let most = count.unwrap_or(HOT_DEFAULT);
        let report = merge_hot_keys(&shared.hot_keys, shared.clock.now(), most);
        stat(out, "seconds", format_args!("{:.1}", report.seconds));
        let rate = report.requests_per_second;
        stat(out, "requests_per_second", format_args!("{rate:.1}"));
        for (number, hot) in (1..).zip(&report.keys) {
            let name = |name: &str| format!("{number}:{name}");
            stat(out, &name("key"), escape_key(&hot.key));
            stat(out, &name("share"), format_args!("{:.5}", hot.share));
            for (of, rate) in [
                ("requests_per_second", hot.requests_per_second),
                ("reads_per_second", hot.reads_per_second),
                ("writes_per_second", hot.writes_per_second),
                ("bytes_per_second", hot.bytes_per_second),
                ("error_per_second", hot.error_per_second),
            ] {
                stat(out, &name(of), format_args!("{rate:.1}"));
            }
        }
        out.end();
    }

    /// Writes the `count` busiest prefixes. Their requests are estimated; items
    /// and bytes are as of the last sweep. Then the prefixes with a limit, whose
    /// items and bytes are exact.
    pub(in crate::command) fn prefixes(&self, count: Option<usize>, out: &mut StatSink<'_>) {
        if !self.shared.config.dump {
            return out.refuse("CLIENT_ERROR stats prefixes not allowed");
        }
        let most = count.unwrap_or(HOT_DEFAULT);
        let prefixes = self.shared.busy_prefixes.busiest(most);
        for (number, (prefix, figures)) in (1..).zip(&prefixes) {
            stat(out, &format!("{number}:prefix"), escape_key(prefix));
            for (name, value) in [
                ("requests", figures.requests),
                ("hits", figures.hits),
                ("sets", figures.sets),
                ("items", figures.items),
                ("bytes", figures.bytes),
            ] {
                stat(out, &format!("{number}:{name}"), value);
            }
        }
        for (number, limited) in (1..).zip(self.store.prefix_uses()) {
            let name = |name: &str| format!("limit:{number}:{name}");
            stat(out, &name("prefix"), escape_key(&limited.prefix));
            stat(out, &name("limit"), limited.share);
            for (of, value) in [
                ("limit_bytes", limited.limit_bytes as u64),
                ("items", limited.items),
                ("bytes", limited.bytes),
                ("evictions", limited.evictions),
                ("counting", u64::from(!limited.is_counted)),
            ] {
                stat(out, &name(of), value);
            }
        }
        out.end();
    }

    /// Writes the hit ratios that other sizes of memory would give, by their
    /// factor of the memory limit.
    pub(in crate::command) fn curve(&self, out: &mut StatSink<'_>) {
        let Some(curve) = self.store.sampling().and_then(|sampling| sampling.curve()) else {
            return out.end();
        };
        stat(out, "gets", curve.gets);
        stat(out, "samples", curve.samples);
        stat(out, "samples_dropped", curve.dropped);
        stat(out, "sampled_keys", curve.keys);
        stat(out, "sampling_rate", format_args!("{:.6}", curve.rate));
        stat(out, "bytes", curve.bytes);
        for point in &curve.predictions {
            let name = |name: &str| format!("{}:{name}", point.factor);
            stat(out, &name("memory_bytes"), point.limit);
            for (of, ratio) in [
                ("hit_ratio", point.hit_ratio),
                ("byte_hit_ratio", point.byte_hit_ratio),
            ] {
                stat(out, &name(of), format_args!("{ratio:.4}"));
            }
        }
        out.end();
    }

    /// Writes the last `count` slow commands, the newest first.
    pub(in crate::command) fn slow_log(&self, count: Option<usize>, out: &mut StatSink<'_>) {
        let log = &self.shared.slow_log;
        let shows_keys = self.shared.config.dump;
        stat(out, "threshold_us", log.threshold() / 1000);
        let snapshot = log.snapshot();
        stat(out, "total", snapshot.total);
        let shown = snapshot.commands.iter().take(count.unwrap_or(SLOW_DEFAULT));
        for (number, slow) in (1..).zip(shown) {
            let mut entry = |name: &str, value: &dyn std::fmt::Display| {
                stat(out, &format!("{number}:{name}"), value);
            };
            entry("time_ms", &slow.unix_ms);
            entry("total_us", &slow.total_us);
            entry("waiting_us", &slow.waiting_us);
            entry("executing_us", &slow.executing_us);
            entry("sending_us", &slow.sending_us);
            entry("command", &slow.command);
            if shows_keys && !slow.key.is_empty() {
                entry("key", &escape_key(&slow.key));
            }
            entry("bytes", &slow.bytes);
            entry("peer", &slow.peer);
        }
        out.end();
    }
}

fn summary(out: &mut StatSink<'_>, kind: &str, span: &str, summary: LatencySummary) {
    stat(out, &format!("{kind}:{span}count"), summary.count);
    for (name, value) in [
        ("mean", summary.mean_us),
        ("p50", summary.p50_us),
        ("p90", summary.p90_us),
        ("p99", summary.p99_us),
        ("p999", summary.p999_us),
        ("max", summary.max_us),
    ] {
        stat(
            out,
            &format!("{kind}:{span}{name}_us"),
            format_args!("{value:.1}"),
        );
    }
}
