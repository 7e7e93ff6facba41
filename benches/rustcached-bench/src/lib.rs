//! The load generator behind `rustcached-bench`.
//!
//! Measures any server that speaks memcached's protocols, from outside: it shares no code with this
//! package's server, store or commands. Modules from the bottom:
//!
//! - `wire` and `replies`: encoding requests and parsing replies,
//! - `content` and `random`: keys, values and their distribution,
//! - `plan` and `ring`: loads and their encoded requests,
//! - `worker`: connections and latencies,
//! - `process`: server processes,
//! - `rounds`: comparisons of several servers,
//! - a module for each subcommand.

pub mod address;
pub mod batch_client;
pub mod client;
pub mod collector;
pub mod compare;
mod connection;
pub mod content;
pub mod density;
pub mod failure;
pub mod memory;
pub mod plan;
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
pub mod servers;
pub mod stall;
pub mod startup;
pub mod trace;
pub mod wire;
pub mod worker;
