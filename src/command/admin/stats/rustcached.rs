//! `stats rustcached`: statistics that memcached does not have.

use crate::command::admin::stat_sink::{StatSink, stat};
use crate::command::executor::Executor;
use crate::sync::Ordering;

impl Executor<'_> {
    /// Writes the group:
    ///
    /// - `version`: this server's own version.
    /// - `log_lines_dropped`: log lines since the start that did not reach
    ///   standard error.
    /// - `client_*`: memory in bytes held for stalled clients: unsent output,
    ///   incomplete input, and items pinned or being received.
    /// - `clients_cut_*`: clients disconnected because of each of these.
    /// - `proxy_header_errors`: connections closed because of the PROXY protocol.
    /// - `cluster_*`: the list of servers for clients; 0 if there is none.
    pub(in crate::command) fn rustcached(&self, out: &mut StatSink<'_>) {
        stat(out, "version", env!("CARGO_PKG_VERSION"));
        stat(out, "log_lines_dropped", self.shared.log.dropped());
        let stalled = self.stalled;
        stat(out, "client_memory_limit", stalled.limit());
        stat(out, "client_output_bytes", stalled.output_bytes());
        stat(out, "client_input_bytes", stalled.input_bytes());
        stat(out, "client_item_bytes", stalled.item_bytes());
        for (name, count) in [
            ("clients_cut_output", &stalled.cut_output),
            ("clients_cut_input", &stalled.cut_input),
            ("clients_cut_items", &stalled.cut_items),
            ("retrievals_refused", &stalled.refused),
        ] {
            stat(out, name, count.load(Ordering::Relaxed));
        }
        let sum = self.shared.since_reset(&self.shared.stats.snapshot());
        stat(out, "proxy_header_errors", sum.proxy_header_errors);
        let list = self.shared.cluster.as_ref().map(|cluster| cluster.list());
        let (version, nodes) = list.map_or((0, 0), |list| (list.version, list.nodes));
        stat(out, "cluster_version", version);
        stat(out, "cluster_nodes", nodes);
        out.end();
    }
}
