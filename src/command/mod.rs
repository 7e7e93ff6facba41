//! What a request means: executes it on the store and writes the answer.
//! Holds no socket and no file descriptor; called by the server's workers,
//! one request after the other.

mod arithmetic;
mod binary;
mod control;
mod dump;
mod instrument;
mod join;
mod listing;
mod meta;

mod operate;
mod output;
mod read;
mod refusal;
mod remove;
mod sasl;
mod stalled;
mod stat_sink;
mod stats;
mod write;

pub use crate::command::dump::Dump;
pub use crate::command::output::Output;
pub use crate::command::sasl::SaslState;
pub use crate::command::stalled::{Parked, Stalled};
pub use crate::command::write::Pending;

use crate::events::{Filter, ItemSize, Kinds};
use crate::protocol::request::Request;
use crate::protocol::text::encode;
use crate::shared::Shared;
use crate::store::{Hashed, ItemSpec, Local, Miss, NewItem, NoMemory, Store};
use crate::time::Now;

/// What becomes of the connection after a request.
#[derive(Debug)]
pub enum After {
    /// The next request.
    Continue,
    /// It is closed once its answers are sent: the client is at fault.
    Close,
    /// The same, as the client asked for.
    Quit,
    /// It is closed at once, and the server stops.
    Shutdown {
        /// Without hurry.
        graceful: bool,
    },
    /// The output is full in the middle of a retrieval, which goes on when
    /// the client has taken some of it.
    Paused {
        /// Bytes of the list of keys that are answered.
        done: usize,
    },
    /// The answer comes by another way; nothing behind the request may be
    /// executed before.
    StreamedReply(StreamedReply),
}

/// An answer that is not written at once.
#[derive(Debug)]
pub enum StreamedReply {
    /// Step by step, as the client takes it.
    Dump(Box<Dump>),
    /// As long as the client stays: whatever passes the filter. A watcher's
    /// place has been taken for it.
    Watch(Filter),
}

/// One thread's means to execute requests.
pub struct Executor<'a> {
    /// The items.
    pub store: &'a Store,
    /// This thread's share of the store.
    pub local: &'a mut Local,
    /// What all threads share besides.
    pub shared: &'a Shared,
    /// The time.
    pub now: Now,
    /// Descriptor of the connection the requests come from.
    pub connection: i32,
    /// What somebody wants to be told of, as of the beginning of the batch.
    pub watched: Kinds,
    /// Clients whose stale or half-received values can be given up for memory.
    pub stalled: &'a Stalled,
}

impl Executor<'_> {
    /// Executes a request that stands complete in the buffer; `block` is the
    /// value block of a storage command, its line end included.
    #[inline]
    pub fn execute(
        &mut self,
        request: &Request<'_>,
        hash: Option<u64>,
        block: &[u8],
        out: &mut Output,
    ) -> After {
        match request {
            Request::Get(line) => return self.get(line, hash, out),
            Request::Store(line) => self.store_line(line, hash, block, out),
            Request::Packet(packet) => return self.packet(packet, hash, block, out),
            Request::MetaGet(meta) => self.meta_get(meta, hash, out),
            Request::MetaSet(meta) => self.meta_set(meta, block, out),
            Request::MetaDelete(meta) => self.meta_delete(meta, out),
            Request::MetaArithmetic(meta) => self.meta_arithmetic(meta, out),
            Request::MetaDebug { key, base64 } => self.meta_debug(key, *base64, out),
            Request::MetaNoop => encode::line(&mut out.bytes, "MN"),
            Request::Delete { key, noreply } => self.delete(key, *noreply, out),
            Request::Arithmetic {
                key,
                delta,
                decrement,
                noreply,
            } => {
                self.count(key, *delta, *decrement, *noreply, out);
            }
            Request::Touch {
                key,
                exptime,
                noreply,
            } => self.touch(key, *exptime, *noreply, out),
            rare => return self.control(rare, out),
        }
        After::Continue
    }

    /// Makes an item with its value, as [`Store::new_filled`] does, at the cost
    /// of stalled clients if need be.
    #[inline]
    fn new_filled<'p>(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        value: impl Iterator<Item = &'p [u8]> + Clone,
    ) -> Result<NewItem, NoMemory> {
        let (store, now) = (self.store, self.now);
        self.with_memory(|local| store.new_filled(local, key, spec, now, value.clone()))
    }

    /// Appends bytes to a value, as [`Store::fill`] does, at the cost of
    /// stalled clients if need be.
    ///
    /// # Errors
    /// There is no memory; the item must be discarded.
    pub fn fill(&mut self, new: &mut NewItem, bytes: &[u8]) -> Result<(), NoMemory> {
        let (store, end) = (self.store, new.missing() - bytes.len());
        self.with_memory(|local| {
            let rest = &bytes[bytes.len() - (new.missing() - end)..];
            store.fill(local, new, rest)
        })
    }

    /// Lets `receive` write into a value, as [`Store::fill_with`] does, at the
    /// cost of stalled clients if need be.
    ///
    /// # Errors
    /// There is no memory; the item must be discarded.
    pub fn fill_with<E>(
        &mut self,
        new: &mut NewItem,
        mut receive: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Result<usize, E>, NoMemory> {
        let store = self.store;
        self.with_memory(|local| store.fill_with(local, new, &mut receive))
    }

    /// Tries again as long as stalled clients can be cut for the memory that
    /// is missing.
    #[inline]
    fn with_memory<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Local) -> Result<T, NoMemory>,
    ) -> Result<T, NoMemory> {
        loop {
            match attempt(self.local) {
                Ok(done) => return Ok(done),
                Err(NoMemory) if self.stalled.relieve_items(self.store, self.local) => {}
                Err(NoMemory) => return Err(NoMemory),
            }
        }
    }

    /// Counts a key that was asked for.
    #[inline]
    fn count_get(&self, key: &[u8], found: Result<ItemSize, Miss>) {
        let counters = &self.local.counters;
        counters.cmd_get.add(1);
        match found {
            Ok(item) => self.local.classes.of(item.class).get_hits.add(1),
            Err(_) => counters.get_misses.add(1),
        }
        if !self.watched.is_empty() {
            self.tell_fetched(key, found);
        }
    }

    /// Counts a key that was touched.
    fn count_touch(&self, key: &[u8], found: Result<ItemSize, Miss>) {
        let counters = &self.local.counters;
        counters.cmd_touch.add(1);
        match found {
            Ok(item) => {
                counters.touch_hits.add(1);
                self.local.classes.of(item.class).touch_hits.add(1);
            }
            Err(_) => counters.touch_misses.add(1),
        }
        if !self.watched.is_empty() {
            self.tell_fetched(key, found);
        }
    }
}

/// Appends an answer line unless the client wants none.
fn reply(out: &mut Output, noreply: bool, text: &str) {
    if !noreply {
        encode::line(&mut out.bytes, text);
    }
}
