//! Random cases for the binary protocol that every release must answer alike:
//! packets over few keys, some of them malformed.
//!
//! Not generated, because 1.6.18 is known to differ there (the scripts cover
//! it):
//!
//! - bodies that the command does not take, behind a `stat`, a touch or an
//!   unknown opcode with a key (1.6.18 gets out of step), and lengths above
//!   `INT_MAX`,
//! - `verbosity` (1.6.18 does not know it) and statistics,
//! - `flush` with a delay, and everything that depends on the current second,
//! - arithmetic with numbers from 2^63 upward, and appending to numbers.
//!
//! CAS values are compared by the order of their first appearance. If the
//! connection is closed, only the fact of the close is compared.

use std::collections::HashMap;

use crate::compare::{Case, Precision, counters, pieces};
use crate::counters::Counters;
use test_support::binary::{Frame, HEADER_BYTES, Reply, opcode};
use test_support::client::{Address, Client, show};
use test_support::random::Random;

const FRAMES: usize = 40;
const KEYS: [&str; 4] = ["a", "b", "with blank", "line\r\nend"];
const NUMBERS: [&str; 2] = ["n", "count"];
/// TTLs that have expired, or that outlast a case. The last is a Unix time in
/// the past.
const TIMES: [u32; 4] = [0, 10_000, 0xffff_fffe, 4_000_000];
const STORES: [u8; 6] = [
    opcode::SET,
    opcode::SET,
    opcode::SETQ,
    opcode::ADD,
    opcode::ADDQ,
    opcode::REPLACE,
];
const JOINS: [u8; 4] = [
    opcode::APPEND,
    opcode::PREPEND,
    opcode::APPENDQ,
    opcode::PREPENDQ,
];
const GETS: [u8; 4] = [opcode::GET, opcode::GETQ, opcode::GETK, opcode::GETKQ];
const TOUCHES: [u8; 5] = [
    opcode::TOUCH,
    opcode::GAT,
    opcode::GATQ,
    opcode::GATK,
    opcode::GATKQ,
];
const COUNTS: [u8; 4] = [
    opcode::INCREMENT,
    opcode::DECREMENT,
    opcode::INCREMENTQ,
    opcode::DECREMENTQ,
];
/// Placeholder in a header for the CAS value returned last.
pub(crate) const LAST_CAS: u64 = 0xca5c_a5ca_5ca5_ca5c;
const CAS_AT: usize = 16;
/// Opaque of the `noop` that ends every batch.
const RESYNC: u32 = 0xfeed_f00d;

/// Returns the case of a seed.
pub(crate) fn case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let commands = (0..FRAMES).map(|_| frame(&mut random)).collect();
    Case {
        commands,
        cuts: Some(random.next_u64()),
        last: None,
    }
}

fn frame(random: &mut Random) -> Vec<u8> {
    let frame = match random.below(20) {
        0..=4 => store(random),
        5..=6 => Frame::new(any(random, &JOINS))
            .key(random.pick(&KEYS))
            .value(value(random)),
        7..=10 => Frame::new(any(random, &GETS)).key(key(random)),
        11..=12 => {
            let exptime = any(random, &TIMES).to_be_bytes();
            let code = any(random, &TOUCHES);
            Frame::new(code).key(key(random)).extras(exptime)
        }
        13..=14 => count(random),
        15..=16 => Frame::new(any(random, &[opcode::DELETE, opcode::DELETEQ])).key(key(random)),
        17 => large(random),
        18 => rare(random),
        _ => hostile(random),
    };
    let cas = match random.below(12) {
        0 => LAST_CAS,
        1 => 999_999_999,
        _ => 0,
    };
    frame.opaque(random.next_u64() as u32).cas(cas).bytes()
}

fn store(random: &mut Random) -> Frame {
    let mut extras = any(random, &[0, 5, u32::MAX]).to_be_bytes().to_vec();
    extras.extend_from_slice(&any(random, &TIMES).to_be_bytes());
    let code = any(random, &STORES);
    Frame::new(code)
        .key(key(random))
        .extras(extras)
        .value(value(random))
}

fn count(random: &mut Random) -> Frame {
    let delta = any(random, &[0, 1, 9, 100, 1 << 32]);
    let initial = any(random, &[0, 7, 1 << 40]);
    let exptime = any(random, &[0, 10_000, u32::MAX, u32::MAX]);
    let code = any(random, &COUNTS);
    let key = match random.once_in(10) {
        true => random.pick(&KEYS),
        false => random.pick(&NUMBERS),
    };
    Frame::count(code, key, delta, initial, exptime)
}

/// A value that exceeds a buffer, or the item size limit.
fn large(random: &mut Random) -> Frame {
    let size = any(random, &[5_000, 17_000, 70_000, 500_000, 1_048_577]);
    Frame::store(any(random, &STORES), "large", vec![b'L'; size])
}

fn rare(random: &mut Random) -> Frame {
    match random.below(6) {
        0 => Frame::new(opcode::NOOP),
        1 => Frame::new(opcode::FLUSH),
        2 => Frame::new(opcode::FLUSHQ).extras([0; 4]),
        3 => Frame::new(opcode::SASL_AUTH).key("PLAIN").value("\0a\0b"),
        4 => Frame::new(opcode::SASL_LIST),
        _ => Frame::new(0x60).value(value(random)),
    }
}

