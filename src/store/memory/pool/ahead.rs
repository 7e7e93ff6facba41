//! Memory ahead of need: the huge pages that are handed out next get their
//! memory from the upkeep thread, before a worker touches them. The kernel fills
//! a huge page with zeros on first touch, which takes a tenth of a millisecond,
//! and several milliseconds in a virtual machine whose host must find the memory
//! first.

use std::ptr::NonNull;

use crate::store::memory::classes::PAGE_BYTES;
use crate::store::memory::pool::{EXTENT_BYTES, Extent, HUGE_PAGE_BYTES, Pool, State, advise};
use crate::sync::Ordering;

/// Bytes in use from which memory is fetched ahead: a nearly empty server stays
/// small.
const USED_MIN_BYTES: usize = 1 << 20;
/// Bytes in use for each huge page that is fetched ahead.
const USED_BYTES_EACH: usize = 8 << 20;
/// Maximum number of huge pages that are fetched ahead.
const HUGE_PAGES_MAX: usize = 4;
/// Nothing is fetched ahead for the last 1/64 below the limit: the index may take
/// it.
const LIMIT_PART: usize = 64;

impl Pool {
    /// Fetches the memory of one huge page, if it is among those that are handed
    /// out next. Returns false if there was nothing to do. Call it again until
    /// then.
    ///
    /// Does nothing for a pool in a file, whose memory has no huge pages, nor on
    /// kernels that cannot (before Linux 5.14).
    pub(in crate::store) fn fetch_ahead(&self) -> bool {
        if self.cannot_fetch.load(Ordering::Relaxed) {
            return false;
        }
        let bytes = self.bytes_ahead();
        let Some(next) = self.lock().take_unfetched(bytes) else {
            return false;
        };
        if !advise(next, HUGE_PAGE_BYTES, libc::MADV_POPULATE_WRITE) {
            self.cannot_fetch.store(true, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Gives memory that was fetched ahead, and not handed out, back to the system.
    pub(in crate::store) fn return_ahead(&self) {
        self.lock().return_ahead();
    }

    /// Returns how many bytes should have memory beyond those in use.
    fn bytes_ahead(&self) -> usize {
        let used = self.pages_in_use() * PAGE_BYTES;
        if used < USED_MIN_BYTES {
            return 0;
        }
        let wanted = (used / USED_BYTES_EACH).clamp(1, HUGE_PAGES_MAX) * HUGE_PAGE_BYTES;
        let limit = self.limit();
        let room = (limit - limit / LIMIT_PART).saturating_sub(used + self.overhead());
        // The last huge page may lie in these bytes with its begin only.
        wanted.min(room.saturating_sub(HUGE_PAGE_BYTES))
    }
}

impl State {
    /// Returns the next huge page without memory among the `bytes` that are
    /// handed out next, and notes that it has memory. Reserves the next extent if
    /// it is among them.
    fn take_unfetched(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let next = *self.untouched.last()?;
        let extent = self.extent_of(next)?;
        let used = next.addr().get() - extent.base.addr().get();
        let end = used + bytes;
        if let Some(page) = extent.take_unfetched(used..end.min(EXTENT_BYTES)) {
            return Some(page);
        }
        let beyond = end.checked_sub(EXTENT_BYTES).filter(|beyond| *beyond > 0)?;
        let base = extent.base;
        let last = *self.untouched.first()?;
        if self.extent_of(last)?.base == base {
            self.reserve_extent_below()?;
        }
        let last = *self.untouched.first()?;
        self.extent_of(last)?.take_unfetched(0..beyond)
    }

    fn return_ahead(&mut self) {
        for extent in self.extents.iter_mut().filter(|extent| extent.fetched > 0) {
            let start = extent.base.addr().get();
            let untouched = self.untouched.iter().filter_map(|page| {
                let offset = page.addr().get().checked_sub(start)?;
                (offset < extent.fetched).then_some(offset)
            });
            // SAFETY: offsets below `fetched` lie inside the extent.
            let at = |offset| unsafe { extent.base.add(offset) };
            if !extent.huge {
                // It has holes, and gets no huge pages any more.
                for offset in untouched {
                    advise(at(offset), PAGE_BYTES, libc::MADV_DONTNEED);
                }
                extent.fetched = 0;
                continue;
            }
            // From the first untouched page on, all are untouched.
            let used = untouched.min().unwrap_or(extent.fetched);
            let used = used.next_multiple_of(HUGE_PAGE_BYTES);
            if used < extent.fetched {
                advise(at(used), extent.fetched - used, libc::MADV_DONTNEED);
                extent.fetched = used;
            }
        }
    }
}

impl Extent {
    /// Returns the first huge page in a range of the extent that has no memory
    /// yet, and notes that it has. The one in which the range begins has memory,
    /// unless the range begins with it.
    fn take_unfetched(&mut self, range: std::ops::Range<usize>) -> Option<NonNull<u8>> {
        let begin = range.start.next_multiple_of(HUGE_PAGE_BYTES);
        let begin = begin.max(self.fetched);
        if !self.huge || begin >= range.end {
            return None;
        }
        self.fetched = begin + HUGE_PAGE_BYTES;
        // SAFETY: the range lies inside the extent.
        Some(unsafe { self.base.add(begin) })
    }
}

#[cfg(all(test, target_os = "linux", not(miri), not(fuzzing)))]
mod tests {
    use super::{HUGE_PAGES_MAX, LIMIT_PART, USED_BYTES_EACH};
    use crate::store::memory::classes::PAGE_BYTES;
    use crate::store::memory::pool::{EXTENT_PAGES, HUGE_PAGE_BYTES, Pool};

    const HUGE_PAGES: usize = HUGE_PAGE_BYTES / PAGE_BYTES;

    fn fetch_all(pool: &Pool) -> usize {
        std::iter::from_fn(|| pool.fetch_ahead().then_some(())).count()
    }

    /// Returns whether the first bytes of a pool's page have memory.
    fn has_memory(page: std::ptr::NonNull<u8>) -> bool {
        let mut resident = 0;
        // SAFETY: a page of the pool is mapped; one byte is written for 4 KiB.
        let result = unsafe { libc::mincore(page.as_ptr().cast(), 4096, &raw mut resident) };
        assert_eq!(result, 0);
        resident & 1 == 1
    }

    #[test]
    fn pages_have_memory_before_they_are_handed_out() {
        let pool = Pool::new(1 << 30, None);
        assert_eq!(fetch_all(&pool), 0, "an empty pool stays small");
        let take = || pool.take().expect("far from the limit");
        for _ in 0..HUGE_PAGES {
            take();
        }
        assert_eq!(fetch_all(&pool), 1);
        for number in 0..HUGE_PAGES {
            assert!(has_memory(take()), "{number}");
        }
        assert!(!has_memory(take()), "beyond what was fetched");
        // Far enough for the maximum, also across the end of an extent.
        while pool.pages_in_use() < 4 * EXTENT_PAGES - 2 * HUGE_PAGES {
            take();
        }
        assert!(pool.pages_in_use() * PAGE_BYTES / USED_BYTES_EACH > HUGE_PAGES_MAX);
        assert_eq!(fetch_all(&pool), HUGE_PAGES_MAX);
        for number in 0..HUGE_PAGES_MAX * HUGE_PAGES {
            assert!(has_memory(take()), "{number}");
        }
    }

    #[test]
    fn what_is_not_needed_goes_back() {
        let pool = Pool::new(1 << 30, None);
        let take = || pool.take().expect("far from the limit");
        // The last pages of one extent and the first of another are fetched.
        for _ in 0..EXTENT_PAGES - HUGE_PAGES - 1 {
            take();
        }
        assert_eq!(fetch_all(&pool), 1);
        take();
        take();
        assert_eq!(fetch_all(&pool), 1);
        pool.return_ahead();
        for number in 1..HUGE_PAGES {
            assert!(has_memory(take()), "{number}");
        }
        let next = take();
        assert!(!has_memory(next), "it went back");
        // SAFETY: the page belongs to this test.
        unsafe { next.write_bytes(7, PAGE_BYTES) };
        assert_eq!(fetch_all(&pool), 2, "growth goes on, by two from 16 MiB on");
    }

    #[test]
    fn it_goes_back_from_an_extent_with_holes_too() {
        let pool = Pool::new(1 << 30, None);
        let take = || pool.take().expect("far from the limit");
        let pages: Vec<_> = (0..HUGE_PAGES).map(|_| take()).collect();
        assert_eq!(fetch_all(&pool), 1);
        // SAFETY: the page belongs to this test.
        unsafe { pages[6].write_bytes(7, PAGE_BYTES) };
        pool.give_back(pages[7]);
        pool.release_all();
        pool.return_ahead();
        assert!(has_memory(pages[6]));
        assert_eq!(take(), pages[7], "the hole is handed out first");
        assert!(!has_memory(take()), "it went back");
    }

    #[test]
    fn nothing_is_fetched_close_to_the_limit() {
        let pool = Pool::new(32 << 20, None);
        while pool.take().is_some() {
            fetch_all(&pool);
            let fetched: usize = pool.lock().extents.iter().map(|it| it.fetched).sum();
            let room = (32 << 20) - (32 << 20) / LIMIT_PART;
            assert!(fetched <= room, "{fetched}");
        }
    }
}
