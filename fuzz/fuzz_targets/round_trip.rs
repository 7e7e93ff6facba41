//! Encodes random requests and replies and parses them again.
//!
//! Requests must parse to the values they were encoded from. Replies must be
//! readable by the rules that clients apply.

#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use rustcached::limits::KEY_MAX_BYTES;
use rustcached::protocol::cas::Cas;
use rustcached::protocol::meta::encode::{self as meta_encode, FlagValue, ReturnKey};
use rustcached::protocol::meta::key::{decode_key, encode_key};
use rustcached::protocol::meta::request::{FlagPositions, MetaFlags, MetaMode, MetaRequest};
use rustcached::protocol::request::{GetLine, Request, StoreLine};
use rustcached::protocol::text::encode;
use rustcached::protocol::text::parse::{Parsed, parse};
use rustcached::protocol::tokens::tokens;
use rustcached::protocol::verb::{ArithmeticVerb, ControlVerb, NameKind, ShutdownMode, StoreVerb};

/// A key of 1 to 250 bytes without spaces and control characters.
#[derive(Debug)]
struct Key(Vec<u8>);

impl<'a> Arbitrary<'a> for Key {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let len = u.int_in_range(1..=KEY_MAX_BYTES)?;
        let bytes = (0..len).map(|_| u.arbitrary().map(printable));
        bytes.collect::<Result<Vec<u8>>>().map(Self)
    }
}

fn printable(byte: u8) -> u8 {
    if byte <= b' ' || byte == 0x7F {
        b'k'
    } else {
        byte
    }
}

#[derive(Arbitrary, Debug)]
enum Spec {
    Store(u8, Key, u32, i32, u32, u64, bool),
    Get(Vec<Key>, bool, Option<i32>),
    Delete(Key, bool),
    Arithmetic(Key, u64, bool, bool),
    Touch(Key, i32, bool),
    Meta(u8, Key, bool, u32, MetaSpec),
    MetaDebug(Key, bool),
    FlushAll(Option<i32>, bool),
    Invalidate(bool, Key, bool),
    Verbosity(u32, bool),
    MemoryLimit(u32, bool),
    Shutdown(bool),
    Plain(u8),
    Control(u8, Key),
}

#[derive(Arbitrary, Debug)]
struct MetaSpec {
    switches: [bool; 5],
    mode: Option<u8>,
    vivify: Option<i32>,
    ttl: Option<i32>,
    recache: Option<i32>,
    client_flags: Option<u32>,
    cas: Option<u64>,
    new_cas: Option<u64>,
    delta: Option<u64>,
    initial: Option<u64>,
    opaque: Option<[u8; 8]>,
    tags: Option<[u8; 3]>,
}

#[derive(Arbitrary, Debug)]
struct Input {
    spec: Spec,
    reply: Reply,
}

#[derive(Arbitrary, Debug)]
struct Reply {
    key: Key,
    flags: u32,
    len: u32,
    cas: Option<u64>,
    base64: bool,
}

fuzz_target!(|input: Input| {
    request(&input.spec);
    reply(&input.reply);
});

/// Encodes the request and checks the parsed result.
fn request(spec: &Spec) {
    match spec {
        Spec::Store(verb, key, flags, exptime, len, cas, noreply) => {
            store(*verb, &key.0, (*flags, *exptime, *len, *cas), *noreply);
        }
        Spec::Get(keys, cas, touch) => get(keys, *cas, *touch),
        Spec::Meta(verb, key, base64, len, flags) => meta(*verb, &key.0, *base64, *len, flags),
        other => simple(other),
    }
}

fn expect(line: &[u8], request: Request<'_>) {
    let line = [line, b"\r\n"].concat();
    let parsed = parse(&line);
    assert_eq!(parsed, Parsed::Request(request, line.len()));
}

fn joined(parts: &[&[u8]], noreply: bool) -> Vec<u8> {
    let mut line = parts.join(&b' ');
    if noreply {
        line.extend_from_slice(b" noreply");
    }
    line
}

