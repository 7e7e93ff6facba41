//! Statistics for readers that are no clients.

use std::sync::Arc;

use crate::command::admin::stat_sink::{StatList, StatSink};
use crate::command::executor::Executor;
use crate::command::stalled::Stalled;
use crate::events::Kinds;
use crate::shared::Shared;
use crate::stats::HotSampler;
use crate::store::{Local, Store};

/// Reader of statistics, for a thread that serves no clients.
pub struct Reporter {
    /// The items.
    pub store: Arc<Store>,
    /// State that all threads share apart from the items.
    pub shared: Arc<Shared>,
    /// Parked state of stalled clients.
    pub stalled: Arc<Stalled>,
    local: Local,
    sampler: HotSampler,
}

impl Reporter {
    /// Creates a reader of a server's statistics.
    pub fn new(store: Arc<Store>, shared: Arc<Shared>, stalled: Arc<Stalled>) -> Self {
        Self {
            local: store.local(),
            sampler: HotSampler::new(Arc::default(), 0),
            store,
            shared,
            stalled,
        }
    }

    /// Returns the names and values that `stats <group>` reports. Empty for
    /// groups that are listed in steps, and for unknown ones.
    pub fn stats(&mut self, group: &str) -> StatList {
        let mut list = StatList::new();
        let mut executor = Executor {
            store: &self.store,
            local: &mut self.local,
            shared: &self.shared,
            now: self.shared.clock.now(),
            connection: -1,
            watched: Kinds::NONE,
            sampler: &mut self.sampler,
            samples: false,
            curve: None,
            stalled: &self.stalled,
        };
        executor.stats(group.as_bytes(), &mut StatSink::list(&mut list));
        list
    }
}
