//! Reclaiming of memory: the slow path of allocation, draining of pages by
//! moving or evicting their items, shrinking to the memory limit, compaction,
//! and sweeps that remove dead items.

use std::ops::Range;

use crate::limits::ClassId;
use crate::store::census::count_unfetched;
use crate::store::index::map::WriteShard;
use crate::store::item::chain::segment_hash;
use crate::store::item::layout::{Item, word_of};
use crate::store::item::refs::Pinned;
use crate::store::memory::arena::PinnedClasses;
use crate::store::memory::chunk::{Chunk, class_of};
use crate::store::memory::classes::{CLASSES, PAGE_BYTES, chunk_bytes};
use crate::store::outcome::{Miss, NoMemory};
use crate::store::state::{Local, Store};
use crate::sync::Ordering;
use crate::time::{Expiry, Now};

/// Maximum number of pages that one allocation drains by force.
const FORCED_PAGES_MAX: usize = 256;
/// An allocation may take a free chunk that is larger by up to 1/8.
const LARGER_BY_PART: usize = 8;
/// Maximum number of pages given up per call after the index grew or the limit
/// was lowered.
const SHRINK_PAGES_MAX: usize = 16;
/// Maximum number of pages drained in one step of compaction.
const COMPACT_PAGES_MAX: usize = 25;
/// Compaction starts when free chunks exceed 1/24 of the pages' bytes,
const SLACK_PART: usize = 24;
/// plus this many bytes.
const SLACK_BYTES: usize = 2 << 20;
/// Buckets that a sweep looks at under one lock.
const SWEEP_BUCKETS: usize = 256;

/// Restarts of a shard's sweep, because its table was rebuilt, before the sweep
/// looks at all buckets under one lock.
const SWEEP_RESTARTS_MAX: usize = 3;

/// Result of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Items looked at, dead ones included.
    pub looked: usize,
    /// Of these, items with an expiry time, expired or not.
    pub expirable: usize,
}

/// Value of [`ShardSweep::next`] after all buckets were looked at under one
/// lock; above any bucket number.
const ALL_SEEN: usize = usize::MAX;

/// The position of a sweep in one shard.
pub(in crate::store) struct ShardSweep {
    shard: usize,
    /// The next bucket, or [`ALL_SEEN`].
    next: usize,
    /// The shard's count of rebuilds at the last part.
    rebuilt: usize,
    /// How often the sweep began anew.
    restarts: usize,
    swept: Swept,
}

impl ShardSweep {
    /// Creates a sweep at the start of a shard.
    pub(in crate::store) fn new(shard: usize) -> Self {
        Self {
            shard,
            next: 0,
            rebuilt: 0,
            restarts: 0,
            swept: Swept::default(),
        }
    }

    /// Returns the buckets to look at under the current lock. If the table was
    /// rebuilt since the last part, items not seen yet may lie in buckets
    /// already passed: the sweep begins anew. After several restarts, it takes
    /// all buckets under one lock.
    fn next_part(&mut self, rebuilt: usize) -> Range<usize> {
        if self.rebuilt != rebuilt && self.next > 0 && self.next != ALL_SEEN {
            self.next = 0;
            self.restarts += 1;
        }
        self.rebuilt = rebuilt;
        let start = self.next;
        self.next = if self.restarts > SWEEP_RESTARTS_MAX {
            ALL_SEEN
        } else {
            start + SWEEP_BUCKETS
        };
        start..self.next
    }
}

impl Store {
    /// Allocates a chunk of size class `class`. Drains pages and evicts items
    /// if necessary. Takes shard locks: the caller must hold none.
    ///
    /// # Errors
    /// The limit is reached, and nothing (more) may be evicted.
    #[inline]
    pub(crate) fn alloc(&self, local: &mut Local, class: usize) -> Result<Chunk, NoMemory> {
        match self.memory.alloc(&mut local.magazines, class) {
            Some(chunk) => Ok(chunk),
            None => self.alloc_short(local, class),
        }
    }

