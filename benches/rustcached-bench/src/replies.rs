//! Parses replies, with the help of the [`Expected`] information.
//!
//! If the length of a hit is known, a single byte distinguishes a hit from a miss and the rest is
//! skipped. This takes a few nanoseconds per reply. Otherwise header lines are parsed. The reader
//! keeps no bytes: the caller must pass unconsumed bytes again, with more behind them.

use memchr::memchr;

use super::wire::{Expected, Kind};

/// Maximum length of a reply line in bytes. Longer input without a CRLF is not a reply.
const LINE_MAX: usize = 2048;
const BINARY_HEADER: usize = 24;

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Reply to a retrieval.
    Lookup {
        /// Keys found.
        hits: u32,
        /// Keys not found.
        misses: u32,
    },
    /// The item was stored.
    Stored,
    /// Any other line: an error, or a refusal such as `NOT_STORED`.
    Refused(&'a [u8]),
}

/// Receives the outcomes of requests.
pub trait ReplyHandler {
    /// Reports the reply to the request at `index` of its batch.
    fn on_reply(&mut self, index: usize, outcome: Outcome<'_>);

    /// Reports the value of a hit, if the reader passes whole values. `key` is the key in the
    /// reply, if the reply contains it.
    fn on_value(&mut self, expected: &Expected, key: Option<&[u8]>, value: &[u8]);
}

/// Result of [`ReplyReader::feed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Bytes consumed. The caller must pass the others again.
    pub used: usize,
    /// Number of requests whose replies were completed.
    pub answered: u64,
    /// Whether the whole batch has been answered.
    pub finished: bool,
}

/// Error: the bytes are not a reply to the request. Contains a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidReply(pub String);

/// Reads the replies to the batches of a connection, one batch after another.
#[derive(Debug, Default)]
pub struct ReplyReader {
    whole_values: bool,
    next: usize,
    hits: u32,
    skip: usize,
    skip_is_text: bool,
    ends_reply: bool,
}

enum Step {
    More,
    /// Bytes consumed; the reply continues.
    Used(usize),
    /// Bytes consumed; the reply is complete.
    Done(usize),
    /// Bytes to skip, some of which may not have arrived yet, and whether the reply is complete
    /// then.
    Skip(usize, bool),
}

impl ReplyReader {
    /// Creates a reader that passes values to [`ReplyHandler::on_value`] (`whole_values`) or skips
    /// them.
    pub fn new(whole_values: bool) -> Self {
        ReplyReader {
            whole_values,
            ..ReplyReader::default()
        }
    }

    /// Parses `data`. `expected` is the whole batch, and must be the same until the batch is
    /// finished.
    pub fn feed<A: ReplyHandler>(
        &mut self,
        data: &[u8],
        expected: &[Expected],
        handler: &mut A,
    ) -> Result<Parsed, InvalidReply> {
        let mut used = 0;
        let first = self.next;
        while self.next < expected.len() {
            if self.skip > 0 {
                used += self.skip_bytes(&data[used..])?;
                if self.skip > 0 {
                    break;
                }
                continue;
            }
            match self.step(&data[used..], &expected[self.next], handler)? {
                Step::More => break,
                Step::Used(n) => used += n,
                Step::Done(n) => {
                    used += n;
                    self.end_reply();
                }
                Step::Skip(n, ends_reply) => {
                    self.skip = n;
                    self.ends_reply = ends_reply;
                }
            }
        }
        let answered = (self.next - first) as u64;
        let finished = self.next == expected.len();
        if finished {
            self.next = 0;
        }
        Ok(Parsed {
            used,
            answered,
            finished,
        })
    }

    fn skip_bytes(&mut self, data: &[u8]) -> Result<usize, InvalidReply> {
        let n = self.skip.min(data.len());
        self.skip -= n;
        if self.skip == 0 {
            if self.skip_is_text && data[n - 1] != b'\n' {
                return Err(InvalidReply(
                    "a value has not the size expected (were the keys loaded with these options?)"
                        .to_string(),
                ));
            }
            if self.ends_reply {
                self.end_reply();
            }
        }
        Ok(n)
    }

