//! `stats settings`.

use crate::command::admin::stat_sink::{StatSink, stat};
use crate::command::executor::Executor;
use crate::events::Kinds;
use crate::options::{self, Current};
use crate::store::{HASH_NAME, PAGE_SPACE_BYTES};
use crate::sync::Ordering;
use crate::time::Expiry;

impl Executor<'_> {
    /// Writes the settings in the order of memcached's `process_stat_settings`.
    pub(in crate::command) fn settings(&mut self, out: &mut StatSink<'_>) {
        let runtime = &self.shared.runtime;
        let current = Current {
            config: &self.shared.config,
            tunables: *runtime.tunables(),
            memory_limit: self.store.memory_limit(),
            verbosity: runtime.verbosity.load(Ordering::Relaxed),
            detail: self.shared.events.wanted().any_of(Kinds::DETAIL),
            flush_at: Expiry(runtime.flush_at.load(Ordering::Relaxed)).second(),
            hash_name: HASH_NAME,
            chunk_max: PAGE_SPACE_BYTES,
        };
        for (name, value) in options::lines(&current) {
            stat(out, name, value);
        }
        out.end();
    }
}
