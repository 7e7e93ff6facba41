//! Counters by size class, for `stats items` and `stats slabs`: one set a
//! thread, like the general ones. An item counts in the class that its size
//! belongs to, which is arithmetic: no line of memory is read for it that the
//! command does not read anyway, and no other thread's line is written.

use crate::limits::CLASSES_MAX;
use crate::stats::counters::Counter;

macro_rules! class_counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One thread's counters of one size class.
        #[derive(Debug, Default)]
        pub struct ClassCounters {
            $($(#[$doc])* pub $name: Counter,)*
            last_eviction: Counter,
        }

        /// The sum of several threads' counters of one size class.
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

            /// What was counted since `base` was taken, but for what
            /// describes the present.
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
    /// Items in the store, as added minus removed.
    items,
    /// Bytes of these items, as added minus removed.
    bytes,
    /// Values that reached the store.
    cmd_set,
    /// Items found by retrieval.
    get_hits,
    /// Items touched.
    touch_hits,
    /// Items deleted.
    delete_hits,
    /// Items incremented.
    incr_hits,
    /// Items decremented.
    decr_hits,
    /// Compare-and-swaps that stored.
    cas_hits,
    /// Compare-and-swaps with another value.
    cas_badval,
    /// Live items removed for lack of memory.
    evicted,
    /// Of these, ones that would have ended some time.
    evicted_nonzero,
    /// Of these, ones never fetched.
    evicted_unfetched,
    /// Expired items that were found in passing, and removed.
    reclaimed,
    /// Expired items that nobody had fetched, swept out ones included.
    expired_unfetched,
    /// Dead items that sweeping found.
    crawler_reclaimed,
    /// Items that sweeping looked at.
    crawler_items_checked,
    /// Times memory had to be made free for an item of this class.
    direct_reclaims,
    /// Times there was none to be made free.
    outofmemory,
}

const IDLE_BITS: u32 = 32;

impl ClassCounters {
    /// Notes that an item was evicted in `second` which nobody had used for
    /// `idle` seconds.
    pub fn note_eviction(&self, second: u32, idle: u32) {
        let latest = u64::from(second) << IDLE_BITS | u64::from(idle);
        self.last_eviction.set(latest);
    }
}

impl ClassSnapshot {
    /// For how many seconds nobody had used the item evicted last.
    pub fn evicted_time(&self) -> u64 {
        self.last_eviction & ((1 << IDLE_BITS) - 1)
    }
}

/// One thread's counters of all classes.
#[derive(Debug)]
pub struct PerClass(Box<[ClassCounters; CLASSES_MAX]>);

impl Default for PerClass {
    fn default() -> Self {
        Self(Box::new(std::array::from_fn(|_| ClassCounters::default())))
    }
}

impl PerClass {
    /// The counters of class number `id`, from 1.
    #[inline]
    pub fn of(&self, id: u8) -> &ClassCounters {
        // One outside the table cannot be, and would not be worth a panic on a
        // hot path.
        &self.0[usize::from(id.wrapping_sub(1)).min(CLASSES_MAX - 1)]
    }

    /// Adds these counters to the sums, class by class.
    pub fn add_to(&self, sums: &mut [ClassSnapshot; CLASSES_MAX]) {
        for (sum, counters) in sums.iter_mut().zip(self.0.iter()) {
            sum.add(counters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ClassSnapshot, PerClass};
    use crate::limits::CLASSES_MAX;

    #[test]
    fn sums_and_resets() {
        let threads = [PerClass::default(), PerClass::default()];
        threads[0].of(1).items.add(3);
        threads[1].of(1).items.sub(1);
        threads[0].of(63).evicted.add(2);
        threads[0].of(63).note_eviction(10, 7);
        threads[1].of(63).note_eviction(11, 5);
        let sum = || {
            let mut sums = [ClassSnapshot::default(); CLASSES_MAX];
            threads.iter().for_each(|thread| thread.add_to(&mut sums));
            sums
        };
        let base = sum();
        assert_eq!((base[0].items, base[62].evicted), (2, 2));
        assert_eq!(base[62].evicted_time(), 5, "the latest");
        threads[1].of(63).evicted.add(1);
        let since = sum()[62].since(&base[62]);
        assert_eq!(since.evicted, 1);
        assert_eq!(sum()[0].since(&base[0]).items, 2, "the present stays");
    }
}
