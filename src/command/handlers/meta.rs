//! Meta commands.

use crate::command::executor::Executor;
use crate::command::handlers::text::refused;
use crate::command::ops::arithmetic::{ArithmeticOutcome, Change, InitialValue};
use crate::command::ops::delete::Deleted;
use crate::command::ops::meta_get::Hit;
use crate::command::ops::outcome::{Condition, Outcome};
use crate::command::ops::refusal::Refusal;
use crate::command::ops::ttl::Ttls;
use crate::command::output::Output;
use crate::protocol::cas::Cas;
use crate::protocol::meta::encode::{self, FlagValue, ItemDebug, RecacheState, ReturnKey, Status};
use crate::protocol::meta::key::{MetaKey, needs_base64};
use crate::protocol::meta::request::{MetaMode, MetaRequest};
use crate::protocol::text::encode::{line, number_line};
use crate::protocol::text::reply::Reply;
use crate::protocol::verb::{ArithmeticVerb, NameKind};
use crate::store::{Access, Effect, Hashed, Item, ItemSpec, NoMemory, Tags};
use crate::time::{Expiry, Now};

impl Executor<'_> {
    /// Executes `mg`. `hash` is the hash of the key if it is not in base64.
    #[inline]
    pub(in crate::command) fn meta_get_line(
        &mut self,
        meta: &MetaRequest<'_>,
        hash: Option<u64>,
        out: &mut Output,
    ) {
        let decoded = MetaKey::new(meta.key, meta.base64);
        let key = match hash {
            Some(hash) => Hashed {
                key: meta.key,
                hash,
            },
            None => self.store.hashed(decoded.bytes()),
        };
        if meta.flags.opaque_too_long {
            self.meta_get_unanswered(meta, &key);
            return error(out, Reply::OpaqueTooLong);
        }
        let ttls = self.ttls();
        let found = self.meta_get(meta, &key, out, |item, hit, out| {
            write_hit(meta, item, hit, ttls, out);
        });
        if found.is_err() && !meta.flags.quiet {
            write_status(out, Status::Miss, meta, key.key);
        }
    }

    /// Executes `ms`, whose data block has arrived.
    pub(in crate::command) fn meta_set_line(
        &mut self,
        meta: &MetaRequest<'_>,
        block: &[u8],
        out: &mut Output,
    ) {
        let decoded = MetaKey::new(meta.key, meta.base64);
        let key = self.store.hashed(decoded.bytes());
        if meta.flags.opaque_too_long {
            return self.refuse_opaque(meta, &key, out);
        }
        let tags = self.meta_tags(meta);
        let spec = self.meta_spec(meta, key.key, tags.as_ref());
        let stored = self.store_block(&key, &spec, Condition::meta(&meta.flags), block);
        write_stored(stored, meta, key.key, out);
    }

    /// Refuses an `ms` whose opaque is over its limit. memcached detects this
    /// after it made the item, so the command counts as a set.
    #[cold]
    pub(super) fn refuse_opaque(
        &mut self,
        meta: &MetaRequest<'_>,
        key: &Hashed<'_>,
        out: &mut Output,
    ) {
        let tags = self.meta_tags(meta);
        let spec = self.meta_spec(meta, key.key, tags.as_ref());
        match self.begin(key, &spec, Condition::meta(&meta.flags)) {
            Err(refusal) => {
                self.count_refused(refusal);
                error(out, refused(refusal));
            }
            Ok(new) => {
                self.store.discard(self.local, new);
                error(out, Reply::OpaqueTooLong);
            }
        }
    }

    /// Returns the tags that an `ms` or `ma` gives its item.
    pub(super) fn meta_tags(&self, meta: &MetaRequest<'_>) -> Option<Tags> {
        meta.flags.tagged.then(|| self.store.tags(meta.tags()))
    }

    /// Returns the item that an `ms` makes.
    pub(super) fn meta_spec<'k>(
        &self,
        meta: &MetaRequest<'_>,
        key: &'k [u8],
        tags: Option<&'k Tags>,
    ) -> ItemSpec<'k> {
        let exptime = if meta.flags.mode.extends() {
            meta.flags.vivify
        } else {
            meta.flags.ttl
        };
        ItemSpec {
            flags: meta.flags.client_flags,
            expiry: self.ttls().expiry(exptime.unwrap_or(0), key),
            key_binary: meta.base64,
            // A stale value inherits the old item's expiry time.
            with_expiry_field: meta.flags.invalidate,
            with_birth_field: Condition::meta(&meta.flags).new_cas.is_some(),
            tags,
            ..ItemSpec::new(key, meta.value_len as usize)
        }
    }

    /// Executes `md`.
    pub(in crate::command) fn meta_delete_line(
        &mut self,
        meta: &MetaRequest<'_>,
        out: &mut Output,
    ) {
        let decoded = MetaKey::new(meta.key, meta.base64);
        if let Some((kind, name)) = self.name_in_key(decoded.bytes()) {
            return self.meta_invalidate(meta, kind, name, out);
        }
        let key = self.store.hashed(decoded.bytes());
        let status = match self.meta_delete(meta, &key) {
            Err(NoMemory) => return error(out, Reply::NoMemory),
            Ok(Deleted::Done) if meta.flags.quiet => return,
            Ok(Deleted::Done) => Status::Done,
            Ok(Deleted::NotFound) => Status::NotFound,
            Ok(Deleted::Exists) => Status::Exists,
        };
        write_status(out, status, meta, key.key);
    }

    /// Executes `md` of a key that names a prefix or tag (`-o invalidate_keys`).
    #[cold]
    fn meta_invalidate(
        &mut self,
        meta: &MetaRequest<'_>,
        kind: NameKind,
        name: &[u8],
        out: &mut Output,
    ) {
        let flags = &meta.flags;
        let is_conditional = flags.cas.is_some() || flags.new_cas.is_some();
        if is_conditional || flags.ttl.is_some() || flags.remove_value {
            let text = "CLIENT_ERROR flags C, E, T and x do not apply to an invalidation";
            return line(&mut out.bytes, text);
        }
        let effect = match flags.invalidate {
            true => Effect::MarkStale,
            false => Effect::Delete,
        };
        match self.invalidate(kind, name, effect, "md") {
            Err(refusal) => line(&mut out.bytes, &refusal.text(self.store.delimiter())),
            Ok(()) if flags.quiet => {}
            Ok(()) => {
                let key = MetaKey::new(meta.key, meta.base64);
                write_status(out, Status::Done, meta, key.bytes());
            }
        }
    }

    /// Executes `ma`.
    pub(in crate::command) fn meta_arithmetic_line(
        &mut self,
        meta: &MetaRequest<'_>,
        out: &mut Output,
    ) {
        let decoded = MetaKey::new(meta.key, meta.base64);
        let key = self.store.hashed(decoded.bytes());
        let flags = &meta.flags;
        let verb = match flags.mode {
            MetaMode::Decrement => ArithmeticVerb::Decrement,
            _ => ArithmeticVerb::Increment,
        };
        let change = Change {
            verb,
            delta: flags.delta.unwrap_or(1),
            cas: flags.cas.and_then(Cas::new),
            new_cas: flags.new_cas,
            ttl: flags.effective_ttl(),
            ..Change::default()
        };
        let initial = flags.vivify.map(|_| InitialValue {
            number: flags.initial,
            expiry: self.ttls().expiry(flags.created_ttl(), key.key),
            key_binary: meta.base64 && needs_base64(key.key),
            tags: self.meta_tags(meta).unwrap_or_default(),
        });
        match self.change_or_create(&key, change, initial) {
            ArithmeticOutcome::NonNumeric => error(out, Reply::NonNumeric),
            ArithmeticOutcome::NoMemory => error(out, Reply::NoMemory),
            // memcached detects this while it writes the reply, after the
            // change.
            _ if flags.opaque_too_long => error(out, Reply::OpaqueTooLong),
            ArithmeticOutcome::Done {
                number,
                cas,
                before,
                created,
                ..
            } => {
                if !flags.quiet {
                    let ttl = ReturnedTtl::new(before, created);
                    write_number(meta, key.key, number, cas, ttl, self.ttls(), out);
                }
            }
            ArithmeticOutcome::NotFound => write_status(out, Status::NotFound, meta, key.key),
            ArithmeticOutcome::Exists => write_status(out, Status::Exists, meta, key.key),
        }
    }

    /// Executes `me`.
    pub(in crate::command) fn meta_debug_line(
        &mut self,
        key: &[u8],
        base64: bool,
        out: &mut Output,
    ) {
        let decoded = MetaKey::new(key, base64);
        if decoded.bytes().is_empty() {
            return error(out, Reply::BadFormat);
        }
        self.local.counters.cmd_meta.add(1);
        let key = self.store.hashed(decoded.bytes());
        let now = self.now;
        if !self.watched.is_empty() {
            self.report_looked_up(&key);
        }
        let found = self.store.read(self.local, &key, now, |item| {
            encode::debug(&mut out.bytes, debug_of(item, now));
            (Access::Peek, ())
        });
        if found.is_err() {
            encode::status(&mut out.bytes, Status::Miss);
            encode::end(&mut out.bytes);
        }
    }
}

