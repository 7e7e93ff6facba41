//! Statistics of a load in the binary protocol: every counter changes by
//! exactly the expected amount, as in memcached.

use std::collections::BTreeMap;

use test_support::binary::{BinaryClient, Frame, opcode};
use test_support::client::Address;
use test_support::memcached::Memcached;
use test_support::server::Server;

/// Expiry field of arithmetic that forbids creating the number.
const NEVER_CREATE: u32 = 0xffff_ffff;
/// Disables memcached's threads that would touch items meanwhile.
const QUIET: &[&str] = &["-o", "no_lru_maintainer,no_lru_crawler"];
/// Prefixes of counters that change only by commands of clients.
const COUNTED: [&str; 10] = [
    "cmd_",
    "get_",
    "delete_",
    "incr_",
    "decr_",
    "cas_",
    "touch_",
    "curr_items",
    "total_items",
    "store_too_large",
];

fn key(code: u8, key: &str) -> Frame {
    Frame::new(code).key(key)
}

fn store(code: u8, key: &str) -> Frame {
    Frame::store(code, key, "1")
}

fn touch(code: u8, key: &str) -> Frame {
    Frame::new(code).key(key).extras([0; 4])
}

fn count(code: u8, key: &str, exptime: u32) -> Frame {
    Frame::count(code, key, 1, 5, exptime)
}

/// Steps of a load, each with the counters that it changes.
fn load() -> Vec<(Vec<Frame>, &'static str)> {
    use opcode::{
        ADD, APPEND, DECREMENT, DELETE, DELETEQ, FLUSH, GAT, GATQ, GET, GETK, GETQ, INCREMENT,
        PREPEND, REPLACE, SET, TOUCH,
    };
    let joins = vec![
        Frame::new(APPEND).key("a").value("1"),
        Frame::new(PREPEND).key("a").value("1"),
        Frame::new(APPEND).key("none").value("1"),
    ];
    vec![
        (
            vec![store(SET, "a")],
            "cmd_set 1 curr_items 1 total_items 1",
        ),
        (
            vec![
                key(GET, "a"),
                key(GETK, "a"),
                key(GETQ, "none"),
                key(GET, "none"),
            ],
            "cmd_get 4 get_hits 2 get_misses 2",
        ),
        (
            vec![touch(TOUCH, "a"), touch(TOUCH, "none")],
            "cmd_touch 2 touch_hits 1 touch_misses 1",
        ),
        (
            vec![touch(GAT, "a"), touch(GATQ, "none")],
            "cmd_touch 2 touch_hits 1 touch_misses 1",
        ),
        (
            vec![
                count(INCREMENT, "a", 0),
                count(INCREMENT, "none", NEVER_CREATE),
            ],
            "incr_hits 1 incr_misses 1",
        ),
        (
            vec![
                count(DECREMENT, "a", 0),
                count(DECREMENT, "none", NEVER_CREATE),
            ],
            "decr_hits 1 decr_misses 1",
        ),
        (vec![count(INCREMENT, "n", 0)], "curr_items 1 total_items 1"),
        (vec![store(ADD, "a"), store(REPLACE, "none")], "cmd_set 2"),
        (
            vec![store(ADD, "b"), store(REPLACE, "b")],
            "cmd_set 2 curr_items 1 total_items 2",
        ),
        (joins, "cmd_set 3 total_items 2"),
        (vec![store(SET, "a").cas(1 << 40)], "cas_badval 1 cmd_set 1"),
        (vec![store(SET, "none").cas(9)], "cas_misses 1 cmd_set 1"),
        (
            vec![key(DELETE, "b"), key(DELETE, "b"), key(DELETEQ, "n")],
            "curr_items -2 delete_hits 2 delete_misses 1",
        ),
        (
            vec![Frame::store(SET, "a", vec![b'v'; 2 << 20])],
            "curr_items -1",
        ),
        (
            vec![store(SET, "f"), Frame::new(FLUSH)],
            "cmd_flush 1 cmd_set 1 curr_items 1 total_items 1",
        ),
        (
            vec![key(GET, "f")],
            "cmd_get 1 curr_items -1 get_flushed 1 get_misses 1",
        ),
    ]
}

fn numbers(client: &mut BinaryClient) -> BTreeMap<String, i64> {
    let all = client.stats("").into_iter();
    let counted = all.filter(|(name, _)| COUNTED.iter().any(|begin| name.starts_with(begin)));
    let number = |(name, value): (String, String)| (name, value.parse().expect("a number"));
    counted.map(number).collect()
}

fn codes(frames: &[Frame]) -> String {
    let codes = frames
        .iter()
        .map(|frame| format!("{:#04x}", frame.bytes()[1]));
    codes.collect::<Vec<_>>().join(" ")
}

fn check(whose: &str, address: &Address) {
    let mut client = BinaryClient::connect(address);
    let mut wrong = Vec::new();
    for (frames, want) in load() {
        let before = numbers(&mut client);
        for frame in &frames {
            client.send(frame);
        }
        // All replies of the step come before the reply to this.
        client.send(&Frame::new(opcode::NOOP));
        while client.reply().expect("it answers").opcode != opcode::NOOP {}
        let after = numbers(&mut client);
        let moved = after
            .iter()
            .filter(|(name, value)| before[*name] != **value);
        let moved: Vec<String> = moved
            .map(|(name, value)| format!("{name} {}", value - before[name]))
            .collect();
        let moved = moved.join(" ");
        if moved != want {
            wrong.push(format!("{}: {moved}, not {want}", codes(&frames)));
        }
    }
    assert!(wrong.is_empty(), "{whose}: {wrong:#?}");
}

#[test]
fn figures_move_by_exactly_what_packets_do() {
    let server = Server::start();
    // Otherwise the crawler may find expired items before the load does.
    server.client().ask("lru_crawler disable\r\n", "OK\r\n");
    check("ours", &server.address());
}

#[test]
fn they_move_as_memcached_s_do() {
    if let Some(memcached) = Memcached::start_or_skip(QUIET) {
        check("memcached", &memcached.address());
    }
}
