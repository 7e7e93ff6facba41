//! Sends a case of the text protocol to two servers and compares the replies.
//!
//! Normalized for every release of memcached:
//!
//! | reply | normalized to | reason |
//! |---|---|---|
//! | CAS values | `#` and the order of first appearance | they count from the start of each server |
//! | seconds left of a TTL | the requested TTL | the two clocks may differ by a second |
//! | seconds since the last access, up to 2 | `l0`, `la=0` | the same |
//! | seconds left below zero | `t<over>` | they depend on the server's start |
//! | `cls` and `size` of `me` | nothing | they depend on how a server stores items |
//! | an empty line behind the error for a key of over 250 bytes in a `get` | nothing | 1.6.45 sends its CRLF twice |
//! | bytes before an unexpected close | only the fact of the close | unread input resets the stream |
//!
//! Also normalized for releases before 1.6.45 (`generate.rs` lists commands
//! that are not sent to them):
//!
//! | 1.6.18 | 1.6.45 | normalized to |
//! |---|---|---|
//! | `ERROR` for a line with too few words or none | `CLIENT_ERROR bad command line format` | `BAD` |
//! | `CLIENT_ERROR invalid or duplicate flag` from md | a specific error | `BAD` |

use std::collections::HashMap;
use std::fmt;

use crate::counters::{Counters, TEXT};
use test_support::client::{Address, Client, show};
use test_support::random::Random;

/// Placeholder in a command for the CAS value returned last.
pub(crate) const LAST_CAS: &str = "<last-cas>";

/// Ends every batch. If a malformed command left the server waiting for a data
/// block, that block ends within the first line, so that the `mn` is answered.
const RESYNC: &[u8] = b"resync resync resync resync resync\r\nmn\r\n";

/// Commands, and the seed that chooses where their bytes are cut.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) commands: Vec<Vec<u8>>,
    pub(crate) cuts: Option<u64>,
    /// Sent whole behind the other commands. The reply is read until the close.
    pub(crate) last: Option<Vec<u8>>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} commands, cuts {:?}:", self.commands.len(), self.cuts)?;
        for command in &self.commands {
            writeln!(f, "  {}", show(command))?;
        }
        if let Some(last) = &self.last {
            writeln!(f, "  at last {}", show(last))?;
        }
        Ok(())
    }
}

/// How closely the replies of two servers must agree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// Every byte of the replies, and the counters.
    Exact,
    /// All replies except for known differences of an older release.
    Older,
}

/// Returns a description of the first difference between the replies of two
/// servers, `None` if they agree. `alter` changes each command before it goes
/// to the second server.
pub(crate) fn difference(
    case: &Case,
    precision: Precision,
    first: &Address,
    second: &Address,
    alter: impl Fn(Vec<u8>) -> Vec<u8>,
) -> Option<String> {
    let mut left = Session::start(first, precision);
    let mut right = Session::start(second, precision);
    let before = counters(precision, first, second);
    for batch in batches(case) {
        let altered = batch.iter().cloned().map(&alter).collect::<Vec<_>>();
        let cuts = case.cuts.map(Random::new);
        let (want, got) = (left.run(&batch, cuts.clone()), right.run(&altered, cuts));
        if want != got {
            return Some(format!(
                "  first  {}\n  second {}\n",
                show(&want),
                show(&got)
            ));
        }
        if left.closed {
            // An unequal close has been reported above, so both connections are
            // closed.
            return None;
        }
    }
    if let Some(last) = &case.last {
        let (want, got) = (left.finish(last), right.finish(&alter(last.clone())));
        if want != got {
            let (want, got) = (show(&want), show(&got));
            return Some(format!("  at last first  {want}\n  second {got}\n"));
        }
    }
    let (before, after) = (before?, counters(precision, first, second)?);
    Counters::difference(&before, &after)
}

/// Reads the counters of both servers. Returns `None` if they are not compared.
pub(crate) fn counters(
    precision: Precision,
    first: &Address,
    second: &Address,
) -> Option<[Counters; 2]> {
    let read = |address| Counters::read(&mut Client::connect(address), &TEXT);
    (precision == Precision::Exact).then(|| [read(first), read(second)])
}

