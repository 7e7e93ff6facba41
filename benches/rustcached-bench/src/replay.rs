//! `replay`: replays a recorded request stream against a server and counts the hits.
//!
//! Uses a single connection and the order of the trace. Pipelines a batch of requests (consecutive
//! gets in a single line), then the sets for its misses. A batch ends before a key that it already
//! contains, so the requests for a key are never reordered. The value of every hit is compared.
//! Hits and misses are counted by the client.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::address::Address;
use super::client::Client;
use super::content::{KeyNames, Values};
use super::failure::Failure;
use super::process::{cpu_ns, resident_bytes};
use super::replies::{Outcome, ReplyHandler};
use super::report::{OutputOptions, Table};
use super::trace::{Operation, Trace};
use super::wire::{Expected, Kind, push_delete, push_get, push_set};

const CRLF: &[u8] = b"\r\n";

/// Parameters of a replay.
#[derive(Clone, Debug, clap::Args)]
pub struct PaceOptions {
    /// Requests pipelined before the sets for their misses
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub batch: usize,
    /// Factor for TTLs, which are then rounded up to whole seconds; 0 omits them. At 1, TTLs are
    /// sent as recorded. A replay runs many times faster than the trace was recorded, so most items
    /// then do not expire during it. TTLs below a second are not possible.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub ttl_scale: f64,
    /// Send N requests per second, or as many as the server can do if that is less; "trace" is the
    /// recorded rate, at which TTLs end as recorded [default: as many as the server can do]
    #[arg(long, value_name = "N|trace")]
    pub rate: Option<Rate>,
    /// Only the first N requests of each trace
    #[arg(long, value_name = "N")]
    pub requests: Option<usize>,
}

/// Rate of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Requests per second.
    PerSecond(u32),
    /// The recorded rate.
    Recorded,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "trace" => Ok(Self::Recorded),
            number => match number.parse() {
                Ok(number) if number > 0 => Ok(Self::PerSecond(number)),
                _ => Err("neither a number above 0 nor \"trace\"".to_string()),
            },
        }
    }
}

impl PaceOptions {
    /// Returns the requests per second to send of a trace; `None` for as many as the server can do.
    fn requests_per_second(&self, trace: &Trace) -> Option<f64> {
        let rate = match self.rate? {
            Rate::PerSecond(number) => number,
            Rate::Recorded => trace.requests_per_second,
        };
        (rate > 0).then(|| f64::from(rate))
    }
}

/// Options of `replay`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayOptions {
    /// The traces: .kvt.zst files, replayed in this order
    #[arg(value_name = "TRACE", required = true)]
    pub traces: Vec<PathBuf>,
    /// The server: HOST:PORT or unix:PATH
    #[arg(long, short, value_name = "ADDRESS")]
    pub server: Address,
    /// Measure CPU time and memory of this process
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Invalidate all items (flush_all) before each trace
    #[arg(long)]
    pub flush: bool,
    /// How to replay
    #[command(flatten)]
    pub pace: PaceOptions,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Results of a replay.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Replayed {
    /// Name of the trace.
    pub trace: String,
    /// Requests sent, without the sets after misses.
    pub requests: u64,
    /// Gets among the requests.
    pub gets: u64,
    /// Gets that were hits.
    pub hits: u64,
    /// Bytes of the values of all gets.
    pub bytes_wanted: u64,
    /// Bytes of the values of hits.
    pub bytes_found: u64,
    /// Sets and deletes that were refused.
    pub refused: u64,
    /// Hits with a value that does not belong to the key.
    pub wrong_values: u64,
    /// Description of the first refusal or wrong value.
    pub first_error: Option<String>,
    /// Number of evictions, as counted by the server.
    pub evictions: u64,
    /// Duration in seconds.
    pub seconds: f64,
    /// The server's CPU time per request in nanoseconds, if its process is known.
    pub server_cpu_ns: Option<f64>,
    /// The server's resident memory at the end in bytes, if its process is known.
    pub resident_bytes: Option<u64>,
}

impl Replayed {
    /// Returns the hits per get, in percent.
    pub fn hit_ratio(&self) -> f64 {
        percent(self.hits, self.gets)
    }

    /// Returns the bytes of hits per byte requested, in percent.
    pub fn byte_hit_ratio(&self) -> f64 {
        percent(self.bytes_found, self.bytes_wanted)
    }

