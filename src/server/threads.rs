//! A running server: starting, stopping, and handing over to a successor.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::config::{Config, ProtocolMode};
use crate::events::Kinds;
use crate::limits::LOG_FLUSH_TIMEOUT;
use crate::logging::{Log, LogFile, StandardError, Writer, WriterHandle};
use crate::server::error::StartError;
use crate::server::handover::Successor;
use crate::server::handover::gate::Gate;
use crate::server::handover::predecessor::Predecessor;
use crate::server::handover::sockets::Sockets;
use crate::server::inherited::{Inherited, STORED_LISTENER, STORED_MEMORY};
use crate::server::listen::Listening;
use crate::server::port_file::write_port_file;
use crate::server::restart::{self, Limits, Source};
use crate::server::running::{Running, spawn};
use crate::server::secrets::{CurrentStore, Reloader, Secrets};
use crate::server::stop::StopRequest;
use crate::server::transport::udp;
use crate::shared::{ListeningOn, Shared};
use crate::stats::{Conn, ConnState};
use crate::store::Store;
use crate::sync::Ordering;
use crate::time::Clock;

/// A running server. Dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    store: Arc<Store>,
    tcp_addrs: Vec<SocketAddr>,
    udp_addrs: Vec<SocketAddr>,
    unix_paths: Vec<PathBuf>,
    /// URLs of the admin listeners.
    admin_urls: Vec<String>,
    /// Clones of the sockets, for a successor; `None` without `--take-over`.
    sockets: Option<Arc<Sockets>>,
    /// Entries of the listening sockets in the table of connections.
    listening: Vec<i32>,
    /// The server that has handed over, until this one serves for good.
    predecessor: Option<Predecessor>,
    /// The threads.
    pub(super) running: Running,
    /// The thread that writes log lines; `None` once it is stopped.
    pub(super) log_thread: Option<LogThread>,
    stop: StopChannel,
    /// The store, for those who hold a handle of the server.
    current_store: CurrentStore,
    is_stopped: bool,
}

/// What a server is started with.
struct Parts {
    shared: Arc<Shared>,
    sockets: Sockets,
    source: Option<Source>,
    predecessor: Option<Predecessor>,
    /// The limits, if they may differ from those of the settings.
    limits: Option<Limits>,
    log_thread: Option<LogThread>,
    stop: StopChannel,
    current_store: CurrentStore,
}

/// The thread that writes log lines.
pub(super) struct LogThread {
    /// Stops it.
    pub(super) handle: WriterHandle,
    thread: JoinHandle<()>,
}

/// The channel of requests to stop. It outlives a take-over that fails.
#[derive(Clone)]
struct StopChannel {
    sender: Sender<StopRequest>,
    requests: Receiver<StopRequest>,
}

/// Result of handing over.
pub enum AfterHandover {
    /// The successor serves. This process has nothing left to do but end.
    Done,
    /// The successor did not start. This server goes on, with its items if the
    /// successor left them whole.
    GoesOn(Box<Server>),
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
    /// If the settings name a server to take over from, and it runs, its sockets
    /// and its items come to this one. It waits to end until
    /// [`Server::confirm`] is called, and goes on if this server is dropped before.
    ///
    /// # Errors
    /// The reason why the server cannot run as configured.
    pub fn start_with(mut config: Config, mut inherited: Inherited) -> Result<Self, StartError> {
        let secrets = Secrets::load(&config)?;
        let path = config.restart.take_over.as_deref();
        let mut predecessor = path.map(Predecessor::find).transpose()?.flatten();
        if let Some(predecessor) = &mut predecessor {
            predecessor.check_memory(&config.restart)?;
            if config.handed_over.alone && inherited.is_empty() {
                inherited = predecessor.take_inherited();
            }
        }
        if config.handed_over.alone && !inherited.is_empty() {
            config.listeners.clear();
        }
        let stored = inherited.memory.take();
        let sockets = Sockets::open(&config, inherited, &mut predecessor)?;
        // After the listeners: a server that cannot listen must leave the last
        // one's items alone.
        let source = match &mut predecessor {
            Some(predecessor) => Some(restart::take_over(predecessor)?),
            None => restart::open(&config.restart, stored),
        };
        let clock = source.as_ref().map_or_else(Clock::start, Source::clock);
        let shared = Arc::new(secrets.shared_with(config, clock));
        shared
            .events
            .set_wanted(Kinds::DETAIL, shared.config.detail);
        let (sender, requests) = bounded(1);
        Self::run(Parts {
            shared,
            sockets,
            source,
            predecessor,
            limits: None,
            log_thread: None,
            stop: StopChannel { sender, requests },
            current_store: CurrentStore::default(),
        })
    }

