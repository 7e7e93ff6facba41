//! State of the store: [`Store`], shared by all threads, and [`Local`], owned
//! by one thread. Construction, flush and the memory limit.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam::channel::Receiver;
use crossbeam::utils::CachePadded;

use crate::config::{Config, Eviction};
use crate::events::{Hub, Ring};
use crate::stats::{Counters, PerClass, Registry, ThreadStats};
use crate::store::evict::ghosts::Ghosts;
use crate::store::evict::hand::{Hand, Visit};
use crate::store::evict::oldest::Oldest;
use crate::store::evict::policy::Policy;
use crate::store::evict::prefix_limits::PrefixLimits;
use crate::store::index::map::Map;
use crate::store::index::prefetch::CACHE_LINE_BYTES;
use crate::store::invalidation::order::Counter;
use crate::store::invalidation::table::Invalidations;
use crate::store::item::layout::BIRTH_MAX;
use crate::store::memory::arena::Memory;
use crate::store::memory::classes::PAGE_BYTES;
use crate::store::memory::file::{LockedFile, SaveLock};
use crate::store::memory::magazine::{Levels, Magazines};
use crate::store::mrc::sampling::Sampling;
use crate::store::reclaim::limbo::{Limbo, Reclaim};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::time::Now;

/// Configuration of a store.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Memory limit (`-m`) in bytes: pages of items, index, ghosts and the
    /// hand's positions.
    pub max_memory: usize,
    /// Evict items when memory is short. If false (`-M`), storing fails
    /// instead.
    pub evict: bool,
    /// Largest item (`-I`) in bytes, by memcached's count; see
    /// [`Store::is_size_ok`].
    pub max_item_size: usize,
    /// Eviction policy (`-o eviction`).
    pub eviction: Eviction,
    /// Give items CAS values. If false (`-C`), all CAS values are 0.
    pub cas: bool,
    /// Byte at which prefixes of keys end, for invalidations (`-D`).
    pub delimiter: u8,
}

impl From<&Config> for Options {
    fn from(config: &Config) -> Self {
        Self {
            max_memory: config.max_memory,
            evict: config.evict,
            max_item_size: config.max_item_size,
            eviction: config.eviction,
            cas: config.cas,
            delimiter: config.prefix_delimiter,
        }
    }
}

/// CAS value from which new items have a birth field. So many values are left to
/// the largest one of a header that any item made before is linked meanwhile.
pub(in crate::store) const BIRTH_FIELDS_FROM: u64 = BIRTH_MAX - BIRTH_MAX / 16;

/// A map from keys to items in bounded memory. See the [module's
/// documentation](crate::store) for the rules of locking.
pub struct Store {
    /// Index: keys to slots.
    pub(in crate::store) map: Map,
    /// Allocator of chunks.
    pub(in crate::store) memory: Memory,
    /// Eviction policy: computes and compares stamps.
    pub(in crate::store) policy: Policy,
    /// Use counts of evicted items.
    pub(in crate::store) ghosts: Ghosts,
    /// The counter of CAS values, births and invalidations.
    pub(in crate::store) cas: CachePadded<Counter>,
    /// Invalidations of prefixes and tags.
    pub(in crate::store) invalidations: Invalidations,
    /// Limits of prefixes (`--prefix-limit`).
    pub(in crate::store) prefix_limits: PrefixLimits,
    /// Flush generation.
    pub(in crate::store) flush: Flush,
    /// The CLOCK hand.
    pub(in crate::store) hand: Hand,
    /// Mean bytes of an item, as of the last [`Store::survey`].
    pub(in crate::store) mean_bytes: AtomicUsize,
    /// Epochs of the threads, and what they have left to be freed.
    pub(in crate::store) reclaim: Arc<Reclaim>,
    /// Configuration; does not change.
    pub(in crate::store) options: Options,
    /// Levels of the magazines of each thread that called [`Store::local`].
    pub(in crate::store) levels: Mutex<Vec<Arc<Levels>>>,
    /// By size class, the last access to the least recently accessed item.
    pub(in crate::store) oldest: Oldest,
    /// Counters of all threads: the server's, in which the store counts.
    pub(in crate::store) stats: Arc<Registry>,
    /// Event rings of all threads: the server's, in which the store reports
    /// evictions.
    pub(in crate::store) events: Arc<Hub>,
    /// Sampling for the miss ratio curve, once it has begun.
    pub(in crate::store) sampling: OnceLock<Arc<Sampling>>,
    /// The lock of `--save-path`.
    pub(in crate::store) save_lock: SaveLock,
    /// Count dead items as memcached does without its maintainer thread: see
    /// [`Store::count_overwritten_as_reclaimed`].
    pub(in crate::store) counts_overwritten: AtomicBool,
    /// New items have a birth field, because the CAS values given have reached
    /// [`BIRTH_FIELDS_FROM`].
    births_are_wide: AtomicBool,
}

