//! Registry of all threads' counters.

use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::{CLASSES_MAX, ClassId};
use crate::stats::classes::{ClassSnapshot, PerClass};
use crate::stats::counters::{Counters, Snapshot};

/// One thread's counters. Only that thread writes them; any thread may read.
#[derive(Clone, Debug, Default)]
pub struct ThreadStats {
    /// Counters in total.
    pub counters: Arc<Counters>,
    /// Counters by size class.
    pub classes: Arc<PerClass>,
}

/// All threads' counters.
#[derive(Debug, Default)]
pub struct Registry {
    threads: Mutex<Vec<ThreadStats>>,
}

impl Registry {
    /// Creates the counters of a thread. They count in all sums from now on,
    /// also after the thread has ended.
    pub fn register(&self) -> ThreadStats {
        let thread = ThreadStats::default();
        let mut all = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(thread.clone());
        thread
    }

    /// Zeroes the gauges of items and their bytes: their store is gone. The threads
    /// that count must have ended.
    pub fn clear_gauges(&self) {
        let all = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for ThreadStats { counters, classes } in all.iter() {
            counters.items.set(0);
            counters.item_bytes.set(0);
            for class in (0..CLASSES_MAX).map(ClassId::from_index) {
                classes.of(class).items.set(0);
                classes.of(class).bytes.set(0);
            }
        }
    }

    /// Returns the sum of all threads' counters.
    pub fn snapshot(&self) -> Snapshot {
        let all = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Snapshot::default();
        for thread in all.iter() {
            sum.add(&thread.counters);
        }
        sum.items = present(sum.items);
        sum.item_bytes = present(sum.item_bytes);
        sum
    }

    /// Returns the number of items and their bytes. Cheaper than a snapshot.
    pub fn items_and_bytes(&self) -> (u64, u64) {
        let all = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut items, mut bytes) = (0u64, 0u64);
        for ThreadStats { counters, .. } in all.iter() {
            items = items.wrapping_add(counters.items.read());
            bytes = bytes.wrapping_add(counters.item_bytes.read());
        }
        (present(items), present(bytes))
    }

    /// Returns the sum of all threads' counters by size class, class number 1
    /// first.
    pub fn class_snapshots(&self) -> [ClassSnapshot; CLASSES_MAX] {
        let mut sums = [ClassSnapshot::default(); CLASSES_MAX];
        let all = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in all.iter() {
            thread.classes.add_to(&mut sums);
        }
        for sum in &mut sums {
            sum.items = present(sum.items);
            sum.bytes = present(sum.bytes);
        }
        sums
    }
}

/// Clamps a sum of gauge counters at 0. Threads' counters are read one after
/// another, so that the sum may include a removal without the insertion.
fn present(count: u64) -> u64 {
    if count > u64::MAX / 2 { 0 } else { count }
}

#[cfg(test)]
mod tests {
    use super::Registry;
    use crate::limits::ClassId;

    #[test]
    fn gauges_are_never_negative() {
        let registry = Registry::default();
        registry.register().counters.cmd_get.add(3);
        let other = registry.register();
        other.counters.items.sub(1);
        other.counters.item_bytes.sub(100);
        other.classes.of(ClassId::from_index(0)).items.sub(1);
        other.counters.cmd_get.add(4);
        let sum = registry.snapshot();
        assert_eq!((sum.items, sum.item_bytes, sum.cmd_get), (0, 0, 7));
        assert_eq!(registry.class_snapshots()[0].items, 0);
    }
}
