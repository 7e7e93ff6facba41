//! The scenes: loads designed to make a server exceed its memory limit or refuse sets.
//!
//! Each is a function over a [`SceneContext`], and must not assume anything about the server's
//! contents. Amounts are multiples of the memory limit, so every limit is reached. The scenes do
//! not depend on the server.

use std::time::Duration;

use crate::batch_client::BatchClient;
use crate::failure::Failure;
use crate::memory::recorder::Recorder;
use crate::random::Random;

const MIB: u64 = 1 << 20;
/// Keys per round of the append scene, bytes per append, and final value size.
const APPEND_KEYS: u32 = 10_000;
const APPEND_BYTES: usize = 100;
const APPENDED_BYTES: usize = 20_000;
/// Smallest and largest value size of the random mix, in bytes.
const MIXED_SIZES: (f64, f64) = (50.0, 900_000.0);
/// Maximum time for a server to release memory.
const SHRINK_TIME: Duration = Duration::from_secs(5);

/// A scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scene {
    /// Five times the limit in values of 1 KB
    Fill,
    /// Changing sizes: small, large, small, then a random mix
    Sizes,
    /// Half of all keys are deleted, then set again
    Delete,
    /// Values grow by appends
    Append,
    /// Items with TTLs of 1 to 3 seconds
    Ttl,
    /// Values of 1 MiB, then of 100 MiB (or two fifths of the limit)
    Large,
    /// Millions of tiny items, then values of 10 KB
    Table,
    /// The limit is lowered to a quarter
    Memlimit,
}

impl Scene {
    /// All scenes in the order in which they run.
    pub const ALL: [Scene; 8] = [
        Scene::Fill,
        Scene::Sizes,
        Scene::Delete,
        Scene::Append,
        Scene::Ttl,
        Scene::Large,
        Scene::Table,
        Scene::Memlimit,
    ];

    /// Returns the name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Scene::Fill => "fill",
            Scene::Sizes => "sizes",
            Scene::Delete => "delete",
            Scene::Append => "append",
            Scene::Ttl => "ttl",
            Scene::Large => "large",
            Scene::Table => "table",
            Scene::Memlimit => "memlimit",
        }
    }

    /// Runs the scene.
    pub fn run(self, context: &mut SceneContext) -> Result<(), Failure> {
        match self {
            Scene::Fill => fill(context),
            Scene::Sizes => sizes(context),
            Scene::Delete => delete(context),
            Scene::Append => append(context),
            Scene::Ttl => ttl(context),
            Scene::Large => large(context),
            Scene::Table => table(context),
            Scene::Memlimit => memlimit(context),
        }
    }
}

/// Returns the largest value size that is used, in bytes.
pub fn largest_value(limit: u64) -> usize {
    (100 * MIB).min(limit * 2 / 5).max(MIB) as usize
}

/// A server under test, with the state of the scenes.
#[derive(Debug)]
pub struct SceneContext {
    /// Sends the requests.
    pub batch_client: BatchClient,
    /// Records the rows.
    pub recorder: Recorder,
    /// Draws keys and sizes.
    pub random: Random,
    /// The memory limit in bytes.
    pub limit: u64,
    /// Number of items of the `table` scene.
    pub small_items: u32,
    /// Number of the first key that no scene has used.
    pub next_key: u32,
}

impl SceneContext {
    /// Ends the batch and the phase, and begins another phase.
    fn phase(&mut self, name: &str) -> Result<(), Failure> {
        self.end_phase()?;
        self.recorder.begin_phase(name);
        Ok(())
    }

    /// Ends the batch and the phase.
    pub fn end_phase(&mut self) -> Result<(), Failure> {
        self.batch_client.flush()?;
        self.recorder.record(&mut self.batch_client)
    }

    fn set(&mut self, key: u32, size: usize, ttl: u32) -> Result<(), Failure> {
        let ended = self.batch_client.set(key, size, ttl)?;
        self.tick(ended)
    }

    fn tick(&mut self, batch_ended: bool) -> Result<(), Failure> {
        if batch_ended {
            self.recorder.tick(&mut self.batch_client)?;
        }
        Ok(())
    }

    fn new_key(&mut self) -> u32 {
        self.next_key += 1;
        self.next_key - 1
    }

    fn between(&mut self, (least, most): (usize, usize)) -> usize {
        least + self.random.below((most - least + 1) as u64) as usize
    }

    /// Sets new keys until their values amount to `times` the memory limit.
    fn fill(&mut self, times: f64, sizes: (usize, usize)) -> Result<(), Failure> {
        let wanted = (self.limit as f64 * times) as u64;
        let mut sent = 0;
        while sent < wanted {
            let (key, size) = (self.new_key(), self.between(sizes));
            self.set(key, size, 0)?;
            sent += size as u64;
        }
        Ok(())
    }
}

