//! Reports of a worker about its connections: to the connection table, to
//! watchers, and from `-vv` on to the log. Also hands over watchers to the log
//! thread.

use std::net::SocketAddr;

use crate::events::{EventKind, Kinds};
use crate::server::connection::context::Context;
use crate::server::connection::log;
use crate::server::connection::state::{Connection, State};
use crate::server::transport::stream::Stream;
use crate::stats::{Conn, ConnState};

impl Context {
    /// Enters a new connection of the client `peer` into the connection table. `local` is the
    /// local address as the table has it; the system is asked if it is `None`.
    pub(super) fn show_opened(
        &self,
        stream: &Stream,
        peer: Option<SocketAddr>,
        local: Option<&str>,
    ) {
        let conn = Conn {
            peer,
            local: local.map_or_else(|| stream.local_name(), ToOwned::to_owned),
            state: ConnState::New,
            active: self.now.second(),
        };
        self.shared.table.open(stream.fd(), &conn);
    }

    /// Returns the address of the client: of the peer, or of the one for which a
    /// proxy has connected. `None` for a unix socket.
    pub(super) fn peer_of(&self, connection: &Connection) -> Option<SocketAddr> {
        self.shared.table.get(connection.stream.fd())?.peer
    }

    /// Reports a new connection of the client `peer` to watchers and to the log.
    pub(super) fn report_opened(&self, fd: i32, peer: Option<SocketAddr>) {
        if self.local.events.wanted().any_of(Kinds::CONNECTIONS) {
            let connection = fd;
            self.local
                .events
                .put(EventKind::Opened { peer, connection });
        }
        log::opened(&self.shared, fd, peer);
    }

    /// Reports that a connection is closed for `reason`, memcached's word for
    /// watchers.
    pub(super) fn report_closed(&self, connection: &Connection, reason: &'static str) {
        let fd = connection.stream.fd();
        if connection.awaits_header.is_some() {
            // Reported late, because the header would have said who it is.
            self.report_opened(fd, self.peer_of(connection));
        }
        if self.local.events.wanted().any_of(Kinds::CONNECTIONS) {
            self.local.events.put(EventKind::Closed {
                peer: self.peer_of(connection),
                connection: fd,
                reason,
            });
        }
        self.shared.table.close(fd);
        log::closed(&self.shared, fd, reason);
    }

    /// Hands over a watcher's connection to the log thread.
    pub(super) fn hand_to_log(&self, connection: Connection) {
        let fd = connection.stream.fd();
        match (connection.state, &self.watcher_inbox) {
            (State::Watching(filter), Some(watcher_inbox)) => {
                self.shared.table.set_state(fd, ConnState::Watching);
                watcher_inbox.hand_over((connection.stream, filter));
            }
            _ => {
                debug_assert!(self.watcher_inbox.is_none(), "only watchers leave");
                self.shared.table.close(fd);
            }
        }
    }
}
