//! The one list of counters. Each worker has its own set and is the only one
//! to write it, so that counting is a load and a store; a reader sums all
//! sets, which may be a few operations apart.

use crate::sync::{AtomicU64, Ordering};

/// A number that one thread changes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        let value = self.0.load(Ordering::Relaxed).wrapping_add(n);
        self.0.store(value, Ordering::Relaxed);
    }

    /// Takes `n` off; what one worker adds another may take off, so a single
    /// set can wrap while the sum is right.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// Makes it another number, for what is a state rather than a count.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present number.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One thread's counters.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        /// The sum of several threads' counters.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Snapshot {
            /// Adds one thread's counters.
            pub fn add(&mut self, counters: &Counters) {
                $(self.$name = self.$name.wrapping_add(counters.$name.read());)*
            }

            /// What was counted since `base` was taken.
            #[must_use]
            pub fn since(&self, base: &Self) -> Self {
                Self { $($name: self.$name.wrapping_sub(base.$name),)* }
            }
        }
    };
}

counters! {
    /// Keys asked for by retrieval commands.
    cmd_get,
    /// Values that reached the store.
    cmd_set,
    /// `flush_all` commands.
    cmd_flush,
    /// Touches, by `touch`, `gat` or a meta flag.
    cmd_touch,
    /// `me` commands.
    cmd_meta,
    /// Keys not found by retrieval.
    get_misses,
    /// Expired items that a command of any kind met.
    get_expired,
    /// Flushed items that a command of any kind met.
    get_flushed,
    /// Deletions of what was not there.
    delete_misses,
    /// Deletions.
    delete_hits,
    /// Increments of what was not there.
    incr_misses,
    /// Increments.
    incr_hits,
    /// Decrements of what was not there.
    decr_misses,
    /// Decrements.
    decr_hits,
    /// Compare-and-swaps of what was not there.
    cas_misses,
    /// Compare-and-swaps that stored.
    cas_hits,
    /// Compare-and-swaps with another value.
    cas_badval,
    /// Touches of what was there.
    touch_hits,
    /// Touches of what was not there.
    touch_misses,
    /// Values refused for their size.
    store_too_large,
    /// Values refused for lack of memory.
    store_no_memory,
    /// Attempts to authenticate.
    auth_cmds,
    /// Of these, failed ones.
    auth_errors,
    /// Requests that came in datagrams.
    udp_requests,
    /// Of these, ones whose answer was too large or could not be sent.
    udp_dropped,
    /// Bytes received.
    bytes_read,
    /// Bytes sent.
    bytes_written,
    /// Times a connection had to let others go first.
    conn_yields,
    /// Connections closed for being idle.
    idle_kicks,
    /// Connections this worker has, as open minus closed.
    connections,
    /// Items in the store, as added minus removed.
    items,
    /// Bytes of items in the store, as added minus removed.
    item_bytes,
    /// Items ever stored.
    total_items,
    /// Live items removed for lack of memory.
    evictions,
    /// Of these, ones never fetched.
    evicted_unfetched,
    /// Expired items that were removed to make place for others.
    reclaimed,
    /// Expired items that nobody had fetched, swept out ones included.
    expired_unfetched,
    /// Items moved to another page so that theirs ran empty.
    items_moved,
    /// Pages that went from one size class to another.
    pages_moved,
    /// Times memory had to be made free for an item.
    direct_reclaims,
    /// Dead items that sweeping found.
    crawler_reclaimed,
    /// Items that sweeping looked at.
    crawler_items_checked,
    /// Steps of upkeep.
    juggles,
}
