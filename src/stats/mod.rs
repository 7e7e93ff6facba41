//! Statistics: counters that each thread owns and the registry sums, the
//! connection table, and counters by key prefix.

mod classes;
mod conns;
mod counters;
mod declarations;
mod prefixes;
mod registry;
mod workers;

pub use classes::{ClassCounters, ClassSnapshot, PerClass};
pub use conns::{Conn, ConnState, ConnTable};
pub use counters::{Counter, Counters, Snapshot};
pub use declarations::{
    CLIENTS_CUT, COMMANDS, DECLARATIONS, Declaration, Group, Kind, Metric, Unit,
};
pub use prefixes::{PrefixCount, PrefixCursor, PrefixSums, Prefixes};
pub use registry::{Registry, ThreadStats};
pub use workers::{WorkerFigures, Workers};
