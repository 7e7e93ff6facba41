//! Allocator of the item memory (`-m`). Pages of equal size come from the pool,
//! are cut into chunks of one size class each, and return to the pool when they
//! are empty. It knows chunks, not items: the store decides which items to
//! evict or move.
//!
//! Invariants:
//! - A page belongs to the pool or to exactly one class. It changes its class
//!   only when all its chunks are free.
//! - A chunk is in use, in one thread's magazine, or free in its page: in the
//!   page's free list or beyond its `bump`. Its reference word is 0 unless it
//!   is in use.
//! - A page's header except its class is accessed only under its class's lock.
//!   The class is written while no chunk of the page is in use.
//! - Pages in use times their size, plus `overhead`, stay within the limit. The
//!   exceptions are a lowered limit and growth of the index. Then the pool
//!   hands out no page until enough have returned, except by
//!   [`Pool::allow_one`].
//! - Locks are taken in this order: a class's, then the pool's.

use std::ptr::{NonNull, null_mut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam::utils::CachePadded;

use crate::store::memory::chunk::{
    Chunk, NEXT_FREE_OFFSET, Page, Stock, chunk_at, class_of, page_of,
};
use crate::store::memory::class_pages::Class;
use crate::store::memory::classes::{CLASSES, chunk_bytes, per_page};
use crate::store::memory::file::LockedFile;
use crate::store::memory::magazine::Magazines;
use crate::store::memory::poison::{check_poison, poison};
use crate::store::memory::pool::Pool;
use crate::sync::{AtomicU32, AtomicUsize, Ordering};

/// The allocator: the size classes and the pool of pages.
pub(crate) struct Memory {
    classes: Box<[CachePadded<Mutex<Class>>]>,
    /// Free chunks in the pages of each class, without draining pages and
    /// magazines. Used to choose the class to drain without taking its lock.
    free_chunks: Box<[AtomicUsize]>,
    /// Number of requests to flush magazines.
    flush_requests: AtomicU32,
    pool: Pool,
}

/// A set of classes in which draining failed: a chunk of the drained page
/// stayed in use.
#[derive(Clone, Copy, Default)]
pub(crate) struct PinnedClasses(u128);

const _: () = assert!(CLASSES <= u128::BITS as usize);

impl PinnedClasses {
    /// Adds a class to the set.
    pub(crate) fn add(&mut self, class: usize) {
        self.0 |= 1 << class;
    }

    /// Returns whether the set is empty.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn has(self, class: usize) -> bool {
        self.0 & (1 << class) != 0
    }
}

/// A page that is being drained: no chunk is allocated from it.
pub(crate) struct DrainingPage {
    page: NonNull<Page>,
    class: usize,
    /// Number of its chunks that were ever handed out.
    used: usize,
}

impl Memory {
    /// Creates an allocator with a limit of `limit` bytes. Its pages lie in
    /// `file`, if there is one.
    pub(crate) fn new(limit: usize, file: Option<LockedFile>) -> Self {
        let class = || CachePadded::new(Mutex::new(Class::new()));
        Self {
            classes: (0..CLASSES).map(|_| class()).collect(),
            free_chunks: (0..CLASSES).map(|_| AtomicUsize::new(0)).collect(),
            flush_requests: AtomicU32::new(0),
            pool: Pool::new(limit, file),
        }
    }

    /// Returns the pool of pages, which keeps the limit.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Allocates a chunk of `class`, from the thread's magazine if it holds
    /// one. Refills an empty magazine to half its capacity. Returns `None` if
    /// the class has no free chunk and the pool has no page within the limit.
    /// The chunk's content is arbitrary; its reference word is 0.
    pub(crate) fn alloc(&self, magazines: &mut Magazines, class: usize) -> Option<Chunk> {
        if let Some(chunk) = magazines.pop(class) {
            check_poison(chunk, class);
            return Some(chunk);
        }
        self.flush_if_requested(magazines);
        let wanted = 1 + magazines.capacity(class) / 2;
        let mut guard = self.lock(class);
        let first = self.take(&mut guard, class)?;
        for _ in 1..wanted {
            // Refilling the magazine is not worth a new page.
            if guard.fullest().is_none() {
                break;
            }
            if let Some(chunk) = self.take(&mut guard, class) {
                let kept = magazines.push(class, chunk);
                debug_assert!(kept, "half the capacity fits an empty magazine");
            }
        }
        check_poison(first, class);
        Some(first)
    }

