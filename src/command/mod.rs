//! What a request means: executes it on the store and writes the answer.
//! Holds no socket and no file descriptor; called by the server's workers,
//! one request after the other.

mod arithmetic;
mod binary;
mod control;
mod dump;
mod join;
mod meta;
mod observe;
mod operate;
mod output;
mod read;
mod refusal;
mod remove;
mod sasl;
mod stat_sink;
mod stats;
mod write;

pub use crate::command::dump::Dump;
pub use crate::command::output::Output;
pub use crate::command::sasl::Login;
pub use crate::command::write::Pending;

use crate::events::{Figures, Filter, Kinds};
use crate::protocol::encode;
use crate::protocol::request::Request;
use crate::shared::Shared;
use crate::store::{Local, Miss, Store};
use crate::time::Now;

/// What becomes of the connection after a request.
#[derive(Debug)]
pub enum After {
    /// The next request.
    Continue,
    /// It is closed once its answers are sent.
    Close,
    /// It is closed at once, and the server stops.
    Shutdown {
        /// Without hurry.
        graceful: bool,
    },
    /// The answer comes by another way; nothing behind the request may be
    /// executed before.
    Detour(Detour),
}

/// An answer that is not written at once.
#[derive(Debug)]
pub enum Detour {
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
            Request::Get(line) => self.get(line, hash, out),
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

    /// Counts a key that was asked for.
    #[inline]
    fn count_get(&self, key: &[u8], found: Result<Figures, Miss>) {
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
    fn count_touch(&self, key: &[u8], found: Result<Figures, Miss>) {
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