fn store(verb: u8, key: &[u8], numbers: (u32, i32, u32, u64), noreply: bool) {
    let (flags, exptime, len, unique) = numbers;
    let (word, verb) = [
        ("set", StoreVerb::Set),
        ("add", StoreVerb::Add),
        ("replace", StoreVerb::Replace),
        ("append", StoreVerb::Append),
        ("prepend", StoreVerb::Prepend),
        ("cas", StoreVerb::Cas),
    ][usize::from(verb) % 6];
    let value_len = len % 0x7FFF_FFFE;
    let mut rest = format!("{flags} {exptime} {value_len}");
    let mut cas = None;
    if verb == StoreVerb::Cas {
        cas = Cas::new(unique);
        rest += &format!(" {unique}");
    }
    let line = joined(&[word.as_bytes(), key, rest.as_bytes()], noreply);
    let expected = StoreLine {
        verb,
        key,
        flags,
        exptime,
        value_len,
        cas,
        noreply,
    };
    expect(&line, Request::Store(expected));
}

fn get(keys: &[Key], cas: bool, touch: Option<i32>) {
    if keys.is_empty() {
        return;
    }
    let spelt: Vec<&[u8]> = keys.iter().map(|key| &key.0[..]).collect();
    let mut line = match (touch.is_some(), cas) {
        (false, false) => b"get".to_vec(),
        (false, true) => b"gets".to_vec(),
        (true, false) => b"gat".to_vec(),
        (true, true) => b"gats".to_vec(),
    };
    if let Some(exptime) = touch {
        line.extend_from_slice(format!(" {exptime}").as_bytes());
    }
    let keys_line = [&b" "[..], &spelt.join(&b' ')].concat();
    line.extend_from_slice(&keys_line);
    let (keys, single) = match &spelt[..] {
        [key] => (*key, true),
        _ => (&keys_line[..], false),
    };
    let expected = GetLine {
        keys,
        single,
        cas,
        touch,
    };
    expect(&line, Request::Get(expected));
    assert_eq!(tokens(keys).collect::<Vec<_>>(), spelt);
}

fn meta(verb: u8, key: &[u8], base64: bool, len: u32, spec: &MetaSpec) {
    let mut spelt = Vec::new();
    if base64 {
        // Base64 grows a key by a third. Shorten it so that the encoded key is
        // within the limit.
        encode_key(&key[..key.len().min(KEY_MAX_BYTES / 4 * 3)], &mut spelt);
    } else {
        spelt.extend_from_slice(key);
    }
    let verb = [b"mg", b"ms", b"md", b"ma"][usize::from(verb) % 4];
    let value_len = if verb == b"ms" { len % 0x7FFF_FFFE } else { 0 };
    let (flags, tokens) = meta_flags(verb, base64, spec);
    let mut line = [&verb[..], b" ", &spelt].concat();
    if verb == b"ms" {
        line.extend_from_slice(format!(" {value_len}").as_bytes());
    }
    line.extend_from_slice(&tokens);
    let request = MetaRequest {
        key: &spelt,
        base64,
        value_len,
        tokens: &tokens,
        flags,
    };
    let request = match verb {
        b"mg" => Request::MetaGet(request),
        b"ms" => Request::MetaSet(request),
        b"md" => Request::MetaDelete(request),
        _ => Request::MetaArithmetic(request),
    };
    expect(&line, request);
}

/// Returns the parsed form and the text of the flags.
fn meta_flags(verb: &[u8; 2], base64: bool, spec: &MetaSpec) -> (MetaFlags, Vec<u8>) {
    let mut line = Vec::new();
    let modes: &[u8] = match verb {
        b"ms" => b"EAPRS",
        b"ma" => b"I+D-",
        _ => b"XYZ",
    };
    let [value, quiet, no_bump, invalidate, remove_value] = spec.switches;
    let mode = spec.mode.map(|mode| modes[usize::from(mode) % modes.len()]);
    for (letter, given) in [
        (b'b', base64),
        (b'v', value),
        (b'q', quiet),
        (b'u', no_bump),
        (b'I', invalidate),
        (b'x', remove_value),
    ] {
        if given {
            line.extend_from_slice(&[b' ', letter]);
        }
    }
    if let Some(mode) = mode {
        line.extend_from_slice(&[b' ', b'M', mode]);
    }
    if let Some(opaque) = spec.opaque {
        line.extend_from_slice(b" O");
        line.extend(opaque.map(printable));
    }
    if let Some(tags) = spec.tags.filter(|_| matches!(verb, b"ms" | b"ma")) {
        let tags = tags.map(|tag| format!("t{tag}"));
        line.extend_from_slice(format!(" P{}", tags.join(",")).as_bytes());
    }
    let wide = |number: Option<i32>| number.map(i64::from);
    for (letter, number) in [
        (b'N', wide(spec.vivify)),
        (b'T', wide(spec.ttl)),
        (b'R', wide(spec.recache)),
    ] {
        if let Some(number) = number {
            line.extend_from_slice(format!(" {}{number}", char::from(letter)).as_bytes());
        }
    }
    for (letter, number) in [
        (b'F', spec.client_flags.map(u64::from)),
        (b'C', spec.cas),
        (b'E', spec.new_cas),
        (b'D', spec.delta),
        (b'J', spec.initial),
    ] {
        if let Some(number) = number {
            line.extend_from_slice(format!(" {}{number}", char::from(letter)).as_bytes());
        }
    }
    let flags = MetaFlags {
        value,
        quiet,
        no_bump,
        invalidate,
        remove_value,
        mode: mode.map_or(MetaMode::Absent, |mode| MetaMode::parse(&[mode])),
        vivify: spec.vivify,
        ttl: spec.ttl,
        recache: spec.recache,
        client_flags: spec.client_flags.unwrap_or(0),
        cas: spec.cas,
        new_cas: spec.new_cas,
        delta: spec.delta,
        initial: spec.initial.unwrap_or(0),
        opaque_too_long: false,
        tagged: spec.tags.is_some() && matches!(verb, b"ms" | b"ma"),
        positions: places_in(&line),
    };
    (flags, line)
}