    /// Frees a chunk into the thread's magazine. If that is full, moves half of
    /// it to the pages.
    ///
    /// # Safety
    /// `chunk` came from [`Memory::alloc`] of this memory, its reference word
    /// is 0, and the caller took it there.
    pub(crate) unsafe fn free(&self, magazines: &mut Magazines, chunk: Chunk) {
        // SAFETY: the chunk is in use, so its page's class does not change.
        let class = unsafe { class_of(chunk) };
        poison(chunk, class);
        if magazines.push(class, chunk) {
            return;
        }
        self.flush_if_requested(magazines);
        let mut guard = self.lock(class);
        self.put(&mut guard, class, chunk);
        for _ in 0..magazines.capacity(class) / 2 {
            if let Some(chunk) = magazines.pop(class) {
                self.put(&mut guard, class, chunk);
            }
        }
    }

    /// Frees a chunk into its page, bypassing the magazines.
    ///
    /// # Safety
    /// `chunk` came from [`Memory::alloc`] of this memory, its reference word
    /// is 0, and the caller took it there.
    pub(crate) unsafe fn free_to_page(&self, chunk: Chunk) {
        // SAFETY: as in `free`.
        let class = unsafe { class_of(chunk) };
        poison(chunk, class);
        self.put(&mut self.lock(class), class, chunk);
    }

    /// Flushes a thread's magazines into the pages.
    pub(crate) fn flush(&self, magazines: &mut Magazines) {
        for class in magazines.filled() {
            self.flush_class(magazines, class);
        }
    }

    /// Flushes a thread's magazine of one class into the pages.
    pub(crate) fn flush_class(&self, magazines: &mut Magazines, class: usize) {
        let mut guard = self.lock(class);
        while let Some(chunk) = magazines.pop(class) {
            self.put(&mut guard, class, chunk);
        }
    }

