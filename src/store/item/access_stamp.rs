//! The word of an item's header with its last access and the length of its key.
//! Only `layout.rs` uses it. Readers of the item change the second, also
//! without a lock, hence the atomic.

use crate::sync::{AtomicU32, Ordering};
use crate::time::Now;

/// Bits of an [`AccessStamp`] that hold the second of the last access.
const SECOND: u32 = (1 << 24) - 1;
/// Larger ages are taken as 0: a thread with a newer reading of the time
/// recorded the access "in the future".
const AGE_MAX: u32 = SECOND - 3600;

/// Length of an item's key (8 bits) and second of its last access (24 bits). The
/// second wraps around after 194 days; the age of an item not accessed for
/// longer is reported modulo 194 days. Only statistics depend on it.
#[repr(transparent)]
pub(crate) struct AccessStamp(AtomicU32);

impl AccessStamp {
    /// Creates the word of an item made in `second`.
    pub(crate) fn new(key_len: u8, second: u32) -> Self {
        Self(AtomicU32::new(u32::from(key_len) << 24 | second & SECOND))
    }

    /// Returns the whole word. Its low 24 bits are the second.
    pub(crate) fn load(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the bytes of the key.
    #[inline]
    pub(crate) fn key_len(&self) -> u8 {
        (self.load() >> 24) as u8
    }

    /// Takes over the word of a copied item.
    pub(crate) fn copy_from(&self, other: &Self) {
        self.0.store(other.load(), Ordering::Relaxed);
    }

    /// Returns the seconds from the last access until `now`, modulo 2^24.
    pub(crate) fn age(&self, now: Now) -> u32 {
        let age = now.second().wrapping_sub(self.load()) & SECOND;
        if age > AGE_MAX { 0 } else { age }
    }

    /// Sets the second of the last access; writes only if it differs. A load
    /// and a store, not one atomic step: of two concurrent calls, one may be
    /// lost. The length of the key does not change.
    #[inline]
    pub(crate) fn set_second(&self, second: u32) {
        let before = self.load();
        let seen = before & !SECOND | second & SECOND;
        if seen != before {
            self.0.store(seen, Ordering::Relaxed);
        }
    }
}