/// A packet that in most cases ends the connection.
fn hostile(random: &mut Random) -> Frame {
    if !random.once_in(4) {
        return Frame::new(opcode::NOOP);
    }
    let code = (random.next_u64() % 0x1b) as u8;
    match random.below(6) {
        0 => Frame::new(code).key("k".repeat(251)),
        1 => Frame::new(code).key("key").body_len(2),
        2 => Frame::new(code).extras([0; 3]).key("key"),
        3 => Frame::new(opcode::GET).value("v"),
        4 => Frame::new(opcode::SET).key("key").value("v"),
        _ => Frame::new(opcode::QUIT),
    }
}

fn key(random: &mut Random) -> &'static str {
    match random.once_in(4) {
        true => random.pick(&NUMBERS),
        false => random.pick(&KEYS),
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(5) {
        0 => Vec::new(),
        1..=2 => random.below(1000).to_string().into_bytes(),
        3 => b"in two\r\nlines".to_vec(),
        _ => vec![b'v'; random.below(3000)],
    }
}

pub(crate) fn any<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len())]
}

/// Returns a description of the first difference between the replies of two
/// servers, `None` if they agree.
pub(crate) fn difference(
    case: &Case,
    precision: Precision,
    first: &Address,
    second: &Address,
) -> Option<String> {
    let mut left = Session::start(first);
    let mut right = Session::start(second);
    let before = counters(precision, first, second);
    for batch in batches(case) {
        let cuts = case.cuts.map(Random::new);
        let (want, got) = (left.run(&batch, cuts.clone()), right.run(&batch, cuts));
        if want != got {
            return Some(format!("  first  {want:?}\n  second {got:?}\n"));
        }
        // An unequal close has been reported above, so both connections are
        // closed.
        want?;
    }
    if let Some(last) = &case.last {
        let (want, got) = (left.finish(last), right.finish(last));
        if want != got {
            return Some(format!("  at last first  {want:?}\n  second {got:?}\n"));
        }
    }
    let (before, after) = (before?, counters(precision, first, second)?);
    Counters::difference(&before, &after)
}

/// Splits a case into batches. The replies of a batch are read before the next
/// batch is sent.
///
/// A packet that needs a CAS value begins a batch. Arithmetic does too: 1.6.18
/// changes a number in place only if no unsent reply refers to the item.
fn batches(case: &Case) -> Vec<Vec<Vec<u8>>> {
    let mut random = Random::new(case.cuts.unwrap_or(0));
    let mut batches: Vec<Vec<Vec<u8>>> = Vec::new();
    for frame in &case.commands {
        let needs_answers = has_last_cas(frame) || COUNTS.contains(&frame[1]);
        match batches.last_mut() {
            Some(batch) if !needs_answers && !random.once_in(8) => batch.push(frame.clone()),
            _ => batches.push(vec![frame.clone()]),
        }
    }
    batches
}

fn has_last_cas(frame: &[u8]) -> bool {
    frame[CAS_AT..HEADER_BYTES] == LAST_CAS.to_be_bytes()
}

/// A connection, with the names given to the CAS values seen on it.
struct Session {
    client: Client,
    names: HashMap<u64, u64>,
    last_cas: u64,
}

impl Session {
    fn start(address: &Address) -> Self {
        let mut session = Self {
            client: Client::connect(address),
            names: HashMap::new(),
            last_cas: 1,
        };
        let flush = Frame::new(opcode::FLUSH).bytes();
        session.run(&[flush], None).expect("a flush is answered");
        session
    }

    /// Sends a batch, cut at random, and returns the normalized replies, `None`
    /// if the connection is closed.
    fn run(&mut self, batch: &[Vec<u8>], cuts: Option<Random>) -> Option<Vec<Shown>> {
        let mut bytes = Vec::new();
        for frame in batch {
            let start = bytes.len();
            bytes.extend_from_slice(frame);
            if has_last_cas(frame) {
                let cas = self.last_cas.to_be_bytes();
                bytes[start + CAS_AT..start + HEADER_BYTES].copy_from_slice(&cas);
            }
        }
        bytes.extend(Frame::new(opcode::NOOP).opaque(RESYNC).bytes());
        for piece in pieces(&bytes, cuts) {
            if self.client.try_send(piece).is_err() {
                break;
            }
        }
        let mut replies = Vec::new();
        loop {
            let reply = self.reply()?;
            if reply.0.opcode == opcode::NOOP && reply.0.opaque == RESYNC {
                return Some(replies);
            }
            replies.push(reply);
        }
    }

    /// Sends the last packet and returns the replies before the close.
    fn finish(&mut self, last: &[u8]) -> Vec<Shown> {
        if self.client.try_send(last).is_ok() {
            self.client.try_finish_sending();
        }
        std::iter::from_fn(|| self.reply()).collect()
    }

    fn reply(&mut self) -> Option<Shown> {
        let header = self.client.peek_exactly(HEADER_BYTES)?;
        let len = Reply::len_of(&header);
        let mut reply = Reply::parse(&self.client.peek_exactly(len)?);
        self.client.skip(len);
        if reply.cas != 0 {
            self.last_cas = reply.cas;
            let next = self.names.len() as u64 + 1;
            reply.cas = *self.names.entry(reply.cas).or_insert(next);
        }
        Some(Shown(reply))
    }
}

/// A reply whose debug output is short.
#[derive(PartialEq, Eq)]
struct Shown(Reply);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reply = &self.0;
        let (key, value) = (show(&reply.key), show(&reply.value));
        write!(
            f,
            "\n    {:#04x} status {:#x} opaque {:x} cas #{} extras {:?} {key} {value}",
            reply.opcode, reply.status, reply.opaque, reply.cas, reply.extras
        )
    }
}
