//! Well-behaved clients: a single request at a time, at a fixed rate, with every reply checked.
//!
//! Latency counts from the time a request was due, so a pause of the server delays all requests
//! that become due during it. A lost connection ends the client and is reported, but is not an
//! error of the run.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::failure::Failure;
use crate::latency::latency_histogram;
use crate::random::mix;

/// Number of items that [`Churn`] overwrites and slow readers get.
pub(super) const BIG_ITEMS: u32 = 100;
const BIG_SIZES: (usize, usize) = (100_000, 1_000_000);
/// Maximum duration of a login.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of keys of [`Sets`], and the value size in bytes.
const SET_KEYS: u64 = 1000;
const SET_BYTES: usize = 1000;

/// Returns the size of the value with this number, 100 KB to 1 MB.
pub(super) fn big_size(number: u64) -> usize {
    let span = (BIG_SIZES.1 - BIG_SIZES.0) as u64;
    BIG_SIZES.0 + (mix(number) % span) as usize
}

/// The meaning of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReplyKind {
    /// Success.
    Success,
    /// A miss.
    Miss,
    /// Any other reply.
    Refused,
}

/// Creates requests and evaluates their replies.
pub(super) trait Requests {
    /// Appends the next request.
    fn next(&mut self, out: &mut Vec<u8>);

    /// Evaluates a reply. Returns `None` while it is incomplete.
    fn classify(&mut self, reply: &[u8]) -> Option<ReplyKind>;
}

/// Results of a client.
#[derive(Clone, Debug)]
pub(super) struct ClientResult {
    /// Nanoseconds from the due time of a request to its reply.
    pub(super) latency: Histogram<u64>,
    /// Number of requests answered.
    pub(super) answered: u64,
    /// Number of misses.
    pub(super) missed: u64,
    /// Refusals, counted by text.
    pub(super) refusals: BTreeMap<String, u64>,
    /// The reason for which the connection was lost, if it was.
    pub(super) lost: Option<String>,
}

/// A client that sends requests at a fixed rate.
pub(super) struct PacedClient<R> {
    stream: TcpStream,
    requests: R,
    every: Duration,
    due: Instant,
    request: Vec<u8>,
    sent: usize,
    reply: Vec<u8>,
    waiting: bool,
    result: ClientResult,
}

impl<R: Requests> PacedClient<R> {
    /// Connects, and sends `login` unless it is empty. A request is due at every
    /// interval `every` from now on.
    pub(super) fn connect(
        address: SocketAddr,
        login: &str,
        every: Duration,
        requests: R,
    ) -> Result<Self, Failure> {
        let connecting = Failure::io("connecting a well-behaved client");
        Ok(PacedClient {
            stream: connected(address, login).map_err(connecting)?,
            requests,
            every,
            due: Instant::now(),
            request: Vec::new(),
            sent: 0,
            reply: Vec::new(),
            waiting: false,
            result: ClientResult {
                latency: latency_histogram(),
                answered: 0,
                missed: 0,
                refusals: BTreeMap::new(),
                lost: None,
            },
        })
    }

    /// Sends the request that is due, or checks for its reply. Never waits. Returns whether bytes
    /// moved.
    pub(super) fn turn(&mut self) -> bool {
        if self.result.lost.is_some() || (!self.waiting && Instant::now() < self.due) {
            return false;
        }
        let turned = self.try_turn();
        turned.unwrap_or_else(|why| {
            self.result.lost = Some(why);
            false
        })
    }

    /// Returns the results. An unanswered request counts with the time it has taken so far.
    pub(super) fn finish(mut self) -> ClientResult {
        if self.waiting {
            self.note_latency();
        }
        self.result
    }

    /// Returns the time at which the next request is due, `None` while a request is unanswered.
    pub(super) fn idle_until(&self) -> Option<Instant> {
        (!self.waiting).then_some(self.due)
    }

