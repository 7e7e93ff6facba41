//! Soak test: many threads on a small store, with constant eviction and page
//! moves. Every value contains its key and a checksum pattern. No value may be
//! torn, belong to another key, or be visible after it was freed.
//! `RUSTCACHED_SOAK_SECONDS` sets the duration.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustcached::config::Eviction;
use rustcached::store::{Access, Item, ItemSpec, Local, NewItem, Options, Pin, Store};
use rustcached::time::{Expiry, Now};
use test_support::random::Random;

const THREADS: usize = 4;
const KEYS: usize = 6000;
const ROUNDS: usize = 16;
const STEPS_PER_ROUND: usize = 6_000;
/// Maximum number of pins per thread, so that there are always victims.
const PINS_MAX: usize = 3;
const LIMIT: usize = 24 << 20;
/// The limit that some rounds lower the store to.
const LOW_LIMIT: usize = 14 << 20;
const LARGEST: usize = 300_000;
/// Length of a value's header, which describes its content.
const TITLE_BYTES: usize = 16;
const PAGE_BYTES: usize = 32 * 1024;

/// The distribution of value sizes in a round.
#[derive(Clone, Copy, Debug)]
enum Mix {
    Small,
    Large,
    Everything,
}

const MIXES: [Mix; 4] = [Mix::Small, Mix::Large, Mix::Everything, Mix::Large];

impl Mix {
    fn len(self, random: &mut Random) -> usize {
        match self {
            Self::Small => TITLE_BYTES + random.below(400),
            Self::Large => 3000 + random.below(60_000),
            Self::Everything => {
                let range = TITLE_BYTES << random.below(15);
                (TITLE_BYTES + random.below(range)).min(LARGEST)
            }
        }
    }
}

/// State shared by all threads.
struct Soak {
    store: Store,
    refused: AtomicU64,
    gets: AtomicU64,
    /// Gets that were hits, whose values were verified.
    verified: AtomicU64,
}

struct Worker<'a> {
    soak: &'a Soak,
    local: Local,
    random: Random,
    pins: Vec<Pin>,
    /// An item whose value is still arriving, and that value.
    making: Option<(NewItem, Vec<u8>)>,
    now: Now,
}

/// Returns a value that describes itself, so that a reader can verify it.
fn value(key: usize, len: usize, random: &mut Random) -> Vec<u8> {
    let seed = random.next_u64() as u32;
    let mut value = Vec::with_capacity(len);
    value.extend_from_slice(&(key as u32).to_le_bytes());
    value.extend_from_slice(&(len as u32).to_le_bytes());
    value.extend_from_slice(&seed.to_le_bytes());
    value.extend_from_slice(&(!seed).to_le_bytes());
    value.extend((TITLE_BYTES..len).map(|index| pattern(seed, index)));
    value
}

fn pattern(seed: u32, index: usize) -> u8 {
    (seed as usize).wrapping_add(index * 7 + (index >> 8)) as u8
}

fn verify(item: Item<'_>) {
    let mut bytes = Vec::with_capacity(item.value_len());
    for piece in item.pieces() {
        bytes.extend_from_slice(piece);
    }
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(bytes.len(), item.value_len(), "pieces and length agree");
    assert_eq!(
        number(4) as usize,
        item.value_len(),
        "the length it was made with"
    );
    assert_eq!(
        item.key(),
        name(number(0) as usize).as_bytes(),
        "whose value it is"
    );
    let seed = number(8);
    assert_eq!(number(12), !seed, "the title is whole");
    let torn = (TITLE_BYTES..item.value_len()).find(|&at| bytes[at] != pattern(seed, at));
    assert_eq!(torn, None, "of {} bytes", item.value_len());
}

/// Returns keys of many lengths, so that the headers of chained items differ in
/// size.
fn name(key: usize) -> String {
    let width = 4 + key * 37 % 200;
    format!("{key:0width$}")
}

