//! The request to stop the server.

/// Someone asked for the server to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRequest {
    /// Without hurry.
    pub graceful: bool,
}
