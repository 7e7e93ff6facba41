//! Hostile scenes: every way in which clients can make a server hold memory.
//!
//! Each scene runs against a fresh process of each server, with well-behaved clients beside the
//! attackers. The server under test fails if its resident memory exceeds the bound or its process
//! ends. It also fails if a well-behaved client is slow, refused or disconnected. `unread_replies`,
//! `incomplete_requests` and `handshakes` define the scenes, `runner` runs them.

mod connections;
mod datagrams;
mod handshakes;
mod incomplete_requests;
mod paced_client;
mod plan;
mod report;
mod result;
mod runner;
mod script;
mod unread_replies;

use std::time::Duration;

use crate::failure::Failure;
use crate::memory::bound::bound;
use crate::process::raise_file_limit;
use crate::report::OutputOptions;
use crate::servers::{ServersOptions, Side};

use self::report::Report;
use self::result::Settings;

pub use self::plan::Scene;

const MIB: u64 = 1 << 20;
/// Default of the server's limit on the memory of all clients: a fraction of `-m`, but at least
/// this number of MiB.
const CLIENT_LIMIT_MIB: u64 = 64;
const CLIENT_LIMIT_PART: u64 = 4;
/// Limit of open files of the generator and the servers. The largest scene has 10,000 connections.
const FILES: u64 = 12_000;

/// Options of the hostile scenes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Hostile scenes")]
pub struct HostileOptions {
    /// Duration of a scene in seconds
    #[arg(long, value_name = "N", default_value_t = 6.0)]
    pub seconds: f64,
    /// Allowance for the memory of all clients in the bound, in MiB [default: a quarter of -m, at
    /// least 64]
    #[arg(long, value_name = "MIB")]
    pub client_limit: Option<u64>,
    /// Maximum p99 latency of a well-behaved get, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5.0)]
    pub p99_limit: f64,
    /// Kill a server whose resident memory exceeds this many MiB
    #[arg(long, value_name = "MIB", default_value_t = 3072)]
    pub watchdog: u64,
}

/// Returns all scenes in the order in which they run.
pub fn scenes() -> impl Iterator<Item = &'static Scene> {
    let families = unread_replies::SCENES
        .iter()
        .chain(&incomplete_requests::SCENES);
    families.chain(&handshakes::SCENES)
}

/// Runs scenes against both servers and returns the text to print. Skips the reference server if it
/// is not installed. Returns [`Failure::Broken`] if the server under test breaks a rule.
pub fn hostile(
    servers: &ServersOptions,
    memory_mib: u64,
    options: &HostileOptions,
    chosen: &[&'static Scene],
    output: &OutputOptions,
) -> Result<String, Failure> {
    raise_file_limit(FILES)?;
    servers.pin()?;
    let client_limit = options
        .client_limit
        .unwrap_or(default_client_limit(memory_mib));
    let settings = Settings {
        servers,
        memory_mib,
        time: Duration::try_from_secs_f64(options.seconds)
            .map_err(|error| Failure::Usage(format!("--seconds: {error}")))?,
        watchdog_bytes: options.watchdog * MIB,
        bound_bytes: bound(memory_mib * MIB) + client_limit * MIB,
    };
    let sides = Side::BOTH
        .into_iter()
        .filter(|&side| side == Side::Ours || servers.theirs.exists());
    let sides: Vec<Side> = sides.collect();
    let mut report = Report::new(options.p99_limit);
    for scene in chosen {
        for &side in &sides {
            let row = report.add(scene, side, runner::run(&settings, scene, side));
            output.progress(&row.join("  "));
        }
    }
    report.finish(&settings, client_limit, output)
}

fn default_client_limit(memory_mib: u64) -> u64 {
    (memory_mib / CLIENT_LIMIT_PART).max(CLIENT_LIMIT_MIB)
}

#[cfg(test)]
mod tests {
    use super::default_client_limit;

    #[test]
    fn the_client_limit_is_a_part_of_the_memory() {
        assert_eq!(default_client_limit(100), 64);
        assert_eq!(default_client_limit(1024), 256);
    }
}
