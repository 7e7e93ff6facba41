//! rustcached: a cache server that speaks memcached's protocols.

pub mod cli;
pub mod command;
pub mod config;
pub mod limits;
pub mod loadgen;
pub mod protocol;

pub mod server;
pub mod shared;
pub mod stats;
pub mod store;
pub mod sync;
pub mod time;
pub mod upkeep;
