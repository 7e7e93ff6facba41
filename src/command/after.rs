//! How a connection continues after a request.

use crate::command::admin::dump::Dump;
use crate::events::Filter;
use crate::protocol::request::ClusterBlock;

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
    /// A data block follows, which the parser did not know of. It is received
    /// before the next request is parsed.
    Block(AwaitedBlock),
}

/// A data block that follows a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwaitedBlock {
    /// The list of `config set cluster`.
    Cluster {
        /// Flags and length.
        block: ClusterBlock,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// A block of this many bytes, CRLF included, whose request was refused.
    Refused(usize),
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
