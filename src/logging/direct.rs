//! Writes texts that bypass the queue: before the threads start, while the
//! process ends, and to standard output.

use std::fmt;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use crossbeam::channel::bounded;

use crate::logging::writer::StandardError;

/// Destination of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl Stream {
    fn write_all(self, bytes: &[u8]) {
        // The text is informative; the process goes on if nobody reads it.
        let _ = match self {
            Self::Output => {
                let mut output = io::stdout().lock();
                output.write_all(bytes).and_then(|()| output.flush())
            }
            Self::Error => StandardError.write_all(bytes),
        };
    }
}

/// Writes a line to standard error and ignores errors. Blocks while the reader
/// is slow. Call it only while the process serves no client.
pub fn write_line(text: fmt::Arguments<'_>) {
    Stream::Error.write_all(format!("{text}\n").as_bytes());
}

/// Writes a text from a new thread and waits for it, at most for `timeout`.
/// Errors of the write are ignored.
///
/// Returns false if the thread could not be created; nothing is written then.
/// True does not mean that the text was written in time.
pub fn write_within(stream: Stream, text: String, timeout: Duration) -> bool {
    let (done, finished) = bounded::<()>(0);
    let thread = thread::Builder::new().spawn(move || {
        stream.write_all(text.as_bytes());
        drop(done);
    });
    // Ends at the timeout, or when the thread drops its end of the channel.
    thread.is_ok_and(|_| finished.recv_timeout(timeout).is_err())
}
