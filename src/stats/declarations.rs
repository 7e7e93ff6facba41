//! Declarations of all single-valued statistics: name, group, kind, unit, help
//! and metric. The statistics commands, the metrics and the documentation list
//! the same ones.
//!
//! Metrics that memcached_exporter of the Prometheus project has keep its names
//! and labels. The others begin with `rustcached_`.

/// Group of a statistic, which is the argument of `stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `stats` without an argument.
    General,
    /// `stats udp`.
    Udp,
    /// `stats rustcached`.
    Own,
    /// `stats invalidation`.
    Invalidation,
}

/// Kind of a statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only increases, but for `stats reset`.
    Counter,
    /// A number that increases and decreases.
    Gauge,
    /// A text, which is no metric.
    Text,
}

/// Unit of a statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Number,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Microseconds.
    Microseconds,
    /// Bits.
    Bits,
}

/// Name and labels of the metric that shows a statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name, as in Prometheus' text format.
    pub name: &'static str,
    /// Names and values of the labels.
    pub labels: &'static [(&'static str, &'static str)],
}

/// Declaration of a statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// Group.
    pub group: Group,
    /// Name in the replies to `stats`.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Unit.
    pub unit: Unit,
    /// What it counts or measures, in one sentence without a full stop.
    pub help: &'static str,
    /// The exporter's metric; `None` if this server names it.
    pub metric: Option<Metric>,
}

impl Unit {
    /// Returns the name in the plural, as a help text uses it; empty for plain
    /// numbers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
            Self::Microseconds => "microseconds",
            Self::Bits => "bits",
        }
    }
}

impl Declaration {
    /// Returns the declaration of a statistic.
    pub fn find(group: Group, name: &str) -> Option<&'static Self> {
        DECLARATIONS
            .iter()
            .find(|declared| declared.group == group && declared.name == name)
    }

    /// Returns the name of the metric, `None` for a text.
    pub fn metric_name(&self) -> Option<String> {
        match (self.metric, self.kind) {
            (Some(metric), _) => Some(metric.name.to_owned()),
            (None, Kind::Counter) => Some(format!("rustcached_{}_total", self.name)),
            (None, Kind::Gauge) => Some(format!("rustcached_{}", self.name)),
            (None, Kind::Text) => None,
        }
    }

    /// Returns the labels of the metric.
    pub fn labels(&self) -> &'static [(&'static str, &'static str)] {
        self.metric.map_or(&[], |metric| metric.labels)
    }

    const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self {
            group: Group::General,
            name,
            kind,
            unit: Unit::Number,
            help,
            metric: None,
        }
    }

    const fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    const fn of(self, group: Group) -> Self {
        Self { group, ..self }
    }

    const fn metric(self, name: &'static str) -> Self {
        let labels: &[(&str, &str)] = &[];
        let metric = Some(Metric { name, labels });
        Self { metric, ..self }
    }

    const fn labelled(
        self,
        name: &'static str,
        labels: &'static [(&'static str, &'static str)],
    ) -> Self {
        let metric = Some(Metric { name, labels });
        Self { metric, ..self }
    }

    const fn command(self, labels: &'static [(&'static str, &'static str); 2]) -> Self {
        self.labelled(COMMANDS, labels)
    }
}

/// Metric of the clients cut for memory, by reason.
pub const CLIENTS_CUT: &str = "rustcached_clients_cut_total";
/// The exporter's metric of commands by outcome.
pub const COMMANDS: &str = "memcached_commands_total";

const fn counter(name: &'static str, help: &'static str) -> Declaration {
    Declaration::new(name, Kind::Counter, help)
}

const fn gauge(name: &'static str, help: &'static str) -> Declaration {
    Declaration::new(name, Kind::Gauge, help)
}

const fn text(name: &'static str, help: &'static str) -> Declaration {
    Declaration::new(name, Kind::Text, help)
}

