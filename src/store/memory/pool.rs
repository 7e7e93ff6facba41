//! The pool of pages: reserves them from the system in extents, hands them out
//! within the memory limit, and returns their memory to the system when the
//! limit demands it or when many lie idle.
//!
//! Extents ask for huge pages, which save TLB misses in look-ups and copies of
//! values. An extent loses that advice as soon as the memory of one of its
//! pages is returned: the kernel would otherwise fill the hole with a huge page
//! again.
//!
//! Extents are anonymous memory, or parts of a file (`-e`).

mod ahead;

use std::alloc::{Layout, alloc};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::store::memory::classes::PAGE_BYTES;
use crate::store::memory::file::{LockedFile, MemoryFile};
use crate::sync::{AtomicBool, AtomicUsize, Ordering};

/// Free pages that keep their memory when idle ones are released.
const IDLE_PAGES: usize = 32;

/// Shrinkage of the index in bytes after which the heap is trimmed.
const HEAP_TRIM_BYTES: usize = 4 << 20;
/// Largest overhead at which the heap is trimmed after growth. Trimming holds a lock
/// of the allocator, for about 3 ms at this size.
const HEAP_TRIM_MAX_BYTES: usize = 128 << 20;

/// Pages per extent. An extent takes only address space; memory follows when it
/// is touched. Fuzzers and Miri create many pools, which small extents speed up.
pub(in crate::store) const EXTENT_PAGES: usize = if cfg!(any(miri, fuzzing)) { 64 } else { 512 };
/// Bytes of an extent.
pub(in crate::store) const EXTENT_BYTES: usize = EXTENT_PAGES * PAGE_BYTES;
/// Bytes of a huge page, the alignment of extents.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The pool of pages and the memory limit.
pub(crate) struct Pool {
    state: Mutex<State>,
    /// Pages that are assigned to size classes.
    in_use: AtomicUsize,
    /// Memory limit in bytes.
    limit: AtomicUsize,
    /// Bytes outside the pages that count against the limit.
    overhead: AtomicUsize,
    /// The largest overhead since the heap was last trimmed, in bytes.
    overhead_high: AtomicUsize,
    /// Allows one page to be taken beyond the limit.
    allowance: AtomicBool,
    /// Whether the system cannot fetch memory ahead.
    cannot_fetch: AtomicBool,
    /// A message whenever a huge page is begun.
    growth: (Sender<()>, Receiver<()>),
}

/// The free pages and the extents.
struct State {
    /// Free pages that hold memory.
    touched: Vec<NonNull<u8>>,
    /// Free pages that hold no memory: never touched, or returned to the
    /// system.
    untouched: Vec<NonNull<u8>>,
    /// Extents in ascending order of address.
    extents: Vec<Extent>,
    /// The file that the extents are parts of; `None` if they are anonymous
    /// memory.
    file: Option<MemoryFile>,
}

/// A range of address space of `EXTENT_BYTES` bytes.
struct Extent {
    base: NonNull<u8>,
    /// Whether the kernel is advised to use huge pages.
    huge: bool,
    /// Number of the extent in the file.
    number: usize,
    /// Bytes from the start that may have been fetched ahead (`ahead.rs`).
    fetched: usize,
}

/// A page in use.
#[derive(Clone, Copy)]
pub(in crate::store) struct UsedPage {
    /// Address of the page.
    pub(in crate::store) page: NonNull<u8>,
    /// Its offset in the file; 0 without a file.
    pub(in crate::store) offset: u64,
}

// SAFETY: a page may be passed to another thread; whoever accesses it follows
// the rules of the arena.
unsafe impl Send for UsedPage {}
// SAFETY: as above.
unsafe impl Sync for UsedPage {}

// SAFETY: a page in the pool belongs to the thread that takes it out under the
// lock.
unsafe impl Send for State {}

impl Pool {
    /// Creates an empty pool with a limit of `limit` bytes. Its pages lie in
    /// `file`, if there is one.
    pub(crate) fn new(limit: usize, file: Option<LockedFile>) -> Self {
        let file = file.map(|file| MemoryFile::new(file, EXTENT_BYTES, HUGE_PAGE_BYTES));
        Self {
            state: Mutex::new(State {
                touched: Vec::new(),
                untouched: Vec::new(),
                extents: Vec::new(),
                file,
            }),
            in_use: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            overhead: AtomicUsize::new(0),
            overhead_high: AtomicUsize::new(0),
            allowance: AtomicBool::new(false),
            cannot_fetch: AtomicBool::new(false),
            growth: bounded(1),
        }
    }

