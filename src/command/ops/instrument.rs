//! Telling those who look on what commands do: watchers, and `stats detail`.
//! Nobody looks on most of the time; then each command costs a look at a set
//! of kinds that was loaded once for its batch.

use crate::command::executor::Executor;
use crate::events::{EventKind, ItemSize, Kinds};
use crate::stats::PrefixCount;
use crate::store::{Access, Hashed, ItemSpec, Miss};
use crate::time::Expiry;

/// A value on its way into the store.
#[derive(Clone, Copy)]
pub(in crate::command) struct Storing {
    /// The command, by its classic name.
    pub(in crate::command) command: &'static str,
    pub(in crate::command) expiry: Expiry,
    pub(in crate::command) new: ItemSize,
}

impl Executor<'_> {
    /// A key was asked for.
    #[cold]
    pub(in crate::command) fn tell_fetched(&self, key: &[u8], found: Result<ItemSize, Miss>) {
        if self.watched.any_of(Kinds::DETAIL) {
            let count = PrefixCount::Get { hit: found.is_ok() };
            self.shared.prefixes.count(key, count);
        }
        self.put_fetched(key, found);
    }

    /// Reports the look-up that a command makes besides what it does, as
    /// memcached does for all but retrievals. Returns what it found, if
    /// anybody watches for that.
    #[cold]
    pub(in crate::command) fn tell_looked_up(&mut self, key: &Hashed<'_>) -> Option<Expiry> {
        if !self.watched.any_of(Kinds::FETCHERS.with(Kinds::MUTATIONS)) {
            return None;
        }
        let found = self.store.read(self.local, key, self.now, |item| {
            (Access::Peek, (item.item_size(), item.expiry()))
        });
        self.put_fetched(key.key, found.map(|(figures, _)| figures));
        found.ok().map(|(_, expiry)| expiry)
    }

    fn put_fetched(&self, key: &[u8], found: Result<ItemSize, Miss>) {
        if !self.watched.any_of(Kinds::FETCHERS) {
            return;
        }
        let status = match found {
            Ok(_) => "found",
            Err(Miss::Absent) => "not_found",
            Err(Miss::Flushed) => "flushed",
            Err(Miss::Expired) => "expired",
        };
        self.local.events.put(EventKind::Fetched {
            key: key.into(),
            status,
            found: found.unwrap_or_default(),
            connection: self.connection,
        });
    }

    /// A value was stored, or not.
    #[cold]
    pub(in crate::command) fn tell_stored(
        &self,
        key: &[u8],
        storing: Storing,
        status: &'static str,
    ) {
        if self.watched.any_of(Kinds::DETAIL) {
            self.shared.prefixes.count(key, PrefixCount::Set);
        }
        if self.watched.any_of(Kinds::MUTATIONS) {
            self.local.events.put(EventKind::Stored {
                key: key.into(),
                status,
                command: storing.command,
                ttl: self.now.left(storing.expiry).unwrap_or(0),
                new: storing.new,
                connection: self.connection,
            });
        }
    }

    /// An item was replaced by an empty one, which memcached reports as a
    /// look-up and a `set`.
    #[cold]
    pub(in crate::command) fn tell_emptied(&mut self, key: &Hashed<'_>, expiry: Expiry) {
        self.tell_looked_up(key);
        let found = self.store.read(self.local, key, self.now, |item| {
            (Access::Peek, item.item_size())
        });
        let storing = Storing {
            command: "set",
            expiry,
            new: found.unwrap_or_default(),
        };
        self.tell_stored(key.key, storing, "stored");
    }

    /// A value was refused.
    #[cold]
    pub(in crate::command) fn tell_refused(
        &self,
        key: &[u8],
        spec: &ItemSpec<'_>,
        too_large: bool,
    ) {
        let storing = Storing {
            command: "set",
            expiry: Expiry::NEVER,
            new: ItemSize {
                class: 0,
                value_len: spec.value_len as u32,
            },
        };
        let status = if too_large { "too_large" } else { "no_memory" };
        self.tell_stored(key, storing, status);
    }

    /// A deletion found something, or not.
    #[cold]
    pub(in crate::command) fn tell_deleted(
        &self,
        key: &[u8],
        command: &'static str,
        old: Option<ItemSize>,
    ) {
        if self.watched.any_of(Kinds::DETAIL) {
            self.shared.prefixes.count(key, PrefixCount::Delete);
        }
        if let Some(old) = old
            && self.watched.any_of(Kinds::DELETIONS)
        {
            self.local.events.put(EventKind::Deleted {
                key: key.into(),
                command,
                old,
            });
        }
    }
}
