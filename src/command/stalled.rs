//! Memory held for stalled clients: output they do not read, and values they
//! have not sent completely.
//!
//! A worker parks both here when it turns to other connections, and unparks
//! them to continue. Any thread may free parked state: when client buffers
//! reach their limit, or when a command needs item memory that stale and
//! half-received values occupy. The worker then finds its entry gone and closes
//! the connection.
//!
//! Each worker has a table of its own. Its lock is contended only while memory
//! is short.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::mem::size_of;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam::utils::CachePadded;

use crate::command::output::Output;
use crate::command::pending::Pending;
use crate::store::{Local, Store};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::time::Now;

/// At the limit, buffers are freed until this fraction of it is in use.
const FREED_TO: (usize, usize) = (7, 8);
/// From this fraction of the limit on, new output and input are kept small.
const TIGHT_FROM: (usize, usize) = (1, 2);
/// Divisor of the memory limit that gives the share of stale and half-received
/// values. Above the share, clients without progress for [`GRACE_MS`] are cut;
/// above twice the share, for [`SHORT_GRACE_MS`].
const ITEM_PART: usize = 4;
const GRACE_MS: u64 = 1000;
const SHORT_GRACE_MS: u64 = 100;
/// Milliseconds between two counts of those values.
const ITEM_CHECK_MS: u64 = 50;
/// Item bytes freed at a time for a command short of memory: enough to empty
/// the pages of a size class.
const RELIEF_BYTES: usize = 2 << 20;

/// State of a stalled connection.
#[derive(Default)]
pub struct Parked {
    /// Output that the client has not read.
    pub output: Option<Box<Output>>,
    /// Storage command whose value is being received.
    pub pending: Option<Pending>,
}

/// Parked state of the stalled clients of all workers.
pub struct Stalled {
    tables: Box<[CachePadded<Table>]>,
    limit: usize,
    /// Refuse retrievals at the limit (`-o read_buf_mem_limit`).
    refuses: bool,
    /// Time of the last count of stale and half-received values, in
    /// milliseconds of the server's clock.
    items_checked: AtomicU64,
    /// Retrievals refused at the limit.
    pub refused: AtomicU64,
    /// Clients cut because of unsent output.
    pub cut_output: AtomicU64,
    /// Clients cut because of incomplete input.
    pub cut_input: AtomicU64,
    /// Clients cut because of item memory: unsent stale values or half-received
    /// ones.
    pub cut_items: AtomicU64,
}

#[derive(Default)]
struct Table {
    /// Indexed by the worker's number of the connection.
    entries: Mutex<Vec<Option<Box<Entry>>>>,
    /// Bytes of parked output buffers.
    output_bytes: AtomicUsize,
    /// Bytes of the items that parked output pins and of half-received values.
    item_bytes: AtomicUsize,
    /// Bytes of incomplete input that the worker keeps.
    input_bytes: AtomicUsize,
    /// Set when another thread freed entries or input must be freed.
    attention: AtomicBool,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

struct Entry {
    parked: Parked,
    /// Time of the client's last progress, in milliseconds of the server's
    /// clock.
    since: u64,
    /// The connection waits for its client. Otherwise it waits for its turn.
    waiting: bool,
    output_bytes: usize,
    item_bytes: usize,
}

/// An entry considered for cutting, with its position.
struct Candidate {
    table: usize,
    connection: usize,
    since: u64,
    waiting: bool,
    weight: u128,
}

impl Stalled {
    /// Creates tables for `workers` workers. Client buffers may occupy `limit`
    /// bytes together; `refuses` refuses retrievals at the limit.
    pub fn new(workers: usize, limit: usize, refuses: bool) -> Self {
        Self {
            tables: (0..workers).map(|_| CachePadded::default()).collect(),
            limit,
            refuses,
            items_checked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            cut_output: AtomicU64::new(0),
            cut_input: AtomicU64::new(0),
            cut_items: AtomicU64::new(0),
        }
    }