/// Splits a case into batches. The replies of a batch are read before the next
/// batch is sent.
///
/// A command that needs a CAS value begins a batch. Arithmetic does too: 1.6.18
/// changes a number in place, with padding, only if no unsent reply refers to
/// the item.
fn batches(case: &Case) -> Vec<Vec<Vec<u8>>> {
    let mut random = Random::new(case.cuts.unwrap_or(0));
    let mut batches: Vec<Vec<Vec<u8>>> = Vec::new();
    for command in &case.commands {
        let verbs: [&[u8]; 3] = [b"incr ", b"decr ", b"ma "];
        let needs_answers = contains(command, LAST_CAS.as_bytes())
            || verbs.iter().any(|verb| contains(command, verb));
        // A `watch` is refused for unsent replies before it or for its words.
        // Which check comes first depends on how the bytes arrive.
        let is_alone = has_bad_key(command) || command.starts_with(b"watch");
        let begins = needs_answers || is_alone || random.once_in(8);
        match batches.last_mut() {
            Some(batch) if !begins => batch.push(command.clone()),
            _ => batches.push(vec![command.clone()]),
        }
    }
    batches
}

/// Returns whether the command is a retrieval with a key of over 250 bytes.
fn has_bad_key(command: &[u8]) -> bool {
    command.starts_with(b"g") && contains(command, &[b'k'; 251])
}

/// Maximum number of attempts to begin a session.
const STARTS_MAX: usize = 3;
/// Reply to `version` by the target release and by rustcached.
const TARGET_VERSION: &[u8] = b"VERSION 1.6.45\r\n";

/// A connection, with the names given to the CAS values seen on it.
struct Session {
    client: Client,
    names: HashMap<String, usize>,
    last_cas: String,
    closed: bool,
    precision: Precision,
}

impl Session {
    fn start(address: &Address, precision: Precision) -> Self {
        // Raise the CAS values above the low ones that cases use as wrong
        // values.
        let raise = "set a 0 0 1\r\nx\r\n".repeat(8);
        let mut client = Client::connect(address);
        for _ in 0..STARTS_MAX {
            let sent = client.try_send(format!("{raise}mn\r\n"));
            if sent.is_ok() && client.answer_or_close().is_ok() {
                break;
            }
            // memcached 1.6.18 occasionally closes a new connection.
            client = Client::connect(address);
            let version = client.try_send("version\r\nmn\r\n");
            let version = version.map(|()| client.answer_or_close());
            assert!(
                !matches!(version, Ok(Ok(line)) if line == TARGET_VERSION),
                "a new connection was closed"
            );
        }
        client.ask("flush_all\r\n", "OK\r\n");
        Self {
            precision,
            client,
            names: HashMap::new(),
            last_cas: "1".to_owned(),
            closed: false,
        }
    }

    /// Sends a batch, cut at random, and returns the normalized replies.
    fn run(&mut self, batch: &[Vec<u8>], cuts: Option<Random>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for command in batch {
            bytes.extend(replace(
                command,
                LAST_CAS.as_bytes(),
                self.last_cas.as_bytes(),
            ));
        }
        bytes.extend_from_slice(RESYNC);
        for piece in pieces(&bytes, cuts) {
            if self.client.try_send(piece).is_err() {
                break;
            }
        }
        match self.client.answer_or_close() {
            Ok(answer) => self.comparable(&answer),
            Err(_) => {
                self.closed = true;
                b"(closed)".to_vec()
            }
        }
    }

    /// Sends the last command and returns the replies before the close.
    fn finish(&mut self, last: &[u8]) -> Vec<u8> {
        if self.client.try_send(last).is_ok() {
            self.client.try_finish_sending();
        }
        let answer = self.client.read_to_close();
        self.comparable(&answer)
    }

    fn comparable(&mut self, answer: &[u8]) -> Vec<u8> {
        let lines: Vec<Vec<u8>> = answer
            .split(|byte| *byte == b'\n')
            .map(|line| self.comparable_line(line))
            .collect();
        let answer = lines.join(&b'\n');
        replace(&answer, TWICE_ENDED, &TWICE_ENDED[..TWICE_ENDED.len() - 2])
    }

