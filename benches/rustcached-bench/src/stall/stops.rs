//! Times at which the machine stood still.
//!
//! A hypervisor takes a CPU away at times, or stops it while it fetches memory. No process on the
//! CPU can prevent it, so such times are no pauses of a server. A thread with real-time priority
//! on the server's CPU wakes up four times a millisecond. It goes before the server's threads: if
//! it wakes up late, then the CPU stood still.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const WAKE_EVERY: Duration = Duration::from_micros(250);
/// Shorter delays are not kept.
pub(super) const SHORTEST: Duration = Duration::from_micros(500);
/// Priority of the thread, for `chrt -f`.
const PRIORITY: &str = "50";

/// A time span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Instant,
    pub(super) to: Instant,
}

impl Span {
    pub(super) fn length(self) -> Duration {
        self.to - self.from
    }
}

/// Watches a CPU from a thread of its own.
pub(super) struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Span>>,
}

impl Watch {
    /// Begins to watch a CPU. `None` if `cpu` is not the number of one CPU, or if the process may
    /// not have real-time priority.
    pub(super) fn begin(cpu: &str) -> Option<Self> {
        cpu.parse::<usize>().ok()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (over, cpu) = (Arc::clone(&is_over), cpu.to_string());
        let thread = thread::spawn(move || {
            let may =
                is_ok("taskset", &["-c", "-p", &cpu]) && is_ok("chrt", &["-f", "-p", PRIORITY]);
            let _ = ready.send(may);
            if may { record_stops(&over) } else { Vec::new() }
        });
        is_ready
            .recv()
            .unwrap_or(false)
            .then_some(Self { is_over, thread })
    }

    /// Ends the watch. Returns the spans in which the CPU stood still, in order.
    pub(super) fn end(self) -> Vec<Span> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// Runs a program on the calling thread's id. Returns whether it succeeded.
fn is_ok(program: &str, arguments: &[&str]) -> bool {
    let id = nix::unistd::gettid().to_string();
    let output = Command::new(program).args(arguments).arg(id).output();
    output.is_ok_and(|output| output.status.success())
}

fn record_stops(is_over: &AtomicBool) -> Vec<Span> {
    let mut stops = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let from = Instant::now() + WAKE_EVERY;
        thread::sleep(WAKE_EVERY);
        let to = Instant::now();
        if to.saturating_duration_since(from) >= SHORTEST {
            stops.push(Span { from, to });
        }
    }
    stops
}

/// Joins spans that overlap, and puts them in order.
pub(super) fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| span.from);
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
            _ => joined.push(span),
        }
    }
    joined
}

/// Returns how much of a span lies outside of all `stops`, which are in order and do not overlap.
pub(super) fn outside(span: Span, stops: &[Span]) -> Duration {
    let first = stops.partition_point(|stop| stop.to <= span.from);
    let inside: Duration = stops[first..]
        .iter()
        .take_while(|stop| stop.from < span.to)
        .map(|stop| stop.to.min(span.to) - stop.from.max(span.from))
        .sum();
    span.length() - inside
}

#[cfg(test)]
mod tests {
    use super::{Span, joined, outside};
    use std::time::{Duration, Instant};

    #[test]
    fn time_outside_of_stops_remains() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let span = |from: u64, to: u64| Span {
            from: at(from),
            to: at(to),
        };
        let stops = joined(vec![span(50, 60), span(10, 20), span(15, 30), span(60, 61)]);
        assert_eq!(stops, [span(10, 30), span(50, 61)]);
        for (from, to, want) in [
            (0, 5, 5),
            (0, 15, 10),
            (12, 18, 0),
            (0, 100, 69),
            (30, 50, 20),
            (55, 70, 9),
        ] {
            let outside = outside(span(from, to), &stops);
            assert_eq!(outside, Duration::from_millis(want), "{from} to {to}");
        }
        assert_eq!(outside(span(3, 9), &[]), Duration::from_millis(6));
    }
}
