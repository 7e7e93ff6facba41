//! `startup`: time from the start of a server to its first reply.
//!
//! Measures from before the process is created until the reply to `version`, alternating between
//! the servers. Then reads the resident memory, which is that of an empty server.

use serde::Serialize;

use super::failure::Failure;
use super::process::resident_bytes;
use super::report::{OutputOptions, Table, median};
use super::versus::{Side, VersusOptions};

/// Options of `startup`.
#[derive(Clone, Debug, clap::Args)]
pub struct StartupOptions {
    /// The servers
    #[command(flatten)]
    pub versus: VersusOptions,
    /// Starts of each server
    #[arg(long, value_name = "N", default_value_t = 21)]
    pub rounds: usize,
    /// Memory limit of each server in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub memory: u64,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Starts {
    server: &'static str,
    milliseconds: Vec<f64>,
    resident_kib: Vec<f64>,
    trouble: Option<String>,
}

/// Starts both servers repeatedly and returns the text to print.
pub fn startup(options: &StartupOptions) -> Result<String, Failure> {
    options.versus.pin()?;
    let mut starts = Side::BOTH.map(|side| Starts {
        server: side.name(),
        ..Starts::default()
    });
    for round in 0..options.rounds {
        for side in Side::order(round) {
            let place = &mut starts[side.index()];
            if let Err(failure) = start_once(options, side, place) {
                place.trouble.get_or_insert(failure.to_string());
            }
        }
    }
    let mut table = Table::new(&[
        "server",
        "starts",
        "median, ms",
        "min",
        "max",
        "RSS, KiB",
        "remark",
    ]);
    for side in &starts {
        let (mut sorted, count) = (side.milliseconds.clone(), side.milliseconds.len());
        sorted.sort_by(f64::total_cmp);
        let ends = [sorted.first(), sorted.last()].map(|ms| ms.copied().unwrap_or(0.0));
        let mut row = vec![side.server.to_string(), count.to_string()];
        row.extend([median(&sorted), ends[0], ends[1]].map(|ms| format!("{ms:.2}")));
        row.push(format!("{:.0}", median(&side.resident_kib)));
        row.push(side.trouble.clone().unwrap_or_default());
        table.push(row);
    }
    let text = options.versus.describe() + &table.to_text();
    options.output.write(&text, &table, &starts)?;
    Ok(text)
}

fn start_once(options: &StartupOptions, side: Side, starts: &mut Starts) -> Result<(), Failure> {
    let server = options.versus.start(side, options.memory)?;
    starts
        .milliseconds
        .push(server.start_time.as_secs_f64() * 1000.0);
    starts
        .resident_kib
        .push(resident_bytes(server.pid())? as f64 / 1024.0);
    Ok(())
}
