//! The lines of `stats settings`, in memcached's order.

use std::sync::LazyLock;

use super::flags::FLAGS;
use super::report::{Current, Report, Source};
use super::words::WORDS;

/// Names of the lines, in the order of memcached's `process_stat_settings`. The
/// row of an option, or [`OTHERS`], says how each is written.
pub(super) const ORDER: &str = "maxbytes maxconns tcpport udpport inter verbosity oldest \
    evictions domain_socket umask shutdown_command growth_factor chunk_size num_threads \
    num_threads_per_udp stat_key_prefix detail_enabled reqs_per_event cas_enabled tcp_backlog \
    binding_protocol auth_enabled_sasl auth_enabled_ascii item_size_max maxconns_fast \
    hashpower_init slab_reassign slab_automove slab_automove_ratio slab_automove_window \
    slab_chunk_max lru_crawler lru_crawler_sleep lru_crawler_tocrawl tail_repair_time \
    flush_enabled dump_enabled hash_algorithm lru_maintainer_thread lru_segmented hot_lru_pct \
    warm_lru_pct hot_max_factor warm_max_factor temp_lru temporary_ttl idle_timeout \
    watcher_logbuf_size worker_logbuf_size read_buf_mem_limit track_sizes inline_ascii_response \
    ssl_enabled ssl_chain_cert ssl_key ssl_verify_mode ssl_keyformat ssl_ciphers ssl_ca_cert \
    ssl_wbuf_size ssl_session_cache ssl_kernel_tls ssl_min_version num_napi_ids memory_file \
    client_flags_size objective";

/// Lines that no option changes.
const OTHERS: [Report; 2] = [
    Report {
        name: "oldest",
        value: Source::Always(|now| now.flush_at.to_string()),
    },
    Report {
        name: "client_flags_size",
        value: Source::Always(|_| "4".to_owned()),
    },
];

static LINES: LazyLock<Vec<Report>> = LazyLock::new(|| {
    let find = |name| reports().find(|report| report.name == name);
    ORDER.split_whitespace().filter_map(find).collect()
});

/// Returns names and values of the lines of `stats settings`.
pub fn lines(current: &Current<'_>) -> impl Iterator<Item = (&'static str, String)> {
    LINES.iter().filter_map(|report| report.line(current))
}

/// Returns the lines that the tables declare.
pub(super) fn reports() -> impl Iterator<Item = Report> {
    let rows = FLAGS.iter().chain(WORDS);
    rows.flat_map(|row| row.reports).flatten().chain(OTHERS)
}
