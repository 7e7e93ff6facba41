//! rustcached: a cache server that speaks memcached's protocols.

pub mod cli;
pub mod config;
pub mod limits;
pub mod loadgen;
