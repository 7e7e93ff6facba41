//! Binary protocol, command by command: statuses, bodies, CAS values and quiet
//! commands as in memcached 1.6.45. The stream stays in step for any input.

use rustcached::config::{Config, ProtocolMode};
use test_support::binary::{BinaryClient, Frame, Reply, opcode, status};
use test_support::client::Client;
use test_support::server::Server;

const NOT_FOUND: &str = "Not found";
const EXISTS: &str = "Data exists for key.";
const INVALID: &str = "Invalid arguments";
const UNKNOWN: &str = "Unknown command";
/// Expiry field of arithmetic that forbids creating the number.
const NEVER_CREATE: u32 = 0xffff_ffff;

/// Runs a test over each transport.
fn with_client(test: impl Fn(&mut BinaryClient)) {
    for server in [Server::start(), Server::start_unix(), Server::start_tls()] {
        test(&mut BinaryClient::connect(&server.address()));
    }
}

fn get(key: &str) -> Frame {
    Frame::new(opcode::GET).key(key)
}

fn set(key: &str, value: &str) -> Frame {
    Frame::store(opcode::SET, key, value)
}

fn touching(opcode: u8, key: &str, exptime: u32) -> Frame {
    Frame::new(opcode).key(key).extras(exptime.to_be_bytes())
}

#[test]
fn an_answer_is_the_same_bytes_as_memcached_s() {
    with_client(|client| {
        client.send(&set("key", "value").opaque(0x1122_3344));
        client
            .0
            .expect(b"\x81\x01\0\0\0\0\0\0\0\0\0\0\x11\x22\x33\x44\0\0\0\0\0\0\0\x02");
        client.send(&Frame::new(opcode::GETK).key("key").opaque(5));
        client.0.expect(
            b"\x81\x0c\0\x03\x04\0\0\0\0\0\0\x0c\0\0\0\x05\0\0\0\0\0\0\0\x02\0\0\0\0keyvalue",
        );
        client.send(&get("nothing"));
        client
            .0
            .expect(b"\x81\0\0\0\0\0\0\x01\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\0Not found");
    });
}

#[test]
fn set_and_get_keep_flags_and_any_bytes() {
    with_client(|client| {
        let value: Vec<u8> = (0..=255).chain(*b"\r\n").collect();
        let frame = Frame::store(opcode::SET, "k", &value);
        let cas = client.done(&frame.extras(*b"\xde\xad\xbe\xef\0\0\0\0"));
        assert_ne!(cas, 0);
        let reply = client.ask(&get("k").opaque(7));
        assert_eq!(reply.extras, b"\xde\xad\xbe\xef");
        assert_eq!((reply.value, reply.cas), (value, cas));
        // Keys may contain any bytes, including spaces and CRLF.
        for key in ["with blank", "line\r\nend", "nul\0", &"k".repeat(250)] {
            client.done(&set(key, key));
            assert_eq!(client.get(key), Some((0, key.as_bytes().to_vec())));
        }
        client.done(&set("empty", ""));
        assert_eq!(client.get("empty"), Some((0, Vec::new())));
    });
}

#[test]
fn gets_with_keys_and_quiet_gets() {
    with_client(|client| {
        let cas = client.done(&set("a", "A"));
        let hit = Reply {
            cas,
            extras: vec![0; 4],
            value: b"A".to_vec(),
            ..Reply::default()
        };
        for (code, key) in [
            (opcode::GET, ""),
            (opcode::GETQ, ""),
            (opcode::GETK, "a"),
            (opcode::GETKQ, "a"),
        ] {
            let reply = client.ask(&Frame::new(code).key("a").opaque(9));
            let want = Reply {
                opcode: code,
                opaque: 9,
                key: key.into(),
                ..hit.clone()
            };
            assert_eq!(reply, want);
        }
        client.refused(&get("x"), status::NOT_FOUND, NOT_FOUND);
        client.silent(&Frame::new(opcode::GETQ).key("x"));
        client.silent(&Frame::new(opcode::GETKQ).key("x"));
        let miss = client.ask(&Frame::new(opcode::GETK).key("x"));
        assert_eq!((miss.status, &miss.key[..]), (status::NOT_FOUND, &b"x"[..]));
        assert_eq!(miss.text(), "");
    });
}

