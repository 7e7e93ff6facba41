//! `compare`: the standard loads on two servers, in alternating rounds, judged by their targets.
//!
//! Both servers live as long as a load does; each is measured once a round, the other idle. Ratios
//! are of medians, their spread over the rounds' own ratios. Throughput is judged only where the
//! server's core was saturated, since otherwise it measures the generator.

use serde::Serialize;

use super::failure::Failure;
use super::plan::{Plan, STANDARD, Standard, Stop, Target};
use super::preload::load_keys;
use super::process::ServerProcess;
use super::report::{OutputOptions, Summary, Table, median};
use super::run::measure;
use super::versus::{Side, VersusOptions};
use std::time::Duration;

/// Below this share of its core a server was waiting for the generator.
const SATURATED: f64 = 0.9;
const NOTHING: &str = "-";

/// Options of `compare`.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareOptions {
    /// The servers
    #[command(flatten)]
    pub versus: VersusOptions,
    /// Rounds; figures are medians over them
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,
    /// Only these standard loads: get1 set1 get32 set32 mget50 mg32 bget32 incr32 get100k zipf, or
    /// none [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub loads: Option<Vec<String>>,
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
    /// Also measure latency of gets, one at a time, at these operations per second; 0 for not
    #[arg(
        long,
        value_name = "OPS",
        value_delimiter = ',',
        default_value = "50000,100000"
    )]
    pub rates: Vec<f64>,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
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
    fn median(&self, figure: impl Fn(&Summary) -> f64) -> Option<f64> {
        let complete = self.trouble.is_none() && !self.rounds.is_empty();
        let values: Vec<f64> = self.rounds.iter().map(figure).collect();
        complete.then(|| median(&values))
    }
}

/// A load on both servers.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The load's name.
    pub load: String,
    /// What it is.
    pub title: String,
    /// Operations per second that were asked for, if the load was paced.
    pub rate: Option<f64>,
    /// Their rounds.
    pub theirs: SideResult,
    /// Our rounds.
    pub ours: SideResult,
}

/// Everything a comparison found.
#[derive(Clone, Debug, Serialize)]
struct Findings {
    loads: Vec<Comparison>,
    latency: Vec<Comparison>,
}

/// Runs the comparison and returns what is to be printed.
pub fn compare(options: &CompareOptions) -> Result<String, Failure> {
    if options.rounds == 0 {
        return Err(Failure::Usage("rounds: at least 1".to_string()));
    }
    options.versus.pin()?;
    let mut found = Findings {
        loads: Vec::new(),
        latency: Vec::new(),
    };
    let mut judged = Vec::new();
    for load in chosen(options)? {
        let plan = options.plan(load.name)?;
        found.loads.push(versus(options, &plan, load.title)?);
        judged.push(load.target);
    }
    for &rate in options.rates.iter().filter(|&&rate| rate > 0.0) {
        let mut plan = options.plan("get1")?;
        plan.rate = Some(rate);
        found
            .latency
            .push(versus(options, &plan, "get, one at a time")?);
    }
    let table = load_table(&found.loads, &judged, options.versus.threads);
    let mut text = options.versus.describe();
    if !table.rows.is_empty() {
        text += &table.to_text();
        text += "Ratios: ours to theirs, of medians (spread over the rounds). aim, hold: target \
                 met; miss: not.\nops: judged only where both servers' cores were at least 90 % \
                 busy.\n";
    }
    if !found.latency.is_empty() {
        text += "\nLatency in microseconds at a fixed rate, medians of the rounds\n";
        text += &latency_table(&found.latency).to_text();
    }
    options.output.write(&text, &csv_table(&found), &found)?;
    Ok(text)
}

fn chosen(options: &CompareOptions) -> Result<Vec<&'static Standard>, Failure> {
    let Some(names) = &options.loads else {
        return Ok(STANDARD.iter().collect());
    };
    let names = names.iter().filter(|name| *name != "none");
    names
        .map(|name| {
            Plan::standard(name)?;
            let load = STANDARD.iter().find(|load| load.name == name);
            load.ok_or_else(|| Failure::Usage(format!("no load {name:?}")))
        })
        .collect()
}

