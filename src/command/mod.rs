//! What a request means: executes it on the store and writes the answer.
//! Holds no socket and no file descriptor; called by the server's workers,
//! one request after the other.

mod arithmetic;
mod binary;
mod control;
mod join;
mod meta;
mod output;
mod read;
mod remove;
mod sasl;
mod stat_sink;
mod stats;
mod write;

pub use crate::command::output::Output;
pub use crate::command::sasl::Login;
pub use crate::command::write::Pending;

use crate::protocol::encode;
use crate::protocol::request::Request;
use crate::shared::Shared;
use crate::store::{Local, Miss, Store};
use crate::time::Now;

/// What becomes of the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    fn count_get(&self, found: Result<(), Miss>) {
        let counters = &self.local.counters;
        counters.cmd_get.add(1);
        if let Err(miss) = found {
            counters.get_misses.add(1);
            match miss {
                Miss::Absent => {}
                Miss::Expired => counters.get_expired.add(1),
                Miss::Flushed => counters.get_flushed.add(1),
            }
        }
    }

    fn count_touch(&self, hit: bool) {
        let counters = &self.local.counters;
        counters.cmd_touch.add(1);
        if hit {
            counters.touch_hits.add(1);
        } else {
            counters.touch_misses.add(1);
        }
    }
}

/// Appends an answer line unless the client wants none.
fn reply(out: &mut Output, noreply: bool, text: &str) {
    if !noreply {
        encode::line(&mut out.bytes, text);
    }
}
