//! The `rustcached-bench` load generator: command line and exit code.

use std::convert::Infallible;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustcached_bench::compare::{self, CompareOptions};
use rustcached_bench::density::{self, DensityOptions};
use rustcached_bench::failure::Failure;
use rustcached_bench::floor::{self, FloorOptions};
use rustcached_bench::idle::{self, IdleOptions};
use rustcached_bench::keep::{self, KeepOptions};
use rustcached_bench::memory::{self, MemoryOptions, MemoryPlotOptions};
use rustcached_bench::null_server::{self, NullServerOptions};
use rustcached_bench::replay::{self, ReplayOptions};
use rustcached_bench::replay_compare::{self, ReplayCompareOptions};
use rustcached_bench::run::{self, RunOptions};
use rustcached_bench::stall::{self, StallOptions};
use rustcached_bench::startup::{self, StartupOptions};

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
    /// CPU time per operation of two servers and of a server that stores nothing, which shows the
    /// cost of the system calls alone
    Floor(FloorOptions),
    /// Replays recorded request streams against a server: hit ratio, evictions, memory
    Replay(ReplayOptions),
    /// Replays traces against two servers at several memory limits and compares the hit ratios
    ReplayCompare(ReplayCompareOptions),
    /// Memory of idle connections of two servers
    Idle(IdleOptions),
    /// Time from start to first reply of two servers
    Startup(StartupOptions),
    /// Longest pauses of two servers while they grow, evict, or store and return a huge value
    Stall(StallOptions),
    /// Resident bytes per item of two servers
    Density(DensityOptions),
    /// Resident memory of two servers under loads and hostile clients designed to exceed the memory
    /// limit
    Memory(MemoryOptions),
    /// Redraws the graph from a CSV file written by `memory`
    MemoryPlot(MemoryPlotOptions),
    /// Number of items of several sizes that two servers keep in the same memory
    Keep(KeepOptions),
    /// The server without a store that `floor` measures
    #[command(hide = true)]
    NullServer(NullServerOptions),
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
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

fn perform(task: Task) -> Result<String, Failure> {
    match task {
        Task::Run(options) => run::run(&options),
        Task::Compare(options) => compare::compare(&options),
        Task::Floor(options) => floor::floor(&options),
        Task::Replay(options) => replay::replay(&options),
        Task::ReplayCompare(options) => replay_compare::replay_compare(&options),
        Task::Idle(options) => idle::idle(&options),
        Task::Startup(options) => startup::startup(&options),
        Task::Stall(options) => stall::stall(&options),
        Task::Density(options) => density::density(&options),
        Task::Memory(options) => memory::memory(&options),
        Task::MemoryPlot(options) => memory::memory_plot(&options),
        Task::Keep(options) => keep::keep(&options),
        Task::NullServer(options) => {
            null_server::serve(&options).map(|never: Infallible| match never {})
        }
    }
}