    fn end_reply(&mut self) {
        self.next += 1;
        self.hits = 0;
    }

    fn step<A: ReplyHandler>(
        &mut self,
        data: &[u8],
        expected: &Expected,
        handler: &mut A,
    ) -> Result<Step, InvalidReply> {
        let Some(&first) = data.first() else {
            return Ok(Step::More);
        };
        self.skip_is_text = expected.kind != Kind::Binary;
        match expected.kind {
            Kind::Values if first == b'V' => self.values(data, expected, handler),
            Kind::MetaValue if first == b'V' => self.meta_value(data, expected, handler),
            Kind::Binary => self.binary(data, expected, handler),
            kind => {
                let Some(line) = line(data)? else {
                    return Ok(Step::More);
                };
                let outcome = match kind {
                    Kind::Values if line == b"END" => Outcome::Lookup {
                        hits: self.hits,
                        misses: u32::from(expected.keys).saturating_sub(self.hits),
                    },
                    _ => single_line(kind, line),
                };
                handler.on_reply(self.next, outcome);
                Ok(Step::Done(line.len() + 2))
            }
        }
    }

    fn values<A: ReplyHandler>(
        &mut self,
        data: &[u8],
        expected: &Expected,
        handler: &mut A,
    ) -> Result<Step, InvalidReply> {
        if expected.hit_length > 0 && !self.whole_values {
            self.hits += 1;
            let length = expected.hit_length as usize;
            if self.hits < u32::from(expected.keys) {
                return Ok(Step::Skip(length, false));
            }
            let (hits, misses) = (self.hits, 0);
            handler.on_reply(self.next, Outcome::Lookup { hits, misses });
            return Ok(Step::Skip(length + b"END\r\n".len(), true));
        }
        let Some(line) = line(data)? else {
            return Ok(Step::More);
        };
        let mut words = line.split(|&byte| byte == b' ').skip(1);
        let (key, size) = (words.next(), words.nth(1).and_then(decimal));
        let (Some(key), Some(size)) = (key, size) else {
            return Err(invalid_reply(line));
        };
        let head = line.len() + 2;
        if !self.whole_values {
            self.hits += 1;
            return Ok(Step::Skip(head + size + 2, false));
        }
        let Some(value) = body(data, head, size)? else {
            return Ok(Step::More);
        };
        self.hits += 1;
        handler.on_value(expected, Some(key), value);
        Ok(Step::Used(head + size + 2))
    }

    fn meta_value<A: ReplyHandler>(
        &mut self,
        data: &[u8],
        expected: &Expected,
        handler: &mut A,
    ) -> Result<Step, InvalidReply> {
        let hit = Outcome::Lookup { hits: 1, misses: 0 };
        if expected.hit_length > 0 && !self.whole_values {
            handler.on_reply(self.next, hit);
            return Ok(Step::Skip(expected.hit_length as usize, true));
        }
        let Some(line) = line(data)? else {
            return Ok(Step::More);
        };
        let size = line.split(|&byte| byte == b' ').nth(1).and_then(decimal);
        let size = size.ok_or_else(|| invalid_reply(line))?;
        let head = line.len() + 2;
        if !self.whole_values {
            handler.on_reply(self.next, hit);
            return Ok(Step::Skip(head + size + 2, true));
        }
        let Some(value) = body(data, head, size)? else {
            return Ok(Step::More);
        };
        handler.on_value(expected, None, value);
        handler.on_reply(self.next, hit);
        Ok(Step::Done(head + size + 2))
    }

    fn binary<A: ReplyHandler>(
        &mut self,
        data: &[u8],
        expected: &Expected,
        handler: &mut A,
    ) -> Result<Step, InvalidReply> {
        if data[0] != 0x81 {
            return Err(invalid_reply(&data[..data.len().min(80)]));
        }
        if data.len() < BINARY_HEADER {
            return Ok(Step::More);
        }
        let status = u16::from_be_bytes([data[6], data[7]]);
        let length = u32::from_be_bytes([data[8], data[9], data[10], data[11]]) as usize;
        let whole = BINARY_HEADER + length;
        if self.whole_values && data.len() < whole {
            return Ok(Step::More);
        }
        if self.whole_values && status == 0 {
            let front = BINARY_HEADER + usize::from(data[4]);
            let value = data
                .get(front..whole)
                .ok_or_else(|| invalid_reply(b"extras"))?;
            handler.on_value(expected, None, value);
        }
        let message = format!("binary status {status}");
        let outcome = match status {
            0 => Outcome::Lookup { hits: 1, misses: 0 },
            1 => Outcome::Lookup { hits: 0, misses: 1 },
            _ => Outcome::Refused(message.as_bytes()),
        };
        handler.on_reply(self.next, outcome);
        Ok(Step::Skip(whole, true))
    }
}

