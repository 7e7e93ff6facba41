//! The scenarios: loads designed to make a server exceed its memory limit or refuse sets.
//!
//! Each is a function over a [`Stage`], and must not assume anything about the server's contents.
//! Amounts are multiples of the memory limit, so every limit is reached. The scenarios do not
//! depend on the server.

use std::time::Duration;

use crate::failure::Failure;
use crate::memory::recorder::Recorder;
use crate::player::Player;
use crate::random::Random;

const MIB: u64 = 1 << 20;
/// Keys per round of the append scenario, bytes per append, and final value size.
const APPEND_KEYS: u32 = 10_000;
const APPEND_BYTES: usize = 100;
const APPENDED_BYTES: usize = 20_000;
/// Smallest and largest value size of the random mix, in bytes.
const MIXED_SIZES: (f64, f64) = (50.0, 900_000.0);
/// Maximum time for a server to release memory.
const SHRINK_PATIENCE: Duration = Duration::from_secs(5);

/// A scenario.
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
    /// All scenarios in the order in which they run.
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

    /// Plays the scenario.
    pub fn play(self, stage: &mut Stage) -> Result<(), Failure> {
        match self {
            Scene::Fill => fill(stage),
            Scene::Sizes => sizes(stage),
            Scene::Delete => delete(stage),
            Scene::Append => append(stage),
            Scene::Ttl => ttl(stage),
            Scene::Large => large(stage),
            Scene::Table => table(stage),
            Scene::Memlimit => memlimit(stage),
        }
    }
}

/// Returns the largest value size that is used, in bytes.
pub fn largest_value(limit: u64) -> usize {
    (100 * MIB).min(limit * 2 / 5).max(MIB) as usize
}

/// A server under test, with the state of the scenarios.
#[derive(Debug)]
pub struct Stage {
    /// Sends the requests.
    pub player: Player,
    /// Records the rows.
    pub recorder: Recorder,
    /// Draws keys and sizes.
    pub random: Random,
    /// The memory limit in bytes.
    pub limit: u64,
    /// Number of items of the `table` scenario.
    pub small_items: u32,
    /// Number of the first key that no scenario has used.
    pub next_key: u32,
}

impl Stage {
    /// Ends the batch and the phase, and begins another phase.
    fn phase(&mut self, name: &str) -> Result<(), Failure> {
        self.end_phase()?;
        self.recorder.begin_phase(name);
        Ok(())
    }

    /// Ends the batch and the phase.
    pub fn end_phase(&mut self) -> Result<(), Failure> {
        self.player.finish()?;
        self.recorder.note(&mut self.player)
    }

    fn set(&mut self, key: u32, size: usize, ttl: u32) -> Result<(), Failure> {
        let ended = self.player.set(key, size, ttl)?;
        self.tick(ended)
    }

