//! TTLs and delayed flushes. The tests move time forward instead of waiting.

use std::time::{SystemTime, UNIX_EPOCH};

use test_support::binary::{BinaryClient, Frame, opcode};
use test_support::client::Client;
use test_support::server::Server;

const MONTH: u64 = 60 * 60 * 24 * 30;

#[test]
fn an_item_lives_its_seconds_and_no_more() {
    let server = Server::start();
    let mut client = server.client();
    client.ask(
        "set k 0 3 1\r\na\r\nset l 0 0 1\r\nb\r\n",
        "STORED\r\nSTORED\r\n",
    );
    client.ask(
        "get k l\r\n",
        "VALUE k 0 1\r\na\r\nVALUE l 0 1\r\nb\r\nEND\r\n",
    );
    server.advance(3);
    client.ask("get k l\r\n", "VALUE l 0 1\r\nb\r\nEND\r\n");
    client.ask("add k 0 0 1\r\nc\r\n", "STORED\r\n");
}

#[test]
fn every_command_finds_an_expired_item_missing() {
    let server = Server::start();
    let mut client = server.client();
    for (send, want) in [
        ("get k\r\n", "END\r\n"),
        ("gat 10 k\r\n", "END\r\n"),
        ("mg k v\r\n", "EN\r\n"),
        ("md k\r\n", "NF\r\n"),
        ("ma k\r\n", "NF\r\n"),
        ("me k\r\n", "EN\r\n"),
        ("delete k\r\n", "NOT_FOUND\r\n"),
        ("touch k 10\r\n", "NOT_FOUND\r\n"),
        ("incr k 1\r\n", "NOT_FOUND\r\n"),
        ("replace k 0 0 1\r\n1\r\n", "NOT_STORED\r\n"),
        ("append k 0 0 1\r\n1\r\n", "NOT_STORED\r\n"),
        ("cas k 0 0 1 1\r\n1\r\n", "NOT_FOUND\r\n"),
        ("add k 0 0 1\r\n1\r\n", "STORED\r\n"),
    ] {
        client.ask("set k 0 -1 1\r\n1\r\n", "STORED\r\n");
        client.ask(send, want);
    }
}

#[test]
fn relative_times_end_at_thirty_days() {
    let server = Server::start();
    let mut client = server.client();
    client.ask(format!("set k 0 {MONTH} 1\r\na\r\n"), "STORED\r\n");
    client.ask("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n");
    // An exptime above 30 days is a Unix time, here in 1970.
    client.ask(format!("set l 0 {} 1\r\na\r\n", MONTH + 1), "STORED\r\n");
    client.ask("get l\r\n", "END\r\n");
}

#[test]
fn thirty_days_pass() {
    let server = Server::start();
    let mut client = server.client();
    client.ask(format!("set k 0 {MONTH} 1\r\na\r\n"), "STORED\r\n");
    server.advance(MONTH - 60);
    client.ask("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n");
    server.advance(60);
    client.ask("get k\r\n", "END\r\n");
}

#[test]
fn absolute_times() {
    let server = Server::start();
    let mut client = server.client();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    client.ask(format!("set past 0 {} 1\r\na\r\n", now - 5), "STORED\r\n");
    client.ask(format!("set soon 0 {} 1\r\na\r\n", now + 100), "STORED\r\n");
    client.ask("get past soon\r\n", "VALUE soon 0 1\r\na\r\nEND\r\n");
    let answer = String::from_utf8(client.answer("mg soon t\r\n")).expect("an ASCII answer");
    let seconds = answer.trim_end().trim_start_matches("HD t").parse::<u64>();
    assert!(
        (95..=101).contains(&seconds.expect("a number of seconds")),
        "{answer}"
    );
}

#[test]
fn an_absolute_time_passes() {
    let server = Server::start();
    let mut client = server.client();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    client.ask(format!("set k 0 {} 1\r\na\r\n", now + 100), "STORED\r\n");
    server.advance(90);
    client.ask("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n");
    server.advance(12);
    client.ask("get k\r\n", "END\r\n");
}

