//! How threads reach one that sleeps in its poll: they wake it, leave things
//! for it, or ask it to end. Owned by the server, which gives each thread its
//! own; nothing here waits or locks.

use std::io;

use crossbeam::queue::SegQueue;
use mio::{Poll, Token, Waker};

use crate::sync::{AtomicU8, Ordering};

/// The token of events that mean nothing but "look up".
pub(super) const WAKER: Token = Token(usize::MAX);

/// What a thread is to do.
const SERVE: u8 = 0;
const STOP: u8 = 1;
const PANIC: u8 = 2;

/// Asks a thread to end.
pub(super) struct Stopper {
    waker: Waker,
    order: AtomicU8,
}

impl Stopper {
    /// For the thread that sleeps in `poll`.
    pub(super) fn new(poll: &Poll) -> io::Result<Self> {
        Ok(Self {
            waker: Waker::new(poll.registry(), WAKER)?,
            order: AtomicU8::new(SERVE),
        })
    }

    /// Makes the thread finish what it has begun, and end.
    pub(super) fn stop(&self) {
        self.order.store(STOP, Ordering::Release);
        self.wake();
    }

    /// Makes the thread panic; for tests.
    pub(super) fn inject_panic(&self) {
        self.order.store(PANIC, Ordering::Release);
        self.wake();
    }

    /// Whether the thread is to end.
    ///
    /// # Panics
    /// When a test asks for it.
    pub(super) fn is_stopping(&self) -> bool {
        let order = self.order.load(Ordering::Acquire);
        assert!(order != PANIC, "injected panic");
        order == STOP
    }

    fn wake(&self) {
        // Fails only if the thread's poll is gone, and then nobody waits.
        let _ = self.waker.wake();
    }
}

/// Takes things for a thread, and asks it to end.
pub(super) struct Mailbox<T> {
    arrivals: SegQueue<T>,
    stopper: Stopper,
}

impl<T> Mailbox<T> {
    /// For the thread that sleeps in `poll`.
    pub(super) fn new(poll: &Poll) -> io::Result<Self> {
        Ok(Self {
            arrivals: SegQueue::new(),
            stopper: Stopper::new(poll)?,
        })
    }

    /// Leaves something for the thread, and wakes it.
    pub(super) fn hand_over(&self, thing: T) {
        self.arrivals.push(thing);
        self.stopper.wake();
    }

    /// The next thing that was left; for the thread itself.
    pub(super) fn take(&self) -> Option<T> {
        self.arrivals.pop()
    }

    /// Wakes the thread.
    pub(super) fn wake(&self) {
        self.stopper.wake();
    }

    /// Makes the thread finish what it has begun, and end.
    pub(super) fn stop(&self) {
        self.stopper.stop();
    }

    /// Makes the thread panic; for tests.
    pub(super) fn inject_panic(&self) {
        self.stopper.inject_panic();
    }

    /// Whether the thread is to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopper.is_stopping()
    }
}
