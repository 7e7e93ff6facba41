//! `memory`: resident memory of two servers under loads designed to exceed the memory limit.
//!
//! Runs the scenes of `scenes` in sequence against a single process of each server. A scene
//! therefore starts with the memory left by the previous scene. Records the memory over time and
//! compares it with the limit and the bound; `plot` draws it. If a server dies, it is restarted for
//! the next scene, and the table reports that.
//!
//! A second family of scenes, in `hostile`, uses thousands of clients to make a server hold memory.
//! `scene_names` parses the names of both families.

pub mod bound;
pub mod hostile;
pub mod plot;
pub mod recorder;
pub mod scene_names;
pub mod scenes;
pub mod watchdog;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::batch_client::{BatchClient, ReplyCounts};
use crate::client::Client;
use crate::failure::Failure;
use crate::process::ServerProcess;
use crate::random::Random;
use crate::report::{OutputOptions, Table};
use crate::servers::{ServersOptions, Side};

use self::bound::bound;
use self::hostile::{HostileOptions, hostile};
use self::recorder::{Recorder, Row, from_csv, to_table};
use self::scene_names::{SceneName, Selected, select};
use self::scenes::{Scene, SceneContext, largest_value};

const MIB: u64 = 1 << 20;
/// Key length in bytes.
const KEY_LENGTH: usize = 20;
/// Maximum item size that is requested, in MiB; a server may accept only less.
const ITEM_MIB: u64 = 512;

/// Options of `memory`.
#[derive(Clone, Debug, clap::Args)]
pub struct MemoryOptions {
    /// The servers
    #[command(flatten)]
    pub servers: ServersOptions,
    /// Memory limit of each server in MiB
    #[arg(short = 'm', long, value_name = "MIB", default_value_t = 256)]
    pub memory: u64,
    /// Number of items in the load `table`
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    pub small_items: u32,
    /// Scenes to run, or a family of scenes
    #[arg(
        long,
        alias = "only",
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = SceneName::parser(),
        default_value = "loads"
    )]
    pub scenes: Vec<SceneName>,
    /// Restart both servers for each load; hostile scenes always do
    #[arg(long)]
    pub fresh: bool,
    /// Hostile scenes
    #[command(flatten)]
    pub hostile: HostileOptions,
    /// Draw the resident memory over time into this SVG file; loads only
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub svg: Option<PathBuf>,
    /// Output files; the CSV file of the loads contains the memory over time
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Options of `memory-plot`.
#[derive(Clone, Debug, clap::Args)]
pub struct MemoryPlotOptions {
    /// The CSV file written by `memory --csv`
    pub csv: PathBuf,
    /// The SVG file to write
    pub svg: PathBuf,
}

/// Measures both servers and returns the text to print.
pub fn memory(options: &MemoryOptions) -> Result<String, Failure> {
    let (servers, output) = (&options.servers, &options.output);
    match select(&options.scenes)? {
        Selected::Loads(scenes) => loads(options, &scenes),
        Selected::Hostile(_) if options.svg.is_some() => Err(Failure::Usage(
            "--svg: there is no drawing of hostile scenes".to_string(),
        )),
        Selected::Hostile(scenes) => {
            hostile(servers, options.memory, &options.hostile, &scenes, output)
        }
    }
}

fn loads(options: &MemoryOptions, scenes: &[Scene]) -> Result<String, Failure> {
    options.servers.pin()?;
    let mut table = Table::new(&[
        "scenario",
        "server",
        "RSS peak, MiB",
        "peak/limit",
        "bound kept",
        "RSS end, MiB",
        "items",
        "sets",
        "refused",
        "wrong",
        "bad answers",
    ]);
    let (mut text, mut rows) = (options.servers.describe(), Vec::new());
    for side in Side::BOTH {
        let mut runner = SceneRunner::new(options, side);
        for &scene in scenes {
            let row = runner.run(scene);
            options.output.progress(&row.join("  "));
            table.push(row);
        }
        text += &runner.describe();
        rows.append(&mut runner.finish());
    }
    text += "The bound is 1.1 x limit + 24 MiB.\n";
    // Group the rows of both servers by scene.
    table.rows.sort_by_key(|row| {
        let place = |scene: &Scene| scene.name() == row[0];
        Scene::ALL.iter().position(place)
    });
    text += &table.to_text();
    options.output.write(&text, &to_table(&rows), &rows)?;
    if let Some(path) = &options.svg {
        draw(path, &rows)?;
    }
    Ok(text)
}

/// Draws the graph from a CSV file.
pub fn memory_plot(options: &MemoryPlotOptions) -> Result<String, Failure> {
    let reading = Failure::io(format!("reading {}", options.csv.display()));
    let rows = from_csv(&fs::read_to_string(&options.csv).map_err(reading)?)?;
    draw(&options.svg, &rows)?;
    Ok(format!("{} rows drawn\n", rows.len()))
}

fn draw(path: &Path, rows: &[Row]) -> Result<(), Failure> {
    let writing = Failure::io(format!("writing {}", path.display()));
    fs::write(path, plot::svg(rows)?).map_err(writing)
}

/// Runs scenes on a server.
struct SceneRunner<'a> {
    options: &'a MemoryOptions,
    side: Side,
    begun: Instant,
    running: Option<(ServerProcess, SceneContext)>,
    item_mib: u64,
    rows: Vec<Row>,
}

