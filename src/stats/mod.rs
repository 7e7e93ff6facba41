//! Statistics: counters that each thread owns and the registry sums, the
//! connection table, counters by key prefix, latencies, hot keys and slow
//! commands.

mod busy_prefixes;
mod classes;
mod conns;
mod counters;
mod declarations;
mod hot_keys;
mod latency;
mod prefixes;
mod registry;
mod restart;
mod slow_log;
mod workers;

pub use busy_prefixes::{BusyPrefixes, PrefixCensus, PrefixFigures};
pub use classes::{ClassCounters, ClassSnapshot, PerClass};
pub use conns::{Conn, ConnState, ConnTable};
pub use counters::{Counter, Counters, Snapshot};
pub use declarations::{
    CLIENTS_CUT, COMMANDS, DECLARATIONS, Declaration, Group, Kind, Metric, Unit,
};
pub use hot_keys::{HotKey, HotKeys, HotReport, HotSampler, KeyAccess, merge_hot_keys};
pub use latency::{
    COARSE_BOUNDS_US, COARSE_BUCKETS, CommandKind, Histogram, Latencies, LatencyHistory,
    LatencyRow, LatencySnapshot, LatencySummary,
};
pub use prefixes::{PrefixCount, PrefixCursor, PrefixSums, Prefixes};
pub use registry::{Registry, ThreadStats};
pub use restart::{Dropped, RestartReport, Restored};
pub use slow_log::{SlowCommand, SlowLog, SlowLogSnapshot};
pub use workers::{WorkerFigures, Workers};
