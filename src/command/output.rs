//! Output of a batch: a buffer of replies, and large values between its bytes
//! that are sent from their items by reference.

use std::mem::size_of;

use crate::command::ops::outcome::VALUE_END;
use crate::limits::{
    OUTPUT_PAUSE_BYTES, SEND_BY_REFERENCE_BYTES, TIGHT_OUTPUT_PAUSE_BYTES,
    TIGHT_SEND_BY_REFERENCE_BYTES,
};
use crate::store::{Access, Hashed, Item, Local, Miss, Outgoing, Store};
use crate::time::Now;

/// Output of a batch.
pub struct Output {
    /// All bytes except the values sent by reference.
    pub bytes: Vec<u8>,
    /// Sent bytes of `bytes`.
    sent: usize,
    /// Values sent by reference, in order.
    values: Vec<Held>,
    /// Values of `values` that are sent completely.
    values_sent: usize,
    /// Unsent bytes of values sent by reference.
    value_bytes: usize,
    /// Unsent bytes at which execution pauses.
    pause_bytes: usize,
    /// Smallest value in bytes that is sent by reference.
    reference_bytes: usize,
}

/// A value that is sent from its item.
struct Held {
    value: Outgoing,
    /// Position in `bytes` before which it is sent.
    before: usize,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            sent: 0,
            values: Vec::new(),
            values_sent: 0,
            value_bytes: 0,
            pause_bytes: OUTPUT_PAUSE_BYTES,
            reference_bytes: SEND_BY_REFERENCE_BYTES,
        }
    }
}

impl Output {
    /// Sets the number of unsent bytes at which execution pauses. Returns the
    /// previous number.
    pub fn set_pause_bytes(&mut self, bytes: usize) -> usize {
        std::mem::replace(&mut self.pause_bytes, bytes)
    }

    /// Limits the buffer to a small size, at the cost of more system calls, or
    /// ends this. Workers set it while client memory is tight.
    pub fn set_tight(&mut self, tight: bool) {
        (self.pause_bytes, self.reference_bytes) = match tight {
            true => (TIGHT_OUTPUT_PAUSE_BYTES, TIGHT_SEND_BY_REFERENCE_BYTES),
            false => (OUTPUT_PAUSE_BYTES, SEND_BY_REFERENCE_BYTES),
        };
    }

