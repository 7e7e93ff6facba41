//! The reference word at the start of every chunk: its reference count, whether
//! the map links to it, and whether it is a segment. A chunk's life ends only
//! here. The file is small enough to be model-checked.
//!
//! A chunk is free when its word is 0. Its maker owns the first reference;
//! linking it into the map hands that reference to the map. The caller who
//! takes the count to 0 frees the chunk, and no other may.

use crate::sync::{AtomicU32, Ordering};

/// The map owns one of the references.
const LINKED: u32 = 1 << 31;
/// The chunk is a segment of an item.
const SEGMENT: u32 = 1 << 30;
/// In a memory file: the item was linked when the server stopped. The low 16
/// bits are the eviction stamp.
const SEALED: u32 = 1 << 29;
/// Bits of a sealed word that hold the stamp.
const STAMP: u32 = u16::MAX as u32;
/// While a memory file is loaded: the segment belongs to an item.
const CLAIMED: u32 = 1 << 28;
/// Bits of the reference count.
const COUNT: u32 = (1 << 30) - 1;
/// Maximum number of references to a chunk. Further ones are refused, so that
/// the count cannot overflow however many requests pin one key.
const COUNT_MAX: u32 = 1 << 29;

/// The reference word of a chunk.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct RefWord(AtomicU32);

impl RefWord {
    /// Creates the word of a free chunk.
    #[cfg(test)]
    pub(crate) fn free() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Turns a free chunk into an item with one reference, which its maker
    /// owns.
    pub(crate) fn init_item(&self) {
        // Relaxed: the chunk is still private to its maker.
        self.0.store(1, Ordering::Relaxed);
    }

    /// Turns a free chunk into a segment with one reference, which belongs to
    /// its item. The segment's header, written before, is visible to any thread
    /// that pins it.
    pub(crate) fn init_segment(&self) {
        self.0.store(1 | SEGMENT, Ordering::Release);
    }

    /// Hands the maker's reference to the map.
    pub(crate) fn link(&self) {
        debug_assert_eq!(self.0.load(Ordering::Relaxed), 1, "its maker's alone");
        // Not one atomic step: no thread pins an unlinked item.
        self.0.store(1 | LINKED, Ordering::Release);
    }

    /// Takes the reference back from the map. The caller must release it.
    pub(crate) fn unlink(&self) {
        self.0.fetch_and(!LINKED, Ordering::Relaxed);
    }