    fn comparable_line(&mut self, line: &[u8]) -> Vec<u8> {
        const BAD: [&[u8]; 6] = [
            b"ERROR\r",
            b"CLIENT_ERROR bad command line format\r",
            b"CLIENT_ERROR invalid or duplicate flag\r",
            b"CLIENT_ERROR invalid flag\r",
            b"CLIENT_ERROR duplicate flag\r",
            b"CLIENT_ERROR error decoding key\r",
        ];
        if self.precision == Precision::Older && BAD.contains(&line) {
            return b"BAD\r".to_vec();
        }
        // Keys and opaques that are not UTF-8 are the same bytes on both sides.
        let text = String::from_utf8_lossy(line);
        let words: Vec<&str> = text.trim_end_matches('\r').split(' ').collect();
        let flags = match words[0] {
            "VALUE" if words.len() == 5 => 4,
            "HD" => 1,
            "VA" => 2,
            "ME" => return self.comparable_debug(&words),
            _ => return line.to_vec(),
        };
        let is_meta = flags != 4;
        let comparable: Vec<String> = words
            .iter()
            .enumerate()
            .map(|(place, word)| match place < flags {
                true => (*word).to_owned(),
                false if is_meta => self.comparable_flag(word),
                false => self.name_of(word),
            })
            .collect();
        comparable.join(" ").into_bytes()
    }

    fn comparable_flag(&mut self, word: &str) -> String {
        let rest = word.get(1..).unwrap_or_default();
        let Ok(number) = rest.parse::<u64>() else {
            return word.to_owned();
        };
        match word.as_bytes()[0] {
            b'c' => format!("c{}", self.name_of(rest)),
            b't' => format!("t{}", comparable_ttl(number)),
            b'l' if number <= SECONDS_MAX => "l0".to_owned(),
            _ => word.to_owned(),
        }
    }

    fn comparable_debug(&mut self, words: &[&str]) -> Vec<u8> {
        let comparable: Vec<String> = words
            .iter()
            .map(|word| match word.split_once('=') {
                Some(("cas", cas)) => format!("cas={}", self.name_of(cas)),
                Some(("cls" | "size", _)) => String::new(),
                Some((name @ ("exp" | "la"), number)) => match number.parse() {
                    Ok(number) if name == "exp" => format!("exp={}", comparable_ttl(number)),
                    Ok(0..=SECONDS_MAX) => "la=0".to_owned(),
                    _ => (*word).to_owned(),
                },
                _ => (*word).to_owned(),
            })
            .collect();
        comparable.join(" ").into_bytes()
    }

    fn name_of(&mut self, cas: &str) -> String {
        self.last_cas = cas.to_owned();
        if cas == "0" {
            return "0".to_owned();
        }
        let next = self.names.len();
        let name = *self.names.entry(cas.to_owned()).or_insert(next);
        format!("#{name}")
    }
}

/// Maximum duration of a case, in seconds.
const SECONDS_MAX: u64 = 5;
/// Reply of 1.6.45 to a `get` with a key of over 250 bytes.
const TWICE_ENDED: &[u8] = b"CLIENT_ERROR bad command line format\r\n\r\n";

/// Normalizes `left`, the seconds left of a TTL, to the requested TTL.
fn comparable_ttl(left: u64) -> String {
    const ASKED_FOR: [u64; 5] = [10_000, 12_345, 20_000, 54_321, 2_592_000];
    const DATE_MIN: u64 = 100_000_000;
    const OVER_MIN: u64 = 4_000_000_000;
    match left {
        DATE_MIN..OVER_MIN => "<date>".to_owned(),
        OVER_MIN.. => "<over>".to_owned(),
        _ => {
            let is_near = |asked: &u64| (left..=left + SECONDS_MAX).contains(asked);
            let asked = ASKED_FOR.into_iter().find(is_near);
            asked.unwrap_or(left).to_string()
        }
    }
}

/// Cuts bytes into pieces of random length, most of them small.
pub(crate) fn pieces(bytes: &[u8], cuts: Option<Random>) -> Vec<&[u8]> {
    let Some(mut random) = cuts else {
        return vec![bytes];
    };
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = match random.below(4) {
            0 => 1 + random.below(3),
            1 => 1 + random.below(30),
            2 => 1 + random.below(500),
            _ => 1 + random.below(100_000),
        };
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn replace(bytes: &[u8], part: &[u8], by: &[u8]) -> Vec<u8> {
    match bytes.windows(part.len()).position(|window| window == part) {
        Some(at) => [&bytes[..at], by, &bytes[at + part.len()..]].concat(),
        None => bytes.to_vec(),
    }
}