    /// Takes a page out of the pool. Returns `None` at the limit, or if the
    /// system refuses memory. The page's content is arbitrary.
    pub(crate) fn take(&self) -> Option<NonNull<u8>> {
        let state = self.lock();
        if self.over_limit(1) && !self.allowance.swap(false, Ordering::Relaxed) {
            return None;
        }
        self.take_from(state)
    }

    /// Takes a page as [`Pool::take`] does, whatever the limit.
    pub(in crate::store) fn take_beyond_limit(&self) -> Option<NonNull<u8>> {
        self.take_from(self.lock())
    }

    fn take_from(&self, mut state: MutexGuard<'_, State>) -> Option<NonNull<u8>> {
        if state.touched.is_empty() && state.untouched.is_empty() {
            state.reserve_extent()?;
        }
        let page = match state.touched.pop() {
            Some(page) => page,
            None => {
                let page = state.touch_next()?;
                if page.addr().get().is_multiple_of(HUGE_PAGE_BYTES) {
                    // If the channel is full, the last message was not received yet.
                    let _ = self.growth.0.try_send(());
                }
                page
            }
        };
        self.in_use.fetch_add(1, Ordering::Relaxed);
        Some(page)
    }

    /// Maps extents of the pool's file, which has a page for each element of
    /// `used`. The pages whose element is true are in use afterwards. If the file
    /// system has no room for one of them, its element becomes false. Returns the
    /// addresses of the extents. Only for a pool without pages.
    ///
    /// # Errors
    /// The system cannot map them all.
    pub(in crate::store) fn map_existing(&self, used: &mut [bool]) -> io::Result<Vec<NonNull<u8>>> {
        let mut state = self.lock();
        debug_assert!(state.extents.is_empty());
        let bases = used
            .chunks(EXTENT_PAGES)
            .map(|_| state.map_extent())
            .collect::<io::Result<Vec<_>>>()?;
        if let Some(file) = &state.file {
            fit_blocks(file, used)?;
        }
        for (base, used) in bases.iter().zip(used.chunks(EXTENT_PAGES)) {
            for (number, used) in used.iter().enumerate().rev() {
                if *used {
                    self.in_use.fetch_add(1, Ordering::Relaxed);
                } else {
                    // SAFETY: the page lies inside the extent.
                    state
                        .untouched
                        .push(unsafe { base.add(number * PAGE_BYTES) });
                }
            }
        }
        Ok(bases)
    }

    /// Returns a channel with a message whenever memory should be fetched ahead
    /// with [`Pool::fetch_ahead`].
    pub(in crate::store) fn growth(&self) -> Receiver<()> {
        self.growth.1.clone()
    }

    /// Returns the pages in use in ascending order of address.
    pub(in crate::store) fn used_pages(&self) -> Vec<UsedPage> {
        let state = self.lock();
        let mut free: Vec<_> = state.touched.iter().chain(&state.untouched).collect();
        free.sort_unstable();
        let mut free = free.into_iter().peekable();
        let mut used = Vec::with_capacity(self.pages_in_use());
        for extent in &state.extents {
            let first = state
                .file
                .as_ref()
                .map(|file| file.offset_of(extent.number));
            for number in 0..EXTENT_PAGES {
                // SAFETY: the page lies inside the extent.
                let page = unsafe { extent.base.add(number * PAGE_BYTES) };
                if free.next_if_eq(&&page).is_some() {
                    continue;
                }
                let offset = first.map_or(0, |first| first + (number * PAGE_BYTES) as u64);
                used.push(UsedPage { page, offset });
            }
        }
        used
    }

    /// Returns the memory of all free pages to the system.
    pub(in crate::store) fn release_all(&self) {
        let mut state = self.lock();
        while !state.touched.is_empty() {
            state.release_one();
        }
    }

