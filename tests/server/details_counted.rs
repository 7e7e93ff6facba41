//! Failing commands that memcached 1.6.45 counts in `stats`, and those that it
//! does not count; and times and sizes in the binary protocol.

use test_support::binary::{BinaryClient, Frame, opcode, status};
use test_support::client::Client;
use test_support::server::Server;

/// A failing command, the start of its reply, and the counters that it changes.
type Failure<'a> = (String, &'a str, &'a [(&'a str, u64)]);

const BAD: &str = "CLIENT_ERROR bad command line format\r\n";
const TOO_LONG: &str = "CLIENT_ERROR opaque token too long\r\n";

#[test]
fn what_fails_counts_as_in_memcached() {
    let long = "k".repeat(251);
    let opaque = format!("O{}", "x".repeat(32));
    let failures: Vec<Failure<'_>> = vec![
        (
            format!("get k k {long} k\r\n"),
            BAD,
            &[("cmd_get", 2), ("get_hits", 2)],
        ),
        (
            format!("get none {long}\r\n"),
            BAD,
            &[("cmd_get", 1), ("get_misses", 1)],
        ),
        (
            format!("gat 0 k none {long}\r\n"),
            BAD,
            &[("cmd_touch", 2), ("touch_misses", 1)],
        ),
        (
            "flush_all x\r\n".into(),
            "CLIENT_ERROR invalid exptime",
            &[("cmd_flush", 1)],
        ),
        (
            "incr k x\r\n".into(),
            "CLIENT_ERROR invalid numeric",
            &[("incr_misses", 0), ("incr_hits", 0)],
        ),
        (format!("incr {long} 1\r\n"), BAD, &[("incr_misses", 0)]),
        (
            "set k 0 0 1\r\nxyz\r\n".into(),
            "CLIENT_ERROR bad data chunk\r\n",
            &[("cmd_set", 1)],
        ),
        (
            format!("ms k 1 {opaque}\r\nx\r\n"),
            TOO_LONG,
            &[("cmd_set", 1)],
        ),
        (
            "ms k 1 MX\r\nx\r\n".into(),
            "CLIENT_ERROR invalid mode",
            &[("cmd_set", 0)],
        ),
        (
            format!("mg k {opaque}\r\n"),
            TOO_LONG,
            &[("cmd_get", 0), ("get_hits", 0)],
        ),
        (
            format!("mg none {opaque}\r\n"),
            TOO_LONG,
            &[("cmd_get", 1), ("get_misses", 1)],
        ),
        (
            format!("ma none {opaque}\r\n"),
            TOO_LONG,
            &[("incr_misses", 1)],
        ),
        (
            "mg none T100\r\n".into(),
            "EN\r\n",
            &[("cmd_get", 1), ("cmd_touch", 0)],
        ),
        (
            "mg k T100\r\n".into(),
            "HD\r\n",
            &[("cmd_get", 0), ("cmd_touch", 1)],
        ),
        ("me none\r\n".into(), "EN\r\n", &[("cmd_meta", 1)]),
        ("me k \x01\r\n".into(), BAD, &[("cmd_meta", 0)]),
        ("me = b b\r\n".into(), BAD, &[("cmd_meta", 0)]),
    ];
    for (send, want, counters) in failures {
        let server = Server::start();
        let mut client = server.client();
        client.ask("set k 0 0 1\r\nx\r\n", "STORED\r\n");
        let before: Vec<u64> = counters
            .iter()
            .map(|(name, _)| count(&mut client, name))
            .collect();
        let got = client.answer(&send);
        assert!(got.starts_with(want.as_bytes()), "{send:?}: {got:?}");
        for ((name, more), before) in counters.iter().zip(before) {
            assert_eq!(
                count(&mut client, name),
                before + more,
                "{name} after {send:?}"
            );
        }
    }
}

#[test]
fn any_command_counts_an_item_that_it_finds_expired() {
    for command in [
        "get k\r\n",
        "gat 0 k\r\n",
        "touch k 0\r\n",
        "delete k\r\n",
        "incr k 1\r\n",
        "set k 0 0 1\r\nx\r\n",
        "add k 0 0 1\r\nx\r\n",
        "append k 0 0 1\r\nx\r\n",
        "mg k v\r\n",
        "mg k N0\r\n",
        "md k\r\n",
        "ma k N0\r\n",
        "me k\r\n",
    ] {
        for (ending, counter) in [
            ("touch k -1\r\n", "get_expired"),
            ("flush_all\r\n", "get_flushed"),
        ] {
            // The crawler would find the expired item first.
            let server = Server::with(|config| config.tunables.crawler = false);
            let mut client = server.client();
            client.answer(format!("set k 0 0 1\r\n1\r\n{ending}"));
            client.answer(command);
            assert_eq!(count(&mut client, counter), 1, "{command:?} {counter}");
            client.answer(command);
            assert_eq!(count(&mut client, counter), 1, "{command:?} {counter}");
        }
    }
}

#[test]
fn packets_have_times_without_a_sign() {
    let server = Server::start();
    let mut client = BinaryClient::connect(&server.address());
    for (time, lives) in [
        (0u32, true),
        (2_592_000, true),
        (2_592_001, false),
        (0x7fff_ffff, true),
        (0x8000_0000, true),
        (0xffff_ffff, true),
    ] {
        let mut extras = [0; 8];
        extras[4..].copy_from_slice(&time.to_be_bytes());
        client.done(&Frame::new(opcode::SET).key("k").extras(extras).value("v"));
        assert_eq!(client.get("k").is_some(), lives, "{time}");
        client.done(&Frame::store(opcode::SET, "k", "v"));
        let touched = client.ask(
            &Frame::new(opcode::TOUCH)
                .key("k")
                .extras(time.to_be_bytes()),
        );
        assert_eq!(touched.status, status::OK);
        assert_eq!(client.get("k").is_some(), lives, "{time}");
    }
}

#[test]
fn a_refused_packet_is_not_counted() {
    let server = Server::start();
    let mut client = BinaryClient::connect(&server.address());
    let large = vec![b'x'; 2 << 20];
    client.refused(
        &Frame::store(opcode::SET, "k", &large),
        status::TOO_LARGE,
        "Too large.",
    );
    assert_eq!(client.stat("store_too_large"), "0");
    let mut client = server.client();
    let line = format!("set k 0 0 {}\r\n", large.len());
    client.ask(
        [line.as_bytes(), &large, b"\r\n"].concat(),
        "SERVER_ERROR object too large for cache\r\n",
    );
    assert_eq!(count(&mut client, "store_too_large"), 1);
}

fn count(client: &mut Client, name: &str) -> u64 {
    client.stat(name).parse().expect("a counter is a number")
}
