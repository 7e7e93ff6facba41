//! Getting memory back: evicting what is worth least, moving items so that
//! pages run empty, and sweeping out what is dead.

use std::ops::Range;

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

/// Pages that one allocation may force empty.
const FORCED_PAGES_MAX: usize = 256;
/// A chunk may be larger than asked for by this part of it, if it lies free.
const LARGER_BY_PART: usize = 8;
/// Pages given up at a time after the index grew or the limit was lowered.
const SHRINK_PAGES_MAX: usize = 16;
/// Pages emptied in one step of making memory compact.
const COMPACT_PAGES_MAX: usize = 25;
/// Free chunks may take this part of the memory in use,
const SLACK_PART: usize = 24;
/// and so many bytes besides, before it is made compact.
const SLACK_BYTES: usize = 2 << 20;
/// Buckets that a sweep looks at under one lock.
const SWEEP_BUCKETS: usize = 256;

/// Times that a shard's sweep begins anew before it keeps the lock.
const SWEEP_RESTARTS_MAX: usize = 3;

/// What a sweep has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Items looked at.
    pub looked: usize,
    /// Of these, items that end some time, or have ended.
    pub expirable: usize,
}

/// No table has so many buckets.
const ALL_SEEN: usize = usize::MAX;

/// How far the sweep of one shard has come.
pub(in crate::store) struct ShardSweep {
    shard: usize,
    /// The next bucket to look at; [`ALL_SEEN`] after a look at all at once.
    next: usize,
    /// How often the table had been rebuilt then.
    rebuilt: usize,
    /// How often it began anew.
    restarts: usize,
    swept: Swept,
}

impl ShardSweep {
    pub(in crate::store) fn new(shard: usize) -> Self {
        Self {
            shard,
            next: 0,
            rebuilt: 0,
            restarts: 0,
            swept: Swept::default(),
        }
    }

    /// The buckets to look at now. If the table was rebuilt meanwhile, items
    /// not seen yet may be where the sweep has been: then it begins anew and,
    /// if that goes on, takes all buckets under one lock.
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
    /// Takes a chunk, evicting and moving items for it if need be.
    #[inline]
    pub(crate) fn alloc(&self, local: &mut Local, class: usize) -> Result<Chunk, NoMemory> {
        match self.memory.alloc(&mut local.magazines, class) {
            Some(chunk) => Ok(chunk),
            None => self.alloc_short(local, class),
        }
    }

    #[cold]
    fn alloc_short(&self, local: &mut Local, class: usize) -> Result<Chunk, NoMemory> {
        let chunk = self.alloc_at_limit(local, class);
        let counters = local.classes.of(class as u8 + 1);
        local.counters.direct_reclaims.add(1);
        counters.direct_reclaims.add(1);
        if chunk.is_none() {
            counters.outofmemory.add(1);
        }
        chunk.ok_or(NoMemory)
    }