    /// Returns the memory of a page to the system. The page reads as zeros
    /// afterwards.
    ///
    /// # Safety
    /// A page of a pool without a file. Nobody uses it any more.
    pub(in crate::store) unsafe fn discard(page: *mut u8) {
        if let Some(page) = NonNull::new(page) {
            advise(page, PAGE_BYTES, libc::MADV_DONTNEED);
        }
    }

    /// Calls `f` with the pool's file, if it has one.
    pub(in crate::store) fn with_file<R>(&self, f: impl FnOnce(&MemoryFile) -> R) -> Option<R> {
        self.lock().file.as_ref().map(f)
    }

    /// Returns a page to the pool. If the limit is exceeded, memory of free
    /// pages goes back to the system; otherwise the page keeps its memory.
    pub(crate) fn give_back(&self, page: NonNull<u8>) {
        let mut state = self.lock();
        self.in_use.fetch_sub(1, Ordering::Relaxed);
        state.touched.push(page);
        self.trim_locked(&mut state);
    }

    /// Allows one page to be taken beyond the limit, or withdraws that. Used
    /// when the caller has given up more than one page to get it.
    pub(crate) fn allow_one(&self, allow: bool) {
        self.allowance.store(allow, Ordering::Relaxed);
    }

    /// Returns the memory of free pages to the system as long as it exceeds the
    /// limit together with the memory in use.
    pub(crate) fn trim(&self) {
        self.trim_locked(&mut self.lock());
    }

    /// Returns the memory of up to `most` free pages to the system, but keeps
    /// 32 for the next allocations. Returns false if there were none.
    pub(crate) fn release_idle(&self, most: usize) -> bool {
        let mut state = self.lock();
        let idle = most.min(state.touched.len().saturating_sub(IDLE_PAGES));
        for _ in 0..idle {
            state.release_one();
        }
        idle > 0
    }

