//! Records a server's memory over time as rows.
//!
//! Contains the row, its CSV form, and a thread that samples the resident memory between two rows,
//! so that short peaks are recorded. `memory` evaluates the rows, `plot` draws them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::batch_client::BatchClient;
use crate::failure::Failure;
use crate::process::resident_bytes;
use crate::report::Table;
use crate::servers::Side;

/// Interval between two rows, and between two samples of the resident memory.
const ROW_EVERY: Duration = Duration::from_millis(200);
const SAMPLE_EVERY: Duration = Duration::from_millis(25);

/// State of a server at a point in time.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Row {
    /// Name of the side.
    pub server: String,
    /// Name of the scenario.
    pub scenario: String,
    /// Name of the phase within the scenario.
    pub phase: String,
    /// Seconds since the start of the server's first scenario.
    pub seconds: f64,
    /// Peak of the resident memory since the previous row, in bytes.
    pub rss_bytes: u64,
    /// Current memory limit in bytes.
    pub limit_bytes: u64,
    /// Number of items reported by the server.
    #[serde(alias = "curr_items")]
    pub items: u64,
    /// Sets and appends sent in this scenario.
    pub sets: u64,
    /// Requests refused in this scenario.
    pub refused: u64,
    /// Unsuccessful replies with their counts.
    pub bad_answers: String,
}

/// Returns all rows as a table for CSV.
pub fn to_table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "server",
        "scenario",
        "phase",
        "seconds",
        "rss_bytes",
        "limit_bytes",
        "curr_items",
        "sets",
        "refused",
        "bad_answers",
    ]);
    for row in rows {
        table.push(vec![
            row.server.clone(),
            row.scenario.clone(),
            row.phase.clone(),
            format!("{:.3}", row.seconds),
            row.rss_bytes.to_string(),
            row.limit_bytes.to_string(),
            row.items.to_string(),
            row.sets.to_string(),
            row.refused.to_string(),
            row.bad_answers.clone(),
        ]);
    }
    table
}

/// Parses the CSV form of [`to_table`].
pub fn from_csv(text: &str) -> Result<Vec<Row>, Failure> {
    let rows = csv::Reader::from_reader(text.as_bytes()).into_deserialize();
    let rows = rows.collect::<Result<_, _>>();
    rows.map_err(|error| Failure::Usage(format!("not a file that `memory` wrote: {error}")))
}

/// Creates the rows of a server.
#[derive(Debug)]
pub struct Recorder {
    side: Side,
    sampler: PeakSampler,
    begun: Instant,
    last: Instant,
    scenario: String,
    phase: String,
    limit_bytes: u64,
    rows: Vec<Row>,
}

impl Recorder {
    /// Starts watching a process of `side`. The rows' times are relative to `begun`.
    pub fn new(side: Side, pid: u32, begun: Instant, limit_bytes: u64) -> Self {
        Recorder {
            side,
            sampler: PeakSampler::new(pid),
            begun,
            last: begun,
            scenario: String::new(),
            phase: String::new(),
            limit_bytes,
            rows: Vec::new(),
        }
    }

    /// Sets the scenario of the following rows.
    pub fn begin_scenario(&mut self, name: &str) {
        self.scenario = name.to_string();
        self.phase = "start".to_string();
    }

    /// Sets the phase of the following rows.
    pub fn begin_phase(&mut self, name: &str) {
        self.phase = name.to_string();
    }

    /// Sets the memory limit of the following rows.
    pub fn set_limit(&mut self, bytes: u64) {
        self.limit_bytes = bytes;
    }

    /// Records a row if the interval has elapsed. Only call it between batches.
    pub fn tick(&mut self, batch_client: &mut BatchClient) -> Result<(), Failure> {
        if self.last.elapsed() < ROW_EVERY {
            return Ok(());
        }
        self.record(batch_client)
    }

    /// Records a row.
    pub fn record(&mut self, batch_client: &mut BatchClient) -> Result<(), Failure> {
        let items = batch_client.client().stat("curr_items")?;
        let counts = batch_client.counts();
        self.last = Instant::now();
        self.rows.push(Row {
            server: self.side.name().to_string(),
            scenario: self.scenario.clone(),
            phase: self.phase.clone(),
            seconds: self.begun.elapsed().as_secs_f64(),
            rss_bytes: self.sampler.take_peak()?,
            limit_bytes: self.limit_bytes,
            items,
            sets: counts.sets,
            refused: counts.refused(),
            bad_answers: counts.refusal_text(),
        });
        Ok(())
    }

    /// Waits for `time` while recording rows.
    pub fn wait(&mut self, batch_client: &mut BatchClient, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            thread::sleep(ROW_EVERY.min(until.saturating_duration_since(Instant::now())));
            self.record(batch_client)?;
        }
        Ok(())
    }

    /// Returns the rows recorded so far and clears them.
    pub fn take_rows(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.rows)
    }
}

/// A thread that samples the peak of the resident memory.
#[derive(Debug)]
struct PeakSampler {
    pid: u32,
    peak: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PeakSampler {
    fn new(pid: u32) -> Self {
        let (peak, stopped) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (its_peak, its_stopped) = (Arc::clone(&peak), Arc::clone(&stopped));
        let thread = thread::spawn(move || {
            while !its_stopped.load(Ordering::Relaxed) {
                if let Ok(bytes) = resident_bytes(pid) {
                    its_peak.fetch_max(bytes, Ordering::Relaxed);
                }
                thread::sleep(SAMPLE_EVERY);
            }
        });
        PeakSampler {
            pid,
            peak,
            stopped,
            thread: Some(thread),
        }
    }

    /// Returns the peak since the previous call, in bytes.
    fn take_peak(&self) -> Result<u64, Failure> {
        let before = self.peak.swap(0, Ordering::Relaxed);
        Ok(resident_bytes(self.pid)?.max(before))
    }
}

impl Drop for PeakSampler {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread does not panic, and its result is not needed.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, from_csv, to_table};

    #[test]
    fn rows_come_back_from_csv() {
        let row = Row {
            server: "ours".to_string(),
            scenario: "fill".to_string(),
            phase: "1 KB".to_string(),
            seconds: 1.25,
            rss_bytes: 7,
            limit_bytes: 8,
            items: 9,
            sets: 10,
            refused: 1,
            bad_answers: "1 x SERVER_ERROR a, b".to_string(),
        };
        let csv = to_table(std::slice::from_ref(&row)).to_csv();
        assert_eq!(from_csv(&csv).unwrap(), [row]);
        assert!(from_csv("a,b\n1,2\n").is_err());
        assert!(from_csv(&format!("{csv}ours,x\n")).is_err());
    }
}
