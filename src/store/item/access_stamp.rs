//! What an item's header knows of flushes and of accesses: one word, changed
//! by readers of the item as well, so by atomic steps that keep the rest.
//! Owned by [`super::item`] alone.

use crate::sync::{AtomicU32, Ordering};
use crate::time::Now;

/// The part of a [`AccessStamp`] word that is the second of the last access.
const SECOND: u32 = (1 << 24) - 1;
/// Ages from here on are those of items that another thread, whose reading of
/// the clock is newer, has accessed "in the future".
const AGE_MAX: u32 = SECOND - 3600;

/// Generation and second of the last access, in one word so that they fit.
/// The second counts to 2^24 and starts again, which takes 194 days: of an
/// item that nobody has accessed for longer, only the rest of the time is
/// known. Nothing but what clients are told of it depends on that.
#[repr(transparent)]
pub(crate) struct AccessStamp(AtomicU32);

impl AccessStamp {
    /// Of an item made or accessed in `second`.
    pub(crate) fn new(generation: u8, second: u32) -> Self {
        Self(AtomicU32::new(Self::pack(generation, second)))
    }

    /// The word; its lower bits are the second.
    pub(crate) fn load(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// The generation the item belongs to.
    pub(crate) fn generation(&self) -> u8 {
        (self.load() >> 24) as u8
    }

    /// Seconds from the last access until `now`, modulo 2^24.
    pub(crate) fn age(&self, now: Now) -> u32 {
        let age = now.second().wrapping_sub(self.load()) & SECOND;
        if age > AGE_MAX { 0 } else { age }
    }

    /// Changes the generation, which nobody else may do meanwhile.
    pub(crate) fn set_generation(&self, generation: u8) {
        let seen = Self::pack(generation, self.load());
        self.0.store(seen, Ordering::Relaxed);
    }

    /// Changes the second, if it is another. Others may do so at once, and
    /// one of them is lost.
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
