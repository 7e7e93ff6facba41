//! Settings under construction. The rows of `flags` and `words` fill them in,
//! and `validate` completes them.

use std::path::PathBuf;

use super::error::CliError;
use super::tls::TlsDraft;
use crate::config::{Config, Objective, Process};

/// A text to print instead of starting the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// `-h`
    Help,
    /// `--help all`
    HelpAll,
    /// `-i`
    License,
    /// `-V`
    Version,
    /// `--check-config`
    Check,
}

/// Flags of which only the last value is judged, and not before all options are
/// read: `-t 0 -t 4` is valid, and `-h -t 0` prints the help text. Their faults
/// are reported in this order.
pub(super) const LATE: [&str; 10] = [
    "threads",
    "memory-limit",
    "udp-reply-limit",
    "client-memory-limit",
    "conn-limit",
    "max-reqs-per-event",
    "max-item-size",
    "prefix-delimiter",
    "slab-min-size",
    "slab-growth-factor",
];

/// Settings under construction, and those arguments whose effect depends on other
/// arguments. `None` and empty mean that the option was not given.
#[derive(Default)]
pub(super) struct Draft {
    /// `-h`, `-i` or `-V`.
    pub(super) ask: Option<Ask>,
    /// Working directory at the start.
    pub(super) directory: PathBuf,
    /// Settings of the server.
    pub(super) config: Config,
    /// Settings of the process.
    pub(super) process: Process,
    /// Fault of the last value of each flag in [`LATE`].
    pub(super) late_faults: [Option<CliError>; LATE.len()],
    /// `-p`; 0 disables TCP, -1 selects a free port.
    pub(super) port: Option<i64>,
    /// `-U`; 0 disables UDP, -1 selects a free port.
    pub(super) udp_port: Option<i64>,
    /// `-s`.
    pub(super) unix_socket: Option<PathBuf>,
    /// `-a`: permissions of the unix socket.
    pub(super) unix_mask: Option<u32>,
    /// The value of each `-l`, not split at commas.
    pub(super) listen: Vec<String>,
    /// The value of each `--admin-listen`, not split at commas.
    pub(super) admin_listen: Vec<String>,
    /// `-B`.
    pub(super) protocol: Option<String>,
    /// `--client-memory-limit` in bytes; its default depends on `-m`.
    pub(super) client_memory_limit: Option<usize>,
    /// `-o objective`, which only one policy has.
    pub(super) objective: Option<Objective>,
    /// `-N`, which is limited by `-t`.
    pub(super) napi_ids: Option<i64>,
    /// `-Z` and the `ssl_` words of `-o`.
    pub(super) tls: TlsDraft,
}

impl Draft {
    /// Adds the place to the faults that are judged later, when it is not known any
    /// more.
    pub(super) fn place_late_faults(&mut self, place: impl Fn() -> String) {
        for late in &mut self.late_faults {
            *late = late.take().map(|fault| fault.at(place()));
        }
    }

    /// Adds a warning for the operator unless it is already there.
    pub(super) fn warn(&mut self, line: String) {
        if !self.process.warnings.contains(&line) {
            self.process.warnings.push(line);
        }
    }

    /// Adds a notice for the operator unless it is already there.
    pub(super) fn note(&mut self, line: String) {
        if !self.process.notices.contains(&line) {
            self.process.notices.push(line);
        }
    }
}
