//! Random cases of the text protocol that every release must answer alike:
//! commands over few keys, so that they interact, some of them malformed.
//!
//! Not generated, because 1.6.18 is known to differ from 1.6.45 there and
//! `compare.rs` cannot normalize it (the scripts cover it):
//!
//! - storage lines with bad numbers, negative lengths, surplus words or an
//!   over-long key (1.6.45 swallows the data block, 1.6.18 reads it as
//!   commands),
//! - `delete` with a third word other than 0 (1.6.18 refuses it),
//! - `gat` without keys (1.6.18 replies END), a `cas` that is not a number,
//! - `get` with an over-long key (1.6.18 drops the pipelined replies before
//!   it),
//! - the meta flags E and x, C on mg, s on ms, N on append, `q` on an `ma` that
//!   creates, mode words of several letters, client flags of over 32 bits,
//! - lines that begin with a space or contain NUL, and `mn` with a bare LF,
//! - statistics, delayed flushes and everything that depends on the second,
//! - arithmetic with numbers from 2^63 upward, hence nothing is appended to
//!   them (1.6.18 then looks for a minus sign in the memory behind the value),
//! - staleness, autovivifying mg and `h` with keys of arithmetic (1.6.18 loses
//!   the marks of an item only if an earlier reply with it is still unsent).

use crate::compare::{Case, LAST_CAS};
use test_support::random::Random;

const COMMANDS: usize = 40;
const KEYS: [&str; 4] = ["a", "b", "key-of-some-length", "\u{e4}\u{f6}"];
/// The only keys used in arithmetic.
const NUMBERS: [&str; 2] = ["n", "count"];
/// Never appended to, so that joined values stay below the item size limit.
const LARGE_KEY: &str = "large";
/// TTLs that have expired, or that outlast a case.
const TIMES: [&str; 4] = ["0", "0", "10000", "-1"];
const MG_FLAGS: [&str; 14] = [
    "v", "v", "s", "f", "c", "k", "q", "h", "u", "t", "Oabc", "N10000", "T10000", "R30",
];
const PLAIN_MG_FLAGS: [&str; 7] = ["v", "s", "f", "c", "k", "q", "Oabc"];
const MS_FLAGS: [&str; 10] = [
    "k", "c", "q", "Oxyz", "F77", "T10000", "T0", "I", "MS", "ME",
];
const MD_FLAGS: [&str; 6] = ["k", "Oq1", "I", "T10000", "q", "b"];
const MA_FLAGS: [&str; 9] = ["v", "c", "k", "O9", "D5", "MD", "MI", "t", "q"];

/// Returns the case of a seed.
pub(crate) fn case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let commands = (0..COMMANDS).map(|_| command(&mut random)).collect();
    Case {
        commands,
        cuts: Some(random.next_u64()),
        last: None,
    }
}

fn command(random: &mut Random) -> Vec<u8> {
    match random.below(20) {
        0..=3 => storage(random),
        4 => compare_and_swap(random),
        5..=6 => read(random),
        7 => arithmetic(random),
        8 => remove_or_touch(random),
        9..=11 => mg(random),
        12..=14 => ms(random),
        15 => md(random),
        16..=17 => ma(random),
        18 => large(random),
        _ => hostile(random),
    }
}

fn storage(random: &mut Random) -> Vec<u8> {
    let (verb, key) = if random.once_in(4) {
        (random.pick(&["set", "add", "replace"]), number(random))
    } else {
        let verbs = ["set", "set", "add", "replace", "append", "prepend"];
        (random.pick(&verbs), marked_key(random))
    };
    let (time, value) = (random.pick(&TIMES), value(random));
    let flags = random.pick(&["0", "5", "4294967295"]);
    let noreply = noreply(random);
    let declared = declared_length(random, value.len());
    let line = format!("{verb} {key} {flags} {time} {declared}{noreply}\r\n");
    // A block with a wrong length ends within this line, not within the next
    // command: the two releases differ in how they answer a torn line with a
    // noreply.
    let cushion = if declared == value.len() {
        ""
    } else {
        "torn torn torn torn torn\r\n"
    };
    let mut command = block(line, &value);
    command.extend_from_slice(cushion.as_bytes());
    command
}

fn compare_and_swap(random: &mut Random) -> Vec<u8> {
    let (key, value, noreply) = (key(random), value(random), noreply(random));
    let cas = random.pick(&[LAST_CAS, LAST_CAS, "0", "999999999"]);
    block(
        format!("cas {key} 1 0 {} {cas}{noreply}\r\n", value.len()),
        &value,
    )
}

fn read(random: &mut Random) -> Vec<u8> {
    let verb = random.pick(&["get", "gets", "gat 0", "gats 10000", "gat x"]);
    let keys: String = (0..1 + random.below(6))
        .map(|_| format!("{}{}", random.pick(&[" ", " ", "  "]), key(random)))
        .collect();
    line(random, format!("{verb}{keys}"))
}

fn arithmetic(random: &mut Random) -> Vec<u8> {
    let verb = random.pick(&["incr", "decr"]);
    let delta = random.pick(&["1", "9", "100", "4294967296", "x", "-1"]);
    let text = format!("{verb} {} {delta}{}", number(random), noreply(random));
    line(random, text)
}

fn remove_or_touch(random: &mut Random) -> Vec<u8> {
    let key = key(random);
    let noreply = noreply(random);
    let text = match random.below(7) {
        0..=1 => format!("delete {key}{noreply}"),
        2 => format!("delete {key} 0{noreply}"),
        3..=4 => format!("touch {key} {}{noreply}", random.pick(&TIMES)),
        5 => format!("touch {key} x{noreply}"),
        _ => format!("flush_all{noreply}"),
    };
    line(random, text)
}