    /// Allocates a chunk at the memory limit and counts the direct reclaim.
    #[cold]
    fn alloc_short(&self, local: &mut Local, class: usize) -> Result<Chunk, NoMemory> {
        let chunk = self.alloc_at_limit(local, class);
        let counters = local.classes.of(ClassId::from_index(class));
        local.counters.direct_reclaims.add(1);
        counters.direct_reclaims.add(1);
        if chunk.is_none() {
            counters.outofmemory.add(1);
        }
        chunk.ok_or(NoMemory)
    }

    /// Allocates a chunk at the memory limit, in order of cost: from idle
    /// chunks and pages, by eviction, by forced draining.
    #[cold]
    fn alloc_at_limit(&self, local: &mut Local, class: usize) -> Option<Chunk> {
        let mut pinned_classes = PinnedClasses::default();
        if !self.options.evict {
            self.drain(local, true, &mut pinned_classes);
            return self.memory.alloc(&mut local.magazines, class);
        }
        // After the limit was lowered, it takes a while to reach it. Commands
        // do not fail meanwhile: each gives up more pages than it takes.
        let pool = self.memory.pool();
        if pool.over_limit(0) {
            let before = pool.pages_in_use();
            self.shrink_to_limit(local);
            pool.allow_one(pool.pages_in_use() + 1 < before);
            let chunk = self.memory.alloc(&mut local.magazines, class);
            pool.allow_one(false);
            if chunk.is_some() {
                return chunk;
            }
        }
        // Idle memory of other classes comes before live items.
        let chunk = self.alloc_idle(local, class, &mut pinned_classes);
        if chunk.is_some() {
            return chunk;
        }
        // Victims are chosen by worth, not by class. Either a chunk of this
        // class comes free, or some class ends up with a page to spare.
        let mut freed = 0;
        while freed < chunk_bytes(class) + 2 * PAGE_BYTES {
            let Some(bytes) = self.evict(local) else {
                break;
            };
            freed += bytes;
            let chunk = self.alloc_idle(local, class, &mut pinned_classes);
            if chunk.is_some() {
                return chunk;
            }
        }
        // The freed chunks are spread over too many pages: drain pages by
        // force. A page with an unfinished item cannot be emptied.
        self.release_all_hot(local);
        for _ in 0..FORCED_PAGES_MAX {
            self.memory.flush(&mut local.magazines);
            let emptied = self.drain(local, false, &mut pinned_classes);
            let chunk = self.memory.alloc(&mut local.magazines, class);
            if chunk.is_some() {
                return chunk;
            }
            if self.evict(local).is_none() && !emptied && pinned_classes.is_empty() {
                break;
            }
        }
        None
    }

    /// Allocates from idle memory: a free chunk of the class, one that is a
    /// little larger, or a page that another class can spare.
    fn alloc_idle(
        &self,
        local: &mut Local,
        class: usize,
        pinned_classes: &mut PinnedClasses,
    ) -> Option<Chunk> {
        let chunk = self.memory.alloc(&mut local.magazines, class);
        if chunk.is_some() {
            return chunk;
        }
        let chunk = self.alloc_larger(local, class);
        if chunk.is_some() || !self.drain(local, true, pinned_classes) {
            return chunk;
        }
        self.memory.alloc(&mut local.magazines, class)
    }

    /// Allocates a free chunk of a slightly larger class: wasting a part of it
    /// is better than leaving it idle.
    fn alloc_larger(&self, local: &mut Local, class: usize) -> Option<Chunk> {
        let most = chunk_bytes(class) + chunk_bytes(class) / LARGER_BY_PART;
        let larger = (class + 1..CLASSES).take_while(|&larger| chunk_bytes(larger) <= most);
        larger
            .filter(|&larger| self.memory.free_chunks_of(larger) > 0)
            .find_map(|larger| self.memory.alloc(&mut local.magazines, larger))
    }

    /// Unlinks the item in `bucket` from the map. The caller must release the
    /// map's reference after unlocking.
    pub(in crate::store) fn unlink(
        &self,
        local: &Local,
        shard: &mut WriteShard<'_>,
        bucket: usize,
    ) {
        let item = shard.item(bucket);
        local.count_unlinked(item);
        item.word().unlink();
        shard.erase(bucket);
    }

