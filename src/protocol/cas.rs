//! CAS values that requests compare with.

use std::num::NonZeroU64;

/// CAS value with which a request compares that of an item. It is never 0,
/// which means no comparison in packets and matches no item in `cas`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cas(NonZeroU64);

impl Cas {
    /// Converts the number of a request; `None` for 0.
    #[inline]
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// Returns the number.
    #[inline]
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// Returns whether an item has this CAS value.
    #[inline]
    pub fn is_of(self, item_cas: u64) -> bool {
        self.get() == item_cas
    }
}
