//! The arguments as typed, before anything is checked against anything
//! else. `flags` and `suboptions` fill it in; `validate` empties it. Numbers are
//! numbers here, but may still be out of range.

use std::path::PathBuf;

use super::tls::RawTlsArgs;
use crate::config::Tunables;

/// A text to print instead of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// `-h`
    Help,
    /// `-i`
    License,
    /// `-V`
    Version,
}

/// The arguments as typed; `None` and empty mean that the option was not given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RawArgs {
    pub(super) ask: Option<Ask>,
    pub(super) port: Option<i64>,
    pub(super) udp_port: Option<i64>,
    pub(super) udp_reply_limit: Option<i64>,
    pub(super) client_memory_limit: Option<i64>,
    /// `-o read_buf_mem_limit`, in MiB; 0 sets none.
    pub(super) read_buf_mem_limit: usize,
    pub(super) unix_socket: Option<PathBuf>,
    pub(super) unix_mask: Option<u32>,
    /// Each `-l` as typed, with its commas.
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
    /// Key dumps begin without OK.
    pub(super) bare_dumps: bool,
    /// Which of the kinds of eviction.
    pub(super) eviction: Option<i64>,
    /// What words set that only `stats settings` tells, or the crawler obeys.
    pub(super) tunables: Tunables,
    pub(super) idle_timeout_seconds: Option<i64>,
    pub(super) tls: RawTlsArgs,
    pub(super) drop_privileges: bool,
    pub(super) auth_file: Option<PathBuf>,
    /// Lines about what was accepted and does nothing.
    pub(super) notices: Vec<String>,
}

impl RawArgs {
    /// Keeps a line for the operator, once.
    pub(super) fn note(&mut self, line: String) {
        if !self.notices.contains(&line) {
            self.notices.push(line);
        }
    }
}
