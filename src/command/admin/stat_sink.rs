//! Output of statistics, as `STAT` lines to a text client or as packets to a
//! binary one. Groups of statistics write names and values here, independent of
//! the protocol.

use std::fmt::{Display, Write as _};

use crate::protocol::binary::encode::{Echo, Status, error, keyed};
use crate::protocol::text::encode;

/// Writer of a group of statistics.
pub(in crate::command) struct StatSink<'a> {
    out: &'a mut Vec<u8>,
    /// Header fields of the packets; `None` for text.
    binary: Option<Echo>,
    /// Buffer for a value, because a packet starts with its length.
    figure: String,
}

impl<'a> StatSink<'a> {
    /// Creates a sink that appends `STAT` lines to `out`.
    pub(in crate::command) fn text(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            binary: None,
            figure: String::new(),
        }
    }

    /// Creates a sink that appends packets to `out`, as replies to `echo`.
    pub(in crate::command) fn binary(out: &'a mut Vec<u8>, echo: Echo) -> Self {
        Self {
            binary: Some(echo),
            ..Self::text(out)
        }
    }

    /// Ends a group.
    pub(in crate::command) fn end(&mut self) {
        self.done("END");
    }

    /// Replies to a command without statistics: a text client gets `word`, a
    /// binary one the packet that ends every group.
    pub(in crate::command) fn done(&mut self, word: &str) {
        match self.binary {
            None => encode::line(self.out, word),
            Some(echo) => keyed(self.out, echo, Status::Ok, b"", b""),
        }
    }

    /// Refuses a command: a text client gets the line `words`, a binary one the
    /// status "not found".
    pub(in crate::command) fn refuse(&mut self, words: &str) {
        match self.binary {
            None => encode::line(self.out, words),
            Some(echo) => error(self.out, echo, Status::NotFound),
        }
    }

    /// Appends a group in a format of its own, its end included. A binary
    /// client gets it as one statistic of this name.
    pub(in crate::command) fn lines(&mut self, name: &str, lines: &[u8]) {
        match self.binary {
            None => self.out.extend_from_slice(lines),
            Some(echo) => {
                keyed(self.out, echo, Status::Ok, name.as_bytes(), lines);
                self.end();
            }
        }
    }
}

/// Appends a statistic.
pub(in crate::command) fn stat(sink: &mut StatSink<'_>, name: &str, value: impl Display) {
    let Some(echo) = sink.binary else {
        return encode::stat(sink.out, name, value);
    };
    sink.figure.clear();
    // Writing to a String cannot fail.
    let _ = write!(sink.figure, "{value}");
    let (name, figure) = (name.as_bytes(), sink.figure.as_bytes());
    keyed(sink.out, echo, Status::Ok, name, figure);
}

#[cfg(test)]
mod tests {
    use super::{StatSink, stat};
    use crate::protocol::binary::encode::Echo;

    fn write(mut sink: StatSink<'_>) {
        stat(&mut sink, "items", 12);
        sink.lines("detailed", b"PREFIX a\r\nEND\r\n");
        sink.refuse("ERROR");
    }

    #[test]
    fn figures_become_lines_or_packets() {
        let mut text = Vec::new();
        write(StatSink::text(&mut text));
        assert_eq!(text, b"STAT items 12\r\nPREFIX a\r\nEND\r\nERROR\r\n");
        let echo = Echo {
            opcode: 0x10,
            opaque: *b"mark",
        };
        let mut packets = Vec::new();
        write(StatSink::binary(&mut packets, echo));
        let bodies: Vec<&[u8]> = split(&packets);
        let want: [&[u8]; 4] = [
            b"items12",
            b"detailedPREFIX a\r\nEND\r\n",
            b"",
            b"Not found",
        ];
        assert_eq!(bodies, want);
    }

    fn split(mut packets: &[u8]) -> Vec<&[u8]> {
        let mut bodies = Vec::new();
        while let [_, .., _] = packets {
            let end = 24 + usize::from(packets[11]);
            bodies.push(&packets[24..end]);
            packets = &packets[end..];
        }
        bodies
    }
}
