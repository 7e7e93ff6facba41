//! The threads of a server: starting and stopping them.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::admin::Site;
use crate::command::{Output, Stalled};
use crate::config::{Config, ProtocolMode};
use crate::events::Kinds;
use crate::limits::LOG_FLUSH_TIMEOUT;
use crate::logging::{Log, LogFile, StandardError, Writer, WriterHandle};
use crate::server::acceptor::Acceptor;
use crate::server::admin_thread::AdminThread;
use crate::server::connection::context::Context;
use crate::server::connection::timing::Timing;
use crate::server::error::StartError;
use crate::server::inherited::Inherited;
use crate::server::listen::{Listening, bind_all, take_over};
use crate::server::mailbox::Stopper;
use crate::server::port_file::write_port_file;
use crate::server::restart;
use crate::server::secrets::{Reloader, Secrets};
use crate::server::stop::StopRequest;
use crate::server::transport::udp;
use crate::server::watchers::{WatcherInbox, WatcherThread};
use crate::server::worker::event_loop::Worker;
use crate::server::worker::handle::Handle;
use crate::shared::{ListeningOn, Shared};
use crate::stats::{Conn, ConnState, HotSampler};
use crate::store::Store;
use crate::store::restart::Opened;
use crate::supervise;
use crate::sync::Ordering;
use crate::time::Clock;
use crate::upkeep::Upkeep;

/// A running server. Dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    store: Arc<Store>,
    tcp_addrs: Vec<SocketAddr>,
    udp_addrs: Vec<SocketAddr>,
    unix_paths: Vec<PathBuf>,
    /// Stops the acceptor.
    pub(super) acceptor: Arc<Stopper>,
    /// Handles of the workers.
    pub(super) workers: Vec<Arc<Handle>>,
    /// Mailbox of the log thread.
    pub(super) watcher_inbox: Arc<WatcherInbox>,
    /// Dropping the sender ends the upkeep thread.
    pub(super) upkeep: Option<Sender<()>>,
    /// Stops the `stderr` thread.
    pub(super) stderr: WriterHandle,
    stderr_thread: Option<JoinHandle<()>>,
    /// The admin thread and its stopper; `None` without `--admin-listen`.
    admin: Option<(Arc<Stopper>, JoinHandle<()>)>,
    /// Addresses of the admin listeners.
    admin_addrs: Vec<String>,
    /// The acceptor and the workers.
    serving: Vec<JoinHandle<()>>,
    /// The threads `log` and `upkeep`.
    helping: Vec<JoinHandle<()>>,
    stop_requests: Receiver<StopRequest>,
    stop_sender: Sender<StopRequest>,
}

