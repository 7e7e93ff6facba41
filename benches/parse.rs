//! Benchmarks the text parser, per line: `cargo bench --bench parse`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use rustcached::protocol::text::parse::{Parsed, parse};

/// Lines parsed per iteration. Amortizes the cost of the loop.
const LINES: u64 = 64;

fn lines(criterion: &mut Criterion) {
    let keys: Vec<String> = (0..50)
        .map(|number| format!("user:session:{number:07}"))
        .collect();
    let multiget = format!("get {}\r\n", keys.join(" "));
    let mut group = criterion.benchmark_group("parse");
    group
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .throughput(Throughput::Elements(LINES));
    for (name, line) in [
        ("get", "get user:session:0001234\r\n"),
        ("gets", "gets user:session:0001234\r\n"),
        ("set", "set user:session:0001234 0 3600 32\r\n"),
        (
            "set noreply",
            "set user:session:0001234 17 3600 32 noreply\r\n",
        ),
        ("incr", "incr user:counter:0001234 1\r\n"),
        ("mg", "mg user:session:0001234 v\r\n"),
        (
            "mg many flags",
            "mg user:session:0001234 k t c f v s O1234 q\r\n",
        ),
        ("mg base64", "mg dXNlcjpzZXNzaW9uOjAwMDEyMzQ= b v\r\n"),
        ("ms", "ms user:session:0001234 32 T3600 F17\r\n"),
        ("get of 50 keys", &multiget),
    ] {
        let input = line.repeat(LINES as usize);
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(count(black_box(input.as_bytes())), LINES));
        });
    }
    group.finish();
}

/// Parses `input` and returns the number of requests, without data blocks.
fn count(mut input: &[u8]) -> u64 {
    let mut requests = 0;
    while let Parsed::Request(request, used) = parse(input) {
        black_box(request);
        requests += 1;
        input = &input[used..];
    }
    requests
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    lines(&mut criterion);
    criterion.final_summary();
}
