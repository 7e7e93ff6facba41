//! Deletions, and `md` with its variants that keep the item.

use crate::command::executor::Executor;
use crate::command::ops::expiry::{NoExpiryField, set_expiry};
use crate::command::ops::outcome::VALUE_END;
use crate::command::ops::outcome::cas_or_next;
use crate::events::ItemSize;
use crate::protocol::cas::Cas;
use crate::protocol::meta::key::needs_base64;
use crate::protocol::meta::request::MetaRequest;
use crate::store::mrc::Observed;
use crate::store::{Entry, Hashed, Item, ItemSpec, NewItem, NoMemory, Store};
use crate::time::Expiry;

/// Outcome of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::command) enum Deleted {
    Done,
    NotFound,
    /// The CAS value differs.
    Exists,
}

/// Effect of `md` under the shard's lock. Sizes are those of the old item.
enum MetaDeleted {
    NotFound,
    Exists,
    Removed(ItemSize),
    /// An empty item replaced it.
    Emptied(ItemSize),
    /// The item is stale now.
    Invalidated,
}

impl Executor<'_> {
    /// Deletes a key's item if its CAS value is `cas`.
    pub(in crate::command) fn delete(&mut self, key: &Hashed<'_>, cas: Option<Cas>) -> Deleted {
        if !self.watched.is_empty() {
            self.report_looked_up(key);
        }
        let removed = self.store.edit(self.local, key, self.now, |entry| {
            let item = entry.item();
            if let (Some(item), Some(cas)) = (item, cas)
                && !cas.is_of(item.cas())
            {
                return Err(Deleted::Exists);
            }
            let old = item.map(Item::item_size);
            entry.remove();
            Ok(old)
        });
        match removed {
            Err(exists) => exists,
            Ok(old) => {
                self.count_delete(key, "delete", old);
                old.map_or(Deleted::NotFound, |_| Deleted::Done)
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
    ///
    /// # Errors
    /// There is no memory for the empty item of flag `x`. Nothing is changed.
    pub(in crate::command) fn meta_delete(
        &mut self,
        meta: &MetaRequest<'_>,
        key: &Hashed<'_>,
    ) -> Result<Deleted, NoMemory> {
        let expiry = meta.flags.ttl;
        let expiry = expiry.map(|ttl| Expiry::from_protocol(ttl, self.now));
        let mut tombstone = self.tombstone(meta, key, expiry)?;
        if !self.watched.is_empty() {
            self.report_looked_up(key);
        }
        let store = self.store;
        let deleted = self.edit_expiry(key, |entry| {
            delete_under_lock(meta, entry, &mut tombstone, expiry, store)
        });
        if let Some(unused) = tombstone {
            self.store.discard(self.local, unused);
        }
        // Without memory, the item was removed instead of marked.
        let Ok(deleted) = deleted else {
            return Ok(Deleted::NotFound);
        };
        let (outcome, old) = match deleted {
            MetaDeleted::NotFound => (Deleted::NotFound, None),
            MetaDeleted::Exists => (Deleted::Exists, None),
            MetaDeleted::Removed(old) => (Deleted::Done, Some(old)),
            MetaDeleted::Emptied(old) => {
                if !self.watched.is_empty() {
                    self.report_emptied(key, expiry.unwrap_or(Expiry::NEVER));
                }
                (Deleted::Done, Some(old))
            }
            MetaDeleted::Invalidated => return Ok(Deleted::Done),
        };
        self.count_delete(key, "md", old);
        Ok(outcome)
    }

    /// With flag `x`, makes the empty item that replaces the deleted one.
    fn tombstone(
        &mut self,
        meta: &MetaRequest<'_>,
        key: &Hashed<'_>,
        expiry: Option<Expiry>,
    ) -> Result<Option<NewItem>, NoMemory> {
        if !meta.flags.remove_value {
            return Ok(None);
        }
        let spec = ItemSpec {
            flags: meta.flags.client_flags,
            expiry: expiry.unwrap_or(Expiry::NEVER),
            key_binary: meta.base64 && needs_base64(key.key),
            with_expiry_field: true,
            ..ItemSpec::new(key.key, 0)
        };
        self.new_filled(key, &spec, std::iter::once(VALUE_END))
            .map(Some)
    }
}

fn delete_under_lock(
    meta: &MetaRequest<'_>,
    entry: &mut Entry<'_>,
    tombstone: &mut Option<NewItem>,
    expiry: Option<Expiry>,
    store: &Store,
) -> Result<MetaDeleted, NoExpiryField> {
    let flags = &meta.flags;
    let Some(item) = entry.item() else {
        return Ok(MetaDeleted::NotFound);
    };
    if flags.cas.is_some_and(|cas| cas != item.cas()) {
        return Ok(MetaDeleted::Exists);
    }
    let (old, old_cas) = (item.item_size(), item.cas());
    let emptied = match tombstone.take() {
        Some(tombstone) => {
            entry.put(tombstone, flags.new_cas.unwrap_or(old_cas));
            true
        }
        None => false,
    };
    if flags.invalidate {
        if let Some(expiry) = expiry {
            set_expiry(entry, expiry)?;
        }
        entry.mark_stale();
        entry.set_cas(cas_or_next(store, flags.new_cas));
        return Ok(MetaDeleted::Invalidated);
    }
    if emptied {
        return Ok(MetaDeleted::Emptied(old));
    }
    entry.remove();
    Ok(MetaDeleted::Removed(old))
}