    /// Returns the limit of all client buffers, in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the bytes of unsent output in parked buffers.
    pub fn output_bytes(&self) -> usize {
        self.sum(|table| &table.output_bytes)
    }

    /// Returns the bytes of incomplete input.
    pub fn input_bytes(&self) -> usize {
        self.sum(|table| &table.input_bytes)
    }

    /// Returns the bytes of items that stalled clients hold, live ones
    /// included.
    pub fn item_bytes(&self) -> usize {
        self.sum(|table| &table.item_bytes)
    }

    fn buffer_bytes(&self) -> usize {
        self.output_bytes() + self.input_bytes()
    }

    fn sum(&self, of: impl Fn(&Table) -> &AtomicUsize) -> usize {
        let bytes = self.tables.iter();
        bytes
            .map(|table| of(table).load(Ordering::Relaxed))
            .fold(0, usize::saturating_add)
    }

    /// Returns whether buffers must be kept small.
    pub fn is_tight(&self) -> bool {
        self.buffer_bytes() >= part(self.limit, TIGHT_FROM)
    }

    /// Returns whether to refuse a retrieval, and counts the refusal.
    #[inline]
    pub fn refuses_output(&self) -> bool {
        self.refuses && self.refuses_at_limit()
    }

    #[cold]
    fn refuses_at_limit(&self) -> bool {
        // The level to which cutting clients frees the buffers.
        let refuses = self.buffer_bytes() >= part(self.limit, FREED_TO);
        self.refused
            .fetch_add(u64::from(refuses), Ordering::Relaxed);
        refuses
    }

    /// Sets the function that wakes a worker from its poll. Later calls have no
    /// effect.
    pub fn set_waker(&self, worker: usize, wake: impl Fn() + Send + Sync + 'static) {
        // A second call would come from the same worker, for the same poll.
        let _ = self.tables[worker].wake.set(Box::new(wake));
    }

    /// Parks the state of a worker's connection, whose client last made
    /// progress at `since` milliseconds. `waiting` means that the connection
    /// waits for its client rather than for its turn.
    pub fn park(
        &self,
        worker: usize,
        connection: usize,
        parked: Parked,
        since: u64,
        waiting: bool,
    ) {
        let output = parked.output.as_deref();
        let pending = parked.pending.as_ref();
        let entry = Entry {
            output_bytes: output.map_or(0, |output| size_of::<Output>() + output.buffer_bytes()),
            item_bytes: output.map_or(0, Output::item_bytes) + pending.map_or(0, Pending::bytes),
            parked,
            since,
            waiting,
        };
        let table = &self.tables[worker];
        table.add(&entry);
        let mut entries = table.lock();
        if entries.len() <= connection {
            entries.resize_with(connection + 1, || None);
        }
        debug_assert!(entries[connection].is_none(), "parked twice");
        entries[connection] = Some(Box::new(entry));
    }

    /// Records that the client has made progress and the connection now waits
    /// for its turn.
    pub fn mark_runnable(&self, worker: usize, connection: usize) {
        if let Some(Some(entry)) = self.tables[worker].lock().get_mut(connection) {
            entry.waiting = false;
        }
    }

    /// Removes and returns the parked state of a connection; `None` if it was
    /// cut.
    pub fn unpark(&self, worker: usize, connection: usize) -> Option<Parked> {
        Some(self.take(worker, connection)?.parked)
    }

    fn take(&self, worker: usize, connection: usize) -> Option<Entry> {
        let table = &self.tables[worker];
        let entry = *table.lock().get_mut(connection)?.take()?;
        table.subtract(&entry);
        Some(entry)
    }

    /// Returns whether a connection's state is still parked.
    pub fn is_parked(&self, worker: usize, connection: usize) -> bool {
        let entries = self.tables[worker].lock();
        entries.get(connection).is_some_and(Option::is_some)
    }

