//! Items in the making: memory taken piece by piece as the value arrives, so
//! that a large one neither waits for all of its memory nor is copied.

use std::ptr::NonNull;

use crate::store::index::map::Hashed;
use crate::store::item::chain::{segment_data_before, write_segment};
use crate::store::item::layout::{CRLF_BYTES, Item, ItemSpec, write_head};
use crate::store::item::segment::SEGMENT_HEADER_BYTES;
use crate::store::memory::chunk::Chunk;
use crate::store::memory::classes::{
    PAGE_SPACE_BYTES, chunk_bytes, class_for_item, class_for_next,
};
use crate::store::outcome::NoMemory;
use crate::store::state::{Local, Store};
use crate::time::Now;

/// A chunk to append into is at least this part of the item.
const SPARE_PART: usize = 16;

/// How appending to an item in place ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extended {
    Done,
    /// It must be replaced instead.
    Impossible,
    /// It takes more spare chunks, with room for so many bytes.
    Wanting(usize),
}

/// An item that is not in the map yet. It must end in [`Store::edit`] or in
/// [`Store::discard`]; dropping it would lose its memory.
#[must_use]
pub struct NewItem {
    head: Chunk,
    hash: u64,
    last: Chunk,
    at: NonNull<u8>,
    room: usize,
    left: usize,
}

// SAFETY: an unlinked item is private to whoever holds this.
unsafe impl Send for NewItem {}

impl NewItem {
    /// The item as far as it has been made.
    pub fn item(&self) -> Item<'_> {
        // SAFETY: we hold the only reference to it.
        unsafe { Item::at(self.head) }
    }

    /// Bytes of the value and its line end that are still to be written.
    pub fn missing(&self) -> usize {
        self.room + self.left
    }

    /// Bytes of memory that what has been received of it takes, roughly.
    pub fn bytes(&self) -> usize {
        self.item().bytes().saturating_sub(self.left)
    }

    pub(crate) fn chunk(&self) -> Chunk {
        self.head
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether the last two bytes written are a line end; asked of a complete
    /// item.
    pub fn ends_with_crlf(&self) -> bool {
        debug_assert_eq!(self.missing(), 0);
        if self.last != self.head {
            // SAFETY: what was written last lies in this segment, up to `at`.
            let written = unsafe { segment_data_before(self.last, self.at) };
            if let Some(end) = written.last_chunk::<CRLF_BYTES>() {
                return end == b"\r\n";
            }
        }
        let mut last = [0; CRLF_BYTES];
        for piece in self.item().pieces() {
            match piece {
                [.., a, b] => last = [*a, *b],
                [b] => last = [last[1], *b],
                [] => {}
            }
        }
        last == *b"\r\n"
    }

    /// Notes that `len` bytes were written to the start of the room.
    fn advance(&mut self, len: usize) {
        debug_assert!(len <= self.room);
        // SAFETY: inside the chunk, `room` bytes being left there.
        self.at = unsafe { self.at.add(len) };
        self.room -= len;
    }
}

impl Store {
    /// Begins an item; its value is written with [`Store::fill`].
    ///
    /// # Errors
    /// There is no memory, and nothing may be evicted to get it.
    pub fn new_item(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        now: Now,
    ) -> Result<NewItem, NoMemory> {
        debug_assert_eq!(key.key, spec.key);
        let class = class_for_item(spec.bytes(), spec.chained_bytes());
        local.now = now;
        let head = self.alloc(local, class)?;
        // SAFETY: the chunk is new and ours; classes for chained items are
        // large enough for any head.
        let (at, room) = unsafe { write_head(head, chunk_bytes(class), spec, now.second()) };
        Ok(NewItem {
            head,
            hash: key.hash,
            last: head,
            at,
            room,
            left: spec.value_len + CRLF_BYTES - room,
        })
    }

    /// Begins an item and writes its whole value, with its line end.
    ///
    /// # Errors
    /// As for [`Store::new_item`].
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

    /// Appends bytes to the value, at most as many as are missing.
    ///
    /// # Errors
    /// There is no memory; the item must be discarded.
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
            // SAFETY: the room is ours and at least `len` bytes long.
            unsafe {
                let from = NonNull::from(bytes).cast();
                new.at.copy_from_nonoverlapping(from, len);
            }
            new.advance(len);
            bytes = &bytes[len..];
        }
        Ok(())
    }

    /// Lets `receive` write straight into the next bytes of the value and
    /// say how many it wrote.
    ///
    /// # Errors
    /// There is no memory; the item must be discarded.
    pub fn fill_with<E>(
        &self,
        local: &mut Local,
        new: &mut NewItem,
        receive: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Result<usize, E>, NoMemory> {
        self.make_room(local, new)?;
        // Page memory is recycled, never returned to us unwritten but for
        // fresh pages, which the system hands out zeroed: all of it is
        // initialised as far as the machine is concerned.
        // SAFETY: the room is ours and this long.
        let room = unsafe { std::slice::from_raw_parts_mut(new.at.as_ptr(), new.room) };
        let received = receive(room);
        if let Ok(len) = received {
            new.advance(len.min(new.room));
        }
        Ok(received)
    }

    /// Appends the value of `addition` to the key's in place, without copying
    /// what is there: for large values that nobody is reading. `accepts` is
    /// asked about the item under the lock, and `new_cas` for its new CAS
    /// value, which is returned. `None` if it cannot be done in place.
    pub fn append_in_place(
        &self,
        local: &mut Local,
        addition: &NewItem,
        now: Now,
        accepts: impl Fn(Item<'_>) -> bool,
        new_cas: impl Fn() -> u64,
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
                let cas = (extended == Extended::Done).then(&new_cas);
                if let Some(cas) = cas {
                    item.renew(now.second());
                    entry.set_cas(cas);
                    entry.promote();
                }
                Some((extended, size, cas))
            });
            match extended {
                Some((Extended::Wanting(bytes), size, _)) => {
                    // Some more than needed, so that many small additions do
                    // not make a long chain.
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
            // SAFETY: allocated above and not used.
            unsafe { self.memory.free(&mut local.magazines, chunk) };
        }
        appended
    }

    /// Gives up on an item in the making.
    pub fn discard(&self, local: &mut Local, new: NewItem) {
        self.release_chunk(local, new.head);
    }

    /// Makes sure that the next byte has a place.
    fn make_room(&self, local: &mut Local, new: &mut NewItem) -> Result<(), NoMemory> {
        if new.room > 0 || new.left == 0 {
            return Ok(());
        }
        let class = class_for_next(new.left + SEGMENT_HEADER_BYTES);
        let chunk = self.alloc(local, class)?;
        let len = new.left.min(chunk_bytes(class) - SEGMENT_HEADER_BYTES);
        let behind_head = new.last == new.head;
        // SAFETY: the chunk is new and ours, and so is the item.
        new.at = unsafe { write_segment(chunk, len, new.hash, new.last, behind_head) };
        new.last = chunk;
        new.room = len;
        new.left -= len;
        Ok(())
    }
}
