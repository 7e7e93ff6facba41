//! State that all threads share, apart from the items: the settings, the
//! runtime settings and the connection counters.
//!
//! This module holds plain data. Commands read and change it; the server's
//! threads update the counters.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::auth::{Passwords, Sasl};
use crate::cluster::Cluster;
use crate::config::{Config, Tunables};
use crate::events::Hub;
use crate::limits::CLASSES_MAX;
use crate::logging::Log;
use crate::stats::{
    BusyPrefixes, ClassSnapshot, ConnTable, HotKeys, Latencies, LatencyHistory, LatencySnapshot,
    Prefixes, Registry, RestartReport, SlowLog, Snapshot, Workers,
};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::time::{Clock, Expiry, Now};
use crate::tls::Tls;

/// Entries of the connection table beyond `max_connections`, for descriptors
/// that are no client connections.
const SPARE_DESCRIPTORS: usize = 4096;

/// State shared by all threads of one server, apart from the items.
pub struct Shared {
    /// Settings as of the start. Never changes.
    pub config: Config,
    /// Settings that commands change at run time.
    pub runtime: Runtime,
    /// The server's monotonic clock.
    pub clock: Clock,
    /// Counters of all threads.
    pub stats: Arc<Registry>,
    /// Event rings of all threads, and the watchers' counters.
    pub events: Arc<Hub>,
    /// Connection counters.
    pub connections: Connections,
    /// SASL users for the binary protocol; `None` without `-S`.
    pub sasl: Option<Sasl>,
    /// TLS certificates and counters; `None` if no listener uses TLS.
    pub tls: Option<Arc<Tls>>,
    /// Users of the text protocol; `None` without `-Y`.
    pub passwords: Option<Passwords>,
    /// List of servers for clients; `None` without `--cluster-file`.
    pub cluster: Option<Cluster>,
    /// Counter values at the last `stats reset`, subtracted from every report.
    base: Mutex<Base>,
    /// State of each open connection, for `stats conns`.
    pub table: ConnTable,
    /// Counters by key prefix, for `stats detail`.
    pub prefixes: Prefixes,
    /// The most requested keys of each worker, in order of their numbers.
    pub hot_keys: Vec<Arc<HotKeys>>,
    /// The busiest key prefixes.
    pub busy_prefixes: BusyPrefixes,
    /// Latencies that each worker records; empty if they are off.
    pub latencies: Vec<Arc<Latencies>>,
    /// Latencies of the last minute, which upkeep records once a second.
    pub latency_history: Mutex<LatencyHistory>,
    /// Slow commands (`--slow-log-ms`).
    pub slow_log: SlowLog,
    /// The worker threads, for their processor time.
    pub workers: Workers,
    /// The listening sockets; set once they are bound.
    pub listening: OnceLock<Vec<ListeningOn>>,
    /// What was kept of the last server's items.
    restart: Mutex<Option<RestartReport>>,
    /// Whether the server has begun to stop, or to hand over.
    pub draining: AtomicBool,
    /// Whether the server has begun to hand over to a successor.
    pub handing_over: AtomicBool,
    /// Queue of log lines that the `stderr` thread writes.
    pub log: Arc<Log>,
}

/// A listening socket, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListeningOn {
    /// Address, as `stats conns` shows it.
    pub address: String,
    /// `auto`, `ascii` or `binary`; for datagrams `udp`.
    pub protocol: &'static str,
    /// Whether its connections use TLS.
    pub tls: bool,
}

struct Base {
    sum: Snapshot,
    classes: [ClassSnapshot; CLASSES_MAX],
}

/// Settings that change while the server runs.
#[derive(Debug)]
pub struct Runtime {
    /// Log level (`verbosity`, `-v`).
    pub verbosity: AtomicU32,
    /// Time of the pending `flush_all <delay>`, encoded as in [`Expiry`]; 0 if
    /// none is pending.
    pub flush_at: AtomicU32,
    /// Settings of `lru`, `slabs` and `lru_crawler`. Changed rarely, so a lock
    /// suffices.
    pub tunables: Mutex<Tunables>,
    /// State of the sweep that `lru_crawler crawl` requests.
    pub crawl: Crawl,
}

/// A sweep requested by `lru_crawler crawl` and executed by the upkeep thread.
#[derive(Debug, Default)]
pub struct Crawl {
    /// Bit set of the size classes to sweep, class 1 in the lowest bit; 0 if no
    /// sweep is requested.
    pub wanted: AtomicU64,
    /// Sweeps and key dumps started since the start of the server.
    pub starts: AtomicU64,
    /// Reference count of the key dumps in progress: each holds a clone.
    pub dumps: Arc<()>,
}

impl Crawl {
    /// Returns whether a requested sweep or a key dump is in progress.
    pub fn is_running(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) != 0 || Arc::strong_count(&self.dumps) > 1
    }
}

