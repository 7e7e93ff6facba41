//! Increments and decrements.

use crate::command::executor::Executor;
use crate::command::ops::expiry::NoField;
use crate::command::ops::report::StoreReport;
use crate::command::ops::ttl::Ttls;
use crate::events::StoreStatus;
use crate::limits::ClassId;
use crate::protocol::cas::Cas;
use crate::protocol::meta::key::needs_base64;
use crate::protocol::number::parse_item_value;
use crate::protocol::verb::ArithmeticVerb;
use crate::store::mrc::Observed;
use crate::store::{Entry, Hashed, ItemSpec, NewItem, NoMemory, Tags};
use crate::time::Expiry;

/// Arguments of an increment or decrement.
#[derive(Clone, Copy, Default)]
pub(in crate::command) struct Change {
    /// Whether to add or to subtract.
    pub(in crate::command) verb: ArithmeticVerb,
    /// Amount to add or subtract.
    pub(in crate::command) delta: u64,
    /// CAS value to compare with.
    pub(in crate::command) cas: Option<Cas>,
    /// CAS value to assign; the next one if `None`.
    pub(in crate::command) new_cas: Option<u64>,
    /// New exptime.
    pub(in crate::command) ttl: Option<i32>,
    /// A miss creates the item and is not counted as a miss.
    pub(in crate::command) vivify: bool,
}

/// Initial state of an item created on a miss.
#[derive(Clone, Copy)]
pub(in crate::command) struct InitialValue {
    /// Initial value.
    pub(in crate::command) number: u64,
    /// Expiry time.
    pub(in crate::command) expiry: Expiry,
    /// Show the key in base64 from now on.
    pub(in crate::command) key_binary: bool,
    /// Tags.
    pub(in crate::command) tags: Tags,
}

/// Outcome of an increment or decrement.
pub(in crate::command) enum ArithmeticOutcome {
    /// Stored: the new value, the new CAS value, and the expiry time before.
    Done {
        number: u64,
        cas: u64,
        before: Expiry,
        /// The item was created.
        created: bool,
        /// Size class of the item before; `None` if it was created.
        class: Option<ClassId>,
    },
    NotFound,
    NonNumeric,
    Exists,
    NoMemory,
}

/// Outcome of one attempt under the shard's lock.
enum Attempt {
    Ended(ArithmeticOutcome),
    /// The item must be replaced: the value grows, or a reader has pinned it.
    Replace(Replacement),
}

/// An item that replaces the current one, if that is still the same.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Replacement {
    contents: NumberItem,
    old_cas: u64,
}

/// Contents of an item with a number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct NumberItem {
    number: u64,
    flags: u32,
    expiry: Expiry,
    key_binary: bool,
    /// Minimum length in bytes; the number is padded with spaces.
    value_len: usize,
    tags: Tags,
    with_birth_field: bool,
}

impl Executor<'_> {
    /// Changes the number of a key. On a miss, creates it from `initial` if
    /// given.
    #[inline]
    pub(in crate::command) fn change_or_create(
        &mut self,
        key: &Hashed<'_>,
        change: Change,
        initial: Option<InitialValue>,
    ) -> ArithmeticOutcome {
        let change = Change {
            vivify: initial.is_some(),
            ..change
        };
        if !self.watched.is_empty() {
            self.report_looked_up(key);
        }
        match (self.change(key, change), initial) {
            (ArithmeticOutcome::NotFound, Some(initial)) => {
                self.create_number(key, change, initial)
            }
            (counted, _) => counted,
        }
    }

    /// Changes the number of a present item. Replaces the item if it cannot be
    /// changed in place.
    fn change(&mut self, key: &Hashed<'_>, change: Change) -> ArithmeticOutcome {
        let mut made: Option<(NewItem, Replacement)> = None;
        let counted = loop {
            let ttls = self.ttls();
            let attempt = self.edit_fields(key, |entry| {
                change_under_lock(entry, change, &mut made, ttls)
            });
            match attempt {
                Ok(Attempt::Ended(counted)) => break counted,
                Ok(Attempt::Replace(with)) => {
                    if let Some((stale, _)) = made.take() {
                        self.store.discard(self.local, stale);
                    }
                    match self.make_number(key, with.contents) {
                        Ok(new) => made = Some((new, with)),
                        Err(NoMemory) => break ArithmeticOutcome::NoMemory,
                    }
                }
                Err(NoMemory) => break ArithmeticOutcome::NoMemory,
            }
        };
        if let Some((unused, _)) = made {
            self.store.discard(self.local, unused);
        }
        self.sample_write(key, 0);
        self.observe(key, || Observed::Touch { expiry: None });
        self.count_change(change, &counted);
        counted
    }

    fn count_change(&self, change: Change, counted: &ArithmeticOutcome) {
        let counters = &self.local.counters;
        let (hits, misses) = match change.verb {
            ArithmeticVerb::Increment => (&counters.incr_hits, &counters.incr_misses),
            ArithmeticVerb::Decrement => (&counters.decr_hits, &counters.decr_misses),
        };
        match counted {
            ArithmeticOutcome::Done { class, .. } => {
                hits.add(1);
                let Some(class) = class.map(|class| self.local.classes.of(class)) else {
                    return;
                };
                match change.verb {
                    ArithmeticVerb::Increment => class.incr_hits.add(1),
                    ArithmeticVerb::Decrement => class.decr_hits.add(1),
                }
            }
            ArithmeticOutcome::NotFound if !change.vivify => misses.add(1),
            _ => {}
        }
    }

    fn make_number(&mut self, key: &Hashed<'_>, with: NumberItem) -> Result<NewItem, NoMemory> {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(with.number).as_bytes();
        let spec = ItemSpec {
            flags: with.flags,
            expiry: with.expiry,
            key_binary: with.key_binary,
            with_expiry_field: with.expiry != Expiry::NEVER,
            with_birth_field: with.with_birth_field,
            tags: Some(&with.tags),
            ..ItemSpec::new(key.key, digits.len().max(with.value_len))
        };
        let blanks = vec![b' '; spec.value_len - digits.len()];
        let value = [digits, &blanks].into_iter();
        self.new_filled(key, &spec, value)
    }

    /// If another thread creates the item first, the change is applied to that
    /// item.
    fn create_number(
        &mut self,
        key: &Hashed<'_>,
        change: Change,
        initial: InitialValue,
    ) -> ArithmeticOutcome {
        let with = NumberItem {
            number: initial.number,
            value_len: 0,
            flags: 0,
            expiry: initial.expiry,
            key_binary: initial.key_binary,
            tags: initial.tags,
            with_birth_field: change.new_cas.is_some(),
        };
        let Ok(new) = self.make_number(key, with) else {
            return ArithmeticOutcome::NoMemory;
        };
        if !self.watched.is_empty() {
            self.report_looked_up(key);
            let report = StoreReport {
                command: "add",
                expiry: with.expiry,
                new: new.item().item_size(),
            };
            self.report_stored(key.key, report, StoreStatus::Stored);
        }
        let mut new = Some(new);
        let (store, now) = (self.store, self.now);
        let created = store.edit(self.local, key, now, |entry| {
            if entry.item().is_some() {
                return None;
            }
            let birth = store.draw(change.new_cas);
            entry.put_born(new.take()?, birth);
            Some(birth.cas)
        });
        if let Some(unused) = new {
            self.store.discard(self.local, unused);
        }
        if let Some(cas) = created {
            return ArithmeticOutcome::Done {
                number: with.number,
                cas,
                before: Expiry::NEVER,
                created: true,
                class: None,
            };
        }
        self.change(key, change)
    }
}