#[test]
fn add_and_replace() {
    with_client(|client| {
        let add = |value| Frame::store(opcode::ADD, "k", value);
        let replace = |value| Frame::store(opcode::REPLACE, "k", value);
        client.refused(&replace("0"), status::NOT_FOUND, NOT_FOUND);
        assert_ne!(client.done(&add("1")), 0);
        client.refused(&add("2"), status::EXISTS, EXISTS);
        assert_ne!(client.done(&replace("3")), 0);
        assert_eq!(client.get("k"), Some((0, b"3".to_vec())));
        // With a CAS value, both commands compare and swap.
        client.refused(&add("4").cas(999), status::EXISTS, EXISTS);
        let cas = client.ask(&get("k")).cas;
        client.done(&add("5").cas(cas));
        assert_eq!(client.get("k"), Some((0, b"5".to_vec())));
        client.silent(&Frame::store(opcode::ADDQ, "new", "1"));
        client.silent(&Frame::store(opcode::REPLACEQ, "new", "2"));
        assert_eq!(client.get("new"), Some((0, b"2".to_vec())));
        client.refused(
            &Frame::store(opcode::ADDQ, "new", "3"),
            status::EXISTS,
            EXISTS,
        );
        let none = Frame::store(opcode::REPLACEQ, "none", "3");
        client.refused(&none, status::NOT_FOUND, NOT_FOUND);
    });
}

#[test]
fn compare_and_swap() {
    with_client(|client| {
        client.refused(&set("k", "x").cas(1), status::NOT_FOUND, NOT_FOUND);
        let first = client.done(&set("k", "1"));
        let second = client.done(&set("k", "2").cas(first));
        assert!(second > first);
        client.refused(&set("k", "3").cas(first), status::EXISTS, EXISTS);
        client.refused(
            &Frame::store(opcode::SETQ, "k", "3").cas(first),
            status::EXISTS,
            EXISTS,
        );
        client.silent(&Frame::store(opcode::SETQ, "k", "4").cas(second));
        assert_eq!(client.get("k"), Some((0, b"4".to_vec())));
        let join = |code, value| Frame::new(code).key("k").value(value);
        client.refused(
            &join(opcode::APPEND, "x").cas(first),
            status::EXISTS,
            EXISTS,
        );
        let cas = client.ask(&get("k")).cas;
        let joined = client.done(&join(opcode::PREPEND, "<").cas(cas));
        assert!(joined > cas);
        let delete = Frame::new(opcode::DELETE).key("k");
        client.refused(&delete.clone().cas(cas), status::EXISTS, EXISTS);
        assert_eq!(client.done(&delete.cas(joined)), 0);
        assert_eq!(client.stat("cas_misses"), "1");
        assert_eq!(client.stat("cas_badval"), "2");
        assert_eq!(client.stat("cas_hits"), "2");
    });
}

#[test]
fn append_and_prepend() {
    with_client(|client| {
        let join = |code, key: &str, value: &str| Frame::new(code).key(key).value(value);
        for code in [
            opcode::APPEND,
            opcode::PREPEND,
            opcode::APPENDQ,
            opcode::PREPENDQ,
        ] {
            client.refused(&join(code, "k", "x"), status::NOT_STORED, "Not stored.");
        }
        client.done(&set("k", "mid").extras(*b"\0\0\0\x05\0\0\0\0"));
        let after = client.done(&join(opcode::APPEND, "k", "-end"));
        assert!(client.done(&join(opcode::PREPEND, "k", "begin-")) > after);
        client.silent(&join(opcode::APPENDQ, "k", ">"));
        client.silent(&join(opcode::PREPENDQ, "k", "<"));
        client.done(&join(opcode::APPEND, "k", ""));
        assert_eq!(client.get("k"), Some((5, b"<begin-mid-end>".to_vec())));
    });
}

#[test]
fn delete() {
    with_client(|client| {
        let delete = Frame::new(opcode::DELETE).key("k");
        let quiet = Frame::new(opcode::DELETEQ).key("k");
        client.refused(&delete, status::NOT_FOUND, NOT_FOUND);
        client.refused(&quiet, status::NOT_FOUND, NOT_FOUND);
        client.done(&set("k", "1"));
        assert_eq!(client.done(&delete), 0);
        client.done(&set("k", "1"));
        client.silent(&quiet);
        assert_eq!(client.get("k"), None);
    });
}

