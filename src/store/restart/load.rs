//! Loading of a memory file. Several threads verify the pages and link their
//! items. Nothing in a page is trusted: its checksum shows damage, and every
//! length and address is checked before it is used.
//!
//! 1. Each page is verified and its items in one chunk are linked. A page with
//!    nothing else is complete.
//! 2. Once all pages are verified, chained items are linked. Each claims its
//!    segments, so that no two items share one.
//! 3. The other pages are completed: chunks that no item uses are free.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::ArrayVec;

use crate::events::Hub;
use crate::stats::{Dropped, Registry, Restored};
use crate::store::evict::policy::Stamp;
use crate::store::index::map::{Hashed, WriteShard};
use crate::store::index::prefetch::prefetch;
use crate::store::item::layout::{Item, word_of};
use crate::store::item::refs::Sealed;
use crate::store::memory::arena::Memory;
use crate::store::memory::chunk::{Chunk, chunk_at};
use crate::store::memory::classes::{PAGE_BYTES, PAGE_HEADER_BYTES, chunk_bytes};
use crate::store::memory::file::DATA_OFFSET;
use crate::store::memory::pool::{EXTENT_BYTES, EXTENT_PAGES};
use crate::store::restart::format::PageRecord;
use crate::store::restart::image::{Image, Opened, begin_use};
use crate::store::restart::parallel::{Parallel, Turns, chunks_crc};
use crate::store::restart::report::EmptyReason;
use crate::store::state::{Local, Options, Store};
use crate::sync::{AtomicBool, Ordering};
use crate::time::Now;

/// Pages that a thread loads in one turn. Their items are linked shard by shard,
/// so that threads seldom meet at a lock, and several items of a turn go to each
/// table.
const PAGES_PER_TURN: usize = 64;
/// Pages that are read ahead: those of a turn and of the next three.
const PAGES_READ_AHEAD: usize = 4 * PAGES_PER_TURN;
/// Shards whose tables a thread enlarges in one turn.
const SHARDS_PER_TURN: usize = 8;
/// Distance in items of the prefetches ahead of linking.
const LINK_AHEAD: usize = 16;

impl Store {
    /// Creates a store with the items of a memory file, or an empty one if there
    /// are none. `now` is the clock that [`Opened::clock`] returned. Before an
    /// item is read, the file is marked unclean (`-e`) or removed (`saved` is its
    /// path): its items must not come back after a crash.
    ///
    /// Returns the store, and what was kept or the reason why it is empty.
    pub fn open(
        options: Options,
        stats: Arc<Registry>,
        events: Arc<Hub>,
        opened: Opened,
        saved: Option<&Path>,
        now: Now,
        parallel: Parallel<'_>,
    ) -> (Self, Result<Restored, EmptyReason>) {
        let Opened {
            image,
            arena,
            save_lock,
        } = opened;
        let in_file =
            |file| Self::with_file(options, Arc::clone(&stats), Arc::clone(&events), file);
        let (mut store, result) = match image {
            Ok(image) => {
                let store = in_file(arena);
                match store.load(&image, saved, now, parallel) {
                    Ok(restored) => (store, Ok(restored)),
                    Err(reason) => (in_file(None), Err(reason)),
                }
            }
            Err(reason) => {
                let arena = arena.filter(|file| begin_use(file.file(), 0).is_ok());
                (in_file(arena), Err(reason))
            }
        };
        store.save_lock = save_lock;
        (store, result)
    }

