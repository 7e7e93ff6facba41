//! The rings, one a thread, and what all of them share.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam::queue::ArrayQueue;

use crate::events::{Event, EventKind, Kinds};
use crate::limits::{RING_EVENTS, WATCHERS_MAX};
use crate::sync::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use crate::time::unix_micros;

/// Where events meet.
#[derive(Default)]
pub struct Hub {
    common: Arc<Common>,
    rings: Mutex<Vec<Arc<Ring>>>,
    watchers: AtomicUsize,
    sent: AtomicU64,
    skipped: AtomicU64,
}

/// What every ring reads.
#[derive(Default)]
struct Common {
    /// The kinds that somebody watches, or that are collected otherwise.
    wanted: AtomicU16,
    /// The last number given to an event.
    gid: AtomicU64,
}

/// One thread's events on their way to the log thread.
pub struct Ring {
    common: Arc<Common>,
    queue: OnceLock<ArrayQueue<Event>>,
    written: AtomicU64,
    dropped: AtomicU64,
}

/// What became of events so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events that rings took.
    pub written: u64,
    /// Events for which a ring had no room.
    pub dropped: u64,
    /// Lines that watchers were sent.
    pub sent: u64,
    /// Lines that watchers were too slow for.
    pub skipped: u64,
    /// Watchers now.
    pub watchers: u64,
}

impl Hub {
    /// A ring for a thread; only that thread may put events into it.
    pub fn ring(&self) -> Arc<Ring> {
        let ring = Arc::new(Ring {
            common: Arc::clone(&self.common),
            queue: OnceLock::new(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        self.rings().push(Arc::clone(&ring));
        ring
    }

    /// The kinds of events that are wanted now.
    pub fn wanted(&self) -> Kinds {
        Kinds(self.common.wanted.load(Ordering::Relaxed))
    }

    /// Says that some kinds are wanted, or no longer.
    pub fn want(&self, kinds: Kinds, wanted: bool) {
        if wanted {
            self.common.wanted.fetch_or(kinds.0, Ordering::Relaxed);
        } else {
            self.common.wanted.fetch_and(!kinds.0, Ordering::Relaxed);
        }
    }

    /// The number of the last event.
    pub fn last_gid(&self) -> u64 {
        self.common.gid.load(Ordering::Relaxed)
    }

    /// Takes one of the places for watchers; false if there is none left.
    pub fn admit_watcher(&self) -> bool {
        let admit = |count| (count < WATCHERS_MAX).then_some(count + 1);
        self.watchers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit)
            .is_ok()
    }

    /// Gives a watcher's place back.
    pub fn dismiss_watcher(&self) {
        self.watchers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts lines that watchers were sent, or were too slow for.
    pub fn count_lines(&self, sent: u64, skipped: u64) {
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.skipped.fetch_add(skipped, Ordering::Relaxed);
    }

    /// Takes up to `most` events out of the rings, oldest first.
    pub fn drain(&self, most: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for ring in self.rings().iter() {
            let Some(queue) = ring.queue.get() else {
                continue;
            };
            let taken = std::iter::from_fn(|| queue.pop());
            events.extend(taken.take(most.saturating_sub(events.len())));
        }
        events.sort_unstable_by_key(|event| event.gid);
        events
    }

    /// What became of events so far.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            watchers: self.watchers.load(Ordering::Relaxed) as u64,
            sent: self.sent.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            ..Totals::default()
        };
        for ring in self.rings().iter() {
            totals.written += ring.written.load(Ordering::Relaxed);
            totals.dropped += ring.dropped.load(Ordering::Relaxed);
        }
        totals
    }

    fn rings(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Ring>>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// The kinds of events that are wanted now.
    #[inline]
    pub fn wanted(&self) -> Kinds {
        Kinds(self.common.wanted.load(Ordering::Relaxed))
    }

    /// Puts an event in, or drops it if there is no room.
    #[cold]
    pub fn put(&self, what: EventKind) {
        let queue = self.queue.get_or_init(|| ArrayQueue::new(RING_EVENTS));
        let event = Event {
            gid: self.common.gid.fetch_add(1, Ordering::Relaxed) + 1,
            unix_us: unix_micros(),
            what,
        };
        let outcome = match queue.push(event) {
            Ok(()) => &self.written,
            Err(_) => &self.dropped,
        };
        // Only this thread writes them.
        outcome.store(outcome.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Hub;
    use crate::events::{EventKind, ItemSize, Kinds};
    use crate::limits::{RING_EVENTS, WATCHERS_MAX};

    fn deletion() -> EventKind {
        EventKind::Deleted {
            key: b"k".as_slice().into(),
            command: "md",
            old: ItemSize::default(),
        }
    }

    #[test]
    fn rings_are_drained_in_order_and_drop_what_does_not_fit() {
        let hub = Hub::default();
        let (one, two) = (hub.ring(), hub.ring());
        for _ in 0..3 {
            one.put(deletion());
            two.put(deletion());
        }
        let gids: Vec<u64> = hub.drain(100).iter().map(|event| event.gid).collect();
        assert_eq!(gids, [1, 2, 3, 4, 5, 6]);
        for _ in 0..RING_EVENTS + 5 {
            one.put(deletion());
        }
        let totals = hub.totals();
        assert_eq!(
            (totals.written, totals.dropped),
            (RING_EVENTS as u64 + 6, 5)
        );
        assert_eq!(hub.drain(10).len(), 10);
    }

    #[test]
    fn wants_and_watchers_are_counted() {
        let hub = Hub::default();
        let ring = hub.ring();
        assert!(ring.wanted().is_empty());
        hub.want(Kinds::FETCHERS, true);
        hub.want(Kinds::DETAIL, true);
        hub.want(Kinds::FETCHERS, false);
        assert_eq!(ring.wanted(), Kinds::DETAIL);
        let admitted = (0..WATCHERS_MAX + 1).filter(|_| hub.admit_watcher());
        assert_eq!(admitted.count(), WATCHERS_MAX);
        hub.dismiss_watcher();
        assert!(hub.admit_watcher());
    }
}
