//! `floor`: the cost of the system calls alone, beside the costs of two servers.
//!
//! The same load runs, in alternating rounds, against both servers and against a server without a
//! store (this binary, as a process of its own). That server runs in two variants. A single value
//! stays in the CPU's caches. As many values as there are keys come from memory, as a store's
//! values would. The difference to a real server is the cost of parsing and storing, beyond the
//! system calls.

use std::env;

use serde::Serialize;

use super::failure::Failure;
use super::plan::{Plan, Standard};
use super::process::{ServerProcess, free_address, pinned};
use super::report::{OutputOptions, Table};
use super::rounds::{
    Contender, NOTHING, Played, Ratio, RoundOptions, SideResult, busy, cpu, csv_table, ops, play,
};
use super::versus::{Side, VersusOptions};

/// Loads that the server without a store can answer.
const LOADS: [&str; 7] = [
    "get1", "get32", "mget50", "mg32", "get100k", "set1", "set32",
];
const NOTES: &str = "\
CPU: of the server per operation. Ratios: of medians to theirs (spread over the rounds).
The floor reads and forgets sets, and looks no key up. Not saturated: the load, or another process
on these CPUs, was the limit; servers then are woken more often for the same work and take more
CPU time for it.
";

/// Options of `floor`.
#[derive(Clone, Debug, clap::Args)]
pub struct FloorOptions {
    /// The servers
    #[command(flatten)]
    pub versus: VersusOptions,
    /// The rounds
    #[command(flatten)]
    pub rounds: RoundOptions,
    /// These standard loads
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = LOADS,
        default_value = "get1,get32,mget50,get100k"
    )]
    pub loads: Vec<String>,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Clone, Debug, Serialize)]
struct Floor {
    load: String,
    title: &'static str,
    servers: [Entrant; 4],
}

#[derive(Clone, Debug, Serialize)]
struct Entrant {
    server: &'static str,
    #[serde(flatten)]
    result: SideResult,
}

/// Measures all four servers and returns the text to print.
pub fn floor(options: &FloorOptions) -> Result<String, Failure> {
    if options.versus.unix || options.versus.threads != 1 {
        let why = "the floor is that of one worker over TCP: no --unix, no --threads";
        return Err(Failure::Usage(why.to_string()));
    }
    options.versus.pin()?;
    let mut found = Vec::new();
    for name in &options.loads {
        let plan = options.rounds.plan(name)?;
        found.push(measure(options, &plan, Standard::named(name)?.title));
    }
    let text = options.versus.describe() + &table(&found).to_text() + NOTES;
    let played = found.iter().flat_map(|floor| {
        floor.servers.iter().map(|entrant| Played {
            load: &floor.load,
            rate: None,
            server: entrant.server,
            result: &entrant.result,
        })
    });
    options.output.write(&text, &csv_table(played), &found)?;
    Ok(text)
}

fn measure(options: &FloorOptions, plan: &Plan, title: &'static str) -> Floor {
    let side = |side| Contender::loaded(&options.versus, side, options.rounds.memory, plan);
    let null = |name, values| Contender {
        name,
        server: start_null(&options.versus, plan, values),
    };
    let servers = [
        side(Side::Theirs),
        side(Side::Ours),
        null("floor, in cache", 1),
        null("floor, in memory", plan.keys),
    ];
    let results = play(plan, options.rounds.rounds, servers, &options.output);
    Floor {
        load: plan.name.clone(),
        title,
        servers: results.map(|(server, result)| Entrant { server, result }),
    }
}

/// Starts the server without a store. No keys are loaded, since it would drop them.
fn start_null(versus: &VersusOptions, plan: &Plan, values: u32) -> Result<ServerProcess, Failure> {
    let own = env::current_exe().map_err(Failure::io("looking for this program's own file"))?;
    let address = free_address(false)?;
    let mut command = pinned(&own, versus.cpus());
    command.args(["null-server", "--listen", &address.to_string()]);
    command.args(["--values", &values.to_string()]);
    command.args(["--value-size", &plan.value_size.max.to_string()]);
    ServerProcess::spawn("the server that keeps nothing", command, address)
}

fn table(found: &[Floor]) -> Table {
    let mut table = Table::new(&[
        "load",
        "server",
        "ops/s",
        "CPU ns",
        "to theirs",
        "busy",
        "remark",
    ]);
    for floor in found {
        let theirs = &floor.servers[0].result;
        for Entrant { server, result } in &floor.servers {
            let ratio = Ratio::of(result, theirs, cpu).map_or(NOTHING.to_string(), Ratio::show);
            let waited = match result.waited(1) {
                true => "not saturated",
                false => "",
            };
            let mut row = vec![floor.title.to_string(), server.to_string()];
            row.extend([ops, cpu].map(|figure| result.show(figure, 0)));
            row.extend([ratio, result.show(busy, 2)]);
            row.push(result.trouble.clone().unwrap_or(waited.to_string()));
            table.push(row);
        }
    }
    table
}
