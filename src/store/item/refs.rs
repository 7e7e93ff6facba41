//! The reference word at the start of every chunk: how many hold it, whether
//! the map holds it, and what it is. The one place where a chunk's life ends,
//! and small enough to be model-checked.
//!
//! A chunk is free when its word is 0. Its maker owns the first reference;
//! linking it into the map hands that reference to the map. Whoever takes the
//! count to zero frees the chunk, and nobody else may.

use crate::sync::{AtomicU32, Ordering};

const LINKED: u32 = 1 << 31;
const SEGMENT: u32 = 1 << 30;
const COUNT: u32 = (1 << 30) - 1;
/// References one chunk may have; more are refused, so that the count cannot
/// overflow however often one key is asked for.
const COUNT_MAX: u32 = 1 << 29;

/// The reference word of a chunk.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct RefWord(AtomicU32);

impl RefWord {
    /// The word of a free chunk.
    #[cfg(test)]
    pub(crate) fn free() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Makes a free chunk an item that its maker holds.
    pub(crate) fn become_item(&self) {
        // Relaxed: the chunk is still private to its maker.
        self.0.store(1, Ordering::Relaxed);
    }

    /// Makes a free chunk a segment of its maker's item. What was written to
    /// its header before is visible to whoever pins it.
    pub(crate) fn become_segment(&self) {
        self.0.store(1 | SEGMENT, Ordering::Release);
    }

    /// Hands the maker's reference to the map.
    pub(crate) fn link(&self) {
        debug_assert_eq!(self.0.load(Ordering::Relaxed), 1, "its maker's alone");
        // Not one atomic step: nobody pins what is not linked.
        self.0.store(1 | LINKED, Ordering::Release);
    }

    /// Takes the map's reference back; the caller must release it.
    pub(crate) fn unlink(&self) {
        self.0.fetch_and(!LINKED, Ordering::Relaxed);
    }

    /// Takes the map's reference back and, if it is the only one, releases
    /// it: the word is then 0 and the caller must free the chunk. False if
    /// others hold the chunk, and nothing has changed.
    #[must_use]
    pub(crate) fn unlink_sole(&self) -> bool {
        // Acquire: the other holders' reads have ended.
        self.0
            .compare_exchange(1 | LINKED, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Adds a reference to a chunk that someone is known to hold (the map,
    /// while its shard is locked). False if there are too many.
    pub(crate) fn pin(&self) -> bool {
        if self.0.load(Ordering::Relaxed) & COUNT >= COUNT_MAX {
            return false;
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Adds a reference to whatever is at this place if it is a linked item
    /// or a segment; `None` if it is free or still being made.
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

    /// Gives a reference back. True if it was the last: the word is then 0
    /// and the caller must free the chunk.
    #[must_use]
    pub(crate) fn unpin(&self) -> bool {
        // Release: this holder's reads end here. Acquire: the one who frees
        // sees them all ended.
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & COUNT > 0, "unpin of a free chunk");
        if before & COUNT != 1 {
            return false;
        }
        debug_assert!(before & LINKED == 0, "the map's reference was dropped");
        self.0.store(0, Ordering::Release);
        true
    }

    /// Whether nothing holds the chunk.
    pub(crate) fn is_free(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Whether exactly one reference is left. Under the shard's write lock,
    /// where no reference can be added, it is the map's, and the item may be
    /// changed in place.
    pub(crate) fn is_sole(&self) -> bool {
        // Acquire pairs with the Release of the others' unpin.
        self.0.load(Ordering::Acquire) & COUNT == 1
    }

    /// Whether the map's reference and one pin of the caller's are all there
    /// is; to be asked under the shard's write lock.
    pub(crate) fn is_sole_but_one(&self) -> bool {
        self.0.load(Ordering::Acquire) & COUNT == 2
    }

    /// Whether the map holds this chunk.
    pub(crate) fn is_linked(&self) -> bool {
        self.0.load(Ordering::Relaxed) & LINKED != 0
    }
}

/// What [`RefWord::try_pin`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pinned {
    /// The head chunk of a linked item.
    Item,
    /// A further chunk of a large item.
    Segment,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Pinned, RefWord};

    #[test]
    fn a_life() {
        let word = RefWord::free();
        assert_eq!(word.try_pin(), None);
        word.become_item();
        assert_eq!(word.try_pin(), None, "not linked yet");
        word.link();
        assert!(word.is_linked() && word.is_sole());
        assert_eq!(word.try_pin(), Some(Pinned::Item));
        assert!(!word.is_sole());
        assert!(!word.unlink_sole());
        word.unlink();
        assert!(!word.unpin());
        assert!(word.unpin(), "the last reference frees");
        assert_eq!(word.try_pin(), None);
        word.become_item();
        word.link();
        assert!(word.unlink_sole() && word.is_free());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    use super::RefWord;

    /// A reader, an overwriter and a page mover meet on one chunk: it is
    /// freed exactly once, and never while one of them holds it.
    #[test]
    fn freed_once_and_never_while_held() {
        loom::model(|| {
            let word = Arc::new(RefWord::free());
            let freed = Arc::new(AtomicUsize::new(0));
            word.become_item();
            word.link();
            let reader_pinned = word.pin();
            assert!(reader_pinned);
            let mover = {
                let (word, freed) = (Arc::clone(&word), Arc::clone(&freed));
                thread::spawn(move || {
                    if word.try_pin().is_some() {
                        assert_eq!(freed.load(Ordering::Relaxed), 0);
                        if word.unpin() {
                            freed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            };
            let reader = {
                let (word, freed) = (Arc::clone(&word), Arc::clone(&freed));
                thread::spawn(move || {
                    assert_eq!(freed.load(Ordering::Relaxed), 0);
                    if word.unpin() {
                        freed.fetch_add(1, Ordering::Relaxed);
                    }
                })
            };
            if word.unlink_sole() {
                freed.fetch_add(1, Ordering::Relaxed);
            } else {
                word.unlink();
                if word.unpin() {
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