    /// Requests all threads to flush their magazines when they next allocate or
    /// free past them, or before they wait for events. A single chunk in use keeps
    /// its page from becoming empty.
    pub(crate) fn request_flush(&self) {
        self.flush_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Flushes a thread's magazines if that was requested since its last check.
    #[inline]
    fn flush_if_requested(&self, magazines: &mut Magazines) {
        if self.is_flush_requested(&mut magazines.flush_requests_seen) {
            self.flush(magazines);
        }
    }

    /// Returns whether a flush was requested since the last call with this
    /// `heeded`, and updates `heeded`.
    #[inline]
    pub(crate) fn is_flush_requested(&self, heeded: &mut u32) -> bool {
        let flush_requests = self.flush_requests.load(Ordering::Relaxed);
        std::mem::replace(heeded, flush_requests) != flush_requests
    }

    /// Returns the bytes of free chunks in the pages of all classes.
    pub(crate) fn free_bytes(&self) -> usize {
        (0..CLASSES).map(|class| self.free_bytes_of(class)).sum()
    }

    /// Returns the number of free chunks in the pages of `class`, without those
    /// in magazines.
    pub(crate) fn free_chunks_of(&self, class: usize) -> usize {
        self.free_chunks[class].load(Ordering::Relaxed)
    }

    /// Returns the number of pages of `class` and of the free chunks in them.
    pub(crate) fn holdings_of(&self, class: usize) -> (usize, usize) {
        let pages = self.lock(class).pages;
        (
            pages,
            self.free_chunks_of(class).min(pages * per_page(class)),
        )
    }

    /// Returns the bytes of free chunks in the pages of `class`.
    fn free_bytes_of(&self, class: usize) -> usize {
        self.free_chunks_of(class) * chunk_bytes(class)
    }

    /// Takes the emptiest page of the class with the most free bytes out of
    /// use, for draining. Leaves out the classes in `stuck`. With `spare`, only
    /// a class with a page's worth of free chunks is eligible, so that the
    /// page's items fit elsewhere. The caller must end it with
    /// [`Memory::finish_draining`].
    pub(crate) fn drain_emptiest(&self, spare: bool, stuck: PinnedClasses) -> Option<DrainingPage> {
        let enough = |class| if spare { per_page(class) } else { 1 };
        let class = (0..CLASSES)
            .filter(|&class| !stuck.has(class) && self.free_chunks_of(class) >= enough(class))
            .max_by_key(|&class| self.free_bytes_of(class))?;
        let mut guard = self.lock(class);
        let page = guard.emptiest()?;
        // SAFETY: pages in a class's lists are valid; the lock is held.
        let header = unsafe { &mut (*page.as_ptr()).stock };
        self.free_chunks[class].fetch_sub(usize::from(header.free), Ordering::Relaxed);
        header.draining = true;
        let used = usize::from(header.bump);
        guard.unlink(page);
        Some(DrainingPage { page, class, used })
    }

    /// Ends draining. Returns true if the page became empty and is back in the
    /// pool. Otherwise its free chunks are available again, and the page is
    /// marked stuck.
    pub(crate) fn finish_draining(&self, draining: &DrainingPage) -> bool {
        let class = draining.class;
        let mut guard = self.lock(class);
        // SAFETY: a draining page stays with its class until here.
        let header = unsafe { &mut (*draining.page.as_ptr()).stock };
        header.draining = false;
        if usize::from(header.free) == per_page(class) {
            guard.pages -= 1;
            self.pool.give_back(draining.page.cast());
            return true;
        }
        self.free_chunks[class].fetch_add(usize::from(header.free), Ordering::Relaxed);
        header.stuck = true;
        guard.link_last(draining.page, class);
        false
    }

    fn lock(&self, class: usize) -> MutexGuard<'_, Class> {
        // A panic under this lock leaves the lists as they were or one chunk
        // short, but never inconsistent.
        self.classes[class]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a chunk from the fullest page, or from a new page.
    fn take(&self, class: &mut Class, id: usize) -> Option<Chunk> {
        let page = match class.fullest() {
            Some(page) => page,
            None => self.new_page(class, id)?,
        };
        // SAFETY: pages in a class's lists are valid; the lock is held.
        let header = unsafe { &mut (*page.as_ptr()).stock };
        let chunk = if header.free_head.is_null() {
            // SAFETY: a listed page with an empty free list has chunks
            // beyond `bump`.
            let chunk = unsafe { chunk_at(page.cast(), id, usize::from(header.bump)) };
            header.bump += 1;
            // SAFETY: the chunk is the caller's from now on; its word must be
            // 0.
            unsafe { chunk.cast::<u32>().write(0) };
            poison(chunk, id);
            chunk
        } else {
            let chunk = header.free_head;
            // SAFETY: a chunk in the free list holds the next one's address.
            header.free_head = unsafe { chunk.add(NEXT_FREE_OFFSET).cast::<*mut u8>().read() };
            NonNull::new(chunk).expect("checked for null above")
        };
        header.free -= 1;
        self.free_chunks[id].fetch_sub(1, Ordering::Relaxed);
        class.rebin(page, id);
        Some(chunk)
    }

    /// Puts a chunk into its page's free list. Returns the page to the pool if
    /// it becomes empty, unless it is draining.
    fn put(&self, class: &mut Class, id: usize, chunk: Chunk) {
        let page = page_of(chunk);
        // SAFETY: the chunk's page is valid and of this class, whose lock is
        // held.
        let header = unsafe { &mut (*page.as_ptr()).stock };
        // SAFETY: the chunk is free; these bytes are its link.
        unsafe {
            let link = chunk.as_ptr().add(NEXT_FREE_OFFSET).cast::<*mut u8>();
            link.write(header.free_head);
        }
        header.free_head = chunk.as_ptr();
        header.free += 1;
        header.stuck = false;
        debug_assert!(usize::from(header.free) <= per_page(id), "freed twice");
        if header.draining {
            return;
        }
        self.free_chunks[id].fetch_add(1, Ordering::Relaxed);
        if usize::from(header.free) < per_page(id) {
            if header.free == 1 {
                class.link(page, id);
            } else {
                class.rebin(page, id);
            }
            return;
        }
        self.free_chunks[id].fetch_sub(per_page(id), Ordering::Relaxed);
        if per_page(id) > 1 {
            class.unlink(page);
        }
        class.pages -= 1;
        self.pool.give_back(page.cast());
    }

    /// Writes the header of a page that was read from a file, with its class
    /// only. [`Memory::adopt_page`] must follow.
    ///
    /// # Safety
    /// The page was taken from the pool, and the caller is the only one to
    /// access it.
    pub(in crate::store) unsafe fn begin_page(page: NonNull<u8>, class: usize) {
        // SAFETY: as the caller guarantees.
        unsafe { page.cast::<Page>().write(header_of(class)) };
    }

    /// Adds a page that was read from a file to its class. Of its chunks, the
    /// first `bump` were ever handed out. Those for which `is_used` returns
    /// false are free from now on. A page without used chunks returns to the
    /// pool.
    ///
    /// # Safety
    /// The page was given to [`Memory::begin_page`] with this class. The caller
    /// is the only one to access it, except its used chunks.
    pub(in crate::store) unsafe fn adopt_page(
        &self,
        page: NonNull<u8>,
        class: usize,
        bump: usize,
        mut is_used: impl FnMut(Chunk) -> bool,
    ) {
        let (mut free, mut free_head) = (per_page(class) - bump, null_mut());
        for number in (0..bump).rev() {
            // SAFETY: the chunk lies in the page. A free one is the caller's.
            unsafe {
                let chunk = chunk_at(page, class, number);
                if is_used(chunk) {
                    continue;
                }
                chunk.cast::<u32>().write(0);
                poison(chunk, class);
                chunk
                    .add(NEXT_FREE_OFFSET)
                    .cast::<*mut u8>()
                    .write(free_head);
                free_head = chunk.as_ptr();
            }
            free += 1;
        }
        if free == per_page(class) {
            self.pool.give_back(page);
            return;
        }
        let page = page.cast::<Page>();
        let mut guard = self.lock(class);
        // SAFETY: nobody else accesses this part of the header yet.
        let stock = unsafe { &mut (*page.as_ptr()).stock };
        (stock.free, stock.bump) = (free as u16, bump as u16);
        stock.free_head = free_head;
        guard.pages += 1;
        if free > 0 {
            guard.link(page, class);
        }
        self.free_chunks[class].fetch_add(free, Ordering::Relaxed);
    }

    /// Takes a page from the pool, writes its header and adds it to the class.
    fn new_page(&self, class: &mut Class, id: usize) -> Option<NonNull<Page>> {
        let page = self.pool.take()?.cast::<Page>();
        // SAFETY: the whole page belongs to the caller.
        unsafe { page.write(header_of(id)) };
        class.pages += 1;
        class.link(page, id);
        self.free_chunks[id].fetch_add(per_page(id), Ordering::Relaxed);
        Some(page)
    }
}

/// Returns the header of a page of class `id` without a used chunk.
fn header_of(id: usize) -> Page {
    Page {
        class: id as u16,
        stock: Stock {
            free: per_page(id) as u16,
            bump: 0,
            bin: 0,
            draining: false,
            stuck: false,
            free_head: null_mut(),
            prev: null_mut(),
            next: null_mut(),
        },
    }
}

impl DrainingPage {
    /// Returns the size class of the page.
    pub(crate) fn class(&self) -> usize {
        self.class
    }