impl<'a> SceneRunner<'a> {
    fn new(options: &'a MemoryOptions, side: Side) -> Self {
        SceneRunner {
            options,
            side,
            begun: Instant::now(),
            running: None,
            item_mib: 0,
            rows: Vec::new(),
        }
    }

    fn describe(&self) -> String {
        let (name, memory) = (self.side.name(), self.options.memory);
        format!("{name}: -m {memory} -I {}m\n", self.item_mib)
    }

    /// Runs a scene and returns its row of the table.
    fn run(&mut self, scene: Scene) -> Vec<String> {
        if self.options.fresh {
            self.close();
        }
        let outcome = self.try_run(scene);
        // The rows are complete only now, even if the scene has failed.
        let of_scene = |row: &&Row| row.scenario == scene.name();
        let running = self.running.as_mut();
        let (counts, rows) =
            running.map_or((ReplyCounts::default(), Vec::new()), |(_, context)| {
                (
                    context.batch_client.take_counts(),
                    context.recorder.take_rows(),
                )
            });
        self.rows.extend(rows);
        let rows: Vec<&Row> = self.rows.iter().filter(of_scene).collect();
        let mut row = vec![scene.name().to_string(), self.side.name().to_string()];
        row.extend(result_cells(&rows, &counts));
        if let Err(failure) = outcome {
            let cell = row.last_mut().expect("the row has cells");
            *cell = format!("{failure}; {cell}");
            self.close();
        }
        row
    }

    fn try_run(&mut self, scene: Scene) -> Result<(), Failure> {
        if self.running.is_none() {
            self.running = Some(self.start()?);
        }
        let (_, context) = self.running.as_mut().expect("started above");
        context.recorder.begin_scenario(scene.name());
        scene.run(context)?;
        context.end_phase()
    }

    /// Starts the server with the largest maximum item size that it accepts.
    fn start(&mut self) -> Result<(ServerProcess, SceneContext), Failure> {
        let memory = self.options.memory;
        let mut failure = None;
        for item_mib in [ITEM_MIB, (memory / 2).max(1)] {
            match self.start_with(item_mib) {
                Ok(running) => {
                    self.item_mib = item_mib;
                    return Ok(running);
                }
                Err(refusal) => failure = Some(refusal),
            }
        }
        Err(failure.expect("both attempts failed"))
    }

    fn start_with(&self, item_mib: u64) -> Result<(ServerProcess, SceneContext), Failure> {
        let options = self.options;
        let limit = options.memory * MIB;
        let mut launch = options.servers.launch(self.side, options.memory)?;
        launch
            .extra
            .extend(["-I".to_string(), format!("{item_mib}m")]);
        let server = ServerProcess::start(&launch)?;
        let client = Client::connect(&server.address, true)?;
        let context = SceneContext {
            batch_client: BatchClient::new(client, KEY_LENGTH, largest_value(limit)),
            recorder: Recorder::new(self.side, server.pid(), self.begun, limit),
            random: Random::new(11),
            limit,
            small_items: options.small_items,
            next_key: 0,
        };
        Ok((server, context))
    }

    fn close(&mut self) {
        self.running = None;
    }

    fn finish(mut self) -> Vec<Row> {
        self.close();
        self.rows
    }
}

/// Returns the result columns of a scene.
fn result_cells(rows: &[&Row], counts: &ReplyCounts) -> Vec<String> {
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / MIB as f64);
    let peak = rows.iter().map(|row| row.rss_bytes).max().unwrap_or(0);
    let ratios = rows
        .iter()
        .map(|row| row.rss_bytes as f64 / row.limit_bytes as f64);
    let over = rows
        .iter()
        .map(|row| row.rss_bytes.saturating_sub(bound(row.limit_bytes)))
        .max()
        .unwrap_or(0);
    let last = rows.last();
    vec![
        mib(peak),
        format!("{:.3}", ratios.fold(0.0, f64::max)),
        match over {
            0 => "yes".to_string(),
            over => format!("NO: +{} MiB", mib(over)),
        },
        mib(last.map_or(0, |row| row.rss_bytes)),
        last.map_or(0, |row| row.items).to_string(),
        counts.sets.to_string(),
        counts.refused().to_string(),
        counts.wrong_values.to_string(),
        match counts.refusal_text() {
            text if text.is_empty() => "-".to_string(),
            text => text,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::{MIB, Row, result_cells};
    use crate::batch_client::ReplyCounts;

    fn row(rss_mib: u64, limit_mib: u64) -> Row {
        Row {
            server: String::new(),
            scenario: String::new(),
            phase: String::new(),
            seconds: 0.0,
            rss_bytes: rss_mib * MIB,
            limit_bytes: limit_mib * MIB,
            items: 5,
            sets: 0,
            refused: 0,
            bad_answers: String::new(),
        }
    }

    #[test]
    fn rows_are_judged_by_the_limit_of_their_time() {
        let (full, lowered) = (row(130, 100), row(60, 25));
        let cells = result_cells(&[&full], &ReplyCounts::default());
        assert_eq!(&cells[..5], ["130.0", "1.300", "yes", "130.0", "5"]);
        let cells = result_cells(&[&full, &lowered], &ReplyCounts::default());
        assert_eq!(&cells[..3], ["130.0", "2.400", "NO: +8.5 MiB"]);
    }
}
