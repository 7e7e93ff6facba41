//! How a connection continues after a request.

use crate::command::admin::dump::Dump;
use crate::events::Filter;

/// How a connection continues after a request.
#[derive(Debug)]
pub enum After {
    /// Execute the next request.
    Continue,
    /// Close the connection after its replies are sent, because the client made
    /// an error.
    Close,
    /// Close the connection after its replies are sent, because the client sent
    /// `quit`.
    Quit,
    /// Close the connection at once and stop the server.
    Shutdown,
    /// The output is full within a retrieval. Continue with the remaining keys
    /// after output was sent.
    Paused {
        /// Bytes of the key list that are answered.
        done: usize,
    },
    /// The reply is streamed. No later request of the connection may be
    /// executed before it ends.
    StreamedReply(StreamedReply),
}

/// A reply that is not written at once.
#[derive(Debug)]
pub enum StreamedReply {
    /// Written in steps, as fast as the client reads.
    Dump(Box<Dump>),
    /// Events that match the filter, until the client disconnects. A watcher
    /// place has been taken for it.
    Watch(Filter),
}
