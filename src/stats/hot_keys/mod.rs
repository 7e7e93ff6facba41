//! The most requested keys of the last 10 to 20 seconds.
//!
//! Each worker samples its requests ([`HotSampler`]) into a sketch of its own
//! ([`HotKeys`]). A report merges the sketches of all workers
//! ([`merge_hot_keys`]).
//!
//! A request that is not sampled costs the decrement of a counter. A sampled one
//! takes the lock of the sketch if it is free. Only a report contends for it,
//! and a worker never waits for a report: it samples the next request instead.
//! While hot keys are off, a batch costs one relaxed load, and no memory is
//! used.

mod report;
mod sampler;
mod sketch;

pub use report::{HotKey, HotReport, merge_hot_keys};
pub use sampler::{HotKeys, HotSampler};
pub use sketch::KeyAccess;