#[test]
fn numbers_are_created_counted_and_returned_as_eight_bytes() {
    with_client(|client| {
        let number = |reply: Reply| {
            assert_eq!(reply.status, status::OK);
            u64::from_be_bytes(reply.value[..].try_into().expect("a number"))
        };
        let up =
            |delta, initial, exptime| Frame::count(opcode::INCREMENT, "n", delta, initial, exptime);
        let down = |delta| Frame::count(opcode::DECREMENT, "n", delta, 7, NEVER_CREATE);
        client.refused(&up(1, 5, NEVER_CREATE), status::NOT_FOUND, NOT_FOUND);
        client.refused(&down(1), status::NOT_FOUND, NOT_FOUND);
        let created = client.ask(&up(1, 5, 0));
        assert_ne!(created.cas, 0);
        assert_eq!(number(created), 5);
        assert_eq!(client.get("n"), Some((0, b"5".to_vec())));
        assert_eq!(number(client.ask(&up(1, 5, NEVER_CREATE))), 6);
        assert_eq!(number(client.ask(&down(2))), 4);
        assert_eq!(number(client.ask(&down(9))), 0);
        assert_eq!(number(client.ask(&up(u64::MAX, 0, 0))), u64::MAX);
        assert_eq!(number(client.ask(&up(2, 0, 0))), 1);
        let reply = client.ask(&up(1, 0, 0));
        client.refused(&up(1, 0, 0).cas(reply.cas - 1), status::EXISTS, EXISTS);
        assert_eq!(number(client.ask(&up(1, 0, 0).cas(reply.cas))), 3);
        client.silent(&Frame::count(opcode::INCREMENTQ, "n", 4, 0, 0));
        client.silent(&Frame::count(opcode::DECREMENTQ, "n", 2, 0, 0));
        client.silent(&Frame::count(opcode::INCREMENTQ, "m", 4, 50, 0));
        assert_eq!(client.get("m"), Some((0, b"50".to_vec())));
        assert_eq!(number(client.ask(&up(0, 0, 0))), 5);
        client.done(&set("n", "text"));
        let words = "Non-numeric server-side value for incr or decr";
        client.refused(&up(1, 0, 0), status::NON_NUMERIC, words);
        let quiet = Frame::count(opcode::INCREMENTQ, "gone", 1, 0, NEVER_CREATE);
        client.refused(&quiet, status::NOT_FOUND, NOT_FOUND);
        assert_eq!(client.stat("incr_misses"), "2");
        assert_eq!(client.stat("decr_misses"), "1");
    });
}

#[test]
fn touch_and_get_and_touch() {
    let server = Server::start();
    let mut client = BinaryClient::connect(&server.address());
    let flagged = set("k", "v").extras(*b"\0\0\0\x07\0\0\0\x64");
    let cas = client.done(&flagged);
    let reply = client.ask(&touching(opcode::TOUCH, "k", 1000));
    assert_eq!((reply.status, reply.cas), (status::OK, cas));
    assert_eq!((&reply.extras[..], reply.text()), (&b"\0\0\0\x07"[..], ""));
    server.advance(500);
    for (code, key) in [
        (opcode::GAT, ""),
        (opcode::GATQ, ""),
        (opcode::GATK, "k"),
        (opcode::GATKQ, "k"),
    ] {
        let reply = client.ask(&touching(code, "k", 1000));
        assert_eq!((&reply.extras[..], reply.text()), (&b"\0\0\0\x07"[..], "v"));
        assert_eq!((&reply.key[..], reply.cas), (key.as_bytes(), cas));
        server.advance(900);
    }
    server.advance(101);
    client.refused(
        &touching(opcode::TOUCH, "k", 0),
        status::NOT_FOUND,
        NOT_FOUND,
    );
    client.refused(&touching(opcode::GAT, "k", 0), status::NOT_FOUND, NOT_FOUND);
    client.silent(&touching(opcode::GATQ, "k", 0));
    client.silent(&touching(opcode::GATKQ, "k", 0));
    let miss = client.ask(&touching(opcode::GATK, "k", 0));
    assert_eq!((miss.status, &miss.key[..]), (status::NOT_FOUND, &b"k"[..]));
    assert_eq!(client.stat("cmd_touch"), "10");
    assert_eq!(client.stat("touch_hits"), "5");
}

