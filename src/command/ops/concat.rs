//! `append` and `prepend` of all protocols.

use std::cell::Cell;

use crate::command::executor::Executor;
use crate::command::ops::outcome::{Condition, Outcome};
use crate::protocol::meta::key::needs_base64;
use crate::protocol::verb::StoreVerb;
use crate::store::{Access, Hashed, Item, ItemSpec, NewItem, Pin};

/// Outcome of one attempt to link the joined item.
enum Joined {
    Done(Outcome),
    /// The old item was replaced or changed meanwhile; try again.
    Changed,
}

impl Executor<'_> {
    /// Joins the present value and the new one.
    ///
    /// The joined item is built outside the shard's lock from the pinned old
    /// item, and linked only if the old item is unchanged. Otherwise another
    /// thread has made progress, and the loop tries again.
    pub(in crate::command) fn join(
        &mut self,
        key: &Hashed<'_>,
        new: NewItem,
        condition: Condition,
    ) -> Outcome {
        if condition.verb == StoreVerb::Append
            && let Some(outcome) = self.append_in_place(&new, condition)
        {
            self.store.discard(self.local, new);
            return outcome;
        }
        let mut addition = Some(new);
        let outcome = loop {
            let pinned = self
                .store
                .read(self.local, key, self.now, |item| (Access::Peek, item.pin()));
            let pin = match pinned {
                Ok(Some(pin)) => pin,
                Ok(None) => break Outcome::NotStored,
                Err(_) => {
                    if !condition.vivify {
                        break Outcome::NotStored;
                    }
                    let add = Condition {
                        verb: StoreVerb::Add,
                        ..condition
                    };
                    match self.store_if(key, &mut addition, add) {
                        // Another thread created it first.
                        Outcome::NotStored if addition.is_some() => continue,
                        outcome => break outcome,
                    }
                }
            };
            let joined = match &addition {
                Some(addition) => self.join_once(key, &pin, addition, condition),
                None => Joined::Done(Outcome::NotStored),
            };
            self.store.release(self.local, pin);
            if let Joined::Done(outcome) = joined {
                break outcome;
            }
        };
        if let Some(addition) = addition {
            self.store.discard(self.local, addition);
        }
        outcome
    }

    fn append_in_place(&mut self, new: &NewItem, condition: Condition) -> Option<Outcome> {
        let (store, more) = (self.store, new.item().value_len());
        let more_tags = new.item().tags();
        let joined_len = Cell::new(0);
        let accepts = |item: Item<'_>| {
            joined_len.set(item.value_len() + more);
            let fits = store.is_size_ok(item.key().len(), item.flags(), joined_len.get());
            let keeps_key = !item.is_key_binary() || needs_base64(item.key());
            let matches = condition.cas.is_none_or(|cas| cas.is_of(item.cas()));
            let has_tags =
                more_tags.is_empty() || item.tags().union(&more_tags) == Some(item.tags());
            let has_field = !store.needs_birth_field(condition.new_cas) || item.has_birth_field();
            fits && matches && keeps_key && has_tags && has_field && !item.is_stale()
        };
        let new_cas = condition.new_cas;
        let cas = store.append_in_place(self.local, new, self.now, accepts, new_cas)?;
        let value_len = joined_len.get();
        Some(Outcome::Stored { cas, value_len })
    }

    fn join_once(
        &mut self,
        key: &Hashed<'_>,
        pin: &Pin,
        addition: &NewItem,
        condition: Condition,
    ) -> Joined {
        let (old, more) = (pin.item(), addition.item());
        let old_cas = old.cas();
        if condition.cas.is_some_and(|cas| !cas.is_of(old_cas)) {
            return Joined::Done(Outcome::Exists);
        }
        let Some(tags) = old.tags().union(&more.tags()) else {
            return Joined::Done(Outcome::NotStored);
        };
        let spec = ItemSpec {
            tags: Some(&tags),
            with_birth_field: condition.new_cas.is_some(),
            flags: old.flags(),
            expiry: old.expiry(),
            key_binary: old.is_key_binary() && needs_base64(key.key),
            ..ItemSpec::new(key.key, old.value_len() + more.value_len())
        };
        if !self
            .store
            .is_size_ok(key.key.len(), spec.flags, spec.value_len)
        {
            return Joined::Done(Outcome::NotStored);
        }
        let (first, second) = match condition.verb {
            StoreVerb::Prepend => (more, old),
            _ => (old, more),
        };
        let value = first.pieces().chain(second.pieces());
        let Ok(joined) = self.new_filled(key, &spec, value) else {
            return Joined::Done(Outcome::NotStored);
        };
        let mut joined = Some(joined);
        let (store, now) = (self.store, self.now);
        // Drawn before the check that the old item is alive: see `Entry::renew`.
        let birth = store.draw(condition.new_cas);
        let linked = store.edit(self.local, key, now, |entry| {
            // The pin keeps the value from being changed in place, but not the
            // CAS value and the expiry time.
            let same = |item: Item<'_>| {
                item.is_same(pin) && item.cas() == old_cas && item.expiry() == spec.expiry
            };
            let unchanged = entry.item().is_some_and(same);
            match joined.take_if(|_| unchanged) {
                Some(joined) => {
                    entry.put_born(joined, birth);
                    Joined::Done(Outcome::Stored {
                        cas: birth.cas,
                        value_len: spec.value_len,
                    })
                }
                None => Joined::Changed,
            }
        });
        if let Some(unused) = joined {
            self.store.discard(self.local, unused);
        }
        linked
    }
}
