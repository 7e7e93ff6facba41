//! Servers that live side by side, each measured once a round while the others are idle.
//!
//! Owns what such comparisons share: the standard loads' options, the rounds of any number of
//! servers, their medians and ratios, and the CSV file of every round. What is printed of them is
//! the subcommands' part.

use std::time::Duration;

use serde::Serialize;

use super::failure::Failure;
use super::plan::{Plan, Stop};
use super::preload::load_keys;
use super::process::ServerProcess;
use super::report::{OutputOptions, Summary, Table, median};
use super::run::measure;
use super::versus::{Side, VersusOptions};

/// Below this share of its core a server was waiting for the generator.
const SATURATED: f64 = 0.9;
/// Stands in tables where there is no figure.
pub const NOTHING: &str = "-";

/// How long and how large the standard loads are.
#[derive(Clone, Debug, clap::Args)]
pub struct RoundOptions {
    /// Rounds; figures are medians over them
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,
    /// Measured seconds of each server in each round
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub seconds: f64,
    /// Number of keys (of the 100 KB load: a hundredth)
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub keys: u32,
    /// Connections (10 in the 100 KB load)
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub connections: usize,
    /// Threads of the generator
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub load_threads: usize,
    /// Memory of each server in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub memory: u64,
}

impl RoundOptions {
    /// A standard load of this length and size.
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

/// A server that takes part, or why it cannot.
#[derive(Debug)]
pub struct Contender {
    /// Its name in tables.
    pub name: &'static str,
    /// Ready to be measured.
    pub server: Result<ServerProcess, Failure>,
}

impl Contender {
    /// One of two sides, with the plan's keys in it.
    pub fn loaded(versus: &VersusOptions, side: Side, memory_mib: u64, plan: &Plan) -> Self {
        let start = || {
            let server = versus.start(side, memory_mib)?;
            load_keys(plan, &server.address)?;
            Ok(server)
        };
        Contender {
            name: side.name(),
            server: start(),
        }
    }
}

/// Plays the rounds, another server being first each time, and ends the servers.
pub fn play<const N: usize>(
    plan: &Plan,
    rounds: usize,
    servers: [Contender; N],
    output: &OutputOptions,
) -> [(&'static str, SideResult); N] {
    let mut results = servers.each_ref().map(|contender| {
        let trouble = contender.server.as_ref().err().map(ToString::to_string);
        let rounds = Vec::new();
        (contender.name, SideResult { rounds, trouble })
    });
    let longest = servers.iter().map(|contender| contender.name.len()).max();
    let width = longest.unwrap_or(0);
    for round in 0..rounds {
        for turn in 0..N {
            let index = (round + turn) % N;
            let (name, result) = &mut results[index];
            if let (Ok(server), None) = (&servers[index].server, &result.trouble) {
                result.add_round(plan, server, name);
                output.progress(&result.progress_line(plan, name, width));
            }
        }
    }
    results
}

/// The rounds of one load on one server.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SideResult {
    /// One per round.
    pub rounds: Vec<Summary>,
    /// Why there are no more of them.
    pub trouble: Option<String>,
}

impl SideResult {
    /// The median of a figure, if all rounds were played.
    pub fn median(&self, figure: impl Fn(&Summary) -> f64) -> Option<f64> {
        let complete = self.trouble.is_none() && !self.rounds.is_empty();
        let values: Vec<f64> = self.rounds.iter().map(figure).collect();
        complete.then(|| median(&values))
    }

    /// The median as tables show it.
    pub fn show(&self, figure: impl Fn(&Summary) -> f64, decimals: usize) -> String {
        self.median(figure)
            .map_or(NOTHING.to_string(), |value| format!("{value:.decimals$}"))
    }

    /// Whether the server, of so many workers, had time to wait for the generator: its throughput
    /// then is the generator's.
    pub fn waited(&self, workers: usize) -> bool {
        let busy = self.median(busy);
        busy.is_some_and(|busy| busy / (workers as f64) < SATURATED)
    }

    fn add_round(&mut self, plan: &Plan, server: &ServerProcess, name: &str) {
        match measure(plan, &server.address, Some(server.pid()), &mut |_| ()) {
            Ok(mut summary) => {
                summary.server = name.to_string();
                self.trouble = summary.trouble();
                self.rounds.push(summary);
            }
            Err(failure) => self.trouble = Some(failure.to_string()),
        }
    }

    fn progress_line(&self, plan: &Plan, name: &str, width: usize) -> String {
        let head = format!("{} round {} {name:width$}", plan.name, self.rounds.len());
        match (&self.trouble, self.rounds.last()) {
            (Some(trouble), _) => format!("{head} {trouble}"),
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

/// A ratio of medians and its spread.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// Of the medians.
    pub median: f64,
    min: f64,
    max: f64,
}

impl Ratio {
    /// One server's figure to another's.
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

    /// As tables show it.
    pub fn show(self) -> String {
        format!("{:.2} ({:.2}-{:.2})", self.median, self.min, self.max)
    }
}

/// Operations per second.
pub fn ops(summary: &Summary) -> f64 {
    summary.operations_per_second
}

/// The server's CPU time per operation, in nanoseconds.
pub fn cpu(summary: &Summary) -> f64 {
    summary.server_cpu_ns.unwrap_or(0.0)
}

/// Cores that the server kept busy.
pub fn busy(summary: &Summary) -> f64 {
    summary.server_busy.unwrap_or(0.0)
}

/// A load's rounds on one server, with their names.
#[derive(Clone, Copy, Debug)]
pub struct Played<'a> {
    /// The load.
    pub load: &'a str,
    /// Operations per second that were asked for, if the load was paced.
    pub rate: Option<f64>,
    /// The server.
    pub server: &'a str,
    /// What was measured.
    pub result: &'a SideResult,
}

/// Every round of every load, for other tools.
pub fn csv_table<'a>(all: impl Iterator<Item = Played<'a>>) -> Table {
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
        "trouble",
    ]);
    for played in all {
        let (load, server) = (played.load.to_string(), played.server.to_string());
        let rate = played.rate.map(|rate| format!("{rate:.0}"));
        let names = [load, rate.unwrap_or_default(), server];
        let result = played.result;
        for (number, summary) in result.rounds.iter().enumerate() {
            let mut row = names.to_vec();
            row.extend([(number + 1).to_string(), summary.operations.to_string()]);
            row.push(format!("{:.0}", ops(summary)));
            row.extend([cpu, busy].map(|figure| format!("{:.3}", figure(summary))));
            row.push(format!("{:.3}", summary.generator_busy));
            row.extend(summary.latency_us.figures().map(|us| format!("{us:.1}")));
            row.push(summary.trouble().unwrap_or_default());
            table.push(row);
        }
        if result.rounds.is_empty() {
            let mut row = names.to_vec();
            row.resize(table.head.len() - 1, String::new());
            row.push(result.trouble.clone().unwrap_or_default());
            table.push(row);
        }
    }
    table
}
