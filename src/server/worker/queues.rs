//! The order in which connections are served. One whose requests take little
//! is served as soon as its event comes. Newcomers, of which nothing is known
//! yet, and connections that had more to do than one turn allows share slices
//! of time between two polls, so that they cannot delay the others however
//! many they are.

use std::collections::VecDeque;
use std::mem::take;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use crate::limits::BATCH_SOCKETS_MAX;
use crate::server::connection::{Connection, State};
use crate::server::worker::Worker;

/// The turn of a connection that is served as soon as its event comes: longer
/// than ordinary requests take. What takes longer makes the connection busy.
pub(super) const READY_TURN: Duration = Duration::from_micros(250);
/// Time for which a queue other than the first is served between two polls.
const SLICE: Duration = Duration::from_millis(1);
/// Connections of such a queue that are served together and share a slice.
const SLICE_SOCKETS: usize = 4;

/// Bytes of a value received before others get their turn.
const RECEIVED_MAX_BYTES: usize = 2 << 20;

/// Connections to be served, each in one queue at most.
#[derive(Default)]
pub(super) struct Queues {
    ready: Vec<usize>,
    newcomers: VecDeque<usize>,
    busy: VecDeque<usize>,
}

impl Queues {
    pub(super) fn are_empty(&self) -> bool {
        self.ready.is_empty() && self.newcomers.is_empty() && self.busy.is_empty()
    }

    /// Removes a connection that is closed: its token may go to a new one.
    pub(super) fn remove(&mut self, token: usize) {
        self.ready.retain(|queued| *queued != token);
        self.newcomers.retain(|queued| *queued != token);
        self.busy.retain(|queued| *queued != token);
    }

    fn contains(&self, token: usize) -> bool {
        self.ready.contains(&token) || self.newcomers.contains(&token) || self.busy.contains(&token)
    }

    /// Queues a connection according to what is known of it, unless it is
    /// queued already.
    #[inline]
    pub(super) fn enqueue(&mut self, token: usize, connection: &mut Connection) {
        if std::mem::replace(&mut connection.queued, true) {
            return;
        }
        debug_assert!(!self.contains(token), "in one queue at most");
        if connection.busy {
            self.busy.push_back(token);
        } else if matches!(connection.state, State::New) {
            self.newcomers.push_back(token);
        } else {
            self.ready.push(token);
        }
    }
}

impl Worker {
    /// Queues a connection that has more to do behind the others.
    pub(super) fn requeue(&mut self, token: usize) {
        if let Some(connection) = self.connections.get_mut(token) {
            connection.busy = true;
            self.queues.enqueue(token, connection);
        }
    }

    /// Queues a connection that is in the middle of a value, `received` bytes
    /// of which came in this turn. It goes on before others begin theirs: many
    /// values received side by side take more memory than one after the other.
    pub(super) fn requeue_receiving(&mut self, token: usize, received: usize) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        connection.received += received;
        if connection.received >= RECEIVED_MAX_BYTES {
            connection.received = 0;
            return self.requeue(token);
        }
        connection.busy = true;
        if !std::mem::replace(&mut connection.queued, true) {
            self.queues.busy.push_front(token);
        }
    }

    /// Serves the connections whose events have come.
    pub(super) fn serve_ready(&mut self) {
        let mut ready = take(&mut self.queues.ready);
        for group in ready.chunks(BATCH_SOCKETS_MAX) {
            self.serve_group(group, READY_TURN);
        }
        if self.queues.ready.is_empty() {
            // Keep the list's memory.
            ready.clear();
            self.queues.ready = ready;
        }
    }

    /// Serves a slice of each other queue.
    #[inline]
    pub(super) fn serve_slices(&mut self) {
        if !self.queues.newcomers.is_empty() {
            self.serve_slice(|queues| &mut queues.newcomers);
        }
        if !self.queues.busy.is_empty() {
            self.serve_slice(|queues| &mut queues.busy);
        }
    }

    /// Serves the connections of a queue, each at most once, until the slice
    /// is over.
    fn serve_slice(&mut self, queue: impl Fn(&mut Queues) -> &mut VecDeque<usize>) {
        let mut left = queue(&mut self.queues).len();
        let begun = Instant::now();
        while left > 0 {
            let len = left.min(SLICE_SOCKETS);
            let group = queue(&mut self.queues).drain(..len);
            let group: ArrayVec<usize, SLICE_SOCKETS> = group.collect();
            self.serve_group(&group, SLICE / len as u32);
            if begun.elapsed() >= SLICE {
                return;
            }
            left -= len;
        }
    }
}
