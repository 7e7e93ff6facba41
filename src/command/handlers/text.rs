//! Classic text commands on items.

use arrayvec::ArrayVec;

use crate::command::after::After;
use crate::command::executor::{Executor, reply};
use crate::command::ops::arithmetic::{ArithmeticOutcome, Change};
use crate::command::ops::delete::Deleted;
use crate::command::ops::outcome::{Condition, Outcome};
use crate::command::ops::refusal::Refusal;
use crate::command::output::Output;
use crate::limits::BATCH_MAX;
use crate::protocol::request::{GetLine, StoreLine};
use crate::protocol::text::encode;
use crate::protocol::text::reply::Reply;
use crate::protocol::tokens::tokens;
use crate::protocol::verb::{ArithmeticVerb, NameKind};
use crate::store::{Effect, Hashed, Item, ItemSpec, Miss};

impl Executor<'_> {
    /// Executes a retrieval line. `hash` is the hash of the key if there is
    /// only one.
    #[inline]
    pub(in crate::command) fn get_line(
        &mut self,
        line: &GetLine<'_>,
        hash: Option<u64>,
        out: &mut Output,
    ) -> After {
        if self.stalled.refuses_output() {
            encode::line(&mut out.bytes, Reply::NoMemoryToReply.text());
            return After::Continue;
        }
        match (hash, line.touch) {
            (Some(hash), None) => {
                let key = line.keys;
                self.get_one(&Hashed { key, hash }, line.cas, out);
            }
            _ => {
                let done = self.get_many(line.keys, line.cas, line.touch, out);
                if done < line.keys.len() {
                    return After::Paused { done };
                }
            }
        }
        encode::end(&mut out.bytes);
        After::Continue
    }

    /// Executes `times` identical `get` commands of a single key with one
    /// lookup. With a very popular key, this avoids contention for the lock of
    /// its shard.
    ///
    /// Returns how many commands are answered: at least one, and fewer than
    /// `times` if the output fills up before.
    pub fn get_repeatedly(
        &mut self,
        line: &GetLine<'_>,
        hash: u64,
        times: usize,
        out: &mut Output,
    ) -> usize {
        let key = Hashed {
            key: line.keys,
            hash,
        };
        let start = out.bytes.len();
        let mut found = self.get(&key, out, |item, out| write_value(item, line.cas, out));
        encode::end(&mut out.bytes);
        let end = out.bytes.len();
        if out.plain().is_none() {
            return 1;
        }
        for answered in 1..times {
            if out.is_full() {
                return answered;
            }
            // The first lookup removed an expired item, so later ones find
            // none.
            found = found.or(Err(Miss::Absent));
            out.bytes.extend_from_within(start..end);
            self.count_get(&key, found);
        }
        times
    }

    /// Appends the replies for several keys, without `END`, until the output is
    /// full. Returns the bytes of `keys` that are answered.
    pub fn get_many(
        &mut self,
        keys: &[u8],
        cas: bool,
        touch: Option<i32>,
        out: &mut Output,
    ) -> usize {
        let mut rest = tokens(keys);
        loop {
            let batch: ArrayVec<Hashed<'_>, BATCH_MAX> = rest
                .by_ref()
                .take(BATCH_MAX)
                .map(|key| self.store.hashed(key))
                .collect();
            if batch.len() > 1 {
                let hashes: ArrayVec<u64, BATCH_MAX> = batch.iter().map(|key| key.hash).collect();
                self.store.prefetch(self.local, &hashes);
            }
            for key in &batch {
                if out.is_full() {
                    return key.key.as_ptr().addr() - keys.as_ptr().addr();
                }
                match touch {
                    None => self.get_one(key, cas, out),
                    Some(exptime) => self.get_and_touch(key, exptime, cas, out),
                }
            }
            if !batch.is_full() {
                return keys.len();
            }
        }
    }

    #[inline]
    fn get_one(&mut self, key: &Hashed<'_>, cas: bool, out: &mut Output) {
        // A miss has no line of its own.
        let _ = self.get(key, out, |item, out| write_value(item, cas, out));
    }

    fn get_and_touch(&mut self, key: &Hashed<'_>, exptime: i32, cas: bool, out: &mut Output) {
        let expiry = self.ttls().expiry(exptime, key.key);
        self.touch(key, expiry, |item| write_value(item, cas, out));
    }

    /// Executes a storage command whose data block has arrived.
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
        let spec = self.line_spec(line);
        let stored = self.store_block(&key, &spec, Condition::classic(line), block);
        reply(out, line.noreply, reply_to_store(stored).text());
    }

    /// Returns the item that a storage command makes.
    #[inline]
    pub(super) fn line_spec<'k>(&self, line: &StoreLine<'k>) -> ItemSpec<'k> {
        ItemSpec {
            flags: line.flags,
            expiry: self.ttls().expiry(line.exptime, line.key),
            ..ItemSpec::new(line.key, line.value_len as usize)
        }
    }

    /// Executes `delete`.
    pub(in crate::command) fn delete_line(&mut self, key: &[u8], noreply: bool, out: &mut Output) {
        if let Some((kind, name)) = self.name_in_key(key) {
            return match self.invalidate(kind, name, Effect::Delete, "delete") {
                Ok(()) => reply(out, noreply, Reply::Deleted.text()),
                Err(refusal) => reply(out, noreply, &refusal.text(self.store.delimiter())),
            };
        }
        let key = self.store.hashed(key);
        let answer = match self.delete(&key, None) {
            Deleted::Done => Reply::Deleted,
            Deleted::NotFound | Deleted::Exists => Reply::NotFound,
        };
        reply(out, noreply, answer.text());
    }

    /// Executes `invalidate`.
    pub(in crate::command) fn invalidate_line(
        &mut self,
        kind: NameKind,
        name: &[u8],
        noreply: bool,
        out: &mut Output,
    ) {
        match self.invalidate(kind, name, Effect::Delete, "invalidate") {
            Ok(()) => reply(out, noreply, "INVALIDATED"),
            Err(refusal) => reply(out, noreply, &refusal.text(self.store.delimiter())),
        }
    }

    /// Executes `incr` or `decr`.
    pub(in crate::command) fn arithmetic_line(
        &mut self,
        verb: ArithmeticVerb,
        key: &[u8],
        delta: u64,
        noreply: bool,
        out: &mut Output,
    ) {
        let key = self.store.hashed(key);
        let change = Change {
            verb,
            delta,
            ..Change::default()
        };
        let answer = match self.change_or_create(&key, change, None) {
            ArithmeticOutcome::Done { number, .. } => {
                if !noreply {
                    encode::number_line(&mut out.bytes, number);
                }
                return;
            }
            ArithmeticOutcome::NotFound | ArithmeticOutcome::Exists => Reply::NotFound,
            ArithmeticOutcome::NonNumeric => Reply::NonNumeric,
            ArithmeticOutcome::NoMemory => Reply::NoMemory,
        };
        reply(out, noreply, answer.text());
    }

    /// Executes `touch`.
    pub(in crate::command) fn touch_line(
        &mut self,
        key: &[u8],
        exptime: i32,
        noreply: bool,
        out: &mut Output,
    ) {
        let key = self.store.hashed(key);
        let expiry = self.ttls().expiry(exptime, key.key);
        let answer = match self.touch(&key, expiry, |_| ()) {
            true => Reply::Touched,
            false => Reply::NotFound,
        };
        reply(out, noreply, answer.text());
    }
}

/// Returns the reply to a storage command.
#[inline]
pub(super) fn reply_to_store(stored: Result<Outcome, Refusal>) -> Reply {
    match stored {
        Ok(Outcome::Stored { .. }) => Reply::Stored,
        Ok(Outcome::NotStored) => Reply::NotStored,
        Ok(Outcome::Exists) => Reply::Exists,
        Ok(Outcome::NotFound) => Reply::NotFound,
        Err(refusal) => refused(refusal),
    }
}

/// Returns the error of a refused value, for meta commands too.
pub(super) fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::TooLarge => Reply::TooLarge,
        Refusal::NoMemory => Reply::NoMemoryToStore,
        Refusal::BadChunk => Reply::BadChunk,
    }
}

#[inline]
fn write_value(item: Item<'_>, cas: bool, out: &mut Output) {
    let cas = cas.then(|| item.cas());
    encode::value_line(
        &mut out.bytes,
        item.key(),
        item.flags(),
        item.value_len(),
        cas,
    );
    out.value(item);
}