    /// Drains the emptiest page of the class with the most free bytes and
    /// returns it to the pool. Skips `pinned_classes`. With `spare`, requires
    /// that the class has a page's worth of free chunks, so that the page's
    /// items fit elsewhere; without it, evicts items that do not fit. Returns
    /// false if no page ran empty. Then adds the class to `pinned_classes`, or
    /// clears the set if no class was left.
    pub(in crate::store) fn drain(
        &self,
        local: &mut Local,
        spare: bool,
        pinned_classes: &mut PinnedClasses,
    ) -> bool {
        let Some(draining) = self.memory.drain_emptiest(spare, *pinned_classes) else {
            *pinned_classes = PinnedClasses::default();
            return false;
        };
        // The thread's magazines may hold chunks of this page. No item may be
        // moved into such a chunk, nor a freed chunk remain in them.
        let class = draining.class();
        self.memory.flush_class(&mut local.magazines, class);
        for chunk in draining.chunks() {
            self.evacuate_chunk(local, chunk, !spare);
        }
        self.memory.flush_class(&mut local.magazines, class);
        if self.memory.finish_draining(&draining) {
            local.counters.pages_moved.add(1);
            return true;
        }
        pinned_classes.add(class);
        if !spare {
            self.memory.request_flush();
        }
        false
    }

    /// Moves the item or segment in a chunk of a draining page to another page
    /// of its class. If it cannot be moved, evicts it if `evict` is set.
    fn evacuate_chunk(&self, local: &mut Local, chunk: Chunk, evict: bool) {
        // SAFETY: a chunk of page memory.
        let word = unsafe { word_of(chunk) };
        let Some(pinned) = word.try_pin() else {
            return;
        };
        // SAFETY: pinned, so the page does not change its class.
        let class = unsafe { class_of(chunk) };
        let target = self.memory.alloc(&mut local.magazines, class);
        let leftover = match pinned {
            Pinned::Item => self.move_item(local, chunk, target, evict),
            Pinned::Segment => self.move_segment(local, chunk, target, evict),
        };
        if let Some(target) = leftover {
            // SAFETY: allocated above and unused.
            unsafe { self.memory.free(&mut local.magazines, target) };
        }
        if word.unpin() {
            // `free` would put the chunk into a magazine, and the page would
            // not run empty.
            //
            // SAFETY: this was the last reference. The chunk's segments, if
            // any, went to its copy.
            unsafe { self.free_drained(local, chunk, pinned) };
        }
    }

    /// Frees a chunk of a draining page whose last reference is gone.
    ///
    /// # Safety
    /// The caller took the chunk's word to 0.
    unsafe fn free_drained(&self, local: &mut Local, chunk: Chunk, pinned: Pinned) {
        if pinned == Pinned::Item {
            // SAFETY: no other thread holds the item.
            for segment in unsafe { Item::at(chunk) }.segments() {
                // SAFETY: the item owns a reference to each segment.
                if unsafe { word_of(segment) }.unpin() {
                    // SAFETY: this call took the segment's count to 0.
                    unsafe { self.memory.free(&mut local.magazines, segment) };
                }
            }
        }
        // SAFETY: guaranteed by the caller.
        unsafe { self.memory.free_to_page(chunk) };
    }

    /// Moves a pinned item to `target`, a free chunk of its class. If that is
    /// not possible, evicts the item if `evict` is set. Returns `target` if it
    /// was not used.
    fn move_item(
        &self,
        local: &mut Local,
        chunk: Chunk,
        target: Option<Chunk>,
        evict: bool,
    ) -> Option<Chunk> {
        // SAFETY: the caller has pinned the chunk.
        let item = unsafe { Item::at(chunk) };
        let hash = self.map.hash(item.key());
        let mut shard = self.map.write(hash);
        let Some(bucket) = shard.find_by(hash, |found| found.chunk() == chunk) else {
            return target;
        };
        // The segments of a chained item move to its new head, so no other
        // thread may be reading it.
        let movable = item.segments().next().is_none() || item.word().is_sole_except_caller();
        match target {
            Some(target) if movable => {
                let stamp = shard.slot(bucket).expect("just found").stamp();
                // SAFETY: the write lock is held; the target is free and of the
                // same class; the old head is detached before it is freed.
                unsafe {
                    item.copy_head_to(target);
                    item.detach_segments();
                    word_of(target).link();
                }
                shard.replace(bucket, target, stamp);
                item.word().unlink();
                drop(shard);
                local.counters.items_moved.add(1);
                let freed = item.word().unpin();
                debug_assert!(!freed, "the caller's pin remains");
                None
            }
            target => {
                if evict {
                    let (_, alive) = self.remove_victim(local, &mut shard, bucket, local.now);
                    drop(shard);
                    if alive {
                        local.counters.evicted_for_page.add(1);
                        local.report_evicted(item);
                    }
                    let freed = item.word().unpin();
                    debug_assert!(!freed, "the caller's pin remains");
                }
                target
            }
        }
    }