    /// Returns the chunks of the page that were ever handed out.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Chunk> + use<> {
        let (page, class) = (self.page.cast(), self.class);
        // SAFETY: the page has `used` chunks of its class.
        (0..self.used).map(move |number| unsafe { chunk_at(page, class, number) })
    }
}

// Pages are accessed through raw pointers: a reference to the header would give
// no right to access the chunks behind it.
#[cfg(test)]
mod tests {
    use super::{Chunk, Memory, PinnedClasses};
    use crate::store::memory::classes::{PAGE_BYTES, chunk_bytes, class_for, per_page};
    use crate::store::memory::magazine::Magazines;

    fn fill(memory: &Memory, magazines: &mut Magazines, class: usize) -> Vec<Chunk> {
        std::iter::from_fn(|| memory.alloc(magazines, class)).collect()
    }

    fn free_all(memory: &Memory, magazines: &mut Magazines, chunks: Vec<Chunk>) {
        for chunk in chunks {
            // SAFETY: each came from `alloc` and is freed once.
            unsafe { memory.free(magazines, chunk) };
        }
        memory.flush(magazines);
    }

    #[test]
    fn hands_out_disjoint_chunks_up_to_the_limit() {
        let memory = Memory::new(PAGE_BYTES * 4, None);
        let mut magazines = Magazines::new(1 << 30);
        let class = class_for(100).unwrap();
        let mut chunks = fill(&memory, &mut magazines, class);
        assert_eq!(chunks.len(), 4 * per_page(class));
        chunks.sort();
        for pair in chunks.windows(2) {
            let gap = pair[1].as_ptr().addr() - pair[0].as_ptr().addr();
            assert!(gap >= chunk_bytes(class), "{gap}");
        }
        free_all(&memory, &mut magazines, chunks);
        assert_eq!(memory.pool().pages_in_use(), 0);
        assert_eq!(memory.free_bytes(), 0);
    }

