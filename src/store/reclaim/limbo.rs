//! Limbo: chunks that were unlinked from the map, while readers without locks
//! may still look at them. Each thread has its own. What a thread leaves when it
//! goes to wait or ends goes to a list that any thread frees.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::limits::THREADS_MAX;
use crate::store::memory::chunk::Chunk;
use crate::store::reclaim::epoch::{Epochs, OUTSIDE};
use crate::sync::{AtomicUsize, Ordering};

/// Places for threads: workers, and those for upkeep, start and stop.
const PLACES: usize = THREADS_MAX + 64;
/// Chunks without a number at which the thread tries to free some.
const TRY_CHUNKS: usize = 32;
/// Bytes of chunks without a number at which the thread tries to free some.
const TRY_BYTES: usize = 64 << 10;
/// Chunks in a thread's limbo above which it waits before it allocates more.
pub(in crate::store) const LIMBO_CHUNKS_MAX: usize = 1024;
/// Bytes in a thread's limbo above which it waits before it allocates more.
pub(in crate::store) const LIMBO_BYTES_MAX: usize = 1 << 20;

/// The epochs, and what threads have left to be freed.
pub(in crate::store) struct Reclaim {
    pub(in crate::store) epochs: Epochs,
    left: Mutex<VecDeque<Numbered>>,
    /// Length of `left`, to be read without the lock.
    left_len: AtomicUsize,
    /// Bytes of the tables in `left`.
    table_bytes: AtomicUsize,
}

/// Garbage, and the epoch at which no thread can find it any more.
pub(in crate::store) struct Numbered {
    pub(in crate::store) number: u64,
    pub(in crate::store) garbage: Garbage,
}

/// Memory that is freed later.
pub(in crate::store) enum Garbage {
    /// The head chunk of an item.
    Chunk(Chunk),
    /// A table of the index, and its bytes. Dropping it frees them.
    Table(Box<dyn Send>, usize),
}

// SAFETY: a table may be sent. A retired chunk belongs to whoever has it in limbo.
unsafe impl Send for Garbage {}

impl Reclaim {
    /// Creates the state of a new store.
    pub(in crate::store) fn new() -> Self {
        Self {
            epochs: Epochs::new(PLACES),
            left: Mutex::default(),
            left_len: AtomicUsize::new(0),
            table_bytes: AtomicUsize::new(0),
        }
    }

    /// Returns whether threads have left garbage.
    #[inline]
    pub(in crate::store) fn has_left(&self) -> bool {
        self.left_len.load(Ordering::Relaxed) > 0
    }

    /// Returns the bytes of tables that wait to be freed.
    pub(in crate::store) fn table_bytes(&self) -> usize {
        self.table_bytes.load(Ordering::Relaxed)
    }

    /// Retires a table of `bytes` bytes that was replaced in the map: drops it
    /// once no thread can find it. The caller may hold a shard lock.
    pub(in crate::store) fn retire_table(&self, table: Box<dyn Send>, bytes: usize) {
        let number = self.epochs.advance();
        let garbage = Garbage::Table(table, bytes);
        let mut left = self.lock();
        left.push_back(Numbered { number, garbage });
        self.table_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.left_len.store(left.len(), Ordering::Relaxed);
    }

