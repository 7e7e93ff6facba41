//! What the server observes of its clients' requests: latencies and the slow
//! log.

use std::time::{Duration, Instant};

use rustcached::stats::CommandKind;
use test_support::binary::{BinaryClient, Frame};
use test_support::client::Client;
use test_support::program::Program;
use test_support::server::Server;
use test_support::wait_until;

/// Returns a statistic of a group, or `None` if the group lacks it.
fn figure(client: &mut Client, group: &str, name: &str) -> Option<String> {
    let answer = client.answer(format!("stats {group}\r\n"));
    let answer = String::from_utf8_lossy(&answer);
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
    line.map(str::to_owned)
}

/// Waits until a statistic has a value.
fn wait_for(client: &mut Client, group: &str, name: &str, value: &str) {
    wait_until(name, || {
        let got = figure(client, group, name)?;
        (got == value).then_some(())
    });
}

#[test]
fn each_command_is_counted_by_its_kind() {
    let server = Server::start();
    let mut client = server.client();
    // In one packet, so that they are one batch.
    client.send(
        "set a 0 0 1\r\n1\r\nget a\r\ngets a b\r\ngat 0 a\r\ntouch a 0\r\nincr a 1\r\n\
         decr a 1\r\nmg a v\r\nmn\r\ndelete a\r\nversion\r\nnonsense\r\n",
    );
    client.expect(
        "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nVALUE a 0 1 2\r\n1\r\nEND\r\nVALUE a 0 1\r\n1\r\nEND\r\n\
         TOUCHED\r\n2\r\n1\r\nVA 1\r\n1\r\nMN\r\nDELETED\r\nVERSION 1.6.45\r\nERROR\r\n",
    );
    // Received in parts.
    let value = "x".repeat(50_000);
    client.send(format!("set b 0 0 {}\r\n{}", value.len(), &value[..20_000]));
    client.send(format!("{}\r\n", &value[20_000..]));
    client.expect("STORED\r\n");
    let mut packets = BinaryClient::connect(&server.address());
    packets.done(&Frame::store(0x01, "c", "1"));
    packets.get("c");
    for (kind, count) in [
        (CommandKind::Store, 3),
        (CommandKind::Get, 3),
        (CommandKind::Touch, 2),
        (CommandKind::Arithmetic, 2),
        (CommandKind::Delete, 1),
    ] {
        let name = format!("{}:count", kind.name());
        wait_for(&mut client, "latency", &name, &count.to_string());
        let name = format!("{}:minute_count", kind.name());
        wait_for(&mut client, "latency", &name, &count.to_string());
    }
    let number = |client: &mut Client, name: &str| -> f64 {
        figure(client, "latency", name).unwrap().parse().unwrap()
    };
    // The client ends each of its questions with `mn`.
    assert!(number(&mut client, "meta:count") > 2.0);
    let p50 = number(&mut client, "get:p50_us");
    let p99 = number(&mut client, "get:p99_us");
    let max = number(&mut client, "get:max_us");
    assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{p50} {p99} {max}");
    let in_packets = packets.stats("latency");
    assert!(in_packets.iter().any(|(name, _)| name == "get:count"));
}

