//! References to items that outlive the lock.

use crate::store::item::layout::Item;
use crate::store::memory::chunk::Chunk;

/// A reference to an item that outlives the lock. It must be given back with
/// [`Store::release`](crate::store::Store::release).
#[must_use]
pub struct Pin(pub(in crate::store) Chunk);

// SAFETY: a reference count held across threads is what it is for.
unsafe impl Send for Pin {}

impl Pin {
    /// The item; it may have been replaced in the map since.
    pub fn item(&self) -> Item<'_> {
        // SAFETY: the reference keeps the item.
        unsafe { Item::at(self.0) }
    }
}

impl Item<'_> {
    /// Whether this is the item that `pin` refers to.
    pub fn is_same(self, pin: &Pin) -> bool {
        self.chunk() == pin.0
    }

    /// Whether the map still has this very item; it may have been replaced,
    /// removed, evicted or moved since it was pinned.
    pub fn is_linked(self) -> bool {
        self.word().is_linked()
    }

    /// What tells items in memory apart.
    pub fn address(self) -> usize {
        self.chunk().addr().get()
    }

    /// Takes a reference that outlives the lock; `None` if too many are held.
    pub fn pin(self) -> Option<Pin> {
        self.word().pin().then(|| Pin(self.chunk()))
    }
}
