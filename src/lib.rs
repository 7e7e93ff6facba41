//! rustcached: a cache server that speaks memcached's protocols.

pub mod cli;
pub mod config;
pub mod limits;
pub mod loadgen;
pub mod protocol;
pub mod stats;
pub mod store;
pub mod sync;
pub mod time;
