//! A thread's context for executing requests, and the counting and sampling of
//! their results.

use crate::command::output::Output;
use crate::command::stalled::Stalled;
use crate::events::{ItemSize, Kinds};
use crate::protocol::text::encode;
use crate::shared::Shared;
use crate::stats::{HotSampler, KeyAccess};
use crate::store::mrc::{Observed, Sampler};
use crate::store::{Access, Growth, Hashed, Item, ItemSpec, Local, Miss, NewItem, NoMemory, Store};
use crate::time::{Expiry, Now};

/// A thread's context for executing requests.
pub struct Executor<'a> {
    /// The items.
    pub store: &'a Store,
    /// This thread's local state of the store.
    pub local: &'a mut Local,
    /// State that all threads share apart from the items.
    pub shared: &'a Shared,
    /// Time of the wake-up.
    pub now: Now,
    /// Descriptor of the connection that sent the requests.
    pub connection: i32,
    /// Kinds of events that watchers want, as of the start of the batch.
    pub watched: Kinds,
    /// Sampler of this thread's hot keys.
    pub sampler: &'a mut HotSampler,
    /// Whether requests are passed to the sampler, as of the start of the batch.
    pub samples: bool,
    /// Sampler of the miss ratio curve; `None` if it is off.
    pub curve: Option<&'a Sampler>,
    /// Parked state of stalled clients, which may be freed when memory is
    /// short.
    pub stalled: &'a Stalled,
}

