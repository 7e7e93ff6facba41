//! Why a storage command fails before its value is looked at, and what is
//! answered and counted then.

use crate::command::executor::Executor;
use crate::command::output::Output;
use crate::protocol::binary::encode::Status;
use crate::protocol::meta::request::OPAQUE_TOO_LONG;
use crate::protocol::text::encode;
use crate::store::{Hashed, ItemSpec};

/// Why a value is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::command) enum Refusal {
    TooLarge,
    NoMemory,
    /// It does not end where its line said.
    BadChunk,
}

impl Refusal {
    /// The answer to a line.
    pub(in crate::command) fn text(self) -> &'static str {
        match self {
            Self::TooLarge => "SERVER_ERROR object too large for cache",
            Self::NoMemory => "SERVER_ERROR out of memory storing object",
            Self::BadChunk => "CLIENT_ERROR bad data chunk",
        }
    }

    /// The answer to a packet.
    pub(in crate::command) fn status(self) -> Status {
        match self {
            Self::TooLarge => Status::TooLarge,
            Self::NoMemory => Status::OutOfMemory,
            Self::BadChunk => Status::Invalid,
        }
    }
}

impl Executor<'_> {
    /// Counts a line that is refused; memcached does not count packets.
    #[cold]
    pub(in crate::command) fn count_refused(&self, refusal: Refusal) {
        let counters = &self.local.counters;
        match refusal {
            Refusal::TooLarge => counters.store_too_large.add(1),
            Refusal::NoMemory => counters.store_no_memory.add(1),
            Refusal::BadChunk => {}
        }
    }

    /// Answers an `ms` whose opaque is over its limit. memcached notices when
    /// the item is made, so that it counts as a set.
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
