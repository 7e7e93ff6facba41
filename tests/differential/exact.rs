//! Random cases of the text protocol for memcached 1.6.45 or later, which must
//! give the same bytes: every command, every meta flag, and malformed lines of
//! every kind below. Not generated, because 1.6.45 is wrong there or its
//! behaviour is undefined:
//!
//! | not generated | 1.6.45 |
//! |---|---|
//! | pipelined commands before a `get` with an over-long key | drops their replies |
//! | the same `get` with `noreply` | replies with bytes of an earlier reply |
//! | `E` on an `ms` whose data block or opaque is refused | gives the CAS value to the next item stored on the connection |
//! | values of white space alone, in `incr` | reads the memory behind the value |
//! | values below -9223372036854775808, in `incr` | treats them as positive |
//! | `T` or `E` on an `ma` that makes a number longer | sets them on the item that is replaced |
//! | base64 keys with spaces or newlines, in `mg N`, `md x`, `ma N`, append | prints them unencoded, which breaks the line |
//! | data blocks announced with more bytes than are sent | delays the error until all bytes have arrived |
//! | lines of over 1,500 bytes that are cut or not alone | closes or not, depending on how bytes arrive |

use crate::compare::{Case, LAST_CAS};
use test_support::random::Random;

const COMMANDS: usize = 40;
const KEYS: [&str; 8] = [
    "a",
    "b",
    "n",
    "count",
    "key-of-some-length",
    "\u{e4}\u{f6}",
    "Zm9v",
    "noreply",
];
/// Base64 keys: unpadded, padded, malformed and odd.
const ENCODED: [&str; 10] = [
    "Zm9v",
    "YQ==",
    "YmI=",
    "Zm9vYmFyIQ==",
    "Zm9",
    "====",
    "Z===",
    "Zm-9v",
    "YQ==YQ==",
    "AAAA",
];
/// Arguments for numeric parameters, many of them malformed. As a TTL or a
/// delay, none expires during a case.
const NUMBERS: [&str; 32] = [
    "0",
    "54321",
    "12345",
    "10000",
    "-1",
    "-",
    "+",
    "+12345",
    "0x10",
    "12345x",
    "x",
    "00000012345",
    "000000012345",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "4102444800",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "0000000000000000012345",
    "00000000000000000012345",
    "\t12345",
    "12345\t8",
    "12345\08",
    "--1",
];
/// TTLs that have expired, or that outlast a case.
const TIMES: [&str; 12] = [
    "0",
    "0",
    "0",
    "10000",
    "-1",
    "2592000",
    "2592001",
    "2147483647",
    "4294967295",
    "4294967296",
    "4102444800",
    "-2147483648",
];
const DELTAS: [&str; 8] = [
    "0",
    "1",
    "9",
    "100",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "-1",
];
/// Opaques up to the maximum length, and longer by a byte.
const OPAQUES: [&str; 4] = [
    "Oabc",
    "O",
    "O3456789012345678901234567890123",
    "O34567890123456789012345678901234",
];
const NUMERIC_FLAGS: [&str; 8] = ["N", "T", "R", "C", "E", "F", "J", "D"];
const PLAIN_FLAGS: [&str; 18] = [
    "v", "v", "s", "f", "c", "k", "q", "h", "u", "t", "l", "I", "x", "b", "P1", "Lx", "Pabc",
    "S100",
];
const MODES: [&str; 14] = [
    "M", "ME", "MA", "MP", "MR", "MS", "Mappend", "MI", "MD", "M+", "M-", "MX", "M\0", "Me",
];

/// Returns the case of a seed.
pub(crate) fn case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let commands = (0..COMMANDS).map(|_| command(&mut random)).collect();
    let cuts = Some(random.next_u64());
    let last = random.once_in(6).then(|| ending(&mut random));
    Case {
        commands,
        cuts,
        last,
    }
}