impl Worker<'_> {
    fn step(&mut self, mix: Mix) {
        let key = self.random.below(KEYS);
        match self.random.below(100) {
            0..=44 => self.set(key, mix),
            45..=64 => self.get(key),
            65..=79 => self.pin(key),
            80..=86 => self.delete(key),
            87..=93 => self.change(key),
            94..=97 => self.go_on_making(key, mix),
            98 => self.sweep(),
            _ => self.shrink_or_flush(),
        }
    }

    fn set(&mut self, key: usize, mix: Mix) {
        let len = mix.len(&mut self.random);
        let value = value(key, len, &mut self.random);
        if let Some(new) = self.begin(key, len) {
            self.finish(new, &value);
        }
    }

    fn begin(&mut self, key: usize, value_len: usize) -> Option<NewItem> {
        let name = name(key);
        let store = &self.soak.store;
        let spec = ItemSpec {
            flags: if self.random.once_in(2) { 0 } else { 7 },
            expiry: self.expiry(),
            ..ItemSpec::new(name.as_bytes(), value_len)
        };
        let hashed = store.hashed(name.as_bytes());
        let new = store.new_item(&mut self.local, &hashed, &spec, self.now);
        if new.is_err() {
            self.soak.refused.fetch_add(1, Ordering::Relaxed);
        }
        new.ok()
    }

    fn expiry(&mut self) -> Expiry {
        match self.random.below(20) {
            0 => Expiry::OVER,
            1..=9 => Expiry::from_protocol(1000, self.now),
            _ => Expiry::NEVER,
        }
    }

    /// Writes the missing part of a new item and links the item.
    fn finish(&mut self, mut new: NewItem, value: &[u8]) {
        let store = &self.soak.store;
        let rest = &value[value.len() - new.missing()..];
        if store.fill(&mut self.local, &mut new, rest).is_err() {
            self.soak.refused.fetch_add(1, Ordering::Relaxed);
            return store.discard(&mut self.local, new);
        }
        let name = new.item().key().to_vec();
        let hashed = store.hashed(&name);
        let cas = store.next_cas();
        store.edit(&mut self.local, &hashed, self.now, |entry| {
            entry.put(new, cas)
        });
    }

    fn get(&mut self, key: usize) {
        let name = name(key);
        let store = &self.soak.store;
        let hashed = store.hashed(name.as_bytes());
        let found = store.read(&mut self.local, &hashed, self.now, |item| {
            assert_eq!(item.key(), name.as_bytes());
            verify(item);
            (Access::Counted, ())
        });
        self.soak.gets.fetch_add(1, Ordering::Relaxed);
        let hits = u64::from(found.is_ok());
        self.soak.verified.fetch_add(hits, Ordering::Relaxed);
    }

    /// Pins an item, and verifies a value pinned before.
    fn pin(&mut self, key: usize) {
        let name = name(key);
        let store = &self.soak.store;
        let hashed = store.hashed(name.as_bytes());
        let pin = store.read(&mut self.local, &hashed, self.now, |item| {
            (Access::Counted, item.pin())
        });
        self.pins.extend(pin.ok().flatten());
        for pin in &self.pins {
            verify(pin.item());
        }
        if self.pins.len() > PINS_MAX {
            let pin = self.pins.swap_remove(self.random.below(PINS_MAX));
            verify(pin.item());
            store.release(&mut self.local, pin);
        }
    }

    fn delete(&mut self, key: usize) {
        let name = name(key);
        let store = &self.soak.store;
        let hashed = store.hashed(name.as_bytes());
        store.edit(&mut self.local, &hashed, self.now, |entry| entry.remove());
    }

    /// Changes an item in place.
    fn change(&mut self, key: usize) {
        let name = name(key);
        let expiry = self.expiry();
        let store = &self.soak.store;
        let hashed = store.hashed(name.as_bytes());
        let now = self.now;
        store.edit(&mut self.local, &hashed, now, |entry| {
            if let Some(item) = entry.item() {
                verify(item);
                entry.mark_stale();
                entry.set_birth(store.draw(None));
                entry.bump(now);
                let _ = entry.set_expiry(expiry);
            }
        });
    }

    /// Begins an item, writes a part of the pending item, or drops it.
    fn go_on_making(&mut self, key: usize, mix: Mix) {
        let Some((mut new, value)) = self.making.take() else {
            let len = mix.len(&mut self.random);
            let value = value(key, len, &mut self.random);
            self.making = self.begin(key, len).map(|new| (new, value));
            return;
        };
        let store = &self.soak.store;
        let missing = new.missing();
        let part = missing.min(1 + self.random.below(100_000));
        let at = value.len() - missing;
        let kept = store
            .fill(&mut self.local, &mut new, &value[at..at + part])
            .is_ok();
        if !kept || self.random.once_in(10) {
            store.discard(&mut self.local, new);
        } else if self.random.once_in(2) {
            self.finish(new, &value);
        } else {
            self.making = Some((new, value));
        }
    }

    fn sweep(&mut self) {
        let store = &self.soak.store;
        let shard = self.random.below(store.shard_count());
        store.sweep_shard(&mut self.local, shard, self.now);
    }

    fn shrink_or_flush(&mut self) {
        let store = &self.soak.store;
        if self.random.once_in(200) {
            store.flush_all(&mut self.local);
        } else {
            store.shrink_to_limit(&mut self.local);
        }
    }

    fn give_up_what_is_held(&mut self) {
        let store = &self.soak.store;
        for pin in self.pins.drain(..) {
            verify(pin.item());
            store.release(&mut self.local, pin);
        }
        if let Some((new, _)) = self.making.take() {
            store.discard(&mut self.local, new);
        }
    }
}

