//! The store: a map from keys to items in bounded memory, with eviction. It
//! knows no protocol.
//!
//! A reader views an item inside an epoch ([`Store::read_unlocked`]) or under its
//! shard's read lock ([`Store::read`]), or holds a reference to it ([`Pin`]). A
//! writer makes the new item first and links it under the shard's write lock
//! ([`Store::edit`]).
//!
//! What was unlinked from the map is freed once no thread is left inside an epoch
//! in which it might have found it ([`Store::enter`]). No thread waits for that
//! while it holds a lock.
//!
//! # Locking
//!
//! No thread holds two shard locks at once. Under a shard lock, no chunk is
//! allocated or freed, and nothing is logged or sent. Chunks are allocated
//! before locking and released after unlocking.
//!
//! Heap memory is allocated or freed under a shard lock in these places only:
//!
//! - An insert into a full table rebuilds the table, and the end of a sweep
//!   shrinks a sparse one. Both allocate the new table and free the old one.
//!   There are enough shards that this takes a millisecond or two at most.
//! - An insert for which there is no room in the table's buckets may grow the
//!   shard's stash.
//! - A sweep collects the chunks to release, and a [`Walk`] the hashes it has
//!   shown.
//! - A callback of [`Store::read`], [`Store::edit`] or [`Store::walk`] may
//!   append to its caller's buffer.

mod census;
mod evict;
mod index;
mod invalidation;
mod item;
mod memory;
pub mod mrc;
mod outcome;
mod read;
mod reclaim;
pub mod restart;
mod state;

#[cfg(test)]
mod tests;

pub use crate::store::census::ClassMemory;
pub use crate::store::evict::prefix_limits::PrefixUse;
pub use crate::store::evict::prefix_room::{BadPrefixLimit, Growth};
pub use crate::store::evict::sweep::Swept;
pub use crate::store::index::map::{HASH_NAME, Hashed};
pub use crate::store::index::prefetch::prefetch_bytes;
pub use crate::store::index::walk::Walk;
pub use crate::store::invalidation::name::{
    BadName, Birth, Effect, InvalidationState, Name, is_tag,
};
pub use crate::store::item::build::NewItem;
pub use crate::store::item::entry::Entry;
pub use crate::store::item::layout::{Item, ItemSpec};
pub use crate::store::item::outgoing::Outgoing;
pub use crate::store::item::pin::Pin;
pub use crate::store::item::segment::Pieces;
pub use crate::store::item::tags::Tags;
pub use crate::store::memory::classes::PAGE_SPACE_BYTES;
pub use crate::store::outcome::{Access, Miss, NoMemory};
pub use crate::store::state::{Local, Options, Store};
