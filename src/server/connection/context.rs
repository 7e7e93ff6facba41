//! State that a worker needs to serve any of its connections: the store, the
//! output buffer and the thread's own counters.

use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam::channel::Sender;

use crate::command::{Executor, Output, Stalled};
use crate::events::Kinds;
use crate::server::connection::batch::{STEPS_MAX, Step};
use crate::server::connection::state::{Connection, Sent};
use crate::server::connection::timing::Timing;
use crate::server::stop::StopRequest;
use crate::server::watchers::WatcherInbox;
use crate::shared::Shared;
use crate::stats::HotSampler;
use crate::store::mrc::Sampler;
use crate::store::{Local, Store};
use crate::time::Now;

/// State for serving connections, one per worker.
pub(in crate::server) struct Context {
    /// Store of all workers.
    pub(in crate::server) store: Arc<Store>,
    /// Settings and counters that all threads share.
    pub(in crate::server) shared: Arc<Shared>,
    /// The thread's own counters, magazines and limbo.
    pub(in crate::server) local: Local,
    /// Output buffer of the connection that is being served.
    pub(in crate::server) out: Output,
    /// Channel to the thread that stops the server.
    pub(in crate::server) stop: Sender<StopRequest>,
    /// Time of the current turn of the event loop.
    pub(in crate::server) now: Now,
    /// Descriptor of the connection that is being served.
    pub(in crate::server) connection: i32,
    /// Kinds of events that are watched, as of the beginning of the batch.
    pub(in crate::server) watched: Kinds,
    /// Mailbox of the log thread, which takes over watchers; `None` if there is
    /// no such thread.
    pub(in crate::server) watcher_inbox: Option<Arc<WatcherInbox>>,
    /// Parked state of the stalled clients of all workers.
    pub(in crate::server) stalled: Arc<Stalled>,
    /// Number of the worker, from 0.
    pub(in crate::server) worker: usize,
    /// Commands that the connection being served has executed in this turn.
    pub(in crate::server) commands: usize,
    /// Sampler of this worker's hot keys.
    pub(in crate::server) sampler: HotSampler,
    /// Whether requests are passed to the sampler, as of the beginning of the
    /// batch.
    pub(in crate::server) samples: bool,
    /// Sampler of the miss ratio curve; `None` if it is off.
    pub(in crate::server) curve: Option<Sampler>,
    /// Latencies and the slow log.
    pub(in crate::server) timing: Timing,
}

impl Context {
    /// Returns an executor of commands, and the output buffer.
    pub(in crate::server) fn executor(&mut self) -> (Executor<'_>, &mut Output) {
        let executor = Executor {
            store: &self.store,
            local: &mut self.local,
            shared: &self.shared,
            now: self.now,
            connection: self.connection,
            watched: self.watched,
            sampler: &mut self.sampler,
            samples: self.samples,
            curve: self.curve.as_ref(),
            stalled: &self.stalled,
        };
        (executor, &mut self.out)
    }

    /// Makes the socket `fd` the source of the requests executed from now on, and
    /// notes which events watchers want of them.
    pub(in crate::server) fn attend(&mut self, fd: i32) {
        self.connection = fd;
        self.watched = self.local.events.wanted();
        self.samples = self.sampler.begin_batch(self.now);
    }

    /// Frees what this worker has retired or leaves it to other threads. Flushes
    /// its magazines, if another thread ran short of memory. Call it before the
    /// worker waits for events.
    pub(in crate::server) fn prepare_to_wait(&mut self) {
        self.store.prepare_to_wait(&mut self.local);
    }

    /// Leaves the epoch of the last batch.
    #[inline]
    pub(in crate::server) fn leave(&mut self) {
        self.store.leave(&mut self.local);
    }

    /// Executes a delayed `flush_all` whose time has come.
    pub(in crate::server) fn flush_if_due(&mut self) {
        self.executor().0.flush_if_due();
    }

    /// Enters an epoch to execute the steps, and prefetches the cache lines of the
    /// map and of the items that they will touch. A single key is not worth it.
    pub(in crate::server) fn prefetch(&mut self, steps: &[Step<'_>]) {
        let mut last = None;
        let hashes: ArrayVec<u64, STEPS_MAX> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Execute { hash, .. } => *hash,
                Step::Refuse(_) => None,
            })
            .filter(|hash| last.replace(*hash) != Some(*hash))
            .collect();
        self.store.enter(&mut self.local);
        if hashes.len() > 1 {
            let changed = steps.iter().filter_map(|step| match step {
                Step::Execute { request, hash, .. } if !request.only_reads() => *hash,
                _ => None,
            });
            self.store.prefetch_locks(changed);
            self.store.prefetch(&mut self.local, &hashes);
        }
    }

    /// Leaves the epoch, and sends the output buffer to a connection. Output that
    /// its socket does not take stays with the connection.
    pub(in crate::server) fn send(&mut self, connection: &mut Connection) -> Sent {
        // The system call would hold up threads that wait for readers.
        self.store.leave(&mut self.local);
        if self.shared.slow_log.threshold() == 0 {
            return connection.send(&mut self.out, &self.store, &mut self.local);
        }
        let begun = self.shared.clock.nanos();
        let sent = connection.send(&mut self.out, &self.store, &mut self.local);
        self.timing.add_send(begun, self.shared.clock.nanos());
        sent
    }

    /// Counts the yields that memcached would have made (`conn_yields`): one
    /// after every `limit` commands of a pipeline that has more.
    #[cold]
    pub(in crate::server) fn count_yields(&self, limit: usize, yielded: bool) {
        let times = self.commands.saturating_sub(1) / limit.max(1);
        let times = times.max(usize::from(yielded));
        self.local.counters.conn_yields.add(times as u64);
    }
}
