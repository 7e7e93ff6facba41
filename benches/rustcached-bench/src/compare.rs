//! `compare`: runs the standard loads against two servers, in alternating rounds, and checks the
//! targets.
//!
//! Both servers run for the duration of a load; `rounds` runs and measures it. Throughput is
//! compared only if the server's core was saturated. Otherwise the generator was the bottleneck.

use serde::Serialize;

use super::failure::Failure;
use super::plan::{Plan, STANDARD_LOADS, StandardLoad, Target};
use super::report::{OutputOptions, Summary, Table};
use super::rounds::{
    LoadRounds, NO_VALUE, Ratio, RoundOptions, SideResult, busy, cpu, csv_table, ops, run_rounds,
};
use super::servers::ServersOptions;

/// Options of `compare`.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareOptions {
    /// The servers
    #[command(flatten)]
    pub servers: ServersOptions,
    /// The rounds
    #[command(flatten)]
    pub rounds: RoundOptions,
    /// Only these standard loads: get1 set1 get32 set32 mget50 mg32 bget32 incr32 get100k zipf, or
    /// none [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub loads: Option<Vec<String>>,
    /// Also measure the latency of single gets at this rate, in operations per second; 0 disables
    /// it
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

/// Results of a load on both servers.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Name of the load.
    pub load: String,
    /// Description of the load.
    pub title: String,
    /// Target rate in operations per second, `None` for a closed loop.
    pub rate: Option<f64>,
    /// Rounds of the reference server.
    pub theirs: SideResult,
    /// Rounds of the server under test.
    pub ours: SideResult,
}

impl Comparison {
    fn sides(&self) -> [(&'static str, &SideResult); 2] {
        [("theirs", &self.theirs), ("ours", &self.ours)]
    }
}

/// All results of a comparison, for JSON.
#[derive(Clone, Debug, Serialize)]
struct Results {
    loads: Vec<Comparison>,
    latency: Vec<Comparison>,
}

impl Results {
    fn load_rounds(&self) -> impl Iterator<Item = LoadRounds<'_>> {
        let loads = self.loads.iter().chain(&self.latency);
        loads.flat_map(|load| {
            load.sides().map(|(server, result)| LoadRounds {
                load: &load.load,
                rate: load.rate,
                server,
                result,
            })
        })
    }
}

/// Runs the comparison and returns the text to print.
pub fn compare(options: &CompareOptions) -> Result<String, Failure> {
    options.servers.pin()?;
    let mut found = Results {
        loads: Vec::new(),
        latency: Vec::new(),
    };
    let mut targets = Vec::new();
    for load in chosen(options)? {
        let plan = options.rounds.plan(load.name)?;
        found.loads.push(compare_load(options, &plan, load.title));
        targets.push(match options.servers.tls.is_on() {
            false => load.target,
            true => load.target_over_tls(),
        });
    }
    for &rate in options.rates.iter().filter(|&&rate| rate > 0.0) {
        let mut plan = options.rounds.plan("get1")?;
        plan.rate = Some(rate);
        found
            .latency
            .push(compare_load(options, &plan, "get, one at a time"));
    }
    let table = load_table(&found.loads, &targets, options.servers.threads);
    let mut text = options.servers.describe();
    text += &tls_line(found.loads.iter().chain(&found.latency));
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
    options
        .output
        .write(&text, &csv_table(found.load_rounds()), &found)?;
    Ok(text)
}

fn chosen(options: &CompareOptions) -> Result<Vec<&'static StandardLoad>, Failure> {
    let Some(names) = &options.loads else {
        return Ok(STANDARD_LOADS.iter().collect());
    };
    let names = names.iter().filter(|name| *name != "none");
    names.map(|name| StandardLoad::named(name)).collect()
}

/// Runs a load against both servers.
fn compare_load(options: &CompareOptions, plan: &Plan, title: &str) -> Comparison {
    let [theirs, ours] = run_rounds(plan, &options.servers, &options.rounds, &options.output);
    Comparison {
        load: plan.name.clone(),
        title: title.to_string(),
        rate: plan.rate,
        theirs,
        ours,
    }
}