    /// Sets the bytes of incomplete input that a worker keeps.
    pub fn set_input_bytes(&self, worker: usize, bytes: usize) {
        let table = &self.tables[worker];
        table.input_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Sets a worker's attention flag and wakes it.
    pub fn wake_worker(&self, worker: usize) {
        self.tables[worker].wake_worker();
    }

    /// Returns whether connections of a worker were cut or it must free input.
    /// Clears the flag.
    #[inline]
    pub fn needs_attention(&self, worker: usize) -> bool {
        let attention = &self.tables[worker].attention;
        attention.load(Ordering::Relaxed) && attention.swap(false, Ordering::AcqRel)
    }

    /// At the limit of client buffers, frees output buffers, those with the
    /// largest product of size and stall time first. If that does not suffice,
    /// wakes the worker with the most input.
    ///
    /// Returns the bytes of input that the calling worker must free itself.
    #[must_use]
    pub fn enforce_limit(&self, store: &Store, local: &mut Local, worker: usize) -> usize {
        if self.buffer_bytes() < self.limit {
            return 0;
        }
        let target = part(self.limit, FREED_TO);
        let weigh = |entry: &Entry, age: u64| entry.output_bytes as u128 * u128::from(age + 1);
        for candidate in self.candidates(local.now, weigh) {
            if self.buffer_bytes() < target {
                return 0;
            }
            if candidate.weight == 0 {
                continue;
            }
            self.cut(&candidate, store, local, &self.cut_output);
        }
        let excess = self.buffer_bytes().saturating_sub(target);
        let of_table = |table: &CachePadded<Table>| table.input_bytes.load(Ordering::Relaxed);
        let own = of_table(&self.tables[worker]);
        if own < excess {
            let largest = self.tables.iter().max_by_key(|table| of_table(table));
            if let Some(table) = largest {
                table.wake_worker();
            }
        }
        excess.min(own)
    }

    /// Cuts clients without progress while stale and half-received values
    /// exceed their share of the memory limit.
    pub fn enforce_item_share(&self, store: &Store, local: &mut Local, now: Now) {
        let share = store.memory_limit() / ITEM_PART;
        if self.item_bytes() < share || !self.is_item_check_due(now) {
            return;
        }
        let mut occupied = self.occupied_bytes();
        let candidates = self.candidates(now, |_, age| u128::from(age));
        let mut candidates = candidates.into_iter().peekable();
        for (floor, grace) in [(share, GRACE_MS), (2 * share, SHORT_GRACE_MS)] {
            let is_due = |candidate: &Candidate| {
                candidate.waiting && now.millis() >= candidate.since + grace
            };
            while occupied > floor
                && let Some(candidate) = candidates.next_if(is_due)
            {
                occupied = occupied.saturating_sub(self.cut_occupier(&candidate, store, local));
            }
        }
    }

    /// Frees item memory for a command that cannot get any otherwise, starting
    /// with the client that has stalled longest. Returns false if nothing could
    /// be freed.
    ///
    /// A server that does not evict cuts only clients stalled for `GRACE_MS`:
    /// it refuses the command rather than cut clients that are merely slow.
    #[cold]
    pub fn free_item_memory(&self, store: &Store, local: &mut Local) -> bool {
        let (mut freed, now) = (0, local.now.millis());
        for candidate in self.candidates(local.now, |_, age| u128::from(age)) {
            let stalls = candidate.waiting && now >= candidate.since + GRACE_MS;
            if !store.evicts() && !stalls {
                continue;
            }
            freed += self.cut_occupier(&candidate, store, local);
            if freed >= RELIEF_BYTES {
                break;
            }
        }
        freed > 0
    }

    /// Frees item memory before the memory limit is lowered to `limit` bytes,
    /// so that not only live items are evicted to make room.
    pub fn shrink_items(&self, store: &Store, local: &mut Local, limit: usize) {
        let share = limit / ITEM_PART;
        let mut occupied = self.occupied_bytes();
        for candidate in self.candidates(local.now, |_, age| u128::from(age)) {
            if occupied <= share || !candidate.waiting {
                return;
            }
            occupied = occupied.saturating_sub(self.cut_occupier(&candidate, store, local));
        }
    }

    /// Admits one thread per interval, because counting walks all entries.
    fn is_item_check_due(&self, now: Now) -> bool {
        let last = self.items_checked.load(Ordering::Relaxed);
        now.millis() >= last + ITEM_CHECK_MS
            && self
                .items_checked
                .compare_exchange(last, now.millis(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Returns the bytes of item memory that only stalled clients hold,
    /// counting each item once.
    fn occupied_bytes(&self) -> usize {
        let (mut seen, mut bytes) = (HashSet::new(), 0);
        for table in &self.tables {
            for entry in table.lock().iter().flatten() {
                bytes += entry.parked.pending.as_ref().map_or(0, Pending::bytes);
                let stale = entry.parked.output.iter().flat_map(|o| o.stale_values());
                bytes += stale
                    .filter(|(address, _)| seen.insert(*address))
                    .map(|(_, bytes)| bytes)
                    .sum::<usize>();
            }
        }
        bytes
    }

    /// Returns all entries: those that wait for their clients first, then by
    /// descending weight. `weigh` gets an entry and its age in milliseconds.
    fn candidates(&self, now: Now, weigh: impl Fn(&Entry, u64) -> u128) -> Vec<Candidate> {
        let mut all = Vec::new();
        for (index, table) in self.tables.iter().enumerate() {
            let entries = table.lock();
            let present = entries.iter().enumerate();
            all.extend(present.filter_map(|(connection, entry)| {
                let entry = entry.as_deref()?;
                let age = now.millis().saturating_sub(entry.since);
                Some(Candidate {
                    table: index,
                    connection,
                    since: entry.since,
                    waiting: entry.waiting,
                    weight: weigh(entry, age),
                })
            }));
        }
        all.sort_unstable_by_key(|candidate| Reverse((candidate.waiting, candidate.weight)));
        all
    }

    /// Cuts a candidate if it occupies item memory. Returns the bytes.
    fn cut_occupier(&self, candidate: &Candidate, store: &Store, local: &mut Local) -> usize {
        let bytes = {
            let entries = self.tables[candidate.table].lock();
            let Some(Some(entry)) = entries.get(candidate.connection) else {
                return 0;
            };
            let stale = entry.parked.output.iter().flat_map(|o| o.stale_values());
            let pending = entry.parked.pending.as_ref().map_or(0, Pending::bytes);
            pending + stale.map(|(_, bytes)| bytes).sum::<usize>()
        };
        if bytes > 0 {
            self.cut(candidate, store, local, &self.cut_items);
        }
        bytes
    }

    fn cut(&self, candidate: &Candidate, store: &Store, local: &mut Local, count: &AtomicU64) {
        let Some(entry) = self.take(candidate.table, candidate.connection) else {
            return;
        };
        entry.parked.dispose(store, local);
        count.fetch_add(1, Ordering::Relaxed);
        self.tables[candidate.table].wake_worker();
    }
}

impl Parked {
    /// Releases the parked state to the store.
    pub fn dispose(self, store: &Store, local: &mut Local) {
        if let Some(mut output) = self.output {
            output.clear(store, local);
        }
        if let Some(pending) = self.pending {
            pending.abandon(store, local);
        }
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Box<Entry>>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, entry: &Entry) {
        let (output, items) = (&self.output_bytes, &self.item_bytes);
        output.fetch_add(entry.output_bytes, Ordering::Relaxed);
        items.fetch_add(entry.item_bytes, Ordering::Relaxed);
    }

    fn subtract(&self, entry: &Entry) {
        let (output, items) = (&self.output_bytes, &self.item_bytes);
        output.fetch_sub(entry.output_bytes, Ordering::Relaxed);
        items.fetch_sub(entry.item_bytes, Ordering::Relaxed);
    }

    /// Sets the attention flag of the table's worker and wakes it.
    fn wake_worker(&self) {
        self.attention.store(true, Ordering::Release);
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }
}

fn part(whole: usize, (numerator, denominator): (usize, usize)) -> usize {
    whole / denominator * numerator
}
