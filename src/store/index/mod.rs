//! The index from keys to items: the map and its tables, and walks.

mod bucket;
mod counts;
pub(in crate::store) mod map;
pub(in crate::store) mod prefetch;
pub(in crate::store) mod slot;
pub(in crate::store) mod table;
pub(in crate::store) mod unlocked;
pub(in crate::store) mod walk;

#[cfg(test)]
mod tests;