#[test]
fn expiry_times_have_no_sign() {
    let server = Server::start();
    let mut client = BinaryClient::connect(&server.address());
    client.done(&set("brief", "1").extras(*b"\0\0\0\0\0\0\0\x0a"));
    client.done(&set("minus one", "1").extras(*b"\0\0\0\0\xff\xff\xff\xff"));
    client.done(&set("past", "1").extras(*b"\0\0\0\0\0\x40\0\0"));
    assert_eq!(client.get("past"), None);
    client.ask(&Frame::count(opcode::INCREMENT, "n", 1, 1, 10));
    server.advance(11);
    assert_eq!(client.get("brief"), None);
    assert_eq!(client.get("n"), None);
    assert!(client.get("minus one").is_some());
}

#[test]
fn flush_now_and_later() {
    let server = Server::start();
    let mut client = BinaryClient::connect(&server.address());
    client.done(&set("k", "1"));
    client.done(&Frame::new(opcode::FLUSH));
    assert_eq!(client.get("k"), None);
    client.done(&set("k", "1"));
    client.silent(&Frame::new(opcode::FLUSHQ).extras([0; 4]));
    assert_eq!(client.get("k"), None);
    client.done(&set("k", "1"));
    client.done(&Frame::new(opcode::FLUSH).extras(*b"\0\0\0\x0a"));
    assert!(client.get("k").is_some());
    server.advance(11);
    client.in_step();
    assert_eq!(client.get("k"), None);
    let refusing = Server::with(|config: &mut Config| config.flush = false);
    let mut client = BinaryClient::connect(&refusing.address());
    client.refused(&Frame::new(opcode::FLUSH), status::AUTH, "Auth failure.");
    client.refused(&Frame::new(opcode::FLUSHQ), status::AUTH, "Auth failure.");
}

#[test]
fn version_verbosity_and_quit() {
    let server = Server::start();
    let mut client = BinaryClient::connect(&server.address());
    let version = client.ask(&Frame::new(opcode::VERSION));
    assert_eq!(version.text(), "1.6.45");
    // memcached no longer implements this command.
    let verbosity = Frame::new(opcode::VERBOSITY).extras([0; 4]);
    client.refused(&verbosity, status::UNKNOWN, "Unknown command");
    client.done(&Frame::new(opcode::QUIT));
    client.0.expect_closed("");
    let mut client = BinaryClient::connect(&server.address());
    client.silent(&Frame::store(opcode::SETQ, "k", "1"));
    client.send(&Frame::new(opcode::QUITQ));
    client.0.expect_closed("");
    let mut client = BinaryClient::connect(&server.address());
    assert!(client.get("k").is_some());
}

#[test]
fn statistics() {
    with_client(|client| {
        client.done(&set("k", "1"));
        let names: Vec<String> = client.stats("").into_iter().map(|(name, _)| name).collect();
        for name in ["pid", "version", "curr_items", "cmd_get", "threads"] {
            assert!(names.iter().any(|known| known == name), "{name}: {names:?}");
        }
        let settings = client.stats("settings");
        assert!(settings.contains(&("maxconns".into(), "1024".into())));
        for group in ["items", "slabs", "detail on", "detail off"] {
            client.stats(group);
        }
        let dump = client.stats("detail dump");
        assert_eq!(dump[0].0, "detailed");
        client.get("k");
        assert_ne!(client.stat("cmd_get"), "0");
        assert_eq!(client.stats("reset"), []);
        assert_eq!(client.stat("cmd_get"), "0");
        for unknown in [
            "r",
            "item",
            "itemsx",
            "conns",
            "cachedump 1 1",
            "detail",
            "maps",
        ] {
            let frame = Frame::new(opcode::STAT).key(unknown);
            client.refused(&frame, status::NOT_FOUND, NOT_FOUND);
        }
    });
}

#[test]
fn fixed_1_6_44_detail_is_refused_where_dumps_are() {
    let closed = Server::with(|config: &mut Config| config.dump = false);
    let mut client = BinaryClient::connect(&closed.address());
    for group in ["detail on", "detail off", "detail dump", "cachedump 1 1"] {
        let frame = Frame::new(opcode::STAT).key(group);
        client.refused(&frame, status::NOT_FOUND, NOT_FOUND);
    }
}

