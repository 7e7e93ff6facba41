//! Background work on the store, in small steps: sweeping out dead items,
//! keeping the memory limit, carrying out delayed flushes when no client
//! does. Called by the server's upkeep thread; holds no socket.

use std::sync::Arc;
use std::time::Duration;

use crate::shared::Shared;
use crate::store::{Local, Store};
use crate::sync::Ordering;
use crate::time::Now;

/// Items a step looks at, at least. Few, since a worker may have to wait for
/// the end of a step where there are fewer processors than threads.
const SWEEP_ITEMS: usize = 1_000;
/// Pause between two steps.
const PAUSE: Duration = Duration::from_millis(10);
/// Pause while memory is being made compact.
const COMPACT_PAUSE: Duration = Duration::from_millis(2);
/// After so many flushes during one sweep there is no pause before its end:
/// before they are 256, it must be over.
const HURRY_FLUSHES: u64 = 64;
/// Pause where there is nothing to sweep out: no item ends some time.
const IDLE_PAUSE: Duration = Duration::from_millis(500);

/// The state of the background work.
pub struct Upkeep {
    store: Arc<Store>,
    shared: Arc<Shared>,
    local: Local,
    /// The next shard to sweep.
    shard: usize,
    /// What is flushed once this sweep has been through all shards.
    generation: u64,
    /// Something that ends was seen in this sweep, or in the one before.
    expirables: [bool; 2],
    /// The sweep that an operator asked for.
    crawl: Option<Crawling>,
}

/// How far a sweep that was asked for has come.
struct Crawling {
    shard: usize,
    /// Items it may still look at.
    left: usize,
}

impl Upkeep {
    /// Upkeep of a server's store.
    pub fn new(store: Arc<Store>, shared: Arc<Shared>) -> Self {
        Self {
            local: store.local(),
            generation: store.sweep_begins(),
            store,
            shared,
            shard: 0,
            expirables: [true; 2],
            crawl: None,
        }
    }

    /// Does a bounded amount of work and says how long to pause.
    pub fn step(&mut self) -> Duration {
        let now = self.shared.clock.now();
        self.local.now = now;
        self.local.counters.juggles.add(1);
        if self.shared.take_due_flush(now) {
            self.store.flush_all(&mut self.local);
        }
        let within_limit = self.store.shrink_to_limit(&mut self.local);
        self.store.survey();
        self.store.pace(now);
        let compacted = self.store.compact(&mut self.local);
        if let Some(pause) = self.crawl(now) {
            return pause;
        }
        if !self.shared.runtime.knobs().crawler {
            return PAUSE;
        }
        let mut looked = 0;
        for _ in 0..self.store.shard_count() {
            let swept = self.store.sweep_shard(&mut self.local, self.shard, now);
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
        let flushes = self.store.sweep_begins() - self.generation;
        if !within_limit || flushes >= HURRY_FLUSHES {
            Duration::ZERO
        } else if compacted {
            COMPACT_PAUSE
        } else if self.expirables.contains(&true) || flushes > 0 {
            PAUSE
        } else {
            IDLE_PAUSE
        }
    }

    /// A step of a sweep that was asked for. Dead items of any class are
    /// removed; the classes asked for say how many are looked at.
    fn crawl(&mut self, now: Now) -> Option<Duration> {
        let runtime = &self.shared.runtime;
        let wanted = runtime.crawl.wanted.load(Ordering::Relaxed);
        if wanted == 0 {
            return None;
        }
        let knobs = *runtime.knobs();
        let most = match knobs.crawler_items {
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
        Some(Duration::from_micros(knobs.crawler_sleep_us.into()))
    }

    fn begin_sweep(&mut self) {
        self.shard = 0;
        self.store.swept(self.generation);
        self.generation = self.store.sweep_begins();
        self.expirables = [false, self.expirables[0]];
    }
}
