//! The threads that serve clients: starting and ending them.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvError, Sender, bounded};
use crossbeam::select;

use crate::admin::Site;
use crate::command::{Output, Stalled};
use crate::events::Kinds;
use crate::server::acceptor::Acceptor;
use crate::server::admin_thread::AdminThread;
use crate::server::connection::context::Context;
use crate::server::connection::timing::Timing;
use crate::server::error::StartError;
use crate::server::handover::gate::Gate;
use crate::server::handover::sockets::Sockets;
use crate::server::mailbox::Stopper;
use crate::server::stop::StopRequest;
use crate::server::watchers::{WatcherInbox, WatcherThread};
use crate::server::worker::event_loop::Worker;
use crate::server::worker::handle::Handle;
use crate::shared::Shared;
use crate::stats::HotSampler;
use crate::store::Store;
use crate::supervise;
use crate::upkeep::Upkeep;

/// The threads of a server, except the one that writes log lines.
#[derive(Default)]
pub(super) struct Running {
    /// Stops the acceptor.
    pub(super) acceptor: Option<Arc<Stopper>>,
    /// Handles of the workers.
    pub(super) workers: Vec<Arc<Handle>>,
    /// Mailbox of the log thread.
    pub(super) watcher_inbox: Option<Arc<WatcherInbox>>,
    /// Dropping the sender ends the upkeep thread.
    pub(super) upkeep: Option<Sender<()>>,
    /// The admin thread and its stopper; `None` without `--admin-listen`.
    admin: Option<(Arc<Stopper>, JoinHandle<()>)>,
    /// The gate and its stopper; `None` without `--take-over`.
    gate: Option<(Arc<Stopper>, JoinHandle<()>)>,
    /// The acceptor and the workers.
    serving: Vec<JoinHandle<()>>,
    /// The threads `log` and `upkeep`.
    helping: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts the threads that serve `sockets`. On an error, some are started;
    /// [`Running::end`] ends them.
    ///
    /// # Errors
    /// A thread cannot be created.
    pub(super) fn start(
        &mut self,
        shared: &Arc<Shared>,
        store: &Arc<Store>,
        sockets: Sockets,
        stop: &Sender<StopRequest>,
    ) -> Result<(), StartError> {
        let Sockets {
            listeners,
            admin,
            mut datagrams,
            ..
        } = sockets;
        let (log, watcher_inbox) =
            WatcherThread::new(Arc::clone(shared)).map_err(StartError::Thread)?;
        self.watcher_inbox = Some(Arc::clone(&watcher_inbox));
        self.helping.push(spawn("log", || log.run())?);
        let stalled = Arc::new(Stalled::new(
            shared.config.threads,
            shared.config.client_memory_limit,
            shared.config.read_buf_mem_limit > 0,
        ));
        for index in 0..shared.config.threads {
            let context = Context {
                store: Arc::clone(store),
                shared: Arc::clone(shared),
                local: store.local(),
                out: Output::default(),
                stop: stop.clone(),
                now: shared.clock.now(),
                connection: -1,
                watched: Kinds::NONE,
                watcher_inbox: Some(Arc::clone(&watcher_inbox)),
                stalled: Arc::clone(&stalled),
                worker: index,
                commands: 0,
                sampler: HotSampler::new(Arc::clone(&shared.hot_keys[index]), index as u64),
                samples: false,
                curve: store.sampling().map(|sampling| sampling.sampler()),
                timing: Timing::new(shared.latencies.get(index).cloned()),
            };
            let sockets = datagrams.pop().unwrap_or_default();
            let (worker, handle) = Worker::new(context, sockets).map_err(StartError::Thread)?;
            self.workers.push(handle);
            let thread = spawn(&format!("worker {index}"), || worker.run())?;
            self.serving.push(thread);
        }
        let (upkeep, ended) = bounded(1);
        let keeper = Upkeep::new(Arc::clone(store), Arc::clone(shared));
        let thread = spawn("upkeep", move || keep_up(keeper, &ended))?;
        self.upkeep = Some(upkeep);
        self.helping.push(thread);
        if !admin.is_empty() {
            let site = Site::new(Arc::clone(store), Arc::clone(shared), stalled);
            let (thread, stopper) =
                AdminThread::new(admin, Arc::clone(shared), site).map_err(StartError::Thread)?;
            self.admin = Some((stopper, spawn("admin", || thread.run())?));
        }
        let (acceptor, stopper) =
            Acceptor::new(listeners, self.workers.clone(), Arc::clone(shared))
                .map_err(StartError::Thread)?;
        self.serving.push(spawn("acceptor", || acceptor.run())?);
        self.acceptor = Some(stopper);
        Ok(())
    }

    /// Starts the gate, which waits for a successor.
    ///
    /// # Errors
    /// The thread cannot be created.
    pub(super) fn start_gate(
        &mut self,
        gate: Gate,
        stopper: Arc<Stopper>,
    ) -> Result<(), StartError> {
        let thread = spawn("take-over", || gate.run())?;
        self.gate = Some((stopper, thread));
        Ok(())
    }

    /// Ends the gate: nobody can take over any more.
    pub(super) fn end_gate(&mut self) {
        if let Some((stopper, thread)) = self.gate.take() {
            stopper.stop();
            // A panic would have ended the process.
            let _ = thread.join();
        }
    }

    /// Stops accepting, serves active connections for up to the time to drain,
    /// sends outstanding replies, and ends all threads.
    pub(super) fn end(&mut self) {
        self.end_gate();
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.stop();
        }
        for worker in self.workers.drain(..) {
            worker.stop();
        }
        for thread in self.serving.drain(..) {
            let _ = thread.join();
        }
        if let Some(inbox) = self.watcher_inbox.take() {
            inbox.stop();
        }
        self.upkeep = None;
        for thread in self.helping.drain(..) {
            let _ = thread.join();
        }
        // Shows until here that the server is draining.
        if let Some((stopper, thread)) = self.admin.take() {
            stopper.stop();
            let _ = thread.join();
        }
    }
}

/// Starts a supervised thread.
pub(super) fn spawn(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    supervise::spawn(name, run).map_err(StartError::Thread)
}

/// Runs upkeep step by step until the sender of `ended` is dropped.
///
/// # Panics
/// When a test sends a message.
fn keep_up(mut upkeep: Upkeep, ended: &Receiver<()>) {
    let growth = upkeep.growth();
    let mut pause = Duration::ZERO;
    loop {
        select! {
            recv(ended) -> message => match message {
                Ok(()) => panic!("injected panic"),
                Err(RecvError) => break,
            },
            recv(growth) -> _ => upkeep.note_growth(),
            default(pause) => {}
        }
        pause = upkeep.step();
    }
}
