//! The connection whose pauses are measured.
//!
//! A probe that is late makes those due meanwhile late as well, and they count.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::loadgen::address::Stream;
use crate::loadgen::failure::Failure;
use crate::loadgen::process::ServerProcess;
use crate::loadgen::stall::link::{connect, now_or_zero};

const PROBE_EVERY: Duration = Duration::from_millis(1);
/// The key that is probed: not among those inserted.
const PROBE: &[u8] = b"set probe 0 0 5\r\nhello\r\n";
const PROBE_GET: &[u8] = b"get probe\r\n";
const PROBE_ANSWER: &[u8] = b"VALUE probe 0 5\r\nhello\r\nEND\r\n";
const STORED: &[u8] = b"STORED\r\n";

/// Gets one key every millisecond.
pub(super) struct Prober {
    stream: Stream,
    due: Instant,
    waiting: bool,
    answer: Vec<u8>,
    pub(super) latency: Histogram<u64>,
}

impl Prober {
    pub(super) fn new(server: &ServerProcess) -> Result<Self, Failure> {
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

    pub(super) fn turn(&mut self) -> Result<(), Failure> {
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
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
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
