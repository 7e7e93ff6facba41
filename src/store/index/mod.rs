//! The index from keys to items: the map, shard versions, and walks.

pub(in crate::store) mod map;
pub(in crate::store) mod prefetch;
pub(in crate::store) mod version;
pub(in crate::store) mod walk;
