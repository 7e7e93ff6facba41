//! Fuzzes the binary parser and a connection that receives binary packets.
//!
//! Checks that nothing panics, that the parser uses no byte beyond the input,
//! and that memory stays bounded. The replies must not depend on how the stream
//! is cut into reads. The first input byte chooses the cuts. Its highest bit
//! selects whether the rest is sent as it is or expanded to packets (bit
//! clear).

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use rustcached::config::Config;
use rustcached::limits::{KEY_MAX_BYTES, READ_BUFFER_BYTES};
use rustcached::protocol::binary::header::{HEADER_BYTES, REQUEST_MAGIC};
use rustcached::protocol::binary::packet::Verb;
use rustcached::protocol::binary::parse::{Parsed, parse};
use rustcached::server::Loopback;
use rustcached_fuzz::cut;

const MIB: usize = 1 << 20;
const RAW: u8 = 0x80;
const STAT: u8 = 0x10;
const LONG_KEY: [u8; KEY_MAX_BYTES + 1] = [b'k'; KEY_MAX_BYTES + 1];
/// Bytes of value per unit in a packet description.
const VALUE_UNIT: usize = 97;
const VALUES_MAX_BYTES: usize = 256 * 1024;

fuzz_target!(|input: &[u8]| -> Corpus { examine(input) });

fn examine(input: &[u8]) -> Corpus {
    let Some((knife, rest)) = input.split_first() else {
        return Corpus::Reject;
    };
    let stream = match knife & RAW {
        0 => packets(rest),
        _ => rest.to_vec(),
    };
    if stream.first() != Some(&REQUEST_MAGIC) {
        return Corpus::Reject;
    }
    look(&stream);
    let pieces = cut(*knife & !RAW, &stream);
    let whole = answers(&feed(&[&stream]));
    let cut = answers(&feed(&pieces));
    assert_eq!(whole, cut);
    Corpus::Keep
}

/// Parses the stream packet by packet and checks each packet's lengths.
fn look(stream: &[u8]) {
    let mut rest = stream;
    while let Parsed::Packet(packet, front) = parse(rest) {
        assert!(front >= HEADER_BYTES && front <= rest.len());
        assert!(packet.key.len() <= KEY_MAX_BYTES);
        assert!(!packet.has_item_key() || !packet.key.is_empty());
        if let Verb::Refused { closes: true, .. } = packet.verb {
            return;
        }
        let body = front + packet.rest as usize;
        let Some(next) = rest.get(body..) else {
            return;
        };
        rest = next;
    }
}

/// Expands an input to packets. A packet takes two input bytes (opcode and
/// shape), plus one each for an optional value, wrong extras length or wrong
/// body length.
fn packets(input: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut bytes = input.iter().copied();
    let mut values = 0;
    while let (Some(opcode), Some(shape)) = (bytes.next(), bytes.next()) {
        let keys: [&[u8]; 8] = [b"a", b"b", b"n", b"a b", b"items", b"reset", b"", &LONG_KEY];
        let key = keys[usize::from(shape & 7)];
        let right = match opcode {
            0x01..=0x03 | 0x11..=0x13 => 8,
            0x05 | 0x06 | 0x15 | 0x16 => 20,
            0x1b..=0x1e | 0x23 | 0x24 => 4,
            _ => 0,
        };
        let extras = right + usize::from(shape & 8 != 0 && bytes.next() == Some(0));
        let value = match shape & 16 {
            0 => 0,
            _ => VALUE_UNIT * usize::from(bytes.next().unwrap_or(1)),
        };
        values += value;
        if values > VALUES_MAX_BYTES {
            break;
        }
        let mut body = (extras + key.len() + value) as u32;
        if shape & 32 != 0 {
            let lie = u32::from(bytes.next().unwrap_or(0));
            body = body.wrapping_add(lie.wrapping_mul(0x0101_0101));
        }
        let fill = if shape & 64 == 0 { b'0' } else { 0 };
        stream.extend_from_slice(&[0x80, opcode]);
        stream.extend_from_slice(&(key.len() as u16).to_be_bytes());
        stream.extend_from_slice(&[extras as u8, 0, 0, 0]);
        stream.extend_from_slice(&body.to_be_bytes());
        stream.extend_from_slice(&(stream.len() as u32).to_be_bytes());
        stream.extend_from_slice(&u64::from(shape >> 7).to_be_bytes());
        stream.resize(stream.len() + extras, 0);
        stream.extend_from_slice(key);
        stream.resize(stream.len() + value, fill);
    }
    stream
}

fn feed(pieces: &[&[u8]]) -> Vec<u8> {
    let config = Config {
        max_memory: 64 * MIB,
        ..Config::default()
    };
    let mut loopback = Loopback::new(config).expect("there are sockets");
    let mut replies = Vec::new();
    for piece in pieces {
        replies.extend_from_slice(&loopback.feed(piece));
        let kept = loopback.kept_bytes();
        assert!(kept <= 2 * READ_BUFFER_BYTES, "{kept} bytes kept");
    }
    replies
}

/// Splits the replies into packets. Drops replies to `stat`: some statistics
/// count reads, which depend on the cuts.
fn answers(mut replies: &[u8]) -> Vec<String> {
    let mut answers = Vec::new();
    while let Some(header) = replies.first_chunk::<HEADER_BYTES>() {
        assert_eq!(header[0], 0x81);
        let body = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let (answer, rest) = replies.split_at(HEADER_BYTES + body as usize);
        if header[1] != STAT {
            answers.push(answer.escape_ascii().to_string());
        }
        replies = rest;
    }
    assert!(replies.is_empty(), "half an answer");
    answers
}
