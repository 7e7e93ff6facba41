//! Counters: declared once, owned by one worker each, summed when asked.

mod counters;

pub use counters::{Counter, Counters, Snapshot};