    /// Loads the items and starts the threads. On an error, the items are kept as
    /// at any stop.
    fn run(parts: Parts) -> Result<Self, StartError> {
        let Parts {
            shared,
            sockets,
            source,
            predecessor,
            limits,
            log_thread,
            stop,
            current_store,
        } = parts;
        let store = Arc::new(new_store(&shared, source, limits));
        current_store.set(&store);
        if !shared.config.tunables.maintainer {
            store.count_overwritten_as_reclaimed();
        }
        let Sockets {
            listeners,
            admin,
            datagrams,
            ..
        } = &sockets;
        let of_first = datagrams.first().map_or(&[][..], |sockets| sockets);
        let mut server = Self {
            tcp_addrs: listeners.iter().filter_map(Listening::tcp_addr).collect(),
            unix_paths: listeners.iter().filter_map(Listening::unix_path).collect(),
            udp_addrs: of_first.iter().filter_map(udp::Bound::local_addr).collect(),
            admin_urls: admin.iter().map(Listening::url).collect(),
            sockets: None,
            listening: note_listeners(&shared, listeners, datagrams.iter().flatten()),
            predecessor,
            running: Running::default(),
            log_thread,
            stop,
            current_store,
            is_stopped: false,
            shared,
            store,
        };
        server.start_threads(sockets)?;
        Ok(server)
    }

    fn start_threads(&mut self, sockets: Sockets) -> Result<(), StartError> {
        let shared = &self.shared;
        let port_file = shared.config.port_file.as_deref();
        write_port_file(port_file, &self.tcp_addrs, &self.udp_addrs)?;
        if self.log_thread.is_none() {
            let (writer, handle) = Writer::new(Arc::clone(&shared.log), log_output(shared)?);
            let thread = spawn("stderr", || writer.run())?;
            self.log_thread = Some(LogThread { handle, thread });
        }
        let needs_clones = sockets.gate.is_some() || shared.config.restart.fd_store;
        let clones = needs_clones.then(|| sockets.try_clone());
        let clones = clones.transpose().map_err(StartError::Thread)?;
        self.running
            .start(shared, &self.store, sockets, &self.stop.sender)?;
        let Some(clones) = clones.map(Arc::new) else {
            return Ok(());
        };
        self.sockets = Some(Arc::clone(&clones));
        if clones.gate.is_none() {
            return Ok(());
        }
        let file = restart::named_file(shared, &self.store);
        let log = Arc::clone(&shared.log);
        let (gate, stopper) =
            Gate::new(clones, file, self.stop.sender.clone(), log).map_err(StartError::Thread)?;
        self.running.start_gate(gate, stopper)
    }

    /// Returns the process ID of the server that has handed over to this one, until
    /// [`Server::confirm`] is called.
    pub fn predecessor(&self) -> Option<i32> {
        self.predecessor.as_ref().map(Predecessor::process)
    }

    /// Ends the server that has handed over to this one, if there is one.
    pub fn confirm(&mut self) {
        if let Some(predecessor) = self.predecessor.take() {
            if let Some(sockets) = &self.sockets {
                sockets.own_files();
            }
            // If it has ended by itself, so much the better.
            let _ = predecessor.confirm();
        }
    }

    /// Returns the settings that the server was started with.
    pub fn config(&self) -> &Config {
        &self.shared.config
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
        &self.admin_urls
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
        self.stop.sender.clone()
    }

    /// Returns a handle with which other threads can reload files.
    pub fn reloader(&self) -> Reloader {
        Reloader::new(&self.shared, self.current_store.clone())
    }

    /// Blocks until a stop is requested.
    pub fn wait_for_stop_request(&self) -> StopRequest {
        self.stop
            .requests
            .recv()
            .expect("the server holds a sender itself")
    }

    /// Stops accepting, serves active connections for up to `--drain-timeout`,
    /// sends outstanding replies, ends all threads, keeps the items for the next
    /// start if there is a file for them, and waits at most
    /// [`LOG_FLUSH_TIMEOUT`] until the queued log lines are written.
    ///
    /// Returns what the service manager is to store, by name: the memory of the items
    /// and the listening sockets.
    pub fn stop(mut self) -> Vec<(&'static str, OwnedFd)> {
        self.stop_threads()
    }