fn error(out: &mut Output, error: Reply) {
    line(&mut out.bytes, error.text());
}

/// Appends a reply without a value and without return flags but `k` and `O`,
/// which every outcome returns.
fn write_status(out: &mut Output, status: Status, meta: &MetaRequest<'_>, key: &[u8]) {
    let base64 = meta.base64;
    encode::status(&mut out.bytes, status);
    let key = ReturnKey { key, base64 };
    encode::return_flags(&mut out.bytes, meta.tokens, key, |_| FlagValue::Absent);
    encode::end(&mut out.bytes);
}

/// Appends the reply to `ms`.
pub(super) fn write_stored(
    stored: Result<Outcome, Refusal>,
    meta: &MetaRequest<'_>,
    key: &[u8],
    out: &mut Output,
) {
    let (status, cas, value_len) = match stored {
        Err(refusal) => return error(out, refused(refusal)),
        Ok(Outcome::Stored { .. }) if meta.flags.quiet => return,
        Ok(Outcome::Stored { cas, value_len }) => (Status::Done, cas, value_len),
        Ok(Outcome::NotStored) => (Status::NotStored, 0, meta.value_len as usize),
        Ok(Outcome::Exists) => (Status::Exists, 0, meta.value_len as usize),
        Ok(Outcome::NotFound) => (Status::NotFound, 0, meta.value_len as usize),
    };
    let base64 = meta.base64;
    encode::status(&mut out.bytes, status);
    let key = ReturnKey { key, base64 };
    encode::return_flags(&mut out.bytes, meta.tokens, key, |flag| match flag {
        b'c' => FlagValue::Number(cas),
        b's' => FlagValue::Number(value_len as u64),
        _ => FlagValue::Absent,
    });
    encode::end(&mut out.bytes);
}