    #[cold]
    fn alloc_at_limit(&self, local: &mut Local, class: usize) -> Option<Chunk> {
        let mut pinned_classes = PinnedClasses::default();
        if !self.options.evict {
            self.drain(local, true, &mut pinned_classes);
            return self.memory.alloc(&mut local.magazines, class);
        }
        // After the limit was lowered, it takes a while until it is kept.
        // Nobody is refused meanwhile: more goes than comes.
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
        // What lies idle elsewhere comes before what is live.
        let chunk = self.alloc_idle(local, class, &mut pinned_classes);
        if chunk.is_some() {
            return chunk;
        }
        // Evicting goes by worth, wherever the memory lies. Either it hits
        // this class, or some class ends up with a page to spare.
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
        // What was freed is spread too thin: empty pages by force. One that
        // holds an item in the making stays as it is.
        self.let_all_go(local);
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

    /// Takes a chunk that lies idle: of the class, of one that is a little
    /// larger, or of a page that another class can spare.
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

    /// Takes a chunk that is a little larger than need be, where one lies
    /// free: better part of it idle than all of it.
    fn alloc_larger(&self, local: &mut Local, class: usize) -> Option<Chunk> {
        let most = chunk_bytes(class) + chunk_bytes(class) / LARGER_BY_PART;
        let larger = (class + 1..CLASSES).take_while(|&larger| chunk_bytes(larger) <= most);
        larger
            .filter(|&larger| self.memory.free_chunks_of(larger) > 0)
            .find_map(|larger| self.memory.alloc(&mut local.magazines, larger))
    }

    /// Takes the item in `bucket` out of the map; the caller must give its
    /// chunk back after unlocking.
    pub(in crate::store) fn unlink(
        &self,
        local: &Local,
        shard: &mut WriteShard<'_>,
        bucket: usize,
    ) {
        let item = shard.item(bucket);
        local.count_out(item);
        item.word().unlink();
        shard.erase(bucket);
    }

    /// Counts an item that is found dead in passing, and removed.
    pub(crate) fn count_reclaimed(&self, local: &Local, item: Item<'_>, miss: Miss) {
        if miss == Miss::Expired {
            local.counters.reclaimed.add(1);
            local.classes.of(item.class()).reclaimed.add(1);
            count_unfetched(local, item);
        }
    }

    /// Counts a dead item that a new one takes the place of. memcached
    /// without its maintainer reclaims such an item as it looks for memory, so
    /// that the command does not meet it any more.
    #[cold]
    pub(crate) fn count_overwritten(&self, local: &Local, miss: Miss, class: u8, fetched: bool) {
        if !self.reclaims_first.load(Ordering::Relaxed) {
            return;
        }
        local.counters.met(miss).sub(1);
        local.counters.reclaimed.add(1);
        local.classes.of(class).reclaimed.add(1);
        if !fetched {
            local.counters.expired_unfetched.add(1);
            local.classes.of(class).expired_unfetched.add(1);
        }
    }

    /// Counts as memcached does without its maintainer: a dead item that is
    /// overwritten was reclaimed.
    pub fn reclaim_before_storing(&self) {
        self.reclaims_first.store(true, Ordering::Relaxed);
    }

    /// Empties the page that costs least and gives it back to the pool. With
    /// `spare`, only where its items fit elsewhere; else those that do not
    /// are evicted. False if no page ran empty.
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
        // Chunks of the page may be in our own magazine: nothing must be
        // moved there, nor what is freed stay there.
        let class = draining.class();
        self.memory.flush_class(&mut local.magazines, class);
        for chunk in draining.chunks() {
            self.vacate(local, chunk, !spare);
        }
        self.memory.flush_class(&mut local.magazines, class);
        if self.memory.finish_draining(&draining) {
            local.counters.pages_moved.add(1);
            return true;
        }
        pinned_classes.add(class);
        if !spare {
            self.memory.recall();
        }
        false
    }

