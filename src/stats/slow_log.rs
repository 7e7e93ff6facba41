//! Log of slow commands: the last ones that took longer than a threshold.
//!
//! While the log is off, a batch of commands costs one relaxed load.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::SLOW_LOG_ENTRIES;
use crate::sync::{AtomicU64, Ordering};

/// The last [`SLOW_LOG_ENTRIES`] slow commands. Any thread may add commands and
/// read them.
#[derive(Debug, Default)]
pub struct SlowLog {
    /// In nanoseconds; 0 is off.
    threshold: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// The oldest first.
    ring: VecDeque<Arc<SlowCommand>>,
    total: u64,
}

/// A slow command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowCommand {
    /// Time of its end, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Microseconds from its arrival to the end of its reply.
    pub total_us: u64,
    /// Microseconds between arrival and execution.
    pub waiting_us: u64,
    /// Microseconds of execution.
    pub executing_us: u64,
    /// Microseconds from execution to the end of its reply.
    pub sending_us: u64,
    /// Name of the command.
    pub command: &'static str,
    /// Its key, or the first of several; at most
    /// [`KEY_MAX_BYTES`](crate::limits::KEY_MAX_BYTES) bytes.
    pub key: Box<[u8]>,
    /// Bytes of the values received or sent.
    pub bytes: u64,
    /// Address of the client.
    pub peer: String,
}

/// Contents of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlowLogSnapshot {
    /// Slow commands since the start, including those no longer in the log.
    pub total: u64,
    /// The commands in the log, the newest first.
    pub commands: Vec<Arc<SlowCommand>>,
}

impl SlowLog {
    /// Sets the threshold in nanoseconds; 0 turns the log off.
    pub fn set_threshold(&self, nanos: u64) {
        self.threshold.store(nanos, Ordering::Relaxed);
    }

    /// Returns the threshold in nanoseconds; 0 if the log is off.
    #[inline]
    pub fn threshold(&self) -> u64 {
        self.threshold.load(Ordering::Relaxed)
    }

    /// Returns whether a command that took `nanos` nanoseconds belongs into the
    /// log.
    #[inline]
    pub fn is_slow(&self, nanos: u64) -> bool {
        let threshold = self.threshold();
        threshold != 0 && nanos >= threshold
    }

    /// Adds a command. The oldest one is dropped if the log is full.
    pub fn push(&self, command: SlowCommand) {
        let command = Arc::new(command);
        let mut entries = self.lock();
        let full = entries.ring.len() >= SLOW_LOG_ENTRIES;
        let dropped = full.then(|| entries.ring.pop_front());
        entries.ring.push_back(command);
        entries.total += 1;
        drop(entries);
        // Freed without the lock.
        drop(dropped);
    }

    /// Returns the contents of the log.
    pub fn snapshot(&self) -> SlowLogSnapshot {
        let mut commands = Vec::with_capacity(SLOW_LOG_ENTRIES);
        let entries = self.lock();
        commands.extend(entries.ring.iter().rev().cloned());
        SlowLogSnapshot {
            total: entries.total,
            commands,
        }
    }

    /// Returns the number of slow commands since the start. Clearing the log
    /// does not reset it.
    pub fn total(&self) -> u64 {
        self.lock().total
    }

    /// Removes all commands from the log.
    pub fn clear(&self) {
        let removed = std::mem::take(&mut self.lock().ring);
        // Freed without the lock.
        drop(removed);
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::{SlowCommand, SlowLog};
    use crate::limits::SLOW_LOG_ENTRIES;

    fn slow(number: u64) -> SlowCommand {
        SlowCommand {
            unix_ms: number,
            total_us: 6,
            waiting_us: 1,
            executing_us: 2,
            sending_us: 3,
            command: "get",
            key: number.to_string().into_bytes().into(),
            bytes: 10,
            peer: "127.0.0.1:80".to_owned(),
        }
    }

    fn times(log: &SlowLog) -> Vec<u64> {
        let commands = log.snapshot().commands;
        commands.iter().map(|command| command.unix_ms).collect()
    }

    #[test]
    fn the_threshold_decides_and_zero_is_off() {
        let log = SlowLog::default();
        assert_eq!(log.threshold(), 0);
        assert!(!log.is_slow(u64::MAX));
        log.set_threshold(1_000);
        assert_eq!(
            [999, 1_000, 1_001].map(|n| log.is_slow(n)),
            [false, true, true]
        );
        log.set_threshold(0);
        assert!(!log.is_slow(1_000));
    }

    #[test]
    fn the_newest_commands_are_kept_and_come_first() {
        let log = SlowLog::default();
        log.push(slow(1));
        log.push(slow(2));
        let snapshot = log.snapshot();
        assert_eq!(snapshot.total, 2);
        assert_eq!(*snapshot.commands[0], slow(2));
        assert_eq!(*snapshot.commands[1], slow(1));

        let last = SLOW_LOG_ENTRIES as u64 + 10;
        (3..=last).for_each(|number| log.push(slow(number)));
        assert_eq!(times(&log), (11..=last).rev().collect::<Vec<_>>());
        assert_eq!(log.total(), last);
    }

    #[test]
    fn clearing_keeps_the_total() {
        let log = SlowLog::default();
        log.push(slow(1));
        log.clear();
        assert_eq!((times(&log), log.total()), (vec![], 1));
        log.push(slow(2));
        assert_eq!((times(&log), log.total()), (vec![2], 2));
    }

    #[test]
    fn threads_add_while_others_read() {
        const EACH: u64 = 5_000;
        let log = SlowLog::default();
        thread::scope(|scope| {
            for thread in 0..2 {
                let log = &log;
                scope.spawn(move || {
                    (0..EACH).for_each(|n| log.push(slow(2 * n + thread)));
                });
            }
            scope.spawn(|| {
                let mut last = 0;
                while last < 2 * EACH {
                    let snapshot = log.snapshot();
                    let len = snapshot.commands.len() as u64;
                    assert!(snapshot.total >= last);
                    assert_eq!(len, snapshot.total.min(SLOW_LOG_ENTRIES as u64));
                    for parity in 0..2 {
                        let times = snapshot.commands.iter().map(|command| command.unix_ms);
                        let own = times.filter(|time| time % 2 == parity);
                        assert!(own.is_sorted_by(|newer, older| newer > older));
                    }
                    last = snapshot.total;
                }
            });
        });
        assert_eq!(log.total(), 2 * EACH);
    }
}
