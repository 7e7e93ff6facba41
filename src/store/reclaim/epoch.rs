//! Epochs: they show when no thread can still read what was unlinked from the
//! map. The file is small enough to be model-checked.
//!
//! A thread that reads without locks *enters* before and *leaves* after. Its
//! place holds the epoch at which it entered. Garbage gets the number of an
//! epoch that began after it was unlinked. A thread that entered at this epoch
//! or later cannot have found it. So the garbage may be freed as soon as no
//! other thread is inside at an earlier epoch.
//!
//! Why: between [`Epochs::enter`] and the first read there is a `SeqCst` fence,
//! and between unlinking and [`Epochs::oldest`] another one. If the reader's
//! fence is first, `oldest` sees the reader. Else the reader sees that the
//! garbage is unlinked. (Fraser, "Practical lock-freedom", 2004, has the idea.)

use crossbeam::utils::CachePadded;

use crate::sync::{AtomicU64, AtomicUsize, Ordering, fence};

/// A place that no thread has claimed.
const UNCLAIMED: u64 = 0;
/// The first epoch.
const FIRST: u64 = 1;
/// Epoch of a thread that is outside: later than all others.
pub(crate) const OUTSIDE: u64 = u64::MAX;

/// The global epoch and the places of the threads.
#[derive(Debug)]
pub(crate) struct Epochs {
    global: CachePadded<AtomicU64>,
    /// One per thread: the epoch at which it entered, or [`OUTSIDE`].
    places: Box<[CachePadded<AtomicU64>]>,
    /// All places from here on were never claimed.
    claimed: AtomicUsize,
}

impl Epochs {
    /// Creates epochs with `places` places for threads.
    pub(crate) fn new(places: usize) -> Self {
        let place = |_| CachePadded::new(AtomicU64::new(UNCLAIMED));
        Self {
            global: CachePadded::new(AtomicU64::new(FIRST)),
            places: (0..places).map(place).collect(),
            claimed: AtomicUsize::new(0),
        }
    }

