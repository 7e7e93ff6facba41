//! The arguments before validation. `flags` and `suboptions` fill them in;
//! `validate` checks them against each other. Numbers are parsed, but may be out
//! of range.

use std::path::PathBuf;

use super::tls::RawTlsArgs;
use crate::config::Tunables;

/// A text to print instead of starting the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// `-h`
    Help,
    /// `-i`
    License,
    /// `-V`
    Version,
}

/// The arguments; `None` and empty mean that the option was not given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RawArgs {
    pub(super) ask: Option<Ask>,
    pub(super) port: Option<i64>,
    pub(super) udp_port: Option<i64>,
    pub(super) udp_reply_limit: Option<i64>,
    pub(super) client_memory_limit: Option<i64>,
    /// `-o read_buf_mem_limit` in MiB; 0 for no limit.
    pub(super) read_buf_mem_limit: usize,
    pub(super) unix_socket: Option<PathBuf>,
    pub(super) unix_mask: Option<u32>,
    /// The value of each `-l`, not split at commas.
    pub(super) listen: Vec<String>,
    pub(super) protocol: Option<String>,
    pub(super) shutdown_command: bool,
    pub(super) daemonize: bool,
    pub(super) core_dumps: bool,
    pub(super) user: Option<String>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) memory_mib: Option<i64>,
    pub(super) no_evictions: bool,
    pub(super) connections: Option<i64>,
    pub(super) lock_memory: bool,
    pub(super) verbosity: u32,
    pub(super) growth_factor: Option<f64>,
    pub(super) chunk_size: Option<i64>,
    pub(super) delimiter: Option<String>,
    pub(super) threads: Option<i64>,
    pub(super) requests_per_event: Option<i64>,
    pub(super) no_cas: bool,
    pub(super) backlog: Option<i64>,
    pub(super) item_size: Option<i64>,
    pub(super) no_flush: bool,
    pub(super) no_dump: bool,
    pub(super) no_watch: bool,
    pub(super) sasl: bool,
    pub(super) napi_ids: Option<i64>,
    pub(super) maxconns_fast: Option<bool>,
    pub(super) hashpower: Option<i64>,
    /// Key dumps begin without `OK` (`-o bare_dumps`).
    pub(super) bare_dumps: bool,
    /// Index of the eviction policy in `suboptions::EVICTION_KINDS`.
    pub(super) eviction: Option<i64>,
    /// Values that are only reported by `stats settings` or used by the crawler.
    pub(super) tunables: Tunables,
    pub(super) idle_timeout_seconds: Option<i64>,
    pub(super) tls: RawTlsArgs,
    pub(super) drop_privileges: bool,
    pub(super) auth_file: Option<PathBuf>,
    /// Notices about options that are accepted and have no effect.
    pub(super) notices: Vec<String>,
}

impl RawArgs {
    /// Adds a notice for the operator unless it is already there.
    pub(super) fn note(&mut self, line: String) {
        if !self.notices.contains(&line) {
            self.notices.push(line);
        }
    }
}