impl CompareOptions {
    fn plan(&self, name: &str) -> Result<Plan, Failure> {
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
        plan.threads = self.load_threads;
        plan.check()?;
        Ok(plan)
    }
}

/// One load on both servers.
fn versus(options: &CompareOptions, plan: &Plan, title: &str) -> Result<Comparison, Failure> {
    let mut results = [SideResult::default(), SideResult::default()];
    let mut servers = [None, None];
    for side in Side::BOTH {
        match prepare(options, plan, side) {
            Ok(server) => servers[side.index()] = Some(server),
            Err(failure) => results[side.index()].trouble = Some(failure.to_string()),
        }
    }
    for round in 0..options.rounds {
        for side in Side::order(round) {
            let result = &mut results[side.index()];
            if let (Some(server), None) = (&servers[side.index()], &result.trouble) {
                one_round(plan, server, side, result);
                options
                    .output
                    .progress(&progress_line(plan, round, side, result));
            }
        }
    }
    let [theirs, ours] = results;
    Ok(Comparison {
        load: plan.name.clone(),
        title: title.to_string(),
        rate: plan.rate,
        theirs,
        ours,
    })
}

fn prepare(options: &CompareOptions, plan: &Plan, side: Side) -> Result<ServerProcess, Failure> {
    let server = options.versus.start(side, options.memory)?;
    load_keys(plan, &server.address)?;
    Ok(server)
}

fn one_round(plan: &Plan, server: &ServerProcess, side: Side, result: &mut SideResult) {
    match measure(plan, &server.address, Some(server.pid()), &mut |_| ()) {
        Ok(mut summary) => {
            summary.server = side.name().to_string();
            result.trouble = summary.trouble();
            result.rounds.push(summary);
        }
        Err(failure) => result.trouble = Some(failure.to_string()),
    }
}

fn progress_line(plan: &Plan, round: usize, side: Side, result: &SideResult) -> String {
    let head = format!("{} round {} {:6}", plan.name, round + 1, side.name());
    match (&result.trouble, result.rounds.last()) {
        (Some(trouble), _) => format!("{head} {trouble}"),
        (None, Some(summary)) => format!(
            "{head} {:>9.0} ops/s  {:>7.0} CPU ns/op  server {:.2}  load {:.2} busy",
            summary.operations_per_second,
            summary.server_cpu_ns.unwrap_or(0.0),
            summary.server_busy.unwrap_or(0.0),
            summary.generator_busy
        ),
        (None, None) => head,
    }
}

/// A ratio of medians and its spread.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    median: f64,
    min: f64,
    max: f64,
}

impl Ratio {
    fn of(ours: &SideResult, theirs: &SideResult, figure: fn(&Summary) -> f64) -> Option<Self> {
        let median = ours.median(figure)? / theirs.median(figure)?;
        let pairs = ours.rounds.iter().zip(&theirs.rounds);
        let each: Vec<f64> = pairs
            .map(|(ours, theirs)| figure(ours) / figure(theirs))
            .collect();
        Some(Ratio {
            median,
            min: each.iter().copied().fold(f64::INFINITY, f64::min),
            max: each.iter().copied().fold(0.0, f64::max),
        })
    }

    fn show(self) -> String {
        format!("{:.2} ({:.2}-{:.2})", self.median, self.min, self.max)
    }
}

fn ops(summary: &Summary) -> f64 {
    summary.operations_per_second
}

fn cpu(summary: &Summary) -> f64 {
    summary.server_cpu_ns.unwrap_or(0.0)
}

fn busy(summary: &Summary) -> f64 {
    summary.server_busy.unwrap_or(0.0)
}

fn judge(hold: bool, aim: bool) -> String {
    let word = match (aim, hold) {
        (true, _) => "aim",
        (false, true) => "hold",
        (false, false) => "miss",
    };
    word.to_string()
}

