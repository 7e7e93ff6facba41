//! Handle of a worker for other threads.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::ProtocolMode;
use crate::server::mailbox::Mailbox;
use crate::server::transport::stream::Stream;
use crate::sync::{AtomicUsize, Ordering};

/// Handle of a worker for other threads.
pub(in crate::server) struct Handle {
    /// Connections that the worker has not admitted yet.
    pub(super) arrivals: Mailbox<Arrival>,
    /// Number of the worker's connections, those in its mailbox included. The
    /// acceptor picks the worker with the smallest.
    pub(in crate::server) load: AtomicUsize,
}

/// An accepted connection, with the settings of its listener.
pub(in crate::server) struct Arrival {
    /// Its socket.
    pub(in crate::server) stream: Stream,
    /// Address of the peer; `None` for a unix socket.
    pub(in crate::server) peer: Option<SocketAddr>,
    /// Local address as `stats conns` reports it; `None` if the listener has several.
    pub(in crate::server) local: Option<Arc<str>>,
    /// Its protocol.
    pub(in crate::server) protocol: ProtocolMode,
    /// Whether it begins with a header of the PROXY protocol.
    pub(in crate::server) proxy: bool,
}

impl Handle {
    /// Hands over an accepted connection and wakes the worker.
    pub(in crate::server) fn hand_over(&self, arrival: Arrival) {
        self.load.fetch_add(1, Ordering::Relaxed);
        self.arrivals.hand_over(arrival);
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