#[test]
fn touch_prolongs_and_shortens() {
    let server = Server::start();
    let mut client = server.client();
    client.ask(
        "set k 0 2 1\r\na\r\nset l 0 0 1\r\nb\r\n",
        "STORED\r\nSTORED\r\n",
    );
    client.ask("touch k 100\r\ntouch l 2\r\n", "TOUCHED\r\nTOUCHED\r\n");
    server.advance(2);
    client.ask("get k l\r\n", "VALUE k 0 1\r\na\r\nEND\r\n");
    client.ask("gat 2 k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n");
    server.advance(2);
    client.ask("get k\r\n", "END\r\n");
}

#[test]
fn arithmetic_and_append_keep_the_time_to_live() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set n 0 3 1\r\n1\r\nincr n 9\r\n", "STORED\r\n10\r\n");
    client.ask(
        "set k 0 3 1\r\n1\r\nappend k 0 0 1\r\n2\r\n",
        "STORED\r\nSTORED\r\n",
    );
    client.ask(
        "get n k\r\n",
        "VALUE n 0 2\r\n10\r\nVALUE k 0 2\r\n12\r\nEND\r\n",
    );
    server.advance(3);
    client.ask("get n k\r\n", "END\r\n");
}

#[test]
fn a_delayed_flush_takes_what_is_older() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set k 0 0 1\r\na\r\nflush_all 2\r\n", "STORED\r\nOK\r\n");
    client.ask("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n");
    server.advance(3);
    client.ask("get k\r\n", "END\r\n");
    client.ask("set k 0 0 1\r\nb\r\n", "STORED\r\n");
    server.advance(1);
    client.ask("get k\r\n", "VALUE k 0 1\r\nb\r\nEND\r\n");
}

#[test]
fn a_later_flush_replaces_a_delayed_one() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set k 0 0 1\r\na\r\nflush_all 100\r\n", "STORED\r\nOK\r\n");
    client.ask("flush_all\r\nget k\r\n", "OK\r\nEND\r\n");
    client.ask("set k 0 0 1\r\nb\r\n", "STORED\r\n");
    server.advance(200);
    client.ask("get k\r\n", "VALUE k 0 1\r\nb\r\nEND\r\n");
}

#[test]
fn last_access_and_remaining_time() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set k 0 1000 1\r\na\r\n", "STORED\r\n");
    server.advance(100);
    let answer = String::from_utf8(client.answer("mg k t l h\r\n")).expect("an ASCII answer");
    let wanted = [
        "HD t900 l100 h0\r\n",
        "HD t899 l101 h0\r\n",
        "HD t898 l102 h0\r\n",
    ];
    assert!(wanted.contains(&answer.as_str()), "{answer}");
}

#[test]
fn recache_is_won_once_the_time_runs_short() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("ms k 1 T100\r\na\r\n", "HD\r\n");
    client.ask("mg k v R30\r\n", "VA 1\r\na\r\n");
    server.advance(80);
    client.ask("mg k v R30\r\n", "VA 1 W\r\na\r\n");
    client.ask("mg k v R30\r\n", "VA 1 Z\r\na\r\n");
    client.ask("ms k 1 T100\r\nb\r\nmg k v R30\r\n", "HD\r\nVA 1\r\nb\r\n");
}

#[test]
fn an_autovivified_item_lives_its_own_time() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("mg k v N3\r\n", "VA 0 W\r\n\r\n");
    client.ask("ma n N3 J5 v\r\n", "VA 1\r\n5\r\n");
    client.ask("mg k v N3\r\n", "VA 0 Z\r\n\r\n");
    server.advance(3);
    client.ask("mg k v\r\n", "EN\r\n");
    client.ask("mg n v\r\n", "EN\r\n");
    client.ask("mg k v N3\r\n", "VA 0 W\r\n\r\n");
}

