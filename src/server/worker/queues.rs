//! The order in which connections are served. One whose requests take little
//! is served as soon as its event comes. Newcomers, of which nothing is known
//! yet, and connections that had more to do than one turn allows share slices
//! of time between two polls, so that they cannot delay the others however
//! many they are.

use std::collections::VecDeque;

use crate::server::connection::state::{Connection, State};

/// Connections to be served, each in one queue at most.
#[derive(Default)]
pub(in crate::server) struct Queues {
    pub(super) ready: Vec<usize>,
    pub(super) newcomers: VecDeque<usize>,
    pub(super) busy: VecDeque<usize>,
}

impl Queues {
    pub(in crate::server) fn are_empty(&self) -> bool {
        self.ready.is_empty() && self.newcomers.is_empty() && self.busy.is_empty()
    }

    /// Removes a connection that is closed: its token may go to a new one.
    pub(in crate::server) fn remove(&mut self, token: usize) {
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