/// Returns the positions in `line` of the flags whose order matters.
fn places_in(line: &[u8]) -> FlagPositions {
    let place_of = |letter: u8| {
        let place = tokens(line).position(|token| token[0] == letter);
        place.map_or(0, |place| place as u8 + 1)
    };
    FlagPositions {
        ttl: place_of(b'T'),
        vivify: place_of(b'N'),
        recache: place_of(b'R'),
        opaque: place_of(b'O'),
    }
}

fn simple(spec: &Spec) {
    let (words, noreply): (Vec<Vec<u8>>, bool) = match spec {
        Spec::Delete(key, noreply) => (vec![b"delete".to_vec(), key.0.clone()], *noreply),
        Spec::Arithmetic(key, delta, decrement, noreply) => {
            let word = if *decrement { "decr" } else { "incr" };
            let delta = delta.to_string().into_bytes();
            (vec![word.into(), key.0.clone(), delta], *noreply)
        }
        Spec::Touch(key, exptime, noreply) => {
            let exptime = exptime.to_string().into_bytes();
            (vec![b"touch".to_vec(), key.0.clone(), exptime], *noreply)
        }
        Spec::MetaDebug(key, base64) => {
            let mut words = vec![b"me".to_vec(), key.0.clone()];
            // `me` takes `b` as a flag only if another token follows it.
            words.extend(
                base64
                    .then(|| [b"b".to_vec(), b"b".to_vec()])
                    .into_iter()
                    .flatten(),
            );
            (words, false)
        }
        Spec::FlushAll(delay, noreply) => {
            let mut words = vec![b"flush_all".to_vec()];
            words.extend(delay.map(|delay| delay.to_string().into_bytes()));
            (words, *noreply)
        }
        Spec::Invalidate(is_tag, name, noreply) => {
            let kind = if *is_tag { "tag" } else { "prefix" };
            let words = vec![b"invalidate".to_vec(), kind.into(), name.0.clone()];
            (words, *noreply)
        }
        Spec::Verbosity(level, noreply) => (numbered("verbosity", *level), *noreply),
        Spec::MemoryLimit(mebibytes, noreply) => (numbered("cache_memlimit", *mebibytes), *noreply),
        Spec::Shutdown(graceful) => {
            let mut words = vec![b"shutdown".to_vec()];
            words.extend(graceful.then(|| b"graceful".to_vec()));
            (words, false)
        }
        Spec::Plain(which) => {
            let word = ["version", "quit", "mn", "stats"][usize::from(*which) % 4];
            (vec![word.into()], false)
        }
        Spec::Control(which, argument) => {
            let word = CONTROLS[usize::from(*which) % 4].0;
            (vec![word.into(), argument.0.clone()], false)
        }
        Spec::Store(..) | Spec::Get(..) | Spec::Meta(..) => return,
    };
    let parts: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
    let line = joined(&parts, noreply);
    expect(&line, simple_request(spec, &line));
}

