//! Fuzzes the incremental text parser: the requests must not depend on how the
//! stream is cut. The first input byte chooses the cuts, the rest is the
//! stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rustcached_fuzz::reader::{Reader, Seen};
use rustcached_fuzz::{cut, expand, is_cut_proof};

fuzz_target!(|input: &[u8]| {
    let Some((knife, rest)) = input.split_first() else {
        return;
    };
    let stream = expand(rest);
    let whole = read([&stream[..]]);
    let pieces = read(cut(*knife, &stream));
    if is_cut_proof(&stream) {
        assert_eq!(whole, pieces);
    }
});

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut reader = Reader::default();
    for piece in pieces {
        reader.feed(piece);
    }
    reader.seen
}
