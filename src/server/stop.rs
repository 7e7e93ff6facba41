//! The request to stop the server.

/// Request to stop the server, from a client (`shutdown`) or a signal. Every such
/// stop is clean: it ends all requests in flight, and keeps the items if there is
/// a file for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRequest;
