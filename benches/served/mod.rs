//! A store in this process that serves a trace, with the work of the upkeep
//! thread. Time is that of the trace, not of the clock.

use rustcached::store::mrc::Observed;
use rustcached::store::{Access, Hashed, ItemSpec, Local, Options, Store};
use rustcached::time::{Expiry, Now};
use rustcached_bench::trace::Trace;

/// Requests per second of a trace without a recorded rate.
pub(crate) const RATE: u64 = 10_000;
/// Milliseconds between two steps of upkeep.
pub(crate) const STEP_MS: u64 = 10;
/// Items that a step of upkeep sweeps.
const SWEEP_ITEMS: usize = 1000;
/// Time at which a replay begins, in milliseconds.
pub(crate) const START_MS: u64 = 10_000;

/// Returns the rate at which to replay a trace, in requests per second: the
/// wanted one, else the recorded one.
pub(crate) fn rate(trace: &Trace, wanted: Option<u64>) -> u64 {
    let recorded = Some(u64::from(trace.requests_per_second)).filter(|rate| *rate > 0);
    wanted.or(recorded).unwrap_or(RATE)
}

/// A store with the work of the upkeep thread.
pub(crate) struct Served {
    /// The store.
    pub(crate) store: Store,
    /// This thread's part of it.
    pub(crate) local: Local,
    /// The time.
    pub(crate) now: Now,
    /// Next shard to sweep.
    sweep: usize,
    /// Whether items expire.
    expires: bool,
}

impl Served {
    /// Creates an empty store. `expires` is whether items have expiry times.
    pub(crate) fn new(options: Options, expires: bool) -> Self {
        let store = Store::new(options);
        Self {
            local: store.local(),
            store,
            now: Now::from_millis(START_MS),
            sweep: 0,
            expires,
        }
    }

    /// Gets a key's item and counts the retrieval, as the server does.
    pub(crate) fn get(&mut self, key: &Hashed<'_>) -> Observed {
        let found = self
            .store
            .read_unlocked(&mut self.local, key, self.now, |item| {
                (Access::Counted, (Observed::hit(item), item.class()))
            });
        self.local.counters.cmd_get.add(1);
        match found {
            Ok((hit, class)) => {
                self.local.classes.of(class).get_hits.add(1);
                hit
            }
            Err(_) => {
                self.local.counters.get_misses.add(1);
                Observed::Miss
            }
        }
    }

    /// Stores an item with a TTL in seconds, 0 for none.
    pub(crate) fn set(&mut self, key: &Hashed<'_>, value: &[u8], ttl: u32) -> Observed {
        let spec = ItemSpec {
            expiry: Expiry::from_protocol(ttl as i32, self.now),
            ..ItemSpec::new(key.key, value.len())
        };
        let pieces = std::iter::once(value);
        let (store, local, now) = (&self.store, &mut self.local, self.now);
        let new = store.new_filled(local, key, &spec, now, pieces);
        let new = new.expect("there is always something to evict");
        let observed = Observed::set(new.item());
        let cas = store.next_cas();
        store.edit(local, key, now, |entry| entry.put(new, cas));
        observed
    }

    /// Removes the item of a key.
    pub(crate) fn delete(&mut self, key: &Hashed<'_>) -> Observed {
        let (store, local, now) = (&self.store, &mut self.local, self.now);
        store.edit(local, key, now, |entry| entry.remove());
        Observed::Delete
    }

    /// Evicts everything. A store keeps its memory until the process ends, and
    /// the stores of all replays would not fit.
    pub(crate) fn give_up_memory(&mut self) {
        self.store.set_memory_limit(0);
        while !self.store.shrink_to_limit(&mut self.local) {}
    }

    /// Takes a step of upkeep.
    pub(crate) fn upkeep(&mut self) {
        self.local.now = self.now;
        self.store.prepare_to_wait(&mut self.local);
        self.store.survey();
        self.store.measure_pace(self.now);
        self.store.compact(&mut self.local);
        let mut looked = 0;
        while self.expires && looked < SWEEP_ITEMS {
            let swept = self
                .store
                .sweep_shard(&mut self.local, self.sweep, self.now);
            looked += swept.looked.max(1);
            self.sweep = (self.sweep + 1) % self.store.shard_count();
        }
    }
}