fn load_table(loads: &[Comparison], targets: &[Target], threads: usize) -> Table {
    let mut table = Table::new(&[
        "load",
        "ops/s theirs",
        "ours",
        "CPU ns theirs",
        "ours",
        "busy theirs",
        "ours",
        "CPU ratio",
        "is",
        "ops ratio",
        "is",
        "remark",
    ]);
    for (load, target) in loads.iter().zip(targets) {
        let figure = |side: &SideResult, figure: fn(&Summary) -> f64, decimals: usize| {
            side.median(figure)
                .map_or(NOTHING.to_string(), |value| format!("{value:.decimals$}"))
        };
        let per_core = |side: &SideResult| side.median(busy).map(|busy| busy / threads as f64);
        let share = |side: &SideResult| {
            per_core(side).map_or(NOTHING.to_string(), |busy| format!("{busy:.2}"))
        };
        let (theirs, ours) = (&load.theirs, &load.ours);
        let mut row = vec![load.title.clone()];
        row.extend([theirs, ours].map(|side| figure(side, ops, 0)));
        row.extend([theirs, ours].map(|side| figure(side, cpu, 0)));
        row.extend([theirs, ours].map(share));
        let ratios = (Ratio::of(ours, theirs, cpu), Ratio::of(ours, theirs, ops));
        if let (Some(cpu), Some(ops)) = ratios {
            let idle = [theirs, ours].map(|side| per_core(side).is_some_and(|b| b < SATURATED));
            row.push(cpu.show());
            row.push(judge(
                cpu.median <= target.cpu_hold,
                cpu.median <= target.cpu_aim,
            ));
            row.push(ops.show());
            row.push(match idle {
                [false, false] => {
                    judge(ops.median >= target.ops_hold, ops.median >= target.ops_aim)
                }
                _ => "?".to_string(),
            });
            row.push(bottleneck(idle).to_string());
        } else {
            row.extend([NOTHING; 4].map(String::from));
            row.push(not_answered(load));
        }
        table.push(row);
    }
    table
}

fn bottleneck(idle: [bool; 2]) -> &'static str {
    match idle {
        [false, false] => "",
        [true, false] => "the load was the limit for theirs",
        [false, true] => "the load was the limit for ours",
        [true, true] => "the load was the limit for both",
    }
}

fn not_answered(load: &Comparison) -> String {
    let side = |name: &str, result: &SideResult| {
        result
            .trouble
            .as_ref()
            .map(|trouble| format!("{name}: {trouble}"))
    };
    let sides = [side("theirs", &load.theirs), side("ours", &load.ours)];
    let said: Vec<String> = sides.into_iter().flatten().collect();
    format!("not measured; {}", said.join("; "))
}

fn latency_table(loads: &[Comparison]) -> Table {
    let mut table = Table::new(&[
        "rate", "server", "ops/s", "p50", "p90", "p99", "p99.9", "CPU ns", "remark",
    ]);
    for load in loads {
        for (name, result) in [("theirs", &load.theirs), ("ours", &load.ours)] {
            let figures: [fn(&Summary) -> f64; 6] = [
                ops,
                |summary| summary.latency_us.p50,
                |summary| summary.latency_us.p90,
                |summary| summary.latency_us.p99,
                |summary| summary.latency_us.p999,
                cpu,
            ];
            let rate = load.rate.unwrap_or(0.0);
            let mut row = vec![format!("{rate:.0}"), name.to_string()];
            row.extend(figures.map(|figure| {
                result
                    .median(figure)
                    .map_or(NOTHING.to_string(), |value| format!("{value:.0}"))
            }));
            let behind = result.median(ops).is_some_and(|ops| ops < 0.98 * rate);
            let lag = if behind {
                "could not hold the rate"
            } else {
                ""
            };
            row.push(result.trouble.clone().unwrap_or(lag.to_string()));
            table.push(row);
        }
    }
    table
}