    /// Loads an image into this empty store.
    fn load(
        &self,
        image: &Image,
        saved: Option<&Path>,
        now: Now,
        parallel: Parallel<'_>,
    ) -> Result<Restored, EmptyReason> {
        image.begin_reading(saved)?;
        let superblock = &image.superblock;
        let addresses = if superblock.is_arena {
            begin_use(&image.file, superblock.extents * EXTENT_BYTES as u64)
                .map_err(EmptyReason::Unreadable)?;
            Some(self.map_arena(image)?)
        } else {
            None
        };
        // Items hold the low 8 bits. The rest starts again, so that it has no end.
        let generation = superblock.generation % (1 << u8::BITS);
        self.flush.generation.store(generation, Ordering::Relaxed);
        self.flush.oldest.store(generation, Ordering::Relaxed);
        self.raise_cas(superblock.cas);
        self.invalidations.set_seed(superblock.name_seed);
        self.policy.resume(superblock.progress, now.millis());
        let pages = image.records.iter().enumerate();
        let pages = pages.map(|(number, record)| LoadingPage {
            record,
            page: Mutex::new(addresses.as_ref().and_then(|addresses| addresses[number])),
            verified: AtomicBool::new(false),
        });
        let loader = Loader {
            store: self,
            image,
            now,
            pages: pages.collect(),
            later: Mutex::default(),
            dropped: Mutex::default(),
        };
        loader.run(parallel);
        if image.is_memory {
            // Another process may have it for some time yet. What remains says that
            // it was used.
            let _ = image.file.set_len(DATA_OFFSET);
        }
        let mut dropped = loader
            .dropped
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let loaded = self.stats.snapshot().items;
        self.survey();
        let mut local = self.local();
        local.now = now;
        while !self.shrink_to_limit(&mut local) {}
        self.memory.flush(&mut local.magazines);
        let kept = self.stats.snapshot().items;
        dropped.over_limit += loaded - kept;
        Ok(Restored {
            kept,
            dropped,
            away: image.away,
        })
    }

    /// Maps the extents of a file. Returns the addresses of the recorded pages;
    /// `None` for a page without room in the file system.
    fn map_arena(&self, image: &Image) -> Result<Vec<Option<Page>>, EmptyReason> {
        let place = |record: &PageRecord| (record.offset - DATA_OFFSET) as usize / PAGE_BYTES;
        let mut used = vec![false; image.superblock.extents as usize * EXTENT_PAGES];
        for record in &image.records {
            used[place(record)] = true;
        }
        let bases = self
            .memory
            .pool()
            .map_existing(&mut used)
            .map_err(EmptyReason::Unreadable)?;
        let address = |record| {
            let place = place(record);
            // SAFETY: the page lies inside the extent.
            let page =
                unsafe { bases[place / EXTENT_PAGES].add(place % EXTENT_PAGES * PAGE_BYTES) };
            used[place].then_some(Page(page))
        };
        Ok(image.records.iter().map(address).collect())
    }
}

/// Address of a page that is being loaded.
#[derive(Clone, Copy)]
struct Page(NonNull<u8>);

// SAFETY: only the thread that loads a page accesses it, apart from segments,
// which their claimer accesses.
unsafe impl Send for Page {}

/// A page of the file.
struct LoadingPage<'a> {
    record: &'a PageRecord,
    /// Its address; `None` while it is not in memory.
    page: Mutex<Option<Page>>,
    /// Its checksum is right, its header is written, and it may have segments.
    verified: AtomicBool,
}

impl LoadingPage<'_> {
    fn class(&self) -> usize {
        self.record.class.into()
    }

    fn bump(&self) -> usize {
        self.record.bump.into()
    }

    fn page(&self) -> Option<Page> {
        *self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Loader<'a> {
    store: &'a Store,
    image: &'a Image,
    now: Now,
    pages: Vec<LoadingPage<'a>>,
    /// Numbers of the verified pages with segments or chained items.
    later: Mutex<Vec<usize>>,
    dropped: Mutex<Dropped>,
}

