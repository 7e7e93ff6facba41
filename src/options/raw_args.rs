//! The arguments before validation. `flags` and `suboptions` fill them in;
//! `validate` checks them against each other. Numbers are parsed, but may be out
//! of range.

use std::path::PathBuf;

use super::tls::RawTlsArgs;
use crate::config::{LogFormat, Observe, Tunables};

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
    /// `-h`, `-i` or `-V`.
    pub(super) ask: Option<Ask>,
    /// `-p`; 0 disables TCP, -1 selects a free port.
    pub(super) port: Option<i64>,
    /// `-U`; 0 disables UDP, -1 selects a free port.
    pub(super) udp_port: Option<i64>,
    /// `--udp-reply-limit` in bytes.
    pub(super) udp_reply_limit: Option<i64>,
    /// `--client-memory-limit` in MiB.
    pub(super) client_memory_limit: Option<i64>,
    /// `-o read_buf_mem_limit` in MiB; 0 leaves the client memory limit as it is.
    pub(super) read_buf_mem_limit: usize,
    /// `-s`.
    pub(super) unix_socket: Option<PathBuf>,
    /// `-a`: permissions of the unix socket.
    pub(super) unix_mask: Option<u32>,
    /// The value of each `-l`, not split at commas.
    pub(super) listen: Vec<String>,
    /// The value of each `--admin-listen`, not split at commas.
    pub(super) admin_listen: Vec<String>,
    /// The value of each `--admin-host`.
    pub(super) admin_hosts: Vec<String>,
    /// `--admin-auth`.
    pub(super) admin_auth: bool,
    /// `--slow-log-ms`, and the words of `-o` that turn recorders off.
    pub(super) observe: Observe,
    /// `--log-format`.
    pub(super) log_format: LogFormat,
    /// `--log-file`.
    pub(super) log_file: Option<PathBuf>,
    /// `-B`.
    pub(super) protocol: Option<String>,
    /// `-A`.
    pub(super) shutdown_command: bool,
    /// `-d`.
    pub(super) daemonize: bool,
    /// `-r`.
    pub(super) core_dumps: bool,
    /// `-u`.
    pub(super) user: Option<String>,
    /// `-P`.
    pub(super) pid_file: Option<PathBuf>,
    /// `-m` in MiB.
    pub(super) memory_mib: Option<i64>,
    /// `-M`.
    pub(super) no_evictions: bool,
    /// `-c`.
    pub(super) connections: Option<i64>,
    /// `-k`.
    pub(super) lock_memory: bool,
    /// Number of `-v`.
    pub(super) verbosity: u32,
    /// `-f`.
    pub(super) growth_factor: Option<f64>,
    /// `-n` in bytes.
    pub(super) chunk_size: Option<i64>,
    /// `-D`; only its first byte is used.
    pub(super) delimiter: Option<String>,
    /// `-t`.
    pub(super) threads: Option<i64>,
    /// `-R`.
    pub(super) requests_per_event: Option<i64>,
    /// `-C`.
    pub(super) no_cas: bool,
    /// `-b`.
    pub(super) backlog: Option<i64>,
    /// `-I` in bytes.
    pub(super) item_size: Option<i64>,
    /// `-F`.
    pub(super) no_flush: bool,
    /// `-X`.
    pub(super) no_dump: bool,
    /// `-W`.
    pub(super) no_watch: bool,
    /// `-S`.
    pub(super) sasl: bool,
    /// `-N`.
    pub(super) napi_ids: Option<i64>,
    /// `-o maxconns_fast` or `-o no_maxconns_fast`.
    pub(super) maxconns_fast: Option<bool>,
    /// `-o hashpower`; only reported.
    pub(super) hashpower: Option<i64>,
    /// Key dumps begin without `OK` (`-o bare_dumps`).
    pub(super) bare_dumps: bool,
    /// Index of the eviction policy in `suboptions::EVICTION_KINDS`.
    pub(super) eviction: Option<i64>,
    /// Values that are only reported by `stats settings` or used by the crawler.
    pub(super) tunables: Tunables,
    /// `-o idle_timeout` in seconds; 0 for none.
    pub(super) idle_timeout_seconds: Option<i64>,
    /// `-Z` and the `ssl_` words of `-o`.
    pub(super) tls: RawTlsArgs,
    /// `-o drop_privileges`.
    pub(super) drop_privileges: bool,
    /// `-Y`.
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