    /// Returns the number of gets that were misses.
    pub fn misses(&self) -> u64 {
        self.gets - self.hits
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Replays the traces and returns the text to print.
pub fn replay(options: &ReplayOptions) -> Result<String, Failure> {
    let mut found = Vec::new();
    for path in &options.traces {
        let trace = Trace::open(path)?;
        if options.flush {
            let reply = Client::connect(&options.server, true)?.command("flush_all")?;
            if reply != "OK" {
                return Err(Failure::Server(format!("flush_all: {reply}")));
            }
        }
        let mut progress = |line: &str| options.output.progress(line);
        let server = (&options.server, options.server_pid);
        found.push(replay_on(&trace, server, &options.pace, &mut progress)?);
    }
    let table = table(&found);
    let mut text = table.to_text();
    for replayed in &found {
        if let Some(first_error) = &replayed.first_error {
            text += &format!("{}: {first_error}\n", replayed.trace);
        }
    }
    options.output.write(&text, &table, &found)?;
    Ok(text)
}

/// Replays a trace against a server. With the server's process ID, measures its CPU time and memory
/// too.
pub fn replay_on(
    trace: &Trace,
    (address, pid): (&Address, Option<u32>),
    pace: &PaceOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Replayed, Failure> {
    if pace.batch == 0 || pace.ttl_scale < 0.0 {
        return Err(Failure::Usage(
            "batch: at least 1; TTL scale: at least 0".to_string(),
        ));
    }
    let mut client = Client::connect(address, true)?;
    let evictions = client.stat("evictions")?;
    let cpu = pid.map(cpu_ns).transpose()?;
    let begun = Instant::now();
    let total = pace.requests.unwrap_or(usize::MAX).min(trace.len());
    let mut replayer = Replayer::new(trace, pace);
    let mut last_line = begun;
    let rate = pace.requests_per_second(trace);
    for request in trace.requests().take(total) {
        if replayer.is_full_for(request.key) {
            if let Some(rate) = rate {
                let due = Duration::from_secs_f64(replayer.found.requests as f64 / rate);
                thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            replayer.send_batch(&mut client)?;
            if last_line.elapsed().as_secs() >= 1 {
                last_line = Instant::now();
                let done = 100 * replayer.found.requests / total as u64;
                let ratio = replayer.found.hit_ratio();
                progress(&format!(
                    "{}  {done:3} %  {ratio:.2} % hits so far",
                    trace.name
                ));
            }
        }
        replayer.push(request.operation, request.key);
    }
    replayer.send_batch(&mut client)?;
    let mut found = replayer.found;
    found.seconds = begun.elapsed().as_secs_f64();
    found.evictions = client.stat("evictions")?.saturating_sub(evictions);
    if let (Some(pid), Some(before)) = (pid, cpu) {
        let spent = cpu_ns(pid)?.saturating_sub(before);
        found.server_cpu_ns = Some(spent as f64 / found.requests.max(1) as f64);
        found.resident_bytes = Some(resident_bytes(pid)?);
    }
    Ok(found)
}

/// Builds batches of requests and reads the replies.
struct Replayer<'a> {
    trace: &'a Trace,
    pace: &'a PaceOptions,
    names: KeyNames,
    values: Values,
    found: Replayed,
    request: Vec<u8>,
    expected: Vec<Expected>,
    in_batch: HashSet<u32>,
    /// Keys of the batch's gets, in order, and those that were hits.
    gets: Vec<u32>,
    hit: HashSet<u32>,
    name: Vec<u8>,
}

impl<'a> Replayer<'a> {
    fn new(trace: &'a Trace, pace: &'a PaceOptions) -> Self {
        Replayer {
            trace,
            pace,
            names: KeyNames::new(&format!("{}:", trace.name)),
            values: Values::new(trace.largest()),
            found: Replayed {
                trace: trace.name.clone(),
                ..Replayed::default()
            },
            request: Vec::new(),
            expected: Vec::new(),
            in_batch: HashSet::new(),
            gets: Vec::new(),
            hit: HashSet::new(),
            name: Vec::new(),
        }
    }

    /// Returns whether the batch must be sent before a request for `key` can be added.
    fn is_full_for(&self, key: u32) -> bool {
        self.in_batch.len() >= self.pace.batch || self.in_batch.contains(&key)
    }

    fn push(&mut self, operation: Operation, key: u32) {
        self.found.requests += 1;
        self.in_batch.insert(key);
        match operation {
            Operation::Get => {
                self.found.gets += 1;
                self.found.bytes_wanted += self.trace.size(key) as u64;
                self.push_get(key);
            }
            Operation::Set => self.push_set(key),
            Operation::Delete => {
                self.encode_key(key);
                push_delete(&mut self.request, &self.name);
                self.expected.push(Expected::one(Kind::Found, key));
            }
        }
    }

    /// Adds a get. If the previous request is a get, extends its line: this costs both sides less,
    /// and the server looks the keys up in the same order.
    fn push_get(&mut self, key: u32) {
        self.encode_key(key);
        self.gets.push(key);
        match self.expected.last_mut() {
            Some(last) if last.kind == Kind::Values => {
                last.keys += 1;
                self.request.truncate(self.request.len() - CRLF.len());
                self.request.push(b' ');
                self.request.extend_from_slice(&self.name);
                self.request.extend_from_slice(CRLF);
            }
            _ => {
                push_get(&mut self.request, "get", &self.name);
                self.expected.push(Expected::one(Kind::Values, key));
            }
        }
    }

    fn push_set(&mut self, key: u32) {
        self.encode_key(key);
        let (size, ttl) = (self.trace.size(key), self.scaled_ttl(key));
        push_set(&mut self.request, &self.name, ttl, size, |out| {
            self.values.push(out, key, size);
        });
        self.expected.push(Expected::one(Kind::Stored, key));
    }

    fn encode_key(&mut self, key: u32) {
        self.name.clear();
        self.names
            .push(&mut self.name, key, self.trace.key_length(key));
    }

    fn scaled_ttl(&self, key: u32) -> u32 {
        (f64::from(self.trace.ttl(key)) * self.pace.ttl_scale).ceil() as u32
    }

    /// Sends the batch, then the sets for its misses.
    fn send_batch(&mut self, client: &mut Client) -> Result<(), Failure> {
        self.exchange(client)?;
        self.in_batch.clear();
        let hit = std::mem::take(&mut self.hit);
        let gets = std::mem::take(&mut self.gets);
        for &key in gets.iter().filter(|key| !hit.contains(key)) {
            self.push_set(key);
        }
        self.exchange(client)
    }

    fn exchange(&mut self, client: &mut Client) -> Result<(), Failure> {
        if self.expected.is_empty() {
            return Ok(());
        }
        let request = std::mem::take(&mut self.request);
        let expected = std::mem::take(&mut self.expected);
        let mut reading = Reading(self);
        client.exchange(&request, &expected, &mut reading)?;
        (self.request, self.expected) = (request, expected);
        self.request.clear();
        self.expected.clear();
        Ok(())
    }
}

struct Reading<'p, 'a>(&'p mut Replayer<'a>);

impl ReplyHandler for Reading<'_, '_> {
    fn on_reply(&mut self, _index: usize, outcome: Outcome<'_>) {
        if let Outcome::Refused(line) = outcome {
            self.0.found.refused += 1;
            let text = || line.escape_ascii().to_string();
            self.0.found.first_error.get_or_insert_with(text);
        }
    }

    fn on_value(&mut self, _expected: &Expected, name: Option<&[u8]>, value: &[u8]) {
        let replayer = &mut *self.0;
        let key = name.and_then(|name| replayer.names.number(name));
        let key = key.filter(|key| replayer.in_batch.contains(key));
        let size = key.map_or(0, |key| replayer.trace.size(key));
        if let Some(key) = key
            && replayer.hit.insert(key)
        {
            replayer.found.hits += 1;
            replayer.found.bytes_found += size as u64;
        }
        if !key.is_some_and(|key| replayer.values.matches(key, size, value)) {
            replayer.found.wrong_values += 1;
            let name = name.unwrap_or_default();
            let text = || format!("wrong value for key {}", name.escape_ascii());
            replayer.found.first_error.get_or_insert_with(text);
        }
    }
}

fn table(found: &[Replayed]) -> Table {
    let mut table = Table::new(&[
        "trace",
        "requests",
        "gets",
        "hits",
        "hit %",
        "byte hit %",
        "evictions",
        "wrong",
        "refused",
        "seconds",
        "requests/s",
        "CPU ns/request",
        "resident MiB",
    ]);
    let optional =
        |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.0}"));
    for replayed in found {
        let mib = replayed
            .resident_bytes
            .map(|bytes| bytes as f64 / f64::from(1 << 20));
        table.push(vec![
            replayed.trace.clone(),
            replayed.requests.to_string(),
            replayed.gets.to_string(),
            replayed.hits.to_string(),
            format!("{:.2}", replayed.hit_ratio()),
            format!("{:.2}", replayed.byte_hit_ratio()),
            replayed.evictions.to_string(),
            replayed.wrong_values.to_string(),
            replayed.refused.to_string(),
            format!("{:.1}", replayed.seconds),
            format!(
                "{:.0}",
                replayed.requests as f64 / replayed.seconds.max(1e-9)
            ),
            optional(replayed.server_cpu_ns),
            optional(mib),
        ]);
    }
    table
}

/// Reads a list of points from a file: lines with a trace's name and memory limits in MiB, such as
/// `tw24 24,48,96`.
pub fn read_points(path: &Path) -> Result<Vec<(String, Vec<u64>)>, Failure> {
    let reading = Failure::io(format!("reading {}", path.display()));
    parse_points(&std::fs::read_to_string(path).map_err(reading)?)
}

fn parse_points(text: &str) -> Result<Vec<(String, Vec<u64>)>, Failure> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let point = |line: &str| {
        let (name, sizes) = line.split_once(char::is_whitespace)?;
        let sizes = sizes.split(',').map(|size| size.trim().parse().ok());
        Some((name.to_string(), sizes.collect::<Option<Vec<u64>>>()?))
    };
    lines
        .map(|line| point(line).ok_or_else(|| Failure::Usage(format!("not a point: {line:?}"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{PaceOptions, Replayer, parse_points};
    use crate::trace::{Operation, Trace, tests::encode};

    const PACE: PaceOptions = PaceOptions {
        batch: 3,
        ttl_scale: 1.5,
        rate: None,
        requests: None,
    };

    #[test]
    fn a_batch_ends_at_its_length_and_before_a_key_it_holds() {
        let bytes = encode(&[(1, 0, 9), (2, 3, 9), (3, 0, 9), (4, 0, 9)], &[]);
        let trace = Trace::read(bytes.as_slice()).unwrap();
        let mut replayer = Replayer::new(&trace, &PACE);
        replayer.push(Operation::Get, 0);
        replayer.push(Operation::Set, 1);
        assert!(replayer.is_full_for(0) && replayer.is_full_for(1) && !replayer.is_full_for(2));
        replayer.push(Operation::Delete, 2);
        assert!(replayer.is_full_for(3));
        assert_eq!(replayer.expected.len(), 3);
        let text = String::from_utf8(replayer.request.clone()).unwrap();
        let (gets, rest) = text.split_at("get tiny:0000\r\n".len());
        assert_eq!(gets, "get tiny:0000\r\n");
        assert!(rest.starts_with("set tiny:0001 0 5 2\r\n"), "{rest}");
        assert!(rest.ends_with("\r\ndelete tiny:0002\r\n"), "{rest}");
    }

    #[test]
    fn neighbouring_gets_share_a_line() {
        let bytes = encode(&[(1, 0, 6), (2, 3, 6), (3, 0, 6)], &[]);
        let trace = Trace::read(bytes.as_slice()).unwrap();
        let mut replayer = Replayer::new(&trace, &PACE);
        (0..2).for_each(|key| replayer.push(Operation::Get, key));
        replayer.push(Operation::Delete, 2);
        replayer.push(Operation::Get, 1);
        let lines = "get tiny:0 tiny:1\r\ndelete tiny:2\r\nget tiny:1\r\n";
        assert_eq!(String::from_utf8_lossy(&replayer.request), lines);
        assert_eq!(replayer.expected[0].keys, 2);
    }

    #[test]
    fn points_are_names_with_sizes() {
        let points = parse_points("# trace, sizes\n\noltp 64,128\ncdn 32\n").unwrap();
        let wanted = [
            ("oltp".to_string(), vec![64, 128]),
            ("cdn".to_string(), vec![32]),
        ];
        assert_eq!(points, wanted);
        assert!(parse_points("oltp").is_err());
        assert!(parse_points("oltp x").is_err());
    }
}
