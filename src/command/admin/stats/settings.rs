//! `stats settings`.

use crate::command::admin::stat_sink::{StatSink, stat};
use crate::command::admin::stats::yes_no;
use crate::command::executor::Executor;
use crate::config::{Endpoint, ProtocolMode};
use crate::events::Kinds;
use crate::store::{HASH_NAME, PAGE_SPACE_BYTES};
use crate::sync::Ordering;
use crate::time::Expiry;

impl Executor<'_> {
    /// Writes the settings in the order of memcached's `process_stat_settings`.
    pub(in crate::command) fn settings(&mut self, out: &mut StatSink<'_>) {
        self.server_settings(out);
        self.memory_settings(out);
        out.end();
    }

    fn server_settings(&self, out: &mut StatSink<'_>) {
        let config = &self.shared.config;
        let tcp = |endpoint: &Endpoint| match endpoint {
            Endpoint::Tcp(address) => Some(address.port()),
            Endpoint::Unix { .. } => None,
        };
        let unix = |endpoint: &Endpoint| match endpoint {
            Endpoint::Tcp(_) => None,
            Endpoint::Unix { path, mode } => Some((path.display().to_string(), *mode)),
        };
        let endpoints = || config.listeners.iter().map(|listener| &listener.endpoint);
        let (path, mode) = endpoints().find_map(unix).unwrap_or(("NULL".into(), 0o700));
        stat(out, "maxbytes", self.store.memory_limit());
        stat(out, "maxconns", config.max_connections);
        stat(out, "tcpport", endpoints().find_map(tcp).unwrap_or(0));
        let udp = config.udp.first().map_or(0, |udp| udp.address.port());
        stat(out, "udpport", udp);
        stat(out, "inter", "NULL");
        let verbosity = self.shared.runtime.verbosity.load(Ordering::Relaxed);
        stat(out, "verbosity", verbosity);
        let flush_at = Expiry(self.shared.runtime.flush_at.load(Ordering::Relaxed));
        stat(out, "oldest", flush_at.second());
        stat(out, "evictions", if config.evict { "on" } else { "off" });
        stat(out, "domain_socket", path);
        stat(out, "umask", format!("{mode:o}"));
        stat(out, "shutdown_command", yes_no(config.shutdown_command));
        stat(out, "growth_factor", format!("{:.2}", config.growth_factor));
        stat(out, "chunk_size", config.chunk_size);
        stat(out, "num_threads", config.threads);
        stat(out, "num_threads_per_udp", config.threads);
        stat(out, "stat_key_prefix", char::from(config.prefix_delimiter));
        let detail = self.shared.events.wanted().any_of(Kinds::DETAIL);
        stat(out, "detail_enabled", yes_no(detail));
        stat(out, "reqs_per_event", config.requests_per_event);
        stat(out, "cas_enabled", yes_no(config.cas));
        stat(out, "tcp_backlog", config.backlog);
        let only = |mode| {
            let mut listeners = config.listeners.iter();
            listeners.len() > 0 && listeners.all(|listener| listener.protocol == mode)
        };
        let protocol = if only(ProtocolMode::Ascii) {
            "ascii"
        } else if only(ProtocolMode::Binary) {
            "binary"
        } else {
            "auto-negotiate"
        };
        stat(out, "binding_protocol", protocol);
        stat(out, "auth_enabled_sasl", yes_no(config.sasl.is_some()));
        let passwords = config.auth_file.as_ref();
        let passwords = passwords.map_or_else(|| "no".into(), |path| path.to_string_lossy());
        stat(out, "auth_enabled_ascii", passwords);
    }

    fn memory_settings(&self, out: &mut StatSink<'_>) {
        let config = &self.shared.config;
        stat(out, "item_size_max", config.max_item_size);
        stat(out, "maxconns_fast", yes_no(config.maxconns_fast));
        stat(out, "hashpower_init", config.hashpower);
        let tunables = *self.shared.runtime.tunables();
        let [hot, warm] = tunables.queue_percents;
        let [hot_factor, warm_factor] = tunables.queue_factors;
        stat(out, "slab_reassign", yes_no(tunables.reassign));
        stat(out, "slab_automove", tunables.automove);
        let ratio = tunables.automove_ratio;
        stat(out, "slab_automove_ratio", format!("{ratio:.2}"));
        stat(out, "slab_automove_window", tunables.automove_window);
        stat(out, "slab_chunk_max", PAGE_SPACE_BYTES);
        stat(out, "lru_crawler", yes_no(tunables.crawler));
        stat(out, "lru_crawler_sleep", tunables.crawler_sleep_us);
        stat(out, "lru_crawler_tocrawl", tunables.crawler_items);
        stat(out, "tail_repair_time", 0);
        stat(out, "flush_enabled", yes_no(config.flush));
        stat(out, "dump_enabled", yes_no(config.dump));
        stat(out, "hash_algorithm", HASH_NAME);
        stat(out, "lru_maintainer_thread", yes_no(tunables.maintainer));
        stat(out, "lru_segmented", yes_no(tunables.segmented));
        stat(out, "hot_lru_pct", hot);
        stat(out, "warm_lru_pct", warm);
        stat(out, "hot_max_factor", format!("{hot_factor:.2}"));
        stat(out, "warm_max_factor", format!("{warm_factor:.2}"));
        stat(out, "temp_lru", yes_no(tunables.temporary));
        stat(out, "temporary_ttl", tunables.temporary_ttl);
        let idle = config.idle_timeout.map_or(0, |timeout| timeout.as_secs());
        stat(out, "idle_timeout", idle);
        let limit = config.read_buf_mem_limit.to_string();
        for (name, value) in [
            ("watcher_logbuf_size", "262144"),
            ("worker_logbuf_size", "65536"),
            ("read_buf_mem_limit", &limit),
            ("track_sizes", "yes"),
            ("inline_ascii_response", "no"),
            ("ssl_enabled", yes_no(config.tls.is_some())),
        ] {
            stat(out, name, value);
        }
        self.tls_settings(out);
        for (name, value) in [
            ("num_napi_ids", "0"),
            ("memory_file", "(null)"),
            ("client_flags_size", "4"),
        ] {
            stat(out, name, value);
        }
    }
}
