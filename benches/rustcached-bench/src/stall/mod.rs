//! `stall`: the longest pauses a client sees while another keeps the server busy.
//!
//! One connection gets a key every millisecond; another plays the load of a scene. Both are served
//! by one spinning thread, so that the scheduler does not show up as the server's pause; how long
//! that thread itself was away is reported beside the pauses. What each scene plays is the part of
//! `scenes`.

mod huge;
mod inserter;
mod link;
mod prober;
mod scenes;

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::failure::Failure;
use crate::process::ServerProcess;
use crate::report::{Latency, OutputOptions, Table};
use crate::versus::{Side, VersusOptions};

use self::prober::{Phase, Prober};
use self::scenes::{Load, Scene, SceneOptions};

const MIB: u64 = 1 << 20;
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// How long is probed after a load: what a server puts off counts as well.
const AFTERMATH: Duration = Duration::from_millis(200);
/// Longer pauses are counted.
const LONG: Duration = Duration::from_millis(10);

/// Options of `stall`.
#[derive(Clone, Debug, clap::Args)]
pub struct StallOptions {
    /// The servers
    #[command(flatten)]
    pub versus: VersusOptions,
    /// What is played
    #[command(flatten)]
    pub scenes: SceneOptions,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Clone, Debug, Serialize)]
struct Stall {
    scene: &'static str,
    server: &'static str,
    sets: u64,
    refused: u64,
    value_bytes: u64,
    seconds: f64,
    sets_per_second: f64,
    probes: u64,
    probe_misses: u64,
    latency_us: Latency,
    over_10_ms: u64,
    /// The longest time the generator spent elsewhere: no pause below it is known to be the
    /// server's.
    generator_max_us: f64,
    evictions: u64,
    phases: Vec<PhaseFigures>,
}

#[derive(Clone, Debug, Serialize)]
struct PhaseFigures {
    phase: String,
    probes: u64,
    latency_us: Latency,
}

impl PhaseFigures {
    fn of(phase: &Phase) -> Self {
        PhaseFigures {
            phase: phase.name.clone(),
            probes: phase.latency.len(),
            latency_us: Latency::of(&phase.latency),
        }
    }
}

/// Measures both servers and returns what is to be printed.
pub fn stall(options: &StallOptions) -> Result<String, Failure> {
    options.versus.pin()?;
    let mut table = Table::new(&[
        "scene",
        "server",
        "sets",
        "refused",
        "sets/s",
        "MiB/s",
        "probes",
        "missed",
        "p50, ms",
        "p99",
        "p99.9",
        "max",
        "over 10 ms",
        "generator max",
        "evictions",
    ]);
    let mut found = Vec::new();
    for &scene in &options.scenes.scenes {
        for side in Side::BOTH {
            match measure(options, scene, side) {
                Ok(stall) => {
                    table.push(row(&stall));
                    found.push(stall);
                }
                Err(failure) => {
                    let what = format!("{}: {failure}", side.name());
                    table.push_failed(vec![scene.name().to_string(), what]);
                }
            }
        }
    }
    let text = options.versus.describe() + &table.to_text() + "\n" + &phases_text(&found);
    options.output.write(&text, &table, &found)?;
    Ok(text)
}

fn row(stall: &Stall) -> Vec<String> {
    let latency = &stall.latency_us;
    let mib = stall.value_bytes as f64 / MIB as f64;
    let mut row = vec![stall.scene.to_string(), stall.server.to_string()];
    row.extend([stall.sets, stall.refused].map(|count| count.to_string()));
    row.push(format!("{:.0}", stall.sets_per_second));
    row.push(format!("{:.0}", mib / stall.seconds));
    row.extend([stall.probes, stall.probe_misses].map(|count| count.to_string()));
    let times = [latency.p50, latency.p99, latency.p999, latency.max];
    row.extend(times.map(in_ms));
    row.push(stall.over_10_ms.to_string());
    row.extend([in_ms(stall.generator_max_us), stall.evictions.to_string()]);
    row
}

/// What each load did when, a row for each phase: a probe each millisecond makes `probes` its
/// length.
fn phases_text(found: &[Stall]) -> String {
    let mut table = Table::new(&[
        "scene", "server", "phase", "probes", "p50, ms", "p99", "p99.9", "max",
    ]);
    for stall in found {
        for figures in &stall.phases {
            let latency = &figures.latency_us;
            let mut row = vec![stall.scene.to_string(), stall.server.to_string()];
            row.extend([figures.phase.clone(), figures.probes.to_string()]);
            let times = [latency.p50, latency.p99, latency.p999, latency.max];
            row.extend(times.map(in_ms));
            table.push(row);
        }
    }
    table.to_text()
}

fn in_ms(us: f64) -> String {
    format!("{:.2}", us / 1000.0)
}

fn measure(options: &StallOptions, scene: Scene, side: Side) -> Result<Stall, Failure> {
    let server = ServerProcess::start(&options.scenes.launch(scene, &options.versus, side))?;
    let progress = |text: &str| {
        let text = format!("{}, {}: {text}", scene.name(), side.name());
        options.output.progress(&text);
    };
    let mut load = options.scenes.prepare(scene, &server, &progress)?;
    let evictions = || server.client()?.stat("evictions");
    let evicted_before = evictions()?;
    let mut prober = Prober::new(&server)?;
    let seconds = probe(&mut prober, load.as_mut(), &progress)?;
    let latency = prober.latency();
    Ok(Stall {
        scene: scene.name(),
        server: side.name(),
        sets: load.sets(),
        refused: load.refused(),
        value_bytes: load.value_bytes(),
        seconds,
        sets_per_second: load.sets() as f64 / seconds,
        probes: latency.len(),
        probe_misses: prober.misses,
        latency_us: Latency::of(&latency),
        over_10_ms: latency.count_between(LONG.as_nanos() as u64, latency.high()),
        generator_max_us: prober.longest_absence.as_nanos() as f64 / 1000.0,
        evictions: evictions()?.saturating_sub(evicted_before),
        phases: prober.phases.iter().map(PhaseFigures::of).collect(),
    })
}

/// Plays the load under the probe; how many seconds the load took.
fn probe(
    prober: &mut Prober,
    load: &mut dyn Load,
    progress: &dyn Fn(&str),
) -> Result<f64, Failure> {
    let begun = Instant::now();
    let mut last_line = begun;
    while !load.is_finished() {
        load.turn()?;
        prober.turn(load.phase())?;
        if last_line.elapsed() >= PROGRESS_EVERY {
            last_line = Instant::now();
            progress(&load.progress());
        }
    }
    let ended = Instant::now();
    while ended.elapsed() < AFTERMATH {
        prober.turn("aftermath")?;
    }
    prober.finish()?;
    Ok((ended - begun).as_secs_f64())
}
