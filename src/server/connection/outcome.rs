//! How a connection's turn and its batches end.

/// How a connection's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Served {
    /// All input is served; more is needed.
    NeedInput,
    /// The budget is used up; input is left.
    Yielding,
    /// The socket takes no more output for now.
    Blocked,
    /// Output is left that is sent after other connections had their turn.
    Sending,
    /// The connection is to be closed.
    Finished,
    /// A dump goes on after other connections had their turn.
    Dumping,
    /// The connection becomes a watcher and moves to the log thread.
    Leaving,
}

/// How a turn goes on after a batch.
pub(in crate::server) enum Turn {
    /// Serve the next batch.
    GoOn,
    /// End the turn.
    End(Served),
}