    /// Moves what lies in a chunk of a draining page elsewhere in its class.
    fn vacate(&self, local: &mut Local, chunk: Chunk, evict: bool) {
        // SAFETY: a chunk of page memory.
        let word = unsafe { word_of(chunk) };
        let Some(pinned) = word.try_pin() else {
            return;
        };
        // SAFETY: pinned, so the page does not change hands.
        let class = unsafe { class_of(chunk) };
        let target = self.memory.alloc(&mut local.magazines, class);
        let leftover = match pinned {
            Pinned::Item => self.move_item(local, chunk, target, evict),
            Pinned::Segment => self.move_segment(local, chunk, target, evict),
        };
        if let Some(target) = leftover {
            // SAFETY: allocated above and not used.
            unsafe { self.memory.free(&mut local.magazines, target) };
        }
        if word.unpin() {
            // The magazine would keep it in the page that is to run empty.
            // SAFETY: ours was the last reference. The chunk's segments, if
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
            // SAFETY: the item is ours alone.
            for segment in unsafe { Item::at(chunk) }.segments() {
                // SAFETY: each segment has its owner's reference.
                if unsafe { word_of(segment) }.unpin() {
                    // SAFETY: as above.
                    unsafe { self.memory.free(&mut local.magazines, segment) };
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.memory.free_to_page(chunk) };
    }

    /// Moves a pinned item to `target`, or evicts it. Returns the target if
    /// it was not used.
    fn move_item(
        &self,
        local: &mut Local,
        chunk: Chunk,
        target: Option<Chunk>,
        evict: bool,
    ) -> Option<Chunk> {
        // SAFETY: pinned by the caller.
        let item = unsafe { Item::at(chunk) };
        let hash = self.map.hash(item.key());
        let mut shard = self.map.write(hash);
        let Some(bucket) = shard.find_by(hash, |found| found.chunk() == chunk) else {
            return target;
        };
        // The segments of a large item go with its head, so nobody else may
        // be reading it.
        let movable = item.segments().next().is_none() || item.word().is_sole_but_one();
        match target {
            Some(target) if movable => {
                let stamp = shard.slot(bucket).expect("just found").stamp();
                // SAFETY: write lock held; the target is free and of the
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
                    local.count_evicted(item);
                    self.unlink(local, &mut shard, bucket);
                    drop(shard);
                    local.tell_evicted(item);
                    let freed = item.word().unpin();
                    debug_assert!(!freed, "the caller's pin remains");
                }
                target
            }
        }
    }

    /// As [`Store::move_item`], for a segment of a large item.
    fn move_segment(
        &self,
        local: &mut Local,
        chunk: Chunk,
        target: Option<Chunk>,
        evict: bool,
    ) -> Option<Chunk> {
        // SAFETY: pinned by the caller.
        let hash = unsafe { segment_hash(chunk) };
        let mut shard = self.map.write(hash);
        let owns = |item: Item<'_>| item.segments().any(|segment| segment == chunk);
        let Some(bucket) = shard.find_by(hash, owns) else {
            return target;
        };
        let item = shard.item(bucket);
        match target {
            Some(target) if item.word().is_sole() => {
                // SAFETY: write lock held, nobody reads the item, the target
                // is free and of the same class.
                let replaced = unsafe { item.replace_segment(chunk, target) };
                debug_assert!(replaced, "found in the chain just now");
                local.counters.items_moved.add(1);
                // SAFETY: the item's reference to its old segment.
                let freed = unsafe { word_of(chunk) }.unpin();
                debug_assert!(!freed, "the caller's pin remains");
                None
            }
            target => {
                if evict {
                    let head = item.chunk();
                    local.count_evicted(item);
                    self.unlink(local, &mut shard, bucket);
                    drop(shard);
                    // SAFETY: the reference that was the map's is ours now.
                    local.tell_evicted(unsafe { Item::at(head) });
                    self.release_chunk(local, head);
                }
                target
            }
        }
    }

    /// Gives up some pages if more are in use than the limit permits. True
    /// if the limit is kept now, or nothing more can be given up.
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

    /// Empties some pages if much of the memory in use is free chunks, as when
    /// the sizes of items have changed, and gives them back to the system.
    /// True if there was something to do.
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

    /// Removes the dead items of one shard, a few buckets under each lock.
    pub fn sweep_shard(&self, local: &mut Local, index: usize, now: Now) -> Swept {
        let mut sweep = ShardSweep::new(index);
        while self.sweep_part(local, &mut sweep, now) {}
        sweep.swept
    }

    /// Goes on with a sweep for as long as one lock is held. False if it was
    /// at its end.
    pub(in crate::store) fn sweep_part(
        &self,
        local: &mut Local,
        sweep: &mut ShardSweep,
        now: Now,
    ) -> bool {
        let mut dead = Vec::new();
        let mut shard = self.map.write_at(sweep.shard);
        let buckets = shard.buckets();
        let part = sweep.next_part(self.map.rebuilt(sweep.shard));
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
            let Some(miss) = self.dead(item, now) else {
                self.oldest.note(item, now);
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

    /// Empties a page of class number `id`, evicting what does not fit
    /// elsewhere. False if that class has no page to spare.
    pub fn give_up_page(&self, local: &mut Local, id: u8) -> bool {
        if self.class_memory(id).pages < 2 {
            return false;
        }
        let mut others = PinnedClasses::default();
        let class = usize::from(id) - 1;
        (0..CLASSES)
            .filter(|other| *other != class)
            .for_each(|other| others.add(other));
        self.drain(local, false, &mut others)
    }

    /// Parts that [`Store::sweep_shard`] counts.
    pub fn shard_count(&self) -> usize {
        self.map.shard_count()
    }

    /// The generation now, to be given to [`Store::swept`] after a sweep of
    /// all shards that began now.
    pub fn sweep_begins(&self) -> u64 {
        self.flush.generation.load(Ordering::Relaxed)
    }

    /// Notes that no item from before `generation` is left. Those linked since
    /// [`Store::sweep_begins`] are not from before it: they are stamped under
    /// the locks that the sweep takes.
    pub fn swept(&self, generation: u64) {
        // Release: what was seen of the items that are gone came before.
        self.flush.oldest.fetch_max(generation, Ordering::Release);
        self.oldest.swept();
    }

    pub(crate) fn sweep_all(&self, local: &mut Local) {
        let begun = self.sweep_begins();
        for index in 0..self.map.shard_count() {
            self.sweep_shard(local, index, local.now);
        }
        self.swept(begun);
    }
}

/// Counts an item that ended before anybody fetched it.
fn count_unfetched(local: &Local, item: Item<'_>) {
    if !item.is_fetched() {
        local.counters.expired_unfetched.add(1);
        local.classes.of(item.class()).expired_unfetched.add(1);
    }
}
