//! Keeping the items over a restart: which file the store is opened with, what
//! is logged about it, and what a stop writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use crate::config::{Config, PrefixLimit, RestartSettings};
use crate::server::error::StartError;
use crate::server::handover::predecessor::Predecessor;
use crate::shared::Shared;
use crate::stats::{RestartReport, Restored};
use crate::store::restart::{EmptyReason, Opened, StopState, new_memory};
use crate::store::{Options, Store};
use crate::supervise;
use crate::sync::Ordering;
use crate::time::{Clock, Expiry, Moment};

/// Shortest interval between two log lines about the progress of a save.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Where a store gets its items from, and where its pages lie.
pub(super) struct Source {
    opened: Opened,
    /// The file or the server, for messages.
    name: String,
}

impl Source {
    fn new(opened: Opened, name: String) -> Self {
        Self { opened, name }
    }

    /// Returns the clock of the server.
    pub(super) fn clock(&self) -> Clock {
        self.opened.clock()
    }
}

/// Opens the memory file that the settings name, if they do, or the memory that
/// the service manager has `stored`.
pub(super) fn open(settings: &RestartSettings, stored: Option<File>) -> Option<Source> {
    let now = Moment::now();
    let name = |path: &Path| path.display().to_string();
    if let Some(path) = &settings.memory_file {
        let opened = Opened::arena(path, settings.max_gap, now);
        return Some(Source::new(opened, name(path)));
    }
    if let Some(path) = &settings.save_path {
        let opened = Opened::saved(path, settings.max_gap, now);
        return Some(Source::new(opened, name(path)));
    }
    let opened = Opened::handed(stored?, settings.max_gap, now);
    Some(Source::new(opened, "the service manager".to_owned()))
}

/// Limits of a store that change while it runs.
pub(super) struct Limits {
    /// Memory in bytes.
    memory: usize,
    prefixes: Vec<PrefixLimit>,
}

impl Limits {
    /// Returns the present limits of a store.
    pub(super) fn of(store: &Store) -> Self {
        Self {
            memory: store.memory_limit(),
            prefixes: store.prefix_limits(),
        }
    }
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            memory: config.max_memory,
            prefixes: config.prefix_limits.clone(),
        }
    }
}

/// Makes the predecessor stop serving, and opens its memory.
///
/// # Errors
/// The predecessor goes on, or has ended.
pub(super) fn take_over(predecessor: &mut Predecessor) -> Result<Source, StartError> {
    let memory = predecessor.receive_memory()?;
    let opened = Opened::handed(memory, None, Moment::now());
    let name = format!("process {}", predecessor.process());
    Ok(Source::new(opened, name))
}

/// Opens the memory that a successor has returned.
pub(super) fn returned(memory: File) -> Source {
    let opened = Opened::handed(memory, None, Moment::now());
    Source::new(opened, "the successor".to_owned())
}

/// Creates the store of a server, which counts in the server's statistics, with
/// the items of the source. Logs and records what was kept. `limits` replace those
/// of the settings.
pub(super) fn open_store(shared: &Shared, source: Option<Source>, limits: &Limits) -> Store {
    let store = open_or_new(shared, source, limits.memory);
    limit_prefixes(shared, &store, &limits.prefixes);
    store
}

/// Replaces the limits of prefixes. Returns false, and logs the reason, if a prefix
/// cannot have one.
pub(super) fn limit_prefixes(shared: &Shared, store: &Store, limits: &[PrefixLimit]) -> bool {
    let result = store.replace_prefix_limits(limits);
    if let Err((prefix, bad)) = result {
        shared.log.put(format_args!(
            "no limit for the prefix {} and those after it: {bad}",
            prefix.escape_ascii()
        ));
    }
    result.is_ok()
}

fn open_or_new(shared: &Shared, source: Option<Source>, memory_limit: usize) -> Store {
    let mut options = Options::from(&shared.config);
    options.max_memory = memory_limit;
    let (stats, events) = (Arc::clone(&shared.stats), Arc::clone(&shared.events));
    let Some(Source { opened, name }) = source else {
        return Store::with_telemetry(options, stats, events);
    };
    let begun = Instant::now();
    let flush_at = opened.flush_at();
    let settings = &shared.config.restart;
    let saved = settings.save_path.as_deref();
    let now = shared.clock.now();
    let parallel = parallel(shared);
    let (store, result) = Store::open(options, stats, events, opened, saved, now, &parallel);
    if result.is_ok() {
        shared.runtime.flush_at.store(flush_at.0, Ordering::Relaxed);
    }
    report(shared, &name, &result, begun.elapsed());
    let memory = store.page_bytes() + store.index_bytes();
    if !store.evicts() && memory > store.memory_limit() {
        shared.log.put(format_args!(
            "restart: the items exceed the memory limit by {} bytes; with -M, they stay, and new \
             ones are refused",
            memory - store.memory_limit()
        ));
    }
    store
}