    /// Returns the limit in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the limit in bytes. The caller must free pages in use that exceed
    /// it.
    pub(crate) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
        self.trim();
    }

    /// Adds `more` bytes outside the pages (index, ghosts, hand) to the
    /// overhead.
    pub(crate) fn add_overhead(&self, more: usize) {
        self.overhead.fetch_add(more, Ordering::Relaxed);
    }

    /// Subtracts `less` bytes from the overhead.
    pub(crate) fn sub_overhead(&self, less: usize) {
        self.overhead.fetch_sub(less, Ordering::Relaxed);
    }

    /// Trims the heap if the index has shrunk much: its tables are too small
    /// for the allocator to return them to the system by itself. Call it
    /// periodically, from one thread.
    pub(crate) fn trim_heap(&self) {
        let overhead = self.overhead();
        let high = self.overhead_high.fetch_max(overhead, Ordering::Relaxed);
        if high < overhead + HEAP_TRIM_BYTES {
            return;
        }
        self.overhead_high.store(overhead, Ordering::Relaxed);
        trim_malloc();
    }

    /// Trims the heap after growth, unless the index is so large that this would take
    /// long: replaced tables have left holes.
    pub(crate) fn trim_heap_after_growth(&self) {
        if self.overhead() <= HEAP_TRIM_MAX_BYTES {
            trim_malloc();
        }
    }

    /// Returns the bytes outside the pages that count against the limit.
    pub(crate) fn overhead(&self) -> usize {
        self.overhead.load(Ordering::Relaxed)
    }

    /// Returns the number of pages assigned to size classes.
    pub(crate) fn pages_in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Returns the number of free pages that hold memory.
    pub(crate) fn idle_pages(&self) -> usize {
        self.lock().touched.len()
    }

    /// Returns whether `more` further pages in use would exceed the limit.
    pub(crate) fn over_limit(&self, more: usize) -> bool {
        (self.pages_in_use() + more) * PAGE_BYTES + self.overhead() > self.limit()
    }

    /// Releases free pages until they and the pages in use fit the limit.
    fn trim_locked(&self, state: &mut State) {
        while !state.touched.is_empty() && self.over_limit(state.touched.len()) {
            state.release_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock cannot leave the lists inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Reserves an extent of untouched pages. Returns `None` if the system
    /// refuses.
    fn reserve_extent(&mut self) -> Option<()> {
        let pages = pages_of(self.map_extent().ok()?);
        self.untouched.extend(pages);
        Some(())
    }

    /// Reserves an extent whose pages are handed out after all others.
    fn reserve_extent_below(&mut self) -> Option<()> {
        let pages = pages_of(self.map_extent().ok()?);
        self.untouched.splice(0..0, pages);
        Some(())
    }

    /// Maps an extent of memory or of the file, without adding its pages.
    fn map_extent(&mut self) -> io::Result<NonNull<u8>> {
        let number = self.extents.len();
        let base = match &mut self.file {
            Some(file) => file.map_next()?,
            None => {
                let layout = Layout::from_size_align(EXTENT_BYTES, HUGE_PAGE_BYTES)
                    .map_err(io::Error::other)?;
                // SAFETY: the layout has a size. Extents live as long as the
                // process, because threads may hold chunks of them until the
                // end.
                NonNull::new(unsafe { alloc(layout) }).ok_or(ErrorKind::OutOfMemory)?
            }
        };
        let place = self.extents.partition_point(|extent| extent.base < base);
        let huge = advise(base, EXTENT_BYTES, libc::MADV_HUGEPAGE) && self.file.is_none();
        let extent = Extent {
            base,
            huge,
            number,
            fetched: 0,
        };
        self.extents.insert(place, extent);
        Ok(base)
    }

    /// Returns the extent of a page.
    fn extent_of(&mut self, page: NonNull<u8>) -> Option<&mut Extent> {
        let index = self.index_of_extent(page)?;
        Some(&mut self.extents[index])
    }

    fn index_of_extent(&self, page: NonNull<u8>) -> Option<usize> {
        let behind = self.extents.partition_point(|extent| extent.base <= page);
        behind.checked_sub(1)
    }

    /// Takes an untouched page. In a file, allocates its blocks. Returns `None`
    /// if there is no page, or no room in the file system.
    fn touch_next(&mut self) -> Option<NonNull<u8>> {
        let page = *self.untouched.last()?;
        if let Some((file, range)) = self.place_of(page) {
            file.allocate(range).ok()?;
        }
        self.untouched.pop()
    }

    /// Returns the file and the page's range in it, if there is a file.
    fn place_of(&self, page: NonNull<u8>) -> Option<(&MemoryFile, Range<u64>)> {
        let file = self.file.as_ref()?;
        let extent = &self.extents[self.index_of_extent(page)?];
        let offset = page.addr().get() - extent.base.addr().get();
        let start = file.offset_of(extent.number) + offset as u64;
        Some((file, start..start + PAGE_BYTES as u64))
    }

    /// Returns the memory of a free page to the system; the page keeps its
    /// address.
    fn release_one(&mut self) {
        let Some(page) = self.touched.pop() else {
            return;
        };
        if let Some((file, range)) = self.place_of(page) {
            // Without support for holes, the page keeps its blocks.
            let _ = file.discard(range);
            self.untouched.push(page);
            return;
        }
        if let Some(extent) = self.extent_of(page)
            && extent.huge
        {
            advise(extent.base, EXTENT_BYTES, libc::MADV_NOHUGEPAGE);
            extent.huge = false;
        }
        let released = advise(page, PAGE_BYTES, libc::MADV_DONTNEED);
        debug_assert!(released, "it is our own mapping");
        self.untouched.push(page);
    }
}

/// Returns the pages of an extent, in descending order of address: the last one is
/// handed out first.
fn pages_of(base: NonNull<u8>) -> impl Iterator<Item = NonNull<u8>> {
    let pages = (0..EXTENT_PAGES).rev();
    // SAFETY: the pages lie inside the extent.
    pages.map(move |page| unsafe { base.add(page * PAGE_BYTES) })
}

/// Allocates the blocks of the pages of a file whose element in `used` is true,
/// and returns those of all others to the file system. An element becomes false
/// if there is no room for its page. A copy of a file can lack blocks that were
/// never written.
///
/// # Errors
/// The file is too short.
fn fit_blocks(file: &MemoryFile, used: &mut [bool]) -> io::Result<()> {
    let place = |page: usize| file.offset_of(0) + (page * PAGE_BYTES) as u64;
    let (mut start, mut hole) = (0, 0);
    for run in used.chunk_by_mut(|one, next| one == next) {
        let range = place(start)..place(start + run.len());
        if !run[0] {
            // Without support for holes, the pages keep their blocks.
            let _ = file.discard(range.clone());
        } else if hole < range.end {
            hole = file.next_hole(range.start.max(hole))?;
        }
        if run[0] && hole < range.end && file.allocate(range).is_err() {
            for (number, used) in run.iter_mut().enumerate() {
                let page = place(start + number)..place(start + number + 1);
                *used = file.allocate(page).is_ok();
            }
        }
        start += run.len();
    }
    Ok(())
}

/// Returns the memory of free pages to the system, the rest of huge pages
/// included. Pages in use keep their memory, because chunks may outlive the
/// store.
#[cfg(not(fuzzing))]
impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.lock();
        if state.file.is_some() {
            // Its pages may be in the image of the next start: only the mapping
            // is emptied.
            for extent in &state.extents {
                advise(extent.base, EXTENT_BYTES, libc::MADV_DONTNEED);
            }
            return;
        }
        for extent in state.extents.iter().filter(|extent| extent.huge) {
            advise(extent.base, EXTENT_BYTES, libc::MADV_NOHUGEPAGE);
        }
        let State {
            touched, untouched, ..
        } = &mut *state;
        for page in touched.drain(..).chain(untouched.drain(..)) {
            advise(page, PAGE_BYTES, libc::MADV_DONTNEED);
        }
    }
}

