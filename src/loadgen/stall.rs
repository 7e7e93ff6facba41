//! `stall`: the longest pauses a client sees while another fills the server.
//!
//! One connection gets a key every millisecond; another sets new items as fast as they are
//! accepted. Both are served by one spinning thread, so that the scheduler does not show up as the
//! server's pause. A probe that is late makes those due meanwhile late as well, and they count.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use memchr::memchr_iter;
use serde::Serialize;

use super::address::Stream;
use super::density::Filler;
use super::failure::Failure;
use super::process::ServerProcess;
use super::report::{Latency, OutputOptions, Table};
use super::versus::{Side, VersusOptions};

const PROBE_EVERY: Duration = Duration::from_millis(1);
const KEY_LENGTH: usize = 20;
/// The key that is probed: not among those inserted.
const PROBE: &[u8] = b"set probe 0 0 5\r\nhello\r\n";
const PROBE_GET: &[u8] = b"get probe\r\n";
const PROBE_ANSWER: &[u8] = b"VALUE probe 0 5\r\nhello\r\nEND\r\n";
const STORED: &[u8] = b"STORED\r\n";
/// Sets written at once, and sets that may be unanswered.
const BATCH: u32 = 64;
const WINDOW: u32 = 512;

/// Options of `stall`.
#[derive(Clone, Debug, clap::Args)]
pub struct StallOptions {
    /// The servers
    #[command(flatten)]
    pub versus: VersusOptions,
    /// Items to insert, in millions
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    pub millions: f64,
    /// Bytes of a value (keys have 20)
    #[arg(long, value_name = "BYTES", default_value_t = 32)]
    pub value_size: usize,
    /// Memory of each server in MiB: enough for all items
    #[arg(long, value_name = "MIB", default_value_t = 8192)]
    pub memory: u64,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Clone, Debug, Serialize)]
struct Stall {
    server: &'static str,
    items: u32,
    sets_per_second: f64,
    probes: u64,
    latency_us: Latency,
    over_10_ms: u64,
    evictions: u64,
}

/// Measures both servers and returns what is to be printed.
pub fn stall(options: &StallOptions) -> Result<String, Failure> {
    options.versus.pin()?;
    let mut table = Table::new(&[
        "server",
        "items",
        "sets/s",
        "probes",
        "p50, ms",
        "p99",
        "p99.9",
        "max",
        "over 10 ms",
        "evictions",
    ]);
    let mut found = Vec::new();
    for side in Side::BOTH {
        match measure(options, side) {
            Ok(stall) => {
                table.push(row(&stall));
                found.push(stall);
            }
            Err(failure) => {
                table.push_failed(vec![format!("{}: {failure}", side.name())]);
            }
        }
    }
    let text = options.versus.describe() + &table.to_text();
    options.output.write(&text, &table, &found)?;
    Ok(text)
}

fn row(stall: &Stall) -> Vec<String> {
    let latency = &stall.latency_us;
    let mut row = vec![stall.server.to_string(), stall.items.to_string()];
    row.push(format!("{:.0}", stall.sets_per_second));
    row.push(stall.probes.to_string());
    let times = [latency.p50, latency.p99, latency.p999, latency.max];
    row.extend(times.map(|us| format!("{:.2}", us / 1000.0)));
    row.extend([stall.over_10_ms.to_string(), stall.evictions.to_string()]);
    row
}

