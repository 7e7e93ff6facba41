//! Construction of items. Chunks are allocated one by one as the value arrives,
//! so that a large item need not wait for all of its memory and is not copied.
//! Also `append` in place.

use std::ptr::NonNull;

use crate::store::index::map::Hashed;
use crate::store::item::chain::write_segment;
use crate::store::item::drop_bomb::DropBomb;
use crate::store::item::layout::{Item, ItemSpec, write_head};
use crate::store::item::segment::SEGMENT_HEADER_BYTES;
use crate::store::memory::chunk::Chunk;
use crate::store::memory::classes::{
    PAGE_SPACE_BYTES, chunk_bytes, class_for_item, class_for_next,
};
use crate::store::outcome::NoMemory;
use crate::store::state::{Local, Store};
use crate::time::Now;

/// A chunk allocated for appending is at least the item's size divided by this.
const SPARE_PART: usize = 16;

/// Result of appending to an item in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extended {
    /// The value was appended.
    Done,
    /// The item cannot be extended and must be replaced.
    Impossible,
    /// Spare chunks with room for this many more bytes are needed.
    Wanting(usize),
}

/// An item that is not linked yet. Its owner must pass it to [`Store::edit`] or
/// [`Store::discard`]; dropping it leaks its chunks, and panics
/// in debug builds.
#[must_use]
pub struct NewItem {
    /// The chunk with the item's header.
    head: Chunk,
    /// Hash of the key.
    hash: u64,
    /// The chunk that the next byte goes to: the head or the last segment.
    last: Chunk,
    /// Address of the next byte.
    at: NonNull<u8>,
    /// Bytes left in `last`.
    room: usize,
    /// Bytes of the value that need further chunks.
    left: usize,
    bomb: DropBomb,
}

// SAFETY: an unlinked item is private to the owner of this value.
unsafe impl Send for NewItem {}

impl NewItem {
    /// Returns a view of the item. The part of its value that has not been
    /// written has arbitrary contents.
    pub fn item(&self) -> Item<'_> {
        // SAFETY: this value owns the only reference to it.
        unsafe { Item::at(self.head) }
    }

    /// Returns the bytes of the value that are still to be written.
    pub fn missing(&self) -> usize {
        self.room + self.left
    }

    /// Returns approximately the bytes of memory that the received part of the
    /// item takes.
    pub fn bytes(&self) -> usize {
        self.item().bytes().saturating_sub(self.left)
    }

    /// Passes the item to the caller, as its head chunk.
    pub(in crate::store) fn into_chunk(self) -> Chunk {
        self.bomb.defuse();
        self.head
    }

    /// Returns the hash of the key.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Advances past `len` bytes that were written to the room.
    fn advance(&mut self, len: usize) {
        debug_assert!(len <= self.room);
        // SAFETY: inside the chunk, which has `room` bytes left.
        self.at = unsafe { self.at.add(len) };
        self.room -= len;
    }
}

impl Store {
    /// Allocates an item with header and key. The value is written with
    /// [`Store::fill`] or [`Store::fill_with`]. May evict items.
    ///
    /// # Errors
    /// There is no memory, and nothing may be evicted to get some.
    pub fn new_item(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        now: Now,
    ) -> Result<NewItem, NoMemory> {
        debug_assert_eq!(key.key, spec.key);
        let widened;
        let spec = match self.needs_birth_field(None) {
            true => {
                widened = spec.with_birth();
                &widened
            }
            false => spec,
        };
        let class = class_for_item(spec.bytes(), spec.chained_bytes());
        local.now = now;
        let head = self.alloc(local, class)?;
        // SAFETY: the chunk is new and private to the caller; classes for
        // chained items are large enough for any head.
        let (at, room) = unsafe { write_head(head, chunk_bytes(class), spec, now.second()) };
        Ok(NewItem {
            head,
            hash: key.hash,
            last: head,
            at,
            room,
            left: spec.value_len - room,
            bomb: DropBomb::new(),
        })
    }