/// A fuzzer creates stores without end, and no chunk outlives its store there.
#[cfg(fuzzing)]
impl Drop for Pool {
    fn drop(&mut self) {
        let layout = Layout::from_size_align(EXTENT_BYTES, HUGE_PAGE_BYTES)
            .expect("it was good enough to reserve");
        let state = self.lock();
        for extent in &state.extents {
            if let Some(file) = &state.file {
                // SAFETY: mapped from the file, and unmapped once.
                unsafe { file.unmap(extent.base) };
                continue;
            }
            // SAFETY: reserved with this layout, and freed once.
            unsafe { std::alloc::dealloc(extent.base.as_ptr(), layout) };
        }
    }
}

/// Returns free memory of the heap to the system.
fn trim_malloc() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    // SAFETY: `malloc_trim` returns free memory and touches none in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Advises the kernel about the memory of free pages (`madvise`). Returns false
/// if the kernel refuses, as one without huge pages does.
fn advise(base: NonNull<u8>, bytes: usize, advice: libc::c_int) -> bool {
    if cfg!(miri) {
        // Miri has no such call, and nothing relies on its effect.
        return true;
    }
    // SAFETY: the range is the pool's and consists of whole system pages.
    // `advice` that discards contents is given only for pages that nobody
    // uses, and for a mapped file, which keeps them.
    unsafe { libc::madvise(base.as_ptr().cast(), bytes, advice) == 0 }
}

#[cfg(test)]
mod tests {
    use super::Pool;
    use crate::store::memory::classes::PAGE_BYTES;

    #[test]
    fn the_limit_counts_pages_and_overhead() {
        let pool = Pool::new(10 * PAGE_BYTES, None);
        pool.add_overhead(PAGE_BYTES * 3);
        let pages: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(pages.len(), 7);
        pool.add_overhead(1);
        assert!(pool.take().is_none());
        pool.set_limit(2 * PAGE_BYTES);
        for page in pages {
            pool.give_back(page);
        }
        assert_eq!(pool.pages_in_use(), 0);
        assert!(pool.take().is_none(), "overhead alone exceeds the limit");
    }

    #[test]
    #[cfg(all(target_os = "linux", not(miri), not(fuzzing)))]
    fn a_dropped_pool_returns_the_memory_of_free_pages() {
        let pool = Pool::new(10 * PAGE_BYTES, None);
        let pages = [pool.take().unwrap(), pool.take().unwrap()];
        for page in pages {
            // SAFETY: the page belongs to this test.
            unsafe { page.write_bytes(7, PAGE_BYTES) };
        }
        pool.give_back(pages[0]);
        drop(pool);
        // SAFETY: extents stay reserved when the pool is dropped.
        let first_bytes = pages.map(|page| unsafe { page.read() });
        assert_eq!(first_bytes, [0, 7], "the page in use keeps its memory");
    }
}
