//! Order in which connections are served.
//!
//! Connections with short requests are served as soon as their event arrives.
//! Newcomers, about which nothing is known yet, and busy connections, which had
//! more work than one turn allows, get time slices between two polls. However
//! many they are, they cannot delay the others.

use std::collections::VecDeque;

use crate::server::connection::state::{Connection, State};

/// Tokens of the connections to serve. Each is in at most one queue.
#[derive(Default)]
pub(in crate::server) struct Queues {
    /// Connections served as soon as their event arrives.
    pub(super) ready: Vec<usize>,
    /// Connections that have not sent a command yet.
    pub(super) newcomers: VecDeque<usize>,
    /// Connections that had more work than their last turn allowed.
    pub(super) busy: VecDeque<usize>,
}

impl Queues {
    /// Returns whether no connection is queued.
    pub(in crate::server) fn are_empty(&self) -> bool {
        self.ready.is_empty() && self.newcomers.is_empty() && self.busy.is_empty()
    }

    /// Removes a closed connection, because its token may be reused.
    pub(in crate::server) fn remove(&mut self, token: usize) {
        self.ready.retain(|queued| *queued != token);
        self.newcomers.retain(|queued| *queued != token);
        self.busy.retain(|queued| *queued != token);
    }

    fn contains(&self, token: usize) -> bool {
        self.ready.contains(&token) || self.newcomers.contains(&token) || self.busy.contains(&token)
    }

    /// Queues a connection by its state, unless it is queued already.
    #[inline]
    pub(in crate::server) fn enqueue(&mut self, token: usize, connection: &mut Connection) {
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
