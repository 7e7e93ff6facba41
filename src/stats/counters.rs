//! Definition of the general counters. Each thread owns one set and is its only
//! writer, so counting takes a load and a store. A reader sums all sets; the
//! sums of different counters may be a few operations apart.

use crate::sync::{AtomicU64, Ordering};

/// A counter with a single writing thread and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        let value = self.0.load(Ordering::Relaxed).wrapping_add(n);
        self.0.store(value, Ordering::Relaxed);
    }

    /// Subtracts `n`, with wrap-around. Only the owning thread may call this. A
    /// set may wrap below zero if another thread added; the sum over all sets
    /// is still right.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// Replaces the value, for gauges. Only the owning thread may call this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the current value.
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

        /// Sums of the counters over all threads.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Snapshot {
            /// Adds one thread's counters.
            pub fn add(&mut self, counters: &Counters) {
                $(self.$name = self.$name.wrapping_add(counters.$name.read());)*
            }

            /// Returns the counts since `base` was taken.
            #[must_use]
            pub fn since(&self, base: &Self) -> Self {
                Self { $($name: self.$name.wrapping_sub(base.$name),)* }
            }
        }
    };
}

counters! {
    /// Keys requested by retrievals.
    cmd_get,
    /// Items made for storage commands.
    cmd_set,
    /// `flush_all` commands.
    cmd_flush,
    /// Touches by `touch`, `gat`, `gats` or the meta flag `T`.
    cmd_touch,
    /// `me` commands.
    cmd_meta,
    /// Misses of retrievals.
    get_misses,
    /// Lookups by any command that met an expired item.
    get_expired,
    /// Lookups by any command that met a flushed item.
    get_flushed,
    /// Misses of `delete`.
    delete_misses,
    /// Hits of `delete`.
    delete_hits,
    /// Misses of `incr`.
    incr_misses,
    /// Hits of `incr`.
    incr_hits,
    /// Misses of `decr`.
    decr_misses,
    /// Hits of `decr`.
    decr_hits,
    /// Misses of compare-and-swap.
    cas_misses,
    /// Compare-and-swaps that stored.
    cas_hits,
    /// Compare-and-swaps refused because the CAS value differed.
    cas_badval,
    /// Hits of touch commands.
    touch_hits,
    /// Misses of touch commands.
    touch_misses,
    /// Values refused because they exceed the item size limit.
    store_too_large,
    /// Values refused because memory ran out.
    store_no_memory,
    /// Authentication attempts.
    auth_cmds,
    /// Failed authentication attempts.
    auth_errors,
    /// Requests received over UDP.
    udp_requests,
    /// UDP requests without a reply, because it was too large or could not be
    /// sent.
    udp_dropped,
    /// Bytes received.
    bytes_read,
    /// Bytes sent.
    bytes_written,
    /// Times that memcached would have made a connection yield to others
    /// (`-R`).
    conn_yields,
    /// Connections closed because the header of the PROXY protocol was missing,
    /// malformed or late.
    proxy_header_errors,
    /// Connections closed by the idle timeout.
    idle_kicks,
    /// Connections of this worker: opened minus closed.
    connections,
    /// Items in the store: added minus removed.
    items,
    /// Bytes of items in the store: added minus removed.
    item_bytes,
    /// Items stored since the start.
    total_items,
    /// Evictions of live items.
    evictions,
    /// Evictions of items that were never fetched.
    evicted_unfetched,
    /// Of these, evictions because the item's page was given up and no other
    /// one had room.
    evicted_for_page,
    /// Of these, evictions because the prefix of the item was over its limit.
    evicted_for_prefix,
    /// Idle time of evicted items in seconds, summed.
    evicted_age,
    /// Expired items removed by the eviction hand or, without the maintainer,
    /// overwritten.
    reclaimed,
    /// Expired items that were never fetched, those removed by sweeps included.
    expired_unfetched,
    /// Items moved to other chunks to empty their page.
    items_moved,
    /// Pages that changed their size class.
    pages_moved,
    /// Allocations that found no free chunk and had to reclaim memory.
    direct_reclaims,
    /// Dead items that sweeps removed.
    crawler_reclaimed,
    /// Items that sweeps examined.
    crawler_items_checked,
    /// Invalidations of prefixes and tags.
    invalidations,
    /// Of these, invalidations of prefixes.
    prefix_invalidations,
    /// Of these, invalidations of tags.
    tag_invalidations,
    /// Of these, invalidations that mark items stale.
    stale_invalidations,
    /// Items removed because their prefix or tag was invalidated.
    invalidated_items,
    /// Items marked stale because their prefix or tag was invalidated.
    invalidated_stale,
    /// Steps of the upkeep thread, reported as `lru_maintainer_juggles`.
    juggles,
}
