//! Reports commands to watchers and to `stats detail`.
//!
//! The set of wanted kinds is loaded once per batch. While it is empty, each
//! command only tests it.

use crate::command::executor::Executor;
use crate::events::{EventKind, ItemSize, Kinds, LookupStatus, StoreStatus};
use crate::stats::PrefixCount;
use crate::store::{Access, Hashed, ItemSpec, Miss};
use crate::time::Expiry;

/// A storage command to report.
#[derive(Clone, Copy)]
pub(in crate::command) struct StoreReport {
    /// The command by its classic name.
    pub(in crate::command) command: &'static str,
    /// Expiry time of the new item.
    pub(in crate::command) expiry: Expiry,
    /// Size of the new item.
    pub(in crate::command) new: ItemSize,
}

impl Executor<'_> {
    /// Reports a retrieval or a touch of a key.
    #[cold]
    pub(in crate::command) fn report_fetched(&self, key: &[u8], found: Result<ItemSize, Miss>) {
        if self.watched.any_of(Kinds::DETAIL) {
            let count = PrefixCount::Get { hit: found.is_ok() };
            self.shared.prefixes.count(key, count);
        }
        self.put_fetched(key, found);
    }

    /// Reports the lookup of a command that is no retrieval, as memcached does.
    /// Returns the expiry time of the item found; `None` on a miss or if nobody
    /// watches.
    #[cold]
    pub(in crate::command) fn report_looked_up(&mut self, key: &Hashed<'_>) -> Option<Expiry> {
        if !self.watched.any_of(Kinds::FETCHERS.with(Kinds::MUTATIONS)) {
            return None;
        }
        let found = self.store.read(self.local, key, self.now, |item| {
            (Access::Peek, (item.item_size(), item.expiry()))
        });
        self.put_fetched(key.key, found.map(|(size, _)| size));
        found.ok().map(|(_, expiry)| expiry)
    }

    fn put_fetched(&self, key: &[u8], found: Result<ItemSize, Miss>) {
        if !self.watched.any_of(Kinds::FETCHERS) {
            return;
        }
        let status = match found {
            Ok(_) => LookupStatus::Found,
            Err(Miss::Absent) => LookupStatus::NotFound,
            Err(Miss::Flushed) => LookupStatus::Flushed,
            Err(Miss::Expired) => LookupStatus::Expired,
            Err(Miss::Invalidated) => LookupStatus::Invalidated,
        };
        self.local.events.put(EventKind::Fetched {
            key: key.into(),
            status,
            found: found.unwrap_or_default(),
            connection: self.connection,
        });
    }

    /// Reports a storage command and its outcome.
    #[cold]
    pub(in crate::command) fn report_stored(
        &self,
        key: &[u8],
        report: StoreReport,
        status: StoreStatus,
    ) {
        if self.watched.any_of(Kinds::DETAIL) {
            self.shared.prefixes.count(key, PrefixCount::Set);
        }
        if self.watched.any_of(Kinds::MUTATIONS) {
            self.local.events.put(EventKind::Stored {
                key: key.into(),
                status,
                command: report.command,
                ttl: self.now.remaining_seconds(report.expiry).unwrap_or(0),
                new: report.new,
                connection: self.connection,
            });
        }
    }

    /// Reports that `md` replaced an item by an empty one, which memcached
    /// reports as a lookup and a `set`.
    #[cold]
    pub(in crate::command) fn report_emptied(&mut self, key: &Hashed<'_>, expiry: Expiry) {
        self.report_looked_up(key);
        let found = self.store.read(self.local, key, self.now, |item| {
            (Access::Peek, item.item_size())
        });
        let report = StoreReport {
            command: "set",
            expiry,
            new: found.unwrap_or_default(),
        };
        self.report_stored(key.key, report, StoreStatus::Stored);
    }

    /// Reports a storage command refused for its size or for lack of memory,
    /// which `status` says.
    #[cold]
    pub(in crate::command) fn report_refused(
        &self,
        key: &[u8],
        spec: &ItemSpec<'_>,
        status: StoreStatus,
    ) {
        let report = StoreReport {
            command: "set",
            expiry: Expiry::NEVER,
            new: ItemSize {
                class: None,
                value_len: spec.value_len as u32,
            },
        };
        self.report_stored(key, report, status);
    }

    /// Reports a deletion. A miss is counted for `stats detail` but is no
    /// event.
    #[cold]
    pub(in crate::command) fn report_deleted(
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
