//! Random cases of the binary protocol for memcached 1.6.45 or later, which
//! must give the same bytes. Not generated, because 1.6.45 is wrong there:
//!
//! | not generated | 1.6.45 |
//! |---|---|
//! | a body behind the key of `stat`, of touches and of SASL without `-S` | leaves it unread, or answers it |
//! | an unknown opcode with key or extras | skips as many bytes too many |
//! | a key longer than the bytes sent, in a packet refused for its lengths | waits for the key |
//! | `incr` on a value below -9223372036854775808 | treats it as positive |
//! | statistics, and TTLs of over 17 years together with `t` | – (rustcached counts eighths of a second in 32 bits) |

use crate::binary::{LAST_CAS, any};
use crate::compare::Case;
use test_support::binary::{Frame, opcode};
use test_support::random::Random;

const FRAMES: usize = 40;
const KEYS: [&str; 8] = [
    "a",
    "b",
    "n",
    "count",
    "with blank",
    "line\r\nend",
    "nul\0",
    "\u{e4}",
];
/// TTLs that have expired, or that outlast a case.
const TIMES: [u32; 8] = [
    0,
    0,
    10_000,
    2_592_000,
    2_592_001,
    0x7fff_ffff,
    0xffff_fffe,
    0xffff_ffff,
];
const STORES: [u8; 8] = [
    opcode::SET,
    opcode::SET,
    opcode::SET,
    opcode::SETQ,
    opcode::ADD,
    opcode::ADDQ,
    opcode::REPLACE,
    opcode::REPLACEQ,
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
const BARE: [u8; 5] = [
    opcode::NOOP,
    opcode::VERSION,
    opcode::FLUSH,
    opcode::FLUSHQ,
    opcode::SASL_LIST,
];
const UNKNOWN: [u8; 6] = [opcode::VERBOSITY, 0x1f, 0x25, 0x40, 0x80, 0xff];
const NUMBERS: [u64; 7] = [0, 1, 9, 100, 1 << 32, 1 << 63, u64::MAX];

/// Returns the case of a seed.
pub(crate) fn case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let commands = (0..FRAMES).map(|_| finished(&mut random)).collect();
    let cuts = Some(random.next_u64());
    let last = random.once_in(2).then(|| ending(&mut random));
    Case {
        commands,
        cuts,
        last,
    }
}

fn finished(random: &mut Random) -> Vec<u8> {
    let frame = frame(random);
    with_header(random, frame)
}

fn with_header(random: &mut Random, frame: Frame) -> Vec<u8> {
    let cas = match random.below(12) {
        0..=1 => LAST_CAS,
        2 => any(random, &[1, 999_999_999, u64::MAX]),
        _ => 0,
    };
    frame.opaque(random.next_u64() as u32).cas(cas).bytes()
}

fn frame(random: &mut Random) -> Frame {
    match random.below(20) {
        0..=4 => store(random),
        5..=6 => {
            let code = any(random, &JOINS);
            Frame::new(code).key(key(random)).value(value(random))
        }
        7..=9 => Frame::new(any(random, &GETS)).key(key(random)),
        10..=11 => touch(random),
        12..=14 => count(random),
        15..=16 => Frame::new(any(random, &[opcode::DELETE, opcode::DELETEQ])).key(key(random)),
        17 => large(random),
        18 => Frame::new(any(random, &BARE)),
        _ => rare(random),
    }
}

fn store(random: &mut Random) -> Frame {
    let mut extras = any(random, &[0, 5, u32::MAX]).to_be_bytes().to_vec();
    extras.extend_from_slice(&any(random, &TIMES).to_be_bytes());
    let code = any(random, &STORES);
    let value = value(random);
    Frame::new(code)
        .key(key(random))
        .extras(extras)
        .value(value)
}

fn touch(random: &mut Random) -> Frame {
    let exptime = any(random, &TIMES).to_be_bytes();
    let code = any(random, &TOUCHES);
    Frame::new(code).key(key(random)).extras(exptime)
}

fn count(random: &mut Random) -> Frame {
    let (delta, initial) = (any(random, &NUMBERS), any(random, &NUMBERS));
    let exptime = any(random, &[0, 10_000, 0xffff_fffe, u32::MAX, u32::MAX]);
    Frame::count(any(random, &COUNTS), key(random), delta, initial, exptime)
}

/// A value that exceeds a buffer, or the item size limit.
fn large(random: &mut Random) -> Frame {
    let size = any(
        random,
        &[5_000, 17_000, 70_000, 500_000, 1_048_400, 1_048_577],
    );
    let value = vec![b'L'; size];
    match random.once_in(4) {
        true => Frame::new(any(random, &JOINS)).key("large").value(value),
        false => Frame::store(any(random, &STORES), "large", value),
    }
}

fn rare(random: &mut Random) -> Frame {
    match random.below(5) {
        0 => {
            let delay = any(random, &[0u32, 1000, 2_592_001, 0xffff_ffff]);
            Frame::new(any(random, &[opcode::FLUSH, opcode::FLUSHQ])).extras(delay.to_be_bytes())
        }
        1 => Frame::new(any(random, &[opcode::SASL_AUTH, opcode::SASL_STEP]))
            .key("PLAIN")
            .value("\0a\0b"),
        _ => Frame::new(any(random, &UNKNOWN)).value(value(random)),
    }
}

/// A packet that ends the connection, in most cases because of its lengths.
fn ending(random: &mut Random) -> Vec<u8> {
    let code = match random.below(8) {
        0 => (random.next_u64() & 0xff) as u8,
        _ => (random.next_u64() % 0x25) as u8,
    };
    let touches = TOUCHES.contains(&code) || code == opcode::STAT;
    let known = code <= 0x24 && code != opcode::VERBOSITY && code != 0x1f;
    let frame = match random.below(14) {
        0 => Frame::new(code).key("k".repeat(251 + random.below(300))),
        1 => Frame::new(code).key("key").body_len(random.below(3) as u32),
        2 => Frame::new(code).extras([0; 8]).key("key").body_len(10),
        3 => Frame::new(code).body_len(any(random, &[0x4000_0001, 0x7fff_ffff, 0xffff_ffff])),
        4 => Frame::new(code)
            .key("key")
            .body_len(any(random, &[0x4000_0001, 0xffff_ffff])),
        5 if known => Frame::new(code).extras(vec![0; 1 + random.below(30)]),
        6 if known => Frame::new(code)
            .extras(vec![0; random.below(30)])
            .key("key"),
        7 if !touches => Frame::new(code),
        8 if known && !touches => Frame::new(code).key("key").value("v"),
        9 if known && !touches => Frame::new(code).value("v"),
        10 => return b"\x81\x00\x00\x00".repeat(6),
        11 => return b"\x80\x00\x00\x01".to_vec(),
        _ => Frame::new(any(random, &[opcode::QUIT, opcode::QUITQ])),
    };
    with_header(random, frame)
}

fn key(random: &mut Random) -> &'static str {
    KEYS[random.below(KEYS.len())]
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => Vec::new(),
        1..=3 => random.below(1000).to_string().into_bytes(),
        4 => b"in two\r\nlines".to_vec(),
        5 => {
            let numbers = [
                "-5",
                "-0 ",
                "+5",
                " 5",
                "5 x",
                "18446744073709551610",
                "5\0",
                "5x",
            ];
            random.pick(&numbers).as_bytes().to_vec()
        }
        _ => vec![b'v'; random.below(3000)],
    }
}
