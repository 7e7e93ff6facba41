//! An incremental reader: the parser driven as a connection drives it, with
//! nothing behind it that executes.

use rustcached::limits::LINE_MAX_BYTES;
use rustcached::protocol::request::{GetLine, Request};
use rustcached::protocol::text::parse::{Parsed, parse};
use rustcached::protocol::tokens::tokens;

/// What a stream asks for, in an order and form that cutting cannot change.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// A request without a value and other than a retrieval.
    Request(String),
    /// A request with its value block.
    WithValue(String, Vec<u8>),
    /// A retrieval begins; keys and an end follow.
    Get { cas: bool, touch: Option<i32> },
    /// One of its keys.
    Key(Vec<u8>),
    /// The end of it.
    GetEnd,
    /// A line that is no request, by its answer.
    Refusal(String),
    /// The stream must be given up.
    HangUp,
}

enum State {
    Line,
    Value(String, usize),
    Swallowing(usize),
    LongGet,
    SkippingLine,
    Over,
}

/// See the module's documentation.
pub struct Reader {
    buffer: Vec<u8>,
    state: State,
    /// What has been asked for so far.
    pub seen: Vec<Seen>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            state: State::Line,
            seen: Vec::new(),
        }
    }
}

impl Reader {
    /// Takes the next piece of the stream.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(piece);
        let mut used = 0;
        while let Some(len) = self.step(&buffer[used..]) {
            used += len;
        }
        buffer.drain(..used);
        self.buffer = buffer;
        if matches!(self.state, State::Line) {
            let kept = self.buffer.len();
            assert!(kept <= LINE_MAX_BYTES, "{kept} bytes wait for a line end");
        }
    }

    /// Handles what stands at the start of `input` and returns its length;
    /// `None` if more is needed.
    fn step(&mut self, input: &[u8]) -> Option<usize> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Line => self.line(input),
            State::Value(request, len) => {
                let Some(value) = input.get(..len) else {
                    self.state = State::Value(request, len);
                    return None;
                };
                self.seen.push(Seen::WithValue(request, value.to_vec()));
                self.state = State::Line;
                Some(len)
            }
            State::Swallowing(left) => {
                let len = left.min(input.len());
                self.state = State::Swallowing(left - len);
                if len == left {
                    self.state = State::Line;
                }
                (len > 0 || left == 0).then_some(len)
            }
            State::LongGet => self.long_get(input),
            State::SkippingLine => {
                let end = memchr::memchr(b'\n', input);
                self.state = match end {
                    Some(_) => State::Line,
                    None => State::SkippingLine,
                };
                let len = end.map_or(input.len(), |end| end + 1);
                (len > 0).then_some(len)
            }
            State::Over => None,
        }
    }

    fn line(&mut self, input: &[u8]) -> Option<usize> {
        self.state = State::Line;
        match parse(input) {
            Parsed::Request(request, used) => {
                assert!(used > 0 && used <= input.len());
                self.request(&request);
                Some(used)
            }
            Parsed::Malformed(malformed, used) => {
                assert!(used > 0 && used <= input.len());
                match malformed.reply {
                    Some(reply) => self.seen.push(Seen::Refusal(reply.to_owned())),
                    None => self.hang_up(),
                }
                if malformed.swallow > 0 {
                    self.state = State::Swallowing(malformed.swallow);
                }
                Some(used)
            }
            Parsed::Incomplete => None,
            Parsed::LongGet { cas, used } => {
                self.seen.push(Seen::Get { cas, touch: None });
                self.state = State::LongGet;
                Some(used)
            }
            Parsed::LongError => {
                self.seen.push(Seen::Refusal("ERROR".to_owned()));
                self.state = State::SkippingLine;
                Some(0)
            }
            Parsed::Endless => {
                self.hang_up();
                None
            }
        }
    }

    fn request(&mut self, request: &Request<'_>) {
        match request {
            Request::Get(GetLine {
                keys, cas, touch, ..
            }) => {
                let (cas, touch) = (*cas, *touch);
                self.seen.push(Seen::Get { cas, touch });
                self.keys(keys);
                self.seen.push(Seen::GetEnd);
            }
            Request::Quit | Request::Shutdown { .. } => self.hang_up(),
            request => match request.block_len() {
                Some(len) => self.state = State::Value(format!("{request:?}"), len),
                None => self.seen.push(Seen::Request(format!("{request:?}"))),
            },
        }
    }

    fn long_get(&mut self, input: &[u8]) -> Option<usize> {
        let end = memchr::memchr(b'\n', input);
        let Some(end) = end else {
            self.state = State::LongGet;
            let whole = memchr::memrchr(b' ', input).map_or(0, |blank| blank + 1);
            self.keys(&input[..whole]);
            return (whole > 0).then_some(whole);
        };
        let line = &input[..end];
        self.keys(line.strip_suffix(b"\r").unwrap_or(line));
        self.seen.push(Seen::GetEnd);
        self.state = State::Line;
        Some(end + 1)
    }

    fn keys(&mut self, keys: &[u8]) {
        let keys = tokens(keys).map(|key| Seen::Key(key.to_vec()));
        self.seen.extend(keys);
    }

    fn hang_up(&mut self) {
        self.seen.push(Seen::HangUp);
        self.state = State::Over;
    }
}
