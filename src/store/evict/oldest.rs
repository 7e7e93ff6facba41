//! The longest unused item of each size class.

use crate::limits::CLASSES_MAX;
use crate::store::item::layout::Item;
use crate::sync::{AtomicU32, Ordering};
use crate::time::Now;

/// Last uses of the longest unused items, as of the last sweep and as far as
/// the present one has come.
pub(crate) struct Oldest {
    pub(in crate::store) known: [AtomicU32; CLASSES_MAX],
    pub(in crate::store) sweeping: [AtomicU32; CLASSES_MAX],
}

impl Default for Oldest {
    fn default() -> Self {
        Self {
            known: std::array::from_fn(|_| AtomicU32::new(u32::MAX)),
            sweeping: std::array::from_fn(|_| AtomicU32::new(u32::MAX)),
        }
    }
}

impl Oldest {
    /// Takes note of an item that a sweep has seen.
    pub(crate) fn note(&self, item: Item<'_>, now: Now) {
        let place = &self.sweeping[usize::from(item.class()) - 1];
        let accessed = item.accessed(now);
        if accessed < place.load(Ordering::Relaxed) {
            place.store(accessed, Ordering::Relaxed);
        }
    }

    /// A sweep of all items is over.
    pub(crate) fn swept(&self) {
        for (known, sweeping) in self.known.iter().zip(&self.sweeping) {
            known.store(
                sweeping.swap(u32::MAX, Ordering::Relaxed),
                Ordering::Relaxed,
            );
        }
    }
}