fn command(random: &mut Random) -> Vec<u8> {
    match random.below(24) {
        0..=3 => storage(random),
        4..=5 => compare_and_swap(random),
        6..=7 => read(random),
        8..=9 => arithmetic(random),
        10..=11 => other_with_key(random),
        12..=14 => line(random, "mg"),
        15..=17 => meta_set(random),
        18 => line(random, "md"),
        19..=20 => line(random, "ma"),
        21 => line(random, "me"),
        22 => operator(random),
        _ => garbage(random),
    }
}

fn storage(random: &mut Random) -> Vec<u8> {
    let verbs = ["set", "set", "set", "add", "replace", "append", "prepend"];
    let (verb, key, value) = (random.pick(&verbs), key(random), value(random));
    let flags = match random.below(4) {
        0 => random.pick(&NUMBERS),
        _ => "5",
    };
    let surplus = random.pick(&["", "", "", "", " 5", " noreply", " noreply x", " x noreply"]);
    let time = time(random);
    data_block(
        random,
        format!("{verb} {key} {flags} {time}"),
        &value,
        surplus,
    )
}

fn compare_and_swap(random: &mut Random) -> Vec<u8> {
    let (key, value, time) = (key(random), value(random), time(random));
    let unique = match random.below(5) {
        0 => random.pick(&NUMBERS),
        1 => "999999999",
        2 => "",
        _ => LAST_CAS,
    };
    let surplus = format!(" {unique}{}", noreply(random));
    data_block(random, format!("cas {key} 7 {time}"), &value, &surplus)
}

fn meta_set(random: &mut Random) -> Vec<u8> {
    let (key, value) = (meta_key(random), value(random));
    let mut flags = flags(random);
    if random.once_in(3) && !flags.contains(" M") {
        flags.push(' ');
        flags.push_str(random.pick(&MODES));
    }
    // Do not combine E with an opaque that is refused (see the module's table).
    let may_be_refused = flags.contains(" O34567890123456789012345678901234");
    if may_be_refused {
        flags = flags.replace(" E", " Pt");
    }
    let block = format!("ms {key}");
    if flags.contains(" E") {
        return exact_block(format!("{block} {}{flags}\r\n", value.len()), &value);
    }
    data_block(random, block, &value, &flags)
}

/// A storage line and its data block. The announced length is sometimes a few
/// bytes off or not a number.
fn data_block(random: &mut Random, front: String, value: &[u8], behind: &str) -> Vec<u8> {
    let (length, off) = match random.below(40) {
        0 => ((value.len() + 1 + random.below(8)).to_string(), true),
        1 => (
            value.len().saturating_sub(1 + random.below(8)).to_string(),
            true,
        ),
        2 => (
            random
                .pick(&["-1", "x", "+2", "2147483646", "0x2", "-"])
                .to_owned(),
            true,
        ),
        3 => (format!("{:0>11}", value.len()), false),
        _ => (value.len().to_string(), false),
    };
    let mut command = exact_block(format!("{front} {length}{behind}\r\n"), value);
    if off {
        // A block with a wrong length ends within this line, not within the
        // next command.
        command.extend_from_slice(b"torn torn torn torn torn\r\n");
    }
    command
}

fn exact_block(line: String, value: &[u8]) -> Vec<u8> {
    [line.as_bytes(), value, b"\r\n"].concat()
}

fn read(random: &mut Random) -> Vec<u8> {
    let verb = match random.below(8) {
        0..=2 => "get".to_owned(),
        3..=4 => "gets".to_owned(),
        5 => format!("gat {}", time(random)),
        6 => format!("gats {}", time(random)),
        _ => format!("gat {}", random.pick(&NUMBERS)),
    };
    let keys: String = (0..random.below(7))
        .map(|_| format!("{}{}", random.pick(&[" ", " ", "  "]), key(random)))
        .collect();
    if random.once_in(12) {
        // This command begins a batch (see the module's table).
        let long = "k".repeat(251);
        return end(random, format!("{verb}{keys} {long} a"));
    }
    end(random, format!("{verb}{keys}"))
}