    /// Frees a table that [`Reclaim::take_left`] has returned.
    pub(in crate::store) fn free_table(&self, table: Box<dyn Send>, bytes: usize) {
        drop(table);
        self.table_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes what was left and can be freed if `oldest` is the earliest epoch at
    /// which a thread is inside. Takes nothing while another thread is at it.
    pub(in crate::store) fn take_left(&self, oldest: u64) -> Vec<Garbage> {
        let mut left = match self.left.try_lock() {
            Ok(left) => left,
            Err(TryLockError::Poisoned(left)) => left.into_inner(),
            Err(TryLockError::WouldBlock) => return Vec::new(),
        };
        // The numbers ascend but for a few. Those behind a late one wait with it.
        let free = left.iter().take_while(|left| left.number <= oldest).count();
        let taken = left.drain(..free).map(|left| left.garbage).collect();
        self.left_len.store(left.len(), Ordering::Relaxed);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Numbered>> {
        // A panic under this lock cannot leave the queue inconsistent.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limbo of one thread, and its place among the epochs.
pub(in crate::store) struct Limbo {
    reclaim: Arc<Reclaim>,
    /// `None` if there was no place left: the thread never enters.
    place: Option<usize>,
    inside: bool,
    /// The chunks, and their bytes, in the order in which they were retired.
    chunks: VecDeque<(Chunk, u32)>,
    /// Bytes of `chunks`.
    bytes: usize,
    /// Epochs and lengths of the groups of chunks that have a number, from the
    /// first chunk on.
    groups: VecDeque<(u64, usize)>,
    /// Chunks behind the groups, without a number.
    open: usize,
    /// Bytes of these.
    open_bytes: usize,
}

// SAFETY: the chunks are retired and belong to the owner of the limbo.
unsafe impl Send for Limbo {}

impl Limbo {
    /// Creates an empty limbo for a thread that is outside.
    pub(in crate::store) fn new(reclaim: Arc<Reclaim>) -> Self {
        Self {
            place: reclaim.epochs.claim(),
            reclaim,
            inside: false,
            chunks: VecDeque::new(),
            bytes: 0,
            groups: VecDeque::new(),
            open: 0,
            open_bytes: 0,
        }
    }

    /// Enters an epoch. Returns whether the thread is inside.
    #[inline]
    pub(in crate::store) fn enter(&mut self) -> bool {
        if let (false, Some(place)) = (self.inside, self.place) {
            self.reclaim.epochs.enter(place);
            self.inside = true;
        }
        self.inside
    }

    /// Leaves the epoch. Returns whether the thread was inside.
    #[inline]
    pub(in crate::store) fn leave(&mut self) -> bool {
        if let (true, Some(place)) = (self.inside, self.place) {
            self.reclaim.epochs.leave(place);
        }
        std::mem::take(&mut self.inside)
    }

    /// Returns whether the thread is inside.
    #[inline]
    pub(in crate::store) fn is_inside(&self) -> bool {
        self.inside
    }

    /// Returns whether there are no chunks.
    #[inline]
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Returns whether the limits of chunks or bytes are exceeded.
    #[inline]
    pub(in crate::store) fn is_full(&self) -> bool {
        self.bytes > LIMBO_BYTES_MAX || self.chunks.len() > LIMBO_CHUNKS_MAX
    }

    /// Returns whether it is time to try to free chunks.
    #[inline]
    pub(in crate::store) fn is_due(&self) -> bool {
        self.open >= TRY_CHUNKS || self.open_bytes >= TRY_BYTES
    }

    /// Adds a chunk of `bytes` bytes, which is unlinked from the map.
    #[inline]
    pub(in crate::store) fn push(&mut self, chunk: Chunk, bytes: usize) {
        self.chunks.push_back((chunk, bytes as u32));
        self.bytes += bytes;
        self.open += 1;
        self.open_bytes += bytes;
    }

    /// Returns the earliest epoch at which another thread is inside.
    pub(in crate::store) fn oldest(&self) -> u64 {
        self.reclaim.epochs.oldest(self.place)
    }

    /// Gives a number to the chunks that have none.
    pub(in crate::store) fn number(&mut self) {
        if self.open > 0 {
            let number = self.reclaim.epochs.advance();
            self.groups.push_back((number, self.open));
            (self.open, self.open_bytes) = (0, 0);
        }
    }

    /// Takes the first chunk if it can be freed: `oldest` is what
    /// [`Limbo::oldest`] has returned since it was retired.
    #[inline]
    pub(in crate::store) fn take(&mut self, oldest: u64) -> Option<Chunk> {
        match self.groups.front_mut() {
            Some((number, _)) if *number > oldest => return None,
            Some((_, 1)) => {
                self.groups.pop_front();
            }
            Some((_, len)) => *len -= 1,
            None if oldest != OUTSIDE || self.open == 0 => return None,
            None => {
                self.open -= 1;
                self.open_bytes -= self.chunks.front().map_or(0, |(_, bytes)| *bytes as usize);
            }
        }
        let (chunk, bytes) = self.chunks.pop_front()?;
        self.bytes -= bytes as usize;
        Some(chunk)
    }

    /// Passes all chunks to the list that any thread frees.
    pub(in crate::store) fn hand_over(&mut self) {
        if self.chunks.is_empty() {
            return;
        }
        self.number();
        let mut left = self.reclaim.lock();
        for (number, len) in self.groups.drain(..) {
            left.extend(self.chunks.drain(..len).map(|(chunk, _)| Numbered {
                number,
                garbage: Garbage::Chunk(chunk),
            }));
        }
        self.bytes = 0;
        self.reclaim.left_len.store(left.len(), Ordering::Relaxed);
    }
}

impl Drop for Limbo {
    fn drop(&mut self) {
        self.leave();
        self.hand_over();
        if let Some(place) = self.place {
            self.reclaim.epochs.give_up(place);
        }
    }
}