/// All single-valued statistics, in the order of the replies.
pub const DECLARATIONS: &[Declaration] = &[
    gauge("pid", "Process id"),
    counter("uptime", "Time since the start")
        .unit(Unit::Seconds)
        .metric("memcached_uptime_seconds"),
    gauge("time", "Present time since 1970")
        .unit(Unit::Seconds)
        .metric("memcached_time_seconds"),
    text("version", "memcached's version that the server follows"),
    text("libevent", "Always \"none\": there is no libevent"),
    gauge("pointer_size", "Size of a pointer").unit(Unit::Bits),
    counter("rusage_user", "Processor time in user mode")
        .unit(Unit::Seconds)
        .metric("memcached_process_user_cpu_seconds_total"),
    counter("rusage_system", "Processor time in the kernel")
        .unit(Unit::Seconds)
        .metric("memcached_process_system_cpu_seconds_total"),
    gauge("max_connections", "Most connections at the same time")
        .metric("memcached_max_connections"),
    gauge("curr_connections", "Open connections").metric("memcached_current_connections"),
    counter("total_connections", "Connections accepted").metric("memcached_connections_total"),
    counter("rejected_connections", "Connections refused at the limit")
        .metric("memcached_connections_rejected_total"),
    gauge(
        "connection_structures",
        "Most connections that were open at the same time",
    ),
    counter(
        "response_obj_oom",
        "Requests refused and clients cut for want of output memory",
    ),
    gauge("response_obj_count", "Output buffers").metric("rustcached_output_buffers"),
    gauge("response_obj_bytes", "Unsent output of stalled clients").unit(Unit::Bytes),
    gauge("read_buf_count", "Read buffers").metric("rustcached_read_buffers"),
    gauge("read_buf_bytes", "Read buffers and incomplete input").unit(Unit::Bytes),
    gauge("read_buf_bytes_free", "Read buffers that hold no input").unit(Unit::Bytes),
    counter("read_buf_oom", "Clients cut for want of input memory"),
    gauge("reserved_fds", "Descriptors that are no client connections"),
    counter("cmd_get", "Keys requested by retrievals"),
    counter("cmd_set", "Items made for storage commands")
        .command(&[("command", "set"), ("status", "hit")]),
    counter("cmd_flush", "flush_all commands").command(&[("command", "flush"), ("status", "hit")]),
    counter(
        "cmd_touch",
        "Touches by touch, gat, gats or the meta flag T",
    ),
    counter("cmd_meta", "me commands"),
    counter("get_hits", "Hits of retrievals").command(&[("command", "get"), ("status", "hit")]),
    counter("get_misses", "Misses of retrievals")
        .command(&[("command", "get"), ("status", "miss")]),
    counter("get_expired", "Lookups that met an expired item"),
    counter("get_flushed", "Lookups that met a flushed item"),
    counter("delete_misses", "Misses of delete")
        .command(&[("command", "delete"), ("status", "miss")]),
    counter("delete_hits", "Hits of delete").command(&[("command", "delete"), ("status", "hit")]),
    counter("incr_misses", "Misses of incr").command(&[("command", "incr"), ("status", "miss")]),
    counter("incr_hits", "Hits of incr").command(&[("command", "incr"), ("status", "hit")]),
    counter("decr_misses", "Misses of decr").command(&[("command", "decr"), ("status", "miss")]),
    counter("decr_hits", "Hits of decr").command(&[("command", "decr"), ("status", "hit")]),
    counter("cas_misses", "Misses of compare-and-swap")
        .command(&[("command", "cas"), ("status", "miss")]),
    counter("cas_hits", "Compare-and-swaps that stored")
        .command(&[("command", "cas"), ("status", "hit")]),
    counter(
        "cas_badval",
        "Compare-and-swaps refused for another CAS value",
    )
    .command(&[("command", "cas"), ("status", "badval")]),
    counter("touch_hits", "Hits of touch commands")
        .command(&[("command", "touch"), ("status", "hit")]),
    counter("touch_misses", "Misses of touch commands")
        .command(&[("command", "touch"), ("status", "miss")]),
    counter("store_too_large", "Values refused for their size")
        .metric("memcached_item_too_large_total"),
    counter("store_no_memory", "Values refused for want of memory")
        .metric("memcached_item_no_memory_total"),
    counter("auth_cmds", "Authentication attempts"),
    counter("auth_errors", "Authentication attempts that failed"),
    counter("idle_kicks", "Connections closed by idle_timeout"),
    counter("bytes_read", "Bytes received")
        .unit(Unit::Bytes)
        .metric("memcached_read_bytes_total"),
    counter("bytes_written", "Bytes sent")
        .unit(Unit::Bytes)
        .metric("memcached_written_bytes_total"),
    gauge("limit_maxbytes", "Memory limit of items and index")
        .unit(Unit::Bytes)
        .metric("memcached_limit_bytes"),
    gauge("accepting_conns", "Whether connections are accepted")
        .metric("memcached_accepting_connections"),
    counter(
        "listen_disabled_num",
        "Times that accepting stopped at the connection limit",
    )
    .metric("memcached_connections_listener_disabled_total"),
    counter(
        "time_in_listen_disabled_us",
        "Time during which nothing was accepted",
    )
    .unit(Unit::Microseconds)
    .metric("rustcached_listen_disabled_seconds_total"),
    gauge("threads", "Worker threads"),
    counter(
        "conn_yields",
        "Times that memcached would have made a connection yield (-R)",
    )
    .metric("memcached_connections_yielded_total"),
    gauge(
        "hash_power_level",
        "Binary logarithm of the size of the index in pointers",
    ),
    gauge("hash_bytes", "Size of the index").unit(Unit::Bytes),
    gauge("hash_is_expanding", "Always 0: shards grow on their own"),
    counter("slab_reassign_rescues", "Items moved to empty their page"),
    counter("slab_reassign_chunk_rescues", "Always 0"),
    counter("slab_reassign_inline_reclaim", "Always 0"),
    counter("slab_reassign_busy_items", "Always 0"),
    counter("slab_reassign_busy_deletes", "Always 0"),
    counter("slab_reassign_busy_nomem", "Always 0"),
    text("slab_reassign_last_busy_status", "Always \"none\""),
    gauge("slab_reassign_running", "Always 0"),
    counter("slabs_moved", "Pages that changed their size class"),
    gauge(
        "lru_crawler_running",
        "Whether a requested sweep or a dump is in progress",
    ),
    counter("lru_crawler_starts", "Requested sweeps and dumps")
        .metric("memcached_lru_crawler_starts_total"),
    counter("lru_maintainer_juggles", "Steps of the upkeep thread"),
    counter("malloc_fails", "Always 0"),
    counter(
        "log_worker_dropped",
        "Events dropped because a ring was full",
    ),
    counter("log_worker_written", "Events put into rings"),
    counter("log_watcher_skipped", "Lines that slow watchers missed"),
    counter("log_watcher_sent", "Lines sent to watchers"),
    gauge("log_watchers", "Watchers"),
    counter("unexpected_napi_ids", "Always 0").metric("memcached_unexpected_napi_ids_total"),
    counter("round_robin_fallback", "Always 0").metric("memcached_round_robin_fallback_total"),
    counter("ssl_new_sessions", "TLS sessions that were not resumed"),
    counter(
        "ssl_proto_errors",
        "TLS sessions ended by an error after the handshake",
    ),
    counter("ssl_handshake_errors", "TLS handshakes that failed"),
    gauge(
        "time_since_server_cert_refresh",
        "Time since certificates were loaded",
    )
    .unit(Unit::Seconds),
    gauge("bytes", "Size of all items")
        .unit(Unit::Bytes)
        .metric("memcached_current_bytes"),
    gauge("curr_items", "Items").metric("memcached_current_items"),
    counter("total_items", "Items stored").metric("memcached_items_total"),
    gauge("slab_global_page_pool", "Free pages whose memory is kept"),
    counter("expired_unfetched", "Expired items that were never fetched"),
    counter("evicted_unfetched", "Evicted items that were never fetched"),
    counter("evicted_active", "Always 0"),
    counter("evictions", "Live items evicted").metric("memcached_items_evicted_total"),
    counter("reclaimed", "Expired items whose memory was reclaimed")
        .metric("memcached_items_reclaimed_total"),
    counter("crawler_reclaimed", "Dead items that sweeps removed")
        .metric("memcached_lru_crawler_reclaimed_total"),
    counter("crawler_items_checked", "Items that sweeps examined")
        .metric("memcached_lru_crawler_items_checked_total"),
    counter("lrutail_reflocked", "Always 0"),
    counter("moves_to_cold", "Always 0").metric("memcached_lru_crawler_moves_to_cold_total"),
    counter("moves_to_warm", "Always 0").metric("memcached_lru_crawler_moves_to_warm_total"),
    counter("moves_within_lru", "Always 0").metric("memcached_lru_crawler_moves_within_lru_total"),
    counter("direct_reclaims", "Allocations that had to reclaim memory")
        .metric("memcached_direct_reclaims_total"),
    counter("lru_bumps_dropped", "Always 0"),
    counter("udp_requests", "Requests received over UDP").of(Group::Udp),
    counter("udp_dropped", "Requests over UDP without a reply").of(Group::Udp),
    gauge("udp_reply_limit", "Longest reply over UDP")
        .unit(Unit::Bytes)
        .of(Group::Udp),
    text("version", "The server's own version").of(Group::Own),
    counter(
        "log_lines_dropped",
        "Log lines that did not reach standard error",
    )
    .of(Group::Own),
    gauge(
        "client_memory_limit",
        "Limit of the memory held for clients",
    )
    .unit(Unit::Bytes)
    .of(Group::Own),
    gauge("client_output_bytes", "Unsent output")
        .unit(Unit::Bytes)
        .of(Group::Own),
    gauge("client_input_bytes", "Incomplete input")
        .unit(Unit::Bytes)
        .of(Group::Own),
    gauge(
        "client_item_bytes",
        "Items pinned by unsent output, or being received",
    )
    .unit(Unit::Bytes)
    .of(Group::Own),
    counter("clients_cut_output", "Clients cut for their unsent output")
        .of(Group::Own)
        .labelled(CLIENTS_CUT, &[("reason", "output")]),
    counter(
        "clients_cut_input",
        "Clients cut for their incomplete input",
    )
    .of(Group::Own)
    .labelled(CLIENTS_CUT, &[("reason", "input")]),
    counter(
        "clients_cut_items",
        "Clients cut for the items that they held",
    )
    .of(Group::Own)
    .labelled(CLIENTS_CUT, &[("reason", "items")]),
    counter(
        "retrievals_refused",
        "Retrievals refused at the memory limit of clients",
    )
    .of(Group::Own),
    counter(
        "proxy_header_errors",
        "Connections closed because of a missing, malformed or late PROXY header",
    )
    .of(Group::Own),
    gauge(
        "cluster_version",
        "Version of the list of servers for clients",
    )
    .of(Group::Own),
    gauge("cluster_nodes", "Servers in the list for clients").of(Group::Own),
    counter("invalidations", "Invalidations of prefixes and tags").of(Group::Invalidation),
    counter("prefix_invalidations", "Invalidations of prefixes").of(Group::Invalidation),
    counter("tag_invalidations", "Invalidations of tags").of(Group::Invalidation),
    counter(
        "stale_invalidations",
        "Invalidations that mark items stale instead of removing them",
    )
    .of(Group::Invalidation),
    counter(
        "invalidated_items",
        "Items removed because their prefix or tag was invalidated",
    )
    .of(Group::Invalidation),
    counter(
        "invalidated_stale",
        "Items marked stale because their prefix or tag was invalidated",
    )
    .of(Group::Invalidation),
    gauge(
        "invalidation_outstanding",
        "Whether items may be left that an invalidation concerns",
    )
    .of(Group::Invalidation),
    gauge(
        "invalidation_prefix_lengths",
        "Lengths of outstanding prefixes",
    )
    .of(Group::Invalidation),
    gauge("invalidation_slots", "Counters in a table of invalidations").of(Group::Invalidation),
    gauge(
        "invalidation_table_bytes",
        "Size of the tables of invalidations",
    )
    .unit(Unit::Bytes)
    .of(Group::Invalidation),
];

