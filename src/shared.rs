//! What all threads share besides the items: settings, the few of them that
//! change while the server runs, and the connection counters. Plain data;
//! commands read and change it, the server counts in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::auth::{Passwords, Sasl};
use crate::config::{Config, Knobs};
use crate::limits::CLASSES_MAX;
use crate::logging::Log;
use crate::stats::{ClassSnapshot, ConnTable, Prefixes, Snapshot};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::time::{Clock, Expiry, Now};
use crate::tls::Tls;

/// Descriptors there may be beside those of connections.
const SPARE_DESCRIPTORS: usize = 4096;

/// See the module's documentation.
pub struct Shared {
    /// The settings as they were at the start.
    pub config: Config,
    /// Settings that change.
    pub runtime: Runtime,
    /// The clock.
    pub clock: Clock,
    /// Connections, counted where they are accepted.
    pub connections: Connections,
    /// Who may speak packets, if not everybody.
    pub sasl: Option<Sasl>,
    /// Certificates, if any listener speaks TLS.
    pub tls: Option<Arc<Tls>>,
    /// Who may speak text, if not everybody.
    pub passwords: Option<Passwords>,
    /// What the counters were when they were last reset.
    base: Mutex<Base>,
    /// The connections one by one.
    pub table: ConnTable,
    /// Counts by key prefix.
    pub prefixes: Prefixes,
    /// Lines for standard error.
    pub log: Arc<Log>,
}

struct Base {
    sum: Snapshot,
    classes: [ClassSnapshot; CLASSES_MAX],
}

/// Settings that change while the server runs.
#[derive(Debug)]
pub struct Runtime {
    /// Log level.
    pub verbosity: AtomicU32,
    /// When everything is flushed, as an expiry time; 0 for never.
    pub flush_at: AtomicU32,
    /// What operators tune, seldom.
    pub knobs: Mutex<Knobs>,
    /// A sweep that an operator asked for.
    pub crawl: Crawl,
}

/// A sweep that `lru_crawler crawl` asks for and upkeep makes.
#[derive(Debug, Default)]
pub struct Crawl {
    /// Classes wanted, class 1 in the lowest bit; 0 for no sweep.
    pub wanted: AtomicU64,
    /// Sweeps that were asked for, and dumps.
    pub starts: AtomicU64,
    /// Dumps under way, each of which holds a reference.
    pub dumps: Arc<()>,
}

impl Crawl {
    /// Whether somebody walks through the items because somebody asked.
    pub fn is_running(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) != 0 || Arc::strong_count(&self.dumps) > 1
    }
}

impl Runtime {
    /// What operators tuned.
    pub fn knobs(&self) -> MutexGuard<'_, Knobs> {
        self.knobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connection counters; written by the acceptor, and by workers on closing.
#[derive(Debug, Default)]
pub struct Connections {
    /// Open now.
    pub open: AtomicU64,
    /// Ever accepted.
    pub total: AtomicU64,
    /// Refused above the limit.
    pub rejected: AtomicU64,
    /// Times that accepting stopped.
    pub listen_disabled: AtomicU64,
    /// Time during which it was stopped, in microseconds.
    pub disabled_us: AtomicU64,
    /// Accepting at the moment.
    pub accepting: AtomicBool,
    /// Most connection structures ever.
    pub structures: AtomicU64,
}

impl Shared {
    /// Shared state of a server with these settings.
    pub fn new(config: Config) -> Self {
        Self {
            runtime: Runtime {
                verbosity: AtomicU32::new(config.verbosity),
                flush_at: AtomicU32::new(0),
                knobs: Mutex::new(config.knobs),
                crawl: Crawl::default(),
            },
            clock: Clock::start(),
            connections: Connections::default(),
            sasl: None,
            tls: None,
            passwords: None,
            base: Mutex::new(Base {
                sum: Snapshot::default(),
                classes: [ClassSnapshot::default(); CLASSES_MAX],
            }),
            table: ConnTable::new(config.max_connections + SPARE_DESCRIPTORS),
            prefixes: Prefixes::new(config.prefix_delimiter),
            log: Arc::default(),
            config,
        }
    }

    /// Counters as an operator sees them: since the last reset, except for
    /// what describes the present.
    pub fn since_reset(&self, total: &Snapshot) -> Snapshot {
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot {
            items: total.items,
            item_bytes: total.item_bytes,
            connections: total.connections,
            ..total.since(&base.sum)
        }
    }

    /// The same for the counters by size class.
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

    /// `stats reset`.
    pub fn reset(&self, sum: Snapshot, classes: [ClassSnapshot; CLASSES_MAX]) {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = Base { sum, classes };
        self.prefixes.clear();
        let connections = &self.connections;
        connections.total.store(0, Ordering::Relaxed);
        connections.rejected.store(0, Ordering::Relaxed);
        connections.listen_disabled.store(0, Ordering::Relaxed);
        connections.disabled_us.store(0, Ordering::Relaxed);
        if let Some(tls) = &self.tls {
            tls.reset();
        }
    }

    /// Whether a delayed flush is due; answers yes once for each.
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
