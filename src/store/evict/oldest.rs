//! The least recently accessed item of each size class, for the statistics.

use crate::limits::CLASSES_MAX;
use crate::store::item::layout::Item;
use crate::sync::{AtomicU32, Ordering};
use crate::time::Now;

/// Second of the last access to the least recently accessed item, by size
/// class. `u32::MAX` stands for no item.
pub(crate) struct Oldest {
    /// As of the last complete sweep.
    pub(in crate::store) known: [AtomicU32; CLASSES_MAX],
    /// As far as the current sweep has come.
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
    /// Records a live item that the sweep has visited.
    pub(crate) fn record(&self, item: Item<'_>, now: Now) {
        let place = &self.sweeping[item.class().index()];
        let accessed = item.accessed(now);
        if accessed < place.load(Ordering::Relaxed) {
            place.store(accessed, Ordering::Relaxed);
        }
    }

    /// Ends a sweep of all items: publishes its results and begins the next.
    pub(crate) fn end_sweep(&self) {
        for (known, sweeping) in self.known.iter().zip(&self.sweeping) {
            known.store(
                sweeping.swap(u32::MAX, Ordering::Relaxed),
                Ordering::Relaxed,
            );
        }
    }
}
