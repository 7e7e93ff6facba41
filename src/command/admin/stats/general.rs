//! `stats` without arguments: process, connections, commands, network, memory,
//! TLS and items.

use nix::sys::resource::{UsageWho, getrusage};

use crate::command::admin::control::VERSION;
use crate::command::admin::stat_sink::{StatSink, stat};
use crate::command::executor::Executor;
use crate::config::Tunables;
use crate::limits::{BATCH_SOCKETS_MAX, READ_BUFFER_BYTES};
use crate::stats::Snapshot;
use crate::sync::Ordering;
use crate::time::unix_seconds;

impl Executor<'_> {
    /// Writes the group, in memcached's order.
    pub(in crate::command) fn general(&mut self, out: &mut StatSink<'_>) {
        let sum = self.shared.since_reset(&self.shared.stats.snapshot());
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
        stat(out, "uptime", self.shared.clock.uptime(self.now));
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
        let stalled = self.stalled;
        let response_oom = (read(&stalled.refused) + read(&stalled.cut_output)) as usize;
        // Read buffers are allocated once per worker and never freed.
        let buffers = self.shared.config.threads * BATCH_SOCKETS_MAX;
        for (name, value) in [
            ("response_obj_oom", response_oom),
            ("response_obj_count", self.shared.config.threads),
            ("response_obj_bytes", stalled.output_bytes()),
            ("read_buf_count", buffers),
            (
                "read_buf_bytes",
                buffers * READ_BUFFER_BYTES + stalled.input_bytes(),
            ),
            ("read_buf_bytes_free", buffers * READ_BUFFER_BYTES),
            ("read_buf_oom", read(&stalled.cut_input) as usize),
        ] {
            stat(out, name, value);
        }
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
        let tunables = *self.shared.runtime.tunables();
        if tunables.reassign {
            stat(out, "slab_reassign_rescues", sum.items_moved);
            zeros(
                out,
                &[
                    "slab_reassign_chunk_rescues",
                    "slab_reassign_inline_reclaim",
                    "slab_reassign_busy_items",
                    "slab_reassign_busy_deletes",
                    "slab_reassign_busy_nomem",
                ],
            );
            stat(out, "slab_reassign_last_busy_status", "none");
            stat(out, "slab_reassign_running", 0);
            stat(out, "slabs_moved", sum.pages_moved);
        }
        self.background_stats(sum, &tunables, out);
    }

    fn background_stats(&self, sum: &Snapshot, tunables: &Tunables, out: &mut StatSink<'_>) {
        if tunables.crawler {
            let crawl = &self.shared.runtime.crawl;
            let starts = crawl.starts.load(Ordering::Relaxed);
            stat(out, "lru_crawler_running", u64::from(crawl.is_running()));
            stat(out, "lru_crawler_starts", starts);
        }
        if tunables.maintainer {
            stat(out, "lru_maintainer_juggles", sum.juggles);
        }
        let events = self.shared.events.totals();
        for (name, value) in [
            ("malloc_fails", 0),
            ("log_worker_dropped", events.dropped),
            ("log_worker_written", events.written),
            ("log_watcher_skipped", events.skipped),
            ("log_watcher_sent", events.sent),
            ("log_watchers", events.watchers),
            ("unexpected_napi_ids", 0),
            ("round_robin_fallback", 0),
        ] {
            stat(out, name, value);
        }
    }

    fn item_stats(&self, sum: &Snapshot, out: &mut StatSink<'_>) {
        stat(out, "bytes", sum.item_bytes);
        stat(out, "curr_items", sum.items);
        stat(out, "total_items", sum.total_items);
        stat(out, "slab_global_page_pool", self.store.idle_pages());
        stat(out, "expired_unfetched", sum.expired_unfetched);
        stat(out, "evicted_unfetched", sum.evicted_unfetched);
        let maintainer = self.shared.runtime.tunables().maintainer;
        if maintainer {
            stat(out, "evicted_active", 0);
        }
        stat(out, "evictions", sum.evictions);
        stat(out, "reclaimed", sum.reclaimed);
        stat(out, "crawler_reclaimed", sum.crawler_reclaimed);
        stat(out, "crawler_items_checked", sum.crawler_items_checked);
        zeros(out, &["lrutail_reflocked"]);
        if maintainer {
            let queues = ["moves_to_cold", "moves_to_warm", "moves_within_lru"];
            zeros(out, &queues);
            stat(out, "direct_reclaims", sum.direct_reclaims);
            zeros(out, &["lru_bumps_dropped"]);
        }
        // memcached has no such lines, so a server without invalidations has none
        // either. `stats invalidation` always has them.
        if sum.invalidations > 0 {
            stat(out, "invalidations", sum.invalidations);
            stat(out, "invalidated_items", sum.invalidated_items);
        }
    }
}

fn zeros(out: &mut StatSink<'_>, names: &[&str]) {
    for name in names {
        stat(out, name, 0);
    }
}
