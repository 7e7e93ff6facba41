//! Reclaiming of memory: the slow path of allocation, draining of pages by
//! moving or evicting their items, shrinking to the memory limit, and compaction.

use crate::limits::ClassId;
use crate::store::index::map::WriteShard;
use crate::store::item::chain::segment_hash;
use crate::store::item::layout::{Item, word_of};
use crate::store::item::refs::Pinned;
use crate::store::memory::arena::PinnedClasses;
use crate::store::memory::chunk::{Chunk, class_of};
use crate::store::memory::classes::{CLASSES, PAGE_BYTES, PIECE_MIN, chunk_bytes};
use crate::store::outcome::NoMemory;
use crate::store::state::{Local, Store};

/// Maximum number of pages that one allocation drains by force.
const FORCED_PAGES_MAX: usize = 256;
/// An allocation may take a free chunk that is larger by up to 1/8.
const LARGER_BY_PART: usize = 8;
/// Maximum number of pages given up per call after the index grew or the limit
/// was lowered.
const SHRINK_PAGES_MAX: usize = 16;
/// Maximum number of pages drained in one step of compaction.
const COMPACT_PAGES_MAX: usize = 25;
/// Compaction starts when free chunks exceed 1/40 of the pages' bytes,
const SLACK_PART: usize = 40;
/// plus this many bytes.
const SLACK_BYTES: usize = 2 << 20;
/// Maximum number of victims that one allocation evicts while none of them can
/// be freed, because other threads are reading. Then it waits for these threads.
pub(in crate::store) const EVICT_AHEAD_MAX: usize = 128;
/// Maximum bytes of such victims.
const EVICT_AHEAD_BYTES: usize = 32 << 10;

/// Chunks of a draining page that are pinned and prefetched ahead.
const EVACUATE_AHEAD: usize = 8;

/// How a page is drained if its items may not fit elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum DrainMode {
    /// Drains only a page of a class that has a page's worth of free chunks, so
    /// that the items fit elsewhere. Evicts nothing.
    Spare,
    /// Drains a page of any class. Evicts the items that do not fit elsewhere.
    Forced,
}

/// A chunk that a drain has pinned.
struct PinnedChunk {
    chunk: Chunk,
    kind: Pinned,
    /// Hash of the item's key.
    hash: u64,
}

impl Store {
    /// Allocates a chunk of size class `class`. Drains pages and evicts items
    /// if necessary. Takes shard locks: the caller must hold none.
    ///
    /// # Errors
    /// The limit is reached, and nothing (more) may be evicted.
    #[inline]
    pub(crate) fn alloc(&self, local: &mut Local, class: usize) -> Result<Chunk, NoMemory> {
        if local.limbo.is_full() {
            self.wait_for_readers(local);
        }
        match self.memory.alloc(&mut local.magazines, class) {
            Some(chunk) => Ok(chunk),
            None => self.alloc_short(local, class),
        }
    }

