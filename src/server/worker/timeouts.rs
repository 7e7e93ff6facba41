//! Timeouts: idle connections, unfinished PROXY headers and TLS handshakes, clients
//! that do not read a dump they requested, and draining before a stop.

use std::time::{Duration, Instant};

use crate::limits::{DUMP_STALL_MAX_SECONDS, HANDOVER_DRAIN_MIN, HANDSHAKE_MAX_SECONDS};
use crate::server::connection::state::State;
use crate::server::worker::event_loop::Worker;
use crate::sync::Ordering;

/// Interval at which draining looks for connections at rest.
const DRAIN_CHECK: Duration = Duration::from_millis(100);

/// The same while the server hands over: clients wait for the successor.
const HANDOVER_CHECK: Duration = Duration::from_millis(5);

/// Whole seconds without a command after which draining closes a connection.
const DRAIN_IDLE_SECONDS: u32 = 1;

impl Worker {
    /// Returns whether the event loop ends: a stop is requested, and either all
    /// clients have left, or `--drain-timeout` is over, or a second stop is
    /// requested. Closes connections at rest.
    pub(in crate::server) fn is_drained(&mut self) -> bool {
        if !self.handle.arrivals.is_stopping() {
            return false;
        }
        let shared = &self.context.shared;
        let hands_over = shared.handing_over.load(Ordering::Relaxed);
        let mut limit = shared.config.restart.drain_timeout;
        if hands_over {
            limit = limit.max(HANDOVER_DRAIN_MIN);
        }
        let now = Instant::now();
        // Too late a time to be represented is as good as none.
        let until = *self
            .drain_until
            .get_or_insert_with(|| now.checked_add(limit).unwrap_or(now));
        if now >= until || self.context.stop.is_full() {
            return true;
        }
        let is_due = |checked: Instant| now.duration_since(checked) >= DRAIN_CHECK;
        if hands_over && self.drain_checked.is_none() {
            // What has arrived by now is answered first.
            self.drain_checked = Some(now);
            return false;
        }
        if hands_over || self.drain_checked.is_none_or(is_due) {
            self.drain_checked = Some(now);
            self.context.now = self.context.shared.clock.now();
            // Clients of a server that hands over reconnect to its successor.
            self.close_resting((!hands_over).then_some(DRAIN_IDLE_SECONDS));
        }
        self.connections.is_empty() && !self.more_arrivals
    }

    /// Returns the interval at which draining looks for connections at rest.
    pub(super) fn drain_check(&self) -> Duration {
        match self.context.shared.handing_over.load(Ordering::Relaxed) {
            true => HANDOVER_CHECK,
            false => DRAIN_CHECK,
        }
    }

    /// Closes connections that are between two commands and have sent none for
    /// more than `idle_seconds`; at once if that is `None`, unless input has
    /// arrived.
    fn close_resting(&mut self, idle_seconds: Option<u32>) {
        let second = self.context.now.second();
        let resting = self.connections.iter().filter(|(_, connection)| {
            let idle = second.saturating_sub(connection.last_active());
            let is_idle = match idle_seconds {
                Some(seconds) => idle > seconds,
                None => !connection.readable,
            };
            connection.is_between_commands() && is_idle
        });
        let resting: Vec<usize> = resting.map(|(token, _)| token).collect();
        for token in resting {
            self.close(token, "shutdown");
        }
    }

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

    /// Closes connections whose PROXY header or TLS handshake takes longer than
    /// [`HANDSHAKE_MAX_SECONDS`].
    pub(in crate::server) fn close_unfinished_handshakes(&mut self) {
        let second = self.context.now.second();
        while let Some((since, token)) = self.handshakes.front().copied()
            && second.saturating_sub(since) >= HANDSHAKE_MAX_SECONDS
        {
            self.handshakes.pop_front();
            // The token may have been reused by a later connection.
            let stalled = self.connections.get(token);
            let stalled = stalled.filter(|c| c.handshaking_since() == Some(since));
            match stalled.map(|connection| connection.awaits_header) {
                None => {}
                Some(None) => self.close(token, "error"),
                Some(Some(_)) => self.refuse_proxy_header(token, "it is not finished"),
            }
        }
    }
}