    /// Moves a pinned segment to `target`, a free chunk of its class. If that
    /// is not possible, evicts its item if `evict` is set. Returns `target` if
    /// it was not used.
    fn move_segment(
        &self,
        local: &mut Local,
        chunk: Chunk,
        target: Option<Chunk>,
        evict: bool,
    ) -> Option<Chunk> {
        // SAFETY: the caller has pinned the chunk.
        let hash = unsafe { segment_hash(chunk) };
        let mut shard = self.map.write(hash);
        let owns = |item: Item<'_>| item.segments().any(|segment| segment == chunk);
        let Some(bucket) = shard.find_by(hash, owns) else {
            return target;
        };
        let item = shard.item(bucket);
        match target {
            Some(target) if item.word().is_sole() => {
                // SAFETY: the write lock is held, no other thread reads the
                // item, and the target is free and of the same class.
                let replaced = unsafe { item.replace_segment(chunk, target) };
                debug_assert!(replaced, "found in the chain just now");
                local.counters.items_moved.add(1);
                // SAFETY: the item's reference to its old segment, which is
                // unlinked.
                let freed = unsafe { word_of(chunk) }.unpin();
                debug_assert!(!freed, "the caller's pin remains");
                None
            }
            target => {
                if evict {
                    let (head, alive) = self.remove_victim(local, &mut shard, bucket, local.now);
                    drop(shard);
                    if alive {
                        local.counters.evicted_for_page.add(1);
                        // SAFETY: this function owns the reference that was the
                        // map's.
                        local.report_evicted(unsafe { Item::at(head) });
                    }
                    self.release_chunk(local, head);
                }
                target
            }
        }
    }

    /// Gives up at most 16 pages if more are in use than the limit permits:
    /// drains pages and evicts items. Returns true if the limit is kept, or if
    /// nothing more can be evicted. With `-M`, only returns free pages to the
    /// system. Call it again until it returns true.
    pub fn shrink_to_limit(&self, local: &mut Local) -> bool {
        let pool = self.memory.pool();
        for _ in 0..SHRINK_PAGES_MAX {
            if !pool.over_limit(0) || !self.options.evict {
                pool.trim();
                return true;
            }
            self.memory.flush(&mut local.magazines);
            let (mut freed, mut pinned_classes) = (0, PinnedClasses::default());
            while freed < PAGE_BYTES && !self.drain(local, true, &mut pinned_classes) {
                match self.evict(local) {
                    Some(bytes) => freed += bytes.max(1),
                    None => return true,
                }
            }
            if freed >= PAGE_BYTES {
                self.memory.flush(&mut local.magazines);
                self.drain(local, false, &mut pinned_classes);
            }
        }
        !pool.over_limit(0)
    }

    /// Compacts memory if free chunks take much of it, as after a change of
    /// item sizes: drains pages, and returns free pages and heap memory to the
    /// system. Does at most 25 pages per call. Returns whether there was
    /// something to do.
    pub fn compact(&self, local: &mut Local) -> bool {
        let pool = self.memory.pool();
        let mut pinned_classes = PinnedClasses::default();
        let mut emptied = 0;
        while emptied < COMPACT_PAGES_MAX {
            let used = pool.pages_in_use() * PAGE_BYTES;
            let slack = self.memory.free_bytes();
            if slack <= used / SLACK_PART + SLACK_BYTES
                || !self.drain(local, true, &mut pinned_classes)
            {
                break;
            }
            emptied += 1;
        }
        let released = pool.release_idle(COMPACT_PAGES_MAX);
        pool.trim_heap();
        emptied > 0 || released
    }

