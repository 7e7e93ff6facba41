//! Pins: references to items that outlive the shard lock.

use crate::store::item::drop_bomb::DropBomb;
use crate::store::item::layout::Item;
use crate::store::memory::chunk::Chunk;

/// A reference to an item that outlives the shard lock. Its owner must return
/// it with [`Store::release`](crate::store::Store::release); dropping it leaks
/// the item, and panics in debug builds.
#[must_use]
pub struct Pin {
    head: Chunk,
    bomb: DropBomb,
}

// SAFETY: the reference count is atomic and made to be held across threads.
unsafe impl Send for Pin {}

impl Pin {
    /// Returns the item. The map may have replaced or removed it meanwhile.
    pub fn item(&self) -> Item<'_> {
        // SAFETY: the reference keeps the item.
        unsafe { Item::at(self.head) }
    }

    /// Passes the reference to the caller, as the head chunk that it keeps.
    pub(in crate::store) fn into_chunk(self) -> Chunk {
        self.bomb.defuse();
        self.head
    }
}

impl Item<'_> {
    /// Returns whether this is the item that `pin` holds.
    pub fn is_same(self, pin: &Pin) -> bool {
        self.chunk() == pin.head
    }

    /// Returns whether the map still links to this item. It may have been
    /// replaced, removed, evicted or moved since it was pinned.
    pub fn is_linked(self) -> bool {
        self.word().is_linked()
    }

    /// Returns the address of the item's head chunk, which identifies the item
    /// while it is held.
    pub fn address(self) -> usize {
        self.chunk().addr().get()
    }

    /// Takes a reference that outlives the shard lock. Returns `None` if the
    /// item already has the maximum number of references.
    pub fn pin(self) -> Option<Pin> {
        self.word().pin().then(|| Pin {
            head: self.chunk(),
            bomb: DropBomb::new(),
        })
    }
}
