//! Processor time and connections of the worker threads.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, gettid};

use crate::stats::counters::Counters;

/// The worker threads of a server.
#[derive(Debug)]
pub struct Workers(Box<[OnceLock<Worker>]>);

#[derive(Debug)]
struct Worker {
    thread: Pid,
    counters: Arc<Counters>,
}

/// Figures of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerFigures {
    /// Processor time since the thread started.
    pub cpu: Duration,
    /// Open connections.
    pub connections: u64,
}

impl Workers {
    /// Creates the list of `count` workers, which have not started.
    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| OnceLock::new()).collect())
    }

    /// Makes the calling thread the worker with number `index`, which counts in
    /// `counters`.
    pub fn register(&self, index: usize, counters: &Arc<Counters>) {
        let worker = Worker {
            thread: gettid(),
            counters: Arc::clone(counters),
        };
        if let Some(place) = self.0.get(index) {
            // Each worker registers once.
            let _ = place.set(worker);
        }
    }

    /// Returns the figures of all workers. Those of a worker that has not
    /// started or has ended are 0.
    pub fn figures(&self) -> Vec<WorkerFigures> {
        let figures = |worker: &Worker| WorkerFigures {
            cpu: clock_gettime(clock_of(worker.thread)).map_or(Duration::ZERO, Duration::from),
            connections: worker.counters.connections.read(),
        };
        let places = self.0.iter();
        places
            .map(|place| place.get().map(figures).unwrap_or_default())
            .collect()
    }
}

/// Returns the clock of a thread's processor time. Linux makes its number from
/// the thread's (`CPUCLOCK_PERTHREAD_MASK` and `CPUCLOCK_SCHED` in
/// include/linux/posix-timers.h).
fn clock_of(thread: Pid) -> ClockId {
    const PER_THREAD: i32 = 4;
    const SCHED: i32 = 2;
    ClockId::from_raw(!thread.as_raw() << 3 | PER_THREAD | SCHED)
}

#[cfg(test)]
mod tests {
    use super::Workers;
    use crate::stats::Counters;
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    #[test]
    fn threads_have_their_own_time() {
        let workers = Arc::new(Workers::new(3));
        let counters = Arc::new(Counters::default());
        counters.connections.add(4);
        let (registered, wait) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let busy = {
            let workers = Arc::clone(&workers);
            thread::spawn(move || {
                workers.register(1, &counters);
                while workers.figures()[1].cpu < Duration::from_millis(20) {}
                registered.send(()).unwrap();
                // Sleeps until the test has read its figures.
                let _ = ended.recv();
            })
        };
        workers.register(0, &Arc::default());
        wait.recv().unwrap();
        let figures = workers.figures();
        assert!(figures[1].cpu >= Duration::from_millis(20), "{figures:?}");
        assert!(figures[1].cpu < Duration::from_secs(60), "{figures:?}");
        assert_eq!((figures[1].connections, figures[0].connections), (4, 0));
        assert_eq!(figures[2], super::WorkerFigures::default());
        drop(end);
        busy.join().unwrap();
    }
}
