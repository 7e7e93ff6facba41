//! The JSON that the page reads, by path.

use serde_json::{Value, json};

use crate::admin::history::History;
use crate::command::Reporter;
use crate::limits::ClassId;
use crate::stats::{LatencySummary, merge_hot_keys};
use crate::time::unix_micros;

/// Returns the response to `/api/server.json`.
pub(super) fn server(reporter: &Reporter, history: &History, draining: bool) -> Value {
    let shared = &reporter.shared;
    let config = &shared.config;
    let figures = shared.workers.figures();
    let workers = figures.iter().enumerate().map(|(index, worker)| {
        json!({
            "worker": index,
            "busy": history.busy.get(index).copied().unwrap_or(0.0),
            "connections": worker.connections,
        })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": shared.clock.uptime(shared.clock.now()),
        "time_unix_ms": unix_micros() / 1000,
        "threads": config.threads,
        "memory_limit_bytes": reporter.store.memory_limit(),
        "max_connections": config.max_connections,
        "draining": draining,
        "listeners": listeners(reporter),
        "workers": workers.collect::<Value>(),
    })
}

/// Lists the listening sockets.
fn listeners(reporter: &Reporter) -> Value {
    let listening = reporter.shared.listening.get();
    let rows = listening.into_iter().flatten().map(|listener| {
        json!({
            "address": listener.address,
            "protocol": listener.protocol,
            "tls": listener.tls,
        })
    });
    rows.collect()
}

/// Returns the response to `/api/classes.json`.
pub(super) fn classes(reporter: &Reporter) -> Value {
    let (store, shared) = (&reporter.store, &reporter.shared);
    let now = shared.clock.now().second();
    let counts = ClassId::all().zip(shared.classes_since_reset(shared.stats.class_snapshots()));
    let rows = counts.filter_map(|(class, counts)| {
        let memory = store.class_memory(class);
        let is_used = memory.pages > 0 || counts.items > 0;
        let chunks = memory.pages * memory.per_page;
        let oldest = store.oldest_use(class);
        is_used.then(|| {
            json!({
                "class": class.number(),
                "chunk_bytes": memory.chunk_bytes,
                "pages": memory.pages,
                "items": counts.items,
                "used_chunks": chunks.saturating_sub(memory.free_chunks),
                "free_chunks": memory.free_chunks,
                "hits": counts.get_hits + counts.touch_hits,
                "evictions": counts.evicted,
                "oldest_seconds": oldest.map(|second| now.saturating_sub(second)),
            })
        })
    });
    json!({ "classes": rows.collect::<Value>() })
}

/// Returns the response to `/api/settings.json`.
pub(super) fn settings(reporter: &mut Reporter) -> Value {
    let settings = reporter.stats("settings");
    let rows = settings
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }));
    json!({ "settings": rows.collect::<Value>() })
}

/// Returns the response to `/api/latency.json`.
pub(super) fn latency(reporter: &Reporter) -> Value {
    let shared = &reporter.shared;
    if shared.latencies.is_empty() {
        return json!({ "enabled": false });
    }
    let report = shared.latency_history().report();
    let rows = report.iter().map(|row| {
        json!({
            "command": row.name,
            "since_start": summary(&row.since_start),
            "last_minute": summary(&row.last_minute),
        })
    });
    json!({ "enabled": true, "commands": rows.collect::<Value>() })
}

fn summary(summary: &LatencySummary) -> Value {
    json!({
        "count": summary.count,
        "mean_us": summary.mean_us,
        "p50_us": summary.p50_us,
        "p90_us": summary.p90_us,
        "p99_us": summary.p99_us,
        "p999_us": summary.p999_us,
        "max_us": summary.max_us,
    })
}

/// Returns the response to `/api/slowlog.json`: at most `count` commands, the
/// newest first.
pub(super) fn slow_log(reporter: &Reporter, count: usize) -> Value {
    let shared = &reporter.shared;
    let threshold = shared.slow_log.threshold();
    if threshold == 0 {
        return json!({ "enabled": false });
    }
    let snapshot = shared.slow_log.snapshot();
    let rows = snapshot.commands.iter().take(count).map(|slow| {
        json!({
            "time_unix_ms": slow.unix_ms,
            "total_us": slow.total_us,
            "waiting_us": slow.waiting_us,
            "executing_us": slow.executing_us,
            "sending_us": slow.sending_us,
            "command": slow.command,
            "key": shared.config.dump.then(|| printable(&slow.key)),
            "bytes": slow.bytes,
            "peer": slow.peer,
        })
    });
    json!({
        "enabled": true,
        "threshold_ms": threshold as f64 / 1e6,
        "commands": rows.collect::<Value>(),
    })
}

