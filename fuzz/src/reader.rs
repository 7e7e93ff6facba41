//! An incremental reader: drives the parser as a connection does, without
//! executing the requests.

use rustcached::limits::GET_LINE_MAX_BYTES;
use rustcached::protocol::request::{GetLine, Request};
use rustcached::protocol::text::parse::{ErrorReply, Parsed, parse};
use rustcached::protocol::tokens::tokens;

/// An event of the stream. Cutting the stream must not change the sequence of
/// events.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// A request without a data block, other than a retrieval.
    Request(String),
    /// A request and its data block.
    WithValue(String, Vec<u8>),
    /// The start of a retrieval. [`Seen::Key`] and [`Seen::GetEnd`] follow.
    Get { cas: bool, touch: Option<i32> },
    /// A key of the retrieval.
    Key(Vec<u8>),
    /// The end of the retrieval.
    GetEnd,
    /// The error reply to a malformed line.
    Refusal(String),
    /// The connection must be closed.
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

/// Parser state between two pieces of a stream.
pub struct Reader {
    buffer: Vec<u8>,
    state: State,
    /// Events so far, in order.
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
    /// Parses the next piece of the stream and appends its events to `seen`.
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
            assert!(
                kept <= GET_LINE_MAX_BYTES,
                "{kept} bytes wait for a line end"
            );
        }
    }

    /// Handles the first element of `input` and returns its length in bytes,
    /// `None` if more input is needed.
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
                    ErrorReply::Line(reply) => self.seen.push(Seen::Refusal(reply.to_owned())),
                    ErrorReply::Silent => self.seen.push(Seen::Refusal(String::new())),
                    ErrorReply::Close => self.hang_up(),
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
            Parsed::TooLong => {
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