impl Runtime {
    /// Locks the settings of `lru`, `slabs` and `lru_crawler`.
    pub fn tunables(&self) -> MutexGuard<'_, Tunables> {
        self.tunables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connection counters. The acceptor writes them, and workers do when they
/// close a connection.
#[derive(Debug, Default)]
pub struct Connections {
    /// Connections open now.
    pub open: AtomicU64,
    /// Connections accepted since the last `stats reset`.
    pub total: AtomicU64,
    /// Connections refused because the limit (`-c`) was reached.
    pub rejected: AtomicU64,
    /// Number of times the acceptor stopped accepting.
    pub listen_disabled: AtomicU64,
    /// Total time during which the acceptor did not accept, in microseconds. A
    /// pause is added when it ends.
    pub disabled_us: AtomicU64,
    /// Whether the acceptor accepts connections now.
    pub accepting: AtomicBool,
    /// Highest number of connections open at the same time. `stats reset` does
    /// not change it.
    pub structures: AtomicU64,
}

impl Shared {
    /// Creates the shared state of a server with these settings. `sasl`, `tls`,
    /// `passwords` and `cluster` are `None`; the server sets them.
    pub fn new(config: Config) -> Self {
        Self::with_clock(config, Clock::start())
    }

    /// Creates the shared state as [`Shared::new`] does, with this clock.
    pub fn with_clock(config: Config, clock: Clock) -> Self {
        let shared = Self {
            runtime: Runtime {
                verbosity: AtomicU32::new(config.verbosity),
                flush_at: AtomicU32::new(0),
                tunables: Mutex::new(config.tunables),
                crawl: Crawl::default(),
            },
            clock,
            stats: Arc::default(),
            events: Arc::default(),
            connections: Connections::default(),
            sasl: None,
            tls: None,
            passwords: None,
            cluster: None,
            base: Mutex::new(Base {
                sum: Snapshot::default(),
                classes: [ClassSnapshot::default(); CLASSES_MAX],
            }),
            table: ConnTable::new(config.max_connections + SPARE_DESCRIPTORS),
            prefixes: Prefixes::new(config.prefix_delimiter),
            hot_keys: (0..config.threads).map(|_| Arc::default()).collect(),
            busy_prefixes: BusyPrefixes::new(config.prefix_delimiter),
            latencies: latencies(&config),
            latency_history: Mutex::new(LatencyHistory::new(LatencySnapshot::default())),
            slow_log: slow_log(&config),
            workers: Workers::new(config.threads),
            listening: OnceLock::new(),
            restart: Mutex::new(None),
            draining: AtomicBool::new(false),
            handing_over: AtomicBool::new(false),
            log: Arc::new(Log::new(config.log_format)),
            config,
        };
        if shared.config.observe.hot_keys {
            let now = shared.clock.now();
            shared.hot_keys.iter().for_each(|keys| keys.turn_on(now));
        }
        shared
    }

    /// Returns what was kept of the last server's items. `None` if there was no
    /// file or server to get them from.
    pub fn restart_report(&self) -> Option<RestartReport> {
        let report = self.restart.lock().unwrap_or_else(PoisonError::into_inner);
        report.clone()
    }

    /// Replaces the report of what was kept.
    pub fn set_restart_report(&self, report: RestartReport) {
        *self.restart.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }

    /// Returns the latencies since the start, summed over workers.
    pub fn latency_snapshot(&self) -> LatencySnapshot {
        let mut sum = LatencySnapshot::default();
        for worker in &self.latencies {
            sum.add(worker);
        }
        sum
    }

    /// Locks the latencies of the last minute.
    pub fn latency_history(&self) -> MutexGuard<'_, LatencyHistory> {
        let history = &self.latency_history;
        history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the counters since the last `stats reset`, given the sums since
    /// the start. Gauges (items, their bytes, connections) keep their present
    /// value.
    pub fn since_reset(&self, total: &Snapshot) -> Snapshot {
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot {
            items: total.items,
            item_bytes: total.item_bytes,
            connections: total.connections,
            ..total.since(&base.sum)
        }
    }

    /// Returns the counters by size class since the last `stats reset`, given
    /// the sums since the start. Gauges keep their present value.
    pub fn classes_since_reset(
        &self,
        mut totals: [ClassSnapshot; CLASSES_MAX],
    ) -> [ClassSnapshot; CLASSES_MAX] {
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        for (total, base) in totals.iter_mut().zip(&base.classes) {
            *total = total.since(base);
        }
        totals
    }

    /// Executes `stats reset`: makes the given sums the new base and zeroes the
    /// counters by prefix, the connection counters and those of TLS.
    pub fn reset(&self, sum: Snapshot, classes: [ClassSnapshot; CLASSES_MAX]) {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = Base { sum, classes };
        self.prefixes.clear();
        self.busy_prefixes.clear();
        let connections = &self.connections;
        connections.total.store(0, Ordering::Relaxed);
        connections.rejected.store(0, Ordering::Relaxed);
        connections.listen_disabled.store(0, Ordering::Relaxed);
        connections.disabled_us.store(0, Ordering::Relaxed);
        if let Some(tls) = &self.tls {
            tls.reset();
        }
    }

    /// Claims a delayed `flush_all` that is due at `now`. Returns true to
    /// exactly one caller, which must then flush the store.
    pub fn take_due_flush(&self, now: Now) -> bool {
        let at = self.runtime.flush_at.load(Ordering::Relaxed);
        at != 0
            && Expiry(at).is_over(now)
            && self
                .runtime
                .flush_at
                .compare_exchange(at, 0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

fn latencies(config: &Config) -> Vec<Arc<Latencies>> {
    let count = if config.observe.latency {
        config.threads
    } else {
        0
    };
    (0..count).map(|_| Arc::default()).collect()
}

fn slow_log(config: &Config) -> SlowLog {
    let slow_log = SlowLog::default();
    let nanos = config.observe.slow_log.map_or(0, |limit| limit.as_nanos());
    slow_log.set_threshold(nanos as u64);
    slow_log
}
