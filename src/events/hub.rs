//! The event rings, one per thread, and the state that they share.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam::queue::ArrayQueue;

use crate::events::{Event, EventKind, Kinds};
use crate::limits::{RING_EVENTS, WATCHERS_MAX};
use crate::sync::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use crate::time::unix_micros;

/// Owner of all event rings, and the counters of the watchers.
#[derive(Default)]
pub struct Hub {
    common: Arc<Common>,
    rings: Mutex<Vec<Arc<Ring>>>,
    watchers: AtomicUsize,
    sent: AtomicU64,
    skipped: AtomicU64,
}

/// State that every ring reads.
#[derive(Default)]
struct Common {
    /// Kinds of events that are watched or counted now.
    wanted: AtomicU16,
    /// Number of the last event.
    gid: AtomicU64,
}

/// Bounded queue of one thread's events for the log thread. Allocated at the
/// first event.
pub struct Ring {
    common: Arc<Common>,
    queue: OnceLock<ArrayQueue<Event>>,
    written: AtomicU64,
    dropped: AtomicU64,
}

/// Counters of events and of the lines that watchers received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events put into rings.
    pub written: u64,
    /// Events dropped because a ring was full.
    pub dropped: u64,
    /// Lines sent to watchers.
    pub sent: u64,
    /// Lines skipped because a watcher was too slow.
    pub skipped: u64,
    /// Watchers now.
    pub watchers: u64,
}

impl Hub {
    /// Creates a ring for a thread. Only that thread may put events into it.
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

    /// Returns the kinds of events that are wanted now.
    pub fn wanted(&self) -> Kinds {
        Kinds(self.common.wanted.load(Ordering::Relaxed))
    }

    /// Adds kinds to those wanted, or removes them.
    pub fn set_wanted(&self, kinds: Kinds, wanted: bool) {
        if wanted {
            self.common.wanted.fetch_or(kinds.0, Ordering::Relaxed);
        } else {
            self.common.wanted.fetch_and(!kinds.0, Ordering::Relaxed);
        }
    }

    /// Returns the number of the last event.
    pub fn last_gid(&self) -> u64 {
        self.common.gid.load(Ordering::Relaxed)
    }

    /// Takes one of the [`WATCHERS_MAX`] watcher places. Returns false if all
    /// are taken.
    pub fn admit_watcher(&self) -> bool {
        let admit = |count| (count < WATCHERS_MAX).then_some(count + 1);
        self.watchers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit)
            .is_ok()
    }

    /// Returns a watcher place taken by [`Self::admit_watcher`].
    pub fn dismiss_watcher(&self) {
        self.watchers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Adds to the counts of lines sent to watchers and lines skipped.
    pub fn count_lines(&self, sent: u64, skipped: u64) {
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.skipped.fetch_add(skipped, Ordering::Relaxed);
    }

    /// Removes up to `most` events from the rings and returns them sorted by
    /// number. If `most` is reached, older events may remain in other rings.
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

    /// Returns the counters of events since the start.
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
    /// Returns the kinds of events that are wanted now.
    #[inline]
    pub fn wanted(&self) -> Kinds {
        Kinds(self.common.wanted.load(Ordering::Relaxed))
    }

    /// Numbers an event and puts it into the ring, or drops it if the ring is
    /// full. The ring's owner calls this only for wanted kinds.
    #[cold]
    pub fn put(&self, kind: EventKind) {
        let queue = self.queue.get_or_init(|| ArrayQueue::new(RING_EVENTS));
        let event = Event {
            gid: self.common.gid.fetch_add(1, Ordering::Relaxed) + 1,
            unix_us: unix_micros(),
            kind,
        };
        let outcome = match queue.push(event) {
            Ok(()) => &self.written,
            Err(_) => &self.dropped,
        };
        // Only this thread writes the counters, so that load and store suffice.
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
        hub.set_wanted(Kinds::FETCHERS, true);
        hub.set_wanted(Kinds::DETAIL, true);
        hub.set_wanted(Kinds::FETCHERS, false);
        assert_eq!(ring.wanted(), Kinds::DETAIL);
        let admitted = (0..WATCHERS_MAX + 1).filter(|_| hub.admit_watcher());
        assert_eq!(admitted.count(), WATCHERS_MAX);
        hub.dismiss_watcher();
        assert!(hub.admit_watcher());
    }
}