    /// Returns the bytes of the places.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.places)
    }

    /// Claims a place for a thread. Returns its number, or `None` if all are
    /// taken: such a thread must not read without locks.
    pub(crate) fn claim(&self) -> Option<usize> {
        let number = self.places.iter().position(|place| {
            let claim =
                place.compare_exchange(UNCLAIMED, OUTSIDE, Ordering::Relaxed, Ordering::Relaxed);
            claim.is_ok()
        })?;
        self.claimed.fetch_max(number + 1, Ordering::Relaxed);
        Some(number)
    }

    /// Gives up the place of a thread that is outside.
    pub(crate) fn give_up(&self, place: usize) {
        self.places[place].store(UNCLAIMED, Ordering::Release);
    }

    /// Enters: until the thread leaves, nothing is freed that it finds.
    #[inline]
    pub(crate) fn enter(&self, place: usize) {
        // Acquire pairs with `advance`: garbage of this epoch and of earlier
        // ones is seen to be unlinked.
        let epoch = self.global.load(Ordering::Acquire);
        // Release: the reads before the previous `leave` have ended, also for a
        // thread that sees only this store.
        self.places[place].store(epoch, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Leaves: the thread must not use what it found any more.
    #[inline]
    pub(crate) fn leave(&self, place: usize) {
        // Release: its reads have ended.
        self.places[place].store(OUTSIDE, Ordering::Release);
    }

    /// Begins the next epoch, and returns its number. It may be given to garbage
    /// that the caller has unlinked before.
    pub(crate) fn advance(&self) -> u64 {
        self.global.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Returns the earliest epoch at which a thread is inside; [`OUTSIDE`] if
    /// none is. Leaves out the caller, whose place is `own`: it must hold nothing
    /// that it found. Garbage whose number is not later may be freed. Garbage
    /// without a number, which the caller has unlinked, may be freed if no thread
    /// is inside.
    pub(crate) fn oldest(&self, own: Option<usize>) -> u64 {
        fence(Ordering::SeqCst);
        let claimed = self.claimed.load(Ordering::Relaxed);
        let mut oldest = OUTSIDE;
        for (number, place) in self.places[..claimed].iter().enumerate() {
            if own == Some(number) {
                continue;
            }
            // Acquire: the reads of a thread that has left came before.
            match place.load(Ordering::Acquire) {
                UNCLAIMED => {}
                epoch => oldest = oldest.min(epoch),
            }
        }
        oldest
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Epochs, OUTSIDE};

    #[test]
    fn garbage_waits_for_those_inside_since_before() {
        let epochs = Epochs::new(3);
        let [a, b, c] = std::array::from_fn(|_| epochs.claim().unwrap());
        assert_eq!(epochs.claim(), None, "all places are taken");
        assert_eq!(epochs.oldest(None), OUTSIDE);
        epochs.enter(a);
        let garbage = epochs.advance();
        epochs.enter(b);
        assert!(epochs.oldest(Some(c)) < garbage, "a may have found it");
        assert!(epochs.oldest(Some(a)) >= garbage, "b cannot have");
        assert_ne!(epochs.oldest(Some(a)), OUTSIDE);
        epochs.leave(a);
        assert!(epochs.oldest(Some(c)) >= garbage);
        epochs.leave(b);
        assert_eq!(epochs.oldest(None), OUTSIDE);
        epochs.give_up(b);
        assert_eq!(epochs.claim(), Some(b), "a place is used again");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    use super::{Epochs, OUTSIDE};

    /// A map of one slot, which holds the number of an item.
    struct Model {
        epochs: Epochs,
        slot: AtomicUsize,
        /// Whether the item with this number is freed. Access to it is access
        /// to the item: loom reports a free during a read.
        items: [UnsafeCell<bool>; 3],
    }

    impl Model {
        fn new() -> Self {
            Self {
                epochs: Epochs::new(3),
                slot: AtomicUsize::new(0),
                items: std::array::from_fn(|_| UnsafeCell::new(false)),
            }
        }

        fn read(&self, place: usize) {
            self.epochs.enter(place);
            let found = self.slot.load(Ordering::Acquire);
            // SAFETY: the epoch keeps the item. This is what loom checks.
            self.items[found].with(|freed| assert!(!unsafe { *freed }));
            self.epochs.leave(place);
        }

        /// Replaces the item. Returns the old one.
        fn replace(&self, new: usize) -> usize {
            self.slot.swap(new, Ordering::Release)
        }

        fn free(&self, item: usize) {
            // SAFETY: no thread reads it any more. This is what loom checks.
            self.items[item].with_mut(|freed| unsafe { *freed = true });
        }

        /// Frees an item that was unlinked: at once if no thread is inside, else
        /// by its number.
        fn retire(&self, own: usize, old: usize) {
            if self.epochs.oldest(Some(own)) == OUTSIDE {
                return self.free(old);
            }
            self.retire_by_number(own, old);
        }

        fn retire_by_number(&self, own: usize, old: usize) {
            let number = self.epochs.advance();
            // Waiting would be an endless loop to loom.
            for _ in 0..2 {
                if self.epochs.oldest(Some(own)) >= number {
                    return self.free(old);
                }
                thread::yield_now();
            }
        }
    }

    /// Replaces and retires an item while a reader enters twice.
    fn retire_beside_a_reader(retire: fn(&Model, usize, usize)) {
        loom::model(move || {
            let model = Arc::new(Model::new());
            let [own, place] = std::array::from_fn(|_| model.epochs.claim().unwrap());
            let reader = {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    model.read(place);
                    model.read(place);
                })
            };
            let old = model.replace(1);
            retire(&model, own, old);
            reader.join().unwrap();
        });
    }

    #[test]
    fn nothing_is_freed_while_it_is_read() {
        retire_beside_a_reader(Model::retire);
    }

    /// A thread that ends gives a number to its garbage without a look at the
    /// others.
    #[test]
    fn nothing_with_a_number_is_freed_while_it_is_read() {
        retire_beside_a_reader(Model::retire_by_number);
    }

    /// Another thread begins epochs and frees its own garbage meanwhile.
    #[test]
    fn epochs_of_other_threads_free_nothing_early() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let model = Arc::new(Model::new());
            let [own, place, third] = std::array::from_fn(|_| model.epochs.claim().unwrap());
            let reader = {
                let model = Arc::clone(&model);
                thread::spawn(move || model.read(place))
            };
            let other = {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    let old = model.replace(2);
                    model.retire(third, old);
                })
            };
            let old = model.replace(1);
            model.retire(own, old);
            reader.join().unwrap();
            other.join().unwrap();
        });
    }
}