fn arithmetic(random: &mut Random) -> Vec<u8> {
    let (verb, key) = (random.pick(&["incr", "decr"]), key(random));
    let delta = match random.below(4) {
        0 => random.pick(&NUMBERS),
        _ => random.pick(&DELTAS),
    };
    let noreply = noreply(random);
    mutated(random, format!("{verb} {key} {delta}{noreply}"))
}

fn other_with_key(random: &mut Random) -> Vec<u8> {
    let (key, noreply) = (key(random), noreply(random));
    let text = match random.below(8) {
        0..=1 => format!("delete {key}{noreply}"),
        2 => format!("delete {key} {}{noreply}{noreply}", random.pick(&NUMBERS)),
        3..=4 => format!("touch {key} {}{noreply}", time(random)),
        5 => format!("touch {key} {}{noreply}", random.pick(&NUMBERS)),
        6 => format!("flush_all{noreply}"),
        _ => format!(
            "flush_all {}{noreply}",
            random.pick(&["0", "x", "-1", "1000", "2592001"])
        ),
    };
    mutated(random, text)
}

/// A meta command without a data block.
fn line(random: &mut Random, verb: &str) -> Vec<u8> {
    let key = meta_key(random);
    let mut flags = flags(random);
    if verb == "ma" {
        if random.once_in(2) && !flags.contains(" N") {
            flags.push_str(" N10000");
        }
        if random.once_in(3) && !flags.contains(" D") {
            flags.push_str(&format!(" D{}", random.pick(&DELTAS)));
        }
        if random.once_in(4) && !flags.contains(" M") {
            flags.push_str(random.pick(&[" MD", " MI", " M-", " M+", " Mdecr"]));
        }
    }
    if verb == "ma" && (flags.contains(" T") || flags.contains(" E")) {
        // With T or E, the number must not become longer (see the module's
        // table).
        flags = flags.replace(" D", " Pt");
        flags.push_str(" D0");
    }
    if verb == "me" && random.once_in(2) {
        flags = random.pick(&["", "", " b", " b b", " x y"]).to_owned();
    }
    mutated(random, format!("{verb} {key}{flags}"))
}

/// Meta flags in random order, each after a space. Few are invalid.
fn flags(random: &mut Random) -> String {
    let mut chosen = String::new();
    for _ in 0..random.below(7) {
        let flag = match random.below(8) {
            0..=3 => random.pick(&PLAIN_FLAGS).to_owned(),
            4..=5 => numeric(random),
            6 => random.pick(&OPAQUES).to_owned(),
            _ => random.pick(&MODES).to_owned(),
        };
        let seen = format!(" {}", &flag[..1]);
        if !chosen.contains(&seen) || random.once_in(20) {
            chosen.push(' ');
            chosen.push_str(&flag);
        }
    }
    if random.once_in(40) {
        chosen.push_str(random.pick(&[
            " 5", " !", " \x01", " y", " {", " ~", " \x7f", " [", " \u{e4}",
        ]));
    }
    if random.once_in(60) {
        chosen.push_str(&" k L s t f c h l u v q O x I F1 D1 J1 N0 T0 R0 C1"[..random.below(50)]);
    }
    chosen
}

fn numeric(random: &mut Random) -> String {
    let flag = random.pick(&NUMERIC_FLAGS);
    let number = match (flag, random.below(6)) {
        (_, 0) => random.pick(&NUMBERS),
        (_, 1) => random.pick(&["", "0"]),
        ("C", _) => random.pick(&[LAST_CAS, LAST_CAS, "999999999", "1"]),
        ("E", _) => random.pick(&["5", "999999999", "18446744073709551615"]),
        ("N" | "T", _) => random.pick(&TIMES),
        ("R", _) => random.pick(&["30", "0", "20000", "-1"]),
        _ => random.pick(&["1", "77", "4294967295"]),
    };
    format!("{flag}{number}")
}

