//! Reports of a worker about its connections: to the connection table, to
//! watchers, and from `-vv` on to the log. Also hands over watchers to the log
//! thread.

use crate::events::{EventKind, Kinds};
use crate::server::connection::context::Context;
use crate::server::connection::log;
use crate::server::connection::state::{Connection, State};
use crate::server::transport::stream::Stream;
use crate::stats::{Conn, ConnState};

impl Context {
    /// Reports a new connection.
    pub(super) fn report_opened(&self, stream: &Stream) {
        let (fd, peer) = (stream.fd(), stream.peer());
        let conn = Conn {
            peer,
            local: stream.local_name(),
            state: ConnState::New,
            active: self.now.second(),
        };
        self.shared.table.open(fd, &conn);
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
        if self.local.events.wanted().any_of(Kinds::CONNECTIONS) {
            let known = self.shared.table.get(fd);
            self.local.events.put(EventKind::Closed {
                peer: known.and_then(|conn| conn.peer),
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
