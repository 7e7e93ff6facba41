//! Logging to standard error or a file.
//!
//! Serving threads put lines into a bounded queue and never wait. One thread,
//! the [`Writer`], writes them. A line is dropped and counted if the queue is
//! full or the output refuses it. Verbosity is not known here: callers
//! check it first.

mod direct;
mod file;
mod queue;
mod writer;

pub use crate::logging::direct::{Stream, write_line, write_within};
pub use crate::logging::file::LogFile;
pub use crate::logging::queue::Log;
pub use crate::logging::writer::{Ended, StandardError, Writer, WriterHandle};
