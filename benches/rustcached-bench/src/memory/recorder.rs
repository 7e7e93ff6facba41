//! What a server's memory does over time, as rows.
//!
//! Owns the row, its CSV form and the thread that watches the resident memory between two rows, so
//! that a short peak is not missed. Decides nothing; `memory` judges and `plot` draws.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::failure::Failure;
use crate::player::Player;
use crate::process::resident_bytes;
use crate::report::Table;
use crate::versus::Side;

/// Time between two rows, and between two looks at the resident memory.
const ROW_EVERY: Duration = Duration::from_millis(200);
const LOOK_EVERY: Duration = Duration::from_millis(25);

const HEAD: [&str; 10] = [
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
];

/// One moment of one server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Which server: the name of its side.
    pub server: String,
    /// The scenario.
    pub scenario: String,
    /// Its phase.
    pub phase: String,
    /// Since the server's first scenario began.
    pub seconds: f64,
    /// The most resident memory since the row before.
    pub rss_bytes: u64,
    /// The memory limit that holds now.
    pub limit_bytes: u64,
    /// Items, as the server counts them.
    pub items: u64,
    /// Sets and appends sent in this scenario.
    pub sets: u64,
    /// Those refused.
    pub refused: u64,
    /// Bad answers by text.
    pub bad_answers: String,
}

/// All rows as a table for CSV.
pub fn to_table(rows: &[Row]) -> Table {
    let mut table = Table::new(&HEAD);
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

/// Reads what [`to_table`] made; bad answers are not read back.
pub fn from_csv(text: &str) -> Result<Vec<Row>, Failure> {
    let mut lines = text.lines().enumerate();
    if lines.next().map(|(_, line)| line) != Some(HEAD.join(",").as_str()) {
        return Err(Failure::Usage("not a file that `memory` wrote".to_string()));
    }
    lines
        .map(|(index, line)| {
            let bad = || Failure::Usage(format!("line {}: not a row: {line}", index + 1));
            parse_row(line).ok_or_else(bad)
        })
        .collect()
}

fn parse_row(line: &str) -> Option<Row> {
    let mut cells = line.splitn(HEAD.len(), ',');
    let mut cell = || cells.next();
    Some(Row {
        server: cell()?.to_string(),
        scenario: cell()?.to_string(),
        phase: cell()?.to_string(),
        seconds: cell()?.parse().ok()?,
        rss_bytes: cell()?.parse().ok()?,
        limit_bytes: cell()?.parse().ok()?,
        items: cell()?.parse().ok()?,
        sets: cell()?.parse().ok()?,
        refused: cell()?.parse().ok()?,
        bad_answers: String::new(),
    })
}

/// Makes rows about one server.
#[derive(Debug)]
pub struct Recorder {
    side: Side,
    watcher: Watcher,
    begun: Instant,
    last: Instant,
    scenario: String,
    phase: String,
    limit_bytes: u64,
    rows: Vec<Row>,
}

impl Recorder {
    /// Begins to watch a process that serves one side; `begun` is the zero of the rows' seconds.
    pub fn new(side: Side, pid: u32, begun: Instant, limit_bytes: u64) -> Self {
        Recorder {
            side,
            watcher: Watcher::new(pid),
            begun,
            last: begun,
            scenario: String::new(),
            phase: String::new(),
            limit_bytes,
            rows: Vec::new(),
        }
    }

    /// Names what follows.
    pub fn begin_scenario(&mut self, name: &str) {
        self.scenario = name.to_string();
        self.phase = "start".to_string();
    }

    /// Names what follows within the scenario; no commas, so that rows can be read back simply.
    pub fn begin_phase(&mut self, name: &str) {
        debug_assert!(!name.contains(','));
        self.phase = name.to_string();
    }

    /// The limit that rows from now on are to be judged by.
    pub fn set_limit(&mut self, bytes: u64) {
        self.limit_bytes = bytes;
    }

    /// Makes a row if it is time; only between batches.
    pub fn tick(&mut self, player: &mut Player) -> Result<(), Failure> {
        if self.last.elapsed() < ROW_EVERY {
            return Ok(());
        }
        self.note(player)
    }

    /// Makes a row.
    pub fn note(&mut self, player: &mut Player) -> Result<(), Failure> {
        let items = player.client().stat("curr_items")?;
        let tally = player.tally();
        self.last = Instant::now();
        self.rows.push(Row {
            server: self.side.name().to_string(),
            scenario: self.scenario.clone(),
            phase: self.phase.clone(),
            seconds: self.begun.elapsed().as_secs_f64(),
            rss_bytes: self.watcher.take_peak()?,
            limit_bytes: self.limit_bytes,
            items,
            sets: tally.sets,
            refused: tally.refused(),
            bad_answers: tally.refusal_text(),
        });
        Ok(())
    }

    /// Lets time pass, making rows.
    pub fn wait(&mut self, player: &mut Player, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            thread::sleep(ROW_EVERY.min(until.saturating_duration_since(Instant::now())));
            self.note(player)?;
        }
        Ok(())
    }

    /// Hands over the rows made so far.
    pub fn take_rows(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.rows)
    }
}

/// A thread that remembers the most resident memory.
#[derive(Debug)]
struct Watcher {
    pid: u32,
    peak: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    fn new(pid: u32) -> Self {
        let (peak, over) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (its_peak, its_over) = (Arc::clone(&peak), Arc::clone(&over));
        let thread = thread::spawn(move || {
            while !its_over.load(Ordering::Relaxed) {
                if let Ok(bytes) = resident_bytes(pid) {
                    its_peak.fetch_max(bytes, Ordering::Relaxed);
                }
                thread::sleep(LOOK_EVERY);
            }
        });
        Watcher {
            pid,
            peak,
            over,
            thread: Some(thread),
        }
    }

    /// The most since the last time.
    fn take_peak(&self) -> Result<u64, Failure> {
        let before = self.peak.swap(0, Ordering::Relaxed);
        Ok(resident_bytes(self.pid)?.max(before))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked, and it would not matter here.
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
        let wanted = Row {
            bad_answers: String::new(),
            ..row
        };
        assert_eq!(from_csv(&csv).unwrap(), [wanted]);
        assert!(from_csv("a,b\n").is_err());
        assert!(from_csv(&format!("{csv}ours,x\n")).is_err());
    }
}
