//! rustcached: a cache server that speaks memcached's protocols.
//!
//! Under `--cfg loom` only what the model checker checks is compiled: its
//! atomics are larger than real ones, so that no item has its layout.

#[cfg(not(loom))]
pub mod cli;
#[cfg(not(loom))]
pub mod command;
#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
pub mod limits;
#[cfg(not(loom))]
pub mod loadgen;
#[cfg(not(loom))]
pub mod protocol;

#[cfg(not(loom))]
pub mod server;
#[cfg(not(loom))]
pub mod shared;
#[cfg(not(loom))]
pub mod stats;
#[cfg(not(loom))]
pub mod store;
pub mod sync;
#[cfg(not(loom))]
pub mod time;
#[cfg(not(loom))]
pub mod upkeep;

#[cfg(loom)]
#[allow(dead_code, reason = "its callers are not compiled")]
#[path = "store/refs.rs"]
mod refs;
