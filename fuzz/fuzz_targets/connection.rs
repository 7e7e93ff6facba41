//! Whole command streams into a connection: no panic, bounded memory, and the
//! same answers whichever way the input is cut. The first byte is the knife,
//! its highest bit asks for a store that is full; the rest is the stream.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use memchr::memmem;
use rustcached::config::Config;
use rustcached::limits::READ_BUFFER_BYTES;
use rustcached::protocol::binary::header::REQUEST_MAGIC;
use rustcached::server::Loopback;
use rustcached_fuzz::{cut, expand, is_cut_proof};

const MIB: usize = 1 << 20;
/// Beyond the limit: what growing by a page or a table may take for a moment.
const SLACK_BYTES: usize = 2 * MIB;
const FULL: u8 = 0x80;
const FILL_VALUE_BYTES: usize = 64 * 1024;
/// Runs that must all differ for a difference to be one: answers tell
/// seconds, and one may pass between two runs.
const TRIES: usize = 3;

fuzz_target!(|input: &[u8]| -> Corpus { examine(input) });

fn examine(input: &[u8]) -> Corpus {
    // It would log every command to the fuzzer's own output.
    if memmem::find(input, b"verbosity").is_some() {
        return Corpus::Reject;
    }
    let Some((knife, rest)) = input.split_first() else {
        return Corpus::Reject;
    };
    let stream = expand(rest);
    if stream.first() == Some(&REQUEST_MAGIC) {
        // Packets have a target of their own.
        return Corpus::Reject;
    }
    let pieces = cut(*knife & !FULL, &stream);
    if knife & FULL != 0 {
        // What is evicted depends on the hash, which is random.
        let mut full = full();
        feed(&mut full, &pieces);
        return Corpus::Keep;
    }
    if !is_cut_proof(&stream) {
        feed(&mut connect(64 * MIB), &pieces);
        return Corpus::Keep;
    }
    for left in (0..TRIES).rev() {
        let whole = feed(&mut connect(64 * MIB), &[&stream[..]]);
        let cut = feed(&mut connect(64 * MIB), &pieces);
        let (whole, cut) = (comparable(&whole), comparable(&cut));
        if whole == cut {
            break;
        }
        assert!(left > 0, "whole: {whole:?}\ncut: {cut:?}");
    }
    Corpus::Keep
}

fn connect(max_memory: usize) -> Loopback {
    let config = Config {
        max_memory,
        shutdown_command: true,
        ..Config::default()
    };
    Loopback::new(config).expect("there are sockets")
}

/// A connection to a store that holds as much as it can.
fn full() -> Loopback {
    let mut loopback = connect(2 * MIB);
    let value = vec![b'x'; FILL_VALUE_BYTES];
    for number in 0..2 * MIB / FILL_VALUE_BYTES {
        let line = format!("set fill{number} 0 0 {FILL_VALUE_BYTES} noreply\r\n");
        let command = [line.as_bytes(), &value, b"\r\n"].concat();
        loopback.feed(&command);
    }
    loopback
}

/// Feeds the pieces and looks at the memory after each.
fn feed(loopback: &mut Loopback, pieces: &[&[u8]]) -> Vec<u8> {
    let mut limit = loopback.store().memory_limit();
    let mut replies = Vec::new();
    for piece in pieces {
        replies.extend_from_slice(&loopback.feed(piece));
        limit = limit.max(loopback.store().memory_limit());
        let store = loopback.store();
        let held = store.page_bytes() + store.index_bytes();
        assert!(held <= limit + SLACK_BYTES, "{held} bytes of {limit}");
        let kept = loopback.kept_bytes();
        assert!(kept <= 2 * READ_BUFFER_BYTES, "{kept} bytes kept");
    }
    replies
}

/// Answers without statistics, which count the pieces.
fn comparable(replies: &[u8]) -> Vec<String> {
    replies
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.starts_with(b"STAT "))
        .map(|line| line.escape_ascii().to_string())
        .collect()
}