fn numbered(word: &str, number: u32) -> Vec<Vec<u8>> {
    vec![word.into(), number.to_string().into_bytes()]
}

const CONTROLS: [(&str, ControlVerb); 4] = [
    ("lru", ControlVerb::Lru),
    ("lru_crawler", ControlVerb::LruCrawler),
    ("slabs", ControlVerb::Slabs),
    ("watch", ControlVerb::Watch),
];

/// Returns the request that `line`, the encoded form of `spec`, must parse to.
fn simple_request<'a>(spec: &'a Spec, line: &'a [u8]) -> Request<'a> {
    let blank = memchr::memchr(b' ', line).unwrap_or(line.len());
    let arguments = &line[blank..];
    match spec {
        Spec::Delete(Key(key), noreply) => Request::Delete {
            key,
            // A key `noreply` is the last word of the line, so it is read as
            // the option.
            noreply: *noreply || key == b"noreply",
        },
        Spec::Arithmetic(Key(key), delta, decrement, noreply) => Request::Arithmetic {
            verb: match decrement {
                true => ArithmeticVerb::Decrement,
                false => ArithmeticVerb::Increment,
            },
            key,
            delta: *delta,
            noreply: *noreply,
        },
        Spec::Touch(Key(key), exptime, noreply) => Request::Touch {
            key,
            exptime: *exptime,
            noreply: *noreply,
        },
        Spec::MetaDebug(Key(key), base64) => Request::MetaDebug {
            key,
            base64: *base64,
        },
        Spec::FlushAll(delay, noreply) => Request::FlushAll {
            delay: Some(delay.unwrap_or(0)),
            noreply: *noreply,
        },
        Spec::Invalidate(is_tag, Key(name), noreply) => Request::Invalidate {
            kind: match is_tag {
                true => NameKind::Tag,
                false => NameKind::Prefix,
            },
            name,
            noreply: *noreply,
        },
        Spec::Verbosity(level, noreply) => Request::Verbosity {
            level: *level,
            noreply: *noreply,
        },
        Spec::MemoryLimit(mebibytes, noreply) => Request::MemoryLimit {
            mebibytes: Some(*mebibytes),
            noreply: *noreply,
        },
        Spec::Shutdown(graceful) => Request::Shutdown {
            mode: match graceful {
                true => ShutdownMode::Graceful,
                false => ShutdownMode::Now,
            },
            noreply: false,
        },
        Spec::Plain(which) => match which % 4 {
            0 => Request::Version,
            1 => Request::Quit,
            2 => Request::MetaNoop,
            _ => Request::Stats { arguments },
        },
        Spec::Control(which, Key(argument)) => Request::Control {
            verb: CONTROLS[usize::from(*which) % 4].1,
            arguments,
            noreply: argument == b"noreply" && CONTROLS[usize::from(*which) % 4].0 != "watch",
        },
        Spec::Store(..) | Spec::Get(..) | Spec::Meta(..) => unreachable!("spelt elsewhere"),
    }
}

/// Encodes a reply and reads it as clients do.
fn reply(reply: &Reply) {
    let key = &reply.key.0;
    let mut out = Vec::new();
    encode::value_line(&mut out, key, reply.flags, reply.len as usize, reply.cas);
    let line = out.strip_suffix(b"\r\n").expect("a line ends");
    let words: Vec<&[u8]> = tokens(line).collect();
    assert_eq!(words[..2], [&b"VALUE"[..], key]);
    assert_eq!(decimal(words[2]), u64::from(reply.flags));
    assert_eq!(decimal(words[3]), u64::from(reply.len));
    assert_eq!(words.get(4).map(|word| decimal(word)), reply.cas);
    out.clear();
    let base64 = reply.base64;
    let shown = ReturnKey { key, base64 };
    meta_encode::return_flags(&mut out, b"k", shown, |_| FlagValue::Absent);
    let words: Vec<&[u8]> = tokens(&out).collect();
    let spelt = words[0].strip_prefix(b"k").expect("the flag is k");
    if reply.base64 {
        assert_eq!(words[1..], [b"b"]);
        assert_eq!(decode_key(spelt, &mut [0; KEY_MAX_BYTES]), Some(&key[..]));
    } else {
        assert_eq!((spelt, words.len()), (&key[..], 1));
    }
}

fn decimal(word: &[u8]) -> u64 {
    let text = std::str::from_utf8(word).expect("digits are text");
    text.parse().expect("it is a number")
}
