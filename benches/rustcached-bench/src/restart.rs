//! `restart`: clean restarts of servers that keep their items.
//!
//! Each round starts a fresh server with `-e` or `--save-path`, fills it, stops it cleanly, and
//! starts it again. It measures the time of the stop, and the time from before the second process
//! is created until the first hit. Then it reads the item count and gets a random sample of the
//! keys, whose values are verified. The variants take turns within a round, and every round begins
//! with another one.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::Serialize;

use crate::batch_client::BatchClient;
use crate::client::Client;
use crate::density::Shape;
use crate::failure::Failure;
use crate::process::{Launch, ServerProcess};
use crate::random::Random;
use crate::report::{OutputOptions, Table, median};
use crate::servers::{ServersOptions, Side};

/// Default folder of all files: a file system in memory.
const FOLDER: &str = "/dev/shm";

/// Options of `restart`.
#[derive(Clone, Debug, clap::Args)]
pub struct RestartOptions {
    /// The servers
    #[command(flatten)]
    pub servers: ServersOptions,
    /// Another reference server, measured in the same rounds; may be repeated
    #[arg(long, value_name = "PATH", help_heading = "Servers")]
    pub also: Vec<PathBuf>,
    /// Rounds; results are medians over the rounds
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,
    /// Numbers of items, each measured on its own
    #[arg(
        long,
        value_name = "N",
        value_delimiter = ',',
        default_value = "5000000"
    )]
    pub items: Vec<u32>,
    /// Shape of the items, as KEY+VALUE in bytes
    #[arg(long, value_name = "SHAPE", default_value = "20+32")]
    pub shape: Shape,
    /// Memory limit of each server in MiB; it must be enough for all items
    #[arg(short = 'm', long, value_name = "MIB", default_value_t = 8192)]
    pub memory: u64,
    /// Folder of the files of -e, on a file system in memory
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    pub memory_dir: PathBuf,
    /// Folder of the file of --save-path
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    pub save_dir: PathBuf,
    /// Seconds between the stop and the second start
    #[arg(long, value_name = "SECONDS", default_value_t = 1.5)]
    pub pause: f64,
    /// Keys to get after the restart
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub sample: u32,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

/// A server with one of the options that keep items.
#[derive(Clone, Debug)]
struct Variant {
    name: String,
    launch: Launch,
    /// The option, which takes a file.
    option: &'static str,
    /// Folder for the file.
    folder: PathBuf,
    /// The signal that stops the server cleanly.
    signal: Signal,
}

