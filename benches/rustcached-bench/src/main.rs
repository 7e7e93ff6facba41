//! The `rustcached-bench` load generator: command line and exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustcached_bench::accept::{AcceptOptions, accept};
use rustcached_bench::compare::{CompareOptions, compare};
use rustcached_bench::connections::{ConnectionsOptions, connections};
use rustcached_bench::density::{DensityOptions, density};
use rustcached_bench::failure::Failure;
use rustcached_bench::memory::{MemoryOptions, MemoryPlotOptions, memory, memory_plot};
use rustcached_bench::replay::{ReplayOptions, replay};
use rustcached_bench::replay_compare::{ReplayCompareOptions, replay_compare};
use rustcached_bench::restart::{RestartOptions, restart};
use rustcached_bench::run::{RunOptions, run};
use rustcached_bench::stall::{StallOptions, stall};
use rustcached_bench::startup::{StartupOptions, startup};

/// Measures servers that speak memcached's protocols
#[derive(Debug, Parser)]
#[command(name = "rustcached-bench", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs a load against a server: throughput, latency, CPU time
    Run(RunOptions),
    /// Starts two servers and runs the standard loads against both, in alternating rounds
    Compare(CompareOptions),
    /// Replays recorded request streams against a server: hit ratio, evictions, memory
    Replay(ReplayOptions),
    /// Replays traces against two servers at several memory limits and compares the hit ratios
    ReplayCompare(ReplayCompareOptions),
    /// Time from start to first reply of two servers, and memory of their idle connections
    Startup(StartupOptions),
    /// Time and CPU time of connections that send one get, with TLS of handshakes
    Accept(AcceptOptions),
    /// CPU time of a get while many connections are open, most of them idle
    Connections(ConnectionsOptions),
    /// Time of clean restarts of servers that keep their items, and the items kept
    Restart(RestartOptions),
    /// Longest pauses of two servers while they grow, evict, or store and return a huge value
    Stall(StallOptions),
    /// Resident bytes per item of two servers, or with --full, the number of items that they keep
    /// in the same memory
    Density(DensityOptions),
    /// Resident memory of two servers under loads and hostile clients designed to exceed the memory
    /// limit
    Memory(MemoryOptions),
    /// Redraws the graph from a CSV file written by `memory`
    MemoryPlot(MemoryPlotOptions),
    /// Former name of `startup`
    #[command(hide = true, disable_help_flag = true)]
    Idle(Ignored),
    /// Former name of `density --full`
    #[command(hide = true, disable_help_flag = true)]
    Keep(Ignored),
}

/// The arguments of a former subcommand.
#[derive(Debug, clap::Args)]
struct Ignored {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _arguments: Vec<OsString>,
}

impl Task {
    /// Performs the task and returns the text to print.
    fn perform(&self) -> Result<String, Failure> {
        match self {
            Task::Run(options) => run(options),
            Task::Compare(options) => compare(options),
            Task::Replay(options) => replay(options),
            Task::ReplayCompare(options) => replay_compare(options),
            Task::Startup(options) => startup(options),
            Task::Accept(options) => accept(options),
            Task::Connections(options) => connections(options),
            Task::Restart(options) => restart(options),
            Task::Stall(options) => stall(options),
            Task::Density(options) => density(options),
            Task::Memory(options) => memory(options),
            Task::MemoryPlot(options) => memory_plot(options),
            Task::Idle(_) => renamed("idle", "startup"),
            Task::Keep(_) => renamed("keep", "density --full"),
        }
    }
}

fn renamed(former: &str, current: &str) -> Result<String, Failure> {
    Err(Failure::Usage(format!(
        "`{former}` is now `{current}`; see `rustcached-bench {current} --help`"
    )))
}

fn main() -> ExitCode {
    match Arguments::parse().task.perform() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            if let Failure::Broken { text, .. } = &failure {
                print!("{text}");
            }
            eprintln!("rustcached-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}
