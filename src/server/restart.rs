//! Keeping the items over a restart: which file the store is opened with, what
//! is logged about it, and what a stop writes.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use crate::config::RestartSettings;
use crate::shared::Shared;
use crate::stats::{RestartReport, Restored};
use crate::store::restart::{EmptyReason, Opened, StopState};
use crate::store::{Options, Store};
use crate::supervise;
use crate::sync::Ordering;
use crate::time::{Expiry, Moment};

/// Shortest interval between two log lines about the progress of a save.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Opens the memory file that the settings name, if they do.
pub(super) fn open(settings: &RestartSettings) -> Option<Opened> {
    let now = Moment::now();
    if let Some(path) = &settings.memory_file {
        return Some(Opened::arena(path, settings.max_gap, now));
    }
    let path = settings.save_path.as_ref()?;
    Some(Opened::saved(path, settings.max_gap, now))
}

/// Creates the store of a server, which counts in the server's statistics, with
/// the items of the memory file. Logs and records what was kept.
pub(super) fn open_store(shared: &Shared, opened: Option<Opened>) -> Store {
    let options = Options::from(&shared.config);
    let (stats, events) = (Arc::clone(&shared.stats), Arc::clone(&shared.events));
    let Some(opened) = opened else {
        return Store::with_telemetry(options, stats, events);
    };
    let begun = Instant::now();
    let flush_at = opened.flush_at();
    let settings = &shared.config.restart;
    let saved = settings.save_path.as_deref();
    let now = shared.clock.now();
    let parallel = |work: &(dyn Fn() + Sync)| supervise::in_parallel(threads(shared), work);
    let (store, result) = Store::open(options, stats, events, opened, saved, now, &parallel);
    if result.is_ok() {
        shared.runtime.flush_at.store(flush_at.0, Ordering::Relaxed);
    }
    report(shared, &result, begun.elapsed());
    store
}

/// Logs and records the result of opening the memory file.
fn report(shared: &Shared, result: &Result<Restored, EmptyReason>, took: Duration) {
    let settings = &shared.config.restart;
    let path = settings
        .memory_file
        .as_ref()
        .or(settings.save_path.as_ref());
    let path = path
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let restored = match result {
        Ok(restored) => restored,
        Err(reason) => {
            shared
                .log
                .put(format_args!("restart: starting empty: {path}: {reason}"));
            let _ = shared.restart.set(RestartReport {
                empty_reason: reason.to_string(),
                took,
                ..RestartReport::default()
            });
            return;
        }
    };
    let dropped = restored.dropped;
    shared.log.put(format_args!(
        "restart: kept {} items of {path} in {:.2} s, {:.0} s after the last stop; dropped {}: {} \
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
    let _ = shared.restart.set(RestartReport {
        empty_reason: String::new(),
        took,
        restored: *restored,
    });
}

/// Keeps the items for the next start, if there is a file for them. No other
/// thread may use the store any more.
pub(super) fn keep(shared: &Shared, store: &Store) {
    let settings = &shared.config.restart;
    let state = StopState {
        now: shared.clock.now(),
        moment: Moment::now(),
        flush_at: Expiry(shared.runtime.flush_at.load(Ordering::Relaxed)),
    };
    let parallel = |work: &(dyn Fn() + Sync)| supervise::in_parallel(threads(shared), work);
    let begun = Instant::now();
    let (path, kept) = if let Some(path) = &settings.memory_file {
        if !store.has_file() {
            return;
        }
        (path, store.seal(state, &parallel))
    } else if let Some(path) = &settings.save_path {
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
        (path, store.save(path, state, &parallel, progress))
    } else {
        return;
    };
    let path = path.display();
    match kept {
        Ok(items) => shared.log.put(format_args!(
            "restart: {items} items are in {path} for the next start, after {:.2} s",
            begun.elapsed().as_secs_f64()
        )),
        Err(error) => shared.log.put(format_args!(
            "restart: the next start will be empty: {path}: {error}"
        )),
    }
}

/// Number of threads that load or write the memory.
fn threads(shared: &Shared) -> usize {
    let processors = available_parallelism().map_or(1, usize::from);
    shared.config.threads.min(processors)
}
