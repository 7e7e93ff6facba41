//! How looking at items and making them ends.

/// There is no memory, and nothing may be evicted to get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Whether a look at an item counts as an access to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It does.
    Counted,
    /// It leaves no trace.
    Peek,
}

/// Why a key has no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// It has none.
    Absent,
    /// It had one whose time is over.
    Expired,
    /// It had one from before the last flush.
    Flushed,
}
