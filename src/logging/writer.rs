//! Writes queued log lines to standard error or a file, in a thread of its own.
//! Only this thread waits for a slow reader. After lines were dropped, it writes
//! one line with their number as soon as the queue is empty.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use crossbeam::select;

use crate::limits::LOG_LINE_MAX_BYTES;
use crate::logging::queue::Log;

/// Bytes of queued lines from which a write begins. One write holds at most one
/// line more.
const WRITE_BYTES: usize = 16 * 1024;
/// Pause before the next attempt if standard error is non-blocking and takes
/// nothing.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Pause after a refused write. Without it, failing writes would occupy a
/// processor. The queue fills up meanwhile, and dropping a line costs the
/// serving threads next to nothing.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Descriptor 2, without buffer and without the standard library's lock: a
/// thread stuck in a write must not block another one.
#[derive(Clone, Copy, Debug)]
pub struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(io::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receiver that a [`Writer`] ends on when its sender is dropped. A message,
/// which only tests send, makes it panic.
pub type Ended = Receiver<()>;

/// Writes log lines from the queue to `sink`.
#[derive(Debug)]
pub struct Writer<W> {
    log: Arc<Log>,
    sink: W,
    /// Complete lines for the next write.
    batch: Vec<u8>,
    /// Number of dropped lines that is reported already.
    reported: u64,
    ended: Ended,
    /// Dropped when the thread ends.
    _done: Sender<()>,
}

/// Handle to stop a [`Writer`]. Dropping it stops the writer without waiting.
#[derive(Debug)]
pub struct WriterHandle {
    ended: Option<Sender<()>>,
    done: Receiver<()>,
}

impl WriterHandle {
    /// Makes the writer write the queued lines and end, and waits at most
    /// `timeout` for it. Returns whether it has ended. If not, its thread is
    /// stuck in a write and must not be joined.
    pub fn stop(&mut self, timeout: Duration) -> bool {
        self.ended = None;
        let waited = self.done.recv_timeout(timeout);
        waited == Err(RecvTimeoutError::Disconnected)
    }

    /// Makes the writer panic. For tests.
    pub(crate) fn inject_panic(&self) {
        if let Some(ended) = &self.ended {
            // Sending fails only if the writer has ended.
            let _ = ended.try_send(());
        }
    }
}

impl<W: Write> Writer<W> {
    /// Creates a writer from the queue `log` to `sink`, and the handle that
    /// stops it.
    pub fn new(log: Arc<Log>, sink: W) -> (Self, WriterHandle) {
        let (ender, ended) = bounded(1);
        let (done, waiter) = bounded(0);
        let writer = Self {
            log,
            sink,
            batch: Vec::with_capacity(WRITE_BYTES + LOG_LINE_MAX_BYTES),
            reported: 0,
            ended,
            _done: done,
        };
        let handle = WriterHandle {
            ended: Some(ender),
            done: waiter,
        };
        (writer, handle)
    }

    /// Writes lines until the handle is stopped or dropped, then the lines left
    /// in the queue.
    ///
    /// # Panics
    /// When a test asks for it.
    pub fn run(mut self) {
        loop {
            let line = select! {
                recv(self.log.waiting) -> line => line.ok(),
                recv(self.ended) -> message => {
                    assert!(message.is_err(), "injected panic");
                    None
                }
            };
            match line {
                Some(line) => self.write_from(&line),
                None => break,
            }
        }
        if let Ok(line) = self.log.waiting.try_recv() {
            self.write_from(&line);
        }
    }

    /// Writes this line and all lines queued behind it.
    fn write_from(&mut self, first: &[u8]) {
        self.batch.extend_from_slice(first);
        let mut written = true;
        while !self.batch.is_empty() {
            while self.batch.len() < WRITE_BYTES
                && let Ok(line) = self.log.waiting.try_recv()
            {
                self.batch.extend_from_slice(&line);
            }
            let lost = self.write_batch();
            self.log.count_dropped(lost);
            written = lost == 0;
            if !written {
                self.pause();
            }
            if let Ok(line) = self.log.waiting.try_recv() {
                self.batch.extend_from_slice(&line);
            }
        }
        if written {
            self.report();
        }
    }

    /// Waits after a refused write, unless the writer must end.
    fn pause(&self) {
        let message = self.ended.recv_timeout(REFUSED_PAUSE);
        assert!(message.is_err(), "injected panic");
    }

    /// Reports the lines dropped since the last report, if there are any.
    fn report(&mut self) {
        let dropped = self.log.dropped();
        if dropped == self.reported {
            return;
        }
        let lines = dropped - self.reported;
        let line = self
            .log
            .formatted(format_args!("rustcached: {lines} log lines were dropped"));
        self.batch.extend_from_slice(&line);
        if self.write_batch() == 0 {
            self.reported = dropped;
        }
    }

    /// Writes the batch and clears it. Returns the number of lines that were
    /// refused, at least in part.
    fn write_batch(&mut self) -> u64 {
        let mut rest = &self.batch[..];
        while !rest.is_empty() {
            match self.sink.write(rest) {
                Ok(0) => break,
                Ok(len) => rest = &rest[len..],
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
                    // The reader is gone, the disk is full, or the device
                    // failed. The next lines may succeed.
                    _ => break,
                },
            }
        }
        let lost = rest.iter().filter(|byte| **byte == b'\n').count();
        self.batch.clear();
        lost as u64
    }
}

