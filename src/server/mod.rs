//! Sockets and threads: an acceptor, workers, and an upkeep thread around
//! one store. Started from a configuration, stopped by its owner.

mod acceptor;
mod batch;
mod budget;
mod conn_events;
mod connection;
mod drive;
mod guard;
mod inherited;
mod injection;
mod listen;
mod log;
mod login;
mod loopback;
mod mailbox;
mod stream;

mod tls_stream;
mod udp;
mod watch;
mod worker;

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

pub use crate::server::inherited::Inherited;
#[doc(hidden)]
pub use crate::server::injection::Victim;
pub use crate::server::loopback::Loopback;

use crate::auth::{Form, LoadError, Passwords, Sasl};
use crate::command::{Output, Stalled};
use crate::config::{Config, SaslFiles};
use crate::events::Kinds;
use crate::limits::LOG_FLUSH_MAX_WAIT;
use crate::logging::{Log, StandardError, Writer, WriterHandle};
use crate::server::acceptor::Acceptor;
use crate::server::drive::Context;
use crate::server::listen::{Listening, bind_all, take_over};
use crate::server::mailbox::Stopper;
use crate::server::watch::{LogThread, WatcherInbox};
use crate::server::worker::{Handle, Worker};
use crate::shared::Shared;
use crate::stats::{Conn, ConnState};
use crate::store::{Options, Store};
use crate::supervise;
use crate::tls::{Tls, TlsError};
use crate::upkeep::Upkeep;

/// Exit code of a plain failure.
const EXIT_FAILURE: u8 = 1;
/// `EX_USAGE` and `EX_OSERR` of sysexits.
const EX_USAGE: u8 = 64;
const EX_OSERR: u8 = 71;

/// Why the server could not start; for the operator.
#[derive(Debug)]
pub enum StartError {
    /// A listening socket could not be had.
    Listen {
        /// Where it was to listen.
        endpoint: String,
        /// Why not.
        error: io::Error,
    },
    /// Certificates or their key are no good.
    Tls(TlsError),
    /// The password file is no good.
    Passwords(LoadError),
    /// A socket that was handed over is of no use.
    Inherited(io::Error),
    /// A thread or its poll could not be had.
    Thread(io::Error),
    /// The file that was to receive the ports could not be written.
    PortFile(PathBuf, io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { endpoint, error } => {
                write!(f, "failed to listen on {endpoint}: {error}")
            }
            Self::Tls(error) => error.fmt(f),
            Self::Passwords(error) => error.fmt(f),
            Self::Inherited(error) => write!(f, "failed to take over a socket: {error}"),
            Self::Thread(error) => write!(f, "failed to start a thread: {error}"),
            Self::PortFile(path, error) => {
                write!(
                    f,
                    "failed to write the port file {}: {error}",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    /// The code to exit with: memcached's for the same fault.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Passwords(_) => EXIT_FAILURE,
            Self::Tls(_) => EX_USAGE,
            Self::Listen { .. } | Self::Inherited(_) | Self::Thread(_) | Self::PortFile(..) => {
                EX_OSERR
            }
        }
    }

    fn tcp(address: SocketAddr, error: io::Error) -> Self {
        let endpoint = format!("TCP port {} ({address})", address.port());
        Self::Listen { endpoint, error }
    }

    fn udp(address: SocketAddr, error: io::Error) -> Self {
        let endpoint = format!("UDP port {} ({address})", address.port());
        Self::Listen { endpoint, error }
    }

    fn unix(path: &Path, error: io::Error) -> Self {
        let endpoint = format!("unix socket {}", path.display());
        Self::Listen { endpoint, error }
    }
}

/// Someone asked for the server to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRequest {
    /// Without hurry.
    pub graceful: bool,
}

/// Reads again what a running server can replace.
pub struct Reloader {
    shared: Arc<Shared>,
}

impl Reloader {
    /// Reads certificates and passwords again. A file that is no good changes
    /// nothing; the error is logged at any verbosity.
    pub fn reload(&self) {
        let tls = self.shared.tls.as_ref().map(|tls| tls.reload());
        let passwords = self.shared.passwords.as_ref();
        let passwords = passwords.map(|passwords| passwords.reload());
        let errors = [
            tls.and_then(Result::err).map(|error| error.to_string()),
            passwords
                .and_then(Result::err)
                .map(|error| error.to_string()),
        ];
        for error in errors.into_iter().flatten() {
            self.shared
                .log
                .put(format_args!("nothing changed: {error}"));
        }
    }
}

/// What is read from files that others must not see.
struct Secrets {
    tls: Option<Tls>,
    passwords: Option<Passwords>,
    sasl: Option<(Sasl, Option<LoadError>)>,
}