fn measure(options: &StallOptions, side: Side) -> Result<Stall, Failure> {
    let server = options.versus.start(side, options.memory)?;
    let items = (options.millions * 1e6) as u32;
    let mut inserter = Inserter::new(&server, items, options.value_size)?;
    let mut prober = Prober::new(&server)?;
    let begun = Instant::now();
    let mut last_line = begun;
    while inserter.answered < items {
        inserter.turn()?;
        prober.turn()?;
        if last_line.elapsed().as_secs() >= 2 {
            last_line = Instant::now();
            let millions = f64::from(inserter.answered) / 1e6;
            options
                .output
                .progress(&format!("{}: {millions:.1} million items", side.name()));
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    prober.finish()?;
    let histogram = &prober.latency;
    Ok(Stall {
        server: side.name(),
        items,
        sets_per_second: f64::from(items) / seconds,
        probes: histogram.len(),
        latency_us: Latency::of(histogram),
        over_10_ms: histogram.count_between(10_000_000, histogram.high()),
        evictions: server.client()?.stat("evictions")?,
    })
}

/// Sets new items, a window of them unanswered.
struct Inserter {
    stream: Stream,
    filler: Filler,
    size: usize,
    items: u32,
    sent: u32,
    answered: u32,
    request: Vec<u8>,
    written: usize,
    buffer: Vec<u8>,
}

impl Inserter {
    fn new(server: &ServerProcess, items: u32, size: usize) -> Result<Self, Failure> {
        Ok(Inserter {
            stream: connect(server)?,
            filler: Filler::new(KEY_LENGTH, size),
            size,
            items,
            sent: 0,
            answered: 0,
            request: Vec::new(),
            written: 0,
            buffer: vec![0; 64 * 1024],
        })
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let room = self.sent - self.answered + BATCH <= WINDOW && self.sent < self.items;
        if self.written == self.request.len() && room {
            self.request.clear();
            self.written = 0;
            let end = self.items.min(self.sent + BATCH);
            for key in self.sent..end {
                self.filler.push_set(&mut self.request, key, self.size);
            }
            self.sent = end;
        }
        if self.written < self.request.len() {
            self.written += now_or_zero(self.stream.write(&self.request[self.written..]))?;
        }
        let n = now_or_zero(self.stream.read(&mut self.buffer))?;
        let lines = memchr_iter(b'\n', &self.buffer[..n]).count();
        self.answered += lines as u32;
        // An error line has letters (or a space) that "STORED" has not, however it is cut.
        if self.buffer[..n].iter().all(|byte| STORED.contains(byte)) {
            return Ok(());
        }
        let text = self.buffer[..n.min(80)].escape_ascii();
        Err(Failure::Server(format!("a set was refused: {text}")))
    }
}

/// Gets one key every millisecond.
struct Prober {
    stream: Stream,
    due: Instant,
    waiting: bool,
    answer: Vec<u8>,
    latency: Histogram<u64>,
}

impl Prober {
    fn new(server: &ServerProcess) -> Result<Self, Failure> {
        let mut prober = Prober {
            stream: connect(server)?,
            due: Instant::now(),
            waiting: false,
            answer: Vec::new(),
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3)
                .expect("the bounds are constants that fit"),
        };
        prober
            .stream
            .write_all(PROBE)
            .map_err(Failure::io("writing to the server"))?;
        while prober.answer != STORED {
            prober.read()?;
        }
        prober.answer.clear();
        prober.due = Instant::now();
        Ok(prober)
    }

    fn turn(&mut self) -> Result<(), Failure> {
        if !self.waiting {
            if Instant::now() >= self.due {
                let writing = Failure::io("writing to the server");
                self.stream.write_all(PROBE_GET).map_err(writing)?;
                self.waiting = true;
            }
            return Ok(());
        }
        self.read()?;
        if self.answer.len() < PROBE_ANSWER.len() {
            return Ok(());
        }
        if self.answer != PROBE_ANSWER {
            let text = self.answer.escape_ascii();
            return Err(Failure::Server(format!(
                "the probe was answered \"{text}\""
            )));
        }
        self.answer.clear();
        self.waiting = false;
        let now = Instant::now();
        while self.due <= now {
            self.latency
                .saturating_record((now - self.due).as_nanos().max(1) as u64);
            self.due += PROBE_EVERY;
        }
        Ok(())
    }

    /// Waits for the probe under way, if any.
    fn finish(&mut self) -> Result<(), Failure> {
        while self.waiting {
            self.turn()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut buffer = [0u8; 256];
        let n = now_or_zero(self.stream.read(&mut buffer))?;
        self.answer.extend_from_slice(&buffer[..n]);
        Ok(())
    }
}

fn connect(server: &ServerProcess) -> Result<Stream, Failure> {
    Stream::connect(&server.address).map_err(Failure::io("connecting"))
}

/// The bytes moved: 0 if the socket is not ready, an error if it is closed.
fn now_or_zero(result: std::io::Result<usize>) -> Result<usize, Failure> {
    match result {
        Ok(0) => Err(Failure::Server("closed the connection".to_string())),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(0)
        }
        result => result.map_err(Failure::io("talking to the server")),
    }
}
