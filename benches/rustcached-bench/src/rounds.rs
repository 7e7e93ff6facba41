//! Alternating rounds: two servers run side by side, and each is measured once per round while the
//! other is idle.
//!
//! Contains the options of the standard loads, the rounds, their medians and ratios, and the CSV
//! table with every round. `compare` prints the results.

use std::time::Duration;

use serde::Serialize;

use super::failure::Failure;
use super::plan::{Plan, Stop};
use super::preload::load_keys;
use super::process::ServerProcess;
use super::report::{OutputOptions, Summary, Table, median};
use super::run::measure;
use super::servers::{ServersOptions, Side};

/// CPU usage, in cores per worker, below which a server has been waiting for the generator.
const SATURATED: f64 = 0.9;
/// Placeholder in tables for a missing number.
pub const NO_VALUE: &str = "-";

/// Duration and size of the standard loads.
#[derive(Clone, Debug, clap::Args)]
pub struct RoundOptions {
    /// Rounds; results are medians over the rounds
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,
    /// Measured seconds per server and round
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub seconds: f64,
    /// Number of keys (the 100 KB load uses a hundredth of it)
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub keys: u32,
    /// Connections (the 100 KB load uses 10)
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub connections: usize,
    /// Threads of the generator
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub load_threads: usize,
    /// Memory limit of each server in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub memory: u64,
}

impl RoundOptions {
    /// Returns the plan of a standard load with this duration and size.
    pub fn plan(&self, name: &str) -> Result<Plan, Failure> {
        if self.rounds == 0 {
            return Err(Failure::Usage("rounds: at least 1".to_string()));
        }
        let mut plan = Plan::standard(name)?;
        if name == "get100k" {
            plan.keys = (self.keys / 100).max(1);
        } else {
            plan.keys = self.keys;
            plan.connections = self.connections;
        }
        let time = Duration::try_from_secs_f64(self.seconds);
        let time = time.map_err(|error| Failure::Usage(format!("seconds: {error}")))?;
        plan.stop = Stop::After(time);
        plan.warmup = plan.warmup.min(time);
        plan.threads = self.load_threads;
        plan.check()?;
        Ok(plan)
    }
}

/// Starts both servers with the keys of the plan and measures them in alternating rounds. Returns
/// the results in the order of [`Side::BOTH`].
pub fn run_rounds(
    plan: &Plan,
    servers: &ServersOptions,
    options: &RoundOptions,
    output: &OutputOptions,
) -> [SideResult; 2] {
    let running = Side::BOTH.map(|side| start_loaded(servers, side, options.memory, plan));
    let mut results = running.each_ref().map(|server| {
        let negotiated = match server {
            Ok(server) => server.negotiated().map_err(|failure| failure.to_string()),
            Err(failure) => Err(failure.to_string()),
        };
        SideResult {
            rounds: Vec::new(),
            error: negotiated.as_ref().err().cloned(),
            tls: negotiated.unwrap_or_default(),
        }
    });
    for round in 0..options.rounds {
        for side in Side::order(round) {
            let result = &mut results[side.index()];
            if let (Ok(server), None) = (&running[side.index()], &result.error) {
                result.add_round(plan, server, side.name());
                output.progress(&result.progress_line(plan, side.name()));
            }
        }
    }
    results
}

fn start_loaded(
    servers: &ServersOptions,
    side: Side,
    memory_mib: u64,
    plan: &Plan,
) -> Result<ServerProcess, Failure> {
    let server = servers.start(side, memory_mib)?;
    load_keys(plan, &server.address)?;
    Ok(server)
}

/// Rounds of a load on a server.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SideResult {
    /// Results of each round.
    pub rounds: Vec<Summary>,
    /// The reason for which rounds are missing.
    pub error: Option<String>,
    /// The TLS version and cipher suite, `None` without TLS.
    pub tls: Option<String>,
}

impl SideResult {
    /// Returns the median of a number over the rounds, `None` if rounds are missing.
    pub fn median(&self, figure: impl Fn(&Summary) -> f64) -> Option<f64> {
        let complete = self.error.is_none() && !self.rounds.is_empty();
        let values: Vec<f64> = self.rounds.iter().map(figure).collect();
        complete.then(|| median(&values))
    }

    /// Returns the median formatted for tables.
    pub fn show(&self, figure: impl Fn(&Summary) -> f64, decimals: usize) -> String {
        self.median(figure)
            .map_or(NO_VALUE.to_string(), |value| format!("{value:.decimals$}"))
    }

