//! Answers of a batch on their way out: bytes, and between them large values
//! that are sent from the item itself.

use crate::limits::SEND_BY_REFERENCE_BYTES;
use crate::store::{Item, Local, Pin, Store};

/// Collects the answers of a batch.
#[derive(Default)]
pub struct Output {
    /// Everything but the values sent by reference.
    pub bytes: Vec<u8>,
    /// Values between them, in order.
    values: Vec<Held>,
    value_bytes: usize,
}

/// A value that is sent from its item.
struct Held {
    pin: Pin,
    /// The place in the other bytes that it goes before.
    before: usize,
    /// Bytes of it that are sent: its line end may be left out.
    len: usize,
}

impl Output {
    /// Appends an item's value and its line end.
    #[inline]
    pub fn value(&mut self, item: Item<'_>) {
        if !self.hold(item, item.value_len() + 2) {
            for piece in item.pieces() {
                self.bytes.extend_from_slice(piece);
            }
        }
    }

    /// Appends an item's value without its line end.
    #[inline]
    pub fn bare_value(&mut self, item: Item<'_>) {
        if !self.hold(item, item.value_len()) {
            for piece in item.value_pieces() {
                self.bytes.extend_from_slice(piece);
            }
        }
    }

    /// Takes a reference to a large item; false for others.
    #[inline]
    fn hold(&mut self, item: Item<'_>, len: usize) -> bool {
        if item.value_len() < SEND_BY_REFERENCE_BYTES {
            return false;
        }
        let Some(pin) = item.pin() else {
            return false;
        };
        self.value_bytes += len;
        let before = self.bytes.len();
        self.values.push(Held { pin, before, len });
        true
    }

    /// Bytes to be sent.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.value_bytes
    }

    /// Nothing is to be sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether everything lies in `bytes`.
    pub fn is_plain(&self) -> bool {
        self.values.is_empty()
    }

    /// The pieces to be sent, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        let values = self.values.iter().flat_map(move |held| {
            let bytes = &self.bytes[start..held.before];
            start = held.before;
            let mut left = held.len;
            let value = held.pin.item().pieces().map(move |piece| {
                let sent = &piece[..piece.len().min(left)];
                left -= sent.len();
                sent
            });
            std::iter::once(bytes).chain(value)
        });
        let last = self.values.last().map_or(0, |held| held.before);
        values
            .chain(std::iter::once(&self.bytes[last..]))
            .filter(|piece| !piece.is_empty())
    }

    /// Forgets what was appended since `bytes` had this length, provided no
    /// value was appended by reference since.
    pub fn truncate(&mut self, len: usize) {
        debug_assert!(self.values.last().is_none_or(|held| held.before <= len));
        self.bytes.truncate(len);
    }

    /// Forgets everything, keeping the buffer for the next batch.
    pub fn clear(&mut self, store: &Store, local: &mut Local) {
        self.bytes.clear();
        self.value_bytes = 0;
        for held in self.values.drain(..) {
            store.release(local, held.pin);
        }
    }
}
