//! `stats`: which numbers, under memcached's names and in its order.

use nix::sys::resource::{UsageWho, getrusage};

use crate::command::Executor;
use crate::command::control::VERSION;
use crate::command::stat_sink::{StatSink, stat};
use crate::config::{Endpoint, KeyFormat, ProtocolMode, TlsVersion};
use crate::protocol::request::tokens;
use crate::stats::Snapshot;
use crate::store::HASH_NAME;
use crate::sync::Ordering;
use crate::time::{Expiry, unix_seconds};

impl Executor<'_> {
    /// Sub-commands match by prefix, as memcached's do.
    pub(super) fn stats(&mut self, arguments: &[u8], out: &mut StatSink<'_>) {
        let Some(group) = tokens(arguments).next() else {
            return self.general(out);
        };
        let is = |name: &str| name.as_bytes().starts_with(group);
        let limited = !self.shared.config.dump;
        if is("reset") {
            self.shared.reset(self.store.snapshot());
            out.done("RESET");
        } else if is("detail") {
            self.detail(arguments, out);
        } else if is("settings") {
            self.settings(out);
        } else if is("cachedump") && limited {
            out.refuse("CLIENT_ERROR stats cachedump not allowed");
        } else if is("cachedump") || is("conns") || is("items") {
            out.end();
        } else if is("slabs") {
            stat(out, "active_slabs", 0);
            stat(out, "total_malloced", self.store.page_bytes());
            out.end();
        } else if is("udp") {
            let sum = self.shared.since_reset(&self.store.snapshot());
            stat(out, "udp_requests", sum.udp_requests);
            stat(out, "udp_dropped", sum.udp_dropped);
            stat(out, "udp_reply_limit", self.shared.config.udp_reply_limit);
            out.end();
        } else if is("sizes") {
            stat(out, "sizes_status", "disabled");
            out.end();
        } else {
            out.refuse("ERROR");
        }
    }

    fn detail(&mut self, arguments: &[u8], out: &mut StatSink<'_>) {
        let what = tokens(arguments).nth(1).unwrap_or(b"stats");
        let is = |name: &str| name.as_bytes().starts_with(what);
        if !self.shared.config.dump {
            out.refuse("CLIENT_ERROR stats detail not allowed");
        } else if is("on") || is("off") {
            out.done("OK");
        } else if is("dump") {
            out.lines("detailed", b"END\r\n");
        } else {
            out.refuse("CLIENT_ERROR usage: stats detail on|off|dump");
        }
    }

    fn general(&mut self, out: &mut StatSink<'_>) {
        let sum = self.shared.since_reset(&self.store.snapshot());
        self.process_stats(out);
        self.connection_stats(out);
        self.command_stats(&sum, out);
        self.network_stats(&sum, out);
        self.memory_stats(&sum, out);
        self.tls_stats(out);
        self.item_stats(&sum, out);
        out.end();
    }

    fn process_stats(&self, out: &mut StatSink<'_>) {
        stat(out, "pid", std::process::id());
        stat(out, "uptime", self.now.uptime());
        stat(out, "time", unix_seconds());
        stat(out, "version", VERSION);
        stat(out, "libevent", "none");
        stat(out, "pointer_size", usize::BITS);
        let seconds =
            |time: nix::sys::time::TimeVal| format!("{}.{:06}", time.tv_sec(), time.tv_usec());
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            stat(out, "rusage_user", seconds(usage.user_time()));
            stat(out, "rusage_system", seconds(usage.system_time()));
        }
    }

    fn connection_stats(&self, out: &mut StatSink<'_>) {
        let connections = &self.shared.connections;
        let read = |number: &crate::sync::AtomicU64| number.load(Ordering::Relaxed);
        stat(out, "max_connections", self.shared.config.max_connections);
        stat(out, "curr_connections", read(&connections.open));
        stat(out, "total_connections", read(&connections.total));
        if self.shared.config.maxconns_fast {
            stat(out, "rejected_connections", read(&connections.rejected));
        }
        stat(out, "connection_structures", read(&connections.structures));
        zeros(
            out,
            &[
                "response_obj_oom",
                "response_obj_count",
                "response_obj_bytes",
                "read_buf_count",
                "read_buf_bytes",
                "read_buf_bytes_free",
                "read_buf_oom",
            ],
        );
        stat(out, "reserved_fds", 5 * self.shared.config.threads);
    }

    fn command_stats(&self, sum: &Snapshot, out: &mut StatSink<'_>) {
        for (name, value) in [
            ("cmd_get", sum.cmd_get),
            ("cmd_set", sum.cmd_set),
            ("cmd_flush", sum.cmd_flush),
            ("cmd_touch", sum.cmd_touch),
            ("cmd_meta", sum.cmd_meta),
            ("get_hits", sum.cmd_get.saturating_sub(sum.get_misses)),
            ("get_misses", sum.get_misses),
            ("get_expired", sum.get_expired),
            ("get_flushed", sum.get_flushed),
            ("delete_misses", sum.delete_misses),
            ("delete_hits", sum.delete_hits),
            ("incr_misses", sum.incr_misses),
            ("incr_hits", sum.incr_hits),
            ("decr_misses", sum.decr_misses),
            ("decr_hits", sum.decr_hits),
            ("cas_misses", sum.cas_misses),
            ("cas_hits", sum.cas_hits),
            ("cas_badval", sum.cas_badval),
            ("touch_hits", sum.touch_hits),
            ("touch_misses", sum.touch_misses),
            ("store_too_large", sum.store_too_large),
            ("store_no_memory", sum.store_no_memory),
            ("auth_cmds", sum.auth_cmds),
            ("auth_errors", sum.auth_errors),
        ] {
            stat(out, name, value);
        }
        if self.shared.config.idle_timeout.is_some() {
            stat(out, "idle_kicks", sum.idle_kicks);
        }
        stat(out, "bytes_read", sum.bytes_read);
        stat(out, "bytes_written", sum.bytes_written);
    }

    fn network_stats(&self, sum: &Snapshot, out: &mut StatSink<'_>) {
        let connections = &self.shared.connections;
        let accepting = connections.accepting.load(Ordering::Relaxed);
        let disabled = connections.listen_disabled.load(Ordering::Relaxed);
        stat(out, "limit_maxbytes", self.store.memory_limit());
        stat(out, "accepting_conns", u8::from(accepting));
        stat(out, "listen_disabled_num", disabled);
        let disabled_us = connections.disabled_us.load(Ordering::Relaxed);
        stat(out, "time_in_listen_disabled_us", disabled_us);
        stat(out, "threads", self.shared.config.threads);
        stat(out, "conn_yields", sum.conn_yields);
    }

    fn memory_stats(&self, sum: &Snapshot, out: &mut StatSink<'_>) {
        let buckets = self.store.index_bytes() / 8;
        stat(out, "hash_power_level", buckets.max(1).ilog2());
        stat(out, "hash_bytes", self.store.index_bytes());
        stat(out, "hash_is_expanding", 0);
        stat(out, "slab_reassign_rescues", sum.items_moved);
        zeros(
            out,
            &[
                "slab_reassign_chunk_rescues",
                "slab_reassign_inline_reclaim",
                "slab_reassign_busy_items",
                "slab_reassign_busy_deletes",
                "slab_reassign_busy_nomem",
                "slab_reassign_last_busy_status",
                "slab_reassign_running",
            ],
        );
        stat(out, "slabs_moved", sum.pages_moved);
        zeros(
            out,
            &[
                "lru_crawler_running",
                "lru_crawler_starts",
                "lru_maintainer_juggles",
                "malloc_fails",
                "log_worker_dropped",
                "log_worker_written",
                "log_watcher_skipped",
                "log_watcher_sent",
                "log_watchers",
                "unexpected_napi_ids",
                "round_robin_fallback",
            ],
        );
    }

    fn tls_stats(&self, out: &mut StatSink<'_>) {
        let (Some(tls), Some(settings)) = (&self.shared.tls, &self.shared.config.tls) else {
            return;
        };
        let counters = &tls.counters;
        let read = |number: &crate::sync::AtomicU64| number.load(Ordering::Relaxed);
        if settings.session_cache {
            stat(out, "ssl_new_sessions", read(&counters.new_sessions));
        }
        stat(out, "ssl_proto_errors", read(&counters.protocol_errors));
        let handshakes = read(&counters.handshake_errors);
        stat(out, "ssl_handshake_errors", handshakes);
        stat(out, "time_since_server_cert_refresh", tls.age());
    }

    fn item_stats(&self, sum: &Snapshot, out: &mut StatSink<'_>) {
        stat(out, "bytes", sum.item_bytes);
        stat(out, "curr_items", sum.items);
        stat(out, "total_items", sum.total_items);
        stat(out, "slab_global_page_pool", 0);
        stat(out, "expired_unfetched", sum.expired_unfetched);
        stat(out, "evicted_unfetched", sum.evicted_unfetched);
        stat(out, "evicted_active", 0);
        stat(out, "evictions", sum.evictions);
        stat(out, "reclaimed", sum.reclaimed);
        zeros(
            out,
            &[
                "crawler_reclaimed",
                "crawler_items_checked",
                "lrutail_reflocked",
                "moves_to_cold",
                "moves_to_warm",
                "moves_within_lru",
                "direct_reclaims",
                "lru_bumps_dropped",
            ],
        );
    }

    /// The order is that of memcached's `process_stat_settings`.
    fn settings(&mut self, out: &mut StatSink<'_>) {
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
        stat(
            out,
            "udpport",
            config.udp.first().map_or(0, |udp| udp.address.port()),
        );
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
        stat(out, "detail_enabled", yes_no(config.detail));
        stat(out, "reqs_per_event", config.requests_per_event);
        stat(out, "cas_enabled", yes_no(config.cas));
        stat(out, "tcp_backlog", config.backlog);
        let only = |mode| {
            let mut listeners = config.listeners.iter();
            listeners.all(|listener| listener.protocol == mode)
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
        for (name, value) in [
            ("slab_reassign", "yes"),
            ("slab_automove", "1"),
            ("slab_automove_ratio", "0.80"),
            ("slab_automove_window", "30"),
            ("slab_chunk_max", "32704"),
            ("lru_crawler", "yes"),
            ("lru_crawler_sleep", "100"),
            ("lru_crawler_tocrawl", "0"),
            ("tail_repair_time", "0"),
            ("flush_enabled", yes_no(config.flush)),
            ("dump_enabled", yes_no(config.dump)),
            ("hash_algorithm", HASH_NAME),
            ("lru_maintainer_thread", "yes"),
            ("lru_segmented", "no"),
            ("hot_lru_pct", "20"),
            ("warm_lru_pct", "40"),
            ("hot_max_factor", "0.20"),
            ("warm_max_factor", "2.00"),
            ("temp_lru", "no"),
            ("temporary_ttl", "61"),
        ] {
            stat(out, name, value);
        }
        let idle = config.idle_timeout.map_or(0, |timeout| timeout.as_secs());
        stat(out, "idle_timeout", idle);
        for (name, value) in [
            ("watcher_logbuf_size", "262144"),
            ("worker_logbuf_size", "65536"),
            ("read_buf_mem_limit", "0"),
            ("track_sizes", "no"),
            ("inline_ascii_response", "no"),
            ("ssl_enabled", yes_no(config.tls.is_some())),
        ] {
            stat(out, name, value);
        }
        self.tls_settings(out);
        for (name, value) in [
            ("num_napi_ids", "(null)"),
            ("memory_file", "(null)"),
            ("client_flags_size", "4"),
        ] {
            stat(out, name, value);
        }
    }

    fn tls_settings(&self, out: &mut StatSink<'_>) {
        let Some(tls) = &self.shared.config.tls else {
            return;
        };
        let key = tls.key.as_ref().unwrap_or(&tls.chain);
        let authorities = tls.ca.as_ref().map(|path| path.display().to_string());
        // As the bits of OpenSSL that memcached prints.
        let verify_mode = [0, 1, 3, 7].get(usize::from(tls.verify_mode));
        let key_format = match tls.key_format {
            KeyFormat::Pem => 1,
            KeyFormat::Der => 2,
        };
        let version = match tls.min_version {
            TlsVersion::V12 => "tlsv1.2",
            TlsVersion::V13 => "tlsv1.3",
        };
        stat(out, "ssl_chain_cert", tls.chain.display());
        stat(out, "ssl_key", key.display());
        stat(out, "ssl_verify_mode", verify_mode.unwrap_or(&0));
        stat(out, "ssl_keyformat", key_format);
        let ciphers = tls.ciphers.as_deref().unwrap_or("NULL");
        stat(out, "ssl_ciphers", ciphers);
        stat(out, "ssl_ca_cert", authorities.as_deref().unwrap_or("NULL"));
        stat(out, "ssl_wbuf_size", tls.write_buffer);
        stat(out, "ssl_session_cache", yes_no(tls.session_cache));
        stat(out, "ssl_kernel_tls", yes_no(tls.kernel));
        stat(out, "ssl_min_version", version);
    }
}

fn zeros(out: &mut StatSink<'_>, names: &[&str]) {
    for name in names {
        stat(out, name, 0);
    }
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
