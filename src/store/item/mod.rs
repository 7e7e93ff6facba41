//! Items: their layout in chunks, construction, modification and references.

pub(in crate::store) mod access_stamp;
pub(in crate::store) mod build;
pub(in crate::store) mod chain;
pub(in crate::store) mod drop_bomb;
pub(in crate::store) mod entry;
pub(in crate::store) mod extension;
pub(in crate::store) mod fields;
pub(in crate::store) mod layout;
pub(in crate::store) mod outgoing;
pub(in crate::store) mod pin;
pub(in crate::store) mod refs;
pub(in crate::store) mod segment;
pub(in crate::store) mod tags;
