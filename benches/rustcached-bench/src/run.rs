//! `run`: runs a load against a server.
//!
//! Stores the keys, starts the workers, begins and ends the measured phase, and combines the counts
//! with the CPU time of server and generator. `rounds` uses [`measure`] too.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::address::{Address, Stream};
use super::collector::Collector;
use super::content::SizeRange;
use super::failure::Failure;
use super::plan::{Command, Plan, Popularity, Stop};
use super::preload::load_keys;
use super::process::{cpu_ns, own_cpu_ns};
use super::report::{OutputOptions, Summary, Table};
use super::ring::{Encoder, Ring};
use super::tls::TlsOptions;
use super::worker::{Control, Phase, Worker, WorkerSettings};

/// Time without any reply after which a load ends.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunOptions {
    /// The server: HOST:PORT or unix:PATH
    #[arg(long, short, value_name = "ADDRESS")]
    pub server: Address,
    /// Start from a standard load (get1 set1 get32 set32 mget50 mg32 bget32 incr32 get100k zipf),
    /// which the options below modify
    #[arg(long, short, value_name = "NAME")]
    pub load: Option<String>,
    /// The command to send
    #[arg(long, value_enum, help_heading = "Load")]
    pub command: Option<Command>,
    /// Share of sets mixed in, 0 to 1
    #[arg(long, value_name = "SHARE", help_heading = "Load")]
    pub sets: Option<f64>,
    /// Number of connections, over all threads [default: 50]
    #[arg(long, short, value_name = "N", help_heading = "Load")]
    pub connections: Option<usize>,
    /// Number of generator threads [default: 1]
    #[arg(long, short, value_name = "N", help_heading = "Load")]
    pub threads: Option<usize>,
    /// Requests pipelined per batch on a connection [default: 1]
    #[arg(long, short, value_name = "N", help_heading = "Load")]
    pub depth: Option<usize>,
    /// Keys per get line [default: 1]
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub multiget: Option<usize>,
    /// Operations per second, sent at fixed times even if replies are missing; latency then counts
    /// from the time a request was due (the generator spins meanwhile) [default: no limit]
    #[arg(long, value_name = "OPS", help_heading = "Load")]
    pub rate: Option<f64>,
    /// Number of keys [default: 100000]
    #[arg(long, short, value_name = "N", help_heading = "Keys and values")]
    pub keys: Option<u32>,
    /// Prefix of keys [default: key]
    #[arg(long, value_name = "TEXT", help_heading = "Keys and values")]
    pub key_prefix: Option<String>,
    /// Key length in bytes [default: 20]
    #[arg(long, value_name = "BYTES", help_heading = "Keys and values")]
    pub key_length: Option<usize>,
    /// Value size in bytes: a single size, or MIN-MAX for a size per key from that range [default:
    /// 100]
    #[arg(long, value_name = "BYTES", help_heading = "Keys and values")]
    pub value_size: Option<SizeRange>,
    /// TTL of sets and touches, in seconds [default: 0, none]
    #[arg(long, value_name = "SECONDS", help_heading = "Keys and values")]
    pub ttl: Option<u32>,
    /// Draw keys from a Zipf distribution with this exponent instead of uniformly
    #[arg(long, value_name = "THETA", help_heading = "Keys and values")]
    pub zipf: Option<f64>,
    /// Seed of the sequence of keys [default: 1]
    #[arg(long, value_name = "N", help_heading = "Keys and values")]
    pub seed: Option<u64>,
    /// First set every key and verify that all are present
    #[arg(long, help_heading = "Keys and values")]
    pub load_keys: bool,
    /// Compare the value of every hit with the value of its key
    #[arg(long, help_heading = "Keys and values")]
    pub verify: bool,
    /// Duration of the measured phase in seconds [default: 10]
    #[arg(
        long,
        value_name = "SECONDS",
        conflicts_with = "requests",
        help_heading = "Duration"
    )]
    pub seconds: Option<f64>,
    /// Stop after this number of operations (without a warm-up)
    #[arg(long, value_name = "N", help_heading = "Duration")]
    pub requests: Option<u64>,
    /// Duration of the load before the measured phase, in seconds [default: 0.5]
    #[arg(long, value_name = "SECONDS", help_heading = "Duration")]
    pub warmup: Option<f64>,
    /// Measure the CPU time of this process during the measured phase
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// TLS of the connections
    #[command(flatten)]
    pub tls: TlsOptions,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

