//! Metrics in Prometheus' text format 0.0.4 and in OpenMetrics 1.0. The statistics
//! of memcached have the names, types and labels that memcached_exporter gives
//! them, so that its dashboards and alerts work unchanged.
//!
//! The crate prometheus-client encodes OpenMetrics alone. The text format differs
//! in three places, so that one encoder here writes both.

use std::fmt::Write as _;

use crate::command::{Reporter, StatList};
use crate::config::Tunables;
use crate::limits::ClassId;
use crate::stats::{CLIENTS_CUT, COMMANDS, Declaration, Group, Kind, Unit};

/// Content type of Prometheus' text format.
pub(super) const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Content type of OpenMetrics.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// Selects the format for the header `Accept` of a request.
    pub(super) fn accepted(accept: &str) -> Self {
        let open = accept
            .split(',')
            .any(|kind| kind.trim().starts_with("application/openmetrics-text"));
        if open { Self::OpenMetrics } else { Self::Text }
    }

    /// Returns the content type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text => TEXT_FORMAT,
            Self::OpenMetrics => OPENMETRICS,
        }
    }
}

/// Type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

/// Metrics of one name.
#[derive(Debug)]
struct Family {
    name: String,
    kind: Type,
    help: String,
    samples: Vec<Sample>,
}

/// One line.
#[derive(Debug)]
struct Sample {
    /// Appended to the family's name: `_sum`, `_bucket` or nothing.
    suffix: &'static str,
    labels: Vec<(&'static str, String)>,
    value: String,
}

/// All families, in the order in which they were first added.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    families: Vec<Family>,
}

