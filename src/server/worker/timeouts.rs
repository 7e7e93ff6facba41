//! Hanging up on clients that take too long: that are idle, do not end their
//! handshake, or do not take what they asked for.

use crate::limits::DUMP_STALL_MAX_SECONDS;
use crate::server::connection::state::State;
use crate::server::worker::event_loop::Worker;

/// Seconds that a client has for its TLS handshake.
const HANDSHAKE_SECONDS: u32 = 10;

impl Worker {
    /// Hangs up on clients that asked for a dump and have taken nothing of it
    /// for long.
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

    /// Closes connections that have been idle for longer than they may be; not
    /// those of unix sockets, as in memcached.
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

    /// Closes connections whose handshake takes too long.
    pub(in crate::server) fn close_unfinished_handshakes(&mut self) {
        let second = self.context.now.second();
        while let Some((since, token)) = self.handshakes.front().copied()
            && second.saturating_sub(since) >= HANDSHAKE_SECONDS
        {
            self.handshakes.pop_front();
            // A token may have gone to a later connection.
            let stalled = self.connections.get(token);
            if stalled.is_some_and(|c| c.stream.handshaking_since() == Some(since)) {
                self.close(token, "error");
            }
        }
    }
}