/// Returns a line with the TLS of the first load that both servers answered over TLS; nothing if
/// there is none.
fn tls_line<'a>(mut loads: impl Iterator<Item = &'a Comparison>) -> String {
    let both = loads.find_map(|load| load.theirs.tls.as_ref().zip(load.ours.tls.as_ref()));
    both.map_or(String::new(), |(theirs, ours)| {
        format!("negotiated: ours {ours}, theirs {theirs}\n")
    })
}

fn rating(hold: bool, aim: bool) -> String {
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
        let share = |summary: &Summary| busy(summary) / threads as f64;
        let (theirs, ours) = (&load.theirs, &load.ours);
        let mut row = vec![load.title.clone()];
        row.extend([theirs, ours].map(|side| side.show(ops, 0)));
        row.extend([theirs, ours].map(|side| side.show(cpu, 0)));
        row.extend([theirs, ours].map(|side| side.show(share, 2)));
        let ratios = (Ratio::of(ours, theirs, cpu), Ratio::of(ours, theirs, ops));
        if let (Some(cpu), Some(ops)) = ratios {
            let idle = [theirs, ours].map(|side| side.is_unsaturated(threads));
            row.push(cpu.show());
            row.push(rating(
                cpu.median <= target.cpu_hold,
                cpu.median <= target.cpu_aim,
            ));
            row.push(ops.show());
            row.push(match idle {
                [false, false] => {
                    rating(ops.median >= target.ops_hold, ops.median >= target.ops_aim)
                }
                _ => "?".to_string(),
            });
            row.push(bottleneck(idle).to_string());
        } else {
            row.extend([NO_VALUE; 4].map(String::from));
            row.push(not_measured(load));
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

fn not_measured(load: &Comparison) -> String {
    let sides = load.sides().into_iter();
    let said: Vec<String> = sides
        .filter_map(|(name, result)| Some(format!("{name}: {}", result.error.as_ref()?)))
        .collect();
    format!("not measured; {}", said.join("; "))
}

fn latency_table(loads: &[Comparison]) -> Table {
    let mut table = Table::new(&[
        "rate", "server", "ops/s", "p50", "p90", "p99", "p99.9", "CPU ns", "remark",
    ]);
    for load in loads {
        for (name, result) in load.sides() {
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
            row.extend(figures.map(|figure| result.show(figure, 0)));
            let behind = result.median(ops).is_some_and(|ops| ops < 0.98 * rate);
            let lag = if behind {
                "could not hold the rate"
            } else {
                ""
            };
            row.push(result.error.clone().unwrap_or(lag.to_string()));
            table.push(row);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{Comparison, load_table};
    use crate::collector::Counts;
    use crate::latency::latency_histogram;
    use crate::plan::STANDARD_LOADS;
    use crate::report::Summary;
    use crate::rounds::{Ratio, SideResult, cpu, ops};

    fn side(rounds: &[(u64, f64, f64)]) -> SideResult {
        let summary = |&(operations, cpu_ns, busy): &(u64, f64, f64)| {
            let counts = Counts {
                operations,
                ..Counts::default()
            };
            let mut summary = Summary::of("get1", "x", 1.0, counts, &latency_histogram());
            summary.server_cpu_ns = Some(cpu_ns);
            summary.server_busy = Some(busy);
            summary
        };
        SideResult {
            rounds: rounds.iter().map(summary).collect(),
            ..SideResult::default()
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
        load_table(&[load], &[STANDARD_LOADS[0].target], 1)
            .rows
            .remove(0)
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
        ours.error = Some("ERROR".into());
        let row = row(side(&[(100, 1000.0, 1.0)]), ours);
        assert_eq!(row[11], "not measured; ours: ERROR");
        assert_eq!(row[1], "100");
    }
}
