//! `get`, `gets`, `gat`, `gats` and `touch`.

use arrayvec::ArrayVec;

use crate::command::after::After;
use crate::command::executor::Executor;
use crate::command::output::Output;
use crate::events::ItemSize;
use crate::limits::BATCH_MAX;
use crate::protocol::request::GetLine;
use crate::protocol::text::encode;
use crate::protocol::tokens::tokens;
use crate::store::{Access, Hashed, Item, Miss};
use crate::time::Expiry;

/// Reply to a retrieval while client buffers are at their limit.
const OUT_OF_MEMORY: &str = "SERVER_ERROR out of memory writing get response";

impl Executor<'_> {
    /// Executes a retrieval line. `hash` is the hash of the key if there is
    /// only one.
    #[inline]
    pub(in crate::command) fn get(
        &mut self,
        line: &GetLine<'_>,
        hash: Option<u64>,
        out: &mut Output,
    ) -> After {
        if self.stalled.refuses_output() {
            encode::line(&mut out.bytes, OUT_OF_MEMORY);
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
        out.bytes.extend_from_slice(b"END\r\n");
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
        let mut found = self.show(&key, out, |item, out| write_value(item, line.cas, out));
        out.bytes.extend_from_slice(b"END\r\n");
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
                let hashes = batch.iter().map(|key| key.hash);
                let hashes: ArrayVec<u64, BATCH_MAX> =
                    hashes.filter(|hash| !self.local.is_hot(*hash)).collect();
                self.store.prefetch(&hashes);
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
        let _ = self.show(key, out, |item, out| write_value(item, cas, out));
    }

    /// Appends what `write` makes of a key's item, and counts the retrieval. A
    /// miss appends nothing.
    #[inline]
    pub(in crate::command) fn show(
        &mut self,
        key: &Hashed<'_>,
        out: &mut Output,
        mut write: impl FnMut(Item<'_>, &mut Output),
    ) -> Result<ItemSize, Miss> {
        let found = out.read_item(self.store, self.local, key, self.now, |item, out| {
            write(item, out);
            (Access::Counted, item.item_size())
        });
        self.count_get(key, found);
        found
    }

    fn get_and_touch(&mut self, key: &Hashed<'_>, exptime: i32, cas: bool, out: &mut Output) {
        let expiry = Expiry::from_protocol(exptime, self.now);
        self.show_touched(key, expiry, |item| write_value(item, cas, out));
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