impl Loader<'_> {
    fn run(&self, parallel: Parallel<'_>) {
        self.enlarge_tables(parallel);
        let turns = Turns::new(self.pages.len(), PAGES_PER_TURN);
        parallel(&|| {
            let mut thread = LoaderThread::new(self);
            while let Some(numbers) = turns.next() {
                self.image.read_ahead(numbers.start, PAGES_READ_AHEAD);
                numbers.for_each(|number| thread.load_page(number));
                thread.end_turn();
            }
            thread.end();
        });
        let later = std::mem::take(&mut *self.later());
        let turns = Turns::new(later.len(), PAGES_PER_TURN);
        parallel(&|| {
            let mut thread = LoaderThread::new(self);
            while let Some(numbers) = turns.next() {
                for number in &later[numbers] {
                    thread.load_chained_of(&self.pages[*number]);
                }
            }
            thread.end();
        });
        let turns = Turns::new(later.len(), PAGES_PER_TURN);
        parallel(&|| {
            while let Some(numbers) = turns.next() {
                for number in &later[numbers] {
                    self.complete(&self.pages[*number]);
                }
            }
        });
    }

    /// Enlarges the tables for all items at once.
    fn enlarge_tables(&self, parallel: Parallel<'_>) {
        let map = &self.store.map;
        let mean = self.image.superblock.items as usize / map.shard_count();
        // Four standard deviations: no table grows later.
        let room = mean + 4 * mean.isqrt();
        // With a lower limit, most of the items will not stay.
        let room = match self.store.evicts() {
            true => room.min(self.store.memory_limit() / map.shard_count() / 32),
            false => room,
        };
        let turns = Turns::new(map.shard_count(), SHARDS_PER_TURN);
        parallel(&|| {
            while let Some(numbers) = turns.next() {
                for number in numbers {
                    let grown = map.write_at(number).reserve(room);
                    self.store.memory.pool().add_overhead(grown);
                }
            }
        });
    }

    fn later(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes a page: the chunks that no item uses are free.
    fn complete(&self, loading: &LoadingPage<'_>) {
        let Some(Page(page)) = loading.page() else {
            return;
        };
        let memory = &self.store.memory;
        // SAFETY: `begin_page` was called for it with this class. Nobody
        // accesses its free chunks.
        unsafe {
            memory.adopt_page(page, loading.class(), loading.bump(), |chunk| {
                word_of(chunk).end_loading()
            });
        }
    }

    /// Returns the segment that lay at `address` in the earlier process, and the
    /// bytes of its chunk. Claims it.
    fn claim(&self, address: u64) -> Option<(Chunk, usize)> {
        let offset = address % PAGE_BYTES as u64;
        let base = address - offset;
        let records = &self.image.records;
        let number = records
            .binary_search_by_key(&base, |record| record.address)
            .ok()?;
        let loading = &self.pages[number];
        // Acquire pairs with the Release in `verify`.
        if !loading.verified.load(Ordering::Acquire) {
            return None;
        }
        let bytes = chunk_bytes(loading.class());
        let offset = (offset as usize).checked_sub(PAGE_HEADER_BYTES)?;
        if offset % bytes != 0 || offset / bytes >= loading.bump() {
            return None;
        }
        let Page(page) = loading.page()?;
        // SAFETY: a chunk of this page.
        let chunk = unsafe { page.add(PAGE_HEADER_BYTES + offset) };
        // SAFETY: as above.
        unsafe { word_of(chunk) }
            .claim_segment()
            .then_some((chunk, bytes))
    }
}

/// One of the threads that load.
struct LoaderThread<'a> {
    loader: &'a Loader<'a>,
    local: Local,
    /// Pages of this thread for [`Loader::later`].
    later: Vec<usize>,
    dropped: Dropped,
    /// Items of the current turn that are to be linked.
    ready: Vec<Ready>,
    /// The same in the order of their shards.
    sorted: Vec<Ready>,
    /// By shard, the place in `sorted` behind its items.
    ends: Vec<usize>,
    /// Numbers of the turn's pages that are complete once these are linked.
    complete: ArrayVec<usize, PAGES_PER_TURN>,
}

/// An item that is to be linked.
#[derive(Clone, Copy)]
struct Ready {
    chunk: Chunk,
    hash: u64,
    stamp: u16,
}

impl<'a> LoaderThread<'a> {
    fn new(loader: &'a Loader<'a>) -> Self {
        let mut local = loader.store.local();
        local.now = loader.now;
        Self {
            loader,
            local,
            later: Vec::new(),
            dropped: Dropped::default(),
            ready: Vec::new(),
            sorted: Vec::new(),
            ends: Vec::new(),
            complete: ArrayVec::new(),
        }
    }

