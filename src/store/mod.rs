//! The store: items by key, in bounded memory. Knows no protocol.
//!
//! Readers see an item under its shard's read lock ([`Store::read`]) or hold
//! a reference to it ([`Pin`]); writers make the new item first and link it
//! under the write lock ([`Store::edit`]). No two shards are ever locked at
//! once, and nothing is allocated, freed, logged or sent under a lock.

mod access_stamp;
mod build;
mod census;
mod chain;
mod classes;
mod entry;
mod eviction;
mod ghosts;
mod hand;
mod hot;
mod item;
mod magazine;
mod map;
mod memory;
mod outgoing;
mod poison;
mod pool;
mod prefetch;
mod reclaim;
mod refs;

#[cfg(test)]
mod tests;
mod version;
mod walk;

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::utils::CachePadded;

pub use crate::store::build::NewItem;
pub use crate::store::census::ClassMemory;
pub use crate::store::chain::Pieces;
pub use crate::store::classes::PAGE_SPACE_BYTES;
pub use crate::store::entry::Entry;
pub use crate::store::item::{Item, ItemSpec};
pub use crate::store::map::{HASH_NAME, Hashed};
pub use crate::store::outgoing::Outgoing;
pub use crate::store::walk::Walk;

use crate::config::Eviction;
use crate::events::{Hub, Ring};
use crate::stats::{Counters, PerClass, Snapshot};
use crate::store::census::Oldest;
use crate::store::eviction::Policy;
use crate::store::ghosts::Ghosts;
use crate::store::hand::{Hand, Visit};
use crate::store::hot::Hot;
use crate::store::item::{CRLF_BYTES, word_of};
use crate::store::magazine::{Levels, Magazines};
use crate::store::map::Map;
use crate::store::memory::{Chunk, Memory};
use crate::store::prefetch::CACHE_LINE_BYTES;
pub use crate::store::prefetch::prefetch_bytes;
pub use crate::store::reclaim::Swept;
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
    map: Map,
    memory: Memory,
    policy: Policy,
    ghosts: Ghosts,
    /// The last CAS value given.
    cas: CachePadded<AtomicU64>,
    flush: Flush,
    hand: Hand,
    /// Of an item, as of the last survey.
    mean_bytes: AtomicUsize,
    options: Options,
    threads: Mutex<Vec<Thread>>,
    /// By size class, the second of the longest unused item's last use.
    oldest: Oldest,
    events: Hub,
    /// See [`Store::reclaim_before_storing`].
    reclaims_first: AtomicBool,
}

/// What of a thread others may read.
struct Thread {
    counters: Arc<Counters>,
    classes: Arc<PerClass>,
    stock: Arc<Levels>,
}

/// Items of another generation than the present are flushed.
struct Flush {
    generation: AtomicU64,
    /// The oldest generation of which items may still be in memory.
    oldest: AtomicU64,
    /// Held by whoever begins the next generation.
    turn: Mutex<()>,
}

/// What one thread needs to work on the store.
pub struct Local {
    magazines: Magazines,
    hot: Hot,
    visit: Visit,
    /// Recalls of what it holds and keeps in stock that it has heeded.
    recalls_heeded: u32,
    /// Searches for something to evict so far.
    searches: u32,
    /// The time, as of the thread's last look at the clock.
    pub now: Now,
    /// The thread's counters.
    pub counters: Arc<Counters>,
    /// Its counters by size class.
    pub classes: Arc<PerClass>,
    /// Its events, for watchers.
    pub events: Arc<Ring>,
}

/// There is no memory, and nothing may be evicted to get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Whether a look at an item counts as an access to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It does.
    Counted,
    /// It leaves no trace.
    Peek,
}

/// Why a key has no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// It has none.
    Absent,
    /// It had one whose time is over.
    Expired,
    /// It had one from before the last flush.
    Flushed,
}

/// A reference to an item that outlives the lock. It must be given back with
/// [`Store::release`].
#[must_use]
pub struct Pin(Chunk);

// SAFETY: a reference count held across threads is what it is for.
unsafe impl Send for Pin {}

impl Pin {
    /// The item; it may have been replaced in the map since.
    pub fn item(&self) -> Item<'_> {
        // SAFETY: the reference keeps the item.
        unsafe { Item::at(self.0) }
    }
}

