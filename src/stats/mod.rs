//! Statistics: counters that each thread owns and a reader sums, the connection
//! table, and counters by key prefix.

mod classes;
mod conns;
mod counters;
mod prefixes;

pub use classes::{ClassCounters, ClassSnapshot, PerClass};
pub use conns::{Conn, ConnState, ConnTable};
pub use counters::{Counter, Counters, Snapshot};
pub use prefixes::{PrefixCount, PrefixCursor, PrefixSums, Prefixes};
