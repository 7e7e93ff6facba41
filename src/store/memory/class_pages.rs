//! The pages of a size class that have free chunks, in rings by how full they
//! are. Only the arena uses it, under the class's lock.

use std::ptr::{NonNull, null_mut};

use crate::store::memory::chunk::{Page, Stock};
use crate::store::memory::classes::per_page;

/// Number of lists of a class's pages, by how full the pages are. Allocation
/// takes from the fullest pages, so that the emptiest ones become empty.
const BINS: usize = 4;

/// A size class: its pages that have free chunks.
pub(super) struct Class {
    /// Rings of pages, the fullest pages first.
    bins: [*mut Page; BINS],
    /// Number of the class's pages, full and draining ones included.
    pub(super) pages: usize,
}

// SAFETY: the page pointers of a class are dereferenced only under its lock.
unsafe impl Send for Class {}

impl Class {
    /// Creates a class without pages.
    pub(super) fn new() -> Self {
        Self {
            bins: [null_mut(); BINS],
            pages: 0,
        }
    }

    /// Returns a page of the fullest list that has any.
    pub(super) fn fullest(&self) -> Option<NonNull<Page>> {
        self.bins.iter().find_map(|&page| NonNull::new(page))
    }

    /// Returns a page of the emptiest list that has any.
    pub(super) fn emptiest(&self) -> Option<NonNull<Page>> {
        self.bins.iter().rev().find_map(|&page| NonNull::new(page))
    }

    /// Inserts a page at the front of the list for its number of free chunks.
    pub(super) fn link(&mut self, page: NonNull<Page>, id: usize) {
        // SAFETY: the page is of this class, whose lock is held; so this is the
        // only access to its header. The same is true of its neighbours.
        unsafe {
            let header = page.as_ptr();
            let bin = bin_of(&page.as_ref().stock, id);
            (*header).stock.bin = bin as u8;
            let first = self.bins[bin];
            if first.is_null() {
                (*header).stock.prev = header;
                (*header).stock.next = header;
            } else {
                let last = (*first).stock.prev;
                (*header).stock.prev = last;
                (*header).stock.next = first;
                (*last).stock.next = header;
                (*first).stock.prev = header;
            }
            self.bins[bin] = header;
        }
    }

    /// Inserts a page at the end of the list for its number of free chunks.
    pub(super) fn link_last(&mut self, page: NonNull<Page>, id: usize) {
        self.link(page, id);
        // SAFETY: as in `link`. The lists are rings: the successor of the last
        // page is the first.
        let header = unsafe { &page.as_ref().stock };
        self.bins[usize::from(header.bin)] = header.next;
    }

    /// Removes a page from its list.
    pub(super) fn unlink(&mut self, page: NonNull<Page>) {
        // SAFETY: as in `link`.
        unsafe {
            let header = page.as_ptr();
            let (bin, prev, next) = (
                usize::from((*header).stock.bin),
                (*header).stock.prev,
                (*header).stock.next,
            );
            if next == header {
                self.bins[bin] = null_mut();
                return;
            }
            (*prev).stock.next = next;
            (*next).stock.prev = prev;
            if self.bins[bin] == header {
                self.bins[bin] = next;
            }
        }
    }

    /// Moves a listed page to the list for its number of free chunks, or out of
    /// the lists if it is full.
    pub(super) fn rebin(&mut self, page: NonNull<Page>, id: usize) {
        // SAFETY: as in `link`.
        let header = unsafe { &page.as_ref().stock };
        let moved = bin_of(header, id) != usize::from(header.bin);
        if header.free == 0 {
            self.unlink(page);
        } else if moved {
            self.unlink(page);
            self.link(page, id);
        }
    }
}

/// Returns the list that a page belongs to. A stuck page counts as full: it is
/// allocated from first and drained last.
fn bin_of(page: &Stock, id: usize) -> usize {
    if page.stuck {
        return 0;
    }
    (usize::from(page.free) * BINS / (per_page(id) + 1)).min(BINS - 1)
}