impl Item<'_> {
    /// Whether this is the item that `pin` refers to.
    pub fn is_same(self, pin: &Pin) -> bool {
        self.chunk() == pin.0
    }

    /// Whether the map still has this very item; it may have been replaced,
    /// removed, evicted or moved since it was pinned.
    pub fn is_linked(self) -> bool {
        self.word().is_linked()
    }

    /// What tells items in memory apart.
    pub fn address(self) -> usize {
        self.chunk().addr().get()
    }

    /// Takes a reference that outlives the lock; `None` if too many are held.
    pub fn pin(self) -> Option<Pin> {
        self.word().pin().then(|| Pin(self.chunk()))
    }
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

    /// Hashes a key; do it once per command.
    #[inline]
    pub fn hashed<'k>(&self, key: &'k [u8]) -> Hashed<'k> {
        Hashed {
            key,
            hash: self.map.hash(key),
        }
    }

    /// Brings what will be touched for these hashes into the cache, all of
    /// one kind before the next, so that their latencies overlap.
    pub fn prefetch(&self, hashes: &[u64]) {
        for hash in hashes {
            self.map.prefetch_lock(*hash);
        }
        for hash in hashes {
            self.map.prefetch_slot(*hash);
        }
        let bytes = self.mean_bytes.load(Ordering::Relaxed);
        for hash in hashes {
            self.map.prefetch_item(*hash, bytes);
        }
    }

    /// Shows a key's item to `f`, with its shard locked for reading. `f` says
    /// whether this is an access; it sees the item as it was before.
    ///
    /// # Errors
    /// Why there is no such item.
    #[inline]
    pub fn read<R>(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        now: Now,
        f: impl FnOnce(Item<'_>) -> (Access, R),
    ) -> Result<R, Miss> {
        self.look_up(local, key, now, false, f)
    }

    /// Shows a key's item to `f` as [`Store::read`] does, but without the lock
    /// if this thread holds the item for being asked for all the time. If the
    /// item is changed meanwhile, `f` is called once more, and the first call
    /// must leave no trace.
    ///
    /// # Errors
    /// Why there is no such item.
    #[inline]
    pub fn read_often<R>(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        now: Now,
        mut f: impl FnMut(Item<'_>) -> (Access, R),
    ) -> Result<R, Miss> {
        if let Some((item, relied)) = local.hot.find(key, &self.map, now)
            && self.dead(item, now).is_none()
        {
            // It was accessed in this second already: there is nothing to
            // note. Nor may there be: whoever moves it now copies its header.
            let (_, result) = f(item);
            if self.map.version(key.hash).held(relied) {
                return Ok(result);
            }
        }
        self.look_up(local, key, now, true, f)
    }

    /// Looks a key up in its shard; `often` lets this thread hold its item.
    #[inline]
    fn look_up<R>(
        &self,
        local: &mut Local,
        key: &Hashed<'_>,
        now: Now,
        often: bool,
        f: impl FnOnce(Item<'_>) -> (Access, R),
    ) -> Result<R, Miss> {
        let shard = self.map.read(key.hash);
        let Some(slot) = shard.find(key) else {
            return Err(Miss::Absent);
        };
        let item = shard.item(slot);
        if let Some(miss) = self.dead(item, now) {
            drop(shard);
            // Editing removes what is dead.
            self.edit(local, key, now, |_| ());
            return Err(miss);
        }
        let (access, result) = f(item);
        if access == Access::Counted {
            item.note_access(now.second());
            let stamp = slot.stamp();
            let remaining = now.remaining(item.expiry());
            let bumped = self.policy.on_hit(stamp, item.bytes(), remaining);
            if bumped != stamp {
                slot.set_stamp(bumped);
            }
            if often && let Some(pin) = local.hot.note(key.hash, item, &shard, now) {
                drop(shard);
                self.release(local, pin);
            }
        }
        Ok(result)
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

    /// Gives a reference back.
    pub fn release(&self, local: &mut Local, pin: Pin) {
        self.release_chunk(local, pin.0);
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
        self.memory.pool().pages_in_use() * classes::PAGE_BYTES
    }

    pub(crate) fn generation(&self) -> u8 {
        self.flush.generation.load(Ordering::Relaxed) as u8
    }

    /// Why an item no longer counts, if it does not.
    #[inline]
    fn dead(&self, item: Item<'_>, now: Now) -> Option<Miss> {
        if item.generation() != self.generation() {
            return Some(Miss::Flushed);
        }
        item.expiry().is_over(now).then_some(Miss::Expired)
    }

    /// Gives back a reference to a chunk and, with the last one, its memory.
    fn release_chunk(&self, local: &mut Local, head: Chunk) {
        // SAFETY: the caller holds the reference it gives back.
        if unsafe { word_of(head) }.unpin() {
            // SAFETY: we took the count to 0.
            unsafe { self.free_item(local, head) };
        }
    }

    /// Frees the chunks of an item.
    ///
    /// # Safety
    /// It was the caller who took the count of references to the head to 0.
    unsafe fn free_item(&self, local: &mut Local, head: Chunk) {
        // SAFETY: the item is the caller's alone, and its chunks are freed
        // once.
        unsafe {
            for segment in Item::at(head).segments() {
                if word_of(segment).unpin() {
                    self.memory.free(&mut local.magazines, segment);
                }
            }
            self.memory.free(&mut local.magazines, head);
        }
    }
}

/// A number of what is there, summed from sets of counters that were read one
/// after the other: something may be seen to go and not to have come.
fn present(count: u64) -> u64 {
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
