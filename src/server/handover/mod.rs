//! Upgrade in place (`--take-over`): a new process gets the listening sockets and
//! the items of the running one.
//!
//! The server listens at a unix socket for its successor, with the same option.
//! A connection has these messages (see `channel.rs`):
//!
//! ```text
//! successor     hello                what it starts with is valid so far
//! predecessor   listener ..          one for each listening socket
//! predecessor   offered
//! successor     ready                it has bound all else that it needs
//! predecessor   memory               clients are drained, the memory is sealed
//! successor     serving              it has the items; the predecessor ends
//! ```
//!
//! The listening sockets are open all the time, so clients that connect
//! meanwhile wait and are not refused. Exactly one of the two uses the memory at
//! any time. If the successor fails before it serves, it seals the memory again,
//! the connection ends, and the predecessor goes on with it. If it is killed
//! while it uses the memory, the predecessor finds the memory unsealed and goes on
//! empty.
//!
//! - `gate` is the thread that speaks with would-be successors.
//! - `successor` and `predecessor` are the two sides from `ready` on.
//! - `sockets` are what is handed over.

mod channel;
pub(super) mod gate;
pub(super) mod predecessor;
pub(super) mod sockets;
mod successor;

pub use crate::server::handover::successor::Successor;
