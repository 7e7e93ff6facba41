//! `stall`: the longest pauses that a client sees while another client keeps the server busy.
//!
//! A connection gets a key every millisecond while another runs the load of a scene. A single
//! spinning thread serves both, so pauses are not caused by its waking up. The longest time
//! between two turns of that thread is reported beside the pauses, and the longest time for which
//! the machine stopped the server's CPU. Both are subtracted from the pauses to find those that
//! are the server's. `scenes` defines the loads.

mod huge;
mod inserter;
mod load;
mod nonblocking;
mod prober;
mod scenes;
mod stops;

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::failure::Failure;
use crate::latency::Latency;
use crate::process::ServerProcess;
use crate::report::{OutputOptions, Table};
use crate::servers::{ServersOptions, Side};

use self::load::Load;
use self::prober::{Phase, Prober};
use self::scenes::{Scene, SceneOptions};
use self::stops::{Span, Watch};

const MIB: u64 = 1 << 20;
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// Duration of the probe after a load: work that the server has deferred counts too.
const PROBE_AFTER_LOAD: Duration = Duration::from_millis(200);
/// Pauses longer than this are counted.
const LONG: Duration = Duration::from_millis(10);
/// Pauses of the server, without those of the machine, are counted if they are longer than this.
const LONG_OF_SERVER: Duration = Duration::from_millis(5);

/// Options of `stall`.
#[derive(Clone, Debug, clap::Args)]
pub struct StallOptions {
    /// The servers
    #[command(flatten)]
    pub servers: ServersOptions,
    /// The scenes
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
    /// Longest time between two turns of the generator, in microseconds. Shorter pauses may be
    /// caused by the generator instead of the server.
    generator_max_us: f64,
    of_machine: Option<OfMachine>,
    evictions: u64,
    phases: Vec<PhaseFigures>,
}

/// Pauses of the machine, and pauses of the server without them. Known if the server is pinned to
/// one CPU and this process may have real-time priority.
#[derive(Clone, Debug, Serialize)]
struct OfMachine {
    /// Longest time for which the server's CPU stood still, in microseconds.
    longest_stop_us: f64,
    /// Longest pause without the times in which the server's CPU or the generator stood still, in
    /// microseconds.
    server_max_us: f64,
    /// Pauses of more than 5 ms without those times.
    server_over_5_ms: u64,
}

impl OfMachine {
    fn new(prober: &Prober, stops: Vec<Span>) -> Self {
        let longest_stop = stops.iter().map(|stop| stop.length()).max();
        let stops = stops::joined([stops.as_slice(), &prober.gaps].concat());
        let pauses = prober.pauses.iter();
        let pauses: Vec<Duration> = pauses.map(|&pause| stops::outside(pause, &stops)).collect();
        let over = pauses.iter().filter(|pause| **pause > LONG_OF_SERVER);
        Self {
            longest_stop_us: us(longest_stop.unwrap_or_default()),
            server_over_5_ms: over.count() as u64,
            server_max_us: us(pauses.into_iter().max().unwrap_or_default()),
        }
    }
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

/// Measures both servers and returns the text to print.
pub fn stall(options: &StallOptions) -> Result<String, Failure> {
    options.servers.pin()?;
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
        "machine max",
        "server max",
        "over 5 ms",
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
    let text = options.servers.describe() + &table.to_text() + "\n" + &phases_text(&found);
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
    row.push(in_ms(stall.generator_max_us));
    row.extend(stall.of_machine.as_ref().map_or_else(
        || ["?", "?", "?"].map(String::from),
        |of| {
            [
                in_ms(of.longest_stop_us),
                in_ms(of.server_max_us),
                of.server_over_5_ms.to_string(),
            ]
        },
    ));
    row.push(stall.evictions.to_string());
    row
}

/// Formats the latencies of each phase as a table. With a probe per millisecond, `probes` is the
/// duration of the phase in milliseconds.
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

fn us(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}

fn in_ms(us: f64) -> String {
    format!("{:.2}", us / 1000.0)
}

fn measure(options: &StallOptions, scene: Scene, side: Side) -> Result<Stall, Failure> {
    let launch = options.scenes.launch(scene, &options.servers, side)?;
    let server = ServerProcess::start(&launch)?;
    let progress = |text: &str| {
        let text = format!("{}, {}: {text}", scene.name(), side.name());
        options.output.progress(&text);
    };
    let mut load = options.scenes.prepare(scene, &server, &progress)?;
    let evictions = || server.client()?.stat("evictions");
    let evicted_before = evictions()?;
    let watch = launch.cpus.as_deref().and_then(Watch::begin);
    let mut prober = Prober::new(&server)?;
    let seconds = probe(&mut prober, load.as_mut(), &progress)?;
    let stops = watch.map(Watch::end);
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
        generator_max_us: us(prober.longest_gap),
        of_machine: stops.map(|stops| OfMachine::new(&prober, stops)),
        evictions: evictions()?.saturating_sub(evicted_before),
        phases: prober.phases.iter().map(PhaseFigures::of).collect(),
    })
}

/// Runs the load under the probe. Returns the duration of the load in seconds.
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
    while ended.elapsed() < PROBE_AFTER_LOAD {
        prober.turn("after the load")?;
    }
    prober.finish()?;
    Ok((ended - begun).as_secs_f64())
}