    fn try_turn(&mut self) -> Result<bool, String> {
        if !self.waiting {
            self.request.clear();
            self.requests.next(&mut self.request);
            (self.sent, self.waiting) = (0, true);
            self.reply.clear();
        }
        if self.sent < self.request.len() {
            let unsent = &self.request[self.sent..];
            let written = bytes_or_zero(self.stream.write(unsent))?;
            self.sent += written;
            if written > 0 {
                return Ok(true);
            }
        }
        let mut buffer = [0; 16 * 1024];
        let n = bytes_or_zero(self.stream.read(&mut buffer))?;
        self.reply.extend_from_slice(&buffer[..n]);
        if n > 0
            && let Some(kind) = self.requests.classify(&self.reply)
        {
            self.note(&kind);
        }
        Ok(n > 0)
    }

    fn note(&mut self, kind: &ReplyKind) {
        self.waiting = false;
        self.note_latency();
        self.result.answered += 1;
        match kind {
            ReplyKind::Success => {}
            ReplyKind::Miss => self.result.missed += 1,
            ReplyKind::Refused => {
                let text = String::from_utf8_lossy(&self.reply);
                let line = text.lines().next().unwrap_or_default();
                *self.result.refusals.entry(line.to_string()).or_default() += 1;
            }
        }
    }

    fn note_latency(&mut self) {
        let now = Instant::now();
        while self.due <= now {
            let late = (now - self.due).as_nanos().max(1) as u64;
            self.result.latency.saturating_record(late);
            self.due += self.every;
        }
    }
}

