//! Values of up to 1 GiB through the program: stored, fetched, appended to and
//! overwritten while they are read, within the memory limit.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use test_support::client::{Address, Client};
use test_support::program::Program;

const MIB: usize = 1 << 20;

/// Returns a part of a value, which consists of 8-byte words, each computed
/// from its index and a seed. `first` is the index of the first word.
fn block(seed: u64, first: u64, bytes: usize) -> Vec<u8> {
    let mut block = vec![0; bytes];
    for (word, place) in block.chunks_mut(8).zip(first..) {
        let value = (place ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        word.copy_from_slice(&value.to_le_bytes()[..word.len()]);
    }
    block
}

struct Stream(TcpStream);

impl Stream {
    fn connect(address: &Address) -> Self {
        let Address::Tcp(address) = address else {
            panic!("a TCP address");
        };
        Self(TcpStream::connect(address).expect("the server listens"))
    }

    /// Sends a storage line and its data block, piece by piece. Returns the
    /// reply.
    fn store(&mut self, line: &str, seed: u64, first: usize, bytes: usize) -> String {
        self.0.write_all(line.as_bytes()).expect("it is taken");
        let mut sent = 0;
        while sent < bytes {
            let len = MIB.min(bytes - sent);
            let block = block(seed, ((first + sent) / 8) as u64, len);
            self.0.write_all(&block).expect("it is taken");
            sent += len;
        }
        self.0.write_all(b"\r\n").expect("it is taken");
        self.line()
    }

    /// Fetches `key` and checks that its whole value has the same seed, within
    /// `seeds`. Returns the seed.
    fn fetch(&mut self, key: &str, seeds: std::ops::Range<u64>, bytes: usize) -> u64 {
        let line = format!("get {key}\r\n");
        self.0.write_all(line.as_bytes()).expect("it is taken");
        assert_eq!(self.line(), format!("VALUE {key} 0 {bytes}"));
        let mut buffer = vec![0; MIB];
        let mut found = None;
        let mut got = 0;
        while got < bytes {
            let buffer = &mut buffer[..MIB.min(bytes - got)];
            self.0.read_exact(buffer).expect("the value goes on");
            let place = (got / 8) as u64;
            let seed = *found.get_or_insert_with(|| {
                let is_it = |seed: &u64| *buffer == *block(*seed, place, buffer.len());
                seeds
                    .clone()
                    .find(is_it)
                    .expect("some version's first block")
            });
            assert!(
                *buffer == *block(seed, place, buffer.len()),
                "torn at {got}"
            );
            got += buffer.len();
        }
        assert_eq!(self.line(), "");
        assert_eq!(self.line(), "END");
        found.expect("a value is not empty")
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("a line goes on");
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).expect("answers are text")
    }
}

#[test]
fn a_gibibyte_is_stored_appended_to_and_fetched_within_the_limit() {
    const LIMIT_MIB: u64 = 1300;
    let limit = LIMIT_MIB.to_string();
    let (program, address) = Program::start(&["-m", &limit, "-I", "1g"]);
    let mut stream = Stream::connect(&address);
    let (first, more) = (1023 * MIB, MIB - 4096);
    let stored = stream.store(&format!("set big 0 0 {first}\r\n"), 1, 0, first);
    assert_eq!(stored, "STORED");
    let appended = stream.store(&format!("append big 0 0 {more}\r\n"), 1, first, more);
    assert_eq!(appended, "STORED");
    assert_eq!(stream.fetch("big", 1..2, first + more), 1);
    // The value exceeds the memory. It is refused, and the old value is
    // removed.
    let too_large = format!("set big 0 0 {}\r\n", 1024 * MIB);
    let refused = stream.store(&too_large, 2, 0, 1024 * MIB);
    assert_eq!(refused, "SERVER_ERROR object too large for cache");
    Client::connect(&address).ask("get big\r\n", "END\r\n");
    let resident = program.resident_bytes() >> 20;
    assert!(resident <= LIMIT_MIB * 11 / 10 + 24, "{resident} MiB");
}

/// Sets the flag when dropped, so that threads end after a failed assertion
/// too.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn readers_see_one_whole_version_while_a_large_value_is_overwritten() {
    const BYTES: usize = 8 * MIB;
    const VERSIONS: u64 = 30;
    let (_program, address) = Program::start(&["-m", "256", "-I", "64m"]);
    let store = |stream: &mut Stream, version: u64| {
        let stored = stream.store(&format!("set k 0 0 {BYTES}\r\n"), version, 0, BYTES);
        assert_eq!(stored, "STORED");
    };
    let mut writer = Stream::connect(&address);
    store(&mut writer, 0);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reader = Stream::connect(&address);
                let mut last = 0;
                while !over.load(Ordering::Relaxed) {
                    let version = reader.fetch("k", last..VERSIONS, BYTES);
                    assert!(version >= last, "an old version came back");
                    last = version;
                }
            });
        }
        let _ends_readers = SetWhenDropped(&over);
        for version in 1..VERSIONS {
            store(&mut writer, version);
        }
    });
    assert_eq!(writer.fetch("k", 0..VERSIONS, BYTES), VERSIONS - 1);
}