/// The flush generation. An item of another generation than the current one is
/// flushed. Items hold the low 8 bits of their generation.
pub(in crate::store) struct Flush {
    /// The current generation: the number of flushes so far.
    pub(in crate::store) generation: AtomicU64,
    /// Lower bound of the generations of items that may still be in memory;
    /// advanced by each complete sweep.
    pub(in crate::store) oldest: AtomicU64,
    /// Serializes flushes.
    pub(in crate::store) turn: Mutex<()>,
}

/// The thread-local part of the store: magazines, limbo and counters.
pub struct Local {
    /// Free chunks for allocation without a lock.
    pub(in crate::store) magazines: Magazines,
    /// Unlinked chunks that other threads may still read.
    pub(in crate::store) limbo: Limbo,
    /// The part of a shard in which the thread searches for its next victim.
    pub(in crate::store) visit: Visit,
    /// The last flush request (`Memory::request_flush`) that this thread has seen in
    /// [`Store::prepare_to_wait`].
    pub(in crate::store) flush_requests_seen: u32,
    /// Searches for a victim so far; every 256th of them surveys the store.
    pub(in crate::store) searches: u32,
    /// Growths of a table so far; every 16th of them surveys the store.
    pub(in crate::store) growths: u32,
    /// The time, as last read by the thread.
    pub now: Now,
    /// The thread's counters.
    pub counters: Arc<Counters>,
    /// The thread's counters by size class.
    pub classes: Arc<PerClass>,
    /// The thread's event ring, which the log thread drains for watchers.
    pub events: Arc<Ring>,
}

impl Store {
    /// Creates an empty store with counters and event rings of its own.
    pub fn new(options: Options) -> Self {
        Self::with_telemetry(options, Arc::default(), Arc::default())
    }

    /// Creates an empty store. Its threads count in `stats` and report
    /// evictions to `events`. The fixed size of index and ghosts counts against
    /// the memory limit from the start.
    pub fn with_telemetry(options: Options, stats: Arc<Registry>, events: Arc<Hub>) -> Self {
        Self::with_file(options, stats, events, None)
    }

    /// Creates an empty store as [`Store::with_telemetry`] does. Its pages lie in
    /// `file`, if there is one.
    pub(in crate::store) fn with_file(
        options: Options,
        stats: Arc<Registry>,
        events: Arc<Hub>,
        file: Option<LockedFile>,
    ) -> Self {
        let shards = shards_for(options.max_memory);
        let reclaim = Arc::new(Reclaim::new());
        let store = Self {
            map: Map::new(shards, Arc::clone(&reclaim)),
            hand: Hand::new(shards),
            memory: Memory::new(options.max_memory, file),
            policy: Policy::new(options.eviction),
            ghosts: Ghosts::new(options.max_memory),
            // The first value given is 2, as in memcached.
            cas: CachePadded::new(Counter::new(1)),
            invalidations: Invalidations::new(options.max_memory, options.delimiter, random_seed()),
            prefix_limits: PrefixLimits::new(shards),
            flush: Flush {
                generation: AtomicU64::new(0),
                oldest: AtomicU64::new(0),
                turn: Mutex::new(()),
            },
            mean_bytes: AtomicUsize::new(CACHE_LINE_BYTES),
            reclaim,
            options,
            levels: Mutex::new(Vec::new()),
            oldest: Oldest::default(),
            stats,
            events,
            sampling: OnceLock::new(),
            save_lock: SaveLock::default(),
            counts_overwritten: AtomicBool::new(false),
            births_are_wide: AtomicBool::new(false),
        };
        let fixed = store.map.base_bytes()
            + store.ghosts.bytes()
            + store.hand.bytes()
            + store.reclaim.epochs.bytes()
            + store.invalidations.bytes()
            + store.prefix_limits.heap_bytes();
        store.memory.pool().add_overhead(fixed);
        store
    }

