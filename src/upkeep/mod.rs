//! Background work on the store, in small steps. It keeps the memory limit,
//! compacts memory, sweeps out dead items, and executes delayed flushes that no
//! worker has executed. The upkeep thread of the server runs it.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;

use crate::shared::Shared;
use crate::stats::PrefixCensus;
use crate::store::mrc::Predictor;
use crate::store::{Local, Store, Swept};
use crate::sync::Ordering;
use crate::time::Now;

/// Items after which a step stops sweeping. Few, because a worker may have to
/// wait for the step's end if there are fewer processors than threads.
const SWEEP_ITEMS: usize = 1_000;
/// Pause between two steps.
const PAUSE: Duration = Duration::from_millis(10);
/// Pause while invalidations are outstanding. A sweep of 10 million items then
/// takes seconds, of which it uses the processor for about a quarter.
const LAP_PAUSE: Duration = Duration::from_micros(250);
/// Pause while memory is being compacted.
const COMPACT_PAUSE: Duration = Duration::from_millis(2);
/// Pause between two pieces of memory that are fetched ahead. Fetching one takes a few
/// milliseconds on a slow machine, and a worker may need the same processor.
const FETCH_PAUSE: Duration = Duration::from_millis(3);
/// Number of flushes during one sweep from which there is no pause before its
/// end. The sweep must end before they are 256, since items record their
/// generation in 8 bits.
const HURRY_FLUSHES: u64 = 64;
/// Items up to which a sweep counts each one by its prefix. Of more, it counts
/// an even sample of about as many.
const CENSUS_ITEMS: u64 = 100_000;
/// Longest pause while requests are sampled for the miss ratio curve: the rings
/// of samples must not overflow.
const CURVE_PAUSE: Duration = Duration::from_millis(20);
/// Nanoseconds in a second.
const SECOND_NANOS: u64 = 1_000_000_000;
/// Pause while no item has an expiry time, so that there is nothing to sweep.
const IDLE_PAUSE: Duration = Duration::from_millis(500);

/// State of the background work.
pub struct Upkeep {
    store: Arc<Store>,
    shared: Arc<Shared>,
    local: Local,
    /// Next shard to sweep.
    shard: usize,
    /// Flush generation at the start of this sweep. No older item is left once
    /// it has swept all shards.
    generation: u64,
    /// Shards swept since the begin of a lap, which ends the invalidations
    /// outstanding at that time; `None` if there are none.
    lap: Option<usize>,
    /// Whether an item with an expiry time was seen in this sweep, and in the
    /// one before.
    expirables: [bool; 2],
    /// Sweep requested with `lru_crawler crawl`.
    crawl: Option<Crawling>,
    /// Items by prefix, as far as the current sweep has come.
    census: PrefixCensus,
    /// Live items of which one is counted.
    census_weight: u64,
    /// Live items until the next one is counted.
    until_counted: u64,
    /// Consumer of the samples of the miss ratio curve; `None` if it is off.
    predictor: Option<Predictor>,
    /// Time from which there is work on the store, in nanoseconds of the
    /// server's clock.
    next_work: u64,
    /// Time from which the next second of latencies is complete, in nanoseconds
    /// of the server's clock.
    next_second: u64,
    /// Time of the next check of the cluster file, in nanoseconds of the server's
    /// clock.
    next_check: u64,
    /// Time of the last growth by a huge page, in nanoseconds of the server's clock.
    grown_at: Option<u64>,
    /// Time from which the next piece of memory is fetched ahead, in nanoseconds of
    /// the server's clock; `None` if there is enough.
    next_fetch: Option<u64>,
    /// Whether memory was fetched ahead since it was last returned.
    has_fetched: bool,
}

/// Progress of a requested sweep.
struct Crawling {
    /// Next shard to sweep.
    shard: usize,
    /// Items that it may still check.
    left: usize,
}

