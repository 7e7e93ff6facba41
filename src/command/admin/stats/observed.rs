//! Groups about what the server observes of its clients' requests: `stats
//! latency` and `stats slowlog`.

use crate::command::admin::stat_sink::{StatSink, stat};
use crate::command::executor::Executor;
use crate::stats::LatencySummary;

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
                entry("key", &slow.key);
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
