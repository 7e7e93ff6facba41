//! Responses of the admin listener: metrics, health checks, a page for operators
//! and the JSON that it reads. No sockets: the server's admin thread calls
//! [`Site::respond`].
//!
//! Every response comes from counters and snapshots. No request changes the
//! server's state.

mod api;
mod history;
pub mod http;
mod metrics;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::admin::history::{History, memory_bytes};
use crate::admin::http::{HTML, JSON, Request, Response, TEXT};
use crate::admin::metrics::{Format, Metrics, Type};
use crate::command::{Reporter, Stalled};
use crate::shared::Shared;
use crate::stats::{COARSE_BOUNDS_US, CommandKind};
use crate::store::{PrefixUse, Store};
use crate::sync::Ordering;

/// The page: one file without references to others.
const PAGE: &str = include_str!("page.html");
/// Restricts the page to its own script and style, and to this server.
const PAGE_POLICY: &str = include_str!("page_policy.txt");

/// A metric of a prefix with a limit: name, type, help and value.
type PrefixLimitMetric = (&'static str, Type, &'static str, fn(&PrefixUse) -> u64);

/// The metrics of prefixes with a limit.
const PREFIX_LIMIT_METRICS: [PrefixLimitMetric; 4] = [
    (
        "rustcached_prefix_limit_bytes",
        Type::Gauge,
        "Limit of the items of a prefix, in bytes",
        |limited| limited.limit_bytes as u64,
    ),
    (
        "rustcached_prefix_bytes",
        Type::Gauge,
        "Items of a prefix with a limit, in bytes",
        |limited| limited.bytes,
    ),
    (
        "rustcached_prefix_items",
        Type::Gauge,
        "Items of a prefix with a limit",
        |limited| limited.items,
    ),
    (
        "rustcached_prefix_evictions_total",
        Type::Counter,
        "Live items evicted because their prefix was over its limit",
        |limited| limited.evictions,
    ),
];

/// State of the admin listener's responses.
pub struct Site {
    reporter: Reporter,
    history: History,
}

impl Site {
    /// Creates the responses for a server.
    pub fn new(store: Arc<Store>, shared: Arc<Shared>, stalled: Arc<Stalled>) -> Self {
        Self {
            reporter: Reporter::new(store, shared, stalled),
            history: History::default(),
        }
    }

    /// Takes a sample of the counters. Call it about once a second.
    pub fn sample(&mut self, at: Instant) {
        self.history.sample(at, &self.reporter);
    }

    /// Returns the response to a request. `is_local` is set for unix sockets,
    /// to which any host may be addressed.
    pub fn respond(&mut self, request: &Request, is_local: bool) -> Response {
        if !is_local && !self.is_host_allowed(request.host.as_deref()) {
            let reason = "the Host header must be an IP address, localhost, or a name given \
                          with --admin-host";
            return Response::text(421, reason);
        }
        match &request.path[..] {
            "/healthz" => return Response::text(200, "ok"),
            "/readyz" if self.is_draining() => return Response::text(503, "draining"),
            "/readyz" => return Response::text(200, "ready"),
            _ => {}
        }
        if !self.is_authorized(request) {
            let mut response = Response::text(401, "a user and a password are needed");
            response.header("WWW-Authenticate", "Basic realm=\"rustcached\"");
            return response;
        }
        match &request.path[..] {
            "/" => {
                let mut response = Response::ok(HTML, PAGE);
                response.header("Content-Security-Policy", PAGE_POLICY.trim_end());
                response.header("Referrer-Policy", "no-referrer");
                response
            }
            "/metrics" => self.metrics(Format::accepted(&request.accept)),
            path => match self.json(path, request) {
                Some(value) => Response::ok(JSON, value.to_string()),
                None => Response::text(404, "not found"),
            },
        }
    }

    fn json(&mut self, path: &str, request: &Request) -> Option<serde_json::Value> {
        let draining = self.is_draining();
        let Self { reporter, history } = self;
        Some(match path {
            "/api/server.json" => api::server(reporter, history, draining),
            "/api/history.json" => history.columns(request.number("since").unwrap_or(0)),
            "/api/classes.json" => api::classes(reporter),
            "/api/settings.json" => api::settings(reporter),
            "/api/hotkeys.json" => {
                api::hot_keys(reporter, request.number("n").unwrap_or(20) as usize)
            }
            "/api/latency.json" => api::latency(reporter),
            "/api/prefixes.json" => {
                api::prefixes(reporter, request.number("n").unwrap_or(20) as usize)
            }
            "/api/invalidation.json" => api::invalidation(reporter),
            "/api/prefix_limits.json" => api::prefix_limits(reporter),
            "/api/mrc.json" => api::curve(reporter),
            "/api/slowlog.json" => {
                api::slow_log(reporter, request.number("n").unwrap_or(50) as usize)
            }
            _ => return None,
        })
    }

    fn metrics(&mut self, format: Format) -> Response {
        let mut metrics = Metrics::default();
        metrics::collect(&mut self.reporter, &mut metrics);
        self.own_metrics(&mut metrics);
        Response {
            content_type: format.content_type(),
            ..Response::ok(TEXT, metrics.encode(format))
        }
    }

