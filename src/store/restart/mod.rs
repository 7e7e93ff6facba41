//! Restart without loss: the memory of a server that stopped cleanly becomes
//! that of the next one.
//!
//! The item memory lies in a file (`-e`, on a file system in memory), or is
//! written to one and read again (`--save-path`), or moves to memory that goes to
//! another process (`--take-over`, `FDSTORE`). All have the format of `format.rs`. `seal.rs` writes at a clean stop, `load.rs` reads at the start.
//!
//! A file is marked clean only after everything else was written, and the mark
//! is removed before anything is changed or served. In doubt, the server starts
//! empty: a lost cache is better than a wrong value.

#[cfg(any(test, fuzzing))]
pub mod audit;
#[cfg(any(test, fuzzing))]
pub mod craft;
mod disk;
mod format;
mod image;
mod load;
mod parallel;
mod report;
mod seal;

#[cfg(test)]
mod tests;

pub use crate::store::restart::image::{Image, Opened, new_memory};
pub use crate::store::restart::parallel::Parallel;
pub use crate::store::restart::report::EmptyReason;
pub use crate::store::restart::seal::StopState;