    /// Hands over what the thread leaves for later.
    fn end(mut self) {
        self.loader.later().append(&mut self.later);
        let sum = &self.loader.dropped;
        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.add(self.dropped);
    }

    /// Verifies page number `number` and collects its items in one chunk.
    fn load_page(&mut self, number: usize) {
        let loading = &self.loader.pages[number];
        let Some(page) = self.verify(loading) else {
            return;
        };
        let bytes = chunk_bytes(loading.class());
        let mut is_complete = true;
        for place in 0..loading.bump() {
            // SAFETY: a chunk of this page, which this thread loads.
            let chunk = unsafe { chunk_at(page, loading.class(), place) };
            // SAFETY: as above.
            let word = unsafe { word_of(chunk) };
            let stamp = match word.begin_loading() {
                Sealed::Item(stamp) => stamp,
                Sealed::Segment => {
                    is_complete = false;
                    continue;
                }
                Sealed::Neither => continue,
            };
            // SAFETY: nobody else has the item.
            let item = unsafe { Item::at(chunk) };
            // A later birth than any that was given would outlive invalidations.
            if !item.fits(bytes) || item.birth() > self.loader.image.superblock.cas {
                self.dropped.damaged += 1;
                word.give_up();
            } else if item.is_chained() {
                // Its word stays sealed until all pages are verified.
                is_complete = false;
            } else if self.is_wanted(item) {
                let hash = self.loader.store.map.hash(item.key());
                self.ready.push(Ready { chunk, hash, stamp });
            }
        }
        if is_complete {
            // No segment can be claimed there. If the page returns to the pool,
            // another page may be read to its address.
            loading.verified.store(false, Ordering::Relaxed);
            self.complete.push(number);
        } else {
            self.later.push(number);
        }
    }

    /// Links the items of the turn and completes its pages.
    fn end_turn(&mut self) {
        self.sort_ready();
        let map = &self.loader.store.map;
        let mut start = 0;
        for number in 0..self.ends.len() {
            let end = self.ends[number];
            if start == end {
                continue;
            }
            let mut shard = map.write_at(number);
            for place in start..end {
                if let Some(ahead) = self.sorted.get(place + LINK_AHEAD) {
                    map.prefetch_slot(ahead.hash);
                    prefetch(ahead.chunk.as_ptr());
                }
                self.link(&mut shard, self.sorted[place]);
            }
            start = end;
        }
        for number in self.complete.drain(..) {
            self.loader.complete(&self.loader.pages[number]);
        }
    }

    /// Sorts the items of the turn by shard, by counting.
    fn sort_ready(&mut self) {
        let map = &self.loader.store.map;
        self.ends.clear();
        self.ends.resize(map.shard_count(), 0);
        for ready in &self.ready {
            self.ends[map.shard_index(ready.hash)] += 1;
        }
        // From counts to the place before each shard's items.
        let mut sum = 0;
        for end in &mut self.ends {
            sum += std::mem::replace(end, sum);
        }
        self.sorted.clone_from(&self.ready);
        for ready in self.ready.drain(..) {
            let end = &mut self.ends[map.shard_index(ready.hash)];
            self.sorted[*end] = ready;
            *end += 1;
        }
    }

