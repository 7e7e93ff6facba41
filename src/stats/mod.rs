//! Counters: declared once, owned by one worker each, summed when asked; and
//! what else operators are told of that no worker owns.

mod classes;
mod conns;
mod counters;
mod prefixes;

pub use classes::{ClassCounters, ClassSnapshot, PerClass};
pub use conns::{Conn, ConnState, ConnTable};
pub use counters::{Counter, Counters, Snapshot};
pub use prefixes::{PrefixCount, PrefixCursor, PrefixSums, Prefixes};
