//! Replays traces through a store in this process, without a server, and reports
//! hit ratios and what memory held:
//!
//! ```text
//! cargo bench --bench hits -- --traces DIR --points points.txt
//! ```
//!
//! With `--shift`, measures instead how many bytes are evicted for each byte that is
//! stored while item sizes change.
//!
//! Much faster than `rustcached-bench replay-compare`, for tuning. Time is that of
//! the trace, so that TTLs end as recorded.

use std::error::Error;

use clap::Parser;
use rustcached::config::{Eviction, Objective};
use rustcached::store::Hashed;
use rustcached::store::mrc::Observed;
use rustcached::time::Now;
use rustcached_bench::content::KeyNames;
use rustcached_bench::random::Random;
use rustcached_bench::report::{OutputOptions, Table};
use rustcached_bench::trace::{Operation, Trace};
use served::{START_MS, STEP_MS, Served, TraceOptions, percent};

mod served;

/// Replays traces through a store and reports hit ratios.
#[derive(Parser)]
struct Arguments {
    /// The traces
    #[command(flatten)]
    replays: TraceOptions,
    /// Eviction policy, or objective of the default policy
    #[arg(long, value_name = "POLICY", default_value = "balanced",
          value_parser = ["clock", "frequency", "hits", "balanced", "bytes"])]
    eviction: String,
    /// Measure evictions while item sizes change from small to large and back
    #[arg(long, conflicts_with = "traces")]
    shift: bool,
    /// Output files
    #[command(flatten)]
    output: OutputOptions,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn eviction(&self) -> Eviction {
        match self.eviction.as_str() {
            "clock" => Eviction::Clock,
            "frequency" => Eviction::Frequency,
            "hits" => Eviction::FrequencySize(Objective::Hits),
            "bytes" => Eviction::FrequencySize(Objective::Bytes),
            _ => Eviction::FrequencySize(Objective::Balanced),
        }
    }
}

/// Sums of a replay.
#[derive(Default)]
struct Sums {
    gets: u64,
    hits: u64,
    bytes_wanted: u64,
    bytes_found: u64,
    sets: u64,
}

/// Replays the trace at this rate, in requests per second. Bytes are those of
/// values.
fn replay(served: &mut Served, trace: &Trace, rate: u64) -> Sums {
    let names = KeyNames::new(&format!("{}:", trace.name));
    let values = vec![b'x'; trace.largest()];
    let mut sums = Sums::default();
    let (mut name, mut step) = (Vec::new(), 0);
    for (number, request) in trace.requests().enumerate() {
        let ms = number as u64 * 1000 / rate;
        served.now = Now::from_millis(START_MS + ms);
        if ms / STEP_MS != step {
            step = ms / STEP_MS;
            served.upkeep();
        }
        name.clear();
        names.push(&mut name, request.key, trace.key_length(request.key));
        let hash = served.store.hashed(&name).hash;
        let key = Hashed { key: &name, hash };
        let size = trace.size(request.key);
        let stores = match request.operation {
            Operation::Get => {
                let is_hit = matches!(served.get(&key), Observed::Hit { .. });
                sums.gets += 1;
                sums.hits += u64::from(is_hit);
                sums.bytes_wanted += size as u64;
                sums.bytes_found += if is_hit { size as u64 } else { 0 };
                !is_hit
            }
            Operation::Set => true,
            Operation::Delete => {
                served.delete(&key);
                false
            }
        };
        if stores {
            sums.sets += 1;
            served.set(&key, &values[..size], trace.ttl(request.key));
        }
    }
    sums
}

/// Memory limit of the measurement of shifts, in bytes.
const SHIFT_LIMIT: usize = 64 << 20;
/// Slices into which a phase is divided, and the bytes stored in each.
const SLICES: usize = 32;
const SLICE_BYTES: u64 = 4 << 20;
/// Phases: names, and the range of value sizes in bytes.
const PHASES: [(&str, u64, u64); 7] = [
    ("small", 100, 400),
    ("medium", 2000, 6000),
    ("large", 20_000, 100_000),
    ("medium", 2000, 6000),
    ("small", 100, 400),
    ("large", 20_000, 100_000),
    ("small", 100, 400),
];

