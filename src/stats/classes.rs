//! Counters by size class, for `stats items` and `stats slabs`. Each thread
//! owns one set, as with the general counters.
//!
//! The class of an item follows from its size by arithmetic. Counting thus
//! reads no cache line that the command does not read anyway, and writes none
//! of another thread's.

use crate::limits::{CLASSES_MAX, ClassId};
use crate::stats::counters::Counter;

macro_rules! class_counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One thread's counters of one size class.
        #[derive(Debug, Default)]
        pub struct ClassCounters {
            $($(#[$doc])* pub $name: Counter,)*
            last_eviction: Counter,
        }

        /// Sums over all threads of the counters of one size class.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ClassSnapshot {
            $($(#[$doc])* pub $name: u64,)*
            last_eviction: u64,
        }

        impl ClassSnapshot {
            fn add(&mut self, counters: &ClassCounters) {
                $(self.$name = self.$name.wrapping_add(counters.$name.read());)*
                self.last_eviction = self.last_eviction.max(counters.last_eviction.read());
            }

            /// Returns the counts since `base` was taken. Gauges (items, bytes,
            /// the last eviction) keep their present value.
            #[must_use]
            pub fn since(&self, base: &Self) -> Self {
                Self {
                    items: self.items,
                    bytes: self.bytes,
                    ..Self {
                        $($name: self.$name.wrapping_sub(base.$name),)*
                        last_eviction: self.last_eviction,
                    }
                }
            }
        }
    };
}

class_counters! {
    /// Items in the store: added minus removed.
    items,
    /// Bytes of items in the store: added minus removed.
    bytes,
    /// Items made for storage commands (`cmd_set`).
    cmd_set,
    /// Hits of retrievals.
    get_hits,
    /// Hits of touch commands.
    touch_hits,
    /// Hits of `delete`.
    delete_hits,
    /// Hits of `incr`.
    incr_hits,
    /// Hits of `decr`.
    decr_hits,
    /// Compare-and-swaps that stored.
    cas_hits,
    /// Compare-and-swaps refused because the CAS value differed.
    cas_badval,
    /// Evictions of live items.
    evicted,
    /// Evictions of items with a TTL.
    evicted_nonzero,
    /// Evictions of items that were never fetched.
    evicted_unfetched,
    /// Expired items removed by the eviction hand or, without the maintainer,
    /// overwritten.
    reclaimed,
    /// Expired items that were never fetched, those removed by sweeps included.
    expired_unfetched,
    /// Dead items that sweeps removed.
    crawler_reclaimed,
    /// Items that sweeps examined.
    crawler_items_checked,
    /// Allocations that found no free chunk and had to reclaim memory.
    direct_reclaims,
    /// Of these, allocations that failed.
    outofmemory,
}

const IDLE_BITS: u32 = 32;

impl ClassCounters {
    /// Records an eviction in `second` of an item that was last used `idle`
    /// seconds before.
    pub fn record_eviction(&self, second: u32, idle: u32) {
        let latest = u64::from(second) << IDLE_BITS | u64::from(idle);
        self.last_eviction.set(latest);
    }
}

impl ClassSnapshot {
    /// Returns the idle time in seconds of the item evicted last.
    pub fn evicted_time(&self) -> u64 {
        self.last_eviction & ((1 << IDLE_BITS) - 1)
    }
}

/// One thread's counters of all size classes.
#[derive(Debug)]
pub struct PerClass(Box<[ClassCounters; CLASSES_MAX]>);

impl Default for PerClass {
    fn default() -> Self {
        Self(Box::new(std::array::from_fn(|_| ClassCounters::default())))
    }
}

impl PerClass {
    /// Returns the counters of a class.
    #[inline]
    pub fn of(&self, class: ClassId) -> &ClassCounters {
        // Clamping the index avoids a panic branch on a hot path.
        &self.0[class.index().min(CLASSES_MAX - 1)]
    }

    /// Adds these counters to `sums`, class by class.
    pub fn add_to(&self, sums: &mut [ClassSnapshot; CLASSES_MAX]) {
        for (sum, counters) in sums.iter_mut().zip(self.0.iter()) {
            sum.add(counters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ClassSnapshot, PerClass};
    use crate::limits::{CLASSES_MAX, ClassId};

    #[test]
    fn sums_and_resets() {
        let threads = [PerClass::default(), PerClass::default()];
        let (first, last) = (ClassId::from_index(0), ClassId::from_index(62));
        threads[0].of(first).items.add(3);
        threads[1].of(first).items.sub(1);
        threads[0].of(last).evicted.add(2);
        threads[0].of(last).record_eviction(10, 7);
        threads[1].of(last).record_eviction(11, 5);
        let sum = || {
            let mut sums = [ClassSnapshot::default(); CLASSES_MAX];
            threads.iter().for_each(|thread| thread.add_to(&mut sums));
            sums
        };
        let base = sum();
        assert_eq!((base[0].items, base[62].evicted), (2, 2));
        assert_eq!(base[62].evicted_time(), 5, "the latest");
        threads[1].of(last).evicted.add(1);
        let since = sum()[62].since(&base[62]);
        assert_eq!(since.evicted, 1);
        assert_eq!(sum()[0].since(&base[0]).items, 2, "the present stays");
    }
}
