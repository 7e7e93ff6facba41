//! When a value is stored, and what became of it.

use crate::protocol::meta::encode::Status;
use crate::protocol::meta::request::{MetaFlags, MetaMode};
use crate::protocol::request::StoreLine;
use crate::protocol::verb::StoreVerb;

/// Condition and effect of a storage command.
#[derive(Clone, Copy)]
pub(in crate::command) struct Condition {
    pub(in crate::command) verb: StoreVerb,
    /// CAS value to compare with. 0 matches nothing for `cas`, anything
    /// otherwise.
    pub(in crate::command) cas: u64,
    /// `ms` with `I`: an older CAS value also stores, and marks the item stale.
    pub(in crate::command) stale_wins: bool,
    /// `append` and `prepend` create the item on a miss.
    pub(in crate::command) vivify: bool,
    /// CAS value of the new item; the next one if `None`.
    pub(in crate::command) new_cas: Option<u64>,
}

/// Outcome of a storage command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::command) enum Outcome {
    Stored { cas: u64, value_len: usize },
    NotStored,
    Exists,
    NotFound,
}

impl Condition {
    /// A condition of verb and CAS value only.
    pub(in crate::command) fn plain(verb: StoreVerb, cas: u64) -> Self {
        Self {
            verb,
            cas,
            stale_wins: false,
            vivify: false,
            new_cas: None,
        }
    }

    /// Returns whether a refusal removes the old item.
    pub(in crate::command) fn drops_stale(&self) -> bool {
        self.verb == StoreVerb::Set
    }

    pub(in crate::command) fn classic(line: &StoreLine<'_>) -> Self {
        Self::plain(line.verb, line.cas)
    }

    pub(in crate::command) fn meta(flags: &MetaFlags) -> Self {
        let verb = match (flags.mode, flags.cas) {
            (MetaMode::Add, _) => StoreVerb::Add,
            (MetaMode::Append, _) => StoreVerb::Append,
            (MetaMode::Prepend, _) => StoreVerb::Prepend,
            (_, Some(_)) => StoreVerb::Cas,
            (MetaMode::Replace, None) => StoreVerb::Replace,
            (_, None) => StoreVerb::Set,
        };
        Self {
            verb,
            cas: flags.cas.unwrap_or(0),
            stale_wins: flags.invalidate,
            vivify: flags.vivify.is_some(),
            // memcached reads `E` only when it stores, where 0 means absent.
            new_cas: flags.new_cas.filter(|cas| *cas != 0),
        }
    }

    /// Returns the command by its classic name.
    pub(in crate::command) fn command(self) -> &'static str {
        self.verb.name()
    }
}

impl Outcome {
    pub(in crate::command) fn classic(self) -> &'static str {
        match self {
            Self::Stored { .. } => "STORED",
            Self::NotStored => "NOT_STORED",
            Self::Exists => "EXISTS",
            Self::NotFound => "NOT_FOUND",
        }
    }

    pub(in crate::command) fn meta(self) -> Status {
        match self {
            Self::Stored { .. } => Status::Done,
            Self::NotStored => Status::NotStored,
            Self::Exists => Status::Exists,
            Self::NotFound => Status::NotFound,
        }
    }

    /// Returns the status as watchers see it.
    pub(in crate::command) fn status(self) -> &'static str {
        match self {
            Self::Stored { .. } => "stored",
            Self::NotStored => "not_stored",
            Self::Exists => "exists",
            Self::NotFound => "not_found",
        }
    }
}
