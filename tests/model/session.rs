//! One thread's way to a store: commands as text, through parser and executor.

use std::sync::Arc;

use rustcached::command::{Executor, Output, Stalled};
use rustcached::events::Kinds;
use rustcached::protocol::text::parse::{Parsed, parse};
use rustcached::shared::Shared;
use rustcached::stats::HotSampler;
use rustcached::store::{Local, Store};
use rustcached::time::Now;

/// What a thread needs to execute commands.
pub(crate) struct Session {
    pub(crate) local: Local,
    out: Output,
    sampler: HotSampler,
    stalled: Stalled,
}

impl Session {
    pub(crate) fn new(store: &Store) -> Self {
        Self {
            local: store.local(),
            out: Output::default(),
            sampler: HotSampler::new(Arc::default(), 0),
            stalled: Stalled::new(1, 1 << 20, false),
        }
    }

    /// Sends a line and its data block, and returns the whole reply.
    pub(crate) fn ask(
        &mut self,
        store: &Store,
        shared: &Shared,
        now: Now,
        line: &str,
        block: &[u8],
    ) -> Vec<u8> {
        let line = format!("{line}\r\n");
        let Parsed::Request(request, used) = parse(line.as_bytes()) else {
            panic!("not understood: {line}");
        };
        assert_eq!(used, line.len());
        let mut executor = Executor {
            store,
            local: &mut self.local,
            shared,
            now,
            connection: -1,
            watched: Kinds::NONE,
            sampler: &mut self.sampler,
            samples: false,
            curve: None,
            stalled: &self.stalled,
        };
        let mut block = block.to_vec();
        block.extend_from_slice(b"\r\n");
        executor.execute(&request, None, &block, &mut self.out);
        let answer = self.out.pieces().flatten().copied().collect();
        self.out.clear(store, &mut self.local);
        answer
    }
}