    fn tick(&mut self, batch_ended: bool) -> Result<(), Failure> {
        if batch_ended {
            self.recorder.tick(&mut self.player)?;
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

fn fill(stage: &mut Stage) -> Result<(), Failure> {
    stage.phase("1 KB values")?;
    stage.fill(5.0, (1000, 1000))
}

fn sizes(stage: &mut Stage) -> Result<(), Failure> {
    let (small, large) = ((50, 200), (100_000, 500_000));
    stage.phase("small")?;
    stage.fill(1.5, small)?;
    stage.phase("large")?;
    stage.fill(3.0, large)?;
    stage.phase("small again")?;
    stage.fill(1.5, small)?;
    stage.phase("mixed and overwritten")?;
    let (low, high) = (MIXED_SIZES.0.ln(), MIXED_SIZES.1.ln());
    // About twice as many keys as fit: computed from the mean of the sizes.
    let keys = (2.0 * stage.limit as f64 * (high - low) / MIXED_SIZES.1) as u32 + 1;
    let first = stage.next_key;
    stage.next_key += keys;
    let (wanted, mut sent) = (4 * stage.limit, 0);
    while sent < wanted {
        let key = first + stage.random.below(u64::from(keys)) as u32;
        let size = (low + stage.random.unit() * (high - low)).exp() as usize;
        stage.set(key, size, 0)?;
        sent += size as u64;
    }
    Ok(())
}

fn delete(stage: &mut Stage) -> Result<(), Failure> {
    stage.phase("filled")?;
    let first = stage.next_key;
    stage.fill(1.5, (1000, 2000))?;
    stage.phase("half deleted")?;
    for key in (first..stage.next_key).step_by(2) {
        let ended = stage.player.delete(key)?;
        stage.tick(ended)?;
    }
    stage.phase("refilled larger")?;
    stage.fill(1.5, (3000, 5000))
}

fn append(stage: &mut Stage) -> Result<(), Failure> {
    let each = u64::from(APPEND_KEYS) * APPENDED_BYTES as u64;
    let rounds = (3 * stage.limit).div_ceil(each);
    for round in 1..=rounds {
        stage.phase(&format!("storm {round}"))?;
        let first = stage.next_key;
        stage.next_key += APPEND_KEYS;
        for key in first..stage.next_key {
            stage.set(key, APPEND_BYTES, 0)?;
        }
        for _ in 1..APPENDED_BYTES / APPEND_BYTES {
            for key in first..stage.next_key {
                let ended = stage.player.append(key, APPEND_BYTES)?;
                stage.tick(ended)?;
            }
        }
    }
    Ok(())
}

fn ttl(stage: &mut Stage) -> Result<(), Failure> {
    for name in ["storm", "storm again"] {
        stage.phase(name)?;
        let (wanted, mut sent) = (3 * stage.limit, 0);
        while sent < wanted {
            let (key, size) = (stage.new_key(), stage.between((100, 2000)));
            let ttl = 1 + stage.random.below(3) as u32;
            stage.set(key, size, ttl)?;
            sent += size as u64;
        }
        stage.phase("expired")?;
        stage
            .recorder
            .wait(&mut stage.player, Duration::from_secs(4))?;
    }
    Ok(())
}

fn large(stage: &mut Stage) -> Result<(), Failure> {
    let huge = largest_value(stage.limit);
    for (name, size, keys) in [
        ("1 MiB", MIB as usize, 3 * stage.limit / MIB),
        ("huge", huge, 6),
    ] {
        stage.phase(&format!("{name} values"))?;
        let first = stage.next_key;
        stage.next_key += keys as u32;
        // Set the keys twice, so that the second round overwrites the rest of the first.
        for key in (first..stage.next_key).chain(first..stage.next_key) {
            stage.set(key, size, 0)?;
            let ended = stage.player.get(key)?;
            stage.tick(ended)?;
        }
    }
    stage.phase("1 KB values again")?;
    stage.fill(1.0, (1000, 1000))
}

fn table(stage: &mut Stage) -> Result<(), Failure> {
    stage.phase("tiny items")?;
    for _ in 0..stage.small_items {
        let key = stage.new_key();
        stage.set(key, 4, 0)?;
    }
    stage.phase("10 KB values")?;
    stage.fill(3.0, (10_000, 10_000))
}

fn memlimit(stage: &mut Stage) -> Result<(), Failure> {
    stage.phase("filled")?;
    stage.fill(1.5, (500, 1500))?;
    stage.phase("lowering")?;
    let lowered = (stage.limit / MIB / 4).max(1);
    let answer = stage
        .player
        .client()
        .command(&format!("cache_memlimit {lowered}"))?;
    if answer != "OK" {
        return Err(Failure::Server(format!("cache_memlimit: {answer}")));
    }
    stage.recorder.wait(&mut stage.player, SHRINK_PATIENCE)?;
    stage.recorder.set_limit(lowered * MIB);
    stage.phase("lowered")?;
    stage.fill(1.0, (500, 1500))
}