/// Returns the TTL that an `mg` with the flag `t` shows.
fn shown_ttl(client: &mut Client, line: &str) -> i64 {
    let answer = String::from_utf8(client.answer(format!("{line}\r\n"))).expect("text");
    let mut words = answer.split_whitespace();
    let ttl = words.find_map(|word| word.strip_prefix('t'));
    ttl.expect("a TTL").parse().expect("a number")
}

fn ttl(client: &mut Client, key: &str) -> i64 {
    shown_ttl(client, &format!("mg {key} t"))
}

#[test]
fn each_command_shortens_the_ttl_of_a_key_by_the_same_part() {
    let server = Server::with(|config| config.ttl_jitter = 50);
    let mut client = server.client();
    client.ask("set k 0 100000 1\r\n1\r\n", "STORED\r\n");
    let wanted = ttl(&mut client, "k");
    assert!((50_000..99_990).contains(&wanted), "{wanted}");
    let month_later = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 2 * MONTH;
    for (send, want) in [
        ("add k 0 100000 1\r\n1\r\n", "STORED\r\n"),
        ("ms k 1 T100000\r\n1\r\n", "HD\r\n"),
        ("ms k 1 MA T0 N100000\r\n1\r\n", "HD\r\n"),
        ("mg k N100000\r\n", "HD W\r\n"),
        ("ma k N100000 J5\r\n", "HD\r\n"),
    ] {
        client.ask("delete k noreply\r\n", "");
        client.ask(send, want);
        let found = ttl(&mut client, "k");
        assert!((found - wanted).abs() <= 1, "{send}: {found}");
    }
    for (send, want) in [
        ("touch k 100000\r\n", "TOUCHED\r\n"),
        ("gat 100000 k\r\n", "VALUE k 0 1\r\n5\r\nEND\r\n"),
        ("mg k T100000\r\n", "HD\r\n"),
        ("ma k T100000\r\n", "HD\r\n"),
        ("md k I T100000\r\n", "HD\r\n"),
    ] {
        client.ask("touch k 7\r\n", "TOUCHED\r\n");
        client.ask(send, want);
        let found = ttl(&mut client, "k");
        assert!((found - wanted).abs() <= 1, "{send}: {found}");
    }
    let mut packets = BinaryClient::connect(&server.address());
    let made = packets.ask(&Frame::count(opcode::INCREMENT, "p", 1, 7, 100_000));
    assert_eq!(made.status, 0);
    let created = ttl(&mut client, "p");
    client.ask("set p 0 100000 1\r\n1\r\n", "STORED\r\n");
    assert!((ttl(&mut client, "p") - created).abs() <= 1, "{created}");
    let touch = Frame::new(opcode::TOUCH).key("k");
    let touched = packets.ask(&touch.extras(100_000_u32.to_be_bytes()));
    assert_eq!(touched.status, 0);
    assert!((ttl(&mut client, "k") - wanted).abs() <= 1);
    // A Unix time is shortened by the same part, and `t` shows what it set.
    client.ask(format!("touch k {month_later}\r\n"), "TOUCHED\r\n");
    let share = wanted as f64 / 100_000.0;
    let found = ttl(&mut client, "k") as f64 / (2 * MONTH) as f64;
    assert!((found - share).abs() < 0.001, "{found} {share}");
    let shown = shown_ttl(&mut client, "mg k T100000 t");
    assert!((shown - wanted).abs() <= 1, "{shown}");
    client.ask("touch k 0\r\nmg k t\r\n", "TOUCHED\r\nHD t-1 Z X\r\n");
    // Another server chooses the same.
    let other = Server::with(|config| config.ttl_jitter = 50);
    let mut client = other.client();
    client.ask("set k 0 100000 1\r\n1\r\n", "STORED\r\n");
    assert!((ttl(&mut client, "k") - wanted).abs() <= 1);
}