/// TTL that the flag `t` returns: as in memcached, the one in effect at its
/// position among the flags `T` and `N`.
struct ReturnedTtl {
    expiry: Expiry,
    /// The command created the item, so that `N` applies.
    created: bool,
}

impl ReturnedTtl {
    fn new(before: Expiry, created: bool) -> Self {
        Self {
            expiry: before,
            created,
        }
    }

    /// Passes the next flag of the line and returns its value.
    #[inline]
    fn next(&mut self, flag: u8, meta: &MetaRequest<'_>, ttls: Ttls, key: &[u8]) -> FlagValue {
        let exptime = match flag {
            b't' => return ttl_value(self.expiry, ttls.now),
            b'T' => meta.flags.ttl,
            b'N' if self.created => meta.flags.vivify,
            _ => return FlagValue::Absent,
        };
        self.expiry = ttls.expiry(exptime.unwrap_or(0), key);
        FlagValue::Absent
    }
}

/// Returns the TTL in seconds as the flag `t` returns it. The TTL of an item
/// that this command expired is negative, modulo 2^32.
fn ttl_value(expiry: Expiry, now: Now) -> FlagValue {
    match now.remaining_seconds(expiry) {
        _ if expiry.is_over(now) => FlagValue::Number(u64::from(now.overdue(expiry))),
        Some(left) => FlagValue::Number(u64::from(left)),
        None => FlagValue::Never,
    }
}

/// Appends the reply to an `mg` that hit.
#[inline]
fn write_hit(meta: &MetaRequest<'_>, item: Item<'_>, hit: Hit, ttls: Ttls, out: &mut Output) {
    let with_value = meta.flags.value && meta.flags.cas != Some(item.cas());
    let bytes = &mut out.bytes;
    if with_value {
        encode::value(bytes, item.value_len());
    } else {
        encode::status(bytes, Status::Done);
    }
    let key = ReturnKey {
        key: item.key(),
        base64: item.is_key_binary(),
    };
    let mut ttl = ReturnedTtl::new(hit.before, hit.created);
    encode::return_flags(bytes, meta.tokens, key, |flag| match flag {
        b's' => FlagValue::Number(item.value_len() as u64),
        b'c' => FlagValue::Number(item.cas()),
        b'f' => FlagValue::Number(u64::from(item.flags())),
        b'l' => FlagValue::Number(u64::from(item.age(ttls.now))),
        b'h' => FlagValue::from(item.is_fetched()),
        other => ttl.next(other, meta, ttls, item.key()),
    });
    let recache = RecacheState {
        is_token_sent: item.is_token_sent(),
        is_stale: item.is_stale(),
        has_won: hit.won,
    };
    encode::recache_flags(bytes, recache);
    encode::end(bytes);
    if with_value {
        out.value(item);
    }
}

/// Appends the reply to an `ma` that changed or created its number.
fn write_number(
    meta: &MetaRequest<'_>,
    key: &[u8],
    number: u64,
    cas: u64,
    mut ttl: ReturnedTtl,
    ttls: Ttls,
    out: &mut Output,
) {
    if meta.flags.value {
        encode::number_value(&mut out.bytes, number);
    } else {
        encode::status(&mut out.bytes, Status::Done);
    }
    let base64 = meta.base64;
    let returned = ReturnKey { key, base64 };
    encode::return_flags(&mut out.bytes, meta.tokens, returned, |flag| match flag {
        b'c' => FlagValue::Number(cas),
        other => ttl.next(other, meta, ttls, key),
    });
    encode::end(&mut out.bytes);
    if meta.flags.value {
        number_line(&mut out.bytes, number);
    }
}

fn debug_of(item: Item<'_>, now: Now) -> ItemDebug<'_> {
    ItemDebug {
        key: ReturnKey {
            key: item.key(),
            base64: item.is_key_binary(),
        },
        ttl: now.remaining_seconds(item.expiry()),
        age: item.age(now),
        cas: item.cas(),
        fetched: item.is_fetched(),
        class: item.class(),
        bytes: item.bytes(),
    }
}