    /// Allocates an item and writes its value from `pieces`, which together are
    /// the value.
    ///
    /// # Errors
    /// There is no memory, and nothing may be evicted to get some.
    pub fn new_filled<'p>(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        now: Now,
        pieces: impl Iterator<Item = &'p [u8]>,
    ) -> Result<NewItem, NoMemory> {
        let mut new = self.new_item(local, key, spec, now)?;
        for piece in pieces {
            if let Err(error) = self.fill(local, &mut new, piece) {
                self.discard(local, new);
                return Err(error);
            }
        }
        debug_assert_eq!(new.missing(), 0);
        Ok(new)
    }

    /// Appends `bytes` to the value; no more than [`NewItem::missing`].
    ///
    /// # Errors
    /// There is no memory; the caller must discard the item.
    pub fn fill(
        &self,
        local: &mut Local,
        new: &mut NewItem,
        mut bytes: &[u8],
    ) -> Result<(), NoMemory> {
        assert!(bytes.len() <= new.missing(), "more than the value holds");
        while !bytes.is_empty() {
            self.make_room(local, new)?;
            let len = bytes.len().min(new.room);
            // SAFETY: the room is private to the caller and at least `len`
            // bytes long.
            unsafe {
                let from = NonNull::from(bytes).cast();
                new.at.copy_from_nonoverlapping(from, len);
            }
            new.advance(len);
            bytes = &bytes[len..];
        }
        Ok(())
    }

    /// Calls `receive` with a buffer for the next bytes of the value, so that
    /// they are received straight into the item. `receive` returns how many
    /// bytes it wrote.
    ///
    /// # Errors
    /// There is no memory; the caller must discard the item.
    pub fn fill_with<E>(
        &self,
        local: &mut Local,
        new: &mut NewItem,
        receive: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Result<usize, E>, NoMemory> {
        self.make_room(local, new)?;
        // Recycled chunks were written before, and fresh pages come zeroed from
        // the system: all of the room is initialised.
        //
        // SAFETY: the room is private to the caller and this long.
        let room = unsafe { std::slice::from_raw_parts_mut(new.at.as_ptr(), new.room) };
        let received = receive(room);
        if let Ok(len) = received {
            new.advance(len.min(new.room));
        }
        Ok(received)
    }

    /// Appends the value of `addition` to the item of the same key in place,
    /// without copying it: for large values that no other thread is reading.
    /// Allocates spare chunks without the shard lock and tries again.
    ///
    /// Under the lock, `accepts` decides whether the item may be changed. `new_cas`
    /// is its new CAS value if a client gives one; then `accepts` must require a
    /// birth field. Returns the new CAS value, or `None` if the value was not
    /// appended: the item is unchanged, or invalidated and removed.
    pub fn append_in_place(
        &self,
        local: &mut Local,
        addition: &NewItem,
        now: Now,
        accepts: impl Fn(Item<'_>) -> bool,
        new_cas: Option<u64>,
    ) -> Option<u64> {
        let mut spare = Vec::new();
        let key = Hashed {
            key: addition.item().key(),
            hash: addition.hash,
        };
        let appended = loop {
            let extended = self.edit(local, &key, now, |entry| {
                let item = entry.item()?;
                if !accepts(item) {
                    return None;
                }
                let size = item.bytes();
                let extended = entry.extend(addition.item(), &mut spare);
                if extended != Extended::Done {
                    return Some((extended, size, None));
                }
                let birth = entry.renew(new_cas)?;
                entry.item()?.renew(now.second());
                entry.set_birth(birth);
                entry.promote();
                Some((extended, size, Some(birth.cas)))
            });
            match extended {
                Some((Extended::Wanting(bytes), size, _)) => {
                    // Allocate ahead, so that many small additions do not make
                    // a long chain.
                    let ahead = size / SPARE_PART;
                    let wanted = bytes
                        .max(ahead)
                        .min(PAGE_SPACE_BYTES - SEGMENT_HEADER_BYTES);
                    match self.alloc(local, class_for_next(wanted + SEGMENT_HEADER_BYTES)) {
                        Ok(chunk) => spare.insert(0, chunk),
                        Err(NoMemory) => break None,
                    }
                }
                Some((_, _, cas)) => break cas,
                None => break None,
            }
        };
        for chunk in spare {
            // SAFETY: allocated above and unused.
            unsafe { self.memory.free(&mut local.magazines, chunk) };
        }
        appended
    }

    /// Frees an item that will not be linked.
    pub fn discard(&self, local: &mut Local, new: NewItem) {
        self.free_unlinked(local, new.into_chunk());
    }

    /// Allocates the next segment if `last` is full and bytes are still to
    /// come.
    fn make_room(&self, local: &mut Local, new: &mut NewItem) -> Result<(), NoMemory> {
        if new.room > 0 || new.left == 0 {
            return Ok(());
        }
        let class = class_for_next(new.left + SEGMENT_HEADER_BYTES);
        let chunk = self.alloc(local, class)?;
        let len = new.left.min(chunk_bytes(class) - SEGMENT_HEADER_BYTES);
        let behind_head = new.last == new.head;
        // SAFETY: the chunk is new and private to the caller, as is the item.
        new.at = unsafe { write_segment(chunk, len, new.hash, new.last, behind_head) };
        new.last = chunk;
        new.room = len;
        new.left -= len;
        Ok(())
    }
}
