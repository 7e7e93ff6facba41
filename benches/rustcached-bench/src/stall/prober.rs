//! The connection whose pauses are measured.
//!
//! If a probe is delayed, the probes that become due meanwhile count as delayed too. If the server
//! has evicted the item, the next probe sets it again, and its latency counts like the others.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::address::Stream;
use crate::failure::Failure;
use crate::latency::latency_histogram;
use crate::process::ServerProcess;
use crate::stall::nonblocking::{bytes_or_zero, connect};
use crate::stall::stops::{SHORTEST, Span};

const PROBE_EVERY: Duration = Duration::from_millis(1);
/// The requests of the probe. The loads do not use its key.
const SET: &[u8] = b"set probe 0 0 5\r\nhello\r\n";
const GET: &[u8] = b"get probe\r\n";
const STORED: &[u8] = b"STORED\r\n";
const HIT: &[u8] = b"VALUE probe 0 5\r\nhello\r\nEND\r\n";
const MISS: &[u8] = b"END\r\n";

/// Gets a key every millisecond.
pub(super) struct Prober {
    stream: Stream,
    due: Instant,
    waiting: bool,
    request: &'static [u8],
    reply: Vec<u8>,
    last_turn: Option<Instant>,
    /// Results by phase, and the index of the phase in which the last probe was sent.
    pub(super) phases: Vec<Phase>,
    phase: usize,
    /// Number of probes that were misses.
    pub(super) misses: u64,
    /// Longest time between two turns.
    pub(super) longest_gap: Duration,
    /// Times between two turns, except very short ones.
    pub(super) gaps: Vec<Span>,
    /// From the due time of the first of the probes that a reply ends until that reply, except very
    /// short times.
    pub(super) pauses: Vec<Span>,
}

/// Results of the probes during a phase of the load.
pub(super) struct Phase {
    /// Name of the phase.
    pub(super) name: String,
    /// Nanoseconds from the due time of a probe to its reply. Contains the probes sent in the
    /// phase, and those that became due while such a probe was unanswered.
    pub(super) latency: Histogram<u64>,
}

impl Prober {
    /// Connects and stores the item. Probes are due from now on.
    pub(super) fn new(server: &ServerProcess) -> Result<Self, Failure> {
        let mut prober = Prober {
            stream: connect(server)?,
            due: Instant::now(),
            waiting: false,
            request: SET,
            reply: Vec::new(),
            last_turn: None,
            phases: Vec::new(),
            phase: 0,
            misses: 0,
            longest_gap: Duration::ZERO,
            gaps: Vec::new(),
            pauses: Vec::new(),
        };
        prober.send()?;
        while !prober.has_reply()? {}
        prober.take_reply();
        prober.due = Instant::now();
        Ok(prober)
    }

    /// Sends the probe that is due, or checks for its reply. `phase` is the current phase of the
    /// load.
    pub(super) fn turn(&mut self, phase: &str) -> Result<(), Failure> {
        let now = Instant::now();
        let last = self.last_turn.replace(now).unwrap_or(now);
        self.longest_gap = self.longest_gap.max(now - last);
        let gap = Span {
            from: last,
            to: now,
        };
        if gap.length() >= SHORTEST {
            self.gaps.push(gap);
        }
        if !self.waiting {
            if now >= self.due {
                self.enter(phase);
                self.send()?;
            }
            return Ok(());
        }
        if self.has_reply()? {
            self.take_reply();
            self.record(Instant::now());
        }
        Ok(())
    }

    /// Waits for the reply to an unanswered probe, if any.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        while self.waiting {
            self.turn("")?;
        }
        Ok(())
    }

    /// Returns the latencies of all phases together.
    pub(super) fn latency(&self) -> Histogram<u64> {
        let mut all = latency_histogram();
        for phase in &self.phases {
            all += &phase.latency;
        }
        all
    }

    /// Selects the phase of this name. A phase that recurs continues its earlier results.
    fn enter(&mut self, name: &str) {
        let known = self.phases.iter().position(|phase| phase.name == name);
        self.phase = known.unwrap_or(self.phases.len());
        if known.is_none() {
            self.phases.push(Phase {
                name: name.to_string(),
                latency: latency_histogram(),
            });
        }
    }

    fn send(&mut self) -> Result<(), Failure> {
        let writing = Failure::io("writing to the server");
        self.stream.write_all(self.request).map_err(writing)?;
        self.waiting = true;
        Ok(())
    }

    /// Reads available bytes. Returns whether the reply is complete.
    fn has_reply(&mut self) -> Result<bool, Failure> {
        let mut buffer = [0u8; 256];
        let n = bytes_or_zero(self.stream.read(&mut buffer))?;
        self.reply.extend_from_slice(&buffer[..n]);
        let possible: &[&[u8]] = match self.request {
            SET => &[STORED],
            _ => &[HIT, MISS],
        };
        if possible.contains(&self.reply.as_slice()) {
            return Ok(true);
        }
        if possible.iter().any(|whole| whole.starts_with(&self.reply)) {
            return Ok(false);
        }
        let text = self.reply.escape_ascii();
        let text = format!("the probe was answered \"{text}\"");
        Err(Failure::Server(text))
    }

    /// Chooses the next request depending on the reply.
    fn take_reply(&mut self) {
        let missed = self.reply == MISS;
        self.misses += u64::from(missed);
        self.request = if missed { SET } else { GET };
        self.reply.clear();
        self.waiting = false;
    }

    fn record(&mut self, now: Instant) {
        let pause = Span {
            from: self.due,
            to: now,
        };
        if pause.length() >= SHORTEST {
            self.pauses.push(pause);
        }
        let latency = &mut self.phases[self.phase].latency;
        while self.due <= now {
            let late = (now - self.due).as_nanos().max(1) as u64;
            latency.saturating_record(late);
            self.due += PROBE_EVERY;
        }
    }
}
