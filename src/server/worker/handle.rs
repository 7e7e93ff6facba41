//! What other threads may do to a worker.

use crate::config::ProtocolMode;
use crate::server::mailbox::Mailbox;
use crate::server::transport::stream::Stream;
use crate::sync::{AtomicUsize, Ordering};

/// What others may do to a worker.
pub(in crate::server) struct Handle {
    pub(super) arrivals: Mailbox<(Stream, ProtocolMode)>,
    /// Connections it has, those on their way to it included.
    pub(in crate::server) load: AtomicUsize,
}

impl Handle {
    /// Gives the worker a connection.
    pub(in crate::server) fn hand_over(&self, stream: Stream, protocol: ProtocolMode) {
        self.load.fetch_add(1, Ordering::Relaxed);
        self.arrivals.hand_over((stream, protocol));
    }

    /// Wakes the worker.
    pub(in crate::server) fn wake(&self) {
        self.arrivals.wake();
    }

    /// Makes the worker finish its replies and end.
    pub(in crate::server) fn stop(&self) {
        self.arrivals.stop();
    }

    /// Makes the worker panic; for tests.
    pub(in crate::server) fn inject_panic(&self) {
        self.arrivals.inject_panic();
    }
}