    /// Returns whether execution must pause until output is sent.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() >= self.pause_bytes
    }

    /// Appends an item's value and CRLF.
    #[inline]
    pub fn value(&mut self, item: Item<'_>) {
        self.bare_value(item);
        self.bytes.extend_from_slice(VALUE_END);
    }

    /// Appends an item's value without CRLF.
    #[inline]
    pub fn bare_value(&mut self, item: Item<'_>) {
        if !self.hold(item) {
            for piece in item.pieces() {
                self.bytes.extend_from_slice(piece);
            }
        }
    }

    /// Appends what `write` makes of a key's item, as in [`Store::read_unlocked`].
    /// If `write` is called a second time, or the item turns out to be dead,
    /// discards what the first call appended.
    ///
    /// # Errors
    /// The reason of the miss, if there is no live item. Nothing is appended.
    #[inline]
    pub(super) fn read_item<R>(
        &mut self,
        store: &Store,
        local: &mut Local,
        key: &Hashed<'_>,
        now: Now,
        mut write: impl FnMut(Item<'_>, &mut Self) -> (Access, R),
    ) -> Result<R, Miss> {
        let start = self.bytes.len();
        let read = store.read_unlocked(local, key, now, |item| {
            self.truncate(start);
            write(item, self)
        });
        if read.is_err() {
            self.truncate(start);
        }
        read
    }

    /// Pins a large item to send its value by reference. Returns false if the
    /// value is small or the item cannot be pinned: the caller must copy it.
    #[inline]
    fn hold(&mut self, item: Item<'_>) -> bool {
        let len = item.value_len();
        if len < self.reference_bytes {
            return false;
        }
        let Some(pin) = item.pin() else {
            return false;
        };
        self.value_bytes += len;
        self.values.push(Held {
            value: Outgoing::new(pin),
            before: self.bytes.len(),
        });
        true
    }

    /// Returns the number of unsent bytes.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.value_bytes
    }

    /// Returns whether nothing is unsent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the unsent bytes if they are contiguous, that is, if no value is
    /// sent by reference.
    pub fn plain(&self) -> Option<&[u8]> {
        let values_left = self.values_sent < self.values.len();
        (!values_left).then(|| &self.bytes[self.sent..])
    }

    /// Returns the unsent pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let values = &self.values[self.values_sent..];
        let mut start = self.sent;
        let last = values.last().map_or(start, |held| held.before);
        let values = values.iter().flat_map(move |held| {
            let bytes = &self.bytes[start..held.before];
            start = held.before;
            std::iter::once(bytes).chain(held.value.pieces())
        });
        values
            .chain(std::iter::once(&self.bytes[last..]))
            .filter(|piece| !piece.is_empty())
    }

    /// Marks `len` more bytes as sent.
    pub fn advance(&mut self, mut len: usize) {
        debug_assert!(len <= self.len());
        while let Some(held) = self.values.get_mut(self.values_sent) {
            let bytes = len.min(held.before - self.sent);
            self.sent += bytes;
            len -= bytes;
            let of_value = len.min(held.value.left());
            held.value.advance(of_value);
            self.value_bytes -= of_value;
            len -= of_value;
            if held.value.left() > 0 {
                return;
            }
            self.values_sent += 1;
        }
        self.sent += len;
    }

    /// Removes bytes appended since `bytes` had length `len`. No value may have
    /// been appended by reference since.
    pub fn truncate(&mut self, len: usize) {
        debug_assert!(self.values.last().is_none_or(|held| held.before <= len));
        self.bytes.truncate(len);
    }

    /// Returns the bytes of memory that the buffers occupy, without pinned
    /// items.
    pub fn buffer_bytes(&self) -> usize {
        self.bytes.capacity() + self.values.capacity() * size_of::<Held>()
    }

    /// Returns the bytes of the items whose values are unsent.
    pub fn item_bytes(&self) -> usize {
        let unsent = &self.values[self.values_sent..];
        unsent.iter().map(|held| held.value.item().bytes()).sum()
    }

    /// Returns addresses and bytes of pinned items that are no longer linked:
    /// only pins such as these keep them in memory.
    pub fn stale_values(&self) -> impl Iterator<Item = (usize, usize)> {
        let unsent = &self.values[self.values_sent..];
        let items = unsent.iter().map(|held| held.value.item());
        let stale = items.filter(|item| !item.is_linked());
        stale.map(|item| (item.address(), item.bytes()))
    }

    /// Moves the unsent part into a new output, in a buffer of exactly its
    /// size, and clears this one.
    pub fn take_unsent(&mut self, store: &Store, local: &mut Local) -> Self {
        let mut values: Vec<Held> = self.values.drain(self.values_sent..).collect();
        for held in &mut values {
            held.before -= self.sent;
        }
        let unsent = Self {
            bytes: self.bytes[self.sent..].to_vec(),
            values,
            value_bytes: self.value_bytes,
            ..Self::default()
        };
        self.clear(store, local);
        unsent
    }

    /// Removes everything and releases the pinned items. Keeps the buffer for
    /// the next batch.
    pub fn clear(&mut self, store: &Store, local: &mut Local) {
        self.bytes.clear();
        (self.sent, self.values_sent, self.value_bytes) = (0, 0, 0);
        for held in self.values.drain(..) {
            store.release(local, held.value.into_pin());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Output;
    use crate::config::Eviction;
    use crate::store::{Access, ItemSpec, Local, Options, Store};
    use crate::time::Now;

    const NOW: Now = Now::from_millis(10_000);

    fn store() -> Store {
        Store::new(Options {
            max_memory: 64 << 20,
            evict: true,
            max_item_size: 1 << 20,
            eviction: Eviction::default(),
            cas: true,
            delimiter: b':',
        })
    }

    /// Stores a value of `len` bytes and appends it to `out`, between other
    /// bytes. Returns the expected bytes.
    fn append(store: &Store, local: &mut Local, len: usize, out: &mut Output) -> Vec<u8> {
        let name = format!("key{len}");
        let key = store.hashed(name.as_bytes());
        let value: Vec<u8> = (0..len)
            .map(|at| (at * 7 + (at >> 9) + len) as u8)
            .collect();
        let spec = ItemSpec::new(key.key, len);
        let pieces = std::iter::once(&value[..]);
        let new = store.new_filled(local, &key, &spec, NOW, pieces).unwrap();
        store.edit(local, &key, NOW, |entry| entry.put(new, 1));
        out.bytes.extend_from_slice(name.as_bytes());
        let shown = store.read(local, &key, NOW, |item| {
            (Access::Peek, out.bare_value(item))
        });
        shown.unwrap();
        [name.as_bytes(), &value].concat()
    }

    #[test]
    fn what_is_sent_in_parts_comes_whole() {
        let store = store();
        let mut local = store.local();
        for step in [13, 4096, 32_700, 100_000, 1 << 30] {
            let mut out = Output::default();
            let mut expected = Vec::new();
            // Copied and by reference, in one chunk and in several.
            for len in [10, 20_000, 100_000, 300, 40_000, 70_000] {
                expected.extend(append(&store, &mut local, len, &mut out));
            }
            out.bytes.extend_from_slice(b"the end");
            expected.extend_from_slice(b"the end");
            let mut sent = 0;
            while !out.is_empty() {
                assert_eq!(out.len(), expected.len() - sent);
                let next: Vec<u8> = out.pieces().flatten().take(2 * step).copied().collect();
                assert!(
                    expected[sent..].starts_with(&next),
                    "after {sent}, by {step}"
                );
                assert_eq!(next.len(), out.len().min(2 * step));
                let len = step.min(out.len());
                out.advance(len);
                sent += len;
            }
            assert_eq!(out.plain(), Some(&[][..]));
            out.clear(&store, &mut local);
        }
    }
}
