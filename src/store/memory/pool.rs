//! The pages themselves: reserved from the system in extents, handed out
//! under the memory limit, and returned to the system when the limit says so.
//!
//! Extents ask for huge pages, which spare look-ups and copies of values many
//! misses of the address translation, until the first of their pages is
//! returned: the system would otherwise put back what was returned.

use std::alloc::{Layout, alloc};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::memory::classes::PAGE_BYTES;
use crate::sync::{AtomicBool, AtomicUsize, Ordering};

/// Free pages that keep their memory.
const IDLE_PAGES: usize = 32;

/// Freed bytes of the index that are returned to the system.
const HEAP_TRIM_BYTES: usize = 4 << 20;

/// Pages asked of the system at once. Only the address space is taken;
/// memory follows as it is touched.
const EXTENT_PAGES: usize = if cfg!(miri) { 64 } else { 512 };
const EXTENT_BYTES: usize = EXTENT_PAGES * PAGE_BYTES;
/// Bytes of a huge page, to which extents are aligned.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The pages and the limit over them.
pub(crate) struct Pool {
    state: Mutex<State>,
    in_use: AtomicUsize,
    limit: AtomicUsize,
    overhead: AtomicUsize,
    /// The most overhead since the heap was last trimmed.
    overhead_high: AtomicUsize,
    /// One page may be taken although the limit is exceeded.
    allowance: AtomicBool,
}

struct State {
    /// Free pages that hold memory.
    touched: Vec<NonNull<u8>>,
    /// Free pages that hold none.
    untouched: Vec<NonNull<u8>>,
    /// What was reserved, in ascending order.
    extents: Vec<Extent>,
}

struct Extent {
    base: NonNull<u8>,
    /// The system was asked for huge pages.
    huge: bool,
}

// SAFETY: a page in the pool belongs to whoever takes it out under the lock.
unsafe impl Send for State {}