impl Server {
    /// Binds the listeners and starts the threads.
    ///
    /// # Errors
    /// The reason why the server cannot run as configured.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Inherited::default())
    }

    /// Starts a server as [`Server::start`] does, with sockets passed by the
    /// service manager as well. They replace the configured listeners if
    /// `handed_over.alone` is set.
    ///
    /// # Errors
    /// The reason why the server cannot run as configured.
    pub fn start_with(mut config: Config, inherited: Inherited) -> Result<Self, StartError> {
        if config.handed_over.alone && !inherited.is_empty() {
            config.listeners.clear();
        }
        let secrets = Secrets::load(&config)?;
        let mut listeners = take_over(&config, inherited).map_err(StartError::Inherited)?;
        listeners.extend(bind_all(&config.listeners, config.backlog)?);
        let admin_listeners = bind_all(&config.admin.listeners, config.backlog)?;
        let mut datagrams = udp::bind_all(&config)?;
        // After the listeners: a server that cannot listen must leave the last
        // one's items alone.
        let opened = restart::open(&config.restart);
        let clock = opened.as_ref().map_or_else(Clock::start, Opened::clock);
        let shared = Arc::new(secrets.shared_with(config, clock));
        shared
            .events
            .set_wanted(Kinds::DETAIL, shared.config.detail);
        let store = Arc::new(new_store(&shared, opened));
        if !shared.config.tunables.maintainer {
            store.count_overwritten_as_reclaimed();
        }
        note_listeners(&shared, &listeners, datagrams.iter().flatten());
        let tcp_addrs: Vec<_> = listeners.iter().filter_map(Listening::tcp_addr).collect();
        let unix_paths: Vec<_> = listeners.iter().filter_map(Listening::unix_path).collect();
        let of_first = datagrams.first().map_or(&[][..], |sockets| sockets);
        let udp_addrs: Vec<_> = of_first.iter().filter_map(udp::Bound::local_addr).collect();
        write_port_file(shared.config.port_file.as_deref(), &tcp_addrs, &udp_addrs)?;
        let (stop_sender, stop_requests) = bounded(1);
        let (writer, stderr) = Writer::new(Arc::clone(&shared.log), log_output(&shared)?);
        let stderr_thread = Some(spawn("stderr", || writer.run())?);
        let mut helping = Vec::new();
        let (log, watcher_inbox) =
            WatcherThread::new(Arc::clone(&shared)).map_err(StartError::Thread)?;
        helping.push(spawn("log", || log.run())?);
        let stalled = Arc::new(Stalled::new(
            shared.config.threads,
            shared.config.client_memory_limit,
            shared.config.read_buf_mem_limit > 0,
        ));
        let (mut workers, mut serving) = (Vec::new(), Vec::new());
        for index in 0..shared.config.threads {
            let context = Context {
                store: Arc::clone(&store),
                shared: Arc::clone(&shared),
                local: store.local(),
                out: Output::default(),
                stop: stop_sender.clone(),
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
            workers.push(handle);
            serving.push(spawn(&format!("worker {index}"), || worker.run())?);
        }
        let (acceptor, stopper) = Acceptor::new(listeners, workers.clone(), Arc::clone(&shared))
            .map_err(StartError::Thread)?;
        serving.push(spawn("acceptor", || acceptor.run())?);
        let mut admin = None;
        let mut admin_addrs = Vec::new();
        if !admin_listeners.is_empty() {
            admin_addrs = admin_listeners.iter().map(Listening::url).collect();
            let site = Site::new(Arc::clone(&store), Arc::clone(&shared), stalled);
            let (thread, stopper) = AdminThread::new(admin_listeners, Arc::clone(&shared), site)
                .map_err(StartError::Thread)?;
            admin = Some((stopper, spawn("admin", || thread.run())?));
        }
        let (upkeep, ended) = bounded(1);
        let keeper = Upkeep::new(Arc::clone(&store), Arc::clone(&shared));
        helping.push(spawn("upkeep", move || keep_up(keeper, &ended))?);
        Ok(Self {
            shared,
            store,
            tcp_addrs,
            udp_addrs,
            unix_paths,
            acceptor: stopper,
            workers,
            watcher_inbox,
            upkeep: Some(upkeep),
            stderr,
            stderr_thread,
            admin,
            admin_addrs,
            serving,
            helping,
            stop_requests,
            stop_sender,
        })
    }

    /// Returns the TCP addresses of the listeners.
    pub fn tcp_addrs(&self) -> &[SocketAddr] {
        &self.tcp_addrs
    }

    /// Returns the UDP addresses, once each.
    pub fn udp_addrs(&self) -> &[SocketAddr] {
        &self.udp_addrs
    }

    /// Returns the paths of the unix sockets.
    pub fn unix_paths(&self) -> &[PathBuf] {
        &self.unix_paths
    }

    /// Returns the URLs of the admin listeners.
    pub fn admin_urls(&self) -> &[String] {
        &self.admin_addrs
    }

    /// Returns the store, for processes that embed the server.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the queue of log lines for standard error.
    pub fn log(&self) -> Arc<Log> {
        Arc::clone(&self.shared.log)
    }

    /// Moves the server's clock forward. For tests.
    pub fn advance_clock(&self, by: Duration) {
        self.shared.clock.advance(by);
    }

    /// Returns a channel on which other threads can request a stop.
    pub fn stopper(&self) -> Sender<StopRequest> {
        self.stop_sender.clone()
    }

    /// Returns a handle with which other threads can reload files.
    pub fn reloader(&self) -> Reloader {
        Reloader {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Blocks until a stop is requested.
    pub fn wait_for_stop_request(&self) -> StopRequest {
        self.stop_requests
            .recv()
            .expect("the server holds a sender itself")
    }

    /// Stops accepting, serves active connections for up to `--drain-timeout`,
    /// sends outstanding replies, ends all threads, keeps the items for the next
    /// start if there is a file for them, and waits at most
    /// [`LOG_FLUSH_TIMEOUT`] until the queued log lines are written.
    pub fn stop(mut self) {
        self.stop_threads();
    }

    fn stop_threads(&mut self) {
        self.shared.draining.store(true, Ordering::Relaxed);
        self.acceptor.stop();
        for worker in &self.workers {
            worker.stop();
        }
        let was_running = !self.serving.is_empty();
        // Workers serve active clients for up to `--drain-timeout`.
        for thread in self.serving.drain(..) {
            // A panic would have ended the process.
            let _ = thread.join();
        }
        self.watcher_inbox.stop();
        self.upkeep = None;
        for thread in self.helping.drain(..) {
            let _ = thread.join();
        }
        // Shows until here that the server is draining.
        if let Some((stopper, thread)) = self.admin.take() {
            stopper.stop();
            let _ = thread.join();
        }
        if was_running {
            restart::keep(&self.shared, &self.store);
        }
        // Last, because the other threads log until they end. If standard error
        // is stuck, the thread is left behind and ends when it can.
        if let Some(thread) = self.stderr_thread.take()
            && self.stderr.stop(LOG_FLUSH_TIMEOUT)
        {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

/// Returns the output of log lines.
fn log_output(shared: &Shared) -> Result<Box<dyn Write + Send>, StartError> {
    let Some(path) = &shared.config.log_file else {
        return Ok(Box::new(StandardError));
    };
    match LogFile::open(path, Arc::clone(&shared.log)) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(StartError::LogFile(path.clone(), error)),
    }
}

/// Creates the store of a server, with the items of the memory file if there is
/// one.
pub(super) fn new_store(shared: &Shared, opened: Option<Opened>) -> Store {
    let store = restart::open_store(shared, opened);
    if shared.config.observe.curve {
        store.begin_sampling(shared.config.threads);
    }
    store
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    supervise::spawn(name, run).map_err(StartError::Thread)
}

/// Runs upkeep step by step until the sender of `ended` is dropped.
///
/// # Panics
/// When a test sends a message.
fn keep_up(mut upkeep: Upkeep, ended: &Receiver<()>) {
    let mut pause = Duration::ZERO;
    loop {
        match ended.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => pause = upkeep.step(),
            Err(RecvTimeoutError::Disconnected) => break,
            Ok(()) => panic!("injected panic"),
        }
    }
}

/// Records the listeners, for `stats conns` and the admin page.
fn note_listeners<'a>(
    shared: &Shared,
    listeners: &[Listening],
    datagrams: impl Iterator<Item = &'a udp::Bound>,
) {
    let streams = listeners.iter().map(|listener| {
        let protocol = match listener.protocol {
            ProtocolMode::Auto => "auto",
            ProtocolMode::Ascii => "ascii",
            ProtocolMode::Binary => "binary",
        };
        let tls = listener.tls.is_some();
        (listener.about(), ConnState::Listening, protocol, tls)
    });
    let datagrams = datagrams.map(|bound| (bound.about(), ConnState::Datagrams, "udp", false));
    let mut listening = Vec::new();
    for ((fd, local), state, protocol, tls) in streams.chain(datagrams) {
        listening.push(ListeningOn {
            address: local.clone(),
            protocol,
            tls,
        });
        let conn = Conn {
            peer: None,
            local,
            state,
            active: shared.clock.now().second(),
        };
        shared.table.open(fd, &conn);
    }
    // Set once, before any thread starts.
    let _ = shared.listening.set(listening);
}
