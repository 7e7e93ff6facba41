//! Eviction: the policy, the search for victims, reclaiming of pages, and sweeps.

pub(in crate::store) mod ghosts;
pub(in crate::store) mod hand;
pub(in crate::store) mod oldest;
pub(in crate::store) mod policy;
pub(in crate::store) mod prefix_limits;
pub(in crate::store) mod prefix_pool;
pub(in crate::store) mod prefix_room;
pub(in crate::store) mod reclaim;
pub(in crate::store) mod sweep;
pub(in crate::store) mod victim;