    /// Creates the thread-local part for a new thread, and registers the
    /// thread's counters and its event ring.
    pub fn local(&self) -> Local {
        let ThreadStats { counters, classes } = self.stats.register();
        let magazines = Magazines::new(self.memory.pool().limit());
        let mut all = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(magazines.levels());
        Local {
            magazines,
            limbo: Limbo::new(Arc::clone(&self.reclaim)),
            visit: Visit::default(),
            flush_requests_seen: 0,
            searches: 0,
            growths: 0,
            now: Now::default(),
            events: self.events.ring(),
            counters,
            classes,
        }
    }

    /// Begins the sampling for the miss ratio curve, of requests that `workers`
    /// workers execute. Call it once.
    pub fn begin_sampling(&self, workers: usize) {
        self.sampling
            .get_or_init(|| Arc::new(Sampling::new(workers)));
    }

    /// Returns the sampling for the miss ratio curve; `None` if it is off.
    pub fn sampling(&self) -> Option<&Arc<Sampling>> {
        self.sampling.get()
    }

    /// Returns the registry in which the store's threads count.
    pub fn stats(&self) -> &Registry {
        &self.stats
    }

    /// Prepares a thread to wait for events. Leaves the epoch, and frees what the
    /// thread has retired or leaves it to other threads. Flushes its magazines, if
    /// another thread has requested that since the last call
    /// (`Memory::request_flush`).
    pub fn prepare_to_wait(&self, local: &mut Local) {
        self.leave(local);
        if self
            .memory
            .is_flush_requested(&mut local.flush_requests_seen)
        {
            self.free_retired(local);
            self.memory.flush(&mut local.magazines);
        }
        local.limbo.hand_over();
    }

    /// Passes the number of items and their mean size to the eviction policy,
    /// the ghosts, the hand and the prefetcher. Called by upkeep at each step,
    /// by searches for a victim, and when tables grow.
    pub fn survey(&self) {
        let (items, bytes) = self.stats.items_and_bytes();
        self.policy.survey(items, bytes);
        let mean = bytes.checked_div(items).unwrap_or(0) as usize;
        self.mean_bytes.store(mean, Ordering::Relaxed);
        self.ghosts.survey(items);
        self.hand.survey(items);
    }

    /// Returns a channel with a message whenever [`Store::fetch_memory`] should be
    /// called.
    pub fn growth(&self) -> Receiver<()> {
        self.memory.pool().growth()
    }

    /// Fetches 2 MiB from the system, so that no worker waits until the system has
    /// filled them with zeros. Returns false if there is no need: 8 MiB are ready, or
    /// the memory limit is close.
    pub fn fetch_memory(&self) -> bool {
        self.memory.pool().fetch_ahead()
    }

    /// Returns memory that was fetched ahead and not used to the system, and holes in
    /// the heap. Call it when the store has not grown for a while.
    pub fn return_memory(&self) {
        self.memory.pool().return_ahead();
        self.memory.pool().trim_heap_after_growth();
    }

    /// Measures how fast the CLOCK hand's tick advances in real time, so that
    /// the policy can convert TTLs to ticks. Call it about once a second, from
    /// one thread.
    pub fn measure_pace(&self, now: Now) {
        self.policy.measure_pace(now.millis());
    }

    /// Returns a new unique CAS value, or 0 if CAS is disabled.
    pub fn next_cas(&self) -> u64 {
        if !self.options.cas {
            return 0;
        }
        let number = self.cas.draw();
        if number >= BIRTH_FIELDS_FROM {
            self.widen_births();
        }
        number
    }

