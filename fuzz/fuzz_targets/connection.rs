//! Fuzzes a connection with whole text command streams.
//!
//! Checks that nothing panics and that memory stays bounded. The replies must
//! not depend on how the stream is cut into reads. The first input byte chooses
//! the cuts, and its highest bit selects a full store. The rest of the input is
//! the stream.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use memchr::memmem;
use rustcached::config::Config;
use rustcached::limits::READ_BUFFER_BYTES;
use rustcached::protocol::binary::header::REQUEST_MAGIC;
use rustcached::server::Loopback;
use rustcached_fuzz::{cut, expand, is_cut_proof};

const MIB: usize = 1 << 20;
/// Permitted excess over the memory limit: growing by a page or a table may
/// exceed the limit for a moment.
const SLACK_BYTES: usize = 2 * MIB;
const FULL: u8 = 0x80;
const FILL_VALUE_BYTES: usize = 64 * 1024;
/// Attempts that must all show a difference before it is reported. Replies
/// contain seconds, and the second may change between two runs.
const TRIES: usize = 3;

fuzz_target!(|input: &[u8]| -> Corpus { examine(input) });

fn examine(input: &[u8]) -> Corpus {
    // `verbosity` would log every command to the fuzzer's own output.
    if memmem::find(input, b"verbosity").is_some() {
        return Corpus::Reject;
    }
    let Some((knife, rest)) = input.split_first() else {
        return Corpus::Reject;
    };
    let stream = expand(rest);
    if stream.first() == Some(&REQUEST_MAGIC) {
        // The target `binary` covers packets.
        return Corpus::Reject;
    }
    let pieces = cut(*knife & !FULL, &stream);
    if knife & FULL != 0 {
        // The victims depend on the hash, whose seed is random. Compare no
        // replies.
        let mut full = full();
        feed(&mut full, &pieces);
        return Corpus::Keep;
    }
    // The reader does not know of the data block of `config set`.
    if memmem::find(input, b"config").is_some() || !is_cut_proof(&stream) {
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
        cluster_file: Some(cluster_file()),
        ..Config::default()
    };
    Loopback::new(config).expect("there are sockets")
}

/// Returns the path of a list of servers.
fn cluster_file() -> PathBuf {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
        let name = format!("rustcached-fuzz-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "1\na|10.0.0.1|11211\n").expect("writable");
        path
    });
    PATH.clone()
}

/// Returns a connection to a store filled to its memory limit.
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

/// Feeds the pieces to the connection, checks the memory after each, and
/// returns all replies.
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

/// Splits the replies into lines. Drops statistics: some of them count reads,
/// which depend on the cuts.
fn comparable(replies: &[u8]) -> Vec<String> {
    replies
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.starts_with(b"STAT "))
        .map(|line| line.escape_ascii().to_string())
        .collect()
}
