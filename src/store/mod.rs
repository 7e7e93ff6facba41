//! The store: items by key, in bounded memory. Knows no protocol.
//!
//! Readers see an item under its shard's read lock ([`Store::read`]) or hold
//! a reference to it ([`Pin`]); writers make the new item first and link it
//! under the write lock ([`Store::edit`]). No two shards are ever locked at
//! once, and nothing is allocated, freed, logged or sent under a lock.

mod census;
mod evict;
mod hot;
mod index;
mod item;
mod memory;
mod outcome;
mod read;
mod state;

#[cfg(test)]
mod tests;

pub use crate::store::census::ClassMemory;
pub use crate::store::evict::reclaim::Swept;
pub use crate::store::index::map::{HASH_NAME, Hashed};
pub use crate::store::index::prefetch::prefetch_bytes;
pub use crate::store::index::walk::Walk;
pub use crate::store::item::build::NewItem;
pub use crate::store::item::entry::Entry;
pub use crate::store::item::layout::{Item, ItemSpec};
pub use crate::store::item::outgoing::Outgoing;
pub use crate::store::item::pin::Pin;
pub use crate::store::item::segment::Pieces;
pub use crate::store::memory::classes::PAGE_SPACE_BYTES;
pub use crate::store::outcome::{Access, Miss, NoMemory};
pub use crate::store::state::{Local, Options, Store};