fn change_under_lock(
    entry: &mut Entry<'_>,
    change: Change,
    made: &mut Option<(NewItem, Replacement)>,
    ttls: Ttls,
) -> Result<Attempt, NoField> {
    let ended = |outcome| Ok(Attempt::Ended(outcome));
    let Some(item) = entry.item() else {
        return ended(ArithmeticOutcome::NotFound);
    };
    // A number never extends past the first chunk of a long value.
    let text = item.pieces().next().unwrap_or_default();
    if text.is_empty() {
        return ended(ArithmeticOutcome::NonNumeric);
    }
    if change.cas.is_some_and(|cas| !cas.is_of(item.cas())) {
        return ended(ArithmeticOutcome::Exists);
    }
    let Some(value) = parse_item_value(text) else {
        return ended(ArithmeticOutcome::NonNumeric);
    };
    let number = change.verb.apply(value, change.delta);
    let class = Some(item.class());
    let before = item.expiry();
    let after = match change.ttl {
        Some(ttl) => ttls.expiry(ttl, item.key()),
        None => before,
    };
    if after != Expiry::NEVER && !item.has_expiry_field() {
        return Err(NoField::expiry(Some(item)));
    }
    if entry.lacks_birth_field(change.new_cas) {
        return Err(NoField::birth(item));
    }
    let mut digits = itoa::Buffer::new();
    let birth;
    if entry.overwrite(digits.format(number).as_bytes()) {
        let Some(renewed) = entry.renew(change.new_cas) else {
            return ended(ArithmeticOutcome::NotFound);
        };
        birth = renewed;
        entry.set_birth(birth);
        let changed = entry.set_expiry(after);
        debug_assert!(changed, "there is room, or no need of it");
        entry.promote();
    } else {
        let fits = digits.format(number).len() <= item.value_len();
        let contents = NumberItem {
            number,
            value_len: item.value_len(),
            key_binary: item.is_key_binary() && (fits || needs_base64(item.key())),
            flags: item.flags(),
            expiry: after,
            tags: item.tags(),
            with_birth_field: item.has_birth_field(),
        };
        let wanted = Replacement {
            contents,
            old_cas: item.cas(),
        };
        let Some((new, _)) = made.take_if(|(_, with)| *with == wanted) else {
            return Ok(Attempt::Replace(wanted));
        };
        let Some(renewed) = entry.renew(change.new_cas) else {
            *made = Some((new, wanted));
            return ended(ArithmeticOutcome::NotFound);
        };
        birth = renewed;
        if fits {
            // Only a reader's pin kept the item from being changed in place.
            // The client must not notice the replacement, so put_copy keeps the
            // item's history.
            entry.put_copy(new);
            entry.set_birth(birth);
        } else {
            entry.put_born(new, birth);
        }
    }
    ended(ArithmeticOutcome::Done {
        number,
        cas: birth.cas,
        before,
        created: false,
        class,
    })
}
