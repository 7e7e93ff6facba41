//! Handle of a worker for other threads.

use crate::config::ProtocolMode;
use crate::server::mailbox::Mailbox;
use crate::server::transport::stream::Stream;
use crate::sync::{AtomicUsize, Ordering};

/// Handle of a worker for other threads.
pub(in crate::server) struct Handle {
    /// Connections that the worker has not admitted yet, with the protocol of
    /// their listener.
    pub(super) arrivals: Mailbox<(Stream, ProtocolMode)>,
    /// Number of the worker's connections, those in its mailbox included. The
    /// acceptor picks the worker with the smallest.
    pub(in crate::server) load: AtomicUsize,
}

impl Handle {
    /// Hands over an accepted connection and wakes the worker.
    pub(in crate::server) fn hand_over(&self, stream: Stream, protocol: ProtocolMode) {
        self.load.fetch_add(1, Ordering::Relaxed);
        self.arrivals.hand_over((stream, protocol));
    }

    /// Wakes the worker from its poll.
    pub(in crate::server) fn wake(&self) {
        self.arrivals.wake();
    }

    /// Makes the worker send its outstanding replies and end.
    pub(in crate::server) fn stop(&self) {
        self.arrivals.stop();
    }

    /// Makes the worker panic. For tests.
    pub(in crate::server) fn inject_panic(&self) {
        self.arrivals.inject_panic();
    }
}
