//! Refusals of storage commands before their value is considered: replies and
//! counters.

use crate::command::executor::Executor;
use crate::command::output::Output;
use crate::protocol::binary::encode::Status;
use crate::protocol::meta::request::OPAQUE_TOO_LONG;
use crate::protocol::text::encode;
use crate::store::{Hashed, ItemSpec};

/// Reason to refuse a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::command) enum Refusal {
    TooLarge,
    NoMemory,
    /// The data block does not end with CRLF at its declared length.
    BadChunk,
}

impl Refusal {
    /// Returns the reply line of the text and meta protocols.
    pub(in crate::command) fn text(self) -> &'static str {
        match self {
            Self::TooLarge => "SERVER_ERROR object too large for cache",
            Self::NoMemory => "SERVER_ERROR out of memory storing object",
            Self::BadChunk => "CLIENT_ERROR bad data chunk",
        }
    }

    /// Returns the status of the binary protocol.
    pub(in crate::command) fn status(self) -> Status {
        match self {
            Self::TooLarge => Status::TooLarge,
            Self::NoMemory => Status::OutOfMemory,
            Self::BadChunk => Status::Invalid,
        }
    }
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

    /// Refuses an `ms` whose opaque is over its limit. memcached detects this
    /// after it made the item, so the command counts as a set.
    #[cold]
    pub(in crate::command) fn refuse_opaque(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        out: &mut Output,
    ) {
        match self.begin(key, spec, true) {
            Err(refusal) => {
                self.count_refused(refusal);
                encode::line(&mut out.bytes, refusal.text());
            }
            Ok(new) => {
                self.store.discard(self.local, new);
                encode::line(&mut out.bytes, OPAQUE_TOO_LONG);
            }
        }
    }
}
