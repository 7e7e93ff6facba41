//! Storage: `set`, `add`, `replace`, `append`, `prepend`, `cas` and `ms`.
//! The item is made before the lock is taken and linked under it.

use std::cell::Cell;

use crate::command::meta::MetaKey;
use crate::command::observe::Storing;
use crate::command::{Executor, Output, reply};
use crate::protocol::encode;
use crate::protocol::meta::{MetaFlags, MetaRequest};
use crate::protocol::request::{Request, StoreLine, StoreVerb, tokens};
use crate::store::{Access, Hashed, Item, ItemSpec, Local, Miss, NewItem, NoMemory, Pin, Store};
use crate::time::Expiry;

const BAD_CHUNK: &str = "CLIENT_ERROR bad data chunk";
const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";
const OUT_OF_MEMORY: &str = "SERVER_ERROR out of memory storing object";

/// A storage command whose value is still arriving.
pub struct Pending {
    /// The item its value goes into.
    pub new: NewItem,
    how: OwnedHow,
}

enum OwnedHow {
    Classic { condition: Condition, noreply: bool },
    Meta(Box<OwnedMeta>),
}

/// What the answer to an `ms` is made from.
struct OwnedMeta {
    condition: Condition,
    flags: MetaFlags,
    base64: bool,
    tokens: Vec<u8>,
}

/// When and how a value is stored.
#[derive(Clone, Copy)]
pub(super) struct Condition {
    pub(super) verb: StoreVerb,
    /// The CAS value to compare with; 0 compares nothing but for `cas`.
    pub(super) cas: u64,
    /// `ms` with `I`: an older CAS value stores as well, marked stale.
    pub(super) stale_wins: bool,
    /// `append` and `prepend` create the item on a miss.
    pub(super) vivify: bool,
    /// The CAS value the item gets; the next one if none is given.
    pub(super) new_cas: Option<u64>,
}

/// What became of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Stored { cas: u64, value_len: usize },
    NotStored,
    Exists,
    NotFound,
}

/// How joining a value to the present one ended under the lock.
enum Joined {
    Done(Outcome),
    Changed,
}

impl Pending {
    /// Gives up on the command.
    pub fn abandon(self, store: &Store, local: &mut Local) {
        store.discard(local, self.new);
    }
}

