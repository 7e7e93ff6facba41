//! Replies of the server without a store, and how they are sent.
//!
//! Short replies are copied into a buffer and sent by a single write. Long values are sent from
//! their place by a vectored write, as an efficient server does. Keys are not looked up: the value
//! is chosen at random, and data blocks of sets are discarded.

use std::hint::black_box;
use std::io::{self, ErrorKind, IoSlice, Write};

use memchr::memchr;

use crate::content::Values;
use crate::random::Random;

/// Maximum size of a value that is copied. Copying is cheaper than another part of a vectored
/// write.
const COPY_MAX: usize = 4096;
/// Maximum number of parts of a vectored write (`IOV_MAX` of Linux).
const PARTS_MAX: usize = 1024;
const CRLF: &[u8] = b"\r\n";
/// Number of values chosen at once.
const AHEAD: usize = 32;
/// Size of a CPU cache line in bytes.
const CACHE_LINE: usize = 64;

/// The values, each followed by a CRLF.
#[derive(Debug)]
pub(super) struct Canned {
    bytes: Vec<u8>,
    /// Length of a value with its CRLF, in bytes.
    length: usize,
    count: u32,
    random: Random,
    /// Offsets of the chosen values, and the number of them already used.
    drawn: [usize; AHEAD],
    used: usize,
    /// The end of a text header line, from the client flags on.
    text_head: Vec<u8>,
    meta_head: Vec<u8>,
}

impl Canned {
    /// Creates `count` different values of `size` bytes.
    pub(super) fn new(count: u32, size: usize) -> Self {
        let values = Values::new(size);
        let mut bytes = Vec::new();
        for number in 0..count {
            values.push(&mut bytes, number, size);
            bytes.extend_from_slice(CRLF);
        }
        Canned {
            bytes,
            length: size + CRLF.len(),
            count,
            random: Random::new(1),
            drawn: [0; AHEAD],
            used: AHEAD,
            text_head: format!(" 0 {size}\r\n").into_bytes(),
            meta_head: format!("VA {size}\r\n").into_bytes(),
        }
    }

    /// Returns the offset of the next value. Choosing at random costs less than hashing the key.
    fn draw(&mut self) -> usize {
        if self.used == AHEAD {
            self.used = 0;
            self.draw_ahead();
        }
        self.used += 1;
        self.drawn[self.used - 1]
    }

    /// Chooses several values and touches their cache lines, so that their cache misses overlap. A
    /// server can do that for a batch of keys, and this server must be a lower bound.
    fn draw_ahead(&mut self) {
        let mut touched = 0;
        for place in &mut self.drawn {
            *place = self.random.below(u64::from(self.count)) as usize * self.length;
            if self.length <= COPY_MAX {
                let value = &self.bytes[*place..*place + self.length];
                let lines = value.iter().step_by(CACHE_LINE).chain(value.last());
                touched = lines.fold(touched, |touched, byte| touched ^ byte);
            }
        }
        black_box(touched);
    }

    fn at(&self, start: usize) -> &[u8] {
        &self.bytes[start..start + self.length]
    }
}

/// Unsent replies: text, with long values between its pieces.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    text: Vec<u8>,
    /// Length of the text before a value, and the offset of the value in [`Canned`].
    values: Vec<(usize, usize)>,
    sent: usize,
}

