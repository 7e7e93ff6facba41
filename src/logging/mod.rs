//! Log lines on their way to standard error. Serving threads put lines into a
//! bounded queue and never wait; one thread, [`Writer`], writes them. A line
//! that finds the queue full, or that standard error refuses, is dropped and
//! counted. Nothing here knows levels: callers check the verbosity first.

mod direct;
mod queue;
mod writer;

pub use crate::logging::direct::{Stream, write_line, write_within};
pub use crate::logging::queue::Log;
pub use crate::logging::writer::{Ended, StandardError, Writer, WriterHandle};
