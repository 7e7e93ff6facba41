//! `connections`: CPU time of a get while many connections are open of which few are active.
//!
//! Each side runs twice: once with a few connections, all active, and once with many of which most
//! have sent a get and are idle since. Both are measured in alternating rounds, one side after the
//! other: a process may not have files enough for the connections of both.

use std::time::Duration;

use serde::Serialize;

use super::address::Stream;
use super::failure::Failure;
use super::plan::Plan;
use super::preload::load_keys;
use super::process::{ServerProcess, raise_file_limit};
use super::report::{OutputOptions, Table, median};
use super::rounds::{RoundOptions, cpu, ops};
use super::run::measure;
use super::servers::{ServersOptions, Side};

/// Open files and connections in addition to the idle ones.
const SPARE: usize = 200;
/// The reply to an idle connection's get.
const REPLY: &[u8] = b"END\r\n";
/// Longest wait for a reply to an idle connection's get.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Options of `connections`.
#[derive(Clone, Debug, clap::Args)]
pub struct ConnectionsOptions {
    /// The servers
    #[command(flatten)]
    pub servers: ServersOptions,
    /// Connections that are open, active and idle ones
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub open: usize,
    /// Active connections among the open ones [default: a hundredth of them]
    #[arg(long, value_name = "N")]
    pub active: Option<usize>,
    /// Active connections of the servers without idle ones
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub few: usize,
    /// Rounds; results are medians over the rounds
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,
    /// Measured seconds per server and round
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub seconds: f64,
    /// Number of keys
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub keys: u32,
    /// Memory limit of each server in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub memory: u64,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Gets of a server with some of its connections active.
#[derive(Clone, Debug, Default, Serialize)]
struct Gets {
    server: &'static str,
    open: usize,
    active: usize,
    cpu_ns: Vec<f64>,
    ops_per_second: Vec<f64>,
    error: Option<String>,
}

struct Running {
    server: ServerProcess,
    plan: Plan,
    _idle: Vec<Stream>,
}

/// Measures both servers and returns the text to print.
pub fn connections(options: &ConnectionsOptions) -> Result<String, Failure> {
    let active = options.active.unwrap_or(options.open / 100).max(1);
    if active > options.open {
        return Err(Failure::Usage(format!(
            "{active} of {} connections cannot be active",
            options.open
        )));
    }
    raise_file_limit((options.open + options.few + SPARE) as u64)?;
    options.servers.pin()?;
    let mut found = Vec::new();
    for side in Side::BOTH {
        let counts = [(options.few, options.few), (options.open, active)];
        found.extend(measure_side(options, side, counts));
    }
    let table = table(&found);
    let text = options.servers.describe() + &table.to_text();
    options.output.write(&text, &table, &found)?;
    Ok(text)
}

/// Measures a side with each of these numbers of open and active connections.
fn measure_side(
    options: &ConnectionsOptions,
    side: Side,
    counts: [(usize, usize); 2],
) -> [Gets; 2] {
    let progress = |text: &str| {
        let text = format!("{}: {text}", side.name());
        options.output.progress(&text);
    };
    let running = counts.map(|(open, active)| {
        let running = start(options, side, open, active);
        progress(&format!("{open} connections open"));
        running
    });
    let mut found = counts.map(|(open, active)| Gets {
        server: side.name(),
        open,
        active,
        ..Gets::default()
    });
    for round in 0..options.rounds {
        for case in [round % 2, (round + 1) % 2] {
            let gets = &mut found[case];
            match &running[case] {
                Ok(running) if gets.error.is_none() => gets.add_round(running),
                Ok(_) => {}
                Err(failure) => gets.error = Some(failure.to_string()),
            }
        }
        progress(&format!("round {}", round + 1));
    }
    found
}

impl Gets {
    fn add_round(&mut self, running: &Running) {
        let Running { server, plan, .. } = running;
        let measured = measure(plan, &server.address, Some(server.pid()), &mut |_| ());
        match measured {
            Ok(summary) => {
                self.error = summary.error();
                self.cpu_ns.push(cpu(&summary));
                self.ops_per_second.push(ops(&summary));
            }
            Err(failure) => self.error = Some(failure.to_string()),
        }
    }
}

fn start(
    options: &ConnectionsOptions,
    side: Side,
    open: usize,
    active: usize,
) -> Result<Running, Failure> {
    let mut launch = options.servers.launch(side, options.memory)?;
    launch.connections = open + SPARE;
    let rounds = RoundOptions {
        rounds: options.rounds,
        seconds: options.seconds,
        keys: options.keys,
        connections: active,
        load_threads: 1,
        memory: options.memory,
    };
    let plan = rounds.plan("get1")?;
    let server = ServerProcess::start(&launch)?;
    load_keys(&plan, &server.address)?;
    let mut idle = Vec::with_capacity(open - active);
    for _ in 0..open - active {
        let connecting = Failure::io(format!("connecting to {}", server.address));
        let mut stream = Stream::connect(&server.address).map_err(connecting)?;
        ask(&mut stream)?;
        idle.push(stream);
    }
    Ok(Running {
        server,
        plan,
        _idle: idle,
    })
}

/// Sends a get on a connection that is idle afterwards, and checks the reply.
fn ask(stream: &mut Stream) -> Result<(), Failure> {
    let reply = stream.exchange(b"get idle\r\n", REPLY, TIMEOUT)?;
    if reply != REPLY {
        let reply = reply.escape_ascii().to_string();
        return Err(Failure::Server(format!(
            "the reply to a get is \"{reply}\""
        )));
    }
    Ok(())
}

fn table(found: &[Gets]) -> Table {
    let mut table = Table::new(&[
        "server",
        "open",
        "active",
        "gets/s",
        "CPU ns per get",
        "min",
        "max",
        "to few connections",
        "remark",
    ]);
    for gets in found {
        let mut row = vec![gets.server.to_string()];
        row.extend([gets.open, gets.active].map(|count| count.to_string()));
        if gets.cpu_ns.is_empty() {
            row.resize(table.head.len() - 1, "-".to_string());
            row.push(gets.error.clone().unwrap_or_default());
            table.push(row);
            continue;
        }
        let cpu = median(&gets.cpu_ns);
        let few = found.iter().find(|few| few.server == gets.server);
        let few = few.map_or(0.0, |few| median(&few.cpu_ns));
        let (least, most) = (f64::min, f64::max);
        row.push(format!("{:.0}", median(&gets.ops_per_second)));
        row.push(format!("{cpu:.0}"));
        row.push(format!(
            "{:.0}",
            gets.cpu_ns.iter().copied().fold(cpu, least)
        ));
        row.push(format!(
            "{:.0}",
            gets.cpu_ns.iter().copied().fold(cpu, most)
        ));
        row.push(format!("{:.2}", cpu / few));
        row.push(gets.error.clone().unwrap_or_default());
        table.push(row);
    }
    table
}
