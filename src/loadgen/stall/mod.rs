//! `stall`: the longest pauses a client sees while another fills the server.
//!
//! One connection gets a key every millisecond; another sets new items as fast as they are
//! accepted. Both are served by one spinning thread, so that the scheduler does not show up as the
//! server's pause. A probe that is late makes those due meanwhile late as well, and they count.

mod inserter;
mod link;
mod prober;

use std::time::Instant;

use serde::Serialize;

use crate::loadgen::failure::Failure;
use crate::loadgen::report::{Latency, OutputOptions, Table};
use crate::loadgen::versus::{Side, VersusOptions};

use self::inserter::Inserter;
use self::prober::Prober;

/// Options of `stall`.
#[derive(Clone, Debug, clap::Args)]
pub struct StallOptions {
    /// The servers
    #[command(flatten)]
    pub versus: VersusOptions,
    /// Items to insert, in millions
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    pub millions: f64,
    /// Bytes of a value (keys have 20)
    #[arg(long, value_name = "BYTES", default_value_t = 32)]
    pub value_size: usize,
    /// Memory of each server in MiB: enough for all items
    #[arg(long, value_name = "MIB", default_value_t = 8192)]
    pub memory: u64,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Clone, Debug, Serialize)]
struct Stall {
    server: &'static str,
    items: u32,
    sets_per_second: f64,
    probes: u64,
    latency_us: Latency,
    over_10_ms: u64,
    evictions: u64,
}

/// Measures both servers and returns what is to be printed.
pub fn stall(options: &StallOptions) -> Result<String, Failure> {
    options.versus.pin()?;
    let mut table = Table::new(&[
        "server",
        "items",
        "sets/s",
        "probes",
        "p50, ms",
        "p99",
        "p99.9",
        "max",
        "over 10 ms",
        "evictions",
    ]);
    let mut found = Vec::new();
    for side in Side::BOTH {
        match measure(options, side) {
            Ok(stall) => {
                table.push(row(&stall));
                found.push(stall);
            }
            Err(failure) => {
                table.push_failed(vec![format!("{}: {failure}", side.name())]);
            }
        }
    }
    let text = options.versus.describe() + &table.to_text();
    options.output.write(&text, &table, &found)?;
    Ok(text)
}

fn row(stall: &Stall) -> Vec<String> {
    let latency = &stall.latency_us;
    let mut row = vec![stall.server.to_string(), stall.items.to_string()];
    row.push(format!("{:.0}", stall.sets_per_second));
    row.push(stall.probes.to_string());
    let times = [latency.p50, latency.p99, latency.p999, latency.max];
    row.extend(times.map(|us| format!("{:.2}", us / 1000.0)));
    row.extend([stall.over_10_ms.to_string(), stall.evictions.to_string()]);
    row
}

fn measure(options: &StallOptions, side: Side) -> Result<Stall, Failure> {
    let server = options.versus.start(side, options.memory)?;
    let items = (options.millions * 1e6) as u32;
    let mut inserter = Inserter::new(&server, items, options.value_size)?;
    let mut prober = Prober::new(&server)?;
    let begun = Instant::now();
    let mut last_line = begun;
    while inserter.answered < items {
        inserter.turn()?;
        prober.turn()?;
        if last_line.elapsed().as_secs() >= 2 {
            last_line = Instant::now();
            let millions = f64::from(inserter.answered) / 1e6;
            options
                .output
                .progress(&format!("{}: {millions:.1} million items", side.name()));
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    prober.finish()?;
    let histogram = &prober.latency;
    Ok(Stall {
        server: side.name(),
        items,
        sets_per_second: f64::from(items) / seconds,
        probes: histogram.len(),
        latency_us: Latency::of(histogram),
        over_10_ms: histogram.count_between(10_000_000, histogram.high()),
        evictions: server.client()?.stat("evictions")?,
    })
}