    fn stop_threads(&mut self) -> Vec<(&'static str, OwnedFd)> {
        if std::mem::replace(&mut self.is_stopped, true) {
            return Vec::new();
        }
        self.shared.draining.store(true, Ordering::Relaxed);
        self.running.end_gate();
        // The other ones close now, while clients are drained.
        let stores = self.shared.config.restart.fd_store && self.predecessor.is_none();
        let sockets = self.sockets.take().filter(|_| stores);
        self.running.end();
        let memory = restart::keep(&self.shared, &self.store, self.predecessor.as_ref());
        let mut stored = Vec::new();
        if let Some(memory) = memory {
            let sockets = sockets.and_then(Arc::into_inner);
            let sockets = sockets.map(Sockets::into_stored).unwrap_or_default();
            stored.push((STORED_MEMORY, OwnedFd::from(memory)));
            stored.extend(sockets.into_iter().map(|socket| (STORED_LISTENER, socket)));
        }
        // The server that has handed over goes on with the items from here on.
        self.predecessor = None;
        self.stop_log();
        stored
    }

    /// Waits until the queued log lines are written. It comes last, because other
    /// threads log until they end. If standard error is stuck, the thread is left
    /// behind and ends when it can.
    fn stop_log(&mut self) {
        if let Some(LogThread { mut handle, thread }) = self.log_thread.take()
            && handle.stop(LOG_FLUSH_TIMEOUT)
        {
            let _ = thread.join();
        }
    }

    /// Drains the connections, hands sockets and items over to a successor, and
    /// waits until it serves. If it fails, starts the threads again.
    ///
    /// # Errors
    /// The successor has failed, and this server could not start again.
    pub fn hand_over(mut self, successor: Successor) -> Result<AfterHandover, StartError> {
        let shared = Arc::clone(&self.shared);
        let process = successor.process();
        shared
            .log
            .put(format_args!("take-over: process {process} is ready"));
        shared.handing_over.store(true, Ordering::Relaxed);
        shared.draining.store(true, Ordering::Relaxed);
        self.running.end();
        self.is_stopped = true;
        let memory = restart::transfer(&shared, &self.store);
        let given = match &memory {
            Ok(memory) => successor.give(memory),
            Err(error) => {
                successor.refuse(&error.to_string());
                Err(std::io::Error::other(error.to_string()))
            }
        };
        if let Err(error) = given {
            shared.log.put(format_args!(
                "take-over: process {process} did not start, this server goes on: {error}"
            ));
            return self.go_on(memory.ok()).map(AfterHandover::GoesOn);
        }
        shared
            .log
            .put(format_args!("take-over: process {process} serves now"));
        // Nothing may touch what is the successor's: not its sockets' files, nor
        // the pages of its items.
        std::mem::forget(self.sockets.take());
        std::mem::forget(Arc::clone(&self.store));
        self.stop_log();
        Ok(AfterHandover::Done)
    }

    /// Starts the threads again, with the items in `memory`.
    fn go_on(mut self, memory: Option<File>) -> Result<Box<Self>, StartError> {
        let shared = Arc::clone(&self.shared);
        shared.handing_over.store(false, Ordering::Relaxed);
        shared.draining.store(false, Ordering::Relaxed);
        for descriptor in self.listening.drain(..) {
            shared.table.close(descriptor);
        }
        // The items are counted anew.
        shared.stats.clear_gauges();
        let source = memory.map(restart::returned);
        let limits = Some(Limits::of(&self.store));
        let sockets = self.sockets.take().and_then(Arc::into_inner);
        let sockets = sockets.expect("a server that hands over has clones, and the gate has ended");
        let server = Self::run(Parts {
            shared,
            sockets,
            source,
            predecessor: None,
            limits,
            log_thread: self.log_thread.take(),
            stop: self.stop.clone(),
            current_store: self.current_store.clone(),
        })?;
        Ok(Box::new(server))
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
pub(super) fn new_store(shared: &Shared, source: Option<Source>, limits: Option<Limits>) -> Store {
    let limits = limits.unwrap_or_else(|| Limits::from(&shared.config));
    let store = restart::open_store(shared, source, &limits);
    if shared.config.observe.curve {
        store.begin_sampling(shared.config.threads);
    }
    store
}

/// Records the listeners, for `stats conns` and the admin page. Returns their
/// descriptors.
fn note_listeners<'a>(
    shared: &Shared,
    listeners: &[Listening],
    datagrams: impl Iterator<Item = &'a udp::Bound>,
) -> Vec<i32> {
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
    let (mut listening, mut descriptors) = (Vec::new(), Vec::new());
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
        descriptors.push(fd);
    }
    // Set before any thread starts. It stays the same if a take-over fails.
    let _ = shared.listening.set(listening);
    descriptors
}
