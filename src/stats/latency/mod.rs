//! Latencies of commands: a histogram for each worker and kind of command.
//!
//! A worker reads the clock once per batch. It records the commands of a batch
//! together, with the same latency ([`Latencies::record_n`]). A reader sums the
//! histograms of all workers ([`LatencySnapshot`]). Once a second it passes the
//! sums to a [`LatencyHistory`], which reports the last minute.
//!
//! The buckets are log-linear, 16 in each power of two, from 16 ns to 67 s. The
//! crate `histogram` has the same kind of buckets. Its atomic histogram adds
//! with a locked instruction, because several threads may write it. Here each
//! histogram has a single writer, so a load and a store suffice. With the crate,
//! neither 1 µs nor its powers of two would be bounds, so that heat maps and
//! Prometheus would get estimates. It also keeps no sums and no maxima.

mod buckets;
mod histogram;
mod history;
mod recorder;

pub use buckets::{COARSE_BOUNDS_US, COARSE_BUCKETS};
pub use histogram::{Histogram, LatencySummary};
pub use history::{LatencyHistory, LatencyRow};
pub use recorder::{CommandKind, Latencies, LatencySnapshot};
