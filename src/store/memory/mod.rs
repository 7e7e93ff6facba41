//! Page memory: pages cut into chunks of size classes, and threads' magazines.

pub(in crate::store) mod arena;
pub(in crate::store) mod chunk;
pub(in crate::store) mod class_pages;
pub(in crate::store) mod classes;
pub(in crate::store) mod file;
pub(in crate::store) mod magazine;
pub(in crate::store) mod poison;
pub(in crate::store) mod pool;