#[cfg(test)]
mod tests {
    use super::{COMMANDS, DECLARATIONS, Declaration, Kind};
    use std::collections::HashSet;

    #[test]
    fn names_and_metrics_are_unique() {
        let mut names = HashSet::new();
        let mut metrics = HashSet::new();
        for declared in DECLARATIONS {
            let name = (declared.group as u8, declared.name);
            assert!(names.insert(name), "{}", declared.name);
            let found = Declaration::find(declared.group, declared.name);
            assert_eq!(found, Some(declared));
            if let Some(metric) = declared.metric_name() {
                let metric = (metric, declared.labels());
                assert!(metrics.insert(metric), "{}", declared.name);
            }
        }
        let labelled = DECLARATIONS
            .iter()
            .filter(|declared| declared.metric_name().as_deref() == Some(COMMANDS));
        assert_eq!(labelled.count(), 15);
    }

    #[test]
    fn names_of_metrics_follow_the_rules() {
        for declared in DECLARATIONS {
            let name = declared.metric_name().unwrap_or_default();
            // The exporter's counter of seconds since the start is not named so.
            let is_total = name.ends_with("_total") || declared.name == "uptime";
            assert_eq!(is_total, declared.kind == Kind::Counter, "{name}");
            assert!(!declared.help.ends_with('.'), "{name}");
        }
    }
}
