//! `delete`, and `md` with its variants that keep the item.

use crate::command::executor::{Executor, reply};
use crate::command::ops::meta::{MetaKey, breaks_lines, write_status};
use crate::command::output::Output;
use crate::events::ItemSize;
use crate::protocol::meta::encode::Status;
use crate::protocol::meta::request::MetaRequest;
use crate::protocol::text::encode;
use crate::store::mrc::Observed;
use crate::store::{Hashed, Item, ItemSpec, NewItem, Pin};
use crate::time::Expiry;

/// Outcome of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::command) enum Removed {
    Done,
    NotFound,
    /// The CAS value differs.
    Exists,
}

/// Outcome of `md` under the shard's lock.
enum Deleted {
    Done(Status, Option<ItemSize>),
    /// The item has no room for an expiry time.
    NoExpiryField(Option<Pin>),
}

impl Executor<'_> {
    /// Executes `delete`.
    pub(in crate::command) fn delete(&mut self, key: &[u8], noreply: bool, out: &mut Output) {
        let key = self.store.hashed(key);
        let answer = match self.remove(&key, 0) {
            Removed::Done => "DELETED",
            Removed::NotFound | Removed::Exists => "NOT_FOUND",
        };
        reply(out, noreply, answer);
    }

    /// Deletes a key's item if its CAS value is `cas`; 0 matches any.
    pub(in crate::command) fn remove(&mut self, key: &Hashed<'_>, cas: u64) -> Removed {
        if !self.watched.is_empty() {
            self.report_looked_up(key);
        }
        let removed = self.store.edit(self.local, key, self.now, |entry| {
            let item = entry.item();
            if item.is_some_and(|item| cas != 0 && cas != item.cas()) {
                return Err(Removed::Exists);
            }
            let old = item.map(Item::item_size);
            entry.remove();
            Ok(old)
        });
        match removed {
            Err(exists) => exists,
            Ok(old) => {
                self.count_delete(key, "delete", old);
                old.map_or(Removed::NotFound, |_| Removed::Done)
            }
        }
    }

    fn count_delete(&mut self, key: &Hashed<'_>, command: &'static str, old: Option<ItemSize>) {
        self.sample_write(key, 0);
        self.observe(key, || Observed::Delete);
        let counters = &self.local.counters;
        match old {
            Some(old) => {
                counters.delete_hits.add(1);
                let class = old.class.map(|class| self.local.classes.of(class));
                class.inspect(|class| class.delete_hits.add(1));
            }
            None => counters.delete_misses.add(1),
        }
        if !self.watched.is_empty() {
            self.report_deleted(key.key, command, old);
        }
    }

    /// Executes `md`.
    pub(in crate::command) fn meta_delete(&mut self, meta: &MetaRequest<'_>, out: &mut Output) {
        let decoded = MetaKey::of(meta);
        let key = self.store.hashed(decoded.bytes());
        let Ok(mut tombstone) = self.tombstone(meta, &key) else {
            return encode::line(&mut out.bytes, "SERVER_ERROR out of memory");
        };
        if !self.watched.is_empty() {
            self.report_looked_up(&key);
        }
        let status = loop {
            match self.delete_once(meta, &key, &mut tombstone) {
                Deleted::Done(status, _) => break status,
                Deleted::NoExpiryField(pin) => {
                    if !self.reserve_expiry_field(&key, pin) {
                        break Status::NotFound;
                    }
                }
            }
        };
        if let Some(unused) = tombstone {
            self.store.discard(self.local, unused);
        }
        if status == Status::Done && meta.flags.quiet {
            return;
        }
        write_status(out, status, meta, decoded.bytes());
    }

    /// With flag `x`, makes the empty item that replaces the deleted one.
    fn tombstone(
        &mut self,
        meta: &MetaRequest<'_>,
        key: &Hashed<'_>,
    ) -> Result<Option<NewItem>, crate::store::NoMemory> {
        if !meta.flags.remove_value {
            return Ok(None);
        }
        let spec = ItemSpec {
            flags: meta.flags.client_flags,
            expiry: meta
                .flags
                .ttl
                .map_or(Expiry::NEVER, |ttl| Expiry::from_protocol(ttl, self.now)),
            key_binary: meta.base64 && breaks_lines(key.key),
            with_expiry_field: true,
            ..ItemSpec::new(key.key, 0)
        };
        let value = std::iter::once(&b"\r\n"[..]);
        self.new_filled(key, &spec, value).map(Some)
    }

    fn delete_once(
        &mut self,
        meta: &MetaRequest<'_>,
        key: &Hashed<'_>,
        tombstone: &mut Option<NewItem>,
    ) -> Deleted {
        let flags = &meta.flags;
        let (store, now) = (self.store, self.now);
        let expiry = flags.ttl.map(|ttl| Expiry::from_protocol(ttl, now));
        let cas_of_stale = || flags.new_cas.unwrap_or_else(|| store.next_cas());
        let deleted = store.edit(self.local, key, now, |entry| {
            let Some(item) = entry.item() else {
                return Deleted::Done(Status::NotFound, None);
            };
            if flags.cas.is_some_and(|cas| cas != item.cas()) {
                return Deleted::Done(Status::Exists, None);
            }
            let old = Some(item.item_size());
            let old_cas = item.cas();
            if let Some(tombstone) = tombstone.take() {
                entry.put(tombstone, flags.new_cas.unwrap_or(old_cas));
            } else if !flags.invalidate {
                entry.remove();
                return Deleted::Done(Status::Done, old);
            }
            if flags.invalidate {
                if let Some(expiry) = expiry
                    && !entry.set_expiry(expiry)
                {
                    return Deleted::NoExpiryField(entry.item().and_then(|item| item.pin()));
                }
                entry.mark_stale();
                entry.set_cas(cas_of_stale());
            }
            Deleted::Done(Status::Done, old)
        });
        match deleted {
            Deleted::Done(Status::Done, _) if flags.invalidate => {}
            Deleted::Done(Status::Done, old) if flags.remove_value && !self.watched.is_empty() => {
                self.report_emptied(key, expiry.unwrap_or(Expiry::NEVER));
                self.count_delete(key, "md", old);
            }
            Deleted::Done(_, old) => self.count_delete(key, "md", old),
            Deleted::NoExpiryField(_) => {}
        }
        deleted
    }
}
