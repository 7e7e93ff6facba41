//! Text that does not go through the queue: what is said before the threads
//! start, as the process ends, and on standard output.

use std::fmt;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use crossbeam::channel::bounded;

use crate::logging::writer::StandardError;

/// Where a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl Stream {
    fn write_all(self, bytes: &[u8]) {
        // Whether anybody reads it is of no consequence.
        let _ = match self {
            Self::Output => {
                let mut output = io::stdout().lock();
                output.write_all(bytes).and_then(|()| output.flush())
            }
            Self::Error => StandardError.write_all(bytes),
        };
    }
}

/// Writes a line to standard error and ignores errors. It blocks as long as
/// the reader is slow, so it is only for a process that serves nobody yet.
pub fn write_line(text: fmt::Arguments<'_>) {
    Stream::Error.write_all(format!("{text}\n").as_bytes());
}

/// Writes a text, on a thread of its own, and waits for the end of that no
/// longer than `patience`. Errors are ignored. Returns false if there could be
/// no thread; then nothing is written.
pub fn write_within(stream: Stream, text: String, patience: Duration) -> bool {
    let (done, finished) = bounded::<()>(0);
    let thread = thread::Builder::new().spawn(move || {
        stream.write_all(text.as_bytes());
        drop(done);
    });
    // Ends by the timeout, or when the thread drops its end.
    thread.is_ok_and(|_| finished.recv_timeout(patience).is_err())
}