    /// Brings a page into memory and verifies its checksum. Returns its address;
    /// `None` if it is damaged, or there is no room for it. Counts its items then.
    /// With `-M`, the memory limit drops no page, as it evicts no item of `-e`.
    fn verify(&mut self, loading: &LoadingPage<'_>) -> Option<NonNull<u8>> {
        let record = loading.record;
        let items = u64::from(record.items);
        let pool = self.loader.store.memory.pool();
        let mut place = loading.page.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_read = true;
        if place.is_none() {
            let taken = if self.loader.image.superblock.is_arena {
                None
            } else if self.loader.store.evicts() {
                pool.take()
            } else {
                pool.take_beyond_limit()
            };
            let Some(page) = taken else {
                self.dropped.over_limit += items;
                return None;
            };
            *place = Some(Page(page));
            // SAFETY: the page is this thread's. Its memory was zeroed by the
            // system or written before.
            let bytes = unsafe { std::slice::from_raw_parts_mut(page.as_ptr(), PAGE_BYTES) };
            is_read = self
                .loader
                .image
                .file
                .read_exact_at(bytes, record.offset)
                .is_ok();
            self.loader.image.release(record);
        }
        let Page(page) = (*place)?;
        if !is_read || chunks_crc(page, loading.class(), loading.bump()) != record.crc {
            self.dropped.damaged += items;
            *place = None;
            pool.give_back(page);
            return None;
        }
        // SAFETY: this thread alone accesses the page until it is verified.
        unsafe { Memory::begin_page(page, loading.class()) };
        loading.verified.store(true, Ordering::Release);
        Some(page)
    }

    /// Returns whether an item is alive. Counts it if it is not.
    fn is_wanted(&mut self, item: Item<'_>) -> bool {
        if item.generation() != self.loader.store.generation() {
            self.dropped.flushed += 1;
            return false;
        }
        if item.expiry().is_over(self.loader.now) {
            self.dropped.expired += 1;
            return false;
        }
        true
    }

    /// Links an item in its shard, unless its key is linked already. Returns
    /// whether it did.
    fn link(&mut self, shard: &mut WriteShard<'_>, ready: Ready) -> bool {
        let Ready { chunk, hash, stamp } = ready;
        // SAFETY: this thread alone has the item.
        let item = unsafe { Item::at(chunk) };
        let key = Hashed {
            key: item.key(),
            hash,
        };
        if shard.find(&key).is_some() {
            self.dropped.damaged += 1;
            return false;
        }
        item.word().unseal();
        let store = &self.loader.store;
        let marks = store.count_linked(&self.local, shard.index(), item);
        let stamp = store.policy.adopt(Stamp(stamp));
        let (bucket, grown) = shard.insert(hash, chunk, stamp);
        shard.mark(bucket, marks);
        if grown > 0 {
            store.memory.pool().add_overhead(grown);
        }
        true
    }

    /// Links the chained items of a page.
    fn load_chained_of(&mut self, loading: &LoadingPage<'_>) {
        let Some(Page(page)) = loading.page() else {
            return;
        };
        for number in 0..loading.bump() {
            // SAFETY: a chunk of this page. Other threads claim segments there.
            let chunk = unsafe { chunk_at(page, loading.class(), number) };
            // SAFETY: as above.
            let Some(stamp) = unsafe { word_of(chunk) }.sealed_stamp() else {
                continue;
            };
            // SAFETY: this thread alone has the sealed items of the page.
            if unsafe { Item::at(chunk) }.is_chained() {
                self.load_chained(chunk, stamp);
            }
        }
    }

    /// Links a chained item, if all its segments are there.
    fn load_chained(&mut self, head: Chunk, stamp: u16) {
        // SAFETY: this thread alone has the item.
        let item = unsafe { Item::at(head) };
        if !self.is_wanted(item) {
            return;
        }
        let hash = self.loader.store.map.hash(item.key());
        let mut claimed = Vec::new();
        let claim = |address| {
            let segment = self.loader.claim(address)?;
            claimed.push(segment.0);
            Some(segment)
        };
        // SAFETY: as above; `Item::fits` was checked in the first pass.
        let is_whole = unsafe { item.relink(hash, claim) };
        if !is_whole {
            self.dropped.damaged += 1;
        }
        let ready = Ready {
            chunk: head,
            hash,
            stamp,
        };
        let is_linked = is_whole && {
            let mut shard = self.loader.store.map.write(hash);
            self.link(&mut shard, ready)
        };
        if !is_linked {
            for segment in claimed {
                // SAFETY: a segment that this thread has claimed.
                unsafe { word_of(segment) }.give_up();
            }
        }
    }
}