/// The rounds of a variant with a number of items.
#[derive(Clone, Debug, Serialize)]
struct Restarts {
    variant: String,
    items: u32,
    rounds: Vec<Round>,
    error: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Round {
    stop_seconds: f64,
    /// Time from the second start to the first hit.
    hit_seconds: f64,
    /// The server's own item count after the restart.
    kept: u64,
    sampled: u32,
    sample_hits: u64,
    wrong_values: u64,
}

/// Measures all variants and returns the text to print.
pub fn restart(options: &RestartOptions) -> Result<String, Failure> {
    if options.rounds == 0 || options.sample == 0 || options.items.contains(&0) {
        let what = "rounds, items, sample: at least 1";
        return Err(Failure::Usage(what.to_string()));
    }
    let pause = Duration::try_from_secs_f64(options.pause);
    let pause = pause.map_err(|error| Failure::Usage(format!("pause: {error}")))?;
    options.servers.pin()?;
    let variants = variants(options)?;
    let mut found = Vec::new();
    for &items in &options.items {
        let mut all: Vec<Restarts> = variants
            .iter()
            .map(|variant| Restarts {
                variant: variant.name.clone(),
                items,
                rounds: Vec::new(),
                error: None,
            })
            .collect();
        for round in 0..options.rounds {
            for turn in 0..variants.len() {
                let number = (round + turn) % variants.len();
                let restarts = &mut all[number];
                if restarts.error.is_none() {
                    match measure(options, &variants[number], items, pause) {
                        Ok(round) => restarts.rounds.push(round),
                        Err(failure) => restarts.error = Some(failure.to_string()),
                    }
                    options.output.progress(&restarts.progress_line());
                }
            }
        }
        found.append(&mut all);
    }
    let text = format!(
        "{}{} bytes of key + value, -m {}, {} s between stop and start, -e in {}, --save-path in {}\n\
         {}",
        options.servers.describe(),
        options.shape,
        options.memory,
        options.pause,
        options.memory_dir.display(),
        options.save_dir.display(),
        medians(&found).to_text()
    );
    options.output.write(&text, &every_round(&found), &found)?;
    Ok(text)
}

/// Returns the variants in the order of the rows.
fn variants(options: &RestartOptions) -> Result<Vec<Variant>, Failure> {
    let launch = |side| options.servers.launch(side, options.memory);
    let in_memory = |name: &str, launch, signal| Variant {
        name: format!("{name} -e"),
        launch,
        option: "-e",
        folder: options.memory_dir.clone(),
        signal,
    };
    let mut variants = vec![in_memory("theirs", launch(Side::Theirs)?, Signal::SIGUSR1)];
    for path in &options.also {
        let launch = Launch {
            binary: path.clone(),
            ..launch(Side::Theirs)?
        };
        let name = path.display().to_string();
        variants.push(in_memory(&name, launch, Signal::SIGUSR1));
    }
    variants.push(in_memory("ours", launch(Side::Ours)?, Signal::SIGTERM));
    variants.push(Variant {
        name: "ours --save-path".to_string(),
        launch: launch(Side::Ours)?,
        option: "--save-path",
        folder: options.save_dir.clone(),
        signal: Signal::SIGTERM,
    });
    Ok(variants)
}

fn measure(
    options: &RestartOptions,
    variant: &Variant,
    items: u32,
    pause: Duration,
) -> Result<Round, Failure> {
    let folder = Folder::create(&variant.folder)?;
    let mut launch = variant.launch.clone();
    let file = folder.0.join("items").display().to_string();
    launch.extra.extend([variant.option.to_string(), file]);
    let Shape {
        key_length,
        value_size,
    } = options.shape;
    let connect = |server: &ServerProcess| {
        let client = Client::connect(&server.address, true)?;
        Ok(BatchClient::new(client, key_length, value_size))
    };

    let server = ServerProcess::start(&launch)?;
    connect(&server)?.set_all((0..items).map(|key| (key, value_size)))?;
    let stop_time = server.stop(variant.signal)?;
    thread::sleep(pause);

    let mut random = Random::new(7);
    let keys = (0..options.sample).map(|_| random.below(items.into()) as u32);
    let begun = Instant::now();
    let server = ServerProcess::start(&launch)?;
    let mut client = connect(&server)?;
    let mut hit_time = None;
    for key in keys {
        client.get(key)?;
        if hit_time.is_none() {
            client.flush()?;
            hit_time = (client.counts().hits > 0).then(|| begun.elapsed());
        }
    }
    client.flush()?;
    let counts = client.take_counts();
    let Some(hit_time) = hit_time else {
        return Err(Failure::Server("kept none of the sample".to_string()));
    };
    Ok(Round {
        stop_seconds: stop_time.as_secs_f64(),
        hit_seconds: hit_time.as_secs_f64(),
        kept: client.client().stat("curr_items")?,
        sampled: options.sample,
        sample_hits: counts.hits,
        wrong_values: counts.wrong_values,
    })
}

impl Restarts {
    fn progress_line(&self) -> String {
        let head = format!(
            "{} items, round {}, {}",
            self.items,
            self.rounds.len(),
            self.variant
        );
        match (&self.error, self.rounds.last()) {
            (Some(error), _) => format!("{head}: {error}"),
            (None, Some(round)) => format!(
                "{head}: stop {:.3} s, first hit {:.3} s, {} kept",
                round.stop_seconds, round.hit_seconds, round.kept
            ),
            (None, None) => head,
        }
    }

