//! The load generator behind `rustcached-bench`.
//!
//! Measures any server that speaks memcached's protocols, from outside: it shares no code with
//! rustcached. Modules from the bottom:
//!
//! - `wire` and `replies`: encoding requests and parsing replies,
//! - `content` and `random`: keys, values and their distribution,
//! - `tls` and `tls_stream`: certificates, and connections over TLS,
//! - `client` and `batch_client`: a connection, blocking; the same with batches and counts,
//! - `plan` and `ring`: loads and their encoded requests,
//! - `worker`, `connection` and `collector`: sending a load and measuring the replies,
//! - `process` and `servers`: server processes; the two sides of a comparison,
//! - `rounds`: alternating rounds of a load on two servers,
//! - `latency` and `report`: percentiles, tables, CSV and JSON,
//! - a module for each subcommand.
//!
//! `accept`, `connections`, `density`, `memory`, `replay-compare`, `restart`, `stall` and `startup` compare servers without
//! `rounds`. The imports of files never form a circle; `tests/tidy` enforces this.

pub mod accept;
pub mod address;
pub mod batch_client;
pub mod client;
pub mod collector;
pub mod compare;
mod connection;
pub mod connections;
pub mod content;
pub mod density;
pub mod failure;
pub mod latency;
pub mod memory;
pub mod plan;
pub mod preload;
pub mod process;
pub mod random;
pub mod replay;
pub mod replay_compare;
pub mod replies;
pub mod report;
pub mod restart;
pub mod ring;
pub mod rounds;
pub mod run;
pub mod servers;
pub mod stall;
pub mod startup;
pub mod tls;
pub mod tls_stream;
pub mod trace;
pub mod wire;
pub mod worker;
