//! Answers of a batch on their way out: bytes, and between them large values
//! that are sent from the item itself.

use crate::limits::SEND_BY_REFERENCE_BYTES;
use crate::store::{Item, Local, Pin, Store};

/// Collects the answers of a batch.
#[derive(Default)]
pub struct Output {
    /// Everything but the values sent by reference.
    pub bytes: Vec<u8>,
    /// Values, each with the place in `bytes` that it goes before.
    values: Vec<(usize, Pin)>,
    value_bytes: usize,
}

impl Output {
    /// Appends an item's value and its line end.
    #[inline]
    pub fn value(&mut self, item: Item<'_>) {
        if item.value_len() >= SEND_BY_REFERENCE_BYTES
            && let Some(pin) = item.pin()
        {
            self.value_bytes += item.value_len() + 2;
            self.values.push((self.bytes.len(), pin));
            return;
        }
        for piece in item.pieces() {
            self.bytes.extend_from_slice(piece);
        }
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
        let values = self.values.iter().flat_map(move |(before, pin)| {
            let bytes = &self.bytes[start..*before];
            start = *before;
            std::iter::once(bytes).chain(pin.item().pieces())
        });
        let last = self.values.last().map_or(0, |(before, _)| *before);
        values
            .chain(std::iter::once(&self.bytes[last..]))
            .filter(|piece| !piece.is_empty())
    }

    /// Forgets what was appended since `bytes` had this length, provided no
    /// value was appended by reference since.
    pub fn truncate(&mut self, len: usize) {
        debug_assert!(self.values.last().is_none_or(|(before, _)| *before <= len));
        self.bytes.truncate(len);
    }

    /// Forgets everything, keeping the buffer for the next batch.
    pub fn clear(&mut self, store: &Store, local: &mut Local) {
        self.bytes.clear();
        self.value_bytes = 0;
        for (_, pin) in self.values.drain(..) {
            store.release(local, pin);
        }
    }
}