    /// Returns the median of a number over the rounds, and its range.
    fn show(&self, figure: impl Fn(&Round) -> f64) -> String {
        let mut values: Vec<f64> = self.rounds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        let [first, .., last] = values[..] else {
            return format!("{:.2}", median(&values));
        };
        format!("{:.2} ({first:.2}-{last:.2})", median(&values))
    }
}

/// Returns the table of medians.
fn medians(found: &[Restarts]) -> Table {
    let mut table = Table::new(&[
        "server",
        "items",
        "rounds",
        "stop, s",
        "first hit, s",
        "kept (least)",
        "sample hits",
        "wrong",
        "remark",
    ]);
    for restarts in found {
        let rounds = &restarts.rounds;
        let mut row = vec![restarts.variant.clone(), restarts.items.to_string()];
        row.push(rounds.len().to_string());
        if rounds.is_empty() {
            row.extend(["-"; 5].map(String::from));
        } else {
            row.push(restarts.show(|round| round.stop_seconds));
            row.push(restarts.show(|round| round.hit_seconds));
            let least = rounds.iter().map(|round| round.kept).min();
            row.push(least.unwrap_or(0).to_string());
            let hits: u64 = rounds.iter().map(|round| round.sample_hits).sum();
            let sampled: u32 = rounds.iter().map(|round| round.sampled).sum();
            row.push(format!("{hits} of {sampled}"));
            let wrong: u64 = rounds.iter().map(|round| round.wrong_values).sum();
            row.push(wrong.to_string());
        }
        row.push(restarts.error.clone().unwrap_or_default());
        table.push(row);
    }
    table
}

/// Returns the table of every round, for CSV.
fn every_round(found: &[Restarts]) -> Table {
    let mut table = Table::new(&[
        "server",
        "items",
        "round",
        "stop_seconds",
        "hit_seconds",
        "kept",
        "sampled",
        "sample_hits",
        "wrong_values",
        "error",
    ]);
    for restarts in found {
        let names = [restarts.variant.clone(), restarts.items.to_string()];
        for (number, round) in restarts.rounds.iter().enumerate() {
            let mut row = names.to_vec();
            row.push((number + 1).to_string());
            row.extend([round.stop_seconds, round.hit_seconds].map(|s| format!("{s:.3}")));
            row.extend(
                [round.kept, round.sampled.into(), round.sample_hits].map(|n| n.to_string()),
            );
            row.extend([round.wrong_values.to_string(), String::new()]);
            table.push(row);
        }
        if let Some(error) = &restarts.error {
            let mut row = names.to_vec();
            row.resize(table.head.len() - 1, String::new());
            row.push(error.clone());
            table.push(row);
        }
    }
    table
}

/// A folder that is removed with its files when dropped.
struct Folder(PathBuf);

impl Folder {
    fn create(parent: &Path) -> Result<Self, Failure> {
        let name = format!("rustcached-bench-restart-{}", std::process::id());
        let path = parent.join(name);
        let creating = Failure::io(format!("creating {}", path.display()));
        fs::create_dir(&path).map_err(creating)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed has no bearing on the results.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Restarts, Round, every_round, medians};

    fn round(stop_seconds: f64) -> Round {
        Round {
            stop_seconds,
            hit_seconds: 1.0,
            kept: 10,
            sampled: 5,
            sample_hits: 5,
            wrong_values: 0,
        }
    }

    #[test]
    fn medians_come_with_their_range_and_failures_with_a_reason() {
        let restarts = |rounds: Vec<Round>, error: Option<&str>| Restarts {
            variant: "ours -e".to_string(),
            items: 10,
            rounds,
            error: error.map(ToString::to_string),
        };
        let found = [
            restarts(vec![round(3.0), round(1.0), round(2.0)], None),
            restarts(Vec::new(), Some("it is not there")),
        ];
        let rows = medians(&found).rows;
        assert_eq!(rows[0][3], "2.00 (1.00-3.00)");
        assert_eq!(rows[0][6], "15 of 15");
        assert_eq!(rows[1][8], "it is not there");
        let table = every_round(&found);
        assert_eq!(table.rows.len(), 4);
        assert!(table.rows.iter().all(|row| row.len() == table.head.len()));
    }
}