/// Logs and records the result of opening a source.
fn report(shared: &Shared, name: &str, result: &Result<Restored, EmptyReason>, took: Duration) {
    let restored = match result {
        Ok(restored) => restored,
        Err(reason) => {
            shared
                .log
                .put(format_args!("restart: starting empty: {name}: {reason}"));
            shared.set_restart_report(RestartReport {
                empty_reason: reason.to_string(),
                took,
                ..RestartReport::default()
            });
            return;
        }
    };
    let dropped = restored.dropped;
    shared.log.put(format_args!(
        "restart: kept {} items of {name} in {:.2} s, {:.0} s after the last stop; dropped {}: {} \
         expired, {} flushed, {} damaged, {} over the memory limit",
        restored.kept,
        took.as_secs_f64(),
        restored.away.as_secs_f64(),
        dropped.total(),
        dropped.expired,
        dropped.flushed,
        dropped.damaged,
        dropped.over_limit,
    ));
    shared.set_restart_report(RestartReport {
        empty_reason: String::new(),
        took,
        restored: *restored,
    });
}

/// Keeps the items for the next start, if there is a file for them, or for the
/// predecessor, which has handed over and goes on. Returns memory that the service
/// manager is to store. No other thread may use the store any more.
pub(super) fn keep(
    shared: &Shared,
    store: &Store,
    predecessor: Option<&Predecessor>,
) -> Option<File> {
    let settings = &shared.config.restart;
    let begun = Instant::now();
    let mut stored = None;
    let gives_back = predecessor.is_some();
    let (name, kept) = if !store.has_file()
        && let Some(memory) = predecessor.and_then(Predecessor::memory)
    {
        let moved = store.transfer(memory, state(shared), &parallel(shared));
        ("memory".to_owned(), moved)
    } else if settings.fd_store && !gives_back {
        let moved = new_memory().and_then(|memory| {
            let items = store.transfer(&memory, state(shared), &parallel(shared))?;
            stored = Some(memory);
            Ok(items)
        });
        ("memory".to_owned(), moved)
    } else if let Some(path) = &settings.memory_file {
        if !store.has_file() {
            return None;
        }
        let sealed = store.seal(state(shared), &parallel(shared));
        (path.display().to_string(), sealed)
    } else if let Some(path) = settings.save_path.as_ref().filter(|_| !gives_back) {
        if !store.may_save() {
            return None;
        }
        let mut told = begun;
        let progress = |done: u64, total: u64| {
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                let share = 100 * done / total.max(1);
                shared
                    .log
                    .put(format_args!("restart: {share} % of {total} bytes written"));
            }
        };
        let saved = store.save(path, state(shared), &parallel(shared), progress);
        (path.display().to_string(), saved)
    } else {
        return None;
    };
    match kept {
        Ok(items) => shared.log.put(format_args!(
            "restart: {items} items are in {name} for the next start, after {:.2} s",
            begun.elapsed().as_secs_f64()
        )),
        Err(error) => shared.log.put(format_args!(
            "restart: the next start will be empty: {name}: {error}"
        )),
    }
    stored
}

/// Returns the items for a successor: the file that holds them, sealed, or memory to
/// which they are moved. No other thread may use the store any more.
///
/// # Errors
/// The memory cannot be written.
pub(super) fn transfer(shared: &Shared, store: &Store) -> io::Result<File> {
    let (state, parallel) = (state(shared), parallel(shared));
    if let Some(file) = store.memory_file()? {
        store.seal(state, &parallel)?;
        return Ok(file);
    }
    let memory = new_memory()?;
    store.transfer(&memory, state, &parallel)?;
    Ok(memory)
}

/// Returns device and inode of the file that holds the items (`-e`).
pub(super) fn named_file(shared: &Shared, store: &Store) -> Option<(u64, u64)> {
    shared.config.restart.memory_file.as_ref()?;
    let file = store.memory_file().ok()??;
    let metadata = file.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn state(shared: &Shared) -> StopState {
    StopState {
        now: shared.clock.now(),
        moment: Moment::now(),
        flush_at: Expiry(shared.runtime.flush_at.load(Ordering::Relaxed)),
    }
}

/// Returns what runs work on several threads.
fn parallel(shared: &Shared) -> impl Fn(&(dyn Fn() + Sync)) + Sync {
    let threads = threads(shared);
    move |work| supervise::in_parallel(threads, work)
}

/// Number of threads that load or write the memory.
fn threads(shared: &Shared) -> usize {
    let processors = available_parallelism().map_or(1, usize::from);
    shared.config.threads.min(processors)
}