    /// Removes the dead items of shard number `index`, a few buckets under each
    /// lock, and shrinks its table if it is sparse.
    pub fn sweep_shard(&self, local: &mut Local, index: usize, now: Now) -> Swept {
        self.sweep_shard_with(local, index, now, |_| ())
    }

    /// Sweeps a shard as [`Store::sweep_shard`] does, and calls `visit` with
    /// each live item, under the shard's lock.
    pub fn sweep_shard_with(
        &self,
        local: &mut Local,
        index: usize,
        now: Now,
        mut visit: impl FnMut(Item<'_>),
    ) -> Swept {
        let mut sweep = ShardSweep::new(index);
        while self.sweep_part(local, &mut sweep, now, &mut visit) {}
        sweep.swept
    }

    /// Continues a sweep under one lock: removes the dead items of some buckets
    /// and frees them after unlocking. At the end of the shard, shrinks its
    /// table under the lock and returns false.
    pub(in crate::store) fn sweep_part(
        &self,
        local: &mut Local,
        sweep: &mut ShardSweep,
        now: Now,
        visit: &mut impl FnMut(Item<'_>),
    ) -> bool {
        let mut dead = Vec::new();
        let mut shard = self.map.write_at(sweep.shard);
        let buckets = shard.buckets();
        let part = sweep.next_part(self.map.rebuild_count(sweep.shard));
        if part.start >= buckets {
            let shrunk = shard.shrink();
            drop(shard);
            self.memory.pool().sub_overhead(shrunk);
            return false;
        }
        for bucket in part.start..buckets.min(part.end) {
            if shard.slot(bucket).is_none() {
                continue;
            }
            sweep.swept.looked += 1;
            let item = shard.item(bucket);
            sweep.swept.expirable += usize::from(item.expiry() != Expiry::NEVER);
            let class = local.classes.of(item.class());
            class.crawler_items_checked.add(1);
            local.counters.crawler_items_checked.add(1);
            let Some(miss) = self.miss_reason(item, now) else {
                self.oldest.record(item, now);
                visit(item);
                continue;
            };
            class.crawler_reclaimed.add(1);
            local.counters.crawler_reclaimed.add(1);
            if miss == Miss::Expired {
                count_unfetched(local, item);
            }
            dead.push(item.chunk());
            self.unlink(local, &mut shard, bucket);
        }
        drop(shard);
        for chunk in dead {
            self.release_chunk(local, chunk);
        }
        true
    }

    /// Drains a page of `class`, evicting items that do not fit
    /// elsewhere. Returns false if the class has only one page or no page ran
    /// empty.
    pub fn give_up_page(&self, local: &mut Local, class: ClassId) -> bool {
        if self.class_memory(class).pages < 2 {
            return false;
        }
        let mut others = PinnedClasses::default();
        (0..CLASSES)
            .filter(|other| *other != class.index())
            .for_each(|other| others.add(other));
        self.drain(local, false, &mut others)
    }

    /// Returns the number of shards, for [`Store::sweep_shard`].
    pub fn shard_count(&self) -> usize {
        self.map.shard_count()
    }

    /// Returns the current generation, to be passed to [`Store::end_sweep`] after a
    /// sweep of all shards that begins now.
    pub fn flush_generation(&self) -> u64 {
        self.flush.generation.load(Ordering::Relaxed)
    }

    /// Records that no item of a generation before `generation` is left. Items
    /// linked since [`Store::flush_generation`] are not older: they are stamped
    /// under the locks that the sweep takes.
    pub fn end_sweep(&self, generation: u64) {
        // Release pairs with the Acquire in `flush_all`: accesses to the
        // removed items came before.
        self.flush.oldest.fetch_max(generation, Ordering::Release);
        self.oldest.end_sweep();
    }

    /// Sweeps all shards in the calling thread.
    pub(crate) fn sweep_all(&self, local: &mut Local) {
        let begun = self.flush_generation();
        for index in 0..self.map.shard_count() {
            self.sweep_shard(local, index, local.now);
        }
        self.end_sweep(begun);
    }
}