    /// Returns whether the server, with this number of workers, waited for the generator. Its
    /// throughput is then limited by the generator.
    pub fn is_unsaturated(&self, workers: usize) -> bool {
        let busy = self.median(busy);
        busy.is_some_and(|busy| busy / (workers as f64) < SATURATED)
    }

    fn add_round(&mut self, plan: &Plan, server: &ServerProcess, name: &str) {
        match measure(plan, &server.address, Some(server.pid()), &mut |_| ()) {
            Ok(mut summary) => {
                summary.server = name.to_string();
                self.error = summary.error();
                self.rounds.push(summary);
            }
            Err(failure) => self.error = Some(failure.to_string()),
        }
    }

    fn progress_line(&self, plan: &Plan, name: &str) -> String {
        let head = format!("{} round {} {name:6}", plan.name, self.rounds.len());
        match (&self.error, self.rounds.last()) {
            (Some(error), _) => format!("{head} {error}"),
            (None, Some(summary)) => format!(
                "{head} {:>9.0} ops/s  {:>7.0} CPU ns/op  server {:.2}  load {:.2} busy",
                ops(summary),
                cpu(summary),
                busy(summary),
                summary.generator_busy
            ),
            (None, None) => head,
        }
    }
}

/// A ratio of medians with its range over the rounds.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// Ratio of the medians.
    pub median: f64,
    min: f64,
    max: f64,
}

impl Ratio {
    /// Returns the ratio of the numbers of `one` to those of `other`, `None` if rounds are missing.
    pub fn of(one: &SideResult, other: &SideResult, figure: fn(&Summary) -> f64) -> Option<Self> {
        let median = one.median(figure)? / other.median(figure)?;
        let pairs = one.rounds.iter().zip(&other.rounds);
        let each: Vec<f64> = pairs
            .map(|(one, other)| figure(one) / figure(other))
            .collect();
        Some(Ratio {
            median,
            min: each.iter().copied().fold(f64::INFINITY, f64::min),
            max: each.iter().copied().fold(0.0, f64::max),
        })
    }

    /// Returns the ratio formatted for tables.
    pub fn show(self) -> String {
        format!("{:.2} ({:.2}-{:.2})", self.median, self.min, self.max)
    }
}

/// Returns the operations per second.
pub fn ops(summary: &Summary) -> f64 {
    summary.operations_per_second
}

/// Returns the server's CPU time per operation in nanoseconds.
pub fn cpu(summary: &Summary) -> f64 {
    summary.server_cpu_ns.unwrap_or(0.0)
}

/// Returns the server's CPU usage in cores.
pub fn busy(summary: &Summary) -> f64 {
    summary.server_busy.unwrap_or(0.0)
}

/// The rounds of a load on a server, with the names of both.
#[derive(Clone, Copy, Debug)]
pub struct LoadRounds<'a> {
    /// Name of the load.
    pub load: &'a str,
    /// Target rate in operations per second, `None` for a closed loop.
    pub rate: Option<f64>,
    /// Name of the server.
    pub server: &'a str,
    /// The rounds.
    pub result: &'a SideResult,
}

/// Returns a table with every round of every load, for CSV.
pub fn csv_table<'a>(all: impl Iterator<Item = LoadRounds<'a>>) -> Table {
    let mut table = Table::new(&[
        "load",
        "rate",
        "server",
        "round",
        "operations",
        "ops_per_second",
        "server_cpu_ns",
        "server_busy",
        "generator_busy",
        "p50_us",
        "p90_us",
        "p99_us",
        "p999_us",
        "max_us",
        "error",
    ]);
    for load in all {
        let (name, server) = (load.load.to_string(), load.server.to_string());
        let rate = load.rate.map(|rate| format!("{rate:.0}"));
        let names = [name, rate.unwrap_or_default(), server];
        let result = load.result;
        for (number, summary) in result.rounds.iter().enumerate() {
            let mut row = names.to_vec();
            row.extend([(number + 1).to_string(), summary.operations.to_string()]);
            row.push(format!("{:.0}", ops(summary)));
            row.extend([cpu, busy].map(|figure| format!("{:.3}", figure(summary))));
            row.push(format!("{:.3}", summary.generator_busy));
            row.extend(summary.latency_us.figures().map(|us| format!("{us:.1}")));
            row.push(summary.error().unwrap_or_default());
            table.push(row);
        }
        if result.rounds.is_empty() {
            let mut row = names.to_vec();
            row.resize(table.head.len() - 1, String::new());
            row.push(result.error.clone().unwrap_or_default());
            table.push(row);
        }
    }
    table
}
