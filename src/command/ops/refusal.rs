//! Reasons to refuse the value of a storage command.

use crate::command::executor::Executor;

/// Reason to refuse a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::command) enum Refusal {
    TooLarge,
    NoMemory,
    /// The data block does not end with CRLF at its declared length.
    BadChunk,
}

impl Executor<'_> {
    /// Counts a refused text or meta command; memcached does not count binary
    /// ones.
    #[cold]
    pub(in crate::command) fn count_refused(&self, refusal: Refusal) {
        let counters = &self.local.counters;
        match refusal {
            Refusal::TooLarge => counters.store_too_large.add(1),
            Refusal::NoMemory => counters.store_no_memory.add(1),
            Refusal::BadChunk => {}
        }
    }
}
