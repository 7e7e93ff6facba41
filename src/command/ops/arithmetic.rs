//! `incr`, `decr` and `ma`.

use crate::command::executor::{Executor, reply};
use crate::command::ops::instrument::Storing;
use crate::command::ops::meta::{MetaKey, breaks_lines, ttl_value, write_status};
use crate::command::output::Output;
use crate::limits::ClassId;
use crate::protocol::meta::encode::{self as meta_encode, FlagValue, ReturnKey, Status};
use crate::protocol::meta::request::{MetaMode, MetaRequest, OPAQUE_TOO_LONG};
use crate::protocol::number::item_value;
use crate::protocol::text::encode;
use crate::store::mrc::Observed;
use crate::store::{Entry, Hashed, ItemSpec, NewItem, Pin};
use crate::time::{Expiry, Now};

const NON_NUMERIC: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value";

/// Arguments of an increment or decrement.
#[derive(Clone, Copy, Default)]
pub(in crate::command) struct Change {
    /// Amount to add or subtract.
    pub(in crate::command) delta: u64,
    /// Subtract, stopping at 0. Otherwise add modulo 2^64.
    pub(in crate::command) decrement: bool,
    /// CAS value to compare with; 0 for none.
    pub(in crate::command) cas: u64,
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
    /// The item has no room for an expiry time.
    NoExpiryField(Option<Pin>),
}

/// Contents of the item that replaces the current one.
#[derive(Clone, Copy)]
struct Replacement {
    number: u64,
    flags: u32,
    expiry: Expiry,
    key_binary: bool,
    /// Minimum length in bytes; the number is padded with spaces.
    value_len: usize,
    old_cas: u64,
}

