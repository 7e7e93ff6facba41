//! The load generator behind `rustcached-bench`.
//!
//! Measures any server that speaks memcached's protocols, from outside: it shares no code with the
//! server, store or commands of this package. From the bottom: `wire` and `replies` know the
//! protocols, `content` and `random` the keys and values, `plan` and `ring` the load, `driver` the
//! connections, `process` the servers, `rounds` what is measured side by side; each subcommand has a
//! module on top of these.

pub mod address;
pub mod client;
pub mod compare;
mod connection;
pub mod content;
pub mod density;
pub mod driver;
pub mod failure;
pub mod floor;
pub mod idle;
pub mod keep;
pub mod memory;
pub mod null_server;
pub mod plan;
pub mod player;
pub mod preload;
pub mod process;
pub mod random;
pub mod replay;
pub mod replay_compare;
pub mod replies;
pub mod report;
pub mod ring;
pub mod rounds;
pub mod run;
pub mod stall;
pub mod startup;
pub mod trace;
pub mod versus;
pub mod wire;
