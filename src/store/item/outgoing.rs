//! Values that are being sent by reference. Each remembers its position, so
//! that continuing after a short write does not walk the chain from its head.

use crate::store::item::layout::Item;
use crate::store::item::pin::Pin;
use crate::store::item::segment::Pieces;

/// The unsent rest of a value that is sent from its item. Its owner must
/// release the reference in the end: see [`Outgoing::into_pin`].
#[must_use]
pub struct Outgoing {
    pin: Pin,
    /// The remaining pieces of the item that `pin` holds. They leave this file
    /// only with a lifetime bound to `self`.
    rest: Pieces<'static>,
    /// Bytes of the first piece that are sent.
    skip: usize,
    /// Bytes still to be sent.
    left: usize,
}

// SAFETY: the pieces point into an item that the reference keeps unchanged,
// whichever thread owns it.
unsafe impl Send for Outgoing {}

impl Outgoing {
    /// Creates the whole value of the item that `pin` holds.
    pub fn new(pin: Pin) -> Self {
        // The pin, which is stored beside the pieces, keeps the item alive.
        let rest = pin.item().pieces().detached();
        let left = pin.item().value_len();
        Self {
            pin,
            rest,
            skip: 0,
            left,
        }
    }

    /// Returns the bytes still to be sent.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Returns the bytes still to be sent, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.skip;
        self.rest.clone().map(move |piece: &[u8]| {
            let piece = &piece[skip..];
            skip = 0;
            piece
        })
    }

    /// Advances past `len` bytes that were sent.
    pub fn advance(&mut self, len: usize) {
        debug_assert!(len <= self.left);
        self.left -= len;
        self.skip += len;
        while self.left > 0 {
            let mut ahead = self.rest.clone();
            match ahead.next() {
                Some(piece) if self.skip >= piece.len() => {
                    self.skip -= piece.len();
                    self.rest = ahead;
                }
                _ => return,
            }
        }
    }

    /// Returns the item whose value is sent.
    pub fn item(&self) -> Item<'_> {
        self.pin.item()
    }

    /// Returns the reference, which the caller must release with
    /// [`Store::release`](crate::store::Store::release).
    pub fn into_pin(self) -> Pin {
        self.pin
    }
}