impl Unsent {
    /// Writes until the socket is full. Returns whether everything is sent.
    pub(super) fn write(&mut self, to: &mut impl Write, canned: &Canned) -> io::Result<bool> {
        loop {
            let left = self.text.len() + self.values.len() * canned.length - self.sent;
            if left == 0 {
                self.clear();
                return Ok(true);
            }
            let written = match self.values.is_empty() {
                true => to.write(&self.text[self.sent..]),
                false => self.write_parts(to, canned),
            };
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn clear(&mut self) {
        self.text.clear();
        self.values.clear();
        self.sent = 0;
    }

    fn write_parts(&self, to: &mut impl Write, canned: &Canned) -> io::Result<usize> {
        let mut parts = Vec::with_capacity(2 * self.values.len() + 1);
        let mut from = 0;
        for &(until, value) in &self.values {
            parts.push(IoSlice::new(&self.text[from..until]));
            parts.push(IoSlice::new(canned.at(value)));
            from = until;
        }
        parts.push(IoSlice::new(&self.text[from..]));
        let mut parts = parts.as_mut_slice();
        IoSlice::advance_slices(&mut parts, self.sent);
        to.write_vectored(&parts[..parts.len().min(PARTS_MAX)])
    }
}

/// Parses requests and encodes their replies.
#[derive(Debug)]
pub(super) struct Responder {
    /// The prepared values.
    pub(super) canned: Canned,
    /// The replies to the requests read last.
    pub(super) reply: Unsent,
}

impl Responder {
    /// Creates a responder without pending replies.
    pub(super) fn new(canned: Canned) -> Self {
        Responder {
            canned,
            reply: Unsent::default(),
        }
    }

    /// Puts the replies to all complete requests in `data` into `reply`. Returns the number of
    /// bytes consumed. The first `skip` bytes are the rest of a data block. Sets `skip` to the
    /// bytes of a data block that are still missing.
    pub(super) fn answer(&mut self, data: &[u8], skip: &mut usize) -> usize {
        self.reply.clear();
        let mut rest = data;
        loop {
            if *skip > 0 {
                let n = rest.len().min(*skip);
                rest = &rest[n..];
                *skip -= n;
                if *skip > 0 {
                    return data.len();
                }
                self.send_reply(b"STORED\r\n");
            }
            let Some(end) = memchr(b'\n', rest) else {
                return data.len() - rest.len();
            };
            let line = &rest[..end];
            *skip = self.line(line.strip_suffix(b"\r").unwrap_or(line));
            rest = &rest[end + 1..];
        }
    }

    /// Answers a line. Returns the length of the data block behind it.
    fn line(&mut self, line: &[u8]) -> usize {
        if let Some(keys) = line.strip_prefix(b"get ") {
            self.values(keys);
            return 0;
        }
        let mut words = line.split(|&byte| byte == b' ');
        match (words.next(), words.next(), words.next()) {
            (Some(b"mg"), Some(_), Some(b"v")) => {
                self.reply.text.extend_from_slice(&self.canned.meta_head);
                self.value();
            }
            (Some(b"set"), Some(_), Some(_)) => match words.nth(1).and_then(size) {
                Some(size) => return size + CRLF.len(),
                None => self.send_reply(b"ERROR\r\n"),
            },
            (Some(b"version"), ..) => self.send_reply(b"VERSION of nothing\r\n"),
            _ => self.send_reply(b"ERROR\r\n"),
        }
        0
    }

    fn values(&mut self, mut keys: &[u8]) {
        while !keys.is_empty() {
            let end = memchr(b' ', keys).unwrap_or(keys.len());
            if end > 0 {
                self.send_reply(b"VALUE ");
                self.send_reply(&keys[..end]);
                self.reply.text.extend_from_slice(&self.canned.text_head);
                self.value();
            }
            keys = keys.get(end + 1..).unwrap_or_default();
        }
        self.send_reply(b"END\r\n");
    }

    fn value(&mut self) {
        let start = self.canned.draw();
        if self.canned.length > COPY_MAX {
            self.reply.values.push((self.reply.text.len(), start));
        } else {
            self.reply.text.extend_from_slice(self.canned.at(start));
        }
    }

    fn send_reply(&mut self, text: &[u8]) {
        self.reply.text.extend_from_slice(text);
    }
}

fn size(word: &[u8]) -> Option<usize> {
    let size: u32 = std::str::from_utf8(word).ok()?.parse().ok()?;
    usize::try_from(size).ok()
}

#[cfg(test)]
mod tests {
    use super::{CRLF, Canned, Responder};
    use std::io::{self, ErrorKind, Write};

    /// A socket that accepts a few bytes and reports that it is full, alternately.
    struct Narrow {
        taken: Vec<u8>,
        width: usize,
        full: bool,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.full = !self.full;
            if !self.full {
                return Err(ErrorKind::WouldBlock.into());
            }
            let n = bytes.len().min(self.width);
            self.taken.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the reply to `request`, received and sent in pieces.
    fn answer(values: u32, size: usize, request: &[u8], piece: usize) -> Vec<u8> {
        let mut responder = Responder::new(Canned::new(values, size));
        let mut socket = Narrow {
            taken: Vec::new(),
            width: 1 + piece * size / 3,
            full: false,
        };
        let (mut kept, mut skip) = (Vec::new(), 0);
        for chunk in request.chunks(piece) {
            kept.extend_from_slice(chunk);
            let used = responder.answer(&kept, &mut skip);
            kept.drain(..used);
            let Responder { canned, reply } = &mut responder;
            while !reply.write(&mut socket, canned).unwrap() {}
        }
        assert!(kept.is_empty() && skip == 0, "pieces of {piece}");
        socket.taken
    }

    #[test]
    fn the_same_is_answered_however_it_comes_and_leaves() {
        for size in [10, 5000] {
            let value = Canned::new(1, size).at(0).to_vec();
            let block = |head: &str| [format!("{head} {size}\r\n").as_bytes(), &value].concat();
            let wanted = [
                block("VALUE a 0"),
                block("VALUE bc 0"),
                b"END\r\n".to_vec(),
                b"STORED\r\n".to_vec(),
                block("VA"),
                b"VERSION of nothing\r\n".to_vec(),
            ];
            let request = b"get a bc\r\nset a 0 0 4\r\nx\r\ny\r\nmg a v\r\nversion\r\n";
            for piece in 1..=request.len() {
                assert_eq!(answer(1, size, request, piece), wanted.concat());
            }
        }
    }

    #[test]
    fn odd_lines_are_errors() {
        let odd: [&[u8]; 7] = [
            b"",
            b"\0\xff",
            b"get",
            b"mg",
            b"mg a",
            b"set a 0 0",
            b"set a 0 0 99999999999",
        ];
        for line in odd {
            let request = [line, CRLF].concat();
            assert_eq!(answer(1, 1, &request, 1), b"ERROR\r\n");
        }
        assert_eq!(answer(1, 1, b"get  \r\n", 1), b"END\r\n");
    }

    #[test]
    fn many_values_are_drawn_from() {
        let answered = answer(50, 20, &b"get k\r\n".repeat(100), 7);
        let mut values: Vec<&[u8]> = answered.chunks(42).collect();
        values.sort_unstable();
        values.dedup();
        assert!(values.len() > 30, "{}", values.len());
    }
}
