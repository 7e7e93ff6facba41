//! Storage commands `set`, `add`, `replace`, `append`, `prepend`, `cas` and
//! `ms`. The item is made before the shard's lock is taken and linked under it.

use crate::command::executor::{Executor, reply};
use crate::command::ops::instrument::Storing;
use crate::command::ops::meta::MetaKey;
use crate::command::ops::outcome::{Condition, Outcome};
use crate::command::ops::packet::write_stored;
use crate::command::ops::refusal::Refusal;
use crate::command::output::Output;
use crate::command::pending::{CRLF, OwnedHow, OwnedMeta, Pending};
use crate::limits::ClassId;
use crate::protocol::binary::encode::{Status, error as binary_error};
use crate::protocol::binary::packet::Packet;
use crate::protocol::meta::encode::{self as meta_encode, FlagValue, ReturnKey};
use crate::protocol::meta::request::MetaRequest;
use crate::protocol::request::{Request, StoreLine};
use crate::protocol::text::encode;
use crate::protocol::verb::StoreVerb;
use crate::store::mrc::Observed;
use crate::store::{Hashed, Item, ItemSpec, NewItem, NoMemory};
use crate::time::Expiry;

impl Executor<'_> {
    /// Executes a classic storage command whose data block has arrived.
    #[inline]
    pub(in crate::command) fn store_line(
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
        match self.begin_block(&key, &spec, condition.drops_stale(), block) {
            Err(refusal) => {
                self.count_refused(refusal);
                reply(out, line.noreply, refusal.text());
            }
            Ok(new) => {
                let outcome = self.commit(&key, new, condition);
                reply(out, line.noreply, outcome.classic());
            }
        }
    }

    pub(in crate::command) fn meta_set(
        &mut self,
        meta: &MetaRequest<'_>,
        block: &[u8],
        out: &mut Output,
    ) {
        let decoded = MetaKey::of(meta);
        let key = self.store.hashed(decoded.bytes());
        let condition = Condition::meta(&meta.flags);
        let spec = self.meta_spec(meta, key.key);
        if meta.flags.opaque_too_long {
            return self.refuse_opaque(&key, &spec, out);
        }
        match self.begin_block(&key, &spec, true, block) {
            Err(refusal) => {
                self.count_refused(refusal);
                encode::line(&mut out.bytes, refusal.text());
            }
            Ok(new) => {
                let outcome = self.commit(&key, new, condition);
                write_outcome(outcome, meta, key.key, out);
            }
        }
    }

    /// Begins a storage command whose value has not arrived. If the command is
    /// refused, appends the reply and returns `None`: skip the value.
    pub fn begin_store(&mut self, request: &Request<'_>, out: &mut Output) -> Option<Pending> {
        match request {
            Request::Store(line) => {
                let key = self.store.hashed(line.key);
                let condition = Condition::classic(line);
                let spec = self.classic_spec(line);
                let noreply = line.noreply;
                let begun = self.begin(&key, &spec, condition.drops_stale());
                let how = OwnedHow::Classic { condition, noreply };
                begun
                    .inspect_err(|refusal| self.count_refused(*refusal))
                    .map_err(|refusal| reply(out, noreply, refusal.text()))
                    .map(|new| Pending { new, how })
                    .ok()
            }
            Request::MetaSet(meta) => {
                let decoded = MetaKey::of(meta);
                let key = self.store.hashed(decoded.bytes());
                let spec = self.meta_spec(meta, key.key);
                if meta.flags.opaque_too_long {
                    self.refuse_opaque(&key, &spec, out);
                    return None;
                }
                let how = OwnedHow::Meta(Box::new(OwnedMeta {
                    condition: Condition::meta(&meta.flags),
                    flags: meta.flags,
                    base64: meta.base64,
                    tokens: meta.tokens.to_vec(),
                }));
                self.begin(&key, &spec, true)
                    .inspect_err(|refusal| self.count_refused(*refusal))
                    .map_err(|refusal| encode::line(&mut out.bytes, refusal.text()))
                    .map(|new| Pending { new, how })
                    .ok()
            }
            Request::Packet(packet) => self.begin_packet(packet, out),
            _ => None,
        }
    }

    /// Begins a storage packet. SASL packets are too short to come here.
    fn begin_packet(&mut self, packet: &Packet<'_>, out: &mut Output) -> Option<Pending> {
        let Packet { echo, quiet, .. } = *packet;
        let key = self.store.hashed(packet.key);
        let begun = match self.packet_store(packet) {
            Some((condition, spec)) => self
                .begin(&key, &spec, packet.is_set())
                .map(|new| (condition, new))
                .map_err(Refusal::status),
            None => Err(Status::Unknown),
        };
        match begun {
            Ok((condition, new)) => {
                let how = OwnedHow::Binary {
                    condition,
                    echo,
                    quiet,
                };
                Some(Pending { new, how })
            }
            Err(status) => {
                binary_error(&mut out.bytes, echo, status);
                None
            }
        }
    }

    /// Ends a storage command whose value has arrived.
    pub fn finish_store(&mut self, pending: Pending, out: &mut Output) {
        let Pending { mut new, how } = pending;
        if let OwnedHow::Binary { .. } = how
            && self.fill(&mut new, CRLF).is_err()
        {
            return self.fail_store(Pending { new, how }, out);
        }
        let key_bytes = new.item().key().to_vec();
        let key = Hashed {
            key: &key_bytes,
            hash: new.hash(),
        };
        let complete = new.ends_with_crlf();
        match how {
            OwnedHow::Classic { noreply, .. } if !complete => {
                self.store.discard(self.local, new);
                reply(out, noreply, Refusal::BadChunk.text());
            }
            OwnedHow::Classic { condition, noreply } => {
                let outcome = self.commit(&key, new, condition);
                reply(out, noreply, outcome.classic());
            }
            OwnedHow::Meta(_) if !complete => {
                self.store.discard(self.local, new);
                encode::line(&mut out.bytes, Refusal::BadChunk.text());
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
            OwnedHow::Binary {
                condition,
                echo,
                quiet,
            } => {
                let outcome = self.commit(&key, new, condition);
                write_stored(outcome, condition.verb, echo, quiet, out);
            }
        }
    }

    /// Fails a storage command when memory runs out while its value arrives.
    pub fn fail_store(&mut self, pending: Pending, out: &mut Output) {
        self.local.counters.store_no_memory.add(1);
        let silent = matches!(pending.how, OwnedHow::Classic { noreply: true, .. });
        let echo = match pending.how {
            OwnedHow::Binary { echo, .. } => Some(echo),
            _ => None,
        };
        let key_bytes = pending.new.item().key().to_vec();
        let hash = pending.new.hash();
        pending.abandon(self.store, self.local);
        self.drop_old(&Hashed {
            key: &key_bytes,
            hash,
        });
        match echo {
            Some(echo) => binary_error(&mut out.bytes, echo, Refusal::NoMemory.status()),
            None => reply(out, silent, Refusal::NoMemory.text()),
        }
    }

    fn classic_spec<'k>(&self, line: &StoreLine<'k>) -> ItemSpec<'k> {
        ItemSpec {
            flags: line.flags,
            expiry: Expiry::from_protocol(line.exptime, self.now),
            ..ItemSpec::new(line.key, line.value_len as usize)
        }
    }

    fn meta_spec<'k>(&self, meta: &MetaRequest<'_>, key: &'k [u8]) -> ItemSpec<'k> {
        let exptime = if meta.flags.mode.extends() {
            meta.flags.vivify
        } else {
            meta.flags.ttl
        };
        ItemSpec {
            flags: meta.flags.client_flags,
            expiry: Expiry::from_protocol(exptime.unwrap_or(0), self.now),
            key_binary: meta.base64,
            // A stale value inherits the old item's expiry time.
            with_expiry_field: meta.flags.invalidate,
            ..ItemSpec::new(key, meta.value_len as usize)
        }
    }

    /// Makes an item whose value is yet to arrive. If that fails and `drops` is
    /// set (a set), removes the old item, which is outdated.
    pub(in crate::command) fn begin(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        drops: bool,
    ) -> Result<NewItem, Refusal> {
        self.admit(key, spec, drops, |executor| {
            let (store, now) = (executor.store, executor.now);
            executor.with_memory(|local| store.new_item(local, key, spec, now))
        })
    }

    /// Makes an item with its value, whose pieces end with CRLF.
    #[inline]
    pub(in crate::command) fn begin_filled<'p>(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        drops: bool,
        value: impl Iterator<Item = &'p [u8]> + Clone,
    ) -> Result<NewItem, Refusal> {
        self.admit(key, spec, drops, |executor| {
            executor.new_filled(key, spec, value)
        })
    }

    /// Makes an item from the data block of a text client.
    #[inline]
    fn begin_block(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        drops: bool,
        block: &[u8],
    ) -> Result<NewItem, Refusal> {
        let new = self.begin_filled(key, spec, drops, std::iter::once(block))?;
        if block.ends_with(CRLF) {
            return Ok(new);
        }
        self.store.discard(self.local, new);
        Err(Refusal::BadChunk)
    }

    #[inline]
    fn admit(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        drops: bool,
        make: impl FnOnce(&mut Self) -> Result<NewItem, NoMemory>,
    ) -> Result<NewItem, Refusal> {
        let fits = self
            .store
            .is_size_ok(key.key.len(), spec.flags, spec.value_len);
        let made = if fits {
            make(self).map_err(|NoMemory| Refusal::NoMemory)
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
                if drops {
                    self.drop_old(key);
                }
                if !self.watched.is_empty() {
                    self.report_refused(key.key, spec, *refusal == Refusal::TooLarge);
                    self.report_looked_up(key);
                }
            }
        }
        made
    }

    fn drop_old(&mut self, key: &Hashed<'_>) {
        self.store
            .edit(self.local, key, self.now, |entry| entry.remove());
    }

    /// Stores a complete item if the condition holds.
    #[inline]
    pub(in crate::command) fn commit(
        &mut self,
        key: &Hashed<'_>,
        new: NewItem,
        condition: Condition,
    ) -> Outcome {
        let sampler = self.curve.filter(|sampler| sampler.wants(key.hash));
        let observed = sampler.map(|_| Observed::set(new.item()));
        let outcome = match self.watched.is_empty() {
            true => self.commit_unseen(key, new, condition),
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
        let joins = matches!(condition.verb, StoreVerb::Append | StoreVerb::Prepend);
        let old_expiry = self.report_looked_up(key);
        let mut storing = Storing {
            command: condition.command(),
            expiry: new.item().expiry(),
            new: new.item().item_size(),
        };
        let outcome = self.commit_unseen(key, new, condition);
        if joins && let Outcome::Stored { value_len, .. } = outcome {
            // Watchers see the size and expiry time of the joined item.
            storing.new.value_len = value_len as u32;
            storing.expiry = old_expiry.unwrap_or(storing.expiry);
        }
        self.report_stored(key.key, storing, outcome.status());
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
        let next_cas = || condition.new_cas.unwrap_or_else(|| store.next_cas());
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
                (StoreVerb::Cas, Some(item))
                    if condition.cas != 0 && item.cas() == condition.cas => {}
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
}

/// Appends the reply to `ms`.
fn write_outcome(outcome: Outcome, meta: &MetaRequest<'_>, key: &[u8], out: &mut Output) {
    let stored = matches!(outcome, Outcome::Stored { .. });
    if stored && meta.flags.quiet {
        return;
    }
    let (cas, value_len) = match outcome {
        Outcome::Stored { cas, value_len } => (cas, value_len),
        _ => (0, meta.value_len as usize),
    };
    let base64 = meta.base64;
    meta_encode::status(&mut out.bytes, outcome.meta());
    let key = ReturnKey { key, base64 };
    meta_encode::return_flags(&mut out.bytes, meta.tokens, key, |flag| match flag {
        b'c' => FlagValue::Number(cas),
        b's' => FlagValue::Number(value_len as u64),
        _ => FlagValue::Absent,
    });
    meta_encode::end(&mut out.bytes);
}
