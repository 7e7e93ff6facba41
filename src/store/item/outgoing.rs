//! Values on their way out: how far each has got, so that going on with one
//! of many pieces does not begin with a walk through those that are sent.

use crate::store::item::layout::Item;
use crate::store::item::pin::Pin;
use crate::store::item::segment::Pieces;

/// The rest of a value that is sent from its item. The reference must be
/// given back in the end: see [`Outgoing::into_pin`].
#[must_use]
pub struct Outgoing {
    pin: Pin,
    /// Pieces of the item that `pin` keeps. They do not leave this file but
    /// borrowed from it.
    rest: Pieces<'static>,
    /// Bytes of the first piece that are sent.
    skip: usize,
    left: usize,
}

// SAFETY: the pieces point into an item that the reference keeps as it is,
// whichever thread has it.
unsafe impl Send for Outgoing {}

impl Outgoing {
    /// The first `len` bytes of the value that `pin` refers to and its line
    /// end.
    pub fn new(pin: Pin, len: usize) -> Self {
        // The item's life is as long as its reference's, which is here.
        let rest = pin.item().pieces().detached();
        Self {
            pin,
            rest,
            skip: 0,
            left: len,
        }
    }

    /// Bytes that are still to be sent.
    pub fn left(&self) -> usize {
        self.left
    }

    /// What is still to be sent, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (mut skip, mut left) = (self.skip, self.left);
        self.rest.clone().map(move |piece: &[u8]| {
            let piece = &piece[skip..];
            skip = 0;
            let piece = &piece[..piece.len().min(left)];
            left -= piece.len();
            piece
        })
    }

    /// Notes that `len` more bytes are sent.
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

    /// The item whose value it is.
    pub fn item(&self) -> Item<'_> {
        self.pin.item()
    }

    /// The reference, to be given back.
    pub fn into_pin(self) -> Pin {
        self.pin
    }
}
