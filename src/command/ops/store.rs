//! Stores values. The item is made before the shard's lock is taken and linked
//! under it.

use crate::command::executor::Executor;
use crate::command::ops::outcome::{Condition, Outcome, VALUE_END};
use crate::command::ops::refusal::Refusal;
use crate::command::ops::report::StoreReport;
use crate::events::StoreStatus;
use crate::limits::ClassId;
use crate::protocol::verb::StoreVerb;
use crate::store::mrc::Observed;
use crate::store::{Birth, Entry, Hashed, Item, ItemSpec, NewItem, NoMemory};

impl Executor<'_> {
    /// Stores a value if the condition holds.
    ///
    /// # Errors
    /// The reason to refuse the value.
    #[inline]
    pub(in crate::command) fn store_value(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        condition: Condition,
        value: &[u8],
    ) -> Result<Outcome, Refusal> {
        let new = self.begin_filled(key, spec, condition, value)?;
        Ok(self.commit(key, new, condition))
    }

    /// Stores the data block of a text client if the condition holds. Counts a
    /// refusal; memcached does not count those of packets.
    ///
    /// # Errors
    /// The reason to refuse the value.
    #[inline]
    pub(in crate::command) fn store_block(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        condition: Condition,
        block: &[u8],
    ) -> Result<Outcome, Refusal> {
        let (value, end) = block.split_at(spec.value_len);
        let new = self
            .begin_filled(key, spec, condition, value)
            .inspect_err(|refusal| self.count_refused(*refusal))?;
        if end == VALUE_END {
            return Ok(self.commit(key, new, condition));
        }
        self.store.discard(self.local, new);
        Err(Refusal::BadChunk)
    }

    /// Stores an item that has received its value, if the condition holds.
    ///
    /// # Errors
    /// [`Refusal::NoMemory`] if a limit of a prefix has no room for it any more.
    #[inline]
    pub(in crate::command) fn finish(
        &mut self,
        key: &Hashed<'_>,
        new: NewItem,
        condition: Condition,
    ) -> Result<Outcome, Refusal> {
        // Others may have taken the room while the value arrived.
        let (store, now) = (self.store, self.now);
        let (bytes, growth) = (new.item().bytes(), condition.growth());
        let room = store.make_prefix_room(self.local, key, bytes, growth, now);
        if let Err(NoMemory) = room {
            self.count_refused(Refusal::NoMemory);
            store.discard(self.local, new);
            if condition.drops_old {
                self.drop_old(key);
            }
            return Err(Refusal::NoMemory);
        }
        Ok(self.commit(key, new, condition))
    }

    /// Makes an item whose value is yet to arrive.
    ///
    /// # Errors
    /// The reason to refuse the value. Flag `drops_old` of the condition has
    /// taken effect.
    pub(in crate::command) fn begin(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        condition: Condition,
    ) -> Result<NewItem, Refusal> {
        self.admit(key, spec, condition, |executor| {
            let (store, now) = (executor.store, executor.now);
            executor.with_memory(|local| store.new_item(local, key, spec, now))
        })
    }

    #[inline]
    fn begin_filled(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        condition: Condition,
        value: &[u8],
    ) -> Result<NewItem, Refusal> {
        self.admit(key, spec, condition, |executor| {
            executor.new_filled_in_room(key, spec, std::iter::once(value))
        })
    }

    #[inline]
    fn admit(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        condition: Condition,
        make: impl FnOnce(&mut Self) -> Result<NewItem, NoMemory>,
    ) -> Result<NewItem, Refusal> {
        let fits = self
            .store
            .is_size_ok(key.key.len(), spec.flags, spec.value_len);
        let growth = condition.growth();
        let made = if fits {
            self.make_prefix_room(key, spec, growth)
                .and_then(|()| make(self))
                .map_err(|NoMemory| Refusal::NoMemory)
        } else {
            Err(Refusal::TooLarge)
        };
        self.sample_write(key, spec.value_len);
        match &made {
            Ok(new) => {
                self.local.counters.cmd_set.add(1);
                self.local.classes.of(new.item().class()).cmd_set.add(1);
            }
            Err(refusal) => {
                if condition.drops_old {
                    self.drop_old(key);
                }
                if !self.watched.is_empty() {
                    let status = match refusal {
                        Refusal::TooLarge => StoreStatus::TooLarge,
                        Refusal::NoMemory | Refusal::BadChunk => StoreStatus::NoMemory,
                    };
                    self.report_refused(key.key, spec, status);
                    self.report_looked_up(key);
                }
            }
        }
        made
    }

    /// Removes the item of a key whose newer value was refused.
    pub(in crate::command) fn drop_old(&mut self, key: &Hashed<'_>) {
        self.store
            .edit(self.local, key, self.now, |entry| entry.remove());
    }

    #[inline]
    fn commit(&mut self, key: &Hashed<'_>, new: NewItem, condition: Condition) -> Outcome {
        let sampler = self.curve.filter(|sampler| sampler.is_sampled(key.hash));
        let observed = sampler.map(|_| Observed::set(new.item()));
        let outcome = match self.watched.is_empty() {
            true => self.commit_unreported(key, new, condition),
            false => self.commit_watched(key, new, condition),
        };
        if let Some(observed) = observed
            && matches!(outcome, Outcome::Stored { .. })
        {
            self.observe(key, || observed);
        }
        outcome
    }

    #[cold]
    fn commit_watched(&mut self, key: &Hashed<'_>, new: NewItem, condition: Condition) -> Outcome {
        let old_expiry = self.report_looked_up(key);
        let mut report = StoreReport {
            command: condition.verb.name(),
            expiry: new.item().expiry(),
            new: new.item().item_size(),
        };
        let outcome = self.commit_unreported(key, new, condition);
        if condition.verb.extends()
            && let Outcome::Stored { value_len, .. } = outcome
        {
            // Watchers see the size and expiry time of the joined item.
            report.new.value_len = value_len as u32;
            report.expiry = old_expiry.unwrap_or(report.expiry);
        }
        self.report_stored(key.key, report, outcome.status());
        outcome
    }

    #[inline]
    fn commit_unreported(
        &mut self,
        key: &Hashed<'_>,
        new: NewItem,
        condition: Condition,
    ) -> Outcome {
        if condition.verb.extends() {
            return self.join(key, new, condition);
        }
        let mut new = Some(new);
        let outcome = self.store_if(key, &mut new, condition);
        if let Some(unused) = new {
            self.store.discard(self.local, unused);
        }
        outcome
    }

    /// Counts a compare-and-swap, in the size class of the old item.
    fn count_cas(&self, outcome: Outcome, class: Option<ClassId>) {
        let counters = &self.local.counters;
        let class = class.map(|class| self.local.classes.of(class));
        match outcome {
            Outcome::Stored { .. } => {
                counters.cas_hits.add(1);
                class.inspect(|class| class.cas_hits.add(1));
            }
            Outcome::NotFound => counters.cas_misses.add(1),
            Outcome::Exists | Outcome::NotStored => {
                counters.cas_badval.add(1);
                class.inspect(|class| class.cas_badval.add(1));
            }
        }
    }

    /// Links and takes `new` if the condition holds.
    #[inline]
    pub(in crate::command) fn store_if(
        &mut self,
        key: &Hashed<'_>,
        new: &mut Option<NewItem>,
        condition: Condition,
    ) -> Outcome {
        let (store, now) = (self.store, self.now);
        let mut old_class = None;
        let outcome = store.edit(self.local, key, now, |entry| {
            let mut stale = None;
            if condition.verb == StoreVerb::Cas {
                old_class = entry.item().map(Item::class);
            }
            match (condition.verb, entry.item()) {
                (StoreVerb::Add, Some(_)) => {
                    entry.promote();
                    return Outcome::NotStored;
                }
                (StoreVerb::Replace, None) => return Outcome::NotStored,
                (StoreVerb::Cas, None) => return Outcome::NotFound,
                (StoreVerb::Cas, Some(item)) => match condition.cas {
                    Some(cas) if cas.is_of(item.cas()) => {}
                    Some(cas) if condition.stale_wins && cas.get() < item.cas() => {
                        stale = Some((item.expiry(), item.is_token_sent()));
                    }
                    _ => return Outcome::Exists,
                },
                _ => {}
            }
            let birth = match condition.verb {
                StoreVerb::Replace | StoreVerb::Cas => {
                    match renew_unchanged(entry, condition.new_cas) {
                        Ok(birth) => birth,
                        Err(outcome) if condition.verb == StoreVerb::Cas => return outcome,
                        Err(_) => return Outcome::NotStored,
                    }
                }
                _ => store.draw(condition.new_cas),
            };
            let Some(new) = new.take() else {
                return Outcome::NotStored;
            };
            let (cas, value_len) = (birth.cas, new.item().value_len());
            entry.put_born(new, birth);
            if let Some((expiry, token_sent)) = stale {
                let kept = entry.set_expiry(expiry);
                debug_assert!(kept, "the item was made with room for it");
                entry.keep_stale(token_sent);
            }
            Outcome::Stored { cas, value_len }
        });
        if condition.verb == StoreVerb::Cas {
            self.count_cas(outcome, old_class);
        }
        outcome
    }
}

/// Draws the CAS value of an item that replaces the present one.
///
/// # Errors
/// The item has been invalidated since the condition was checked.
fn renew_unchanged(entry: &mut Entry<'_>, new_cas: Option<u64>) -> Result<Birth, Outcome> {
    let before = entry.item().map(Item::cas);
    let birth = entry.renew(new_cas).ok_or(Outcome::NotFound)?;
    // An invalidation that marks it stale gives it another CAS value.
    match entry.item().map(Item::cas) == before {
        true => Ok(birth),
        false => Err(Outcome::Exists),
    }
}
