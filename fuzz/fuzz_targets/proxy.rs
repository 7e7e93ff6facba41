//! Fuzzes the header of the PROXY protocol on a connection.
//!
//! The header must be read in full or be refused, however it is cut into reads. The
//! first input byte chooses the cuts, the rest is the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rustcached::config::Config;
use rustcached::limits::PROXY_HEADER_MAX_BYTES;
use rustcached::protocol::proxy::{Parsed, parse};
use rustcached::server::Loopback;
use rustcached_fuzz::cut;

fuzz_target!(|input: &[u8]| {
    let Some((knife, stream)) = input.split_first() else {
        return;
    };
    // The longest header without its end, and a bit more.
    let stream = &stream[..stream.len().min(PROXY_HEADER_MAX_BYTES + 16)];
    let parsed = parse(stream);
    let mut loopback = Loopback::proxied(Config::default()).expect("there are sockets");
    let stream = match parsed {
        // What follows is the subject of other targets.
        Parsed::Header { len, .. } => &stream[..len],
        _ => stream,
    };
    for piece in cut(*knife, stream) {
        assert_eq!(loopback.feed(piece), b"");
    }
    match parsed {
        Parsed::Header { .. } => assert_eq!(loopback.feed(b"mn\r\n"), b"MN\r\n"),
        Parsed::Incomplete => assert!(!loopback.is_closed()),
        Parsed::Invalid(_) => assert!(loopback.is_closed()),
    }
});