/// Number of rounds, or the time at which to end.
struct Length {
    rounds: usize,
    until: Option<Instant>,
}

impl Length {
    fn chosen() -> Self {
        let seconds = std::env::var("RUSTCACHED_SOAK_SECONDS").ok();
        let seconds = seconds.map(|text| text.parse().expect("a number of seconds"));
        Self {
            rounds: seconds.map_or(ROUNDS, |_| usize::MAX),
            until: seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
        }
    }

    fn is_over(&self, round: usize) -> bool {
        round >= self.rounds || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

#[test]
fn no_value_is_ever_torn_foreign_or_freed() {
    let soak = Soak {
        store: Store::new(Options {
            max_memory: LIMIT,
            evict: true,
            max_item_size: 1 << 20,
            eviction: Eviction::default(),
            cas: true,
            delimiter: b':',
        }),
        refused: AtomicU64::new(0),
        gets: AtomicU64::new(0),
        verified: AtomicU64::new(0),
    };
    let length = Length::chosen();
    let mut workers: Vec<Worker<'_>> = (0..THREADS)
        .map(|number| Worker {
            soak: &soak,
            local: soak.store.local(),
            random: Random::new(number as u64),
            pins: Vec::new(),
            making: None,
            now: Now::from_millis(10_000),
        })
        .collect();
    for round in (0..).take_while(|&round| !length.is_over(round)) {
        let low = round % 3 == 2;
        soak.store
            .set_memory_limit(if low { LOW_LIMIT } else { LIMIT });
        let mix = MIXES[round % MIXES.len()];
        thread::scope(|scope| {
            for worker in &mut workers {
                scope.spawn(move || (0..STEPS_PER_ROUND).for_each(|_| worker.step(mix)));
            }
        });
    }
    for worker in &mut workers {
        worker.give_up_what_is_held();
    }
    let locals = workers.into_iter().map(|worker| worker.local).collect();
    let gets = soak.gets.load(Ordering::Relaxed);
    let verified = soak.verified.load(Ordering::Relaxed);
    assert!(verified > gets / 10, "{verified} values of {gets} gets");
    let refused = soak.refused.load(Ordering::Relaxed);
    assert_eq!(refused, 0, "there was always something to evict");
    everything_balances(&soak.store, locals);
}

/// Checks the memory limit and deletes all items. No item and no page may
/// remain in the store's counters.
fn everything_balances(store: &Store, mut locals: Vec<Local>) {
    let now = Now::from_millis(10_000);
    let before = store.stats().snapshot();
    assert!(before.evictions > 0 && before.items_moved > 0 && before.pages_moved > 0);
    while !store.shrink_to_limit(&mut locals[0]) {}
    let used = store.page_bytes() + store.index_bytes();
    assert!(used <= store.memory_limit(), "{used} bytes are in use");
    for key in 0..KEYS {
        let name = name(key);
        let hashed = store.hashed(name.as_bytes());
        store.edit(&mut locals[0], &hashed, now, |entry| entry.remove());
    }
    let after = store.stats().snapshot();
    assert_eq!((after.items, after.item_bytes), (0, 0));
    // Shrinking to the limit releases memory, beginning with the free chunks
    // kept by threads.
    store.set_memory_limit(PAGE_BYTES);
    for local in &mut locals {
        store.shrink_to_limit(local);
    }
    assert_eq!(store.page_bytes(), 0, "memory was lost");
}