impl Upkeep {
    /// Creates the background work on a server's store.
    pub fn new(store: Arc<Store>, shared: Arc<Shared>) -> Self {
        Self {
            local: store.local(),
            generation: store.flush_generation(),
            predictor: predictor(&store),
            store,
            shard: 0,
            lap: None,
            expirables: [true; 2],
            crawl: None,
            census: shared.busy_prefixes.census(),
            census_weight: 1,
            until_counted: 1,
            next_work: 0,
            next_second: SECOND_NANOS,
            next_check: SECOND_NANOS,
            grown_at: None,
            next_fetch: None,
            has_fetched: false,
            shared,
        }
    }

    /// Returns a channel with a message whenever the store has grown by a huge page.
    /// Call [`Upkeep::note_growth`] then, and take a step.
    pub fn growth(&self) -> Receiver<()> {
        self.store.growth()
    }

    /// Notes that the store has grown. If it grows fast, the next steps fetch memory
    /// from the system for items that are stored next. Otherwise that memory would go
    /// back before it is needed.
    pub fn note_growth(&mut self) {
        let now = self.shared.clock.nanos();
        if self.grows(now) {
            self.next_fetch.get_or_insert(now);
        }
        self.grown_at = Some(now);
    }

    /// Returns whether the store has grown within the last second.
    fn grows(&self, now: u64) -> bool {
        self.grown_at.is_some_and(|at| now < at + SECOND_NANOS)
    }

    /// Fetches a piece of memory ahead of need.
    fn fetch_memory(&mut self) {
        self.has_fetched = true;
        let is_more_needed = self.store.fetch_memory();
        let next = self.shared.clock.nanos() + FETCH_PAUSE.as_nanos() as u64;
        self.next_fetch = is_more_needed.then_some(next);
    }

    /// Returns memory that was fetched ahead if the store does not grow any more.
    fn return_memory(&mut self) {
        if self.has_fetched && !self.grows(self.shared.clock.nanos()) {
            self.store.return_memory();
            self.has_fetched = false;
        }
    }

    /// Does a bounded amount of work. Returns the pause before the next step.
    pub fn step(&mut self) -> Duration {
        let begun = self.shared.clock.nanos();
        if self.next_fetch.is_some_and(|at| begun >= at) {
            self.fetch_memory();
        }
        if begun >= self.next_work {
            let pause = self.step_on_store();
            self.next_work = begun + pause.as_nanos() as u64;
        }
        let next = self
            .next_fetch
            .map_or(self.next_work, |at| at.min(self.next_work));
        let pause = Duration::from_nanos(next.saturating_sub(begun));
        let Some(predictor) = &mut self.predictor else {
            return pause;
        };
        if predictor.step(&self.store, self.shared.clock.now()) {
            return Duration::ZERO;
        }
        pause.min(CURVE_PAUSE)
    }

    fn step_on_store(&mut self) -> Duration {
        let now = self.shared.clock.now();
        self.local.now = now;
        self.local.counters.juggles.add(1);
        self.record_second();
        self.check_cluster_file();
        self.return_memory();
        if self.shared.take_due_flush(now) {
            self.store.flush_all(&mut self.local);
        }
        self.store.free_retired(&mut self.local);
        let within_limit = self.store.shrink_to_limit(&mut self.local);
        let over_prefix_limit = self.store.keep_prefix_limits(&mut self.local);
        self.store.survey();
        self.store.measure_pace(now);
        let compacted = self.store.compact(&mut self.local);
        if let Some(pause) = self.crawl(now) {
            return pause;
        }
        if !self.shared.runtime.tunables().crawler {
            return PAUSE;
        }
        let mut looked = 0;
        for _ in 0..self.store.shard_count() {
            if self.lap.is_none() && self.store.begin_lap() {
                self.lap = Some(0);
            }
            let swept = self.sweep_and_count(now);
            self.advance_lap();
            looked += swept.looked;
            self.expirables[0] |= swept.expirable > 0;
            self.shard += 1;
            if self.shard == self.store.shard_count() {
                self.begin_sweep();
            }
            if looked >= SWEEP_ITEMS {
                break;
            }
        }
        let flushes = self.store.flush_generation() - self.generation;
        if !within_limit || over_prefix_limit || flushes >= HURRY_FLUSHES {
            Duration::ZERO
        } else if self.lap.is_some() {
            LAP_PAUSE
        } else if compacted {
            COMPACT_PAUSE
        } else if self.expirables.contains(&true) || flushes > 0 {
            PAUSE
        } else {
            IDLE_PAUSE
        }
    }