impl Pool {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::new(State {
                touched: Vec::new(),
                untouched: Vec::new(),
                extents: Vec::new(),
            }),
            in_use: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            overhead: AtomicUsize::new(0),
            overhead_high: AtomicUsize::new(0),
            allowance: AtomicBool::new(false),
        }
    }

    /// Takes a page; `None` at the limit, or if the system has none.
    pub(crate) fn take(&self) -> Option<NonNull<u8>> {
        let mut state = self.lock();
        if self.over_limit(1) && !self.allowance.swap(false, Ordering::Relaxed) {
            return None;
        }
        if state.touched.is_empty() && state.untouched.is_empty() {
            state.reserve_extent()?;
        }
        let page = state.touched.pop().or_else(|| state.untouched.pop())?;
        self.in_use.fetch_add(1, Ordering::Relaxed);
        Some(page)
    }

    /// Takes a page back. Its memory goes to the system if the limit is
    /// exceeded, else it is kept for the next taker.
    pub(crate) fn give_back(&self, page: NonNull<u8>) {
        let mut state = self.lock();
        self.in_use.fetch_sub(1, Ordering::Relaxed);
        state.touched.push(page);
        self.trim_locked(&mut state);
    }

    /// Lets one page be taken although the limit is exceeded, because more
    /// than one was given up for it; or calls that off.
    pub(crate) fn allow_one(&self, allow: bool) {
        self.allowance.store(allow, Ordering::Relaxed);
    }

    /// Returns the memory of free pages beyond the limit to the system.
    pub(crate) fn trim(&self) {
        self.trim_locked(&mut self.lock());
    }

    /// Returns the memory of up to `most` free pages to the system, but for a
    /// few that the next takers will want. False if there were none.
    pub(crate) fn release_idle(&self, most: usize) -> bool {
        let mut state = self.lock();
        let idle = most.min(state.touched.len().saturating_sub(IDLE_PAGES));
        for _ in 0..idle {
            state.release_one();
        }
        idle > 0
    }

    /// The limit in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit; what exceeds it must be freed by the caller.
    pub(crate) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
        self.trim();
    }

    /// Counts `more` bytes outside the pages (the index) against the limit.
    pub(crate) fn add_overhead(&self, more: usize) {
        self.overhead.fetch_add(more, Ordering::Relaxed);
    }

    /// Takes `less` bytes of overhead off again.
    pub(crate) fn sub_overhead(&self, less: usize) {
        self.overhead.fetch_sub(less, Ordering::Relaxed);
    }

    /// Returns memory of the heap to the system if much of the index was
    /// freed: its tables are too small for the allocator to do so by itself.
    /// To be called now and then, by one thread.
    pub(crate) fn trim_heap(&self) {
        let overhead = self.overhead();
        let high = self.overhead_high.fetch_max(overhead, Ordering::Relaxed);
        if high < overhead + HEAP_TRIM_BYTES {
            return;
        }
        self.overhead_high.store(overhead, Ordering::Relaxed);
        #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
        // SAFETY: it gives back what lies free and touches nothing in use.
        unsafe {
            libc::malloc_trim(0);
        }
    }

    /// Bytes outside the pages that count against the limit.
    pub(crate) fn overhead(&self) -> usize {
        self.overhead.load(Ordering::Relaxed)
    }

    /// Pages that classes hold.
    pub(crate) fn pages_in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Free pages that hold memory.
    pub(crate) fn idle_pages(&self) -> usize {
        self.lock().touched.len()
    }

    /// Whether `more` pages would exceed the limit.
    pub(crate) fn over_limit(&self, more: usize) -> bool {
        (self.pages_in_use() + more) * PAGE_BYTES + self.overhead() > self.limit()
    }

    fn trim_locked(&self, state: &mut State) {
        while !state.touched.is_empty() && self.over_limit(state.touched.len()) {
            state.release_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the two lists inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds an extent of untouched pages; `None` if the system refuses.
    fn reserve_extent(&mut self) -> Option<()> {
        let layout = Layout::from_size_align(EXTENT_BYTES, HUGE_PAGE_BYTES).ok()?;
        // SAFETY: the layout has a size. Extents live as long as the process:
        // workers may hold chunks of them until the very end.
        let base = NonNull::new(unsafe { alloc(layout) })?;
        let place = self.extents.partition_point(|extent| extent.base < base);
        self.extents.insert(place, Extent { base, huge: true });
        advise(base, EXTENT_BYTES, libc::MADV_HUGEPAGE);
        // In reverse, so that they are handed out in ascending order.
        let pages = (0..EXTENT_PAGES).rev();
        // SAFETY: the pages lie inside the extent.
        let pages = pages.map(|page| unsafe { base.add(page * PAGE_BYTES) });
        self.untouched.extend(pages);
        Some(())
    }

    /// Gives the memory of a free page back to the system, keeping its
    /// address.
    fn release_one(&mut self) {
        let Some(page) = self.touched.pop() else {
            return;
        };
        let behind = self.extents.partition_point(|extent| extent.base <= page);
        if let Some(extent) = behind.checked_sub(1).map(|index| &mut self.extents[index])
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

/// A fuzzer makes stores without end, and lets nothing outlive one.
#[cfg(fuzzing)]
impl Drop for Pool {
    fn drop(&mut self) {
        let layout = Layout::from_size_align(EXTENT_BYTES, HUGE_PAGE_BYTES)
            .expect("it was good enough to reserve");
        for extent in &self.lock().extents {
            // SAFETY: reserved with this layout, and given back once.
            unsafe { std::alloc::dealloc(extent.base.as_ptr(), layout) };
        }
    }
}

/// Tells the system what to do with the memory of free pages. False if it
/// refuses, as where it is built without huge pages.
fn advise(base: NonNull<u8>, bytes: usize, advice: libc::c_int) -> bool {
    if cfg!(miri) {
        // It knows no such call; and nothing relies on its effect.
        return true;
    }
    // SAFETY: the range is ours, consists of whole system pages, and nobody
    // relies on what lies in it where it is to be forgotten.
    unsafe { libc::madvise(base.as_ptr().cast(), bytes, advice) == 0 }
}

#[cfg(test)]
mod tests {
    use super::Pool;
    use crate::store::memory::classes::PAGE_BYTES;

    #[test]
    fn the_limit_counts_pages_and_overhead() {
        let pool = Pool::new(10 * PAGE_BYTES);
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
}
