//! Executes requests on the store and writes the replies. Holds no socket and
//! no file descriptor. The server's workers call it, one request at a time.

mod admin;
mod after;
mod dispatch;
mod executor;
mod handlers;
mod ops;
mod output;
mod pending;
mod stalled;

pub use crate::command::admin::dump::Dump;
pub use crate::command::admin::reporter::Reporter;
pub use crate::command::admin::sasl::SaslState;
pub use crate::command::admin::stat_sink::StatList;
pub use crate::command::after::{After, AwaitedBlock, StreamedReply};
pub use crate::command::executor::Executor;
pub use crate::command::output::Output;
pub use crate::command::pending::Pending;
pub use crate::command::stalled::{Parked, Stalled};