#[test]
fn latencies_are_a_part_of_the_client_s() {
    const REQUESTS: usize = 2000;
    let server = Server::start();
    let mut client = server.client();
    let mut own = Vec::new();
    for _ in 0..REQUESTS {
        let begun = Instant::now();
        client.send("get a\r\n");
        client.expect("END\r\n");
        own.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    own.sort_by(f64::total_cmp);
    wait_for(&mut client, "latency", "get:count", &REQUESTS.to_string());
    let p50 = figure(&mut client, "latency", "get:p50_us").expect("it is there");
    let p50: f64 = p50.parse().expect("a number");
    // The server's end may be read after the client has the reply, and a bucket
    // is up to 6 % wide.
    let client_s = own[REQUESTS / 2];
    assert!(0.0 < p50 && p50 < 1.5 * client_s, "{p50} {client_s}");
}

#[test]
fn latencies_can_be_off() {
    let server = Server::with(|config| config.observe.latency = false);
    let mut client = server.client();
    client.ask("get a\r\n", "END\r\n");
    client.ask("stats latency\r\n", "END\r\n");
}

#[test]
fn the_most_requested_keys_are_found() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set hot%20 0 0 5\r\nhello\r\n", "STORED\r\n");
    for _ in 0..99 {
        client.ask("get hot%20\r\n", "VALUE hot%20 0 5\r\nhello\r\nEND\r\n");
    }
    for number in 0..25 {
        let key = format!("cold{number}");
        client.ask(format!("get {key} {key} {key}\r\n"), "END\r\n");
        client.ask(format!("delete {key}\r\n"), "NOT_FOUND\r\n");
    }
    client.ask(
        "mg warm\r\nincr warm 1\r\ntouch warm 1\r\ngat 1 warm\r\nms warm 1\r\nx\r\n",
        "EN\r\nNOT_FOUND\r\nNOT_FOUND\r\nEND\r\nHD\r\n",
    );
    let answer = String::from_utf8(client.answer("stats hotkeys 2\r\n")).expect("text");
    let value = |name: &str| {
        let name = format!("STAT {name} ");
        let line = answer.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("{name} is missing: {answer}"))
            .to_owned()
    };
    let number = |name: &str| value(name).parse::<f64>().expect("a number");
    // A server with few requests samples each of them.
    assert_eq!(value("1:key"), "hot%2520");
    assert_eq!(value("1:share"), format!("{:.5}", 100.0 / 205.0));
    assert_eq!(value("2:key"), "warm");
    assert_eq!(value("2:share"), format!("{:.5}", 5.0 / 205.0));
    assert!(!answer.contains("3:key"), "{answer}");
    let (reads, writes) = (number("1:reads_per_second"), number("1:writes_per_second"));
    assert!(reads > writes && writes > 0.0, "{answer}");
    assert!(number("1:bytes_per_second") > 4.0 * reads, "{answer}");
}

#[test]
fn the_busiest_prefixes_are_counted() {
    let server = Server::start();
    let mut client = server.client();
    for number in 0..20 {
        client.ask(
            format!("set user:{number} 0 0 5\r\nhello\r\n"),
            "STORED\r\n",
        );
    }
    client.ask(
        "get user:1 user:2 user:none\r\n",
        "VALUE user:1 0 5\r\nhello\r\nVALUE user:2 0 5\r\nhello\r\nEND\r\n",
    );
    client.ask("incr page:1 1\r\nget plain\r\n", "NOT_FOUND\r\nEND\r\n");
    for (name, value) in [
        ("1:prefix", "user"),
        ("1:requests", "23"),
        ("1:hits", "2"),
        ("1:sets", "20"),
        ("2:prefix", "page"),
        ("2:requests", "1"),
    ] {
        assert_eq!(
            figure(&mut client, "prefixes", name).as_deref(),
            Some(value),
            "{name}"
        );
    }
    // Upkeep counts the items.
    wait_for(&mut client, "prefixes", "1:items", "20");
    let bytes = figure(&mut client, "prefixes", "1:bytes");
    assert_eq!(bytes, Some(client.stat("bytes")));
    assert_eq!(figure(&mut client, "prefixes 1", "2:prefix"), None);
    client.ask("stats reset\r\n", "RESET\r\n");
    assert_ne!(
        figure(&mut client, "prefixes", "1:requests").as_deref(),
        Some("23")
    );
}

#[test]
fn prefixes_can_be_off_or_secret() {
    let server = Server::with(|config| config.observe.prefixes = false);
    let mut client = server.client();
    client.ask("get a:b\r\n", "END\r\n");
    client.ask("stats prefixes\r\n", "END\r\n");
    let server = Server::with(|config| config.dump = false);
    let refused = "CLIENT_ERROR stats prefixes not allowed\r\n";
    server.client().ask("stats prefixes\r\n", refused);
}

#[test]
fn other_sizes_of_memory_are_predicted() {
    let server = Server::with(|config| config.observe.curve = true);
    let mut client = server.client();
    for number in 0..100 {
        client.ask(format!("get {number}\r\n"), "END\r\n");
        client.ask(format!("set {number} 0 0 5\r\nhello\r\n"), "STORED\r\n");
        for _ in 0..3 {
            let value = format!("VALUE {number} 0 5\r\nhello\r\nEND\r\n");
            client.ask(format!("get {number}\r\n"), value);
        }
    }
    client.ask("md 1\r\ntouch 2 0\r\n", "HD\r\nTOUCHED\r\n");
    // Upkeep publishes the curve once a second.
    wait_for(&mut client, "mrc", "gets", "400");
    // All items fit into a quarter of the memory.
    for factor in ["0.25", "0.5", "0.75", "1", "1.5", "2", "4", "8"] {
        let ratio = figure(&mut client, "mrc", &format!("{factor}:hit_ratio"));
        assert_eq!(ratio.as_deref(), Some("0.7500"), "{factor}");
        let bytes = figure(&mut client, "mrc", &format!("{factor}:memory_bytes"));
        let factor: f64 = factor.parse().expect("a number");
        let wanted = factor * f64::from(64 << 20);
        assert_eq!(bytes, Some(format!("{wanted}")), "{factor}");
    }
    assert_eq!(
        figure(&mut client, "mrc", "samples_dropped").as_deref(),
        Some("0")
    );
}