    /// Counts a swept shard of the lap. After the last one, no item is left that
    /// an invalidation from before the lap concerns.
    fn advance_lap(&mut self) {
        let Some(swept) = &mut self.lap else {
            return;
        };
        *swept += 1;
        if *swept == self.store.shard_count() {
            self.store.end_lap();
            self.lap = None;
        }
    }

    /// Adds the latencies of the last second to the history, once a second.
    fn record_second(&mut self) {
        let nanos = self.shared.clock.nanos();
        if self.shared.latencies.is_empty() || nanos < self.next_second {
            return;
        }
        // After a pause, the second that it took belongs to one entry.
        self.next_second = (nanos + SECOND_NANOS / 2).next_multiple_of(SECOND_NANOS);
        let snapshot = self.shared.latency_snapshot();
        self.shared.latency_history().tick(snapshot);
    }

    /// Reads the cluster file again if it has changed. Checks it about once a second.
    fn check_cluster_file(&mut self) {
        let Some(cluster) = &self.shared.cluster else {
            return;
        };
        let nanos = self.shared.clock.nanos();
        if nanos < self.next_check {
            return;
        }
        self.next_check = nanos + SECOND_NANOS;
        let log = &self.shared.log;
        match cluster.refresh() {
            Ok(None) => {}
            Ok(Some(replaced)) => log.put(format_args!("{replaced}")),
            Err(error) => log.put(format_args!("nothing changed: {error}")),
        }
    }

    /// Sweeps the next shard, and counts its live items by prefix.
    fn sweep_and_count(&mut self, now: Now) -> Swept {
        let (store, local, shard) = (&self.store, &mut self.local, self.shard);
        if !self.shared.config.observe.prefixes {
            return store.sweep_shard(local, shard, now);
        }
        let (census, weight) = (&mut self.census, self.census_weight);
        let left = &mut self.until_counted;
        store.sweep_shard_with(local, shard, now, |item| {
            *left -= 1;
            if *left == 0 {
                *left = weight;
                census.count(item.key(), item.bytes(), weight);
            }
        })
    }

    /// Does a step of a requested sweep. Returns the pause after it,
    /// `crawler_sleep_us`; `None` if none is requested.
    ///
    /// Removes dead items of any size class. The requested classes only
    /// determine how many items are checked.
    fn crawl(&mut self, now: Now) -> Option<Duration> {
        let runtime = &self.shared.runtime;
        let wanted = runtime.crawl.wanted.load(Ordering::Relaxed);
        if wanted == 0 {
            return None;
        }
        let tunables = *runtime.tunables();
        let most = match tunables.crawler_items {
            0 => usize::MAX,
            items => items as usize * wanted.count_ones() as usize,
        };
        let crawl = self.crawl.get_or_insert(Crawling {
            shard: 0,
            left: most,
        });
        let mut looked = 0;
        let shards = self.store.shard_count();
        while looked < SWEEP_ITEMS.min(crawl.left) && crawl.shard < shards {
            let swept = self.store.sweep_shard(&mut self.local, crawl.shard, now);
            looked += swept.looked;
            crawl.shard += 1;
        }
        crawl.left = crawl.left.saturating_sub(looked);
        if crawl.left == 0 || crawl.shard == shards {
            self.crawl = None;
            runtime.crawl.wanted.store(0, Ordering::Relaxed);
        }
        Some(Duration::from_micros(tunables.crawler_sleep_us.into()))
    }

    /// Ends a sweep of all shards and begins the next one.
    fn begin_sweep(&mut self) {
        self.shared.busy_prefixes.publish(&mut self.census);
        let items = self.shared.stats.snapshot().items;
        self.census_weight = (items / CENSUS_ITEMS).max(1);
        self.until_counted = self.census_weight;
        self.shard = 0;
        self.store.end_sweep(self.generation);
        self.generation = self.store.flush_generation();
        self.expirables = [false, self.expirables[0]];
    }
}

fn predictor(store: &Store) -> Option<Predictor> {
    let sampling = store.sampling()?;
    Some(Predictor::new(Arc::clone(sampling), store))
}
