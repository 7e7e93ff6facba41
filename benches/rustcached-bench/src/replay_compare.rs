//! `replay-compare`: hit ratios of two servers over many traces and memory limits.
//!
//! Each point (trace and memory limit) starts both servers anew, in sequence, with the same `-m`,
//! so the contents depend on the trace alone. Prints each point and the means over all points.

use std::path::PathBuf;

use serde::Serialize;

use super::failure::Failure;
use super::replay::{PaceOptions, Replayed, read_points, replay_on};
use super::report::{OutputOptions, Table};
use super::servers::{ServersOptions, Side};
use super::trace::Trace;

/// Options of `replay-compare`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayCompareOptions {
    /// The servers
    #[command(flatten)]
    pub servers: ServersOptions,
    /// File with the points: lines with a trace's name and memory limits in MiB, such as "tw24
    /// 24,48,96"
    #[arg(long, value_name = "FILE")]
    pub points: PathBuf,
    /// Directory of the traces, files NAME.kvt.zst
    #[arg(long, value_name = "DIR")]
    pub traces: PathBuf,
    /// Only these traces [default: all in the file of points]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Option<Vec<String>>,
    /// How to replay
    #[command(flatten)]
    pub pace: PaceOptions,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Results of a trace at a memory limit on both servers.
#[derive(Clone, Debug, Serialize)]
struct Point {
    trace: String,
    memory_mib: u64,
    theirs: Option<Replayed>,
    ours: Option<Replayed>,
    error: Option<String>,
}

/// Runs all points and returns the text to print.
pub fn replay_compare(options: &ReplayCompareOptions) -> Result<String, Failure> {
    options.servers.pin()?;
    let mut points = Vec::new();
    for (name, sizes) in read_points(&options.points)? {
        if options
            .only
            .as_ref()
            .is_some_and(|only| !only.contains(&name))
        {
            continue;
        }
        let trace = Trace::open(&options.traces.join(format!("{name}.kvt.zst")))?;
        for memory_mib in sizes {
            points.push(run_point(options, &trace, &name, memory_mib));
        }
    }
    let table = table(&points);
    let text = options.servers.describe()
        + &table.to_text()
        + "Hit ratios in percent, differences in points (ours less theirs); misses gone: percent \
           of their misses that ours does not have.\n"
        + &notes(&points);
    options.output.write(&text, &table, &points)?;
    Ok(text)
}

fn run_point(options: &ReplayCompareOptions, trace: &Trace, name: &str, memory_mib: u64) -> Point {
    let mut point = Point {
        trace: name.to_string(),
        memory_mib,
        theirs: None,
        ours: None,
        error: None,
    };
    for side in Side::BOTH {
        let replayed = options.servers.start(side, memory_mib).and_then(|server| {
            let process = (&server.address, Some(server.pid()));
            replay_on(trace, process, &options.pace, &mut |_| ())
        });
        let place = match side {
            Side::Theirs => &mut point.theirs,
            Side::Ours => &mut point.ours,
        };
        let side = side.name();
        match replayed {
            Ok(replayed) => {
                let (hits, bytes) = (replayed.hit_ratio(), replayed.byte_hit_ratio());
                options.output.progress(&format!(
                    "{name} {memory_mib} MiB {side}: {hits:.2} % hits, {bytes:.2} % of bytes, \
                     {:.1} s",
                    replayed.seconds
                ));
                if let Some(first_error) = &replayed.first_error {
                    point.error = Some(format!("{side}: {first_error}"));
                }
                *place = Some(replayed);
            }
            Err(failure) => point.error = Some(format!("{side}: {failure}")),
        }
    }
    point
}

/// Advantage of the server under test over the reference server at a point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Gain {
    hits: f64,
    bytes: f64,
    misses_gone: f64,
}

fn gain(theirs: &Replayed, ours: &Replayed) -> Gain {
    let (their_misses, our_misses) = (theirs.misses() as f64, ours.misses() as f64);
    Gain {
        hits: ours.hit_ratio() - theirs.hit_ratio(),
        bytes: ours.byte_hit_ratio() - theirs.byte_hit_ratio(),
        misses_gone: 100.0 * (their_misses - our_misses) / their_misses.max(1.0),
    }
}

fn table(points: &[Point]) -> Table {
    let mut table = Table::new(&[
        "trace",
        "MiB",
        "hits theirs",
        "ours",
        "diff",
        "bytes theirs",
        "ours",
        "diff",
        "misses gone",
        "RSS theirs",
        "ours",
        "CPU ns theirs",
        "ours",
    ]);
    let (mut sum, mut count) = (Gain::default(), 0.0);
    for point in points {
        let mut row = vec![point.trace.clone(), point.memory_mib.to_string()];
        let (Some(theirs), Some(ours)) = (&point.theirs, &point.ours) else {
            table.push_failed(row);
            continue;
        };
        let gain = gain(theirs, ours);
        (sum.hits, sum.bytes) = (sum.hits + gain.hits, sum.bytes + gain.bytes);
        (sum.misses_gone, count) = (sum.misses_gone + gain.misses_gone, count + 1.0);
        row.extend([theirs, ours].map(|side| format!("{:.2}", side.hit_ratio())));
        row.push(format!("{:+.2}", gain.hits));
        row.extend([theirs, ours].map(|side| format!("{:.2}", side.byte_hit_ratio())));
        row.push(format!("{:+.2}", gain.bytes));
        row.push(format!("{:.1}", gain.misses_gone));
        let mib = |side: &Replayed| side.resident_bytes.unwrap_or(0) as f64 / f64::from(1 << 20);
        row.extend([theirs, ours].map(|side| format!("{:.0}", mib(side))));
        let cpu = |side: &Replayed| side.server_cpu_ns.unwrap_or(0.0);
        row.extend([theirs, ours].map(|side| format!("{:.0}", cpu(side))));
        table.push(row);
    }
    if count > 0.0 {
        let mut row = vec!["mean".to_string()];
        row.resize(table.head.len(), String::new());
        row[4] = format!("{:+.2}", sum.hits / count);
        row[7] = format!("{:+.2}", sum.bytes / count);
        row[8] = format!("{:.1}", sum.misses_gone / count);
        table.push(row);
    }
    table
}

fn notes(points: &[Point]) -> String {
    let mut text = String::new();
    for point in points {
        if let Some(error) = &point.error {
            text += &format!("{} at {} MiB: {error}\n", point.trace, point.memory_mib);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Gain, Point, gain, table};
    use crate::replay::Replayed;

    fn replayed(hits: u64, bytes_found: u64) -> Replayed {
        Replayed {
            gets: 100,
            bytes_wanted: 1000,
            hits,
            bytes_found,
            ..Replayed::default()
        }
    }

    #[test]
    fn gains_are_in_points_and_in_misses() {
        let wanted = Gain {
            hits: 10.0,
            bytes: -5.0,
            misses_gone: 20.0,
        };
        assert_eq!(gain(&replayed(50, 400), &replayed(60, 350)), wanted);
    }

    #[test]
    fn the_mean_leaves_out_points_that_failed() {
        let point = |ours| Point {
            trace: "t".into(),
            memory_mib: 64,
            theirs: Some(replayed(50, 500)),
            ours,
            error: None,
        };
        let points = [
            point(Some(replayed(54, 500))),
            point(None),
            point(Some(replayed(52, 500))),
        ];
        let table = table(&points);
        assert_eq!(table.rows[1][4], "-");
        assert_eq!(table.rows[3][4], "+3.00");
        assert_eq!(table.rows[3][8], "6.0");
    }
}