/// Every round of every load, for other tools.
fn csv_table(found: &Findings) -> Table {
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
    for load in found.loads.iter().chain(&found.latency) {
        for (name, result) in [("theirs", &load.theirs), ("ours", &load.ours)] {
            let rate = load.rate.map_or(String::new(), |rate| format!("{rate:.0}"));
            for (number, summary) in result.rounds.iter().enumerate() {
                let latency = &summary.latency_us;
                let mut row = vec![load.load.clone(), rate.clone(), name.to_string()];
                row.extend([(number + 1).to_string(), summary.operations.to_string()]);
                row.push(format!("{:.0}", ops(summary)));
                row.extend([cpu, busy].map(|figure| format!("{:.3}", figure(summary))));
                row.push(format!("{:.3}", summary.generator_busy));
                let times = [
                    latency.p50,
                    latency.p90,
                    latency.p99,
                    latency.p999,
                    latency.max,
                ];
                row.extend(times.map(|us| format!("{us:.1}")));
                row.push(summary.trouble().unwrap_or_default());
                table.push(row);
            }
            if result.rounds.is_empty() {
                let mut row = vec![load.load.clone(), rate.clone(), name.to_string()];
                row.resize(table.head.len() - 1, String::new());
                row.push(result.trouble.clone().unwrap_or_default());
                table.push(row);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{Comparison, Ratio, SideResult, cpu, load_table, ops};
    use crate::loadgen::driver::Tally;
    use crate::loadgen::plan::STANDARD;
    use crate::loadgen::report::Summary;
    use hdrhistogram::Histogram;

    fn side(rounds: &[(u64, f64, f64)]) -> SideResult {
        let summary = |&(operations, cpu_ns, busy): &(u64, f64, f64)| {
            let tally = Tally {
                operations,
                ..Tally::default()
            };
            let mut summary = Summary::of("get1", "x", 1.0, tally, &Histogram::new(3).unwrap());
            summary.server_cpu_ns = Some(cpu_ns);
            summary.server_busy = Some(busy);
            summary
        };
        SideResult {
            rounds: rounds.iter().map(summary).collect(),
            trouble: None,
        }
    }

    fn row(theirs: SideResult, ours: SideResult) -> Vec<String> {
        let load = Comparison {
            load: "get1".into(),
            title: "get".into(),
            rate: None,
            theirs,
            ours,
        };
        load_table(&[load], &[STANDARD[0].target], 1).rows.remove(0)
    }

    #[test]
    fn ratios_are_of_medians_with_the_spread_of_rounds() {
        let theirs = side(&[(100, 1000.0, 1.0), (100, 1000.0, 1.0), (100, 1000.0, 1.0)]);
        let ours = side(&[(110, 900.0, 1.0), (130, 500.0, 1.0), (120, 800.0, 1.0)]);
        let ratio = Ratio::of(&ours, &theirs, cpu).unwrap();
        assert_eq!(ratio.show(), "0.80 (0.50-0.90)");
        assert_eq!(
            Ratio::of(&ours, &theirs, ops).unwrap().show(),
            "1.20 (1.10-1.30)"
        );
        let row = row(theirs, ours);
        assert_eq!((row[8].as_str(), row[10].as_str()), ("aim", "aim"));
    }

    #[test]
    fn throughput_of_an_idle_server_is_not_judged() {
        let row = row(side(&[(100, 1000.0, 1.0)]), side(&[(110, 890.0, 0.7)]));
        assert_eq!((row[8].as_str(), row[10].as_str()), ("hold", "?"));
        assert_eq!(row[11], "the load was the limit for ours");
    }

    #[test]
    fn a_load_that_is_not_answered_has_a_row_that_says_so() {
        let mut ours = side(&[]);
        ours.trouble = Some("ERROR".into());
        let row = row(side(&[(100, 1000.0, 1.0)]), ours);
        assert_eq!(row[11], "not measured; ours: ERROR");
        assert_eq!(row[1], "100");
    }
}
