//! Sends a case to two servers and compares what they answer.
//!
//! Answers are made equal where the difference is known and right:
//!
//! | 1.6.18 | 1.6.45 | becomes |
//! |---|---|---|
//! | `ERROR` for a line with too few words or none | `CLIENT_ERROR bad command line format` | `BAD` |
//! | `CLIENT_ERROR invalid or duplicate flag` from md | the fault by its own name | `BAD` |
//! | CAS values count from the start of each server | the same | `#` and the order of first appearance |
//! | what is said before a close may be lost, since unread input resets the stream | the same | only that it is closed |
//! | remaining seconds may be one apart between two clocks | the same | the time that was asked for |

use std::collections::HashMap;
use std::fmt;

use crate::generate;
use crate::support::client::{Address, Client, show};
use crate::support::random::Random;

/// Stands in a command for the CAS value that was answered last.
pub(crate) const LAST_CAS: &str = "<last-cas>";

/// Follows every batch. Whatever data block a malformed command still waits
/// for ends within the first line, so that the `mn` behind it is answered.
const RESYNC: &[u8] = b"resync resync resync resync resync\r\nmn\r\n";

/// Commands, and the seed of the places where their bytes are cut.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) commands: Vec<Vec<u8>>,
    pub(crate) cuts: Option<u64>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} commands, cuts {:?}:", self.commands.len(), self.cuts)?;
        for command in &self.commands {
            writeln!(f, "  {}", show(command))?;
        }
        Ok(())
    }
}

/// Describes the first difference between two servers' answers, the second of
/// which is sent what `alter` makes of each command.
pub(crate) fn difference(
    case: &Case,
    first: &Address,
    second: &Address,
    alter: impl Fn(Vec<u8>) -> Vec<u8>,
) -> Option<String> {
    let mut left = Session::start(first);
    let mut right = Session::start(second);
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
            // Both are, or they would differ.
            return None;
        }
    }
    None
}

/// Splits a case into what is sent before the answers are read. A command that
/// needs a CAS value begins a new batch, and so does arithmetic: 1.6.18 changes
/// a number in place, with padding, only if no unsent answer holds the item.
fn batches(case: &Case) -> Vec<Vec<Vec<u8>>> {
    let mut random = Random::new(case.cuts.unwrap_or(0));
    let mut batches: Vec<Vec<Vec<u8>>> = Vec::new();
    for command in &case.commands {
        let verbs: [&[u8]; 3] = [b"incr ", b"decr ", b"ma "];
        let needs_answers = contains(command, LAST_CAS.as_bytes())
            || verbs.iter().any(|verb| command.starts_with(verb));
        match batches.last_mut() {
            Some(batch) if !needs_answers && !random.once_in(8) => batch.push(command.clone()),
            _ => batches.push(vec![command.clone()]),
        }
    }
    batches
}

/// One connection and what its CAS values have been called.
struct Session {
    client: Client,
    names: HashMap<String, usize>,
    last_cas: String,
    closed: bool,
}

impl Session {
    fn start(address: &Address) -> Self {
        let mut client = Client::connect(address);
        for key in generate::all_keys() {
            client.ask(format!("delete {key} noreply\r\n"), "");
        }
        Self {
            client,
            names: HashMap::new(),
            last_cas: "1".to_owned(),
            closed: false,
        }
    }

    /// Sends a batch, cut at random, and returns the answers made comparable.
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

    fn comparable(&mut self, answer: &[u8]) -> Vec<u8> {
        let lines: Vec<Vec<u8>> = answer
            .split(|byte| *byte == b'\n')
            .map(|line| self.comparable_line(line))
            .collect();
        lines.join(&b'\n')
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
        if BAD.contains(&line) {
            return b"BAD\r".to_vec();
        }
        let Ok(text) = std::str::from_utf8(line) else {
            return line.to_vec();
        };
        let words: Vec<&str> = text.trim_end_matches('\r').split(' ').collect();
        let flags = match words[0] {
            "VALUE" if words.len() == 5 => 4,
            "HD" => 1,
            "VA" => 2,
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
            b't' if (9_000..10_000).contains(&number) => "t10000".to_owned(),
            _ => word.to_owned(),
        }
    }

    fn name_of(&mut self, cas: &str) -> String {
        self.last_cas = cas.to_owned();
        let next = self.names.len();
        let name = *self.names.entry(cas.to_owned()).or_insert(next);
        format!("#{name}")
    }
}

/// The bytes in pieces of random length, most of them small.
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