    /// Adds the limits of prefixes and what their items take.
    fn prefix_limit_metrics(&self, metrics: &mut Metrics) {
        let limited = self.reporter.store.prefix_uses();
        for (name, kind, help, value) in PREFIX_LIMIT_METRICS {
            for limited in &limited {
                let prefix = api::printable(&limited.prefix);
                metrics.add((name, kind, help), &[("prefix", &prefix)], value(limited));
            }
        }
    }

    /// Adds the metrics that are no single statistics.
    fn own_metrics(&self, metrics: &mut Metrics) {
        let shared = &self.reporter.shared;
        let sum = shared.stats.snapshot();
        for (of, bytes) in memory_bytes(&self.reporter, sum.item_bytes) {
            let help = "Memory by use, in bytes";
            let family = ("rustcached_memory_bytes", Type::Gauge, help);
            metrics.add(family, &[("use", of)], bytes);
        }
        let others = sum.evicted_for_page + sum.evicted_for_prefix;
        for (reason, count) in [
            ("memory", sum.evictions.saturating_sub(others)),
            ("page", sum.evicted_for_page),
            ("prefix_limit", sum.evicted_for_prefix),
        ] {
            let help = "Live items evicted: to store others, because their page was given up, or because \
                        their prefix was over its limit";
            let family = ("rustcached_evictions_total", Type::Counter, help);
            metrics.add(family, &[("reason", reason)], count);
        }
        let help = "Idle time of evicted items, in seconds";
        let family = ("rustcached_evicted_age_seconds", Type::Summary, help);
        metrics.add_suffixed(family, "_sum", &[], sum.evicted_age);
        metrics.add_suffixed(family, "_count", &[], sum.evictions);
        self.prefix_limit_metrics(metrics);
        self.latency_metrics(metrics);
        let figures = shared.workers.figures();
        for (index, worker) in figures.iter().enumerate() {
            let help = "Processor time of a worker thread, in seconds";
            let family = ("rustcached_worker_cpu_seconds_total", Type::Counter, help);
            let number = index.to_string();
            metrics.add(family, &[("worker", &number)], worker.cpu.as_secs_f64());
        }
        for (index, worker) in figures.iter().enumerate() {
            let (busy, number) = (self.history.busy.get(index), index.to_string());
            let help = "Share of the last second that a worker thread spent on a processor";
            let family = ("rustcached_worker_busy_ratio", Type::Gauge, help);
            metrics.add(family, &[("worker", &number)], busy.unwrap_or(&0.0));
            let help = "Connections of a worker thread";
            let family = ("rustcached_worker_connections", Type::Gauge, help);
            metrics.add(family, &[("worker", &number)], worker.connections);
        }
    }

    fn latency_metrics(&self, metrics: &mut Metrics) {
        let shared = &self.reporter.shared;
        if shared.latencies.is_empty() {
            return;
        }
        let snapshot = shared.latency_snapshot();
        let help = "Time from the wake-up that read a request to the sending of its reply";
        let family = ("rustcached_request_duration_seconds", Type::Histogram, help);
        for kind in CommandKind::ALL {
            let (histogram, command) = (snapshot.of(kind), ("command", kind.name()));
            let counts = histogram.cumulative();
            let bounds = COARSE_BOUNDS_US
                .iter()
                .map(|us| (*us as f64 / 1e6).to_string());
            let bounds = bounds.chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(counts) {
                metrics.add_suffixed(family, "_bucket", &[command, ("le", &bound)], count);
            }
            let seconds = histogram.sum_ns() as f64 / 1e9;
            metrics.add_suffixed(family, "_sum", &[command], seconds);
            metrics.add_suffixed(family, "_count", &[command], counts[counts.len() - 1]);
        }
    }

    fn is_draining(&self) -> bool {
        self.reporter.shared.draining.load(Ordering::Relaxed)
    }

    /// Returns whether a request may be addressed to this host. A page of
    /// another site can make a browser send requests here under a name of its
    /// own (DNS rebinding), but not under an address.
    fn is_host_allowed(&self, host: Option<&str>) -> bool {
        let Some(host) = host else {
            // HTTP/1.0, which no browser speaks.
            return true;
        };
        let name = name_of(host);
        let names = &self.reporter.shared.config.admin.hosts;
        name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    fn is_authorized(&self, request: &Request) -> bool {
        let shared = &self.reporter.shared;
        if !shared.config.admin.auth {
            return true;
        }
        let (Some(passwords), Some((user, password))) = (&shared.passwords, &request.credentials)
        else {
            return false;
        };
        passwords.verify(user, password)
    }
}

/// Returns the host of a `Host` header, without port and brackets.
fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn hosts_lose_their_port() {
        for (host, name) in [
            ("localhost", "localhost"),
            ("cache-1:9150", "cache-1"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[::1]:9150", "::1"),
            ("[::1]", "::1"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(name_of(host), name);
        }
    }
}