#[test]
fn the_curve_is_off_unless_it_is_asked_for() {
    let server = Server::start();
    server.client().ask("stats mrc\r\n", "END\r\n");
}

#[test]
fn hot_keys_can_be_off_or_secret() {
    let server = Server::with(|config| config.observe.hot_keys = false);
    let mut client = server.client();
    client.ask("get a\r\n", "END\r\n");
    assert_eq!(figure(&mut client, "hotkeys", "1:key"), None);
    let server = Server::with(|config| config.dump = false);
    let refused = "CLIENT_ERROR stats hotkeys not allowed\r\n";
    server.client().ask("stats hotkeys\r\n", refused);
}

#[test]
fn slow_commands_are_logged_and_watched() {
    let limit = Duration::from_nanos(1);
    let server = Server::with(|config| config.observe.slow_log = Some(limit));
    let mut watcher = server.client();
    watcher.send("watch slow prefix=b\r\n");
    watcher.expect("OK\r\n");
    let mut client = server.client();
    client.ask("set a%20 0 0 1\r\n1\r\n", "STORED\r\n");
    client.ask("incr b\x01 1\r\n", "NOT_FOUND\r\n");
    client.ask("get first second\r\n", "END\r\n");
    wait_for(&mut client, "slowlog 100", "3:command", "stats");
    let line = watcher.line();
    assert!(
        line.contains(" type=slow key=b%01 cmd=incr total_us="),
        "{line}"
    );
    for (name, value) in [("command", "incr"), ("key", "b%01"), ("key", "first")] {
        let answer = String::from_utf8(client.answer("stats slowlog 100\r\n")).unwrap();
        let values = answer
            .lines()
            .filter_map(|line| line.split_once(&format!(":{name} ")));
        assert!(values.into_iter().any(|(_, got)| got == value), "{answer}");
    }
    let total: u64 = figure(&mut client, "slowlog", "total")
        .unwrap()
        .parse()
        .unwrap();
    assert!(total >= 5, "{total}");
    let peer = figure(&mut client, "slowlog", "1:peer").unwrap();
    assert_eq!(peer, client.local_addr().to_string());
    let answer = String::from_utf8(client.answer("stats slowlog 1\r\n")).unwrap();
    let part = |name: &str| -> u64 {
        let name = format!("STAT 1:{name}_us ");
        let line = answer.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap().parse().unwrap()
    };
    let (total, executing) = (part("total"), part("executing"));
    assert!(total > 0 && total >= executing, "{answer}");
    assert!(
        total >= part("waiting") && total >= part("sending"),
        "{answer}"
    );
    assert_eq!(figure(&mut client, "slowlog 1", "2:peer"), None);
}

#[test]
fn without_dumps_the_slow_log_shows_no_keys() {
    let server = Server::with(|config| {
        config.observe.slow_log = Some(Duration::from_nanos(1));
        config.dump = false;
    });
    let mut client = server.client();
    client.ask("set secret 0 0 1\r\n1\r\n", "STORED\r\n");
    wait_for(&mut client, "slowlog 100", "2:command", "set");
    let answer = String::from_utf8(client.answer("stats slowlog 100\r\n")).unwrap();
    assert!(!answer.contains("secret"), "{answer}");
}

#[test]
fn fast_commands_are_not_slow() {
    let (_server, address) = Program::start(&["--slow-log-ms=10000.5"]);
    let mut client = Client::connect(&address);
    client.ask("get a\r\n", "END\r\n");
    assert_eq!(
        figure(&mut client, "slowlog", "total"),
        Some("0".to_owned())
    );
    let threshold = figure(&mut client, "slowlog", "threshold_us");
    assert_eq!(threshold, Some("10000500".to_owned()));
}

#[test]
fn bad_thresholds_are_refused() {
    for value in ["0", "-1", "x", "1e400"] {
        let option = format!("--slow-log-ms={value}");
        let ended = Program::spawn(&[&option]).wait();
        let expected = "--slow-log-ms takes milliseconds above 0";
        assert!(ended.errors.contains(expected), "{value}: {}", ended.errors);
        assert_eq!(ended.status.code(), Some(1), "{value}");
    }
}
