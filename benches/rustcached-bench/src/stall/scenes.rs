//! The scenes: loads that keep the server busy while it is probed, and the server options for each.
//!
//! Contains the options of the scenes and creates each scene's [`Load`]. Items that must exist
//! beforehand are stored without a probe. Independent of the probe.

use crate::batch_client::BatchClient;
use crate::client::Client;
use crate::failure::Failure;
use crate::process::{Launch, ServerProcess};
use crate::servers::{ServersOptions, Side};
use crate::stall::huge::HugeValue;
use crate::stall::inserter::{Inserter, KEY_LENGTH, Run};
use crate::stall::load::Load;

const MIB: u64 = 1 << 20;
/// Number of runs per value size at the memory limit.
const TURNS: usize = 2;
/// Bytes of values stored between two checks for evictions.
const FILL_STEP: u64 = 8 * MIB;
/// Upper bound, in bytes, of a huge item's key, flags and links. Servers count them towards the
/// maximum item size.
const HUGE_OVERHEAD: u64 = 1024;

/// A scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scene {
    /// Inserts many small items, with enough memory for all
    Growth,
    /// Inserts new items of changing sizes into a full server, which evicts for each
    Limit,
    /// Sets, fetches, overwrites and deletes a huge value
    Huge,
}

impl Scene {
    /// Returns the name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Scene::Growth => "growth",
            Scene::Limit => "limit",
            Scene::Huge => "huge",
        }
    }
}

/// Parameters of the scenes.
#[derive(Clone, Debug, clap::Args)]
pub struct SceneOptions {
    /// Scenes to run
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "growth,limit,huge"
    )]
    pub scenes: Vec<Scene>,
    /// Items to insert, in millions
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20.0,
        help_heading = "Scene growth"
    )]
    pub millions: f64,
    /// Value size in bytes (keys have 20 bytes)
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 32,
        help_heading = "Scene growth"
    )]
    pub value_size: usize,
    /// Memory limit of each server in MiB; must be enough for all items
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 8192,
        help_heading = "Scene growth"
    )]
    pub memory: u64,
    /// New items to insert after the server is full, in millions
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10.0,
        help_heading = "Scene limit"
    )]
    pub limit_millions: f64,
    /// Value sizes in bytes: the server is filled with the first size, then each size is inserted
    /// in turn, twice, then all sizes mixed
    #[arg(
        long,
        value_name = "BYTES",
        value_delimiter = ',',
        default_value = "32,400",
        help_heading = "Scene limit"
    )]
    pub limit_sizes: Vec<usize>,
    /// Memory limit of each server in MiB
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 1024,
        help_heading = "Scene limit"
    )]
    pub limit_memory: u64,
    /// Maximum item size of each server (-I) in MiB; the value is 1 KiB smaller
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 1024,
        value_parser = clap::value_parser!(u64).range(1..),
        help_heading = "Scene huge"
    )]
    pub huge_mib: u64,
    /// Memory limit of each server in MiB; at least twice the value
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 4096,
        help_heading = "Scene huge"
    )]
    pub huge_memory: u64,
}

impl SceneOptions {
    /// Returns the parameters for starting a side for a scene.
    pub(super) fn launch(
        &self,
        scene: Scene,
        servers: &ServersOptions,
        side: Side,
    ) -> Result<Launch, Failure> {
        match scene {
            Scene::Growth => servers.launch(side, self.memory),
            Scene::Limit => servers.launch(side, self.limit_memory),
            Scene::Huge => {
                let mut launch = servers.launch(side, self.huge_memory)?;
                // Insert before the user's options, so that those take precedence.
                let flags = ["-I".to_string(), format!("{}m", self.huge_mib)];
                launch.extra.splice(0..0, flags);
                Ok(launch)
            }
        }
    }

    /// Stores the items that a scene requires, and returns its load.
    pub(super) fn prepare(
        &self,
        scene: Scene,
        server: &ServerProcess,
        progress: &dyn Fn(&str),
    ) -> Result<Box<dyn Load>, Failure> {
        Ok(match scene {
            Scene::Growth => {
                let run = Run::new(in_millions(self.millions), &[self.value_size]);
                Box::new(Inserter::new(server, 0, vec![run])?)
            }
            Scene::Limit => {
                let sizes = &self.limit_sizes;
                let first = fill(server, sizes[0], self.limit_memory * MIB)?;
                progress(&format!("{first} items until it evicted"));
                let runs = limit_runs(in_millions(self.limit_millions), sizes);
                Box::new(Inserter::new(server, first, runs)?)
            }
            Scene::Huge => Box::new(HugeValue::new(server, self.huge_mib * MIB - HUGE_OVERHEAD)?),
        })
    }
}

fn in_millions(millions: f64) -> u32 {
    (millions * 1e6) as u32
}

/// Sets new items until the server evicts. Returns the number of the first unused key.
fn fill(server: &ServerProcess, size: usize, memory: u64) -> Result<u32, Failure> {
    let client = Client::connect(&server.address, true)?;
    let mut batch_client = BatchClient::new(client, KEY_LENGTH, size);
    let item = (KEY_LENGTH + size) as u64;
    let step = (FILL_STEP / item).max(1);
    // No server can hold more items than this.
    let most = memory / item + step;
    let mut next = 0;
    while batch_client.client().stat("evictions")? == 0 {
        if next > most {
            let text = format!("{next} items do not make it evict");
            return Err(Failure::Server(text));
        }
        let keys = next as u32..(next + step) as u32;
        batch_client.set_all(keys.map(|key| (key, size)))?;
        next += step;
    }
    Ok(next as u32)
}

/// Returns a run per size, so that memory has to move between size classes, then a run with all
/// sizes mixed.
fn limit_runs(items: u32, sizes: &[usize]) -> Vec<Run> {
    let turns = sizes.iter().map(std::slice::from_ref);
    let turns = turns.cycle().take(TURNS * sizes.len());
    let runs: Vec<&[usize]> = turns.chain([sizes]).collect();
    let count = runs.len() as u32;
    let share = |index: u32| items / count + u32::from(index < items % count);
    let runs = (0..).zip(runs);
    runs.map(|(index, sizes)| Run::new(share(index), sizes))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::limit_runs;

    #[test]
    fn sizes_have_their_turns_and_are_mixed_at_last() {
        let runs = limit_runs(13, &[32, 400]);
        let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(names, ["32 B", "400 B", "32 B", "400 B", "32 B, 400 B"]);
        let items: Vec<u32> = runs.iter().map(|run| run.items).collect();
        assert_eq!(items, [3, 3, 3, 2, 2]);
    }
}