#[test]
fn sizes_come_in_packets_and_in_their_turn() {
    with_client(|client| {
        assert_eq!(client.stats("sizes"), []);
        for number in 0..1000 {
            client.done(&set(&format!("key{number:04}"), "0123456789"));
        }
        // Packets pipelined behind the `stat` are answered after it.
        let sizes = Frame::new(opcode::STAT).key("sizes").opaque(7);
        let noop = Frame::new(opcode::NOOP).opaque(8);
        client.send(&get("none").opaque(6));
        let both = [sizes.bytes(), noop.bytes()].concat();
        client.0.send(&both);
        let mut answers = Vec::new();
        while answers.len() < 4 {
            let reply = client.reply().expect("it answers");
            let text = reply.text().to_owned();
            answers.push((reply.opaque, reply.key, text));
        }
        let want = [
            (6, "", NOT_FOUND),
            (7, "64", "1000"),
            (7, "", ""),
            (8, "", ""),
        ];
        let want = want.map(|(opaque, key, text)| (opaque, key.into(), text.to_owned()));
        assert_eq!(answers, want);
    });
}

#[test]
fn text_and_packets_share_the_items() {
    let server = Server::start();
    let mut binary = BinaryClient::connect(&server.address());
    let mut text = Client::connect(&server.address());
    binary.done(&set("k", "1").extras(*b"\0\0\0\x05\0\0\0\0"));
    text.ask("get k\r\n", "VALUE k 5 1\r\n1\r\nEND\r\n");
    text.ask("set k 6 0 2\r\n22\r\n", "STORED\r\n");
    assert_eq!(binary.get("k"), Some((6, b"22".to_vec())));
    for size in [4_000, 5_000, 16_384, 100_000, 1_000_000] {
        let value = "v".repeat(size);
        binary.done(&set("large", &value));
        let answer = format!("VALUE large 0 {size}\r\n{value}\r\nEND\r\n");
        text.ask("get large\r\n", answer);
        text.ask(format!("set large 0 0 {size}\r\n{value}\r\n"), "STORED\r\n");
        assert_eq!(binary.get("large"), Some((0, value.into_bytes())));
    }
}

#[test]
fn a_listener_may_insist_on_its_protocol() {
    let insisting =
        |protocol| Server::with(move |config: &mut Config| config.listeners[0].protocol = protocol);
    let binary = insisting(ProtocolMode::Binary);
    let mut client = Client::connect(&binary.address());
    client.send("version\r\n");
    client.expect_closed("");
    BinaryClient::connect(&binary.address()).in_step();
    let ascii = insisting(ProtocolMode::Ascii);
    let mut client = Client::connect(&ascii.address());
    client.ask(b"\x80\x81\x82\r\n", "ERROR\r\n");
}

#[test]
fn packets_may_be_cut_anywhere_and_come_in_any_number() {
    let server = Server::start();
    let mut bytes = Vec::new();
    for index in 0..100_u32 {
        let value = "v".repeat(index as usize * 100);
        let key = format!("k{index}");
        bytes.extend(Frame::store(opcode::SETQ, &key, value).bytes());
        bytes.extend(Frame::new(opcode::GETK).key(key).opaque(index).bytes());
        bytes.extend(Frame::new(opcode::GETQ).key("none").bytes());
    }
    let check = |client: &mut BinaryClient| {
        for index in 0..100_u32 {
            let reply = client.reply().expect("an answer for each");
            assert_eq!((reply.status, reply.opaque), (status::OK, index));
            assert_eq!(reply.value.len(), index as usize * 100);
        }
        client.in_step();
    };
    for size in [7, 100, 4096, 100_000, bytes.len()] {
        let mut client = BinaryClient::connect(&server.address());
        for piece in bytes.chunks(size) {
            client.0.send(piece);
        }
        check(&mut client);
    }
}

#[test]
fn what_is_no_packet_ends_the_connection() {
    let server = Server::start();
    let connect = || BinaryClient::connect(&server.address());
    let mut client = connect();
    client.in_step();
    client.0.send("get key\r\n");
    client.0.expect_closed("");
    let mut client = connect();
    client.in_step();
    client.0.send([0x81; 24]);
    client.0.expect_closed("");
    // Lengths that contradict each other, and an over-long key.
    for frame in [
        get("key").body_len(2),
        set("key", "").extras_len(0).key_len(200),
        Frame::new(0x55).key("abc").body_len(0),
    ] {
        connect().closed_with(&frame, status::UNKNOWN, UNKNOWN);
    }
    for frame in [
        get(&"k".repeat(251)),
        set(&"k".repeat(251), "v"),
        get("k").key_len(u16::MAX).body_len(u32::from(u16::MAX)),
    ] {
        connect().closed_with(&frame, status::INVALID, INVALID);
    }
}