impl Executor<'_> {
    /// Makes an item with its value that is to take the place of the key's present
    /// item, like [`Store::new_filled`]. Makes room in limits of prefixes. Cuts
    /// stalled clients if memory is short.
    #[inline]
    pub(super) fn new_filled<'p>(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        value: impl Iterator<Item = &'p [u8]> + Clone,
    ) -> Result<NewItem, NoMemory> {
        self.make_prefix_room(key, spec, Growth::Replaces)?;
        self.new_filled_in_room(key, spec, value)
    }

    /// Makes an item with its value after [`Executor::make_prefix_room`].
    #[inline]
    pub(super) fn new_filled_in_room<'p>(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        value: impl Iterator<Item = &'p [u8]> + Clone,
    ) -> Result<NewItem, NoMemory> {
        let (store, now) = (self.store, self.now);
        self.with_memory(|local| store.new_filled(local, key, spec, now, value.clone()))
    }

    /// Makes room in limits of prefixes, like [`Store::make_prefix_room`]. Stalled
    /// clients stay: cutting them makes no room in a limit.
    #[inline]
    pub(super) fn make_prefix_room(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        growth: Growth,
    ) -> Result<(), NoMemory> {
        let (store, bytes) = (self.store, spec.bytes());
        store.make_prefix_room(self.local, key, bytes, growth, self.now)
    }

    /// Appends bytes to a value, like [`Store::fill`]. Cuts stalled clients if
    /// memory is short.
    ///
    /// # Errors
    /// Memory ran out. The caller must discard the item.
    pub fn fill(&mut self, new: &mut NewItem, bytes: &[u8]) -> Result<(), NoMemory> {
        let (store, end) = (self.store, new.missing() - bytes.len());
        self.with_memory(|local| {
            let rest = &bytes[bytes.len() - (new.missing() - end)..];
            store.fill(local, new, rest)
        })
    }

    /// Lets `receive` write into a value, like [`Store::fill_with`]. Cuts
    /// stalled clients if memory is short.
    ///
    /// # Errors
    /// Memory ran out. The caller must discard the item.
    pub fn fill_with<E>(
        &mut self,
        new: &mut NewItem,
        mut receive: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Result<usize, E>, NoMemory> {
        let store = self.store;
        self.with_memory(|local| store.fill_with(local, new, &mut receive))
    }

    /// Retries `attempt` as long as cutting stalled clients frees memory.
    #[inline]
    pub(super) fn with_memory<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Local) -> Result<T, NoMemory>,
    ) -> Result<T, NoMemory> {
        loop {
            match attempt(self.local) {
                Ok(done) => return Ok(done),
                Err(NoMemory) if self.stalled.free_item_memory(self.store, self.local) => {}
                Err(NoMemory) => return Err(NoMemory),
            }
        }
    }

    /// Passes a use of a key to the miss ratio curve. `request` is called only if
    /// the key is sampled.
    #[inline]
    pub(super) fn observe(&self, key: &Hashed<'_>, request: impl FnOnce() -> Observed) {
        if let Some(sampler) = self.curve {
            sampler.record(key.hash, request);
        }
    }

    /// Passes a retrieval of a key to the miss ratio curve. Looks up the item of
    /// a sampled key, whose size and expiry time the curve needs.
    #[inline]
    fn observe_get(&mut self, key: &Hashed<'_>, hit: bool) {
        let Some(sampler) = self.curve.filter(|sampler| sampler.is_sampled(key.hash)) else {
            return;
        };
        if !hit {
            return sampler.record(key.hash, || Observed::Miss);
        }
        let look = |item: Item<'_>| (Access::Peek, Observed::hit(item));
        let found = self.store.read(self.local, key, self.now, look);
        // Another thread may have removed it.
        if let Ok(observed) = found {
            sampler.record(key.hash, || observed);
        }
    }

    /// Passes a read of a key to the sampler of hot keys and prefixes.
    #[inline]
    pub(super) fn sample_read(&mut self, key: &Hashed<'_>, found: Result<ItemSize, Miss>) {
        if self.samples {
            let bytes = found.map_or(0, |item| u64::from(item.value_len));
            let read = KeyAccess::Read;
            let n = self.sampler.record(key.hash, key.key, read, bytes);
            if n > 0 && self.shared.config.observe.prefixes {
                let prefixes = &self.shared.busy_prefixes;
                prefixes.count_reads(key.key, found.is_ok(), n.into());
            }
        }
    }

    /// Passes a write of a key to the sampler of hot keys and prefixes.
    #[inline]
    pub(super) fn sample_write(&mut self, key: &Hashed<'_>, bytes: usize) {
        if self.samples {
            let write = KeyAccess::Write;
            let n = self.sampler.record(key.hash, key.key, write, bytes as u64);
            if n > 0 && self.shared.config.observe.prefixes {
                self.shared.busy_prefixes.count_writes(key.key, n.into());
            }
        }
    }

    /// Samples, counts and reports a retrieval of a key.
    #[inline]
    pub(super) fn count_get(&mut self, key: &Hashed<'_>, found: Result<ItemSize, Miss>) {
        self.sample_read(key, found);
        self.observe_get(key, found.is_ok());
        let counters = &self.local.counters;
        counters.cmd_get.add(1);
        match found {
            Ok(item) => {
                let class = item.class.map(|class| self.local.classes.of(class));
                class.inspect(|class| class.get_hits.add(1));
            }
            Err(_) => counters.get_misses.add(1),
        }
        if !self.watched.is_empty() {
            self.report_fetched(key.key, found);
        }
    }

    /// Samples, counts and reports a touch of a key, with the new expiry time.
    pub(super) fn count_touch(
        &mut self,
        key: &Hashed<'_>,
        expiry: Expiry,
        found: Result<ItemSize, Miss>,
    ) {
        self.sample_read(key, found);
        let expiry = Some(expiry);
        self.observe(key, || Observed::Touch { expiry });
        let counters = &self.local.counters;
        counters.cmd_touch.add(1);
        match found {
            Ok(item) => {
                counters.touch_hits.add(1);
                let class = item.class.map(|class| self.local.classes.of(class));
                class.inspect(|class| class.touch_hits.add(1));
            }
            Err(_) => counters.touch_misses.add(1),
        }
        if !self.watched.is_empty() {
            self.report_fetched(key.key, found);
        }
    }
}

/// Appends a reply line unless `noreply` is set.
pub(super) fn reply(out: &mut Output, noreply: bool, text: &str) {
    if !noreply {
        encode::line(&mut out.bytes, text);
    }
}
