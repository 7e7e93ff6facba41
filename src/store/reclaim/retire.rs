//! Operations of the store on epochs and limbo.

use std::thread;
use std::time::{Duration, Instant};

use crate::store::item::layout::{Item, word_of};
use crate::store::memory::chunk::{Chunk, class_of};
use crate::store::memory::classes::chunk_bytes;
use crate::store::reclaim::epoch::OUTSIDE;
use crate::store::reclaim::limbo::Garbage;
use crate::store::state::{Local, Store};

/// Longest wait for readers. They hold up a writer as a lock would: for one
/// batch, or until the system resumes their thread.
const WAIT_MAX: Duration = Duration::from_millis(if cfg!(test) { 1000 } else { 5000 });
/// Bytes of replaced tables above which a thread whose table grew waits for
/// readers.
pub(in crate::store) const TABLE_BYTES_MAX: usize = 4 << 20;
/// Looks at the epochs before the waiting thread yields the processor.
const SPINS: u32 = 64;

impl Store {
    /// Enters an epoch, in which the thread can read items without locks. Call
    /// it before a batch of commands, and [`Store::leave`] after it. Does nothing
    /// if the thread is inside.
    #[inline]
    pub fn enter(&self, local: &mut Local) {
        local.limbo.enter();
    }

    /// Leaves the epoch, and frees what the thread has retired and nobody reads
    /// any more. Does nothing if the thread is outside.
    #[inline]
    pub fn leave(&self, local: &mut Local) {
        if local.limbo.leave() && self.has_retired(local) {
            self.free_retired(local);
        }
    }

    /// Frees what this thread has retired, and other threads have left, as far as
    /// nobody can read it any more. Does not wait. Returns whether it freed
    /// anything.
    pub fn free_retired(&self, local: &mut Local) -> bool {
        if local.limbo.is_empty() && !self.reclaim.has_left() {
            return false;
        }
        let oldest = local.limbo.oldest();
        let freed = self.free_until(local, oldest);
        local.limbo.number();
        freed
    }

    /// Returns whether the thread, or the list of what others have left, holds
    /// retired memory.
    pub(in crate::store) fn has_retired(&self, local: &Local) -> bool {
        !local.limbo.is_empty() || self.reclaim.has_left()
    }

    /// Frees tables of the index that were replaced, after one has grown. Waits for
    /// readers if the tables take too much memory.
    pub(in crate::store) fn free_tables(&self, local: &mut Local) {
        self.free_retired(local);
        if self.reclaim.table_bytes() > TABLE_BYTES_MAX {
            self.wait_for_readers(local);
        }
    }

    /// Waits until no other thread reads anything that was unlinked before the
    /// call, and frees what was retired. Returns false if it gave up: a reader
    /// is suspended. Call it without a lock, for which readers may wait.
    ///
    /// The thread is outside meanwhile, so that two of them do not wait for each
    /// other.
    pub(in crate::store) fn wait_for_readers(&self, local: &mut Local) -> bool {
        let inside = local.limbo.leave();
        let mut oldest = local.limbo.oldest();
        let mut passed = oldest == OUTSIDE;
        if !passed {
            local.limbo.number();
            let number = self.reclaim.epochs.advance();
            let begun = Instant::now();
            for look in 0_u32.. {
                oldest = local.limbo.oldest();
                passed = oldest >= number;
                if passed || begun.elapsed() > WAIT_MAX {
                    break;
                }
                if look < SPINS {
                    std::hint::spin_loop();
                } else {
                    thread::yield_now();
                }
            }
        }
        self.free_until(local, oldest);
        if inside {
            local.limbo.enter();
        }
        passed
    }

    /// Frees retired memory. `oldest` is the earliest epoch at which another
    /// thread is inside.
    fn free_until(&self, local: &mut Local, oldest: u64) -> bool {
        let mut freed = false;
        while let Some(chunk) = local.limbo.take(oldest) {
            // SAFETY: it was retired, and no thread can read it any more.
            unsafe { self.free_head(local, chunk) };
            freed = true;
        }
        if self.reclaim.has_left() {
            for garbage in self.reclaim.take_left(oldest) {
                match garbage {
                    // SAFETY: as above.
                    Garbage::Chunk(chunk) => unsafe { self.free_head(local, chunk) },
                    Garbage::Table(table, bytes) => self.reclaim.free_table(table, bytes),
                }
                freed = true;
            }
        }
        freed
    }

    /// Releases a reference to the head chunk of an item that is or was linked.
    /// Retires the item if it was the last one. Call it without a shard lock.
    pub(in crate::store) fn release_chunk(&self, local: &mut Local, head: Chunk) {
        // SAFETY: the caller owns the reference that is released.
        if unsafe { word_of(head) }.release() {
            // SAFETY: the last reference, which this call has.
            unsafe { self.retire(local, head) };
        }
    }

    /// Retires an item: frees its segments, which nobody reads without a lock or
    /// a reference, and puts its head into limbo. Call it without a shard lock.
    ///
    /// # Safety
    /// The caller owns the last reference to the item, which is not linked.
    pub(in crate::store) unsafe fn retire(&self, local: &mut Local, head: Chunk) {
        // SAFETY: as the caller guarantees.
        unsafe {
            self.free_segments(local, head);
            self.retire_head(local, head);
        }
    }

    /// Retires the head of an item whose segments are freed or have moved.
    ///
    /// # Safety
    /// As for [`Store::retire`].
    pub(in crate::store) unsafe fn retire_head(&self, local: &mut Local, head: Chunk) {
        // SAFETY: the chunk is in use, so its page does not change its class.
        let bytes = chunk_bytes(unsafe { class_of(head) });
        local.limbo.push(head, bytes);
        // Outside a batch, there is no later time at which it would be freed.
        if !local.limbo.is_inside() || local.limbo.is_due() {
            self.free_retired(local);
        }
    }

    /// Frees an item that was never linked. Only the caller has it.
    pub(in crate::store) fn free_unlinked(&self, local: &mut Local, head: Chunk) {
        // SAFETY: the caller owns the only reference.
        unsafe {
            self.free_segments(local, head);
            self.free_head(local, head);
        }
    }

    /// Frees the segments of an item.
    ///
    /// # Safety
    /// The caller owns the last reference to the item.
    pub(in crate::store) unsafe fn free_segments(&self, local: &mut Local, head: Chunk) {
        // SAFETY: no other thread holds the item.
        for segment in unsafe { Item::at(head) }.segments() {
            // SAFETY: the item owns a reference to each segment.
            if unsafe { word_of(segment) }.unpin() {
                // SAFETY: this call took the segment's count to 0.
                unsafe { self.memory.free(&mut local.magazines, segment) };
            }
        }
    }

    /// Frees the head chunk of an item.
    ///
    /// # Safety
    /// The caller owns the last reference, and no thread can read the item.
    unsafe fn free_head(&self, local: &mut Local, head: Chunk) {
        // SAFETY: as the caller guarantees.
        unsafe {
            word_of(head).give_up();
            self.memory.free(&mut local.magazines, head);
        }
    }
}
