//! `mg`: retrievals that may also touch, create or recache the item.

use crate::command::executor::Executor;
use crate::command::ops::expiry::{NoField, set_expiry};
use crate::command::ops::ttl::Ttls;
use crate::command::output::Output;
use crate::events::{ItemSize, Kinds};
use crate::protocol::meta::key::needs_base64;
use crate::protocol::meta::request::MetaRequest;
use crate::protocol::tokens::tokens;
use crate::store::{Access, Entry, Hashed, Item, ItemSpec, Miss, NewItem, Store};
use crate::time::{Expiry, Now};

/// Properties of a hit that the item does not record.
#[derive(Clone, Copy)]
pub(in crate::command) struct Hit {
    /// Expiry time before this command.
    pub(in crate::command) before: Expiry,
    /// This command created the item.
    pub(in crate::command) created: bool,
    /// This client won the right to recache the item.
    pub(in crate::command) won: bool,
}

/// Outcome of `mg` under the shard's write lock.
enum Got {
    Hit(ItemSize),
    Missed(Miss),
    /// `N` was given and the item does not exist.
    Wanted,
}

impl Executor<'_> {
    /// Executes `mg`. On a hit, appends what `write` makes of the item, and
    /// counts the retrieval. A miss appends nothing.
    #[inline]
    pub(in crate::command) fn meta_get(
        &mut self,
        meta: &MetaRequest<'_>,
        key: &Hashed<'_>,
        out: &mut Output,
        write: impl Fn(Item<'_>, Hit, &mut Output),
    ) -> Result<ItemSize, Miss> {
        let flags = &meta.flags;
        let watched = self.watched;
        if flags.vivify.is_some() && !watched.is_empty() {
            // Watchers must see the lookup before the item is created.
            self.report_looked_up(key);
            self.watched = watched.without(Kinds::FETCHERS);
        }
        let changes = flags.vivify.is_some() || flags.ttl.is_some() || flags.recache.is_some();
        let found = if changes {
            self.get_changing(meta, key, |item, hit| write(item, hit, out))
        } else {
            self.get_reading(meta, key, out, write)
        };
        if let Some(ttl) = flags.ttl.filter(|_| found.is_ok()) {
            let expiry = self.ttls().expiry(ttl, key.key);
            self.count_touch(key, expiry, found);
        } else {
            self.count_get(key, found);
        }
        self.watched = watched;
        found
    }

    /// Executes an `mg` whose opaque is over its limit. memcached detects this
    /// after the item was fetched, or created and changed by the flags before
    /// `O`. The hit is then not counted, and no client wins the item.
    #[cold]
    pub(in crate::command) fn meta_get_unanswered(
        &mut self,
        meta: &MetaRequest<'_>,
        key: &Hashed<'_>,
    ) {
        let found = self.get_changing(meta, key, |_, _| ());
        if found.is_err() {
            self.count_get(key, found);
        }
    }

    /// Executes an `mg` that leaves the item unchanged, unless it is stale and
    /// this client wins the right to recache.
    #[inline]
    fn get_reading(
        &mut self,
        meta: &MetaRequest<'_>,
        key: &Hashed<'_>,
        out: &mut Output,
        write: impl Fn(Item<'_>, Hit, &mut Output),
    ) -> Result<ItemSize, Miss> {
        let access = if meta.flags.no_bump {
            Access::Peek
        } else {
            Access::Counted
        };
        let answered = out.read_item(self.store, self.local, key, self.now, |item, out| {
            if item.is_stale() && !item.is_token_sent() {
                return (Access::Peek, None);
            }
            let hit = Hit {
                before: item.expiry(),
                created: false,
                won: false,
            };
            write(item, hit, out);
            (access, Some(item.item_size()))
        })?;
        if let Some(size) = answered {
            return Ok(size);
        }
        self.get_changing(meta, key, |item, hit| write(item, hit, out))
    }

    fn get_changing(
        &mut self,
        meta: &MetaRequest<'_>,
        key: &Hashed<'_>,
        mut write: impl FnMut(Item<'_>, Hit),
    ) -> Result<ItemSize, Miss> {
        let mut vivified = None;
        let result = loop {
            let (store, ttls) = (self.store, self.ttls());
            let got = self.edit_fields(key, |entry| {
                get_under_lock(meta, entry, &mut vivified, store, ttls, &mut write)
            });
            match got {
                Ok(Got::Hit(size)) => break Ok(size),
                Ok(Got::Missed(miss)) => break Err(miss),
                Ok(Got::Wanted) => match self.vivify(meta, key) {
                    Some(new) => vivified = Some(new),
                    None => break Err(Miss::Absent),
                },
                Err(_) => break Err(Miss::Absent),
            }
        };
        if let Some(unused) = vivified {
            self.store.discard(self.local, unused);
        }
        result
    }

    /// Makes the empty item that `N` creates on a miss. `None` if memory is
    /// short.
    fn vivify(&mut self, meta: &MetaRequest<'_>, key: &Hashed<'_>) -> Option<NewItem> {
        let spec = ItemSpec {
            expiry: self.ttls().expiry(meta.flags.created_ttl(), key.key),
            key_binary: meta.base64 && needs_base64(key.key),
            with_expiry_field: true,
            with_birth_field: meta.flags.new_cas.is_some(),
            ..ItemSpec::new(key.key, 0)
        };
        self.new_filled(key, &spec, std::iter::empty()).ok()
    }
}

fn get_under_lock(
    meta: &MetaRequest<'_>,
    entry: &mut Entry<'_>,
    vivified: &mut Option<NewItem>,
    store: &Store,
    ttls: Ttls,
    write: &mut impl FnMut(Item<'_>, Hit),
) -> Result<Got, NoField> {
    let (flags, now) = (&meta.flags, ttls.now);
    let created = entry.item().is_none();
    if created {
        match (vivified.take(), flags.vivify) {
            (Some(new), _) => entry.put_born(new, store.draw(flags.new_cas)),
            (None, Some(_)) => return Ok(Got::Wanted),
            (None, None) => return Ok(Got::Missed(entry.miss())),
        }
    }
    let Some(item) = entry.item() else {
        return Ok(Got::Missed(entry.miss()));
    };
    let before = if created {
        Expiry::NEVER
    } else {
        item.expiry()
    };
    if let Some(ttl) = flags.effective_ttl().filter(|_| !created) {
        set_expiry(entry, ttls.expiry(ttl, item.key()))?;
    }
    if flags.opaque_too_long {
        if !flags.no_bump && !is_locking(meta) {
            entry.bump(now);
        }
        return Ok(Got::Hit(item.item_size()));
    }
    let open = !item.is_token_sent();
    let won =
        created || open && (item.is_stale() || wins_recache(meta, before, item.expiry(), now));
    let hit = Hit {
        before,
        created,
        won,
    };
    write(item, hit);
    if won {
        entry.mark_token_sent();
    }
    if !flags.no_bump {
        entry.bump(now);
    }
    Ok(Got::Hit(item.item_size()))
}

/// Returns whether a flag makes memcached update the access time only after the
/// reply.
fn is_locking(meta: &MetaRequest<'_>) -> bool {
    tokens(meta.tokens).any(|token| matches!(token[0], b'N' | b'T' | b'R' | b'l' | b'h'))
}

/// Returns whether the remaining TTL is below the argument of `R`. Uses the
/// expiry time in effect at the position of `R` on the line.
fn wins_recache(meta: &MetaRequest<'_>, before: Expiry, after: Expiry, now: Now) -> bool {
    let positions = &meta.flags.positions;
    let expiry = match positions.ttl < positions.recache {
        true => after,
        false => before,
    };
    meta.flags.recache.is_some_and(|recache| {
        expiry != Expiry::NEVER && expiry.0 < Expiry::from_protocol(recache, now).0
    })
}
