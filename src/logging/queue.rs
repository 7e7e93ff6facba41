//! The bounded queue of log lines.

use std::fmt;
use std::fmt::Write as _;

use arrayvec::ArrayVec;
use crossbeam::channel::{Receiver, Sender, bounded};

use crate::config::LogFormat;
use crate::limits::{LOG_LINE_MAX_BYTES, LOG_LINES_MAX};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::time::unix_micros;

/// Queue of log lines that wait for the [`Writer`](crate::logging::Writer). Holds at most
/// [`LOG_LINES_MAX`] lines of at most [`LOG_LINE_MAX_BYTES`] each.
#[derive(Debug)]
pub struct Log {
    /// Accepts complete lines, newline included.
    pub(super) lines: Sender<Box<[u8]>>,
    /// Complete lines for the writer, oldest first.
    pub(super) waiting: Receiver<Box<[u8]>>,
    /// Lines since the start that did not reach the output.
    pub(super) dropped: AtomicU64,
    format: LogFormat,
    /// The log file is to be reopened.
    reopen: AtomicBool,
}

impl Default for Log {
    fn default() -> Self {
        Self::new(LogFormat::Text)
    }
}

impl Log {
    /// Creates an empty queue for lines of this format.
    pub fn new(format: LogFormat) -> Self {
        let (lines, waiting) = bounded(LOG_LINES_MAX);
        Self {
            lines,
            waiting,
            dropped: AtomicU64::new(0),
            format,
            reopen: AtomicBool::new(false),
        }
    }

    /// Requests that the log file be reopened before the next line is written.
    pub fn request_reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Returns whether the log file must be reopened. True once per request.
    pub(super) fn take_reopen_request(&self) -> bool {
        self.reopen.swap(false, Ordering::Relaxed)
    }

    /// Queues a line. `text` has no newline. Never blocks.
    ///
    /// If the queue is full, the line is dropped and `text` is not even
    /// formatted. A text longer than [`LOG_LINE_MAX_BYTES`] is cut. Control
    /// characters become `?`.
    pub fn put(&self, text: fmt::Arguments<'_>) {
        if self.lines.is_full() {
            return self.count_dropped(1);
        }
        let line = self.formatted(text);
        if self.lines.try_send(line).is_err() {
            self.count_dropped(1);
        }
    }

    /// Returns a complete line, its newline included.
    pub(super) fn formatted(&self, text: fmt::Arguments<'_>) -> Box<[u8]> {
        let mut line = Line::default();
        // An error means that the line is full; the rest of the text is cut.
        if self.format == LogFormat::Text {
            let _ = line.write_fmt(text);
            return line.finish("");
        }
        let micros = unix_micros();
        let (seconds, millis) = (micros / 1_000_000, micros / 1000 % 1000);
        let _ = write!(line, "{{\"ts\":{seconds}.{millis:03},\"message\":\"");
        line.escapes = true;
        let _ = line.write_fmt(text);
        line.finish("\"}")
    }

    /// Returns the number of lines dropped since the start, because the queue
    /// was full or the output refused them. `stats reset` does not change
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
    /// Escape the text as in a JSON string.
    escapes: bool,
}

/// Bytes that are kept free for the end of a line.
const END_BYTES: usize = 3;

impl Line {
    /// Appends `end` and the newline, and returns the line.
    fn finish(mut self, end: &str) -> Box<[u8]> {
        // `write_str` has left room for them.
        self.bytes.extend(end.bytes());
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
            let escape = self.escapes && matches!(shown, '"' | '\\');
            let len = usize::from(escape) + encoded.len();
            if len + END_BYTES > self.bytes.remaining_capacity() {
                return Err(fmt::Error);
            }
            if escape {
                self.bytes.push(b'\\');
            }
            self.bytes.extend(encoded.iter().copied());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{END_BYTES, Log};
    use crate::config::LogFormat;
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
        assert_eq!(next().len(), LOG_LINE_MAX_BYTES - END_BYTES + 1);
    }

    #[test]
    fn json_lines_are_objects_also_when_cut() {
        let log = Log::new(LogFormat::Json);
        log.put(format_args!("a \"b\" \\ \n\u{fc}"));
        log.put(format_args!("{}", "\"".repeat(LOG_LINE_MAX_BYTES)));
        let next = || {
            let line = log.waiting.try_recv().expect("a line");
            assert!(line.len() <= LOG_LINE_MAX_BYTES);
            serde_json::from_slice::<serde_json::Value>(&line).expect("JSON")
        };
        let line = next();
        assert_eq!(line["message"], "a \"b\" \\ ?\u{fc}");
        assert!(line["ts"].as_f64().expect("a number") > 1.7e9);
        let message = next()["message"].as_str().expect("a text").to_owned();
        assert!(message.len() > LOG_LINE_MAX_BYTES / 3, "{}", message.len());
    }
}