fn mg(random: &mut Random) -> Vec<u8> {
    let text = if random.once_in(5) {
        format!("mg {}{}", number(random), some_of(random, &PLAIN_MG_FLAGS))
    } else {
        format!("mg {}{}", marked_key(random), some_of(random, &MG_FLAGS))
    };
    line(random, text)
}

fn ms(random: &mut Random) -> Vec<u8> {
    let (key, value) = (key(random), value(random));
    let mut flags = some_of(random, &MS_FLAGS);
    if random.once_in(3) && !flags.contains(" M") && !NUMBERS.contains(&key) {
        flags.push_str(random.pick(&[" MA", " MP", " MR", " MX"]));
    }
    if random.once_in(3) {
        flags.push_str(&format!(" C{}", random.pick(&[LAST_CAS, "0", "999999999"])));
    }
    block(format!("ms {key} {}{flags}\r\n", value.len()), &value)
}

fn md(random: &mut Random) -> Vec<u8> {
    let mut flags = some_of(random, &MD_FLAGS);
    if random.once_in(3) {
        flags.push_str(&format!(" C{}", random.pick(&[LAST_CAS, "999999999"])));
    }
    let text = format!("md {}{flags}", marked_key(random));
    line(random, text)
}

fn ma(random: &mut Random) -> Vec<u8> {
    let mut flags = some_of(random, &MA_FLAGS);
    if random.once_in(2) && !flags.contains(" q") {
        flags.push_str(" N10000 J7");
    }
    if random.once_in(4) {
        flags.push_str(&format!(" C{}", random.pick(&[LAST_CAS, "999999999"])));
    }
    let text = format!("ma {}{flags}", number(random));
    line(random, text)
}

/// A value that exceeds a buffer, or the item size limit.
fn large(random: &mut Random) -> Vec<u8> {
    let size = [17_000, 70_000, 500_000, 1_048_577][random.below(4)];
    let verb = random.pick(&["set", "add", "replace"]);
    match random.below(3) {
        0 => line(random, format!("get {LARGE_KEY} a {LARGE_KEY}")),
        1 => line(random, format!("mg {LARGE_KEY} v s")),
        _ => {
            let noreply = noreply(random);
            let line = format!("{verb} {LARGE_KEY} 0 0 {size}{noreply}\r\n");
            block(line, &vec![b'x'; size])
        }
    }
}

/// Lines that are not commands, or lack arguments.
fn hostile(random: &mut Random) -> Vec<u8> {
    let text = match random.below(12) {
        0 => String::new(),
        1 => "nonsense".to_owned(),
        2 => random
            .pick(&["set", "get", "gets", "incr", "delete", "touch"])
            .to_owned(),
        3 => random
            .pick(&["mg", "md", "ma", "me", "ms", "ms k"])
            .to_owned(),
        4 => format!("mg {} y", key(random)),
        5 => format!("mg {} v v", key(random)),
        6 => format!("ma {} q q", key(random)),
        7 => format!("mg {} Tx", key(random)),
        8 => format!("mg {} {}", key(random), "k ".repeat(25)),
        9 => format!("delete {}", "k".repeat(251)),
        10 => format!("mg {} v", "k".repeat(251)),
        _ => return garbage(random),
    };
    line(random, text)
}

fn garbage(random: &mut Random) -> Vec<u8> {
    let length = 4 + random.below(60);
    let mut bytes = vec![b'~'];
    bytes.extend((0..length).map(|_| match (random.next_u64() & 0xff) as u8 {
        0 | b'\n' => b'?',
        byte => byte,
    }));
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Returns a key other than [`LARGE_KEY`].
fn key(random: &mut Random) -> &'static str {
    if random.once_in(4) {
        number(random)
    } else {
        marked_key(random)
    }
}

fn marked_key(random: &mut Random) -> &'static str {
    KEYS[random.below(KEYS.len())]
}

fn number(random: &mut Random) -> &'static str {
    NUMBERS[random.below(NUMBERS.len())]
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => Vec::new(),
        1..=3 => random.next_u64().to_string().into_bytes()[..1 + random.below(3)].to_vec(),
        4 => b"18014398509481984".to_vec(),
        5 => b"in two\r\nlines".to_vec(),
        6 => vec![b'L'; random.below(3000)],
        _ => (0..random.below(40))
            .map(|_| b'A' + (random.next_u64() % 26) as u8)
            .collect(),
    }
}

/// Returns the announced length: mostly the true one, sometimes a few bytes
/// off.
fn declared_length(random: &mut Random, length: usize) -> usize {
    match random.below(25) {
        0 => length + 1 + random.below(8),
        1 => length.saturating_sub(1 + random.below(8)),
        _ => length,
    }
}

fn noreply(random: &mut Random) -> &'static str {
    if random.once_in(5) { " noreply" } else { "" }
}

/// Distinct flags in random order, each after a space.
fn some_of(random: &mut Random, flags: &[&str]) -> String {
    let mut chosen = String::new();
    for _ in 0..random.below(6) {
        let flag = random.pick(flags);
        let seen = format!(" {}", &flag[..1]);
        if !chosen.contains(&seen) {
            chosen.push(' ');
            chosen.push_str(flag);
        }
    }
    chosen
}

/// Ends a command without a data block: with CRLF, sometimes after a space, or
/// a bare LF.
fn line(random: &mut Random, text: String) -> Vec<u8> {
    let end = random.pick(&["\r\n", "\r\n", "\r\n", " \r\n", "\n"]);
    format!("{text}{end}").into_bytes()
}

fn block(line: String, value: &[u8]) -> Vec<u8> {
    [line.as_bytes(), value, b"\r\n"].concat()
}
