//! Output of statistics, as `STAT` lines to a text client, as packets to a
//! binary one, or as a list for other readers. Groups of statistics write names
//! and values here, independent of the protocol.

use std::fmt::{Display, Write as _};

use crate::protocol::binary::encode::{Echo, Status, error, keyed};
use crate::protocol::text::encode;

/// Names and values of a group of statistics.
pub type StatList = Vec<(String, String)>;

/// Writer of a group of statistics.
pub(in crate::command) struct StatSink<'a> {
    target: Target<'a>,
    /// Buffer for a value, because a packet starts with its length.
    figure: String,
}

enum Target<'a> {
    /// `STAT` lines.
    Text(&'a mut Vec<u8>),
    /// Packets with these header fields.
    Binary(&'a mut Vec<u8>, Echo),
    List(&'a mut StatList),
}

impl<'a> StatSink<'a> {
    /// Creates a sink that appends `STAT` lines to `out`.
    pub(in crate::command) fn text(out: &'a mut Vec<u8>) -> Self {
        Self::new(Target::Text(out))
    }

    /// Creates a sink that appends packets to `out`, as replies to `echo`.
    pub(in crate::command) fn binary(out: &'a mut Vec<u8>, echo: Echo) -> Self {
        Self::new(Target::Binary(out, echo))
    }

    /// Creates a sink that appends to `list`.
    pub(in crate::command) fn list(list: &'a mut StatList) -> Self {
        Self::new(Target::List(list))
    }

    fn new(target: Target<'a>) -> Self {
        Self {
            target,
            figure: String::new(),
        }
    }

    /// Ends a group.
    pub(in crate::command) fn end(&mut self) {
        self.done("END");
    }

    /// Replies to a command without statistics: a text client gets `word`, a
    /// binary one the packet that ends every group.
    pub(in crate::command) fn done(&mut self, word: &str) {
        match &mut self.target {
            Target::Text(out) => encode::line(out, word),
            Target::Binary(out, echo) => keyed(out, *echo, Status::Ok, b"", b""),
            Target::List(_) => {}
        }
    }

    /// Refuses a command: a text client gets the line `words`, a binary one the
    /// status "not found".
    pub(in crate::command) fn refuse(&mut self, words: &str) {
        match &mut self.target {
            Target::Text(out) => encode::line(out, words),
            Target::Binary(out, echo) => error(out, *echo, Status::NotFound),
            Target::List(_) => {}
        }
    }

    /// Appends a group in a format of its own, its end included. A binary
    /// client gets it as one statistic of this name.
    pub(in crate::command) fn lines(&mut self, name: &str, lines: &[u8]) {
        match &mut self.target {
            Target::Text(out) => out.extend_from_slice(lines),
            Target::Binary(out, echo) => {
                keyed(out, *echo, Status::Ok, name.as_bytes(), lines);
                self.end();
            }
            Target::List(_) => {}
        }
    }
}

/// Appends a statistic.
pub(in crate::command) fn stat(sink: &mut StatSink<'_>, name: &str, value: impl Display) {
    match &mut sink.target {
        Target::Text(out) => encode::stat(out, name, value),
        Target::Binary(out, echo) => {
            sink.figure.clear();
            // Writing to a String cannot fail.
            let _ = write!(sink.figure, "{value}");
            let (name, figure) = (name.as_bytes(), sink.figure.as_bytes());
            keyed(out, *echo, Status::Ok, name, figure);
        }
        Target::List(list) => list.push((name.to_owned(), value.to_string())),
    }
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