impl Metrics {
    /// Adds a sample, and its family if it is the first.
    pub(super) fn add(
        &mut self,
        (name, kind, help): (&str, Type, &str),
        labels: &[(&'static str, &str)],
        value: impl ToString,
    ) {
        self.add_suffixed((name, kind, help), "", labels, value);
    }

    /// Adds a sample whose name ends with `suffix`.
    pub(super) fn add_suffixed(
        &mut self,
        (name, kind, help): (&str, Type, &str),
        suffix: &'static str,
        labels: &[(&'static str, &str)],
        value: impl ToString,
    ) {
        let known = self.families.iter().position(|family| family.name == name);
        let index = known.unwrap_or_else(|| {
            self.families.push(Family {
                name: name.to_owned(),
                kind,
                help: help.to_owned(),
                samples: Vec::new(),
            });
            self.families.len() - 1
        });
        let labels = labels
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        self.families[index].samples.push(Sample {
            suffix,
            labels: labels.collect(),
            value: value.to_string(),
        });
    }

    /// Encodes all metrics.
    pub(super) fn encode(&self, format: Format) -> String {
        let mut out = String::new();
        for family in &self.families {
            family.encode(format, &mut out);
        }
        if format == Format::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }
}

impl Family {
    fn encode(&self, format: Format, out: &mut String) {
        let open = format == Format::OpenMetrics;
        // OpenMetrics names a family of counters without the suffix of its
        // samples, and knows no counter without it.
        let is_total = self.name.ends_with("_total");
        let name = match self.kind {
            Type::Counter if open => self.name.trim_end_matches("_total"),
            _ => &self.name,
        };
        let kind = match self.kind {
            Type::Counter if open && !is_total => "unknown",
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
            Type::Summary => "summary",
        };
        let mut help = self.help.replace('\\', "\\\\").replace('\n', "\\n");
        if open {
            help = help.replace('"', "\\\"");
        }
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}.");
        let _ = writeln!(out, "# TYPE {name} {kind}");
        for sample in &self.samples {
            let _ = write!(out, "{}{}", self.name, sample.suffix);
            for (index, (label, value)) in sample.labels.iter().enumerate() {
                let separator = if index == 0 { '{' } else { ',' };
                let _ = write!(out, "{separator}{label}=\"{}\"", escaped(value));
            }
            if !sample.labels.is_empty() {
                out.push('}');
            }
            let _ = writeln!(out, " {}", sample.value);
        }
    }
}

/// Escapes the value of a label.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Adds the metrics of all declared statistics, of the settings that
/// memcached_exporter shows, and of the size classes.
pub(super) fn collect(reporter: &mut Reporter, metrics: &mut Metrics) {
    let up = ("memcached_up", Type::Gauge, "Whether the server is up");
    metrics.add(up, &[], 1);
    for (group, argument) in [
        (Group::General, ""),
        (Group::Udp, "udp"),
        (Group::Own, "rustcached"),
        (Group::Invalidation, "invalidation"),
    ] {
        let stats = reporter.stats(argument);
        for (name, value) in &stats {
            if let Some(declared) = Declaration::find(group, name) {
                add_declared(declared, value, &stats, metrics);
            }
        }
    }
    let tunables = *reporter.shared.runtime.tunables();
    add_crawler_settings(&tunables, metrics);
    add_slabs(&reporter.stats("slabs"), metrics);
    add_items(&reporter.stats("items"), metrics);
}

fn add_declared(declared: &Declaration, value: &str, stats: &StatList, metrics: &mut Metrics) {
    if declared.kind == Kind::Text {
        if declared.name == "version" {
            let (name, help) = match declared.group {
                Group::Own => ("rustcached_build_info", "The version of rustcached"),
                _ => ("memcached_version", "The version of memcached followed"),
            };
            metrics.add((name, Type::Gauge, help), &[("version", value)], 1);
        }
        return;
    }
    let Some(name) = declared.metric_name() else {
        return;
    };
    let kind = match declared.kind {
        Kind::Counter => Type::Counter,
        Kind::Gauge | Kind::Text => Type::Gauge,
    };
    let value = match declared.name {
        // memcached counts a compare-and-swap here, too.
        "cmd_set" => without_cas(value, stats, ["cas_misses", "cas_hits", "cas_badval"]),
        // Metrics have base units.
        _ if declared.unit == Unit::Microseconds => {
            let micros: u64 = value.parse().unwrap_or_default();
            (micros as f64 / 1e6).to_string()
        }
        _ => value.to_owned(),
    };
    let help = match (&name[..], declared.unit) {
        (COMMANDS, _) => "Commands by name and outcome".to_owned(),
        (CLIENTS_CUT, _) => "Clients cut for the memory that they held".to_owned(),
        (_, Unit::Number) => declared.help.to_owned(),
        (_, Unit::Microseconds) => format!("{}, in seconds", declared.help),
        (_, unit) => format!("{}, in {}", declared.help, unit.name()),
    };
    metrics.add((&name, kind, &help), declared.labels(), value);
}

/// Subtracts the compare-and-swaps from a count of sets.
fn without_cas<const N: usize>(sets: &str, stats: &StatList, names: [&str; N]) -> String {
    let number = |name: &str| find(stats, name).and_then(|value| value.parse::<u64>().ok());
    let cas: u64 = names.iter().filter_map(|name| number(name)).sum();
    let sets = sets.parse::<u64>().unwrap_or_default();
    sets.saturating_sub(cas).to_string()
}

fn find<'a>(stats: &'a StatList, name: &str) -> Option<&'a str> {
    let (_, value) = stats.iter().find(|(known, _)| known == name)?;
    Some(value)
}

/// Adds the settings that memcached_exporter shows, while the crawler is enabled.
fn add_crawler_settings(tunables: &Tunables, metrics: &mut Metrics) {
    if !tunables.crawler {
        return;
    }
    let number = |number: u32| number.to_string();
    let factor = |factor: f64| format!("{factor:.2}");
    let [hot_percent, warm_percent] = tunables.queue_percents;
    let [hot_factor, warm_factor] = tunables.queue_factors;
    for (suffix, help, value) in [
        ("enabled", "Whether the LRU crawler is enabled", number(1)),
        (
            "sleep",
            "Sleep between crawled items, in microseconds",
            number(tunables.crawler_sleep_us),
        ),
        (
            "to_crawl",
            "Most items crawled per class and run",
            number(tunables.crawler_items),
        ),
        (
            "maintainer_thread",
            "Whether there is a maintainer thread",
            number(tunables.maintainer.into()),
        ),
        (
            "hot_percent",
            "Percentage of memory reserved for the HOT queue",
            number(hot_percent),
        ),
        (
            "warm_percent",
            "Percentage of memory reserved for the WARM queue",
            number(warm_percent),
        ),
        (
            "hot_max_factor",
            "Age of the HOT queue relative to COLD",
            factor(hot_factor),
        ),
        (
            "warm_max_factor",
            "Age of the WARM queue relative to COLD",
            factor(warm_factor),
        ),
    ] {
        let name = format!("memcached_lru_crawler_{suffix}");
        metrics.add((&name, Type::Gauge, help), &[], value);
    }
}

/// Statistics of `stats slabs` and the exporter's metric: its name behind
/// `memcached_slab_`, and help.
const SLABS: [(&str, &str, &str); 7] = [
    ("chunk_size", "chunk_size_bytes", "Size of a chunk"),
    ("chunks_per_page", "chunks_per_page", "Chunks in a page"),
    ("total_pages", "current_pages", "Pages of the class"),
    ("total_chunks", "current_chunks", "Chunks of the class"),
    ("used_chunks", "chunks_used", "Chunks that hold items"),
    ("free_chunks", "chunks_free", "Free chunks"),
    ("free_chunks_end", "chunks_free_end", "Always 0"),
];

/// Statistics of `stats items`, likewise, and the type.
const ITEMS: [(&str, &str, Type, &str); 21] = [
    ("number", "current_items", Type::Gauge, "Items of the class"),
    (
        "age",
        "items_age_seconds",
        Type::Gauge,
        "Time since the last access to the least recently used item",
    ),
    (
        "crawler_reclaimed",
        "items_crawler_reclaimed_total",
        Type::Counter,
        "Dead items that sweeps removed",
    ),
    (
        "evicted",
        "items_evicted_total",
        Type::Counter,
        "Live items evicted",
    ),
    (
        "evicted_nonzero",
        "items_evicted_nonzero_total",
        Type::Counter,
        "Items with a TTL evicted",
    ),
    (
        "evicted_time",
        "items_evicted_time_seconds",
        Type::Counter,
        "Idle time of the item evicted last",
    ),
    (
        "evicted_unfetched",
        "items_evicted_unfetched_total",
        Type::Counter,
        "Items evicted that were never fetched",
    ),
    (
        "expired_unfetched",
        "items_expired_unfetched_total",
        Type::Counter,
        "Items expired that were never fetched",
    ),
    (
        "outofmemory",
        "items_outofmemory_total",
        Type::Counter,
        "Allocations that failed",
    ),
    (
        "reclaimed",
        "items_reclaimed_total",
        Type::Counter,
        "Expired items whose memory was reclaimed",
    ),
    (
        "tailrepairs",
        "items_tailrepairs_total",
        Type::Counter,
        "Always 0",
    ),
    (
        "mem_requested",
        "mem_requested_bytes",
        Type::Counter,
        "Size of the items of the class",
    ),
    (
        "moves_to_cold",
        "items_moves_to_cold",
        Type::Counter,
        "Always 0",
    ),
    (
        "moves_to_warm",
        "items_moves_to_warm",
        Type::Counter,
        "Always 0",
    ),
    (
        "moves_within_lru",
        "items_moves_within_lru",
        Type::Counter,
        "Always 0",
    ),
    (
        "number_hot",
        "hot_items",
        Type::Gauge,
        "Always 0: there is one queue",
    ),
    (
        "number_warm",
        "warm_items",
        Type::Gauge,
        "Always 0: there is one queue",
    ),
    (
        "number_cold",
        "cold_items",
        Type::Gauge,
        "Items of the class",
    ),
    (
        "number_temp",
        "temporary_items",
        Type::Gauge,
        "Always 0: there is one queue",
    ),
    (
        "age_hot",
        "hot_age_seconds",
        Type::Gauge,
        "Always 0: there is one queue",
    ),
    (
        "age_warm",
        "warm_age_seconds",
        Type::Gauge,
        "Always 0: there is one queue",
    ),
];

/// Queues of `stats items` and their label.
const HITS: [(&str, &str); 4] = [
    ("hits_to_hot", "hot"),
    ("hits_to_warm", "warm"),
    ("hits_to_cold", "cold"),
    ("hits_to_temp", "temporary"),
];

fn add_slabs(stats: &StatList, metrics: &mut Metrics) {
    if let Some(bytes) = find(stats, "total_malloced") {
        let family = (
            "memcached_malloced_bytes",
            Type::Gauge,
            "Memory of all pages in use",
        );
        metrics.add(family, &[], bytes);
    }
    for class in ClassId::all() {
        let slab = class.to_string();
        let find = |name: &str| find(stats, &format!("{slab}:{name}"));
        for (name, suffix, help) in SLABS {
            if let Some(value) = find(name) {
                let name = format!("memcached_slab_{suffix}");
                metrics.add((&name, Type::Gauge, help), &[("slab", &slab)], value);
            }
        }
        let name = "memcached_slab_commands_total";
        let family = (name, Type::Counter, "Commands by class, name and outcome");
        let mut add = |command: &str, status: &str, value: &str| {
            let labels = [
                ("slab", &slab[..]),
                ("command", command),
                ("status", status),
            ];
            metrics.add(family, &labels, value);
        };
        for command in ["get", "delete", "incr", "decr", "cas", "touch"] {
            if let Some(hits) = find(&format!("{command}_hits")) {
                add(command, "hit", hits);
            }
        }
        if let Some(refused) = find("cas_badval") {
            add("cas", "badval", refused);
        }
        if let Some(sets) = find("cmd_set") {
            let names = ["cas_hits", "cas_badval"].map(|name| format!("{slab}:{name}"));
            let names = [&names[0][..], &names[1][..]];
            add("set", "hit", &without_cas(sets, stats, names));
        }
    }
}

fn add_items(stats: &StatList, metrics: &mut Metrics) {
    for class in ClassId::all() {
        let slab = class.to_string();
        let find = |name: &str| find(stats, &format!("items:{slab}:{name}"));
        for (name, suffix, kind, help) in ITEMS {
            if let Some(value) = find(name) {
                let name = format!("memcached_slab_{suffix}");
                metrics.add((&name, kind, help), &[("slab", &slab)], value);
            }
        }
        for (name, queue) in HITS {
            if let Some(value) = find(name) {
                let name = "memcached_slab_lru_hits_total";
                let family = (name, Type::Counter, "Hits of items in the queue");
                metrics.add(family, &[("slab", &slab), ("lru", queue)], value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Metrics, OPENMETRICS, Type};

    #[test]
    fn both_formats_are_written() {
        let mut metrics = Metrics::default();
        let sets = ("a_total", Type::Counter, "Sets of \"a\"");
        metrics.add(sets, &[("key", "x\"y\\z\n")], 1);
        metrics.add(("b_seconds", Type::Counter, "B"), &[], "1.5");
        metrics.add(sets, &[("key", "k"), ("l", "m")], 2);
        let text = metrics.encode(Format::Text);
        let expected = "# HELP a_total Sets of \"a\".\n# TYPE a_total counter\n\
                        a_total{key=\"x\\\"y\\\\z\\n\"} 1\na_total{key=\"k\",l=\"m\"} 2\n\
                        # HELP b_seconds B.\n# TYPE b_seconds counter\nb_seconds 1.5\n";
        assert_eq!(text, expected);
        let open = metrics.encode(Format::OpenMetrics);
        let expected = "# HELP a Sets of \\\"a\\\".\n# TYPE a counter\n\
                        a_total{key=\"x\\\"y\\\\z\\n\"} 1\na_total{key=\"k\",l=\"m\"} 2\n\
                        # HELP b_seconds B.\n# TYPE b_seconds unknown\nb_seconds 1.5\n# EOF\n";
        assert_eq!(open, expected);
    }

    #[test]
    fn the_accept_header_selects_the_format() {
        let prometheus = format!("{OPENMETRICS},text/plain;version=0.0.4;q=0.5,*/*;q=0.1");
        assert_eq!(Format::accepted(&prometheus), Format::OpenMetrics);
        assert_eq!(Format::accepted("text/plain"), Format::Text);
        assert_eq!(Format::accepted("*/*"), Format::Text);
        assert_eq!(Format::accepted(""), Format::Text);
    }
}
