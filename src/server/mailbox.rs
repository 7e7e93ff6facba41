//! Mailboxes: how other threads reach a thread that sleeps in its poll. They
//! wake it, hand over objects, or make it stop.
//!
//! Each thread of the server has its own. No operation blocks or locks.

use std::io;

use crossbeam::queue::SegQueue;
use mio::{Poll, Token, Waker};

use crate::sync::{AtomicBool, AtomicU8, Ordering};

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
    /// Set from the wake-up for an object until the queue is found empty. Meanwhile, no further
    /// wake-up is needed.
    announced: AtomicBool,
    stopper: Stopper,
}

impl<T> Mailbox<T> {
    /// Creates the mailbox of the thread that owns `poll`.
    pub(super) fn new(poll: &Poll) -> io::Result<Self> {
        Ok(Self {
            arrivals: SegQueue::new(),
            announced: AtomicBool::new(false),
            stopper: Stopper::new(poll)?,
        })
    }

    /// Queues an object and wakes the thread, unless it will look into the queue anyway.
    pub(super) fn hand_over(&self, thing: T) {
        self.arrivals.push(thing);
        if !self.announced.swap(true, Ordering::AcqRel) {
            self.stopper.wake();
        }
    }

    /// Takes the oldest object. Called by the thread itself, which must call it until it returns
    /// `None` before it sleeps.
    #[inline]
    pub(super) fn take(&self) -> Option<T> {
        if !self.announced.load(Ordering::Acquire) {
            return None;
        }
        self.arrivals.pop().or_else(|| self.take_last())
    }

    /// Ends the announcement, and takes an object that was queued while it lasted.
    fn take_last(&self) -> Option<T> {
        // The swap reads what the last `hand_over` wrote without a wake-up, so its object is seen
        // below.
        self.announced.swap(false, Ordering::AcqRel);
        let found = self.arrivals.pop();
        if found.is_some() {
            // More may have been queued without a wake-up.
            self.announced.store(true, Ordering::Release);
        }
        found
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use mio::{Events, Poll};

    use super::Mailbox;

    /// Objects come from several threads while one takes them and sleeps in between. It would
    /// sleep for ever if a wake-up were missing.
    #[test]
    fn no_object_is_left_without_a_wake_up() {
        const SENDERS: u64 = 3;
        const OBJECTS: u64 = 20_000;
        let mut poll = Poll::new().unwrap();
        let mailbox = Arc::new(Mailbox::new(&poll).unwrap());
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || (0..OBJECTS).for_each(|object| mailbox.hand_over(object)))
            })
            .collect();
        let mut events = Events::with_capacity(4);
        let (mut count, mut sum) = (0, 0);
        while count < SENDERS * OBJECTS {
            poll.poll(&mut events, None).unwrap();
            while let Some(object) = mailbox.take() {
                count += 1;
                sum += object;
            }
        }
        assert_eq!(sum, SENDERS * OBJECTS * (OBJECTS - 1) / 2);
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
    }

    #[test]
    fn objects_queued_together_cost_one_wake_up() {
        let mut poll = Poll::new().unwrap();
        let mailbox = Mailbox::new(&poll).unwrap();
        let mut events = Events::with_capacity(4);
        mailbox.hand_over(1);
        poll.poll(&mut events, None).unwrap();
        mailbox.hand_over(2);
        poll.poll(&mut events, Some(std::time::Duration::ZERO))
            .unwrap();
        assert!(events.is_empty());
        assert_eq!(
            [mailbox.take(), mailbox.take(), mailbox.take()],
            [Some(1), Some(2), None]
        );
        mailbox.hand_over(3);
        poll.poll(&mut events, None).unwrap();
        assert!(!events.is_empty());
        assert_eq!(mailbox.take(), Some(3));
    }
}