impl Executor<'_> {
    /// Executes `incr` or `decr`.
    pub(in crate::command) fn count(
        &mut self,
        key: &[u8],
        delta: u64,
        decrement: bool,
        noreply: bool,
        out: &mut Output,
    ) {
        let key = self.store.hashed(key);
        let change = Change {
            delta,
            decrement,
            ..Change::default()
        };
        match self.change_or_create(&key, change, None) {
            ArithmeticOutcome::Done { number, .. } if !noreply => {
                encode::number(&mut out.bytes, number);
                out.bytes.extend_from_slice(b"\r\n");
            }
            ArithmeticOutcome::Done { .. } => {}
            ArithmeticOutcome::NotFound | ArithmeticOutcome::Exists => {
                reply(out, noreply, "NOT_FOUND")
            }
            ArithmeticOutcome::NonNumeric => reply(out, noreply, NON_NUMERIC),
            ArithmeticOutcome::NoMemory => reply(out, noreply, "SERVER_ERROR out of memory"),
        }
    }

    /// Executes `ma`.
    pub(in crate::command) fn meta_arithmetic(&mut self, meta: &MetaRequest<'_>, out: &mut Output) {
        let decoded = MetaKey::of(meta);
        let key = self.store.hashed(decoded.bytes());
        let flags = &meta.flags;
        let change = Change {
            delta: flags.delta.unwrap_or(1),
            decrement: flags.mode == MetaMode::Decrement,
            cas: flags.cas.unwrap_or(0),
            new_cas: flags.new_cas,
            ttl: flags.ttl_done(),
            ..Change::default()
        };
        let beginning = flags.vivify.map(|_| InitialValue {
            number: flags.initial,
            expiry: Expiry::from_protocol(flags.created_ttl(), self.now),
            key_binary: meta.base64 && breaks_lines(key.key),
        });
        match self.change_or_create(&key, change, beginning) {
            ArithmeticOutcome::NonNumeric => encode::line(&mut out.bytes, NON_NUMERIC),
            ArithmeticOutcome::NoMemory => {
                encode::line(&mut out.bytes, "SERVER_ERROR out of memory")
            }
            // memcached detects this while it writes the reply, after the
            // change.
            _ if flags.opaque_too_long => encode::line(&mut out.bytes, OPAQUE_TOO_LONG),
            ArithmeticOutcome::Done {
                number,
                cas,
                before,
                created,
                ..
            } => {
                if !flags.quiet {
                    let hit = (before, created);
                    write_number(meta, key.key, number, cas, hit, self.now, out);
                }
            }
            ArithmeticOutcome::NotFound => write_status(out, Status::NotFound, meta, key.key),
            ArithmeticOutcome::Exists => write_status(out, Status::Exists, meta, key.key),
        }
    }

    /// Changes the number of a key. On a miss, creates it from `beginning` if
    /// given.
    #[inline]
    pub(in crate::command) fn change_or_create(
        &mut self,
        key: &Hashed<'_>,
        change: Change,
        beginning: Option<InitialValue>,
    ) -> ArithmeticOutcome {
        let change = Change {
            vivify: beginning.is_some(),
            ..change
        };
        if !self.watched.is_empty() {
            self.report_looked_up(key);
        }
        match (self.change(key, change), beginning) {
            (ArithmeticOutcome::NotFound, Some(beginning)) => {
                self.create_number(key, change, beginning)
            }
            (counted, _) => counted,
        }
    }

    /// Changes the number of a present item. Replaces the item if it cannot be
    /// changed in place.
    fn change(&mut self, key: &Hashed<'_>, change: Change) -> ArithmeticOutcome {
        let mut made: Option<(NewItem, Replacement)> = None;
        let counted = loop {
            let (store, now) = (self.store, self.now);
            let attempt = store.edit(self.local, key, now, |entry| {
                let cas = || change.new_cas.unwrap_or_else(|| store.next_cas());
                change_under_lock(entry, change, &mut made, cas, now)
            });
            match attempt {
                Attempt::Ended(counted) => break counted,
                Attempt::NoExpiryField(pin) => {
                    if !self.reserve_expiry_field(key, pin) {
                        break ArithmeticOutcome::NoMemory;
                    }
                }
                Attempt::Replace(with) => {
                    if let Some((stale, _)) = made.take() {
                        self.store.discard(self.local, stale);
                    }
                    match self.make_number(key, with) {
                        Some(new) => made = Some((new, with)),
                        None => break ArithmeticOutcome::NoMemory,
                    }
                }
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
        let (hits, misses) = if change.decrement {
            (&counters.decr_hits, &counters.decr_misses)
        } else {
            (&counters.incr_hits, &counters.incr_misses)
        };
        match counted {
            ArithmeticOutcome::Done { class, .. } => {
                hits.add(1);
                let Some(class) = class.map(|class| self.local.classes.of(class)) else {
                    return;
                };
                if change.decrement {
                    class.decr_hits.add(1);
                } else {
                    class.incr_hits.add(1);
                }
            }
            ArithmeticOutcome::NotFound if !change.vivify => misses.add(1),
            _ => {}
        }
    }

    fn make_number(&mut self, key: &Hashed<'_>, with: Replacement) -> Option<NewItem> {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(with.number).as_bytes();
        let spec = ItemSpec {
            flags: with.flags,
            expiry: with.expiry,
            key_binary: with.key_binary,
            with_expiry_field: with.expiry != Expiry::NEVER,
            ..ItemSpec::new(key.key, digits.len().max(with.value_len))
        };
        let blanks = vec![b' '; spec.value_len - digits.len()];
        let value = [digits, &blanks, b"\r\n"].into_iter();
        self.new_filled(key, &spec, value).ok()
    }

    /// If another thread creates the item first, the change is applied to that
    /// item.
    fn create_number(
        &mut self,
        key: &Hashed<'_>,
        change: Change,
        beginning: InitialValue,
    ) -> ArithmeticOutcome {
        let with = Replacement {
            number: beginning.number,
            value_len: 0,
            flags: 0,
            expiry: beginning.expiry,
            key_binary: beginning.key_binary,
            old_cas: 0,
        };
        let Some(new) = self.make_number(key, with) else {
            return ArithmeticOutcome::NoMemory;
        };
        if !self.watched.is_empty() {
            self.report_looked_up(key);
            let storing = Storing {
                command: "add",
                expiry: with.expiry,
                new: new.item().item_size(),
            };
            self.report_stored(key.key, storing, "stored");
        }
        let mut new = Some(new);
        let (store, now) = (self.store, self.now);
        let cas = change.new_cas.unwrap_or_else(|| store.next_cas());
        let created = store.edit(self.local, key, now, |entry| {
            let vacant = entry.item().is_none();
            if let Some(new) = new.take_if(|_| vacant) {
                entry.put(new, cas);
            }
            vacant
        });
        if let Some(unused) = new {
            self.store.discard(self.local, unused);
        }
        if created {
            return ArithmeticOutcome::Done {
                number: with.number,
                cas,
                before: Expiry::NEVER,
                created,
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
    next_cas: impl Fn() -> u64,
    now: Now,
) -> Attempt {
    let Some(item) = entry.item() else {
        return Attempt::Ended(ArithmeticOutcome::NotFound);
    };
    // A number never extends past the first chunk of a long value.
    let text = item.value_pieces().next().unwrap_or_default();
    if text.is_empty() {
        return Attempt::Ended(ArithmeticOutcome::NonNumeric);
    }
    if change.cas != 0 && change.cas != item.cas() {
        return Attempt::Ended(ArithmeticOutcome::Exists);
    }
    let Some(value) = item_value(text) else {
        return Attempt::Ended(ArithmeticOutcome::NonNumeric);
    };
    let number = if change.decrement {
        value.saturating_sub(change.delta)
    } else {
        value.wrapping_add(change.delta)
    };
    let class = Some(item.class());
    let before = item.expiry();
    let after = match change.ttl {
        Some(ttl) => Expiry::from_protocol(ttl, now),
        None => before,
    };
    if after != Expiry::NEVER && !item.has_expiry_field() {
        return Attempt::NoExpiryField(item.pin());
    }
    let mut digits = itoa::Buffer::new();
    let cas;
    if entry.overwrite(digits.format(number).as_bytes()) {
        cas = next_cas();
        entry.set_cas(cas);
        let changed = entry.set_expiry(after);
        debug_assert!(changed, "there is room, or no need of it");
        entry.promote();
    } else {
        let fits = digits.format(number).len() <= item.value_len();
        let wanted = Replacement {
            number,
            value_len: item.value_len(),
            key_binary: item.is_key_binary() && (fits || breaks_lines(item.key())),
            flags: item.flags(),
            expiry: after,
            old_cas: item.cas(),
        };
        let is_wanted = |made: &mut (NewItem, Replacement)| made.1.replaces_the_same(&wanted);
        let Some((new, _)) = made.take_if(is_wanted) else {
            return Attempt::Replace(wanted);
        };
        cas = next_cas();
        if fits {
            // Only a reader's pin kept the item from being changed in place.
            // The client must not notice the replacement, so put_copy keeps the
            // item's history.
            entry.put_copy(new);
            entry.set_cas(cas);
        } else {
            entry.put(new, cas);
        }
    }
    Attempt::Ended(ArithmeticOutcome::Done {
        number,
        cas,
        before,
        created: false,
        class,
    })
}

impl Replacement {
    fn replaces_the_same(&self, other: &Self) -> bool {
        self.number == other.number
            && self.flags == other.flags
            && self.expiry == other.expiry
            && self.value_len == other.value_len
            && self.key_binary == other.key_binary
            && self.old_cas == other.old_cas
    }
}

/// Appends the reply to `ma`.
fn write_number(
    meta: &MetaRequest<'_>,
    key: &[u8],
    number: u64,
    cas: u64,
    (before, created): (Expiry, bool),
    now: Now,
    out: &mut Output,
) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number).as_bytes();
    if meta.flags.value {
        meta_encode::value(&mut out.bytes, digits.len());
    } else {
        meta_encode::status(&mut out.bytes, Status::Done);
    }
    let base64 = meta.base64;
    let key = ReturnKey { key, base64 };
    let mut expiry = before;
    meta_encode::return_flags(&mut out.bytes, meta.tokens, key, |flag| {
        match flag {
            b'c' => return FlagValue::Number(cas),
            b't' => return ttl_value(expiry, now),
            b'T' => expiry = Expiry::from_protocol(meta.flags.ttl.unwrap_or(0), now),
            b'N' if created => {
                expiry = Expiry::from_protocol(meta.flags.vivify.unwrap_or(0), now);
            }
            _ => {}
        }
        FlagValue::Absent
    });
    meta_encode::end(&mut out.bytes);
    if meta.flags.value {
        out.bytes.extend_from_slice(digits);
        out.bytes.extend_from_slice(b"\r\n");
    }
}
