//! Timeouts: idle connections, unfinished TLS handshakes, and clients that do
//! not read a dump they requested.

use crate::limits::DUMP_STALL_MAX_SECONDS;
use crate::server::connection::state::State;
use crate::server::worker::event_loop::Worker;

/// Longest TLS handshake, in seconds.
const HANDSHAKE_SECONDS: u32 = 10;

impl Worker {
    /// Closes connections whose client has read nothing of its dump for longer
    /// than [`DUMP_STALL_MAX_SECONDS`]. Checks at most once a second.
    pub(in crate::server) fn close_stalled(&mut self) {
        let second = self.context.now.second();
        if !self.stalled || self.stalled_checked == second {
            return;
        }
        self.stalled_checked = second;
        let stalled =
            self.connections
                .iter()
                .filter_map(|(token, connection)| match &connection.state {
                    State::Dumping(dump) if connection.is_blocked() => Some((token, dump.progress)),
                    _ => None,
                });
        let stalled: Vec<(usize, u32)> = stalled.collect();
        self.stalled = !stalled.is_empty();
        for (token, progress) in stalled {
            if second.saturating_sub(progress) > DUMP_STALL_MAX_SECONDS {
                self.close(token, "error");
            }
        }
    }

    /// Closes connections that were idle for longer than `idle_timeout`, except
    /// on unix sockets, as in memcached. Checks at most once a second.
    pub(in crate::server) fn close_idle(&mut self) {
        let Some(limit) = self.context.shared.config.idle_timeout else {
            return;
        };
        let second = self.context.now.second();
        if self.idle_checked == second {
            return;
        }
        self.idle_checked = second;
        let idle: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                let idle = second.saturating_sub(connection.last_active());
                !connection.stream.is_unix() && u64::from(idle) > limit.as_secs()
            })
            .map(|(token, _)| token)
            .collect();
        for token in idle {
            self.context.local.counters.idle_kicks.add(1);
            self.close(token, "idle_timeout");
        }
    }

    /// Closes connections whose TLS handshake takes longer than
    /// [`HANDSHAKE_SECONDS`].
    pub(in crate::server) fn close_unfinished_handshakes(&mut self) {
        let second = self.context.now.second();
        while let Some((since, token)) = self.handshakes.front().copied()
            && second.saturating_sub(since) >= HANDSHAKE_SECONDS
        {
            self.handshakes.pop_front();
            // The token may have been reused by a later connection.
            let stalled = self.connections.get(token);
            if stalled.is_some_and(|c| c.stream.handshaking_since() == Some(since)) {
                self.close(token, "error");
            }
        }
    }
}