impl Executor<'_> {
    #[inline]
    pub(super) fn store_line(
        &mut self,
        line: &StoreLine<'_>,
        hash: Option<u64>,
        block: &[u8],
        out: &mut Output,
    ) {
        let key = match hash {
            Some(hash) => Hashed {
                key: line.key,
                hash,
            },
            None => self.store.hashed(line.key),
        };
        let condition = Condition::classic(line);
        let spec = self.classic_spec(line);
        match self.begin(&key, &spec, condition.verb == StoreVerb::Set, Some(block)) {
            Err(error) => reply(out, line.noreply, error),
            Ok(new) => {
                let outcome = self.commit(&key, new, condition);
                reply(out, line.noreply, outcome.classic());
            }
        }
    }

    pub(super) fn meta_set(&mut self, meta: &MetaRequest<'_>, block: &[u8], out: &mut Output) {
        let decoded = MetaKey::of(meta);
        let key = self.store.hashed(decoded.bytes());
        let condition = Condition::meta(&meta.flags);
        let spec = self.meta_spec(meta, key.key);
        match self.begin(&key, &spec, true, Some(block)) {
            Err(error) => encode::line(&mut out.bytes, error),
            Ok(new) => {
                let outcome = self.commit(&key, new, condition);
                write_outcome(outcome, meta, key.key, out);
            }
        }
    }

    /// Begins a storage command whose value has not arrived yet. If it
    /// cannot be stored, the error is written and the value must be skipped.
    pub fn begin_store(&mut self, request: &Request<'_>, out: &mut Output) -> Option<Pending> {
        match request {
            Request::Store(line) => {
                let key = self.store.hashed(line.key);
                let condition = Condition::classic(line);
                let spec = self.classic_spec(line);
                let noreply = line.noreply;
                let begun = self.begin(&key, &spec, condition.verb == StoreVerb::Set, None);
                let how = OwnedHow::Classic { condition, noreply };
                begun
                    .map_err(|error| reply(out, noreply, error))
                    .map(|new| Pending { new, how })
                    .ok()
            }
            Request::MetaSet(meta) => {
                let decoded = MetaKey::of(meta);
                let key = self.store.hashed(decoded.bytes());
                let spec = self.meta_spec(meta, key.key);
                let how = OwnedHow::Meta(Box::new(OwnedMeta {
                    condition: Condition::meta(&meta.flags),
                    flags: meta.flags,
                    base64: meta.base64,
                    tokens: meta.tokens.to_vec(),
                }));
                self.begin(&key, &spec, true, None)
                    .map_err(|error| encode::line(&mut out.bytes, error))
                    .map(|new| Pending { new, how })
                    .ok()
            }
            _ => None,
        }
    }

    /// Ends a storage command whose value has arrived.
    pub fn finish_store(&mut self, pending: Pending, out: &mut Output) {
        let Pending { new, how } = pending;
        let key_bytes = new.item().key().to_vec();
        let key = Hashed {
            key: &key_bytes,
            hash: new.hash(),
        };
        let complete = new.ends_with_crlf();
        match how {
            OwnedHow::Classic { noreply, .. } if !complete => {
                self.store.discard(self.local, new);
                reply(out, noreply, BAD_CHUNK);
            }
            OwnedHow::Classic { condition, noreply } => {
                let outcome = self.commit(&key, new, condition);
                reply(out, noreply, outcome.classic());
            }
            OwnedHow::Meta(_) if !complete => {
                self.store.discard(self.local, new);
                encode::line(&mut out.bytes, BAD_CHUNK);
            }
            OwnedHow::Meta(meta) => {
                let outcome = self.commit(&key, new, meta.condition);
                let request = MetaRequest {
                    key: key.key,
                    base64: meta.base64,
                    value_len: 0,
                    tokens: &meta.tokens,
                    flags: meta.flags,
                };
                write_outcome(outcome, &request, key.key, out);
            }
        }
    }

    /// Ends a storage command for whose value memory ran out half-way.
    pub fn fail_store(&mut self, pending: Pending, out: &mut Output) {
        self.local.counters.store_no_memory.add(1);
        let silent = matches!(pending.how, OwnedHow::Classic { noreply: true, .. });
        let key_bytes = pending.new.item().key().to_vec();
        let hash = pending.new.hash();
        pending.abandon(self.store, self.local);
        self.drop_old(&Hashed {
            key: &key_bytes,
            hash,
        });
        reply(out, silent, OUT_OF_MEMORY);
    }

    fn classic_spec<'k>(&self, line: &StoreLine<'k>) -> ItemSpec<'k> {
        ItemSpec {
            key: line.key,
            flags: line.flags,
            expiry: Expiry::from_protocol(line.exptime, self.now),
            value_len: line.value_len as usize,
            key_binary: false,
            expiry_room: false,
        }
    }

    fn meta_spec<'k>(&self, meta: &MetaRequest<'_>, key: &'k [u8]) -> ItemSpec<'k> {
        let joins = matches!(meta.flags.mode, b'A' | b'P');
        let exptime = if joins {
            meta.flags.vivify
        } else {
            meta.flags.ttl
        };
        ItemSpec {
            key,
            flags: meta.flags.client_flags,
            expiry: Expiry::from_protocol(exptime.unwrap_or(0), self.now),
            value_len: meta.value_len as usize,
            key_binary: meta.base64,
            // A stale value takes over the old one's expiry time.
            expiry_room: meta.flags.invalidate,
        }
    }

    /// Makes the item, with its value if that is there. A set that fails for
    /// lack of room drops what the key had: it is stale (`drops`).
    fn begin(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        drops: bool,
        block: Option<&[u8]>,
    ) -> Result<NewItem, &'static str> {
        let made = if self
            .store
            .is_size_ok(key.key.len(), spec.flags, spec.value_len)
        {
            self.make(key, spec, block).map_err(|NoMemory| {
                self.local.counters.store_no_memory.add(1);
                OUT_OF_MEMORY
            })
        } else {
            self.local.counters.store_too_large.add(1);
            Err(TOO_LARGE)
        };
        if made.is_err() && drops {
            self.drop_old(key);
        }
        let new = match made {
            Ok(new) => new,
            Err(error) => {
                if !self.watched.is_empty() {
                    self.tell_refused(key.key, spec, error == TOO_LARGE);
                }
                return Err(error);
            }
        };
        self.local.counters.cmd_set.add(1);
        self.local.classes.of(new.item().class()).cmd_set.add(1);
        match block {
            Some(block) if !block.ends_with(b"\r\n") => {
                self.store.discard(self.local, new);
                Err(BAD_CHUNK)
            }
            _ => Ok(new),
        }
    }

    fn make(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        block: Option<&[u8]>,
    ) -> Result<NewItem, NoMemory> {
        match block {
            Some(block) => {
                let value = std::iter::once(block);
                self.store
                    .new_filled(self.local, key, spec, self.now, value)
            }
            None => self.store.new_item(self.local, key, spec, self.now),
        }
    }

    fn drop_old(&mut self, key: &Hashed<'_>) {
        self.store
            .edit(self.local, key, self.now, |entry| entry.remove());
    }

    /// Stores a complete item if the condition holds.
    #[inline]
    fn commit(&mut self, key: &Hashed<'_>, new: NewItem, condition: Condition) -> Outcome {
        if self.watched.is_empty() {
            return self.commit_unseen(key, new, condition);
        }
        let storing = Storing {
            command: condition.command(),
            expiry: new.item().expiry(),
            new: new.item().figures(),
        };
        let outcome = self.commit_unseen(key, new, condition);
        self.tell_stored(key.key, storing, outcome.status());
        outcome
    }

    #[inline]
    fn commit_unseen(&mut self, key: &Hashed<'_>, new: NewItem, condition: Condition) -> Outcome {
        if matches!(condition.verb, StoreVerb::Append | StoreVerb::Prepend) {
            return self.join(key, new, condition);
        }
        let mut new = Some(new);
        let outcome = self.store_if(key, &mut new, condition);
        if let Some(unused) = new {
            self.store.discard(self.local, unused);
        }
        outcome
    }

    /// Counts a compare-and-swap, in the class of what was there.
    fn count_cas(&self, outcome: Outcome, class: u8) {
        let (counters, class) = (&self.local.counters, self.local.classes.of(class));
        match outcome {
            Outcome::Stored { .. } => {
                counters.cas_hits.add(1);
                class.cas_hits.add(1);
            }
            Outcome::NotFound => counters.cas_misses.add(1),
            Outcome::Exists | Outcome::NotStored => {
                counters.cas_badval.add(1);
                class.cas_badval.add(1);
            }
        }
    }

    #[inline]
    fn store_if(
        &mut self,
        key: &Hashed<'_>,
        new: &mut Option<NewItem>,
        condition: Condition,
    ) -> Outcome {
        let (store, now) = (self.store, self.now);
        let next_cas = || condition.new_cas.unwrap_or_else(|| store.next_cas());
        let mut old_class = 0;
        let outcome = store.edit(self.local, key, now, |entry| {
            let mut stale = None;
            if condition.verb == StoreVerb::Cas {
                old_class = entry.item().map_or(0, Item::class);
            }
            match (condition.verb, entry.item()) {
                (StoreVerb::Add, Some(_)) => {
                    entry.promote();
                    return Outcome::NotStored;
                }
                (StoreVerb::Replace, None) => return Outcome::NotStored,
                (StoreVerb::Cas, None) => return Outcome::NotFound,
                (StoreVerb::Cas, Some(item)) if item.cas() == condition.cas => {}
                (StoreVerb::Cas, Some(item)) => {
                    if !condition.stale_wins || condition.cas == 0 || condition.cas > item.cas() {
                        return Outcome::Exists;
                    }
                    stale = Some((item.expiry(), item.is_token_sent()));
                }
                _ => {}
            }
            let Some(new) = new.take() else {
                return Outcome::NotStored;
            };
            let (cas, value_len) = (next_cas(), new.item().value_len());
            entry.put(new, cas);
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

    /// Stores the present value and the new one, joined. The joined item is
    /// made without a lock, from a pinned old one, and linked only if that is
    /// still there; whoever came between has made progress.
    fn join(&mut self, key: &Hashed<'_>, new: NewItem, condition: Condition) -> Outcome {
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
                Err(Miss::Absent | Miss::Expired | Miss::Flushed) => {
                    if !condition.vivify {
                        break Outcome::NotStored;
                    }
                    let add = Condition {
                        verb: StoreVerb::Add,
                        ..condition
                    };
                    match self.store_if(key, &mut addition, add) {
                        // Somebody else created it first.
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
        let joined_len = Cell::new(0);
        let accepts = |item: Item<'_>| {
            joined_len.set(item.value_len() + more);
            let fits = store.is_size_ok(item.key().len(), item.flags(), joined_len.get());
            fits && (condition.cas == 0 || condition.cas == item.cas()) && !item.is_stale()
        };
        let next_cas = || condition.new_cas.unwrap_or_else(|| store.next_cas());
        let cas = store.append_in_place(self.local, new, self.now, accepts, next_cas)?;
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
        if condition.cas != 0 && condition.cas != old_cas {
            return Joined::Done(Outcome::Exists);
        }
        let spec = ItemSpec {
            key: key.key,
            flags: old.flags(),
            expiry: old.expiry(),
            value_len: old.value_len() + more.value_len(),
            key_binary: old.is_key_binary(),
            expiry_room: false,
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
        let value = first.value_pieces().chain(second.pieces());
        let made = self
            .store
            .new_filled(self.local, key, &spec, self.now, value);
        let Ok(joined) = made else {
            return Joined::Done(Outcome::NotStored);
        };
        let mut joined = Some(joined);
        let (store, now) = (self.store, self.now);
        let cas = condition.new_cas.unwrap_or_else(|| store.next_cas());
        let linked = store.edit(self.local, key, now, |entry| {
            // The value cannot have been changed in place while it was
            // pinned, but the rest can.
            let same = |item: crate::store::Item<'_>| {
                item.is_same(pin) && item.cas() == old_cas && item.expiry() == spec.expiry
            };
            let unchanged = entry.item().is_some_and(same);
            match joined.take_if(|_| unchanged) {
                Some(joined) => {
                    entry.put(joined, cas);
                    Joined::Done(Outcome::Stored {
                        cas,
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

impl Condition {
    fn classic(line: &StoreLine<'_>) -> Self {
        Self {
            verb: line.verb,
            cas: line.cas,
            stale_wins: false,
            vivify: false,
            new_cas: None,
        }
    }

    fn meta(flags: &MetaFlags) -> Self {
        let verb = match (flags.mode, flags.cas) {
            (b'E', _) => StoreVerb::Add,
            (b'A', _) => StoreVerb::Append,
            (b'P', _) => StoreVerb::Prepend,
            (_, Some(_)) => StoreVerb::Cas,
            (b'R', None) => StoreVerb::Replace,
            (_, None) => StoreVerb::Set,
        };
        Self {
            verb,
            cas: flags.cas.unwrap_or(0),
            stale_wins: flags.invalidate,
            vivify: flags.vivify.is_some(),
            new_cas: flags.new_cas,
        }
    }
}

impl Outcome {
    fn classic(self) -> &'static str {
        match self {
            Self::Stored { .. } => "STORED",
            Self::NotStored => "NOT_STORED",
            Self::Exists => "EXISTS",
            Self::NotFound => "NOT_FOUND",
        }
    }

    fn meta(self) -> &'static [u8] {
        match self {
            Self::Stored { .. } => b"HD",
            Self::NotStored => b"NS",
            Self::Exists => b"EX",
            Self::NotFound => b"NF",
        }
    }
}

/// Appends the answer to `ms`.
fn write_outcome(outcome: Outcome, meta: &MetaRequest<'_>, key: &[u8], out: &mut Output) {
    let stored = matches!(outcome, Outcome::Stored { .. });
    if stored && meta.flags.quiet {
        return;
    }
    out.bytes.extend_from_slice(outcome.meta());
    let (cas, value_len) = match outcome {
        Outcome::Stored { cas, value_len } => (cas, value_len),
        _ => (0, meta.value_len as usize),
    };
    for token in tokens(meta.tokens) {
        match token[0] {
            b'O' => encode::meta_token(&mut out.bytes, token),
            b'c' => encode::meta_number(&mut out.bytes, b'c', cas),
            b's' => encode::meta_number(&mut out.bytes, b's', value_len as u64),
            b'k' => encode::meta_key(&mut out.bytes, key, meta.base64),
            _ => {}
        }
    }
    out.bytes.extend_from_slice(b"\r\n");
}
