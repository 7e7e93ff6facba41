//! Sends the batches of a ring over many connections and measures the replies.
//!
//! Each thread runs a worker with its own poll, connections and counts. A shared phase starts and
//! ends the measurement. In a closed loop, a connection sends its next batch after the reply to the
//! last. With a rate, batches are sent at fixed times even if earlier replies are missing, and
//! latency counts from the time a batch was due. Verifies and counts, never prints.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use super::address::Address;
use super::collector::Collector;
use super::connection::{Connection, RequestSource};
use super::failure::Failure;
use super::ring::{Encoder, Ring};

/// Size of a worker's read buffer in addition to the longest value, in bytes.
const BUFFER: usize = 256 * 1024;
/// Maximum time a worker waits before it checks the phase again.
const PHASE_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Phase of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Send, but do not count.
    Warmup,
    /// Send and count.
    Measure,
    /// End the worker.
    Stop,
}

/// State shared by the controller and all workers.
#[derive(Debug)]
pub struct Control {
    phase: AtomicU8,
    /// Number of operations answered so far, for the progress line.
    pub operations: AtomicU64,
}

impl Default for Control {
    fn default() -> Self {
        Control {
            phase: AtomicU8::new(Phase::Warmup as u8),
            operations: AtomicU64::new(0),
        }
    }
}

impl Control {
    /// Changes the phase for all workers.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Warmup,
            1 => Phase::Measure,
            _ => Phase::Stop,
        }
    }
}

/// Settings of a worker.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Address of the server.
    pub address: Address,
    /// Number of connections.
    pub connections: usize,
    /// Index of the batch with which the first connection begins.
    pub first_batch: usize,
    /// Time between two batches of this worker, `None` for a closed loop.
    pub interval: Option<Duration>,
    /// Number of operations after which to stop.
    pub budget: Option<u64>,
    /// Compare the values of hits.
    pub verify: bool,
    /// Length of the longest value in bytes.
    pub longest_value: usize,
}

/// A thread's share of a load.
#[derive(Debug)]
pub struct Worker {
    poll: Poll,
    connections: Vec<Connection>,
    source: RequestSource,
    collector: Collector,
    buffer: Vec<u8>,
    pace: Option<Pace>,
    control: Arc<Control>,
    phase: Phase,
    alive: usize,
}

impl Worker {
    /// Opens the worker's connections.
    pub fn new(
        settings: &WorkerSettings,
        ring: Arc<Ring>,
        encoder: Arc<Encoder>,
        control: Arc<Control>,
    ) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(Failure::io("making a poll"))?;
        let spread = (ring.batches.len() / settings.connections).max(1);
        let mut connections = Vec::with_capacity(settings.connections);
        for number in 0..settings.connections {
            let cursor = (settings.first_batch + number * spread) % ring.batches.len();
            let failed = Failure::io(format!("connecting to {}", settings.address));
            let connection = Connection::open(
                &settings.address,
                settings.verify,
                cursor,
                poll.registry(),
                number,
            );
            connections.push(connection.map_err(failed)?);
        }
        Ok(Worker {
            poll,
            alive: connections.len(),
            connections,
            source: RequestSource {
                ring,
                budget: settings.budget,
            },
            collector: Collector::new(encoder),
            buffer: vec![0; BUFFER + 2 * settings.longest_value],
            pace: settings.interval.map(Pace::new),
            control,
            phase: Phase::Warmup,
        })
    }

    /// Runs until the phase ends, the budget is exhausted or all connections are lost.
    pub fn run(mut self) -> Result<Collector, Failure> {
        let mut events = Events::with_capacity(1024);
        if let Some(pace) = &mut self.pace {
            pace.start(Instant::now());
        } else {
            self.start_all();
        }
        while self.alive > 0 && !self.budget_is_used() {
            match self.control.phase() {
                Phase::Stop => break,
                Phase::Measure if self.phase == Phase::Warmup => self.begin_measuring(),
                _ => {}
            }
            let wait = self.send_due();
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.map_err(Failure::io("waiting for replies"))?,
            }
            let before = self.collector.counts.operations;
            for event in &events {
                self.serve(event.token().0, event.is_writable());
            }
            let done = self.collector.counts.operations - before;
            self.control.operations.fetch_add(done, Ordering::Relaxed);
        }
        Ok(self.collector)
    }

    fn start_all(&mut self) {
        let now = Instant::now();
        for number in 0..self.connections.len() {
            let result = self.connections[number].send_next(&mut self.source, now);
            self.handle_result(number, result);
        }
    }

    fn budget_is_used(&self) -> bool {
        self.source.budget == Some(0) && self.connections.iter().all(Connection::is_idle)
    }

    fn begin_measuring(&mut self) {
        self.phase = Phase::Measure;
        self.collector.reset();
    }

    /// Sends all batches that are due and returns the timeout of the next poll. With a rate, the
    /// worker spins: the resolution of the poll is a millisecond, and a late batch would look like
    /// a slow server.
    fn send_due(&mut self) -> Duration {
        if self.pace.is_none() {
            return PHASE_CHECK_INTERVAL;
        }
        let now = Instant::now();
        while let Some((due, number)) = self.next_due(now) {
            if self.connections[number].is_open() {
                let result = self.connections[number].send_next(&mut self.source, due);
                self.handle_result(number, result);
            }
        }
        Duration::ZERO
    }

    fn next_due(&mut self, now: Instant) -> Option<(Instant, usize)> {
        let pace = self.pace.as_mut().filter(|pace| pace.next <= now)?;
        let due = (pace.next, pace.turn);
        pace.next += pace.interval;
        pace.turn = (pace.turn + 1) % self.connections.len();
        Some(due)
    }

    fn serve(&mut self, number: usize, writable: bool) {
        let connection = &mut self.connections[number];
        if !connection.is_open() {
            return;
        }
        let result = match writable {
            true => connection.write(&self.source.ring),
            false => Ok(()),
        };
        let closed_loop = self.pace.is_none();
        let result = result.and_then(|()| {
            connection.read(
                &mut self.buffer,
                &mut self.source,
                &mut self.collector,
                closed_loop,
            )
        });
        self.handle_result(number, result);
    }

    fn handle_result(&mut self, number: usize, result: io::Result<()>) {
        let connection = &mut self.connections[number];
        let registry = self.poll.registry();
        if let Err(error) = result.and_then(|()| connection.watch_writing(registry)) {
            connection.close();
            self.alive -= 1;
            self.collector.counts.lost_connections += 1;
            self.collector
                .counts
                .note_error(|| format!("connection lost: {error}"));
        }
    }
}

#[derive(Debug)]
struct Pace {
    interval: Duration,
    next: Instant,
    turn: usize,
}

impl Pace {
    fn new(interval: Duration) -> Self {
        Pace {
            interval,
            next: Instant::now(),
            turn: 0,
        }
    }

    fn start(&mut self, now: Instant) {
        self.next = now;
    }
}
