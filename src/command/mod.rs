//! What a request means: executes it on the store and writes the answer.
//! Holds no socket and no file descriptor; called by the server's workers,
//! one request after the other.

mod admin;
mod after;
mod dispatch;
mod executor;
mod ops;
mod output;
mod pending;
mod stalled;

pub use crate::command::admin::dump::Dump;
pub use crate::command::admin::sasl::SaslState;
pub use crate::command::after::{After, StreamedReply};
pub use crate::command::executor::Executor;
pub use crate::command::output::Output;
pub use crate::command::pending::Pending;
pub use crate::command::stalled::{Parked, Stalled};