#[cfg(test)]
mod tests {
    use super::{Writer, WriterHandle};
    use crate::limits::LOG_LINES_MAX;
    use crate::logging::queue::Log;
    use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
    use std::io::{self, ErrorKind, Write};
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    /// A sink that takes each write when the test allows it, with the result
    /// that the test supplies.
    struct Scripted {
        results: Receiver<io::Result<()>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.results.recv().unwrap_or(Ok(()))?;
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Scene {
        log: Arc<Log>,
        handle: WriterHandle,
        results: Sender<io::Result<()>>,
        written: Receiver<Vec<u8>>,
        thread: thread::JoinHandle<()>,
    }

    const LONG: Duration = Duration::from_secs(20);

    fn start() -> Scene {
        let log = Arc::new(Log::default());
        let (results, awaited) = bounded(0);
        let (sent, written) = unbounded();
        let sink = Scripted {
            results: awaited,
            written: sent,
        };
        let (writer, handle) = Writer::new(Arc::clone(&log), sink);
        Scene {
            log,
            handle,
            results,
            written,
            thread: thread::spawn(move || writer.run()),
        }
    }

    impl Scene {
        /// Lets one write end with `result`. Waits until it has begun.
        fn allow(&self, result: io::Result<()>) {
            self.results
                .send_timeout(result, LONG)
                .expect("a write is under way");
        }

        fn text(&self) -> String {
            let bytes = self.written.recv_timeout(LONG).expect("something written");
            String::from_utf8(bytes).expect("text")
        }
    }

    #[test]
    fn dropped_lines_are_reported_once_when_the_queue_is_empty() {
        let mut scene = start();
        scene.log.put(format_args!("first"));
        // The writer is stuck in the first write, which may hold some of these.
        for _ in 0..4 * LOG_LINES_MAX {
            scene.log.put(format_args!("filler"));
        }
        let dropped = scene.log.dropped();
        assert!(dropped > 0);
        drop(scene.results);
        assert!(scene.handle.stop(LONG));
        scene.thread.join().expect("it ends");
        let all: String = scene
            .written
            .iter()
            .map(|bytes| String::from_utf8(bytes).expect("text"))
            .collect();
        let report = format!("rustcached: {dropped} log lines were dropped");
        assert_eq!(all.lines().filter(|line| *line == report).count(), 1);
        assert_eq!(all.lines().last(), Some(&*report));
        let written = all.lines().count() - 1;
        assert_eq!(written as u64 + dropped, 4 * LOG_LINES_MAX as u64 + 1);
    }

    #[test]
    fn a_refused_write_is_counted_and_the_next_one_is_tried() {
        let scene = start();
        for kind in [ErrorKind::BrokenPipe, ErrorKind::StorageFull] {
            let before = scene.log.dropped();
            scene.log.put(format_args!("lost"));
            scene.allow(Err(kind.into()));
            while scene.log.dropped() == before {
                thread::yield_now();
            }
        }
        assert_eq!(scene.log.dropped(), 2);
        scene.log.put(format_args!("arrives"));
        scene.allow(Ok(()));
        assert_eq!(scene.text(), "arrives\n");
        scene.allow(Ok(()));
        assert_eq!(scene.text(), "rustcached: 2 log lines were dropped\n");
    }

    #[test]
    fn a_stuck_reader_does_not_hold_up_the_stop() {
        let mut scene = start();
        scene.log.put(format_args!("stuck"));
        assert!(!scene.handle.stop(Duration::from_millis(10)));
    }
}
