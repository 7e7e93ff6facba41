//! The store's state, shared and of each thread.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::utils::CachePadded;

use crate::config::Eviction;
use crate::events::{Hub, Ring};
use crate::stats::{Counters, PerClass, Snapshot};
use crate::store::evict::ghosts::Ghosts;
use crate::store::evict::hand::{Hand, Visit};
use crate::store::evict::oldest::Oldest;
use crate::store::evict::policy::Policy;
use crate::store::hot::Hot;
use crate::store::index::map::Map;
use crate::store::index::prefetch::CACHE_LINE_BYTES;
use crate::store::item::layout::CRLF_BYTES;
use crate::store::memory::arena::Memory;
use crate::store::memory::classes::PAGE_BYTES;
use crate::store::memory::magazine::{Levels, Magazines};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::time::Now;

/// What an operator chooses about the store.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Memory for items, headers, slack and index, in bytes.
    pub max_memory: usize,
    /// Evict when full, or else refuse.
    pub evict: bool,
    /// Largest item in bytes.
    pub max_item_size: usize,
    /// What is evicted.
    pub eviction: Eviction,
    /// Give items CAS values.
    pub cas: bool,
}

/// See the module's documentation.
pub struct Store {
    pub(in crate::store) map: Map,
    pub(in crate::store) memory: Memory,
    pub(in crate::store) policy: Policy,
    pub(in crate::store) ghosts: Ghosts,
    /// The last CAS value given.
    pub(in crate::store) cas: CachePadded<AtomicU64>,
    pub(in crate::store) flush: Flush,
    pub(in crate::store) hand: Hand,
    /// Of an item, as of the last survey.
    pub(in crate::store) mean_bytes: AtomicUsize,
    pub(in crate::store) options: Options,
    pub(in crate::store) threads: Mutex<Vec<Thread>>,
    /// By size class, the second of the longest unused item's last use.
    pub(in crate::store) oldest: Oldest,
    pub(in crate::store) events: Hub,
    /// See [`Store::reclaim_before_storing`].
    pub(in crate::store) reclaims_first: AtomicBool,
}

/// What of a thread others may read.
pub(in crate::store) struct Thread {
    pub(in crate::store) counters: Arc<Counters>,
    pub(in crate::store) classes: Arc<PerClass>,
    pub(in crate::store) stock: Arc<Levels>,
}

/// Items of another generation than the present are flushed.
pub(in crate::store) struct Flush {
    pub(in crate::store) generation: AtomicU64,
    /// The oldest generation of which items may still be in memory.
    pub(in crate::store) oldest: AtomicU64,
    /// Held by whoever begins the next generation.
    pub(in crate::store) turn: Mutex<()>,
}

/// What one thread needs to work on the store.
pub struct Local {
    pub(in crate::store) magazines: Magazines,
    pub(in crate::store) hot: Hot,
    pub(in crate::store) visit: Visit,
    /// Recalls of what it holds and keeps in stock that it has heeded.
    pub(in crate::store) recalls_heeded: u32,
    /// Searches for something to evict so far.
    pub(in crate::store) searches: u32,
    /// The time, as of the thread's last look at the clock.
    pub now: Now,
    /// The thread's counters.
    pub counters: Arc<Counters>,
    /// Its counters by size class.
    pub classes: Arc<PerClass>,
    /// Its events, for watchers.
    pub events: Arc<Ring>,
}

impl Store {
    /// An empty store.
    pub fn new(options: Options) -> Self {
        let shards = shards_for(options.max_memory);
        let store = Self {
            map: Map::new(shards),
            hand: Hand::new(shards),
            memory: Memory::new(options.max_memory),
            policy: Policy::new(options.eviction),
            ghosts: Ghosts::new(options.max_memory),
            // The first value given is 2, as in memcached.
            cas: CachePadded::new(AtomicU64::new(1)),
            flush: Flush {
                generation: AtomicU64::new(0),
                oldest: AtomicU64::new(0),
                turn: Mutex::new(()),
            },
            mean_bytes: AtomicUsize::new(CACHE_LINE_BYTES),
            options,
            threads: Mutex::new(Vec::new()),
            oldest: Oldest::default(),
            events: Hub::default(),
            reclaims_first: AtomicBool::new(false),
        };
        let fixed = store.map.base_bytes() + store.ghosts.bytes() + store.hand.bytes();
        store.memory.pool().add_overhead(fixed);
        store
    }

