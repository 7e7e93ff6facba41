//! The word of an item's header with its flush generation and last access. Only
//! `layout.rs` uses it. Readers of the item change the second under the shard's
//! read lock, hence the atomic.

use crate::sync::{AtomicU32, Ordering};
use crate::time::Now;

/// Bits of an [`AccessStamp`] that hold the second of the last access.
const SECOND: u32 = (1 << 24) - 1;
/// Larger ages are taken as 0: a thread with a newer reading of the time
/// recorded the access "in the future".
const AGE_MAX: u32 = SECOND - 3600;

/// Generation (8 bits) and second of the last access (24 bits) of an item. The
/// second wraps around after 194 days; the age of an item not accessed for
/// longer is reported modulo 194 days. Only statistics depend on it.
#[repr(transparent)]
pub(crate) struct AccessStamp(AtomicU32);

impl AccessStamp {
    /// Creates the word of an item made or accessed in `second`.
    pub(crate) fn new(generation: u8, second: u32) -> Self {
        Self(AtomicU32::new(Self::pack(generation, second)))
    }

    /// Returns the whole word. Its low 24 bits are the second.
    pub(crate) fn load(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the low 8 bits of the item's generation.
    pub(crate) fn generation(&self) -> u8 {
        (self.load() >> 24) as u8
    }

    /// Returns the seconds from the last access until `now`, modulo 2^24.
    pub(crate) fn age(&self, now: Now) -> u32 {
        let age = now.second().wrapping_sub(self.load()) & SECOND;
        if age > AGE_MAX { 0 } else { age }
    }

    /// Sets the generation. Only for an item that is not linked: a concurrent
    /// [`AccessStamp::set_second`] could undo it.
    pub(crate) fn set_generation(&self, generation: u8) {
        let seen = Self::pack(generation, self.load());
        self.0.store(seen, Ordering::Relaxed);
    }

    /// Sets the second of the last access; writes only if it differs. A load
    /// and a store, not one atomic step: of two concurrent calls, one may be
    /// lost. The generation of a linked item does not change, so it is kept.
    #[inline]
    pub(crate) fn set_second(&self, second: u32) {
        let before = self.load();
        let seen = before & !SECOND | second & SECOND;
        if seen != before {
            self.0.store(seen, Ordering::Relaxed);
        }
    }

    fn pack(generation: u8, second: u32) -> u32 {
        u32::from(generation) << 24 | second & SECOND
    }
}
