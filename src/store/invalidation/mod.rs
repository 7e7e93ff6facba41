//! Invalidation of all items with a prefix or a tag, in one step.
//!
//! An item is dead if it was born before the last invalidation of one of its
//! names. Its names are its tags and the prefixes of its key, which end at the
//! delimiter, at any depth: `a:b:c` has the prefixes `a:` and `a:b:`. Its birth is
//! its CAS value, or a field of its own if a client gave the CAS value.
//! `order.rs` says why no content from before an invalidation outlives it.
//!
//! Invalidations are kept in a table of numbers, by the hash of the name
//! (`table.rs`). Names that share a slot are invalidated together. So
//! memory is bounded, and a collision only invalidates too much. Invalidations
//! that mark items stale have a table of their own.
//!
//! An invalidation is outstanding until a lap of upkeep's sweep over all shards,
//! begun after it, has ended: no item is left that it concerns. While none is
//! outstanding, a lookup pays one load. Otherwise it looks at the delimiter's
//! place of each outstanding length of a prefix, hashes the prefix if the
//! delimiter is there, and tests a bit before it reads the table.
//!
//! The end of a lap only clears the hints ahead of the tables. Numbers in the
//! tables may stay: all new items have higher ones.

mod invalidate;
pub(in crate::store) mod name;
pub(in crate::store) mod order;
pub(in crate::store) mod table;
#[cfg(test)]
mod tests;
