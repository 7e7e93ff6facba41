//! Conditions and outcomes of storage commands.

use crate::events::StoreStatus;
use crate::protocol::cas::Cas;
use crate::protocol::meta::request::{MetaFlags, MetaMode};
use crate::protocol::request::StoreLine;
use crate::protocol::verb::StoreVerb;
use crate::store::Growth;

/// What follows the value in a text client's data block, and in the replies to
/// it. Items do not have it.
pub(in crate::command) const VALUE_END: &[u8] = b"\r\n";

/// Condition and effect of a storage command.
#[derive(Clone, Copy)]
pub(in crate::command) struct Condition {
    pub(in crate::command) verb: StoreVerb,
    /// CAS value to compare with. `None` matches nothing for `cas`, anything
    /// otherwise.
    pub(in crate::command) cas: Option<Cas>,
    /// `ms` with `I`: an older CAS value also stores, and marks the item stale.
    pub(in crate::command) stale_wins: bool,
    /// `append` and `prepend` create the item on a miss.
    pub(in crate::command) vivify: bool,
    /// CAS value of the new item; the next one if `None`.
    pub(in crate::command) new_cas: Option<u64>,
    /// A refusal removes the old item, which is outdated.
    pub(in crate::command) drops_old: bool,
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
    /// Returns what the value does to a present one.
    pub(in crate::command) fn growth(&self) -> Growth {
        match self.verb.extends() {
            true => Growth::Joins,
            false => Growth::Replaces,
        }
    }

    fn plain(verb: StoreVerb, cas: Option<Cas>) -> Self {
        Self {
            verb,
            cas,
            stale_wins: false,
            vivify: false,
            new_cas: None,
            drops_old: verb == StoreVerb::Set,
        }
    }

    /// Returns the condition of a classic command.
    #[inline]
    pub(in crate::command) fn classic(line: &StoreLine<'_>) -> Self {
        Self::plain(line.verb, line.cas)
    }

    /// Returns the condition of a packet. With a CAS value, `set`, `add` and
    /// `replace` act alike.
    #[inline]
    pub(in crate::command) fn packet(verb: StoreVerb, cas: Option<Cas>) -> Self {
        let condition = Self::plain(verb, cas);
        match (cas, verb.extends()) {
            (Some(_), false) => Self {
                verb: StoreVerb::Cas,
                ..condition
            },
            _ => condition,
        }
    }

    /// Returns the condition of `ms`.
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
            cas: flags.cas.and_then(Cas::new),
            stale_wins: flags.invalidate,
            vivify: flags.vivify.is_some(),
            // memcached reads `E` only when it stores, where 0 means absent.
            new_cas: flags.new_cas.filter(|cas| *cas != 0),
            drops_old: true,
        }
    }
}

impl Outcome {
    /// Returns the status as watchers see it.
    pub(in crate::command) fn status(self) -> StoreStatus {
        match self {
            Self::Stored { .. } => StoreStatus::Stored,
            Self::NotStored => StoreStatus::NotStored,
            Self::Exists => StoreStatus::Exists,
            Self::NotFound => StoreStatus::NotFound,
        }
    }
}
