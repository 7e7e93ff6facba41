//! `mg` and `me`, and helpers of all meta commands.

use crate::command::executor::Executor;
use crate::command::output::Output;
use crate::events::{ItemSize, Kinds};
use crate::limits::KEY_MAX_BYTES;
use crate::protocol::meta::encode::{self as meta_encode, FlagValue, ReturnKey, Status};
use crate::protocol::meta::key::{decode_key, encode_key};
use crate::protocol::meta::request::{MetaRequest, OPAQUE_TOO_LONG};
use crate::protocol::text::encode;
use crate::protocol::tokens::tokens;
use crate::store::{Access, Entry, Hashed, Item, ItemSpec, Miss, NewItem, Pin};
use crate::time::{Expiry, Now};

/// The key of a meta command, decoded if it was sent in base64.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives on the stack for one command; a box would be memory per key"
)]
pub(in crate::command) enum MetaKey<'a> {
    Plain(&'a [u8]),
    Decoded([u8; KEY_MAX_BYTES], usize),
}

impl<'a> MetaKey<'a> {
    /// Returns the key of a meta command. A key that does not decode is empty;
    /// the parser has refused it before.
    pub(in crate::command) fn of(meta: &MetaRequest<'a>) -> Self {
        Self::new(meta.key, meta.base64)
    }

    fn new(key: &'a [u8], base64: bool) -> Self {
        if !base64 {
            return Self::Plain(key);
        }
        let mut buffer = [0; KEY_MAX_BYTES];
        let len = decode_key(key, &mut buffer).map_or(0, <[u8]>::len);
        Self::Decoded(buffer, len)
    }

    /// Returns the bytes of the decoded key.
    pub(in crate::command) fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(key) => key,
            Self::Decoded(buffer, len) => &buffer[..*len],
        }
    }
}

/// Returns whether a key that was sent in base64 must also be shown in base64.
/// As in memcached, only items made by `ms` remember that their key was base64.
/// This server makes an exception for keys that would break a text line.
pub(in crate::command) fn breaks_lines(key: &[u8]) -> bool {
    key.iter().any(|byte| matches!(byte, b' ' | b'\r' | b'\n'))
}

/// Appends a reply without a value and without return flags but `k` and `O`,
/// which every outcome returns.
pub(in crate::command) fn write_status(
    out: &mut Output,
    status: Status,
    meta: &MetaRequest<'_>,
    key: &[u8],
) {
    let base64 = meta.base64;
    meta_encode::status(&mut out.bytes, status);
    let key = ReturnKey { key, base64 };
    meta_encode::return_flags(&mut out.bytes, meta.tokens, key, |_| FlagValue::Absent);
    meta_encode::end(&mut out.bytes);
}

/// Returns the TTL in seconds as the flag `t` returns it. The TTL of an item
/// that this command expired is negative, modulo 2^32.
pub(in crate::command) fn ttl_value(expiry: Expiry, now: Now) -> FlagValue {
    match now.left(expiry) {
        _ if expiry.is_over(now) => FlagValue::Number(u64::from(now.overdue(expiry))),
        Some(left) => FlagValue::Number(u64::from(left)),
        None => FlagValue::Never,
    }
}

/// Outcome of `mg` under the shard's write lock.
enum Got {
    Hit(ItemSize),
    Missed(Miss),
    /// `N` was given and the item does not exist.
    Wanted,
    /// The item has no room for an expiry time.
    NoExpiryField(Option<Pin>),
}