/// Administrative commands, as far as the reply is independent of the
/// implementation.
fn operator(random: &mut Random) -> Vec<u8> {
    let text = random.pick(&[
        "version",
        "version x",
        "verbosity",
        "verbosity x",
        "verbosity 0",
        "verbosity 0 noreply",
        "verbosity -1",
        "cache_memlimit",
        "cache_memlimit x",
        "cache_memlimit 7",
        "cache_memlimit 64",
        "cache_memlimit 64 noreply",
        "cache_memlimit 1000000001",
        "shutdown",
        "shutdown x",
        "shutdown graceful",
        "lru",
        "lru x",
        "lru tune",
        "lru tune 50 31 1 1",
        "lru tune 10 20 0 1",
        "lru tune 10 25 0.1 2.0",
        "lru_crawler",
        "lru_crawler x",
        "lru_crawler tocrawl x",
        "lru_crawler tocrawl 0",
        "lru_crawler sleep 1000001",
        "lru_crawler sleep x",
        "slabs",
        "slabs x",
        "slabs reassign",
        "slabs reassign x 1",
        "slabs reassign 1 1",
        "slabs reassign 1 99",
        "slabs automove",
        "slabs automove x",
        "slabs automove 3",
        "slabs automove 0",
        "slabs automove window 2",
        "slabs automove window 1801",
        "slabs automove window 30",
        "slabs automove ratio x",
        "slabs automove freeratio 0.1",
        "extstore",
        "extstore x",
        "extstore item_size",
        "extstore item_size x",
        "extstore item_size 512",
        "extstore free_memchunks 99 1",
        "watch x",
        "stats x",
        "stats detail",
        "stats detail x",
        "stats cachedump",
        "stats cachedump x 1",
        "stats cachedump 64 1",
        "noreply",
        "noreply noreply",
        "x noreply",
        "watch noreply",
    ]);
    if text.starts_with("watch") || text.starts_with("stats") {
        // A valid `watch` makes the connection a watcher, which answers no
        // commands. Statistics differ between the servers.
        return end(random, text.to_owned());
    }
    mutated(random, text.to_owned())
}

/// Lines that are not commands, or lack arguments.
fn garbage(random: &mut Random) -> Vec<u8> {
    let text = match random.below(8) {
        0 => String::new(),
        1 => " ".repeat(1 + random.below(300)),
        2 => random
            .pick(&[
                "set",
                "set a",
                "set a 0 0",
                "cas a 0 0 1",
                "get",
                "gets",
                "gat",
                "gat 0",
                "incr",
                "incr a",
                "delete",
                "touch",
                "touch a",
                "mg",
                "md",
                "ma",
                "me",
                "ms",
                "ms k",
                "m",
                "mx a",
                "GET a",
                "getx a",
                "ge",
                "quit2",
                "flush_allx",
            ])
            .to_owned(),
        3 => {
            let verb = random.pick(&["delete", "incr", "touch", "mg", "md", "ma", "me"]);
            format!(
                "{verb} {} 1{}",
                "k".repeat(250 + random.below(3)),
                noreply(random)
            )
        }
        4 => {
            let length = 250 + random.below(3);
            let block = format!("set {} 0 0 2{}\r\nhi", "k".repeat(length), noreply(random));
            return format!("{block}\r\n").into_bytes();
        }
        5 => {
            let block = format!("ms {} 2 k\r\nhi\r\n", "k".repeat(250 + random.below(3)));
            return block.into_bytes();
        }
        6 => format!(
            "{} {}",
            random.pick(&["incr a 1", "touch a 0", "delete a"]),
            "x ".repeat(19 + random.below(4)) + "noreply"
        ),
        _ => return noise(random),
    };
    end(random, text)
}

