//! Measures the miss ratio curve: `cargo bench --bench mrc`.
//!
//! Without options, measures what a request costs the worker and the consumer.
//! With traces, replays each trace through a store of every size for which the
//! curve has a prediction, and compares the predictions with these hit ratios:
//!
//! ```text
//! cargo bench --bench mrc -- --traces DIR --points points.txt
//! ```
//!
//! Time is that of the trace, not of the clock. Upkeep takes its steps every 10
//! milliseconds of it.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use rustcached::config::Eviction;
use rustcached::store::mrc::{Curve, FACTORS, Observed, Predictor, Sampler, Sampling};
use rustcached::store::{Hashed, Store};
use rustcached::time::{Expiry, Now};
use rustcached_bench::content::KeyNames;
use rustcached_bench::random::Random;
use rustcached_bench::report::{OutputOptions, Table};
use rustcached_bench::trace::{Operation, Trace};
use served::{START_MS, STEP_MS, Served, TraceOptions, percent};

mod served;

/// Measures the miss ratio curve.
#[derive(Parser)]
struct Arguments {
    /// The traces
    #[command(flatten)]
    replays: TraceOptions,
    /// Eviction policy
    #[arg(long, value_name = "POLICY", default_value = "frequency_size",
          value_parser = ["clock", "frequency", "frequency_size"])]
    eviction: String,
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
            _ => Eviction::default(),
        }
    }
}

/// The curve of a store that serves a trace.
struct Watched {
    sampler: Sampler,
    predictor: Predictor,
    /// Processor time that the consumer took.
    spent: Duration,
}

impl Watched {
    fn new(store: &Store) -> Self {
        let sampling = Arc::new(Sampling::new(1));
        Self {
            sampler: sampling.sampler(),
            predictor: Predictor::new(sampling, store),
            spent: Duration::ZERO,
        }
    }

    fn step(&mut self, store: &Store, now: Now) {
        let begun = processor_time();
        while self.predictor.step(store, now) {}
        self.spent += processor_time() - begun;
    }
}

/// Hit ratio of a replay and its byte hit ratio, in percent. Bytes are those of
/// items, with header and key.
#[derive(Clone, Copy, Default)]
struct Hits {
    hits: f64,
    bytes: f64,
}

/// A trace and how to replay it.
struct Replay<'a> {
    trace: &'a Trace,
    rate: u64,
    eviction: Eviction,
}

impl Replay<'_> {
    /// Replays the trace through a store with this limit in bytes. Returns its
    /// hits and, if `watch` is set, the curve.
    fn run(&self, limit: usize, watch: bool) -> (Hits, Option<(Curve, Watched)>) {
        let trace = self.trace;
        let expires = (0..trace.keys()).any(|key| trace.ttl(key) > 0);
        let mut served = Served::new(limit, self.eviction, expires);
        let mut watched = watch.then(|| Watched::new(&served.store));
        let names = KeyNames::new(&format!("{}:", trace.name));
        let values = vec![b'x'; trace.largest()];
        let (mut name, mut wanted, mut found) = (Vec::new(), 0u64, 0u64);
        let mut step = 0;
        for (number, request) in trace.requests().enumerate() {
            let ms = number as u64 * 1000 / self.rate;
            served.now = Now::from_millis(START_MS + ms);
            if ms / STEP_MS != step {
                step = ms / STEP_MS;
                served.upkeep();
                if let Some(watched) = &mut watched {
                    watched.step(&served.store, served.now);
                }
            }
            name.clear();
            names.push(&mut name, request.key, trace.key_length(request.key));
            let hash = served.store.hashed(&name).hash;
            let key = Hashed { key: &name, hash };
            let value = &values[..trace.size(request.key)];
            let ttl = trace.ttl(request.key);
            let mut observed = match request.operation {
                Operation::Get => served.get(&key),
                Operation::Set => served.set(&key, value, ttl),
                Operation::Delete => served.delete(&key),
            };
            if let Some(watched) = &watched {
                watched.sampler.record(hash, || observed);
            }
            if request.operation != Operation::Get {
                continue;
            }
            if let Observed::Hit { bytes, .. } = observed {
                found += u64::from(bytes);
            } else {
                observed = served.set(&key, value, ttl);
                if let Some(watched) = &watched {
                    watched.sampler.record(hash, || observed);
                }
            }
            if let Observed::Hit { bytes, .. } | Observed::Set { bytes, .. } = observed {
                wanted += u64::from(bytes);
            }
        }
        let counters = served.store.stats().snapshot();
        let hits = Hits {
            hits: 100.0 - percent(counters.get_misses, counters.cmd_get),
            bytes: percent(found, wanted),
        };
        let curve = watched.map(|mut watched| {
            watched.step(&served.store, served.now);
            let curve = watched.predictor.curve(&served.store);
            (curve.expect("the trace has gets"), watched)
        });
        served.give_up_memory();
        (hits, curve)
    }
}

