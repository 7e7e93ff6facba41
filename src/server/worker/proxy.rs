//! The PROXY protocol header that begins the connections of some listeners
//! (`-l proxy:`).
//!
//! The header is looked at without taking it from the socket until it is complete,
//! and then exactly its bytes are taken. What follows, a TLS handshake or commands,
//! is read as on any other connection.

use std::io::ErrorKind;

use crate::limits::PROXY_HEADER_MAX_BYTES;
use crate::protocol::proxy::{Parsed, parse};
use crate::server::connection::log;
use crate::server::worker::event_loop::Worker;

impl Worker {
    /// Takes the header from the socket of a connection that awaits it. Returns
    /// false if its end has not arrived or the connection was closed. `buffer` is
    /// overwritten.
    pub(super) fn take_proxy_header(&mut self, token: usize, buffer: &mut [u8]) -> bool {
        let Some(connection) = self.connections.get_mut(token) else {
            return false;
        };
        let buffer = &mut buffer[..PROXY_HEADER_MAX_BYTES];
        let parsed = match connection.stream.peek(buffer) {
            // A health check, which connects without sending anything.
            Ok(0) => {
                self.close(token, "normal");
                return false;
            }
            Ok(len) => parse(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                connection.readable = false;
                return false;
            }
            Err(_) => {
                self.close(token, "error");
                return false;
            }
        };
        match parsed {
            Parsed::Header { len, client } => {
                // The bytes are there, so all of them are taken.
                if connection.stream.read_raw(&mut buffer[..len]).ok() != Some(len) {
                    self.close(token, "error");
                    return false;
                }
                connection.awaits_header = None;
                self.context.local.counters.bytes_read.add(len as u64);
                let peer = client.or_else(|| connection.stream.peer());
                self.context.show_opened(&connection.stream, peer, None);
                self.context.report_opened(connection.stream.fd(), peer);
                true
            }
            Parsed::Incomplete if connection.hung_up => {
                self.refuse_proxy_header(token, "it is incomplete");
                false
            }
            Parsed::Incomplete => {
                // The next bytes raise another event.
                connection.readable = false;
                false
            }
            Parsed::Invalid(reason) => {
                self.refuse_proxy_header(token, reason);
                false
            }
        }
    }

    /// Closes a connection whose header is missing or wrong.
    pub(super) fn refuse_proxy_header(&mut self, token: usize, reason: &str) {
        let Some(connection) = self.connections.get(token) else {
            return;
        };
        let context = &self.context;
        context.local.counters.proxy_header_errors.add(1);
        let text = format!("PROXY header refused: {reason}");
        log::failure(&context.shared, context.peer_of(connection), &text);
        self.close(token, "error");
    }
}