    #[test]
    fn pages_go_from_class_to_class() {
        let memory = Memory::new(PAGE_BYTES * 3, None);
        let mut magazines = Magazines::new(1 << 30);
        for bytes in [40, 5000, 300, 32_000] {
            let class = class_for(bytes).unwrap();
            let chunks = fill(&memory, &mut magazines, class);
            assert_eq!(chunks.len(), 3 * per_page(class), "{bytes}");
            free_all(&memory, &mut magazines, chunks);
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "a free chunk of class")]
    fn a_write_to_a_free_chunk_is_detected() {
        let memory = Memory::new(PAGE_BYTES, None);
        let mut magazines = Magazines::new(1 << 30);
        let class = class_for(10_000).unwrap();
        // Keeps the page from becoming empty.
        let _used = memory.alloc(&mut magazines, class).unwrap();
        let chunk = memory.alloc(&mut magazines, class).unwrap();
        // SAFETY: it came from `alloc` and is freed once.
        unsafe { memory.free(&mut magazines, chunk) };
        // SAFETY: the last byte of the chunk, whose page stays reserved.
        unsafe { chunk.add(chunk_bytes(class) - 1).write(0) };
        while memory.alloc(&mut magazines, class).is_some() {}
    }

    #[test]
    fn a_draining_page_is_not_allocated_from_and_goes_back_when_empty() {
        let memory = Memory::new(PAGE_BYTES * 2, None);
        let mut magazines = Magazines::new(1 << 30);
        let class = class_for(200).unwrap();
        let mut chunks = fill(&memory, &mut magazines, class);
        let kept = chunks.split_off(chunks.len() / 4);
        free_all(&memory, &mut magazines, chunks);
        assert!(
            memory
                .drain_emptiest(true, PinnedClasses::default())
                .is_none(),
            "less than a page is free"
        );
        let (gone, kept): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|c| c.as_ptr().addr() % 3 != 0);
        free_all(&memory, &mut magazines, gone);
        let draining = memory
            .drain_emptiest(true, PinnedClasses::default())
            .expect("a page's worth is free");
        let inside: Vec<_> = draining.chunks().collect();
        let again = fill(&memory, &mut magazines, class);
        assert!(again.iter().all(|chunk| !inside.contains(chunk)));
        assert!(
            !memory.finish_draining(&draining),
            "chunks of it are in use"
        );
        free_all(&memory, &mut magazines, again);
        free_all(&memory, &mut magazines, kept);
        assert_eq!(memory.pool().pages_in_use(), 0);
    }
}