impl Secrets {
    fn load(config: &Config) -> Result<Self, StartError> {
        let tls = config.tls.as_ref().map(Tls::load);
        let path = config.auth_file.as_deref();
        let passwords = path.map(|path| Passwords::load(path, Form::AuthFile));
        Ok(Self {
            tls: tls.transpose().map_err(StartError::Tls)?,
            passwords: passwords.transpose().map_err(StartError::Passwords)?,
            sasl: config.sasl.as_ref().map(load_sasl),
        })
    }

    fn shared_with(self, config: Config) -> Shared {
        let mut shared = Shared::new(config);
        shared.tls = self.tls.map(Arc::new);
        shared.passwords = self.passwords;
        if let Some((sasl, error)) = self.sasl {
            if let Some(error) = error {
                let line = format_args!("SASL: {error}; nobody can log in until it is good");
                shared.log.put(line);
            } else if !sasl.has_users() {
                shared.log.put(format_args!(
                    "SASL has no users, so nobody can authenticate; see MEMCACHED_SASL_PWDB"
                ));
            }
            shared.sasl = Some(sasl);
        }
        shared
    }
}

/// A running server; stops when dropped.
pub struct Server {
    shared: Arc<Shared>,
    store: Arc<Store>,
    tcp_addrs: Vec<SocketAddr>,
    udp_addrs: Vec<SocketAddr>,
    unix_paths: Vec<PathBuf>,
    acceptor: Arc<Stopper>,
    workers: Vec<Arc<Handle>>,
    watcher_inbox: Arc<WatcherInbox>,
    /// Closing it ends the upkeep thread.
    upkeep: Option<Sender<()>>,
    stderr: WriterHandle,
    stderr_thread: Option<JoinHandle<()>>,
    /// All threads but that one.
    threads: Vec<JoinHandle<()>>,
    stop_requests: Receiver<StopRequest>,
    stop_sender: Sender<StopRequest>,
}