impl RunOptions {
    /// Returns the plan described by the options.
    pub fn plan(&self) -> Result<Plan, Failure> {
        let mut plan = match &self.load {
            Some(name) => Plan::standard(name)?,
            None => Plan::default(),
        };
        replace(&mut plan.command, self.command);
        replace(&mut plan.sets, self.sets);
        replace(&mut plan.connections, self.connections);
        replace(&mut plan.threads, self.threads);
        replace(&mut plan.depth, self.depth);
        replace(&mut plan.multiget, self.multiget);
        replace(&mut plan.keys, self.keys);
        replace(&mut plan.key_prefix, self.key_prefix.clone());
        replace(&mut plan.key_length, self.key_length);
        replace(&mut plan.value_size, self.value_size);
        replace(&mut plan.ttl, self.ttl);
        replace(&mut plan.popularity, self.zipf.map(Popularity::Zipf));
        replace(&mut plan.seed, self.seed);
        replace(&mut plan.warmup, seconds(self.warmup)?);
        replace(&mut plan.stop, seconds(self.seconds)?.map(Stop::After));
        if let Some(operations) = self.requests {
            plan.stop = Stop::Operations(operations);
            plan.warmup = Duration::ZERO;
        }
        plan.rate = self.rate;
        plan.verify = self.verify;
        plan.check()?;
        Ok(plan)
    }
}

fn replace<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn seconds(value: Option<f64>) -> Result<Option<Duration>, Failure> {
    let convert = |value| {
        Duration::try_from_secs_f64(value)
            .map_err(|error| Failure::Usage(format!("{value} seconds: {error}")))
    };
    value.map(convert).transpose()
}

/// Runs the load and returns the text to print.
pub fn run(options: &RunOptions) -> Result<String, Failure> {
    let plan = options.plan()?;
    let mut address = options.server.clone();
    let mut negotiated = None;
    if let Some(client) = options.tls.client_of_running()? {
        address = address.over_tls(client)?;
        let connecting = Failure::io(format!("connecting to {address}"));
        negotiated = Stream::connect(&address).map_err(connecting)?.negotiated();
    }
    if options.load_keys {
        let begun = Instant::now();
        load_keys(&plan, &address)?;
        let took = begun.elapsed().as_secs_f64();
        options
            .output
            .progress(&format!("{} keys loaded in {took:.1} s", plan.keys));
    }
    let mut progress = |line: &str| options.output.progress(line);
    let summary = measure(&plan, &address, options.server_pid, &mut progress)?;
    let table = summary_table(&summary);
    let mut text = summary_text(&summary);
    if let Some(negotiated) = negotiated {
        text += &format!("TLS          {negotiated}\n");
    }
    options.output.write(&text, &table, &summary)?;
    Ok(text)
}

