//! The bounded queue of log lines.

use std::fmt;
use std::fmt::Write as _;

use arrayvec::ArrayVec;
use crossbeam::channel::{Receiver, Sender, bounded};

use crate::limits::{LOG_LINE_MAX_BYTES, LOG_LINES_MAX};
use crate::sync::{AtomicU64, Ordering};

/// Queue of log lines that wait for the [`Writer`](crate::logging::Writer). Holds at most
/// [`LOG_LINES_MAX`] lines of at most [`LOG_LINE_MAX_BYTES`] each.
#[derive(Debug)]
pub struct Log {
    /// Accepts complete lines, newline included.
    pub(super) lines: Sender<Box<[u8]>>,
    /// Complete lines for the writer, oldest first.
    pub(super) waiting: Receiver<Box<[u8]>>,
    /// Lines since the start that did not reach standard error.
    pub(super) dropped: AtomicU64,
}

impl Default for Log {
    fn default() -> Self {
        let (lines, waiting) = bounded(LOG_LINES_MAX);
        let dropped = AtomicU64::new(0);
        Self {
            lines,
            waiting,
            dropped,
        }
    }
}

impl Log {
    /// Queues a line. `text` has no newline. Never blocks.
    ///
    /// If the queue is full, the line is dropped and `text` is not even
    /// formatted. A text longer than [`LOG_LINE_MAX_BYTES`] is cut. Control
    /// characters become `?`.
    pub fn put(&self, text: fmt::Arguments<'_>) {
        if self.lines.is_full() {
            return self.count_dropped(1);
        }
        let mut line = Line::default();
        // An error means that the line is full; the rest of the text is cut.
        let _ = line.write_fmt(text);
        if self.lines.try_send(line.finish()).is_err() {
            self.count_dropped(1);
        }
    }

    /// Returns the number of lines dropped since the start, because the queue
    /// was full or standard error refused them. `stats reset` does not change
    /// it.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Adds to the number of dropped lines.
    pub(super) fn count_dropped(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }
}

/// Buffer on the stack for formatting a line.
#[derive(Default)]
pub(super) struct Line {
    /// The text so far, in UTF-8.
    pub(super) bytes: ArrayVec<u8, LOG_LINE_MAX_BYTES>,
}

impl Line {
    /// Appends the newline and returns the line.
    fn finish(mut self) -> Box<[u8]> {
        // `write_str` has left room for it.
        self.bytes.push(b'\n');
        self.bytes.as_slice().into()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            let shown = if letter.is_control() { '?' } else { letter };
            let mut buffer = [0; 4];
            let encoded = shown.encode_utf8(&mut buffer).as_bytes();
            if encoded.len() >= self.bytes.remaining_capacity() {
                return Err(fmt::Error);
            }
            self.bytes.extend(encoded.iter().copied());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Log;
    use crate::limits::{LOG_LINE_MAX_BYTES, LOG_LINES_MAX};
    use std::fmt;

    /// Panics when it is formatted.
    struct Untouched;

    impl fmt::Display for Untouched {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("formatted although the queue is full")
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts_without_formatting() {
        let log = Log::default();
        for number in 0..LOG_LINES_MAX {
            log.put(format_args!("line {number}"));
        }
        assert_eq!(log.dropped(), 0);
        for _ in 0..3 {
            log.put(format_args!("{Untouched}"));
        }
        assert_eq!(log.dropped(), 3);
        assert_eq!(log.waiting.len(), LOG_LINES_MAX);
        let first = log.waiting.try_recv().expect("the oldest line");
        assert_eq!(&*first, b"line 0\n");
    }

    #[test]
    fn a_line_is_cut_and_stays_one_line() {
        let log = Log::default();
        log.put(format_args!("a\nb\x1b[2J\u{9b}c\u{fc}"));
        log.put(format_args!("{}", "\u{fc}".repeat(LOG_LINE_MAX_BYTES)));
        log.put(format_args!("{}", "x".repeat(LOG_LINE_MAX_BYTES)));
        let next = || log.waiting.try_recv().expect("a line");
        assert_eq!(&*next(), "a?b?[2J?c\u{fc}\n".as_bytes());
        let wide = next();
        let text = std::str::from_utf8(&wide).expect("cut between characters");
        assert!(text.ends_with('\n') && wide.len() <= LOG_LINE_MAX_BYTES);
        assert_eq!(next().len(), LOG_LINE_MAX_BYTES);
    }
}
