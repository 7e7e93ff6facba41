//! When a value is stored, and what became of it.

use crate::protocol::meta::request::MetaFlags;
use crate::protocol::request::StoreLine;
use crate::protocol::verb::StoreVerb;

/// When and how a value is stored.
#[derive(Clone, Copy)]
pub(in crate::command) struct Condition {
    pub(in crate::command) verb: StoreVerb,
    /// The CAS value to compare with; 0 compares nothing but for `cas`.
    pub(in crate::command) cas: u64,
    /// `ms` with `I`: an older CAS value stores as well, marked stale.
    pub(in crate::command) stale_wins: bool,
    /// `append` and `prepend` create the item on a miss.
    pub(in crate::command) vivify: bool,
    /// The CAS value the item gets; the next one if none is given.
    pub(in crate::command) new_cas: Option<u64>,
}

/// What became of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::command) enum Outcome {
    Stored { cas: u64, value_len: usize },
    NotStored,
    Exists,
    NotFound,
}

impl Condition {
    /// What a command with nothing but a verb and a CAS value asks for.
    pub(in crate::command) fn plain(verb: StoreVerb, cas: u64) -> Self {
        Self {
            verb,
            cas,
            stale_wins: false,
            vivify: false,
            new_cas: None,
        }
    }

    /// What the key had is stale if this fails for lack of room.
    pub(in crate::command) fn drops_stale(&self) -> bool {
        self.verb == StoreVerb::Set
    }

    pub(in crate::command) fn classic(line: &StoreLine<'_>) -> Self {
        Self::plain(line.verb, line.cas)
    }

    pub(in crate::command) fn meta(flags: &MetaFlags) -> Self {
        let verb = match (flags.mode, flags.cas) {
            (b'E', _) => StoreVerb::Add,
            (b'A', _) => StoreVerb::Append,
            (b'P', _) => StoreVerb::Prepend,
            (_, Some(_)) => StoreVerb::Cas,
            (b'R', None) => StoreVerb::Replace,
            (_, None) => StoreVerb::Set,
        };
        Self {
            verb,
            cas: flags.cas.unwrap_or(0),
            stale_wins: flags.invalidate,
            vivify: flags.vivify.is_some(),
            // To memcached, which asks for the value only now, 0 is none here.
            new_cas: flags.new_cas.filter(|cas| *cas != 0),
        }
    }

    /// The command, by its classic name.
    pub(in crate::command) fn command(self) -> &'static str {
        match self.verb {
            StoreVerb::Set => "set",
            StoreVerb::Add => "add",
            StoreVerb::Replace => "replace",
            StoreVerb::Append => "append",
            StoreVerb::Prepend => "prepend",
            StoreVerb::Cas => "cas",
        }
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

    pub(in crate::command) fn meta(self) -> &'static [u8] {
        match self {
            Self::Stored { .. } => b"HD",
            Self::NotStored => b"NS",
            Self::Exists => b"EX",
            Self::NotFound => b"NF",
        }
    }

    /// What a watcher is told.
    pub(in crate::command) fn status(self) -> &'static str {
        match self {
            Self::Stored { .. } => "stored",
            Self::NotStored => "not_stored",
            Self::Exists => "exists",
            Self::NotFound => "not_found",
        }
    }
}
