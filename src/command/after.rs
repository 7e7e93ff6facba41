//! What follows a request.

use crate::command::admin::dump::Dump;
use crate::events::Filter;

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