fn single_line(kind: Kind, line: &[u8]) -> Outcome<'_> {
    let found = Outcome::Lookup { hits: 1, misses: 0 };
    let missing = Outcome::Lookup { hits: 0, misses: 1 };
    match (kind, line) {
        (Kind::Stored, b"STORED") => Outcome::Stored,
        (Kind::MetaStatus, [b'H', b'D', ..]) => Outcome::Stored,
        (Kind::MetaValue, [b'E', b'N']) => missing,
        (Kind::Found, b"NOT_FOUND") => missing,
        (Kind::Found, b"DELETED" | b"TOUCHED" | [b'0'..=b'9', ..]) => found,
        _ => Outcome::Refused(line),
    }
}

/// Returns the first line without its CRLF, `None` if it is incomplete.
fn line(data: &[u8]) -> Result<Option<&[u8]>, InvalidReply> {
    match memchr(b'\n', &data[..data.len().min(LINE_MAX)]) {
        Some(end) => match data[..end].strip_suffix(b"\r") {
            Some(line) => Ok(Some(line)),
            None => Err(invalid_reply(&data[..end])),
        },
        None if data.len() >= LINE_MAX => Err(invalid_reply(&data[..80])),
        None => Ok(None),
    }
}

fn body(data: &[u8], head: usize, size: usize) -> Result<Option<&[u8]>, InvalidReply> {
    match data.get(head..head + size + 2) {
        None => Ok(None),
        Some(value) => match value.strip_suffix(b"\r\n") {
            Some(value) => Ok(Some(value)),
            None => Err(invalid_reply(&data[..head])),
        },
    }
}

