//! A thread that kills a server before it exhausts the machine's memory.
//!
//! Samples the resident memory of a process, records the peak, and kills the process if it exceeds
//! a limit. Also makes the process the kernel's first victim, in case memory runs out between two
//! samples.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::failure::Failure;
use crate::process::{kill, prefer_as_oom_victim, resident_and_peak};

/// Interval between two samples. A server that copies 5 GiB a second grows by 50 MiB in it.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);

/// State of a watched process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It is running.
    Alive,
    /// The watchdog killed it.
    Killed,
    /// It ended for another reason.
    Ended,
}

#[derive(Debug, Default)]
struct Seen {
    peak: AtomicU64,
    killed: AtomicBool,
    ended: AtomicBool,
    stop: AtomicBool,
}

/// Watches a process until dropped. Drop it before the owner of the process.
#[derive(Debug)]
pub struct Watchdog {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches process `pid`, a child of this process, and kills it above `limit` bytes.
    pub fn new(pid: u32, limit: u64) -> Result<Self, Failure> {
        prefer_as_oom_victim(pid)?;
        let seen = Arc::new(Seen::default());
        let its = Arc::clone(&seen);
        let thread = thread::spawn(move || watch(pid, limit, &its));
        Ok(Watchdog {
            seen,
            thread: Some(thread),
        })
    }

    /// Returns the peak of the resident memory since the start of the process, in bytes.
    pub fn peak(&self) -> u64 {
        self.seen.peak.load(Ordering::Relaxed)
    }

    /// Returns the state of the process at the last sample.
    pub fn state(&self) -> ServerState {
        if self.seen.killed.load(Ordering::Acquire) {
            ServerState::Killed
        } else if self.seen.ended.load(Ordering::Relaxed) {
            ServerState::Ended
        } else {
            ServerState::Alive
        }
    }
}

fn watch(pid: u32, limit: u64, seen: &Seen) {
    while !seen.stop.load(Ordering::Relaxed) {
        let Some((resident, peak)) = resident_and_peak(pid) else {
            seen.ended.store(true, Ordering::Relaxed);
            return;
        };
        seen.peak.fetch_max(peak, Ordering::Relaxed);
        if resident > limit {
            // Set the flag before killing, so that a thread that sees the process gone knows the
            // reason.
            seen.killed.store(true, Ordering::Release);
            kill(pid);
            return;
        }
        thread::sleep(SAMPLE_EVERY);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread does not panic, and its result is not needed.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ServerState, Watchdog};
    use std::process::Command;
    use std::time::Instant;

    fn state_of_a_sleeper(limit: u64) -> ServerState {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let watchdog = Watchdog::new(child.id(), limit).unwrap();
        let begun = Instant::now();
        while watchdog.peak() == 0 || (watchdog.state() == ServerState::Alive && limit == 0) {
            assert!(begun.elapsed().as_secs() < 20);
            std::thread::yield_now();
        }
        let state = watchdog.state();
        drop(watchdog);
        // Fails for a child that the watchdog has killed already.
        let _ = child.kill();
        child.wait().unwrap();
        state
    }

    #[test]
    fn a_process_above_the_limit_is_killed() {
        assert_eq!(state_of_a_sleeper(0), ServerState::Killed);
        assert_eq!(state_of_a_sleeper(1 << 40), ServerState::Alive);
    }
}
