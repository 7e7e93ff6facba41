//! The order of births and invalidations. The file is small enough to be
//! model-checked.
//!
//! Both take numbers from one counter, which also gives CAS values. An item is
//! born with the number that its store drew. An invalidation ends in its slot as
//! a number, too: what was born with a lower one is dead.
//!
//! An invalidation first marks its slot, then draws its number, then puts the
//! number in place of the mark. Whoever meets a mark does the last two steps
//! itself, so that nobody waits for a thread that was interrupted, and nobody
//! judges an item by a number that is not known yet.
//!
//! A change that keeps content of an item (`incr`, `append`, `cas`) draws the
//! number of its result first and then checks that the item is alive. This
//! suffices. All draws are read-modify-writes of one counter, and each sees what
//! happened before the draws of lower numbers. If the change has drawn a higher
//! number than the invalidation, it sees the mark or what followed, and with it
//! that the item is dead. If it has drawn a lower one, its result is dead. No
//! order lets content from before an invalidation live on.
//!
//! A mark is different from all earlier ones of its slot: its ticket is. So a
//! number that was drawn for one mark and comes late does not replace another.

use crate::sync::{AtomicU64, Ordering};

/// Bit of a slot whose number is not drawn yet. Counting does not reach it.
const MARK: u64 = 1 << 63;

/// The counter of CAS values, births and invalidations.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Creates a counter whose first number is `last` plus 1.
    pub(crate) fn new(last: u64) -> Self {
        Self(AtomicU64::new(last))
    }

    /// Draws the next number.
    #[inline]
    pub(crate) fn draw(&self) -> u64 {
        // Acquire and release order each draw with all those before it.
        self.0.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Returns the last number drawn. It is ordered with all draws as if it was
    /// drawn, but clients do not notice it.
    pub(crate) fn last(&self) -> u64 {
        self.0.fetch_add(0, Ordering::AcqRel)
    }

    /// Goes on from `last` at least.
    pub(crate) fn raise(&self, last: u64) {
        self.0.fetch_max(last, Ordering::AcqRel);
    }
}

/// The last invalidation of the names that share a slot.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Slot(AtomicU64);

impl Slot {
    /// Creates the slot of names that were never invalidated. A zeroed slot is
    /// the same.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Invalidates all that was born before this call. `ticket` differs from
    /// those of earlier calls, and is less than 2^63.
    pub(crate) fn invalidate(&self, ticket: u64, counter: &Counter) {
        self.0.store(MARK | ticket, Ordering::Release);
        self.number(counter);
    }

    /// Returns whether what was born with number `birth` is dead.
    #[inline]
    pub(crate) fn is_dead(&self, birth: u64, counter: &Counter) -> bool {
        birth < self.number(counter)
    }

    /// Returns the number of the last invalidation; 0 for none.
    #[inline]
    fn number(&self, counter: &Counter) -> u64 {
        let mut value = self.0.load(Ordering::Acquire);
        while value & MARK != 0 {
            let number = counter.draw();
            value =
                match self
                    .0
                    .compare_exchange(value, number, Ordering::AcqRel, Ordering::Acquire)
                {
                    Ok(_) => number,
                    Err(present) => present,
                };
        }
        value
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Counter, MARK, Slot};
    use crate::sync::Ordering;

    #[test]
    fn what_is_older_is_dead() {
        let (counter, slot) = (Counter::new(1), Slot::new());
        let before = counter.draw();
        assert!(!slot.is_dead(before, &counter) && !slot.is_dead(0, &counter));
        slot.invalidate(1, &counter);
        assert!(slot.is_dead(before, &counter));
        assert!(!slot.is_dead(counter.last(), &counter));
        assert!(!slot.is_dead(counter.draw(), &counter));
    }

    #[test]
    fn a_mark_is_resolved_by_who_meets_it() {
        let (counter, slot) = (Counter::new(1), Slot::new());
        let before = counter.draw();
        slot.0.store(MARK | 7, Ordering::Relaxed);
        assert!(slot.is_dead(before, &counter));
        let after = counter.draw();
        assert!(!slot.is_dead(after, &counter));
        assert_eq!(slot.0.load(Ordering::Relaxed) & MARK, 0);
    }

    #[test]
    fn a_counter_only_rises() {
        let counter = Counter::new(5);
        counter.raise(9);
        counter.raise(7);
        assert_eq!((counter.last(), counter.draw()), (9, 10));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::thread;

    use super::{Counter, Slot};

    struct Scene {
        counter: Counter,
        slot: Slot,
        /// The fast check ahead of the slot: set before the invalidation.
        is_outstanding: AtomicBool,
    }

    impl Scene {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                counter: Counter::new(1),
                slot: Slot::new(),
                is_outstanding: AtomicBool::new(false),
            })
        }

        fn invalidate(&self, ticket: u64) {
            self.is_outstanding.store(true, Ordering::Relaxed);
            self.slot.invalidate(ticket, &self.counter);
        }

        fn is_dead(&self, birth: u64) -> bool {
            self.is_outstanding.load(Ordering::Relaxed) && self.slot.is_dead(birth, &self.counter)
        }
    }

    /// A change of an old item beside an invalidation: its result does not
    /// outlive the invalidation, whatever the order.
    #[test]
    fn a_change_does_not_save_old_content() {
        loom::model(|| {
            let scene = Scene::new();
            let old = scene.counter.draw();
            let changer = {
                let scene = Arc::clone(&scene);
                thread::spawn(move || {
                    let new = scene.counter.draw();
                    (!scene.is_dead(old)).then_some(new)
                })
            };
            scene.invalidate(1);
            let result = changer.join().unwrap();
            assert!(scene.is_dead(old));
            assert!(result.is_none_or(|new| scene.is_dead(new)));
        });
    }

    /// Readers agree about an item, and a set that begins after the reply lives.
    #[test]
    fn a_verdict_does_not_change_back() {
        loom::model(|| {
            let scene = Scene::new();
            let born = scene.counter.draw();
            let reader = {
                let scene = Arc::clone(&scene);
                thread::spawn(move || {
                    let concurrent = scene.counter.draw();
                    let first = [scene.is_dead(born), scene.is_dead(concurrent)];
                    let second = [scene.is_dead(born), scene.is_dead(concurrent)];
                    assert!(!first[0] || second[0]);
                    assert!(!first[1] || second[1]);
                    // Without a further invalidation, alive after the mark was
                    // resolved is alive for ever.
                    (concurrent, first)
                })
            };
            scene.invalidate(1);
            let later = scene.counter.draw();
            assert!(scene.is_dead(born) && !scene.is_dead(later));
            let (concurrent, first) = reader.join().unwrap();
            let last = [scene.is_dead(born), scene.is_dead(concurrent)];
            assert!(last[0]);
            assert!(!first[0] || first[1] == last[1]);
        });
    }

    /// Two invalidations of one slot, and a thread that may resolve the mark of
    /// the first late: nothing older than the second lives.
    #[test]
    fn a_late_number_does_not_replace_a_newer_mark() {
        loom::model(|| {
            let scene = Scene::new();
            scene.is_outstanding.store(true, Ordering::Relaxed);
            let helper = {
                let scene = Arc::clone(&scene);
                thread::spawn(move || scene.is_dead(0))
            };
            scene.invalidate(1);
            let between = scene.counter.draw();
            scene.invalidate(2);
            assert!(scene.is_dead(between));
            helper.join().unwrap();
            assert!(scene.is_dead(between));
        });
    }
}