/// Returns the response to `/api/hotkeys.json`: at most `count` keys.
pub(super) fn hot_keys(reporter: &Reporter, count: usize) -> Value {
    let shared = &reporter.shared;
    if !shared.config.observe.hot_keys {
        return json!({ "enabled": false });
    }
    let report = merge_hot_keys(&shared.hot_keys, shared.clock.now(), count);
    let total = report.requests_per_second.max(f64::MIN_POSITIVE);
    let rows = report.keys.iter().map(|hot| {
        json!({
            "key": shared.config.dump.then(|| printable(&hot.key)),
            "requests_per_second": hot.requests_per_second,
            "share": hot.share,
            "reads": hot.reads_per_second,
            "writes": hot.writes_per_second,
            "bytes_per_second": hot.bytes_per_second,
            "error_share": hot.error_per_second / total,
        })
    });
    json!({
        "enabled": true,
        "window_seconds": report.seconds,
        "keys": rows.collect::<Value>(),
    })
}

/// Returns the response to `/api/prefixes.json`: at most `count` prefixes.
pub(super) fn prefixes(reporter: &Reporter, count: usize) -> Value {
    let shared = &reporter.shared;
    let observe = &shared.config.observe;
    if !observe.prefixes || !observe.hot_keys {
        return json!({ "enabled": false });
    }
    let prefixes = shared.busy_prefixes.busiest(count);
    let rows = prefixes.iter().map(|(prefix, figures)| {
        json!({
            "prefix": shared.config.dump.then(|| printable(prefix)),
            "requests": figures.requests,
            "hits": figures.hits,
            "sets": figures.sets,
            "items": figures.items,
            "bytes": figures.bytes,
        })
    });
    json!({ "enabled": true, "prefixes": rows.collect::<Value>() })
}

/// Returns the response to `/api/invalidation.json`.
pub(super) fn invalidation(reporter: &mut Reporter) -> Value {
    let stats = reporter.stats("invalidation");
    let rows = stats
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value.parse::<u64>().ok() }));
    json!({ "invalidation": rows.collect::<Value>() })
}

/// Returns the response to `/api/prefix_limits.json`: prefixes with a limit, and
/// what their items take.
pub(super) fn prefix_limits(reporter: &Reporter) -> Value {
    let limited = reporter.store.prefix_uses();
    let rows = limited.iter().map(|limited| {
        json!({
            "prefix": reporter.shared.config.dump.then(|| printable(&limited.prefix)),
            "limit": limited.share.to_string(),
            "limit_bytes": limited.limit_bytes,
            "items": limited.items,
            "bytes": limited.bytes,
            "evictions": limited.evictions,
            "is_counted": limited.is_counted,
        })
    });
    json!({ "limits": rows.collect::<Value>() })
}

/// Returns the response to `/api/mrc.json`.
pub(super) fn curve(reporter: &Reporter) -> Value {
    let Some(sampling) = reporter.store.sampling() else {
        return json!({ "enabled": false });
    };
    let curve = sampling.curve();
    let points = curve
        .iter()
        .flat_map(|curve| curve.predictions)
        .map(|point| {
            json!({
                "factor": point.factor,
                "memory_bytes": point.limit,
                "hit_ratio": point.hit_ratio,
                "byte_hit_ratio": point.byte_hit_ratio,
            })
        });
    json!({
        "enabled": true,
        "sampled_keys": curve.map_or(0, |curve| curve.keys),
        "sampling_rate": curve.map(|curve| curve.rate),
        "gets": curve.map_or(0, |curve| curve.gets),
        "points": points.collect::<Value>(),
    })
}

/// Returns a key as text. Bytes that are not printable ASCII, and backslashes,
/// become `\xNN`.
pub(super) fn printable(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    for &byte in key {
        match byte {
            b' '..=b'~' if byte != b'\\' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn keys_are_shown_without_ambiguity() {
        for (key, shown) in [
            (&b"user:1"[..], "user:1"),
            (b"50%25 <img> \"it's\"", "50%25 <img> \"it's\""),
            (b"\xff\0", "\\xff\\x00"),
            (b"\\xff", "\\x5cxff"),
        ] {
            assert_eq!(printable(key), shown);
        }
    }
}
