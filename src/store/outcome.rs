//! Results of item look-ups and allocations.

/// Error: no memory is left and nothing may be evicted to get some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Whether a read counts as an access to the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The read updates the access time, the `FETCHED` bit and the eviction
    /// policy's stamp.
    Counted,
    /// The read changes nothing in the item.
    Peek,
}

/// Reason of a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The key has no item.
    Absent,
    /// The key's item has expired.
    Expired,
    /// The key's item was stored before the last flush.
    Flushed,
    /// The key's item was stored before an invalidation of its prefix or tag.
    Invalidated,
}

/// Condition of a linked item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Condition {
    /// It is alive.
    Live,
    /// It is alive, and must be marked stale before it is used: an invalidation
    /// demands that.
    TurnsStale,
    /// It counts as absent, for this reason.
    Dead(Miss),
}
