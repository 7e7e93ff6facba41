//! How serving a connection ends.

/// How serving a connection's input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Served {
    /// All that can be is done; more input is needed.
    NeedInput,
    /// The budget is used up; there is more to do.
    Yielding,
    /// The socket takes no more output for now.
    Blocked,
    /// There is more to send, when others have had their turn.
    Sending,
    /// The connection is over.
    Finished,
    /// The answer goes on when others have had their turn.
    Dumping,
    /// The connection belongs to the log thread now.
    Leaving,
}

/// Where one batch left off.
pub(in crate::server) enum Turn {
    GoOn,
    End(Served),
}
