//! What the start of the server kept of the last one's items.

use std::time::Duration;

/// Result of opening a memory file (`-e`, `--save-path`), for `stats restart`
/// and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestartReport {
    /// Why the server started empty; no text if it did not.
    pub empty_reason: String,
    /// Duration of loading.
    pub took: Duration,
    /// Time since the last stop.
    pub away: Duration,
    /// Items kept.
    pub kept: u64,
    /// Items that were expired.
    pub expired: u64,
    /// Items that `flush_all` had invalidated.
    pub flushed: u64,
    /// Items that were damaged, or in damaged pages.
    pub damaged: u64,
    /// Items for which the memory limit had no room.
    pub over_limit: u64,
}
