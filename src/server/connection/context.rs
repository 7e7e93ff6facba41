//! What a worker needs to serve a connection: the store, the output buffer and
//! this thread's counters.

use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam::channel::Sender;

use crate::command::{Executor, Output, Stalled};
use crate::events::Kinds;
use crate::server::connection::batch::{STEPS_MAX, Step};
use crate::server::connection::state::{Connection, Sent};
use crate::server::stop::StopRequest;
use crate::server::watchers::WatcherInbox;
use crate::shared::Shared;
use crate::store::{Local, Store};
use crate::time::Now;

/// What a worker needs to serve any connection.
pub(in crate::server) struct Context {
    pub(in crate::server) store: Arc<Store>,
    pub(in crate::server) shared: Arc<Shared>,
    pub(in crate::server) local: Local,
    pub(in crate::server) out: Output,
    pub(in crate::server) stop: Sender<StopRequest>,
    pub(in crate::server) now: Now,
    /// Descriptor of the connection that is being served.
    pub(in crate::server) connection: i32,
    /// What somebody wants to be told of, as of the beginning of the batch.
    pub(in crate::server) watched: Kinds,
    /// Where watchers go, if there is a log thread.
    pub(in crate::server) watcher_inbox: Option<Arc<WatcherInbox>>,
    /// What stalled clients of all workers hold.
    pub(in crate::server) stalled: Arc<Stalled>,
    /// The worker's number, from 0.
    pub(in crate::server) worker: usize,
    /// Commands of the connection that is being served, in this turn.
    pub(in crate::server) commands: usize,
}

impl Context {
    pub(in crate::server) fn executor(&mut self) -> (Executor<'_>, &mut Output) {
        let executor = Executor {
            store: &self.store,
            local: &mut self.local,
            shared: &self.shared,
            now: self.now,
            connection: self.connection,
            watched: self.watched,
            stalled: &self.stalled,
        };
        (executor, &mut self.out)
    }

    /// Makes the socket `fd` the source of the requests executed from now on, and
    /// notes which events watchers want of them.
    pub(in crate::server) fn attend(&mut self, fd: i32) {
        self.connection = fd;
        self.watched = self.local.events.wanted();
    }

    /// Gives back what memory this worker keeps in stock, if others are short.
    pub(in crate::server) fn settle_memory(&mut self) {
        self.store.settle(&mut self.local);
    }

    /// Lets go of items that were held for being asked for all the time.
    #[inline]
    pub(in crate::server) fn cool(&mut self) {
        self.store.cool(&mut self.local);
    }

    /// Carries out a delayed flush whose time has come.
    pub(in crate::server) fn flush_if_due(&mut self) {
        self.executor().0.flush_if_due();
    }

    /// Brings into the cache what the steps will touch.
    pub(in crate::server) fn prefetch(&self, steps: &[Step<'_>]) {
        let mut last = None;
        let hashes: ArrayVec<u64, STEPS_MAX> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Execute { hash, .. } => *hash,
                Step::Refuse(_) => None,
            })
            .filter(|hash| last.replace(*hash) != Some(*hash) && !self.local.is_hot(*hash))
            .collect();
        if hashes.len() > 1 {
            self.store.prefetch(&hashes);
        }
    }

    pub(in crate::server) fn send(&mut self, connection: &mut Connection) -> Sent {
        connection.send(&mut self.out, &self.store, &mut self.local)
    }

    /// Counts the times that memcached would have let others go first: after
    /// every `limit` commands that come together, if there are more.
    #[cold]
    pub(in crate::server) fn count_yields(&self, limit: usize, yielded: bool) {
        let times = self.commands.saturating_sub(1) / limit.max(1);
        let times = times.max(usize::from(yielded));
        self.local.counters.conn_yields.add(times as u64);
    }
}