fn connected(address: SocketAddr, login: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    if !login.is_empty() {
        stream.set_read_timeout(Some(LOGIN_TIMEOUT))?;
        stream.write_all(format!("{login}\r\n").as_bytes())?;
        let mut reply = [0; 8];
        stream.read_exact(&mut reply)?;
        if reply != *b"STORED\r\n" {
            let text = reply.escape_ascii().to_string();
            return Err(std::io::Error::other(format!("login answered \"{text}\"")));
        }
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn bytes_or_zero(result: std::io::Result<usize>) -> Result<usize, String> {
    match result {
        Ok(0) => Err("closed by the server".to_string()),
        Ok(n) => Ok(n),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(0)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Gets a small key, and sets it again after a miss.
#[derive(Debug)]
pub(super) struct Gets {
    stored: bool,
}

impl Gets {
    /// Creates the requests. The first sets the key.
    pub(super) fn new() -> Self {
        Gets { stored: false }
    }
}

impl Requests for Gets {
    fn next(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.stored {
            true => b"get probe\r\n",
            false => b"set probe 0 0 5\r\nhello\r\n",
        });
    }

    fn classify(&mut self, reply: &[u8]) -> Option<ReplyKind> {
        let possible: [(&[u8], ReplyKind); 3] = [
            (b"STORED\r\n", ReplyKind::Success),
            (b"VALUE probe 0 5\r\nhello\r\nEND\r\n", ReplyKind::Success),
            (b"END\r\n", ReplyKind::Miss),
        ];
        if possible.iter().any(|(whole, _)| is_beginning(reply, whole)) {
            return None;
        }
        let known = possible.into_iter().find(|(whole, _)| *whole == reply);
        let kind = known.map_or(ReplyKind::Refused, |(_, kind)| kind);
        self.stored = kind == ReplyKind::Success;
        reply.ends_with(b"\r\n").then_some(kind)
    }
}

fn is_beginning(reply: &[u8], whole: &[u8]) -> bool {
    reply.len() < whole.len() && whole.starts_with(reply)
}

/// Sets small values under a thousand keys.
#[derive(Debug, Default)]
pub(super) struct Sets {
    next: u64,
}

impl Requests for Sets {
    fn next(&mut self, out: &mut Vec<u8>) {
        let key = self.next % SET_KEYS;
        self.next += 1;
        push_set(out, &format!("own{key}"), SET_BYTES);
    }

    fn classify(&mut self, reply: &[u8]) -> Option<ReplyKind> {
        classify_line(reply)
    }
}

/// Overwrites and deletes large values, and stores new ones that evict old ones.
#[derive(Debug, Default)]
pub(super) struct Churn {
    next: u64,
}

impl Requests for Churn {
    fn next(&mut self, out: &mut Vec<u8>) {
        let number = self.next;
        self.next += 1;
        let big = mix(number) % u64::from(BIG_ITEMS);
        match number % 5 {
            0 => out.extend_from_slice(format!("delete big{big}\r\n").as_bytes()),
            1 => push_set(out, &format!("new{number}"), big_size(number)),
            _ => push_set(out, &format!("big{big}"), big_size(number)),
        }
    }

    fn classify(&mut self, reply: &[u8]) -> Option<ReplyKind> {
        classify_line(reply)
    }
}

/// Batches of small gets, sets and deletes.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    next: u64,
}

impl Requests for Traffic {
    fn next(&mut self, out: &mut Vec<u8>) {
        let number = self.next;
        self.next += 1;
        for n in 0..10 {
            let key = (number * 10 + n) % 5000;
            push_set(out, &format!("traffic{key}"), 50);
            out.extend_from_slice(format!("get traffic{key}\r\nget missing{key}\r\n").as_bytes());
        }
        out.extend_from_slice(format!("delete traffic{}\r\nmn\r\n", number % 5000).as_bytes());
    }

    fn classify(&mut self, reply: &[u8]) -> Option<ReplyKind> {
        let refused = memchr::memmem::find(reply, b"ERROR").is_some();
        let kind = if refused {
            ReplyKind::Refused
        } else {
            ReplyKind::Success
        };
        reply.ends_with(b"MN\r\n").then_some(kind)
    }
}

fn push_set(out: &mut Vec<u8>, key: &str, size: usize) {
    out.extend_from_slice(format!("set {key} 0 0 {size}\r\n").as_bytes());
    out.resize(out.len() + size, b'v');
    out.extend_from_slice(b"\r\n");
}

/// Evaluates the single-line reply to a set or delete.
fn classify_line(reply: &[u8]) -> Option<ReplyKind> {
    let line = reply.strip_suffix(b"\r\n")?;
    Some(match line {
        b"STORED" | b"DELETED" => ReplyKind::Success,
        b"NOT_FOUND" => ReplyKind::Miss,
        _ => ReplyKind::Refused,
    })
}

#[cfg(test)]
mod tests {
    use super::{Gets, ReplyKind, Requests, Traffic, big_size, classify_line};

    #[test]
    fn answers_are_judged_once_they_are_whole() {
        let mut gets = Gets::new();
        let mut request = Vec::new();
        gets.next(&mut request);
        assert!(request.starts_with(b"set probe "));
        for part in [
            "S",
            "STORED\r",
            "VALUE probe 0 5\r\nhello\r\n",
            "END",
            "SERVER_ERROR o",
        ] {
            assert_eq!(gets.classify(part.as_bytes()), None, "{part}");
        }
        assert_eq!(gets.classify(b"STORED\r\n"), Some(ReplyKind::Success));
        request.clear();
        gets.next(&mut request);
        assert_eq!(request, b"get probe\r\n");
        assert_eq!(gets.classify(b"END\r\n"), Some(ReplyKind::Miss));
        assert_eq!(
            gets.classify(b"SERVER_ERROR out of memory\r\n"),
            Some(ReplyKind::Refused)
        );
        request.clear();
        gets.next(&mut request);
        assert!(request.starts_with(b"set probe "));
    }

    #[test]
    fn lines_and_batches_are_judged() {
        assert_eq!(classify_line(b"STORED"), None);
        assert_eq!(classify_line(b"DELETED\r\n"), Some(ReplyKind::Success));
        assert_eq!(classify_line(b"NOT_FOUND\r\n"), Some(ReplyKind::Miss));
        assert_eq!(
            classify_line(b"SERVER_ERROR out\r\n"),
            Some(ReplyKind::Refused)
        );
        let mut traffic = Traffic::default();
        assert_eq!(traffic.classify(b"STORED\r\nEND\r\n"), None);
        assert_eq!(
            traffic.classify(b"STORED\r\nMN\r\n"),
            Some(ReplyKind::Success)
        );
        assert_eq!(
            traffic.classify(b"SERVER_ERROR\r\nMN\r\n"),
            Some(ReplyKind::Refused)
        );
    }

    #[test]
    fn big_values_are_of_many_sizes() {
        let sizes: Vec<usize> = (0..1000).map(big_size).collect();
        assert!(sizes.iter().all(|size| (100_000..1_000_000).contains(size)));
        assert!(sizes.iter().any(|&size| size < 200_000));
        assert!(sizes.iter().any(|&size| size > 900_000));
    }
}