    /// Takes the reference back from the map if it is the only one: the caller
    /// must retire the item. Returns false if there are other references; then
    /// nothing has changed.
    #[must_use]
    pub(crate) fn unlink_sole(&self) -> bool {
        // Acquire: the reads of earlier holders have ended.
        self.0
            .compare_exchange(1 | LINKED, 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Adds a reference to a chunk that is known to be held, for example by the
    /// map while the shard is locked. Returns false at the maximum number.
    pub(crate) fn pin(&self) -> bool {
        if self.0.load(Ordering::Relaxed) & COUNT >= COUNT_MAX {
            return false;
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Adds a reference to the chunk if it is a linked item or a segment.
    /// Returns `None` if it is free or an unlinked item, or has the maximum
    /// number.
    pub(crate) fn try_pin(&self) -> Option<Pinned> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let count = word & COUNT;
            if count == 0 || count >= COUNT_MAX || word & (LINKED | SEGMENT) == 0 {
                return None;
            }
            match self
                .0
                .compare_exchange_weak(word, word + 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) if word & SEGMENT != 0 => return Some(Pinned::Segment),
                Ok(_) => return Some(Pinned::Item),
                Err(now) => word = now,
            }
        }
    }

    /// Releases a reference to an item. Returns true if it was the last: it is
    /// then the caller's, who must retire the item. Nobody else can get one, since
    /// the map does not link to the item.
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        // Acquire: the thread that frees the chunk sees that all reads of
        // holders have ended.
        if self.0.load(Ordering::Acquire) == 1 {
            return true;
        }
        // The orders are those of `unpin`.
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & COUNT > 0, "release of a free chunk");
        if before & COUNT != 1 {
            return false;
        }
        debug_assert!(before & LINKED == 0, "the map's reference was dropped");
        self.0.store(1, Ordering::Relaxed);
        true
    }

    /// Releases a reference. Returns true if it was the last: the word is then
    /// 0, and the caller must free the chunk.
    #[must_use]
    pub(crate) fn unpin(&self) -> bool {
        // Release: this holder's reads end here. Acquire: the thread that frees
        // the chunk sees that all reads have ended.
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & COUNT > 0, "unpin of a free chunk");
        if before & COUNT != 1 {
            return false;
        }
        debug_assert!(before & LINKED == 0, "the map's reference was dropped");
        self.0.store(0, Ordering::Release);
        true
    }

    /// Marks a linked item for the next server that reads its memory: the word
    /// becomes its eviction stamp. No other thread uses the item any more.
    pub(crate) fn seal(&self, stamp: u16) {
        let sealed = LINKED | SEALED | u32::from(stamp);
        self.0.store(sealed, Ordering::Relaxed);
    }

    /// Returns the eviction stamp of a sealed item; `None` for other chunks.
    pub(crate) fn sealed_stamp(&self) -> Option<u16> {
        let word = self.0.load(Ordering::Relaxed);
        (word & !STAMP == LINKED | SEALED).then_some((word & STAMP) as u16)
    }

    /// Begins the loading of a chunk of a memory file. Returns what it was when
    /// the server stopped. No other thread uses the chunk. A word that no server
    /// writes at its stop becomes that of a free chunk.
    pub(crate) fn begin_loading(&self) -> Sealed {
        if let Some(stamp) = self.sealed_stamp() {
            return Sealed::Item(stamp);
        }
        let (word, sealed) = match self.is_segment() {
            true => (SEGMENT, Sealed::Segment),
            false => (0, Sealed::Neither),
        };
        self.0.store(word, Ordering::Relaxed);
        sealed
    }

    /// Makes a sealed item one that the map links to and nobody else holds.
    pub(crate) fn unseal(&self) {
        self.0.store(1 | LINKED, Ordering::Release);
    }

    /// Returns whether the chunk was a segment when its memory was sealed.
    pub(crate) fn is_segment(&self) -> bool {
        self.0.load(Ordering::Relaxed) & (LINKED | SEGMENT) == SEGMENT
    }

    /// Claims a segment for an item of a file that is loaded. Returns false if
    /// the chunk is no segment, or another item has claimed it.
    pub(crate) fn claim_segment(&self) -> bool {
        let claimed = SEGMENT | CLAIMED | 1;
        self.0
            .compare_exchange(SEGMENT, claimed, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Gives up the last reference to a chunk: of a retired item, or in a file
    /// that is loaded of a claimed segment or a damaged item. It is then free.
    pub(crate) fn give_up(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Ends the loading of a chunk. Returns true if an item uses it: it is a
    /// claimed segment, or was unsealed.
    pub(crate) fn end_loading(&self) -> bool {
        match self.0.load(Ordering::Relaxed) {
            word if word == SEGMENT | CLAIMED | 1 => {
                self.init_segment();
                true
            }
            word => word == LINKED | 1,
        }
    }

    /// Returns whether the chunk has no reference.
    pub(crate) fn is_free(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Returns whether there is exactly one reference. Under the shard's write
    /// lock, no reference can be added; so the only one is the map's, and the
    /// item may be changed in place.
    pub(crate) fn is_sole(&self) -> bool {
        // Acquire pairs with the Release in `unpin` by earlier holders.
        self.0.load(Ordering::Acquire) & COUNT == 1
    }

    /// Returns whether there are exactly two references: the map's and the
    /// caller's pin. Call it under the shard's write lock.
    pub(crate) fn is_sole_except_caller(&self) -> bool {
        self.0.load(Ordering::Acquire) & COUNT == 2
    }

    /// Returns whether the map owns a reference to this chunk.
    pub(crate) fn is_linked(&self) -> bool {
        self.0.load(Ordering::Relaxed) & LINKED != 0
    }
}

/// What a chunk of a memory file was when the server stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// The head of a linked item, with its eviction stamp.
    Item(u16),
    /// A segment.
    Segment,
    /// Free, or the head of an item that was not linked.
    Neither,
}

/// The kind of chunk that [`RefWord::try_pin`] has pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pinned {
    /// The head chunk of a linked item.
    Item,
    /// A segment of a large item.
    Segment,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Pinned, RefWord};

    #[test]
    fn a_life() {
        let word = RefWord::free();
        assert_eq!(word.try_pin(), None);
        word.init_item();
        assert_eq!(word.try_pin(), None, "not linked yet");
        word.link();
        assert!(word.is_linked() && word.is_sole());
        assert_eq!(word.try_pin(), Some(Pinned::Item));
        assert!(!word.is_sole());
        assert!(!word.unlink_sole());
        word.unlink();
        assert!(!word.unpin());
        assert!(word.release(), "the last reference retires");
        word.give_up();
        assert_eq!(word.try_pin(), None);
        word.init_item();
        word.link();
        assert!(
            word.unlink_sole() && !word.is_free(),
            "it may still be read"
        );
        assert_eq!(word.try_pin(), None, "retired");
        word.give_up();
        assert!(word.is_free());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    use super::RefWord;

    /// A reader, an overwriter and the page mover use one chunk: it is freed
    /// exactly once, and never while one of them holds it.
    #[test]
    fn freed_once_and_never_while_held() {
        loom::model(|| {
            let word = Arc::new(RefWord::free());
            let freed = Arc::new(AtomicUsize::new(0));
            word.init_item();
            word.link();
            let reader_pinned = word.pin();
            assert!(reader_pinned);
            let mover = {
                let (word, freed) = (Arc::clone(&word), Arc::clone(&freed));
                thread::spawn(move || {
                    if word.try_pin().is_some() {
                        assert_eq!(freed.load(Ordering::Relaxed), 0);
                        if word.release() {
                            freed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            };
            let reader = {
                let (word, freed) = (Arc::clone(&word), Arc::clone(&freed));
                thread::spawn(move || {
                    assert_eq!(freed.load(Ordering::Relaxed), 0);
                    if word.release() {
                        freed.fetch_add(1, Ordering::Relaxed);
                    }
                })
            };
            if word.unlink_sole() {
                freed.fetch_add(1, Ordering::Relaxed);
            } else {
                word.unlink();
                if word.release() {
                    freed.fetch_add(1, Ordering::Relaxed);
                }
            }
            mover.join().unwrap();
            reader.join().unwrap();
            assert_eq!(freed.load(Ordering::Relaxed), 1);
            assert!(word.try_pin().is_none());
        });
    }
}
