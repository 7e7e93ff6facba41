//! Serving the queued connections in turns.

use std::collections::VecDeque;
use std::mem::take;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use crate::limits::BATCH_SOCKETS_MAX;
use crate::server::worker::event_loop::Worker;
use crate::server::worker::queues::Queues;

/// Turn of a connection that is served as soon as its event arrives. Common
/// requests take less. A connection that needs longer becomes busy.
pub(in crate::server) const READY_TURN: Duration = Duration::from_micros(250);
/// Time for which newcomers, and then busy connections, are served between two
/// polls.
const SLICE: Duration = Duration::from_millis(1);
/// Connections of a slice that are served as one batch. They share [`SLICE`].
const SLICE_SOCKETS: usize = 4;

/// Bytes of a value received before other busy connections get their turn.
const RECEIVED_MAX_BYTES: usize = 2 << 20;
impl Worker {
    /// Queues a connection with more work as busy, behind the others.
    pub(in crate::server) fn requeue(&mut self, token: usize) {
        if let Some(connection) = self.connections.get_mut(token) {
            connection.busy = true;
            self.queues.enqueue(token, connection);
        }
    }

    /// Queues a connection that is receiving a value, of which `received` bytes
    /// arrived in this turn.
    ///
    /// It goes to the front of the busy queue, up to [`RECEIVED_MAX_BYTES`].
    /// Values received side by side take more memory than one after the other.
    pub(in crate::server) fn requeue_receiving(&mut self, token: usize, received: usize) {
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

    /// Serves the connections whose events have arrived.
    pub(in crate::server) fn serve_ready(&mut self) {
        let mut ready = take(&mut self.queues.ready);
        for group in ready.chunks(BATCH_SOCKETS_MAX) {
            self.serve_group(group, READY_TURN);
        }
        if self.queues.ready.is_empty() {
            // Reuse the list's memory.
            ready.clear();
            self.queues.ready = ready;
        }
    }

    /// Serves one slice of the newcomers and one of the busy connections.
    #[inline]
    pub(in crate::server) fn serve_slices(&mut self) {
        if !self.queues.newcomers.is_empty() {
            self.serve_slice(|queues| &mut queues.newcomers);
        }
        if !self.queues.busy.is_empty() {
            self.serve_slice(|queues| &mut queues.busy);
        }
    }

    /// Serves the connections of a queue, each at most once, until the slice is
    /// over.
    fn serve_slice(&mut self, queue: impl Fn(&mut Queues) -> &mut VecDeque<usize>) {
        let mut left = queue(&mut self.queues).len();
        let begun = Instant::now();
        loop {
            let group = next_group(queue(&mut self.queues), &mut left);
            if group.is_empty() {
                return;
            }
            self.serve_group(&group, SLICE / group.len() as u32);
            if begun.elapsed() >= SLICE {
                return;
            }
        }
    }
}

/// Takes the next connections out of a queue, at most `left`, and subtracts their
/// number from it. The queue may have become shorter since `left` was its length:
/// serving one connection can close others that are queued.
fn next_group(queue: &mut VecDeque<usize>, left: &mut usize) -> ArrayVec<usize, SLICE_SOCKETS> {
    let len = SLICE_SOCKETS.min(*left).min(queue.len());
    *left -= len;
    queue.drain(..len).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::{SLICE_SOCKETS, next_group};

    #[test]
    fn a_queue_may_shrink_while_it_is_served() {
        let mut queue: VecDeque<usize> = (0..3 * SLICE_SOCKETS).collect();
        let mut left = queue.len();
        assert_eq!(next_group(&mut queue, &mut left).as_slice(), [0, 1, 2, 3]);
        queue.retain(|token| *token < 6);
        assert_eq!(next_group(&mut queue, &mut left).as_slice(), [4, 5]);
        assert!(next_group(&mut queue, &mut left).is_empty());
        // Who is queued meanwhile waits for the next slice.
        queue.extend(0..10);
        let mut left = 2;
        assert_eq!(next_group(&mut queue, &mut left).as_slice(), [0, 1]);
        assert!(next_group(&mut queue, &mut left).is_empty());
    }
}
