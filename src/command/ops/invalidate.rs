//! Invalidations of prefixes and tags.

use crate::command::executor::Executor;
use crate::events::{EventKind, Kinds};
use crate::limits::{KEY_MAX_BYTES, TAG_MAX_BYTES};
use crate::protocol::verb::NameKind;
use crate::store::{BadName, Effect, Name};

/// Reason to refuse an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::command) enum NotInvalidated {
    /// The server forbids it (`-F`).
    Forbidden,
    /// The name cannot be invalidated.
    Bad(BadName),
}

impl NotInvalidated {
    /// Returns the reply line. `delimiter` is the byte at which prefixes end.
    pub(in crate::command) fn text(self, delimiter: u8) -> String {
        let reason = match self {
            Self::Forbidden => "invalidate not allowed".to_owned(),
            Self::Bad(BadName::NoBirths) => "invalidate needs CAS values (-C is set)".to_owned(),
            Self::Bad(BadName::Empty) => "empty prefix or tag".to_owned(),
            Self::Bad(BadName::TooLong) => format!(
                "name too long: a prefix has at most {KEY_MAX_BYTES} bytes, a tag {TAG_MAX_BYTES}"
            ),
            Self::Bad(BadName::NotDelimited) => format!(
                "prefix must end with the delimiter {}",
                delimiter.escape_ascii()
            ),
            Self::Bad(BadName::Comma) => "a tag contains no comma".to_owned(),
        };
        format!("CLIENT_ERROR {reason}")
    }
}

impl Executor<'_> {
    /// Returns the prefix or tag that the key of a deletion names, if the server
    /// takes such keys (`-o invalidate_keys`).
    #[inline]
    pub(in crate::command) fn name_in_key<'k>(
        &self,
        key: &'k [u8],
    ) -> Option<(NameKind, &'k [u8])> {
        let named = key.strip_prefix(b"@")?;
        if !self.shared.config.invalidate_keys {
            return None;
        }
        if let Some(prefix) = named.strip_prefix(b"prefix/") {
            return Some((NameKind::Prefix, prefix));
        }
        named.strip_prefix(b"tag/").map(|tag| (NameKind::Tag, tag))
    }

    /// Invalidates the items of a name. `command` is the command's name for
    /// watchers.
    ///
    /// # Errors
    /// The reason to refuse it. Nothing is invalidated.
    pub(in crate::command) fn invalidate(
        &mut self,
        kind: NameKind,
        name: &[u8],
        effect: Effect,
        command: &'static str,
    ) -> Result<(), NotInvalidated> {
        if !self.shared.config.flush {
            return Err(NotInvalidated::Forbidden);
        }
        let wanted = match kind {
            NameKind::Prefix => Name::Prefix(name),
            NameKind::Tag => Name::Tag(name),
        };
        self.store
            .invalidate(self.local, wanted, effect)
            .map_err(NotInvalidated::Bad)?;
        if self.watched.any_of(Kinds::MUTATIONS) {
            self.local.events.put(EventKind::Invalidated {
                name: name.into(),
                kind: kind.name(),
                command,
                stale: effect == Effect::MarkStale,
                connection: self.connection,
            });
        }
        Ok(())
    }
}
