//! What the start of the server kept of the last one's items.

use std::time::Duration;

/// Result of opening a memory file (`-e`, `--save-path`), for `stats restart`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestartReport {
    /// Why the server started empty; no text if it did not.
    pub empty_reason: String,
    /// Duration of loading.
    pub took: Duration,
    /// What was kept.
    pub restored: Restored,
}

/// Items that were not kept, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Expired, also while the server was away.
    pub expired: u64,
    /// Invalidated by `flush_all` before the stop.
    pub flushed: u64,
    /// Damaged in the file, or in a damaged page.
    pub damaged: u64,
    /// Evicted, or not loaded, because the memory limit is lower than before.
    pub over_limit: u64,
}

impl Dropped {
    /// Adds the counts of another thread.
    pub fn add(&mut self, other: Self) {
        self.expired += other.expired;
        self.flushed += other.flushed;
        self.damaged += other.damaged;
        self.over_limit += other.over_limit;
    }

    /// Returns the sum.
    pub fn total(&self) -> u64 {
        self.expired + self.flushed + self.damaged + self.over_limit
    }
}

/// Result of loading a memory file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Items kept.
    pub kept: u64,
    /// Items not kept.
    pub dropped: Dropped,
    /// Time that the server was away.
    pub away: Duration,
}