/// Runs the load once. Calls `progress` with a line about every second.
pub fn measure(
    plan: &Plan,
    address: &Address,
    server_pid: Option<u32>,
    progress: &mut dyn FnMut(&str),
) -> Result<Summary, Failure> {
    let encoder = Arc::new(Encoder::new(plan));
    let ring = Arc::new(Ring::build(plan, &encoder));
    let control = Arc::new(Control::default());
    let workers: Vec<Worker> = worker_settings(plan, address, &ring)
        .iter()
        .map(|settings| Worker::new(settings, ring.clone(), encoder.clone(), control.clone()))
        .collect::<Result<_, _>>()?;
    let (sender, results) = mpsc::channel();
    let count = workers.len();
    if plan.warmup.is_zero() {
        control.enter(Phase::Measure);
    }
    let mut before = CpuTimes::read(server_pid)?;
    for worker in workers {
        let sender = sender.clone();
        // Sending fails only if the whole measurement has failed already.
        thread::spawn(move || drop(sender.send(worker.run())));
    }
    let mut finished = Vec::new();
    if !plan.warmup.is_zero() {
        wait(plan.warmup, count, &results, &mut finished);
        before = CpuTimes::read(server_pid)?;
        control.enter(Phase::Measure);
    }
    let limit = match plan.stop {
        Stop::After(time) => time,
        Stop::Operations(_) => Duration::MAX,
    };
    watch(limit, count, &results, &mut finished, &control, progress);
    let usage = CpuTimes::read(server_pid)?.since(&before);
    control.enter(Phase::Stop);
    while finished.len() < count {
        finished.push(results.recv().map_err(|_| worker_died())?);
    }
    summarize(plan, address, finished, &usage)
}

fn worker_died() -> Failure {
    Failure::Usage("a worker thread of the generator died".to_string())
}

fn worker_settings(plan: &Plan, address: &Address, ring: &Ring) -> Vec<WorkerSettings> {
    let share = |total: usize, index: usize| {
        total / plan.threads + usize::from(index < total % plan.threads)
    };
    let batch_operations = (plan.depth * plan.multiget) as f64;
    let interval = plan
        .rate
        .map(|rate| Duration::from_secs_f64(batch_operations * plan.threads as f64 / rate));
    let settings = |index: usize| WorkerSettings {
        address: address.clone(),
        connections: share(plan.connections, index),
        first_batch: index * ring.batches.len() / (plan.threads * plan.connections),
        interval,
        budget: match plan.stop {
            Stop::After(_) => None,
            Stop::Operations(total) => Some(share(total as usize, index) as u64),
        },
        verify: plan.verify,
        longest_value: plan.value_size.max,
    };
    (0..plan.threads).map(settings).collect()
}

type WorkerResult = Result<Collector, Failure>;

