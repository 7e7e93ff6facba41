//! Keys to items: the map, its versions, and walking it.

pub(in crate::store) mod map;
pub(in crate::store) mod prefetch;
pub(in crate::store) mod version;
pub(in crate::store) mod walk;