    /// Goes on from a CAS value of an earlier server.
    pub(in crate::store) fn raise_cas(&self, last: u64) {
        self.cas.raise(last);
        if last >= BIRTH_FIELDS_FROM {
            self.widen_births();
        }
    }

    #[cold]
    fn widen_births(&self) {
        if !self.births_are_wide.load(Ordering::Relaxed) {
            self.births_are_wide.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether an item needs a birth field: because a client gives its CAS
    /// value, or because headers will not hold births for much longer.
    #[inline]
    pub fn needs_birth_field(&self, cas: Option<u64>) -> bool {
        cas.is_some() || self.births_are_wide.load(Ordering::Relaxed)
    }

    /// Invalidates all items: begins the next generation. Their memory is freed
    /// by later sweeps, look-ups and evictions. If 255 generations have passed
    /// since the last complete sweep, first sweeps the whole store in the
    /// calling thread.
    pub fn flush_all(&self, local: &mut Local) {
        let turn = &self.flush.turn;
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.flush.generation.load(Ordering::Relaxed) + 1;
        // Items store a generation modulo 256. Before a value is used again,
        // all items that carry it from its first use must be gone. Acquire
        // pairs with the Release in `Store::end_sweep`: all accesses to those items
        // happened before.
        let oldest = self.flush.oldest.load(Ordering::Acquire);
        if next - oldest > u64::from(u8::MAX) {
            // It takes too long for threads that wait for readers.
            self.leave(local);
            self.sweep_all(local);
        }
        self.flush.generation.store(next, Ordering::Relaxed);
    }

    /// Returns whether an item of this key length, flags and value length may
    /// be stored. The size is computed as in memcached (a 48-byte header, 8
    /// bytes of CAS, key, flags, value and CRLF), so that the boundary is the
    /// same.
    pub fn is_size_ok(&self, key_len: usize, flags: u32, value_len: usize) -> bool {
        const HEADER: usize = 48 + 8;
        const CRLF_BYTES: usize = 2;
        let flags_len = if flags == 0 { 0 } else { 4 };
        let size = HEADER + key_len + 1 + flags_len + value_len + CRLF_BYTES;
        size <= self.options.max_item_size
    }

    /// Returns whether items are evicted when memory is short (false with
    /// `-M`).
    pub fn evicts(&self) -> bool {
        self.options.evict
    }

    /// Returns the memory limit in bytes.
    pub fn memory_limit(&self) -> usize {
        self.memory.pool().limit()
    }

    /// Changes the memory limit, in bytes. Items beyond a lowered limit are
    /// evicted incrementally: see [`Store::shrink_to_limit`].
    pub fn set_memory_limit(&self, bytes: usize) {
        self.memory.pool().set_limit(bytes);
    }

    /// Returns the bytes that count against the limit besides pages: map,
    /// ghosts and the hand's positions.
    pub fn index_bytes(&self) -> usize {
        self.memory.pool().overhead()
    }

    /// Returns the bytes of all pages that are assigned to a size class.
    pub fn page_bytes(&self) -> usize {
        self.memory.pool().pages_in_use() * PAGE_BYTES
    }

    /// Returns the low 8 bits of the current generation, as items hold them.
    pub(crate) fn generation(&self) -> u8 {
        self.flush.generation.load(Ordering::Relaxed) as u8
    }
}

fn random_seed() -> u64 {
    // Its keys are drawn at random.
    RandomState::new().hash_one(0)
}

/// Returns the number of shards, a power of two. With enough of them, rebuilding
/// the table of a shard takes a millisecond or two; with few of them, an empty
/// server is small.
fn shards_for(max_memory: usize) -> usize {
    const GIB: usize = 1 << 30;
    /// Maximum number, so that shard and tag depend on different bits of a hash.
    const SHARDS_MAX: usize = 1 << 15;
    /// Memory of a shard from 32 GiB on; up to twice as much below the next
    /// power of two.
    const SHARD_BYTES: usize = 4 << 20;
    if max_memory < GIB {
        1024
    } else if max_memory < 8 * GIB {
        2048
    } else if max_memory < 32 * GIB {
        4096
    } else {
        (1 << (max_memory / SHARD_BYTES).ilog2()).min(SHARDS_MAX)
    }
}
