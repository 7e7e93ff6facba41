//! Mailboxes: how other threads reach a thread that sleeps in its poll. They
//! wake it, hand over objects, or make it stop.
//!
//! Each thread of the server has its own. No operation blocks or locks.

use std::io;

use crossbeam::queue::SegQueue;
use mio::{Poll, Token, Waker};

use crate::sync::{AtomicU8, Ordering};

/// Token of wake-ups in the poll of any thread.
pub(super) const WAKER: Token = Token(usize::MAX);

/// Orders to a thread.
const SERVE: u8 = 0;
const STOP: u8 = 1;
const PANIC: u8 = 2;

/// Stops a thread that sleeps in a poll.
pub(super) struct Stopper {
    waker: Waker,
    order: AtomicU8,
}

impl Stopper {
    /// Creates the stopper of the thread that owns `poll`. A poll can have one.
    pub(super) fn new(poll: &Poll) -> io::Result<Self> {
        Ok(Self {
            waker: Waker::new(poll.registry(), WAKER)?,
            order: AtomicU8::new(SERVE),
        })
    }

    /// Makes the thread finish its work in progress and end.
    pub(super) fn stop(&self) {
        self.order.store(STOP, Ordering::Release);
        self.wake();
    }

    /// Makes the thread panic. For tests.
    pub(super) fn inject_panic(&self) {
        self.order.store(PANIC, Ordering::Release);
        self.wake();
    }

    /// Returns whether the thread must end. Called by the thread itself.
    ///
    /// # Panics
    /// After [`Stopper::inject_panic`].
    pub(super) fn is_stopping(&self) -> bool {
        let order = self.order.load(Ordering::Acquire);
        assert!(order != PANIC, "injected panic");
        order == STOP
    }

    fn wake(&self) {
        // Fails only if the poll is gone; then the thread has ended.
        let _ = self.waker.wake();
    }
}

/// Queue of objects for a thread that sleeps in a poll, with its stopper.
pub(super) struct Mailbox<T> {
    arrivals: SegQueue<T>,
    stopper: Stopper,
}

impl<T> Mailbox<T> {
    /// Creates the mailbox of the thread that owns `poll`.
    pub(super) fn new(poll: &Poll) -> io::Result<Self> {
        Ok(Self {
            arrivals: SegQueue::new(),
            stopper: Stopper::new(poll)?,
        })
    }

    /// Queues an object and wakes the thread.
    pub(super) fn hand_over(&self, thing: T) {
        self.arrivals.push(thing);
        self.stopper.wake();
    }

    /// Takes the oldest object. Called by the thread itself.
    pub(super) fn take(&self) -> Option<T> {
        self.arrivals.pop()
    }

    /// Wakes the thread from its poll.
    pub(super) fn wake(&self) {
        self.stopper.wake();
    }

    /// Makes the thread finish its work in progress and end.
    pub(super) fn stop(&self) {
        self.stopper.stop();
    }

    /// Makes the thread panic. For tests.
    pub(super) fn inject_panic(&self) {
        self.stopper.inject_panic();
    }

    /// Returns whether the thread must end.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopper.is_stopping()
    }
}