/// Returns the processor time that this thread has used.
fn processor_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes to `time` only.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(done, 0, "every thread has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Errors of predictions in points, as sums.
#[derive(Clone, Copy, Default)]
struct Errors {
    count: f64,
    hits: f64,
    bytes: f64,
    worst: f64,
}

impl Errors {
    fn add(&mut self, hits: f64, bytes: f64) {
        self.count += 1.0;
        self.hits += hits.abs();
        self.bytes += bytes.abs();
        self.worst = self.worst.max(hits.abs());
    }

    fn text(&self, what: &str) -> String {
        let count = self.count.max(1.0);
        let (hits, bytes) = (self.hits / count, self.bytes / count);
        format!(
            "{what}: {} predictions, mean absolute error {hits:.2} points of hit ratio (at most \
             {:.2}), {bytes:.2} points of byte hit ratio\n",
            self.count, self.worst
        )
    }
}

/// Compares predictions with replays. Returns the table and the text below it.
fn compare(arguments: &Arguments) -> Result<(Table, String), Box<dyn Error>> {
    let mut table = Table::new(&[
        "trace",
        "MiB",
        "for MiB",
        "hits real",
        "predicted",
        "diff",
        "bytes real",
        "predicted",
        "diff",
        "rate",
        "keys",
        "KiB",
        "samples",
        "ns/sample",
    ]);
    let (mut all, mut others, mut at_points) = <(Errors, Errors, Errors)>::default();
    arguments.replays.each(|trace, rate, sizes| {
        let name = &trace.name;
        let replay = Replay {
            trace,
            rate,
            eviction: arguments.eviction(),
        };
        let mut real = BTreeMap::new();
        for &mib in sizes {
            let limit = (mib as usize) << 20;
            let (hits, watched) = replay.run(limit, true);
            real.insert(limit, hits);
            let (curve, watched) = watched.expect("it was watched");
            for point in curve.predictions {
                let other = || replay.run(point.limit, false).0;
                let real = *real.entry(point.limit).or_insert_with(other);
                let hits = 100.0 * point.hit_ratio - real.hits;
                let bytes = 100.0 * point.byte_hit_ratio - real.bytes;
                all.add(hits, bytes);
                if point.factor != 1.0 {
                    others.add(hits, bytes);
                    if sizes.iter().any(|mib| (*mib as usize) << 20 == point.limit) {
                        at_points.add(hits, bytes);
                    }
                }
                table.push(vec![
                    name.clone(),
                    mib.to_string(),
                    format!("{}", point.limit as f64 / f64::from(1 << 20)),
                    format!("{:.2}", real.hits),
                    format!("{:.2}", 100.0 * point.hit_ratio),
                    format!("{hits:+.2}"),
                    format!("{:.2}", real.bytes),
                    format!("{:.2}", 100.0 * point.byte_hit_ratio),
                    format!("{bytes:+.2}"),
                    format!("1/{:.1}", 1.0 / curve.rate),
                    curve.keys.to_string(),
                    (curve.bytes / 1024).to_string(),
                    curve.samples.to_string(),
                    (watched.spent.as_nanos() / u128::from(curve.samples.max(1))).to_string(),
                ]);
            }
            arguments
                .output
                .progress(&format!("{name} {mib}: {} dropped", curve.dropped));
        }
    })?;
    let text = all.text("all")
        + &others.text("other sizes than the store's own")
        + &at_points.text("other sizes that are points, too");
    Ok((table, text))
}

/// Measures what a request costs the worker. Returns a line of text.
fn costs() -> String {
    const REQUESTS: usize = 4096;
    const ROUNDS: usize = 2000;
    let served = Served::new(64 << 20, Eviction::default(), false);
    let sampling = Arc::new(Sampling::new(1));
    let sampler = sampling.sampler();
    let mut random = Random::new(1);
    let hashes: Vec<u64> = (0..REQUESTS).map(|_| random.next_u64()).collect();
    let observed = || Observed::Hit {
        bytes: 300,
        expiry: Expiry::NEVER,
    };
    let pass = |sampler: &Sampler| {
        let begun = Instant::now();
        for hash in std::hint::black_box(&hashes) {
            sampler.record(*hash, observed);
        }
        begun.elapsed().as_nanos() as f64 / REQUESTS as f64
    };
    let mut unsampled: Vec<f64> = (0..ROUNDS).map(|_| pass(&sampler)).collect();
    let mut predictor = Predictor::new(sampling, &served.store);
    let (mut sampled, mut consumed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // The time stands still, so that the threshold stays.
        let now = Now::from_millis(START_MS);
        sampled.push(pass(&sampler));
        let begun = Instant::now();
        while predictor.step(&served.store, now) {}
        consumed.push(begun.elapsed().as_nanos() as f64 / REQUESTS as f64);
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    format!(
        "worker: {:.2} ns for a request that is not sampled, {:.1} ns for one that is; consumer: \
         {:.0} ns for a hit in all memories\n",
        median(&mut unsampled),
        median(&mut sampled),
        median(&mut consumed)
    )
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut text = costs();
    let mut table = Table::default();
    if arguments.replays.traces.is_some() {
        let (compared, below) = compare(&arguments)?;
        text += &compared.to_text();
        text += &below;
        table = compared;
    }
    debug_assert_eq!(FACTORS[3], 1.0);
    arguments.output.write(&text, &table, &table)?;
    print!("{text}");
    Ok(())
}
