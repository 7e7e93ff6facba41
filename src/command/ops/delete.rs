//! Deletions, and `md` with its variants that keep the item.

use crate::command::executor::Executor;
use crate::command::ops::expiry::{NoField, set_expiry};
use crate::events::ItemSize;
use crate::protocol::cas::Cas;
use crate::protocol::meta::key::needs_base64;
use crate::protocol::meta::request::MetaRequest;
use crate::store::mrc::Observed;
use crate::store::{Access, Entry, Hashed, Item, ItemSpec, NewItem, NoMemory, Tags};
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
    /// The item differs from the one for which the empty item was made.
    Changed,
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
        let expiry = expiry.map(|ttl| self.ttls().expiry(ttl, key.key));
        if !self.watched.is_empty() {
            self.report_looked_up(key);
        }
        let deleted = loop {
            let mut tombstone = self.tombstone(meta, key, expiry)?;
            let deleted = self.edit_fields(key, |entry| {
                delete_under_lock(meta, entry, &mut tombstone, expiry)
            });
            if let Some(unused) = tombstone {
                self.store.discard(self.local, unused);
            }
            if !matches!(deleted, Ok(MetaDeleted::Changed)) {
                break deleted;
            }
        };
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
            MetaDeleted::Invalidated | MetaDeleted::Changed => return Ok(Deleted::Done),
        };
        self.count_delete(key, "md", old);
        Ok(outcome)
    }

    /// With flag `x`, makes the empty item that replaces the deleted one. It keeps
    /// the tags.
    fn tombstone(
        &mut self,
        meta: &MetaRequest<'_>,
        key: &Hashed<'_>,
        expiry: Option<Expiry>,
    ) -> Result<Option<NewItem>, NoMemory> {
        if !meta.flags.remove_value {
            return Ok(None);
        }
        let found = self.store.read(self.local, key, self.now, |item| {
            (Access::Peek, (item.tags(), item.has_birth_field()))
        });
        let (tags, has_birth) = found.unwrap_or((Tags::default(), false));
        let spec = ItemSpec {
            tags: Some(&tags),
            with_birth_field: has_birth || meta.flags.new_cas.is_some(),
            flags: meta.flags.client_flags,
            expiry: expiry.unwrap_or(Expiry::NEVER),
            key_binary: meta.base64 && needs_base64(key.key),
            with_expiry_field: true,
            ..ItemSpec::new(key.key, 0)
        };
        self.new_filled(key, &spec, std::iter::empty()).map(Some)
    }
}

fn delete_under_lock(
    meta: &MetaRequest<'_>,
    entry: &mut Entry<'_>,
    tombstone: &mut Option<NewItem>,
    expiry: Option<Expiry>,
) -> Result<MetaDeleted, NoField> {
    let flags = &meta.flags;
    let Some(item) = entry.item() else {
        return Ok(MetaDeleted::NotFound);
    };
    if flags.cas.is_some_and(|cas| cas != item.cas()) {
        return Ok(MetaDeleted::Exists);
    }
    let old = item.item_size();
    let fits = |empty: Item<'_>| {
        empty.tags() == item.tags() && (empty.has_birth_field() || !item.has_birth_field())
    };
    if tombstone.as_ref().is_some_and(|empty| !fits(empty.item())) {
        return Ok(MetaDeleted::Changed);
    }
    let emptied = match (tombstone.take(), entry.birth(flags.new_cas)) {
        (Some(tombstone), Some(birth)) => {
            entry.put_born(tombstone, birth);
            true
        }
        _ => false,
    };
    if flags.invalidate {
        if let Some(expiry) = expiry {
            set_expiry(entry, expiry)?;
        }
        if let Some(item) = entry.item()
            && entry.lacks_birth_field(flags.new_cas)
        {
            return Err(NoField::birth(item));
        }
        let Some(birth) = entry.renew(flags.new_cas) else {
            return Ok(MetaDeleted::NotFound);
        };
        entry.mark_stale();
        entry.set_birth(birth);
        return Ok(MetaDeleted::Invalidated);
    }
    if emptied {
        return Ok(MetaDeleted::Emptied(old));
    }
    entry.remove();
    Ok(MetaDeleted::Removed(old))
}