/// Waits for the given time, or until all workers have ended.
fn wait(
    time: Duration,
    count: usize,
    results: &mpsc::Receiver<WorkerResult>,
    finished: &mut Vec<WorkerResult>,
) {
    let end = Instant::now().checked_add(time);
    while finished.len() < count {
        let left = end.map_or(time, |end| end.saturating_duration_since(Instant::now()));
        match results.recv_timeout(left) {
            Ok(result) => finished.push(result),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn watch(
    limit: Duration,
    count: usize,
    results: &mpsc::Receiver<WorkerResult>,
    finished: &mut Vec<WorkerResult>,
    control: &Control,
    progress: &mut dyn FnMut(&str),
) {
    let begun = Instant::now();
    let mut before = control.operations.load(Ordering::Relaxed);
    let mut last_reply = begun;
    while finished.len() < count && begun.elapsed() < limit && last_reply.elapsed() < REPLY_TIMEOUT
    {
        let step = Duration::from_secs(1).min(limit - begun.elapsed().min(limit));
        let (step_begun, reports) = (Instant::now(), step.as_millis() >= 500);
        wait(step, count, results, finished);
        let now = control.operations.load(Ordering::Relaxed);
        let speed = (now - before) as f64 / step_begun.elapsed().as_secs_f64();
        if now != before {
            last_reply = Instant::now();
        }
        before = now;
        if reports {
            progress(&format!(
                "{:5.0} s  {speed:>10.0} ops/s",
                begun.elapsed().as_secs_f64()
            ));
        }
    }
}

/// CPU times at a point in time.
struct CpuTimes {
    at: Instant,
    server_ns: Option<u64>,
    own_ns: u64,
}

struct Usage {
    seconds: f64,
    server_ns: Option<f64>,
    own_ns: f64,
}

impl CpuTimes {
    fn read(server_pid: Option<u32>) -> Result<Self, Failure> {
        Ok(CpuTimes {
            server_ns: server_pid.map(cpu_ns).transpose()?,
            own_ns: own_cpu_ns()?,
            at: Instant::now(),
        })
    }

    fn since(&self, before: &CpuTimes) -> Usage {
        let server_ns = self.server_ns.zip(before.server_ns);
        Usage {
            seconds: (self.at - before.at).as_secs_f64(),
            server_ns: server_ns.map(|(now, then)| now.saturating_sub(then) as f64),
            own_ns: self.own_ns.saturating_sub(before.own_ns) as f64,
        }
    }
}

fn summarize(
    plan: &Plan,
    address: &Address,
    results: Vec<WorkerResult>,
    usage: &Usage,
) -> Result<Summary, Failure> {
    let mut results = results.into_iter();
    let mut total = results.next().ok_or_else(worker_died)??;
    for part in results {
        let part = part?;
        total.counts.add(part.counts);
        total
            .latency
            .add(&part.latency)
            .map_err(|error| Failure::Usage(format!("adding histograms: {error}")))?;
    }
    let server = address.to_string();
    let mut summary = Summary::of(
        &plan.name,
        &server,
        usage.seconds,
        total.counts,
        &total.latency,
    );
    let operations = summary.operations.max(1) as f64;
    summary.server_cpu_ns = usage.server_ns.map(|ns| ns / operations);
    summary.server_busy = usage.server_ns.map(|ns| ns / 1e9 / usage.seconds);
    summary.generator_busy = usage.own_ns / 1e9 / usage.seconds;
    Ok(summary)
}

fn summary_text(summary: &Summary) -> String {
    let latency = &summary.latency_us;
    let mut text = format!(
        "{} on {}: {} operations in {:.2} s\n\
         throughput   {:.0} ops/s\n\
         replies      {} hits, {} misses, {} stored, {} refused, {} wrong values, {} connections lost\n\
         latency, us  p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}\n\
         generator    {:.2} cores busy\n",
        summary.load,
        summary.server,
        summary.operations,
        summary.seconds,
        summary.operations_per_second,
        summary.hits,
        summary.misses,
        summary.stored,
        summary.refused,
        summary.wrong_values,
        summary.lost_connections,
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p999,
        latency.max,
        summary.generator_busy,
    );
    if let (Some(ns), Some(busy)) = (summary.server_cpu_ns, summary.server_busy) {
        text += &format!("server       {ns:.0} CPU ns/op, {busy:.2} cores busy\n");
    }
    if let Some(first_error) = &summary.first_error {
        text += &format!("first error  {first_error}\n");
    }
    text
}

fn summary_table(summary: &Summary) -> Table {
    let mut table = Table::new(&[
        "load",
        "server",
        "seconds",
        "operations",
        "ops_per_second",
        "hits",
        "misses",
        "stored",
        "refused",
        "wrong_values",
        "lost_connections",
        "p50_us",
        "p90_us",
        "p99_us",
        "p999_us",
        "max_us",
        "server_cpu_ns",
        "server_busy",
        "generator_busy",
    ]);
    let optional = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.3}"));
    let mut row = vec![
        summary.load.clone(),
        summary.server.clone(),
        format!("{:.3}", summary.seconds),
        summary.operations.to_string(),
        format!("{:.0}", summary.operations_per_second),
    ];
    let counts = [
        summary.hits,
        summary.misses,
        summary.stored,
        summary.refused,
        summary.wrong_values,
        summary.lost_connections,
    ];
    row.extend(counts.iter().map(ToString::to_string));
    row.extend(summary.latency_us.figures().map(|us| format!("{us:.1}")));
    row.push(optional(summary.server_cpu_ns));
    row.push(optional(summary.server_busy));
    row.push(format!("{:.3}", summary.generator_busy));
    table.push(row);
    table
}
