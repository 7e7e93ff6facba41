//! A store in this process that serves a trace, with the work of the upkeep
//! thread. Time is that of the trace, not of the clock.

use std::error::Error;
use std::path::PathBuf;

use rustcached::config::{Config, Eviction};
use rustcached::store::mrc::Observed;
use rustcached::store::{Access, Hashed, ItemSpec, Local, Options, Store};
use rustcached::time::{Expiry, Now};
use rustcached_bench::replay::read_points;
use rustcached_bench::trace::Trace;

/// Requests per second of a trace without a recorded rate.
const RATE: u64 = 10_000;
/// Milliseconds between two steps of upkeep.
pub(crate) const STEP_MS: u64 = 10;
/// Items that a step of upkeep sweeps.
const SWEEP_ITEMS: usize = 1000;
/// Time at which a replay begins, in milliseconds.
pub(crate) const START_MS: u64 = 10_000;

/// The traces to replay, and how.
#[derive(clap::Args)]
pub(crate) struct TraceOptions {
    /// Directory of the traces, files NAME.kvt.zst
    #[arg(long, value_name = "DIR", requires = "points")]
    pub(crate) traces: Option<PathBuf>,
    /// File with the points: lines with a trace's name and memory limits in MiB
    #[arg(long, value_name = "FILE")]
    points: Option<PathBuf>,
    /// Only these traces [default: all in the file of points]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Option<Vec<String>>,
    /// Requests per second, instead of the recorded rate
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
}

impl TraceOptions {
    /// Opens each trace in turn and passes it to `run`, with the rate at which to
    /// replay it in requests per second, and its memory limits in MiB.
    pub(crate) fn each(
        &self,
        mut run: impl FnMut(&Trace, u64, &[u64]),
    ) -> Result<(), Box<dyn Error>> {
        let missing = "traces and points are given together";
        let folder = self.traces.as_ref().ok_or(missing)?;
        for (name, sizes) in read_points(self.points.as_ref().ok_or(missing)?)? {
            let only = self.only.as_ref();
            if only.is_some_and(|only| !only.contains(&name)) {
                continue;
            }
            let trace = Trace::open(&folder.join(format!("{name}.kvt.zst")))?;
            let recorded = Some(u64::from(trace.requests_per_second)).filter(|rate| *rate > 0);
            run(&trace, self.rate.or(recorded).unwrap_or(RATE), &sizes);
        }
        Ok(())
    }
}

/// Returns a part in percent; 0 of nothing.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
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
    /// Creates an empty store with a limit in bytes. `expires` is whether items have
    /// expiry times.
    pub(crate) fn new(max_memory: usize, eviction: Eviction, expires: bool) -> Self {
        let store = Store::new(Options {
            max_memory,
            eviction,
            ..Options::from(&Config::default())
        });
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