    /// What a thread needs to work on this store; its counters are summed
    /// with the others' from now on.
    pub fn local(&self) -> Local {
        let counters = Arc::new(Counters::default());
        let classes = Arc::new(PerClass::default());
        let magazines = Magazines::new();
        let mut all = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Thread {
            counters: Arc::clone(&counters),
            classes: Arc::clone(&classes),
            stock: magazines.levels(),
        });
        Local {
            magazines,
            hot: Hot::new(),
            visit: Visit::default(),
            recalls_heeded: 0,
            searches: 0,
            now: Now::default(),
            events: self.events.ring(),
            counters,
            classes,
        }
    }

    /// Where the threads' events meet.
    pub fn events(&self) -> &Hub {
        &self.events
    }

    /// The sum of all threads' counters.
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

    /// Gives back the free chunks that a thread keeps in stock, and the items
    /// that it holds, if others ran short of memory since it last did; for
    /// threads about to wait.
    pub fn settle(&self, local: &mut Local) {
        if self.memory.is_recalled(&mut local.recalls_heeded) {
            self.let_all_go(local);
            self.memory.flush(&mut local.magazines);
        }
    }

    /// Takes note of how many items there are and how large they are, for
    /// judging them and for prefetching. Now and then is enough.
    pub fn survey(&self) {
        let sum = self.snapshot();
        self.policy.survey(sum.items, sum.item_bytes);
        let mean = sum.item_bytes.checked_div(sum.items).unwrap_or(0) as usize;
        self.mean_bytes.store(mean, Ordering::Relaxed);
        self.ghosts.survey(sum.items);
        self.hand.survey(sum.items);
    }

    /// Measures the pace of the eviction clock against time, for judging
    /// items that end. To be called about once a second, by one thread.
    pub fn pace(&self, now: Now) {
        self.policy.pace(now.millis());
    }

    /// A CAS value that was never given before; 0 where they are off.
    pub fn next_cas(&self) -> u64 {
        if !self.options.cas {
            return 0;
        }
        self.cas.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Forgets all items there are; their memory follows.
    pub fn flush_all(&self, local: &mut Local) {
        let turn = &self.flush.turn;
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.flush.generation.load(Ordering::Relaxed) + 1;
        // Items tell 256 generations apart: before one comes again, those of
        // its first time must be gone. Acquire: and whoever saw one of them
        // has seen it before this.
        let oldest = self.flush.oldest.load(Ordering::Acquire);
        if next - oldest > u64::from(u8::MAX) {
            self.sweep_all(local);
        }
        self.flush.generation.store(next, Ordering::Relaxed);
    }

    /// Whether an item of this size may be stored; counted as memcached
    /// counts it, so that the boundary is the same.
    pub fn is_size_ok(&self, key_len: usize, flags: u32, value_len: usize) -> bool {
        const HEADER: usize = 48 + 8;
        let flags_len = if flags == 0 { 0 } else { 4 };
        let size = HEADER + key_len + 1 + flags_len + value_len + CRLF_BYTES;
        size <= self.options.max_item_size
    }

    /// Whether items are evicted when memory is short (not with `-M`).
    pub fn evicts(&self) -> bool {
        self.options.evict
    }

    /// Memory limit in bytes.
    pub fn memory_limit(&self) -> usize {
        self.memory.pool().limit()
    }

    /// Changes the memory limit. What exceeds it is evicted by and by.
    pub fn set_memory_limit(&self, bytes: usize) {
        self.memory.pool().set_limit(bytes);
    }

    /// Bytes of the index.
    pub fn index_bytes(&self) -> usize {
        self.memory.pool().overhead()
    }

    /// Bytes of pages that hold items.
    pub fn page_bytes(&self) -> usize {
        self.memory.pool().pages_in_use() * PAGE_BYTES
    }

    pub(crate) fn generation(&self) -> u8 {
        self.flush.generation.load(Ordering::Relaxed) as u8
    }
}

/// A number of what is there, summed from sets of counters that were read one
/// after the other: something may be seen to go and not to have come.
pub(in crate::store) fn present(count: u64) -> u64 {
    if count > u64::MAX / 2 { 0 } else { count }
}

/// Parts of the map: enough that growing one is over in a few milliseconds,
/// few enough that an empty server is small.
fn shards_for(max_memory: usize) -> usize {
    const GIB: usize = 1 << 30;
    if max_memory < GIB {
        1024
    } else if max_memory < 8 * GIB {
        2048
    } else {
        4096
    }
}
