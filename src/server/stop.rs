//! The request to stop the server.

/// Request to stop the server, from a client or a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRequest {
    /// Whether a graceful stop was requested (`shutdown graceful`, `SIGUSR1`).
    /// Both kinds of stop finish the replies in flight and are the same today.
    pub graceful: bool,
}