#[test]
fn parts_that_a_command_has_not_end_the_connection() {
    let server = Server::start();
    for frame in [
        Frame::new(opcode::GET),
        get("k").extras("abcd"),
        get("k").value("v"),
        Frame::new(opcode::SET).extras([0; 8]),
        Frame::new(opcode::SETQ).key("k").value("v"),
        Frame::new(opcode::ADD).key("k").extras([0; 4]),
        Frame::new(opcode::APPEND).value("v"),
        Frame::new(opcode::PREPENDQ).key("k").extras([0; 8]),
        Frame::new(opcode::DELETE),
        Frame::new(opcode::DELETE).key("k").extras([0; 4]),
        Frame::new(opcode::INCREMENT).key("k").extras([0; 12]),
        Frame::new(opcode::DECREMENTQ).extras([0; 20]),
        Frame::new(opcode::INCREMENT)
            .key("k")
            .extras([0; 20])
            .value("v"),
        Frame::new(opcode::TOUCH).key("k"),
        Frame::new(opcode::GAT).extras([0; 4]),
        Frame::new(opcode::NOOP).key("k"),
        Frame::new(opcode::VERSION).value("v"),
        Frame::new(opcode::QUIT).extras([0; 4]),
        Frame::new(opcode::FLUSH).extras([0; 8]),
        Frame::new(opcode::FLUSH).key("k"),
        Frame::new(opcode::STAT).extras([0; 4]),
    ] {
        let mut client = BinaryClient::connect(&server.address());
        client.closed_with(&frame, status::INVALID, INVALID);
    }
    assert_eq!(BinaryClient::connect(&server.address()).get("k"), None);
}

#[test]
fn a_body_that_a_command_has_not_is_skipped() {
    with_client(|client| {
        client.done(&set("k", "1"));
        for size in [1, 23, 24, 100, 70_000] {
            let body = vec![0x80; size];
            let unknown = Frame::new(0x55).extras("ex").key("key").value(&body);
            client.refused(&unknown, status::UNKNOWN, UNKNOWN);
            client.in_step();
            client.ask(&touching(opcode::TOUCH, "k", 0).value(&body));
            client.in_step();
            client.ask(&touching(opcode::GATK, "k", 0).value(&body));
            client.in_step();
            let stat = Frame::new(opcode::STAT).key("nosuch").value(&body);
            client.refused(&stat, status::NOT_FOUND, NOT_FOUND);
            client.in_step();
            for code in [opcode::SASL_AUTH, opcode::SASL_STEP] {
                let sasl = Frame::new(code).key("PLAIN").value(&body);
                client.refused(&sasl, status::UNKNOWN, UNKNOWN);
                client.in_step();
            }
        }
        client.refused(&Frame::new(opcode::SASL_LIST), status::UNKNOWN, UNKNOWN);
    });
}

#[test]
fn a_value_that_is_too_large_is_refused_and_skipped() {
    with_client(|client| {
        let large = "v".repeat(1_100_000);
        client.done(&set("k", "1"));
        for code in [opcode::ADD, opcode::REPLACE, opcode::SETQ, opcode::SET] {
            let frame = Frame::store(code, "k", &large);
            client.refused(&frame, status::TOO_LARGE, "Too large.");
            client.in_step();
        }
        // The failed set removed the old value, which would be stale.
        assert_eq!(client.get("k"), None);
        client.done(&set("k", "1"));
        let append = Frame::new(opcode::APPEND).key("k").value(&large);
        client.refused(&append, status::TOO_LARGE, "Too large.");
        let half = "v".repeat(600_000);
        client.done(&set("k", &half));
        let append = Frame::new(opcode::APPEND).key("k").value(&half);
        client.refused(&append, status::NOT_STORED, "Not stored.");
        assert_eq!(client.get("k").map(|(_, value)| value.len()), Some(600_000));
    });
}
