//! `stats invalidation`: invalidations of prefixes and tags.

use crate::command::admin::stat_sink::{StatSink, stat};
use crate::command::executor::Executor;

impl Executor<'_> {
    /// Writes the group.
    pub(in crate::command) fn invalidation(&self, out: &mut StatSink<'_>) {
        let sum = self.shared.since_reset(&self.shared.stats.snapshot());
        let state = self.store.invalidation_state();
        for (name, value) in [
            ("invalidations", sum.invalidations),
            ("prefix_invalidations", sum.prefix_invalidations),
            ("tag_invalidations", sum.tag_invalidations),
            ("stale_invalidations", sum.stale_invalidations),
            ("invalidated_items", sum.invalidated_items),
            ("invalidated_stale", sum.invalidated_stale),
            ("invalidation_outstanding", state.is_outstanding.into()),
            ("invalidation_prefix_lengths", state.prefix_lengths as u64),
            ("invalidation_slots", state.slots as u64),
            ("invalidation_table_bytes", state.table_bytes as u64),
        ] {
            stat(out, name, value);
        }
        out.end();
    }
}