fn fill(context: &mut SceneContext) -> Result<(), Failure> {
    context.phase("1 KB values")?;
    context.fill(5.0, (1000, 1000))
}

fn sizes(context: &mut SceneContext) -> Result<(), Failure> {
    let (small, large) = ((50, 200), (100_000, 500_000));
    context.phase("small")?;
    context.fill(1.5, small)?;
    context.phase("large")?;
    context.fill(3.0, large)?;
    context.phase("small again")?;
    context.fill(1.5, small)?;
    context.phase("mixed and overwritten")?;
    let (low, high) = (MIXED_SIZES.0.ln(), MIXED_SIZES.1.ln());
    // About twice as many keys as fit: computed from the mean of the sizes.
    let keys = (2.0 * context.limit as f64 * (high - low) / MIXED_SIZES.1) as u32 + 1;
    let first = context.next_key;
    context.next_key += keys;
    let (wanted, mut sent) = (4 * context.limit, 0);
    while sent < wanted {
        let key = first + context.random.below(u64::from(keys)) as u32;
        let size = (low + context.random.unit() * (high - low)).exp() as usize;
        context.set(key, size, 0)?;
        sent += size as u64;
    }
    Ok(())
}

fn delete(context: &mut SceneContext) -> Result<(), Failure> {
    context.phase("filled")?;
    let first = context.next_key;
    context.fill(1.5, (1000, 2000))?;
    context.phase("half deleted")?;
    for key in (first..context.next_key).step_by(2) {
        let ended = context.batch_client.delete(key)?;
        context.tick(ended)?;
    }
    context.phase("refilled larger")?;
    context.fill(1.5, (3000, 5000))
}

fn append(context: &mut SceneContext) -> Result<(), Failure> {
    let each = u64::from(APPEND_KEYS) * APPENDED_BYTES as u64;
    let rounds = (3 * context.limit).div_ceil(each);
    for round in 1..=rounds {
        context.phase(&format!("storm {round}"))?;
        let first = context.next_key;
        context.next_key += APPEND_KEYS;
        for key in first..context.next_key {
            context.set(key, APPEND_BYTES, 0)?;
        }
        for _ in 1..APPENDED_BYTES / APPEND_BYTES {
            for key in first..context.next_key {
                let ended = context.batch_client.append(key, APPEND_BYTES)?;
                context.tick(ended)?;
            }
        }
    }
    Ok(())
}

fn ttl(context: &mut SceneContext) -> Result<(), Failure> {
    for name in ["storm", "storm again"] {
        context.phase(name)?;
        let (wanted, mut sent) = (3 * context.limit, 0);
        while sent < wanted {
            let (key, size) = (context.new_key(), context.between((100, 2000)));
            let ttl = 1 + context.random.below(3) as u32;
            context.set(key, size, ttl)?;
            sent += size as u64;
        }
        context.phase("expired")?;
        context
            .recorder
            .wait(&mut context.batch_client, Duration::from_secs(4))?;
    }
    Ok(())
}

fn large(context: &mut SceneContext) -> Result<(), Failure> {
    let huge = largest_value(context.limit);
    for (name, size, keys) in [
        ("1 MiB", MIB as usize, 3 * context.limit / MIB),
        ("huge", huge, 6),
    ] {
        context.phase(&format!("{name} values"))?;
        let first = context.next_key;
        context.next_key += keys as u32;
        // Set the keys twice, so that the second round overwrites the rest of the first.
        for key in (first..context.next_key).chain(first..context.next_key) {
            context.set(key, size, 0)?;
            let ended = context.batch_client.get(key)?;
            context.tick(ended)?;
        }
    }
    context.phase("1 KB values again")?;
    context.fill(1.0, (1000, 1000))
}

fn table(context: &mut SceneContext) -> Result<(), Failure> {
    context.phase("tiny items")?;
    for _ in 0..context.small_items {
        let key = context.new_key();
        context.set(key, 4, 0)?;
    }
    context.phase("10 KB values")?;
    context.fill(3.0, (10_000, 10_000))
}

fn memlimit(context: &mut SceneContext) -> Result<(), Failure> {
    context.phase("filled")?;
    context.fill(1.5, (500, 1500))?;
    context.phase("lowering")?;
    let lowered = (context.limit / MIB / 4).max(1);
    let reply = context
        .batch_client
        .client()
        .command(&format!("cache_memlimit {lowered}"))?;
    if reply != "OK" {
        return Err(Failure::Server(format!("cache_memlimit: {reply}")));
    }
    context
        .recorder
        .wait(&mut context.batch_client, SHRINK_TIME)?;
    context.recorder.set_limit(lowered * MIB);
    context.phase("lowered")?;
    context.fill(1.0, (500, 1500))
}
