//! Reading input for a connection's turn: first the input it kept, then from
//! its socket. Large values are received directly into their items.

use std::io::ErrorKind;
use std::time::Instant;

use crate::server::connection::state::{Sent, State};
use crate::server::worker::event_loop::Worker;
use crate::server::worker::turns::READY_TURN;

impl Worker {
    /// Reads a connection's input into `buffer`, the input it kept first.
    /// Returns the bytes to serve; `None` if there is nothing to serve or the
    /// connection was closed.
    ///
    /// Unparks the connection's state and sends outstanding output before it
    /// reads. While output is unsent, nothing is read.
    pub(in crate::server) fn prepare(&mut self, token: usize, buffer: &mut [u8]) -> Option<usize> {
        self.connections.get_mut(token)?.queued = false;
        if !self.unpark(token) {
            return None;
        }
        let len = self.read_input(token, buffer);
        if len.is_none() {
            self.park(token);
        }
        len
    }

    /// Does the work of [`Worker::prepare`] for an unparked connection.
    fn read_input(&mut self, token: usize, buffer: &mut [u8]) -> Option<usize> {
        let connection = self.connections.get(token)?;
        if connection.awaits_header.is_some() && !self.take_proxy_header(token, buffer) {
            return None;
        }
        let connection = self.connections.get_mut(token)?;
        let context = &mut self.context;
        match connection.flush(&context.store, &mut context.local) {
            Sent::Blocked => return None,
            Sent::Paused => {
                self.requeue(token);
                return None;
            }
            Sent::All if !connection.closing => connection.show(&context.shared.table),
            Sent::All => {
                let reason = connection.close_reason;
                self.close(token, reason);
                return None;
            }
            Sent::Lost => {
                self.close(token, "error");
                return None;
            }
        }
        if matches!(connection.state, State::Receiving(_)) && !self.receive(token) {
            return None;
        }
        let connection = self.connections.get_mut(token)?;
        let kept = connection.leftover.len();
        if connection.is_dumping() {
            // The socket is not read during a dump: a client that has shut down
            // its sending side must still get the whole reply.
            buffer[..kept].copy_from_slice(&connection.leftover);
            return Some(kept);
        }
        buffer[..kept].copy_from_slice(&connection.leftover);
        let buffer = self.memory.readable_part(buffer, kept);
        if connection.unserved && (!connection.readable || kept > buffer.len() / 2) {
            return Some(kept);
        }
        match connection.stream.read(&mut buffer[kept..]) {
            Ok(0) if connection.unserved => {
                // The client sends no more, but it still gets all its replies.
                (connection.readable, connection.hung_up) = (false, true);
                Some(kept)
            }
            Ok(0) => {
                self.close(token, "normal");
                None
            }
            Ok(len) => {
                self.context.local.counters.bytes_read.add(len as u64);
                connection.progressed = self.context.now.millis();
                // A short read has emptied the socket. New input raises another
                // event.
                connection.readable = kept + len == buffer.len() || connection.stream.holds_more();
                Some(kept + len)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                connection.readable = false;
                connection.unserved.then_some(kept)
            }
            Err(_) => {
                self.close(token, "error");
                None
            }
        }
    }

    /// Receives a large value directly into its item. Returns true once the
    /// value is complete and its reply sent, so that commands may follow.
    fn receive(&mut self, token: usize) -> bool {
        let (begun, mut received) = (Instant::now(), 0);
        // Time is checked after each read, because receiving may have to evict
        // items for memory, which takes longest.
        while begun.elapsed() < READY_TURN {
            let Some(connection) = self.connections.get_mut(token) else {
                return false;
            };
            match self.context.receive(connection) {
                None => {
                    let sent = self.context.send(connection);
                    match sent {
                        Sent::All | Sent::Blocked => {}
                        Sent::Paused => self.requeue(token),
                        Sent::Lost => self.close(token, "error"),
                    }
                    return sent == Sent::All;
                }
                Some(Ok(len)) if len > 0 => received += len,
                Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => {
                    connection.readable = false;
                    return false;
                }
                Some(Ok(_)) => {
                    self.close(token, "normal");
                    return false;
                }
                Some(Err(_)) => {
                    self.close(token, "error");
                    return false;
                }
            }
        }
        self.requeue_receiving(token, received);
        false
    }
}
