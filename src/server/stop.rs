//! The request to stop the server.

use crate::server::handover::Successor;

/// Request to stop the server.
#[derive(Debug)]
pub enum StopRequest {
    /// From a client (`shutdown`) or a signal. Every such stop is clean: it ends
    /// all requests in flight, and keeps the items if there is a file for them.
    Stop,
    /// From a successor that is ready to take over (`--take-over`).
    HandOver(Successor),
}