    /// Allocates a chunk at the memory limit and counts the direct reclaim.
    #[cold]
    fn alloc_short(&self, local: &mut Local, class: usize) -> Result<Chunk, NoMemory> {
        if self.free_retired(local)
            && let Some(chunk) = self.memory.alloc(&mut local.magazines, class)
        {
            return Ok(chunk);
        }
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
            self.drain(local, DrainMode::Spare, &mut pinned_classes);
            let chunk = self.memory.alloc(&mut local.magazines, class);
            if chunk.is_some() || !self.has_retired(local) {
                return chunk;
            }
            self.wait_for_readers(local);
            return self.alloc_idle(local, class, &mut PinnedClasses::default());
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
        let (mut ahead, mut ahead_bytes) = (0, 0);
        while freed < chunk_bytes(class) + 2 * PAGE_BYTES {
            let Some(bytes) = self.evict(local) else {
                break;
            };
            (ahead, ahead_bytes) = (ahead + 1, ahead_bytes + bytes);
            if !self.free_retired(local) && !local.limbo.is_empty() {
                if ahead < EVICT_AHEAD_MAX && ahead_bytes < EVICT_AHEAD_BYTES {
                    continue;
                }
                self.wait_for_readers(local);
            }
            freed += std::mem::take(&mut ahead_bytes);
            ahead = 0;
            let chunk = self.alloc_idle(local, class, &mut pinned_classes);
            if chunk.is_some() {
                return chunk;
            }
        }
        // The freed chunks are spread over too many pages: drain pages by
        // force. A page with an unfinished item cannot be emptied.
        self.wait_for_readers(local);
        for _ in 0..FORCED_PAGES_MAX {
            self.memory.flush(&mut local.magazines);
            let emptied = self.drain(local, DrainMode::Forced, &mut pinned_classes);
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
        if chunk.is_some() || !self.drain(local, DrainMode::Spare, pinned_classes) {
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
        self.count_unlinked(local, shard.index(), item);
        item.word().unlink();
        shard.erase(bucket);
    }

    /// Drains the emptiest page of the class with the most free bytes and
    /// returns it to the pool. Skips `pinned_classes`. Returns false if no page ran
    /// empty. Then adds the class to `pinned_classes`, or clears the set if no
    /// class was left.
    pub(in crate::store) fn drain(
        &self,
        local: &mut Local,
        mode: DrainMode,
        pinned_classes: &mut PinnedClasses,
    ) -> bool {
        let spare = mode == DrainMode::Spare;
        self.free_retired(local);
        let Some(draining) = self.memory.drain_emptiest(spare, *pinned_classes) else {
            *pinned_classes = PinnedClasses::default();
            return false;
        };
        // The thread's magazines may hold chunks of this page. No item may be
        // moved into such a chunk, nor a freed chunk remain in them.
        let class = draining.class();
        self.memory.flush_class(&mut local.magazines, class);
        let mut vacated = Vec::new();
        // A head and its segment may lie in one page of large chunks. If the head
        // were pinned meanwhile, the segment could not be moved.
        let may_pin_ahead = chunk_bytes(class) < PIECE_MIN;
        let (mut waiting, mut next) = ([const { None }; EVACUATE_AHEAD], 0);
        let end = std::iter::repeat_n(None, EVACUATE_AHEAD);
        for chunk in draining.chunks().map(Some).chain(end) {
            let mut ready = chunk.and_then(|chunk| self.pin_in_page(chunk));
            if may_pin_ahead {
                std::mem::swap(&mut waiting[next], &mut ready);
                next = (next + 1) % EVACUATE_AHEAD;
            }
            if let Some(ready) = ready {
                self.evacuate_chunk(local, &ready, mode, &mut vacated);
            }
        }
        self.free_vacated(local, vacated);
        self.memory.flush_class(&mut local.magazines, class);
        if self.memory.finish_draining(&draining) {
            local.counters.pages_moved.add(1);
            return true;
        }
        pinned_classes.add(class);
        if mode == DrainMode::Forced {
            self.memory.request_flush();
        }
        false
    }

    /// Pins a chunk of a draining page if it is in use, and prefetches its place in
    /// the index.
    fn pin_in_page(&self, chunk: Chunk) -> Option<PinnedChunk> {
        // SAFETY: a chunk of page memory.
        let kind = unsafe { word_of(chunk) }.try_pin()?;
        let hash = match kind {
            // SAFETY: pinned just now.
            Pinned::Item => self.map.hash(unsafe { Item::at(chunk) }.key()),
            // SAFETY: as above.
            Pinned::Segment => unsafe { segment_hash(chunk) },
        };
        self.map.prefetch_lock(hash);
        self.map.prefetch_slot(hash);
        Some(PinnedChunk { chunk, kind, hash })
    }

    /// Moves a pinned item or segment of a draining page to another page of its
    /// class. If it cannot be moved, evicts it if `mode` is forced. Releases the
    /// pin. Adds the chunk of an item to `vacated` if it must be freed.
    fn evacuate_chunk(
        &self,
        local: &mut Local,
        pinned: &PinnedChunk,
        mode: DrainMode,
        vacated: &mut Vec<Chunk>,
    ) {
        let chunk = pinned.chunk;
        // SAFETY: a chunk of page memory.
        let word = unsafe { word_of(chunk) };
        // SAFETY: pinned, so the page does not change its class.
        let class = unsafe { class_of(chunk) };
        let target = self.memory.alloc(&mut local.magazines, class);
        let leftover = match pinned.kind {
            Pinned::Item => self.move_item(local, pinned, target, mode),
            Pinned::Segment => self.move_segment(local, pinned, target, mode),
        };
        if let Some(target) = leftover {
            // SAFETY: allocated above and unused.
            unsafe { self.memory.free(&mut local.magazines, target) };
        }
        match pinned.kind {
            Pinned::Item => {
                if word.release() {
                    // SAFETY: the last reference. The segments of an item that
                    // was moved went to its copy.
                    unsafe { self.free_segments(local, chunk) };
                    vacated.push(chunk);
                }
            }
            Pinned::Segment => {
                if word.unpin() {
                    // `free` would put the chunk into a magazine, and the page
                    // would not run empty.
                    //
                    // SAFETY: this was the last reference. Nobody reads segments
                    // without one.
                    unsafe { self.memory.free_to_page(chunk) };
                }
            }
        }
    }

    /// Waits until no thread reads the items that were in a page, and frees their
    /// chunks.
    fn free_vacated(&self, local: &mut Local, vacated: Vec<Chunk>) {
        // Also frees chunks of the page that are in limbo.
        let unread = self.wait_for_readers(local);
        for chunk in vacated {
            if unread {
                // SAFETY: this function has the last reference, and no thread
                // reads the item any more.
                unsafe {
                    word_of(chunk).give_up();
                    self.memory.free_to_page(chunk);
                }
            } else {
                // SAFETY: this function has the last reference.
                unsafe { self.retire_head(local, chunk) };
            }
        }
    }

    /// Moves a pinned item to `target`, a free chunk of its class. If that is
    /// not possible, evicts the item if `mode` is forced. Returns `target` if it
    /// was not used.
    fn move_item(
        &self,
        local: &mut Local,
        &PinnedChunk { chunk, hash, .. }: &PinnedChunk,
        target: Option<Chunk>,
        mode: DrainMode,
    ) -> Option<Chunk> {
        // SAFETY: pinned.
        let item = unsafe { Item::at(chunk) };
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
                if mode == DrainMode::Forced {
                    let victim = self.remove_victim(local, &mut shard, bucket, local.now);
                    drop(shard);
                    if victim.is_alive {
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
    /// is not possible, evicts its item if `mode` is forced. Returns `target` if
    /// it was not used.
    fn move_segment(
        &self,
        local: &mut Local,
        &PinnedChunk { chunk, hash, .. }: &PinnedChunk,
        target: Option<Chunk>,
        mode: DrainMode,
    ) -> Option<Chunk> {
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
                if mode == DrainMode::Forced {
                    let victim = self.remove_victim(local, &mut shard, bucket, local.now);
                    drop(shard);
                    if victim.is_alive {
                        local.counters.evicted_for_page.add(1);
                        // SAFETY: this function owns the reference that was the
                        // map's.
                        local.report_evicted(unsafe { Item::at(victim.head) });
                    }
                    self.release_chunk(local, victim.head);
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
            while freed < PAGE_BYTES && !self.drain(local, DrainMode::Spare, &mut pinned_classes) {
                match self.evict(local) {
                    Some(bytes) => freed += bytes.max(1),
                    None => return true,
                }
            }
            if freed >= PAGE_BYTES {
                self.memory.flush(&mut local.magazines);
                self.drain(local, DrainMode::Forced, &mut pinned_classes);
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
                || !self.drain(local, DrainMode::Spare, &mut pinned_classes)
            {
                break;
            }
            emptied += 1;
        }
        let released = pool.release_idle(COMPACT_PAGES_MAX);
        pool.trim_heap();
        emptied > 0 || released
    }

    /// Drains a page of `class`, evicting items that do not fit elsewhere.
    /// Returns false if the class has only one page or no page ran empty.
    pub fn give_up_page(&self, local: &mut Local, class: ClassId) -> bool {
        if self.class_memory(class).pages < 2 {
            return false;
        }
        let mut others = PinnedClasses::default();
        (0..CLASSES)
            .filter(|other| *other != class.index())
            .for_each(|other| others.add(other));
        self.drain(local, DrainMode::Forced, &mut others)
    }
}