impl Server {
    /// Binds the listeners and starts the threads.
    ///
    /// # Errors
    /// What keeps the server from running as configured.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Inherited::default())
    }

    /// The same, with sockets that were handed over.
    ///
    /// # Errors
    /// As for [`Server::start`].
    pub fn start_with(mut config: Config, inherited: Inherited) -> Result<Self, StartError> {
        if config.handed_over.alone && !inherited.is_empty() {
            config.listeners.clear();
        }
        let secrets = Secrets::load(&config)?;
        let mut listeners = take_over(&config, inherited).map_err(StartError::Inherited)?;
        listeners.extend(bind_all(&config)?);
        let mut datagrams = udp::bind_all(&config)?;
        let store = Arc::new(Store::new(Options {
            max_memory: config.max_memory,
            evict: config.evict,
            max_item_size: config.max_item_size,
            eviction: config.eviction,
            cas: config.cas,
        }));
        store.events().want(Kinds::DETAIL, config.detail);
        if !config.knobs.maintainer {
            store.reclaim_before_storing();
        }
        let shared = Arc::new(secrets.shared_with(config));
        note_listeners(&shared, &listeners, datagrams.iter().flatten());
        let tcp_addrs: Vec<_> = listeners.iter().filter_map(Listening::tcp_addr).collect();
        let unix_paths: Vec<_> = listeners.iter().filter_map(Listening::unix_path).collect();
        let of_first = datagrams.first().map_or(&[][..], |sockets| sockets);
        let udp_addrs: Vec<_> = of_first.iter().filter_map(udp::Bound::local_addr).collect();
        write_port_file(shared.config.port_file.as_deref(), &tcp_addrs, &udp_addrs)?;
        let (stop_sender, stop_requests) = bounded(1);
        let (writer, stderr) = Writer::new(Arc::clone(&shared.log), StandardError);
        let stderr_thread = Some(spawn("stderr", || writer.run())?);
        let mut threads = Vec::new();
        let (log, watcher_inbox) =
            LogThread::new(Arc::clone(&store), Arc::clone(&shared)).map_err(StartError::Thread)?;
        threads.push(spawn("log", || log.run())?);
        let stalled = Arc::new(Stalled::new(
            shared.config.threads,
            shared.config.client_memory_limit,
            shared.config.refuse_at_client_limit,
        ));
        let mut workers = Vec::new();
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
            };
            let sockets = datagrams.pop().unwrap_or_default();
            let (worker, handle) = Worker::new(context, sockets).map_err(StartError::Thread)?;
            workers.push(handle);
            threads.push(spawn(&format!("worker {index}"), || worker.run())?);
        }
        let (acceptor, stopper) = Acceptor::new(listeners, workers.clone(), Arc::clone(&shared))
            .map_err(StartError::Thread)?;
        threads.push(spawn("acceptor", || acceptor.run())?);
        let (upkeep, ended) = bounded(1);
        let keeper = Upkeep::new(Arc::clone(&store), Arc::clone(&shared));
        threads.push(spawn("upkeep", move || keep_up(keeper, &ended))?);
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
            threads,
            stop_requests,
            stop_sender,
        })
    }

    /// The TCP addresses that are listened on.
    pub fn tcp_addrs(&self) -> &[SocketAddr] {
        &self.tcp_addrs
    }

    /// The UDP addresses that are listened on.
    pub fn udp_addrs(&self) -> &[SocketAddr] {
        &self.udp_addrs
    }

    /// The unix sockets that are listened on.
    pub fn unix_paths(&self) -> &[PathBuf] {
        &self.unix_paths
    }

    /// The items, for who embeds the server.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The queue of lines for standard error.
    pub fn log(&self) -> Arc<Log> {
        Arc::clone(&self.shared.log)
    }

    /// Moves the cache's clock forward; for tests.
    pub fn advance_clock(&self, by: Duration) {
        self.shared.clock.advance(by);
    }

    /// Lets others ask for the server to stop.
    pub fn stopper(&self) -> Sender<StopRequest> {
        self.stop_sender.clone()
    }

    /// Lets others have files read again.
    pub fn reloader(&self) -> Reloader {
        Reloader {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Waits until someone asks for the server to stop.
    pub fn wait_for_stop_request(&self) -> StopRequest {
        self.stop_requests
            .recv()
            .expect("the server holds a sender itself")
    }

    /// Stops accepting, finishes the replies in flight, ends all threads, and
    /// waits at most [`LOG_FLUSH_MAX_WAIT`] until the log lines are written.
    pub fn stop(mut self) {
        self.stop_threads();
    }

    fn stop_threads(&mut self) {
        self.acceptor.stop();
        for worker in &self.workers {
            worker.stop();
        }
        self.watcher_inbox.stop();
        self.upkeep = None;
        for thread in self.threads.drain(..) {
            // A panic would have ended the process.
            let _ = thread.join();
        }
        // Last, for the lines of the others. While standard error is stuck
        // the thread stays behind, and ends when it can.
        if let Some(thread) = self.stderr_thread.take()
            && self.stderr.stop(LOG_FLUSH_MAX_WAIT)
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

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    supervise::spawn(name, run).map_err(StartError::Thread)
}

/// Reads the users of SASL. As in memcached, a server whose list of users is
/// missing starts, and refuses all logins until there is one.
fn load_sasl(files: &SaslFiles) -> (Sasl, Option<LoadError>) {
    Sasl::load(files.users.as_deref(), files.conf.as_deref())
}

/// Runs upkeep in small steps until the other end of `ended` is dropped.
///
/// # Panics
/// When a test asks for it by a message.
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

/// Puts the listeners among the connections that operators are told of.
fn note_listeners<'a>(
    shared: &Shared,
    listeners: &[Listening],
    datagrams: impl Iterator<Item = &'a udp::Bound>,
) {
    let streams = listeners
        .iter()
        .map(|listener| (listener.about(), ConnState::Listening));
    let datagrams = datagrams.map(|bound| (bound.about(), ConnState::Datagrams));
    for ((fd, local), state) in streams.chain(datagrams) {
        let conn = Conn {
            peer: None,
            local,
            state,
            active: shared.clock.now().second(),
        };
        shared.table.open(fd, &conn);
    }
}

/// Writes the bound ports where test suites look for them.
fn write_port_file(
    path: Option<&Path>,
    tcp: &[SocketAddr],
    udp: &[SocketAddr],
) -> Result<(), StartError> {
    let Some(path) = path else {
        return Ok(());
    };
    let line = |kind: &str, address: &SocketAddr| {
        let family = if address.is_ipv6() { "INET6" } else { "INET" };
        format!("{kind} {family}: {}\n", address.port())
    };
    let tcp = tcp.iter().map(|address| line("TCP", address));
    let udp = udp.iter().map(|address| line("UDP", address));
    let lines: String = tcp.chain(udp).collect();
    // Written aside and renamed, so that a reader who waits for the file
    // never sees half of it.
    let aside = path.with_extension("part");
    fs::write(&aside, lines)
        .and_then(|()| fs::rename(&aside, path))
        .map_err(|error| StartError::PortFile(path.to_path_buf(), error))
}