fn noise(random: &mut Random) -> Vec<u8> {
    let length = 4 + random.below(60);
    let mut bytes = vec![b'~'];
    bytes.extend((0..length).map(|_| match (random.next_u64() & 0xff) as u8 {
        b'\n' => b'?',
        byte => byte,
    }));
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Returns the text, sometimes with a word added or removed, or a byte changed.
fn mutated(random: &mut Random, text: String) -> Vec<u8> {
    let mut words: Vec<&str> = text.split(' ').collect();
    match random.below(30) {
        0 => words.insert(random.below(words.len() + 1), "noreply"),
        1 => words.insert(random.below(words.len() + 1), ""),
        2 => words.push("noreply"),
        3 => words.insert(random.below(words.len() + 1), "x"),
        // Without a key, the reply would contain the CAS value, which differs.
        4 if !text.contains(LAST_CAS) => {
            words.remove(random.below(words.len()));
        }
        5 => {
            let mut bytes = end(random, text);
            let at = random.below(bytes.len() - 2);
            bytes[at] = random
                .pick(&["\0", "\t", "\r", "\x01", "\x7f", "\u{e4}"])
                .as_bytes()[0];
            return bytes;
        }
        _ => {}
    }
    end(random, words.join(" "))
}

/// Commands that end the connection or are long. Nothing follows them.
fn ending(random: &mut Random) -> Vec<u8> {
    match random.below(10) {
        0 => b"quit\r\nget a\r\n".to_vec(),
        1 => b"quit x\r\n".to_vec(),
        2 => b"GET / HTTP/1.1\r\n".to_vec(),
        3 => b"x HTTP/\r\n".to_vec(),
        4 => b"HTTP/1.0\r\nmn\r\nmn x\r\nmn\nmn \n".to_vec(),
        5 => format!("{}\r\n", " ".repeat(2000 + random.below(14_000))).into_bytes(),
        6 => format!("gat 0{}\r\n", " a".repeat(1000 + random.below(6000))).into_bytes(),
        7 => format!("get{}\r\n", " a".repeat(1000 + random.below(20_000))).into_bytes(),
        8 => format!(
            "{}get{}\r\n",
            " ".repeat(random.below(99)),
            " b".repeat(1000)
        )
        .into_bytes(),
        _ => format!("delete a{}\r\n", " x".repeat(1000 + random.below(6000))).into_bytes(),
    }
}

fn key(random: &mut Random) -> &'static str {
    KEYS[random.below(KEYS.len())]
}

fn meta_key(random: &mut Random) -> &'static str {
    match random.once_in(4) {
        true => ENCODED[random.below(ENCODED.len())],
        false => key(random),
    }
}

fn time(random: &mut Random) -> &'static str {
    match random.once_in(5) {
        true => NUMBERS[random.below(NUMBERS.len())],
        false => TIMES[random.below(TIMES.len())],
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(9) {
        0 => Vec::new(),
        1..=3 => random.next_u64().to_string().into_bytes()[..1 + random.below(3)].to_vec(),
        4 => b"18446744073709551610".to_vec(),
        5 => b"in two\r\nlines".to_vec(),
        6 => vec![b'L'; random.below(1400)],
        7 => {
            let numbers = [
                "-5",
                "-0 ",
                "+5",
                " 5",
                "5 x",
                "5\t",
                "5\0",
                "99999999999999999999",
                "5x",
            ];
            random.pick(&numbers).as_bytes().to_vec()
        }
        _ => (0..random.below(40))
            .map(|_| b'A' + (random.next_u64() % 26) as u8)
            .collect(),
    }
}

fn noreply(random: &mut Random) -> &'static str {
    match random.once_in(6) {
        true => " noreply",
        false => "",
    }
}

/// Appends CRLF, sometimes after a space, or a bare LF.
fn end(random: &mut Random, text: String) -> Vec<u8> {
    let end = random.pick(&["\r\n", "\r\n", "\r\n", " \r\n", "\n"]);
    format!("{text}{end}").into_bytes()
}