impl Executor<'_> {
    /// Executes `mg`. `hash` is the hash of the key if it is not in base64.
    #[inline]
    pub(in crate::command) fn meta_get(
        &mut self,
        meta: &MetaRequest<'_>,
        hash: Option<u64>,
        out: &mut Output,
    ) {
        let decoded = MetaKey::of(meta);
        let key = match hash {
            Some(hash) => Hashed {
                key: meta.key,
                hash,
            },
            None => self.store.hashed(decoded.bytes()),
        };
        let flags = &meta.flags;
        if flags.opaque_too_long {
            return self.get_without_answer(meta, &key, out);
        }
        let watched = self.watched;
        if flags.vivify.is_some() && !watched.is_empty() {
            // Watchers must see the lookup before the item is created.
            self.report_looked_up(&key);
            self.watched = watched.without(Kinds::FETCHERS);
        }
        let changes = flags.vivify.is_some() || flags.ttl.is_some() || flags.recache.is_some();
        let found = if changes {
            self.get_changing(meta, &key, out)
        } else {
            self.get_reading(meta, &key, out)
        };
        if let Some(ttl) = flags.ttl.filter(|_| found.is_ok()) {
            let expiry = Expiry::from_protocol(ttl, self.now);
            self.count_touch(&key, expiry, found);
        } else {
            self.count_get(&key, found);
        }
        self.watched = watched;
        if found.is_err() && !flags.quiet {
            write_status(out, Status::Miss, meta, key.key);
        }
    }

    /// Executes an `mg` whose opaque is over its limit. memcached detects this
    /// after the item was fetched, or created and changed by the flags before
    /// `O`. The hit is then not counted, and no client wins the item.
    #[cold]
    fn get_without_answer(&mut self, meta: &MetaRequest<'_>, key: &Hashed<'_>, out: &mut Output) {
        let found = self.get_changing(meta, key, out);
        if found.is_err() {
            self.count_get(key, found);
        }
        encode::line(&mut out.bytes, OPAQUE_TOO_LONG);
    }

    /// Executes an `mg` that leaves the item unchanged, unless it is stale and
    /// this client wins the right to recache.
    #[inline]
    fn get_reading(
        &mut self,
        meta: &MetaRequest<'_>,
        key: &Hashed<'_>,
        out: &mut Output,
    ) -> Result<ItemSize, Miss> {
        let now = self.now;
        let access = if meta.flags.no_bump {
            Access::Peek
        } else {
            Access::Counted
        };
        let answered = out.read_item(self.store, self.local, key, now, |item, out| {
            if item.is_stale() && !item.is_token_sent() {
                return (Access::Peek, None);
            }
            let hit = Hit {
                before: item.expiry(),
                created: false,
                won: false,
            };
            write_hit(meta, item, hit, now, out);
            (access, Some(item.item_size()))
        })?;
        if let Some(figures) = answered {
            return Ok(figures);
        }
        self.get_changing(meta, key, out)
    }

    fn get_changing(
        &mut self,
        meta: &MetaRequest<'_>,
        key: &Hashed<'_>,
        out: &mut Output,
    ) -> Result<ItemSize, Miss> {
        let mut vivified = None;
        let result = loop {
            let (store, now) = (self.store, self.now);
            let got = store.edit(self.local, key, now, |entry| {
                let cas = || store.next_cas();
                get_under_lock(meta, entry, &mut vivified, cas, now, out)
            });
            match got {
                Got::Hit(figures) => break Ok(figures),
                Got::Missed(miss) => break Err(miss),
                Got::Wanted => match self.vivify(meta, key) {
                    Some(new) => vivified = Some(new),
                    None => break Err(Miss::Absent),
                },
                Got::NoExpiryField(pin) => {
                    if !self.reserve_expiry_field(key, pin) {
                        break Err(Miss::Absent);
                    }
                }
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
            expiry: Expiry::from_protocol(meta.flags.created_ttl(), self.now),
            key_binary: meta.base64 && breaks_lines(key.key),
            with_expiry_field: true,
            ..ItemSpec::new(key.key, 0)
        };
        let value = std::iter::once(&b"\r\n"[..]);
        self.new_filled(key, &spec, value).ok()
    }

    /// Executes `me`.
    pub(in crate::command) fn meta_debug(&mut self, key: &[u8], base64: bool, out: &mut Output) {
        let decoded = MetaKey::new(key, base64);
        if decoded.bytes().is_empty() {
            return encode::line(&mut out.bytes, "CLIENT_ERROR bad command line format");
        }
        self.local.counters.cmd_meta.add(1);
        let key = self.store.hashed(decoded.bytes());
        let now = self.now;
        if !self.watched.is_empty() {
            self.report_looked_up(&key);
        }
        let found = self.store.read(self.local, &key, now, |item| {
            write_debug(item, now, out);
            (Access::Peek, ())
        });
        if found.is_err() {
            meta_encode::status(&mut out.bytes, Status::Miss);
            meta_encode::end(&mut out.bytes);
        }
    }
}