/// Stores new keys in phases of different sizes. Returns a row for each phase.
/// A slice in which as many bytes are evicted as stored has the ratio 1.
fn shift(arguments: &Arguments) -> Table {
    let mut table = Table::new(&[
        "phase",
        "sets",
        "evictions",
        "for pages",
        "evicted/stored",
        "worst slice",
        "beyond, a set",
        "worst slice",
        "least item MiB",
    ]);
    let mut served = Served::new(SHIFT_LIMIT, arguments.eviction(), false);
    let values = vec![b'x'; 100_000];
    let mut random = Random::new(1);
    let mut number = 0u64;
    for (name, least, most) in PHASES {
        let before = served.store.stats().snapshot();
        let (mut stored, mut worst, mut worst_beyond) = (0, 0f64, 0f64);
        let (mut sets, mut least_held) = (0u64, u64::MAX);
        for _ in 0..SLICES {
            let begin = served.store.stats().snapshot();
            let (mut slice, mut slice_sets) = (0, 0u64);
            while slice < SLICE_BYTES {
                let key = format!("shift:{number:012}");
                let size = least + random.next_u64() % (most - least);
                let hash = served.store.hashed(key.as_bytes()).hash;
                let key = Hashed {
                    key: key.as_bytes(),
                    hash,
                };
                if let Observed::Set { bytes, .. } = served.set(&key, &values[..size as usize], 0) {
                    slice += u64::from(bytes);
                }
                (number, slice_sets) = (number + 1, slice_sets + 1);
                if number.is_multiple_of(100) {
                    served.now = Now::from_millis(START_MS + number / 100);
                    served.upkeep();
                }
            }
            let end = served.store.stats().snapshot();
            let evicted = begin.item_bytes + slice - end.item_bytes;
            worst = worst.max(evicted as f64 / slice as f64);
            worst_beyond = worst_beyond.max(beyond(
                evicted,
                slice,
                end.evictions - begin.evictions,
                slice_sets,
            ));
            (stored, sets) = (stored + slice, sets + slice_sets);
            least_held = least_held.min(end.item_bytes);
        }
        let after = served.store.stats().snapshot();
        let evictions = after.evictions - before.evictions;
        let evicted = before.item_bytes + stored - after.item_bytes;
        table.push(vec![
            name.to_string(),
            sets.to_string(),
            evictions.to_string(),
            (after.evicted_for_page - before.evicted_for_page).to_string(),
            format!("{:.3}", evicted as f64 / stored as f64),
            format!("{worst:.3}"),
            format!("{:.2}", beyond(evicted, stored, evictions, sets)),
            format!("{worst_beyond:.2}"),
            format!("{:.2}", least_held as f64 / f64::from(1 << 20)),
        ]);
    }
    served.give_up_memory();
    table
}

/// Returns the evictions per set beyond those that free as many bytes as were
/// stored.
fn beyond(evicted: u64, stored: u64, evictions: u64, sets: u64) -> f64 {
    if evicted == 0 {
        return 0.0;
    }
    let mean = evicted as f64 / evictions.max(1) as f64;
    (evicted as f64 - stored as f64) / mean / sets.max(1) as f64
}

/// Replays all traces at all their points.
fn replay_all(arguments: &Arguments) -> Result<Table, Box<dyn Error>> {
    let mut table = Table::new(&[
        "trace",
        "MiB",
        "hit %",
        "byte hit %",
        "items",
        "item MiB",
        "page MiB",
        "index MiB",
        "sets",
        "evictions",
        "for pages",
        "reclaimed",
    ]);
    let (mut hits, mut bytes, mut count) = (0.0, 0.0, 0.0);
    arguments.replays.each(|trace, rate, sizes| {
        let name = &trace.name;
        let expires = (0..trace.keys()).any(|key| trace.ttl(key) > 0);
        for &mib in sizes {
            let mut served = Served::new((mib as usize) << 20, arguments.eviction(), expires);
            let sums = replay(&mut served, trace, rate);
            let counters = served.store.stats().snapshot();
            let ratio = percent(sums.hits, sums.gets);
            let byte_ratio = percent(sums.bytes_found, sums.bytes_wanted);
            (hits, bytes, count) = (hits + ratio, bytes + byte_ratio, count + 1.0);
            let mib_of = |bytes: u64| format!("{:.2}", bytes as f64 / f64::from(1 << 20));
            table.push(vec![
                name.clone(),
                mib.to_string(),
                format!("{ratio:.3}"),
                format!("{byte_ratio:.3}"),
                counters.items.to_string(),
                mib_of(counters.item_bytes),
                mib_of(served.store.page_bytes() as u64),
                mib_of(served.store.index_bytes() as u64),
                sums.sets.to_string(),
                counters.evictions.to_string(),
                counters.evicted_for_page.to_string(),
                counters.reclaimed.to_string(),
            ]);
            arguments
                .output
                .progress(&format!("{name} {mib}: {ratio:.2} {byte_ratio:.2}"));
            served.give_up_memory();
        }
    })?;
    let mut row = vec!["mean".to_string()];
    row.resize(table.head.len(), String::new());
    row[2] = format!("{:.3}", hits / count);
    row[3] = format!("{:.3}", bytes / count);
    table.push(row);
    Ok(table)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    // `cargo bench` without options runs all benchmarks: there is nothing to
    // replay.
    if arguments.replays.traces.is_none() && !arguments.shift {
        return Ok(());
    }
    let table = match arguments.shift {
        true => shift(&arguments),
        false => replay_all(&arguments)?,
    };
    let text = table.to_text();
    arguments.output.write(&text, &table, &table)?;
    print!("{text}");
    Ok(())
}
