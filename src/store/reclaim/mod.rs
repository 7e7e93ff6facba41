//! Reclamation: memory that was unlinked from the map is freed once no thread
//! can read it any more. Readers may look at an item without its shard's lock
//! while they are inside an epoch ([`Store::enter`]).
//!
//! The last reference to an item that was linked goes to the limbo of the
//! thread that dropped it. A thread frees its limbo incrementally: at the end of
//! each batch, every few chunks, and when it is short of memory. Its own epoch
//! does not count, since a thread that retires, allocates or evicts holds
//! nothing that it found without a lock.

pub(in crate::store) mod epoch;
pub(in crate::store) mod limbo;
pub(in crate::store) mod retire;