fn decimal(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn invalid_reply(bytes: &[u8]) -> InvalidReply {
    InvalidReply(format!("unexpected reply \"{}\"", bytes.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::{Outcome, ReplyHandler, ReplyReader};
    use crate::wire::{Expected, Kind, value_block_length};

    #[derive(Default, Debug, PartialEq)]
    struct Log(Vec<String>);

    impl ReplyHandler for Log {
        fn on_reply(&mut self, index: usize, outcome: Outcome<'_>) {
            self.0.push(match outcome {
                Outcome::Lookup { hits, misses } => format!("{index}: {hits} hit {misses} miss"),
                Outcome::Stored => format!("{index}: stored"),
                Outcome::Refused(line) => format!("{index}: {}", line.escape_ascii()),
            });
        }

        fn on_value(&mut self, expected: &Expected, key: Option<&[u8]>, value: &[u8]) {
            let key = key.map_or("-".into(), |key| key.escape_ascii().to_string());
            let value = value.escape_ascii();
            self.0.push(format!("{} {key}={value}", expected.key));
        }
    }

    /// Feeds `reply` in pieces of every size and checks that the log is always the same.
    fn read(whole: bool, expected: &[Expected], reply: &[u8]) -> Vec<String> {
        let mut logs = Vec::new();
        for piece in 1..=reply.len() {
            let mut reader = ReplyReader::new(whole);
            let (mut log, mut kept, mut finished) = (Log::default(), Vec::new(), false);
            for chunk in reply.chunks(piece) {
                kept.extend_from_slice(chunk);
                let parsed = reader.feed(&kept, expected, &mut log).unwrap();
                kept.drain(..parsed.used);
                finished = parsed.finished;
            }
            assert!(finished && kept.is_empty(), "pieces of {piece}");
            logs.push(log.0);
        }
        logs.dedup();
        assert_eq!(logs.len(), 1, "{logs:?}");
        logs.remove(0)
    }

    fn get(keys: u16, hit_length: u32) -> Expected {
        Expected {
            kind: Kind::Values,
            keys,
            key: 7,
            hit_length,
        }
    }

    #[test]
    fn gets_of_known_length_are_counted_without_parsing() {
        let one = get(1, value_block_length(2, 5));
        let reply = b"VALUE k1 0 5\r\nhello\r\nEND\r\nEND\r\nSERVER_ERROR no\r\n";
        let log = read(false, &[one, one, one], reply);
        assert_eq!(
            log,
            ["0: 1 hit 0 miss", "1: 0 hit 1 miss", "2: SERVER_ERROR no"]
        );
    }

    #[test]
    fn multigets_count_hits_and_misses() {
        let two = get(2, value_block_length(2, 1));
        let reply =
            b"VALUE k1 0 1\r\na\r\nVALUE k2 0 1\r\nb\r\nEND\r\nVALUE k3 0 1\r\nc\r\nEND\r\n";
        let log = read(false, &[two, two], reply);
        assert_eq!(log, ["0: 2 hit 0 miss", "1: 1 hit 1 miss"]);
    }

    #[test]
    fn unknown_lengths_are_parsed() {
        let reply = b"VALUE k1 0 3 1234\r\na\nb\r\nEND\r\n";
        assert_eq!(read(false, &[get(1, 0)], reply), ["0: 1 hit 0 miss"]);
        let log = read(true, &[get(1, 0)], reply);
        assert_eq!(log, ["7 k1=a\\nb", "0: 1 hit 0 miss"]);
    }

    #[test]
    fn meta_answers_are_read() {
        let batch = [
            Expected::one(Kind::MetaValue, 1),
            Expected::one(Kind::MetaValue, 2),
            Expected::one(Kind::MetaStatus, 3),
            Expected::one(Kind::MetaStatus, 4),
        ];
        let log = read(true, &batch, b"VA 2\r\nhi\r\nEN\r\nHD\r\nNS\r\n");
        let wanted = [
            "1 -=hi",
            "0: 1 hit 0 miss",
            "1: 0 hit 1 miss",
            "2: stored",
            "3: NS",
        ];
        assert_eq!(log, wanted);
    }

    #[test]
    fn single_lines_are_read() {
        let found = Expected::one(Kind::Found, 1);
        let batch = [Expected::one(Kind::Stored, 1), found, found, found];
        let log = read(false, &batch, b"STORED\r\n12\r\nNOT_FOUND\r\nERROR\r\n");
        let wanted = [
            "0: stored",
            "1: 1 hit 0 miss",
            "2: 0 hit 1 miss",
            "3: ERROR",
        ];
        assert_eq!(log, wanted);
    }

    #[test]
    fn binary_answers_are_read() {
        let mut reply = vec![0u8; 24];
        reply[0] = 0x81;
        reply[4] = 4;
        reply[11] = 6;
        reply.extend_from_slice(b"\0\0\0\0hi");
        let mut miss = vec![0u8; 24];
        (miss[0], miss[7], miss[11]) = (0x81, 1, 9);
        miss.extend_from_slice(b"Not found");
        reply.extend_from_slice(&miss);
        let batch = [
            Expected::one(Kind::Binary, 1),
            Expected::one(Kind::Binary, 2),
        ];
        let wanted = ["0: 1 hit 0 miss", "1: 0 hit 1 miss"];
        assert_eq!(read(false, &batch, &reply), wanted);
        assert_eq!(read(true, &batch, &reply)[0], "1 -=hi");
    }

    #[test]
    fn answers_to_something_else_are_noticed() {
        let mut log = Log::default();
        let one = get(1, value_block_length(2, 5));
        let longer = b"VALUE k1 0 9\r\nhello you\r\nEND\r\n";
        assert!(
            ReplyReader::new(false)
                .feed(longer, &[one], &mut log)
                .is_err()
        );
        let text = b"ERROR\r\n";
        let binary = [Expected::one(Kind::Binary, 1)];
        assert!(
            ReplyReader::new(false)
                .feed(text, &binary, &mut log)
                .is_err()
        );
    }
}