fn get_under_lock(
    meta: &MetaRequest<'_>,
    entry: &mut Entry<'_>,
    vivified: &mut Option<NewItem>,
    next_cas: impl Fn() -> u64,
    now: Now,
    out: &mut Output,
) -> Got {
    let flags = &meta.flags;
    let created = entry.item().is_none();
    if created {
        match (vivified.take(), flags.vivify) {
            (Some(new), _) => entry.put(new, flags.new_cas.unwrap_or_else(next_cas)),
            (None, Some(_)) => return Got::Wanted,
            (None, None) => return Got::Missed(entry.miss()),
        }
    }
    let Some(item) = entry.item() else {
        return Got::Missed(entry.miss());
    };
    let before = if created {
        Expiry::NEVER
    } else {
        item.expiry()
    };
    if let Some(ttl) = flags.ttl_done().filter(|_| !created)
        && !entry.set_expiry(Expiry::from_protocol(ttl, now))
    {
        return Got::NoExpiryField(item.pin());
    }
    if flags.opaque_too_long {
        if !flags.no_bump && !is_locking(meta) {
            entry.bump(now);
        }
        return Got::Hit(item.item_size());
    }
    let open = !item.is_token_sent();
    let won =
        created || open && (item.is_stale() || wins_recache(meta, before, item.expiry(), now));
    let hit = Hit {
        before,
        created,
        won,
    };
    write_hit(meta, item, hit, now, out);
    if won {
        entry.mark_token_sent();
    }
    if !flags.no_bump {
        entry.bump(now);
    }
    Got::Hit(item.item_size())
}

/// Returns whether a flag makes memcached update the access time only after the
/// reply.
fn is_locking(meta: &MetaRequest<'_>) -> bool {
    tokens(meta.tokens).any(|token| matches!(token[0], b'N' | b'T' | b'R' | b'l' | b'h'))
}

/// Returns whether the remaining TTL is below the argument of `R`. Uses the
/// expiry time in effect at the position of `R` on the line.
fn wins_recache(meta: &MetaRequest<'_>, before: Expiry, after: Expiry, now: Now) -> bool {
    let places = &meta.flags.places;
    let expiry = match places.ttl < places.recache {
        true => after,
        false => before,
    };
    meta.flags.recache.is_some_and(|recache| {
        expiry != Expiry::NEVER && expiry.0 < Expiry::from_protocol(recache, now).0
    })
}

/// Properties of a hit that the item does not record.
#[derive(Clone, Copy)]
struct Hit {
    /// Expiry time before this command. A `t` before the flag that changes it
    /// returns this one.
    before: Expiry,
    /// This command created the item.
    created: bool,
    /// This client won the right to recache the item.
    won: bool,
}

/// Appends the reply to an `mg` that hit.
#[inline]
fn write_hit(meta: &MetaRequest<'_>, item: Item<'_>, hit: Hit, now: Now, out: &mut Output) {
    let with_value = meta.flags.value && meta.flags.cas != Some(item.cas());
    let bytes = &mut out.bytes;
    if with_value {
        meta_encode::value(bytes, item.value_len());
    } else {
        meta_encode::status(bytes, Status::Done);
    }
    let key = ReturnKey {
        key: item.key(),
        base64: item.is_key_binary(),
    };
    let mut expiry = hit.before;
    meta_encode::return_flags(bytes, meta.tokens, key, |flag| {
        match flag {
            b's' => return FlagValue::Number(item.value_len() as u64),
            b'c' => return FlagValue::Number(item.cas()),
            b'f' => return FlagValue::Number(u64::from(item.flags())),
            b'l' => return FlagValue::Number(u64::from(item.age(now))),
            b'h' => return FlagValue::from(item.is_fetched()),
            b't' => return ttl_value(expiry, now),
            b'T' => expiry = Expiry::from_protocol(meta.flags.ttl.unwrap_or(0), now),
            b'N' if hit.created => {
                expiry = Expiry::from_protocol(meta.flags.vivify.unwrap_or(0), now);
            }
            _ => {}
        }
        FlagValue::Absent
    });
    meta_encode::recache_flags(bytes, item.is_token_sent(), item.is_stale(), hit.won);
    meta_encode::end(bytes);
    if with_value {
        out.value(item);
    }
}

fn write_debug(item: Item<'_>, now: Now, out: &mut Output) {
    use std::io::Write as _;
    out.bytes.extend_from_slice(b"ME ");
    if item.is_key_binary() {
        encode_key(item.key(), &mut out.bytes);
    } else {
        out.bytes.extend_from_slice(item.key());
    }
    let exp = now.left(item.expiry()).map_or(-1, i64::from);
    let age = item.age(now);
    let fetched = if item.is_fetched() { "yes" } else { "no" };
    let (cas, class, size) = (item.cas(), item.class(), item.bytes());
    // Writing to a Vec cannot fail.
    let _ = write!(
        out.bytes,
        " exp={exp} la={age} cas={cas} fetch={fetched} cls={class} size={size}\r\n"
    );
}
