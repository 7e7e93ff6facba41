//! Invalidation of prefixes and tags, over every way to say it.

use std::collections::HashMap;

use test_support::client::Client;
use test_support::script::{check, run};
use test_support::server::Server;
use test_support::wait_until;

/// Returns the lines of a group of statistics.
fn stats(client: &mut Client, group: &str) -> HashMap<String, String> {
    client.send(format!("stats{group}\r\n"));
    let mut stats = HashMap::new();
    loop {
        let line = client.line();
        let mut words = line.trim_end().splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("STAT"), Some(name), Some(value)) => {
                stats.insert(name.to_owned(), value.to_owned());
            }
            _ => return stats,
        }
    }
}

#[test]
fn a_prefix_is_invalidated_at_any_depth() {
    check(&[
        ("set a:1 0 0 1\r\nx\r\n", "STORED\r\n"),
        ("set a:b:1 0 0 1\r\ny\r\n", "STORED\r\n"),
        ("set ab 0 0 1\r\nz\r\n", "STORED\r\n"),
        ("invalidate prefix a:b:\r\n", "INVALIDATED\r\n"),
        (
            "get a:1 a:b:1 ab\r\n",
            "VALUE a:1 0 1\r\nx\r\nVALUE ab 0 1\r\nz\r\nEND\r\n",
        ),
        ("invalidate prefix a: noreply\r\n", ""),
        ("get a:1 a:b:1 ab\r\n", "VALUE ab 0 1\r\nz\r\nEND\r\n"),
        ("add a:1 0 0 1\r\nw\r\n", "STORED\r\n"),
        ("get a:1\r\n", "VALUE a:1 0 1\r\nw\r\nEND\r\n"),
    ]);
}

#[test]
fn no_command_finds_what_was_invalidated() {
    let mut steps = Vec::new();
    for (command, reply) in [
        ("get a:1\r\n", "END\r\n"),
        ("gets a:1\r\n", "END\r\n"),
        ("gat 10 a:1\r\n", "END\r\n"),
        ("touch a:1 10\r\n", "NOT_FOUND\r\n"),
        ("delete a:1\r\n", "NOT_FOUND\r\n"),
        ("incr a:1 1\r\n", "NOT_FOUND\r\n"),
        ("append a:1 0 0 1\r\n2\r\n", "NOT_STORED\r\n"),
        ("prepend a:1 0 0 1\r\n2\r\n", "NOT_STORED\r\n"),
        ("replace a:1 0 0 1\r\n2\r\n", "NOT_STORED\r\n"),
        ("cas a:1 0 0 1 7\r\n2\r\n", "NOT_FOUND\r\n"),
        ("mg a:1 v\r\n", "EN\r\n"),
        ("me a:1\r\n", "EN\r\n"),
        ("md a:1\r\n", "NF\r\n"),
        ("md a:1 I\r\n", "NF\r\n"),
        ("md a:1 x\r\n", "NF\r\n"),
        ("ma a:1\r\n", "NF\r\n"),
        ("ma a:1 N0 J5 v\r\n", "VA 1\r\n5\r\n"),
        ("mg a:1 N30 v\r\n", "VA 0 W\r\n\r\n"),
        ("ms a:1 1 MA\r\n2\r\n", "NS\r\n"),
        ("ms a:1 1 MR\r\n2\r\n", "NS\r\n"),
        ("ms a:1 1 C7\r\n2\r\n", "NF\r\n"),
        ("ms a:1 1 ME\r\n2\r\n", "HD\r\n"),
    ] {
        steps.extend([
            ("set a:1 5 0 1\r\n1\r\n", "STORED\r\n"),
            ("invalidate prefix a:\r\n", "INVALIDATED\r\n"),
            (command, reply),
        ]);
    }
    check(&steps);
}

#[test]
fn malformed_invalidations_say_what_is_wrong() {
    const USAGE: &str = "CLIENT_ERROR usage: invalidate prefix|tag name [noreply]\r\n";
    let long_prefix = format!("invalidate prefix {}:\r\n", "p".repeat(250));
    let long_tag = format!("invalidate tag {}\r\n", "t".repeat(65));
    let too_long = "CLIENT_ERROR name too long: a prefix has at most 250 bytes, a tag 64\r\n";
    check(&[
        ("invalidate\r\n", USAGE),
        ("invalidate prefix\r\n", USAGE),
        ("invalidate tag\r\n", USAGE),
        ("invalidate key x\r\n", USAGE),
        ("invalidate prefix a: b:\r\n", USAGE),
        ("invalidate tag a noreply more\r\n", USAGE),
        ("invalidate tag noreply\r\n", "INVALIDATED\r\n"),
        (
            "invalidate prefix a\r\n",
            "CLIENT_ERROR prefix must end with the delimiter :\r\n",
        ),
        (
            "invalidate prefix a:b\r\n",
            "CLIENT_ERROR prefix must end with the delimiter :\r\n",
        ),
        ("invalidate prefix a:b noreply\r\n", ""),
        (
            "invalidate tag a,b\r\n",
            "CLIENT_ERROR a tag contains no comma\r\n",
        ),
        (&long_prefix, too_long),
        (&long_tag, too_long),
    ]);
}

#[test]
fn an_invalidation_needs_permission_and_cas_values() {
    let server = Server::with(|config| config.flush = false);
    run(
        &server.address(),
        &[
            ("set a:1 0 0 1\r\nx\r\n", "STORED\r\n"),
            (
                "invalidate prefix a:\r\n",
                "CLIENT_ERROR invalidate not allowed\r\n",
            ),
            (
                "invalidate tag a\r\n",
                "CLIENT_ERROR invalidate not allowed\r\n",
            ),
            ("get a:1\r\n", "VALUE a:1 0 1\r\nx\r\nEND\r\n"),
        ],
    );
    let server = Server::with(|config| config.cas = false);
    let refused = "CLIENT_ERROR invalidate needs CAS values (-C is set)\r\n";
    run(
        &server.address(),
        &[
            ("set a:1 0 0 1\r\nx\r\n", "STORED\r\n"),
            ("invalidate prefix a:\r\n", refused),
            ("get a:1\r\n", "VALUE a:1 0 1\r\nx\r\nEND\r\n"),
        ],
    );
}

#[test]
fn another_delimiter_ends_prefixes() {
    let server = Server::with(|config| config.prefix_delimiter = b'/');
    run(
        &server.address(),
        &[
            ("set a/1 0 0 1\r\nx\r\n", "STORED\r\n"),
            ("set a:1 0 0 1\r\nx\r\n", "STORED\r\n"),
            (
                "invalidate prefix a:\r\n",
                "CLIENT_ERROR prefix must end with the delimiter /\r\n",
            ),
            ("invalidate prefix a/\r\n", "INVALIDATED\r\n"),
            ("get a/1 a:1\r\n", "VALUE a:1 0 1\r\nx\r\nEND\r\n"),
        ],
    );
}

#[test]
fn cas_values_of_clients_do_not_save_an_item() {
    check(&[
        ("ms a:1 1 E18446744073709551615\r\n1\r\n", "HD\r\n"),
        ("ms a:2 1\r\n1\r\n", "HD\r\n"),
        (
            "ma a:2 E18446744073709551615 c v\r\n",
            "VA 1 c18446744073709551615\r\n2\r\n",
        ),
        (
            "ms a:3 1\r\n1\r\nmd a:3 I E9223372036854775807\r\n",
            "HD\r\nHD\r\n",
        ),
        (
            "ms a:4 1\r\n1\r\nmd a:4 x E9223372036854775807\r\n",
            "HD\r\nHD\r\n",
        ),
        (
            "ms a:5 1\r\n1\r\nms a:5 1 MA E9223372036854775807\r\n2\r\n",
            "HD\r\nHD\r\n",
        ),
        ("ma a:6 N0 E9223372036854775807\r\n", "HD\r\n"),
        ("mg a:7 N0 E9223372036854775807\r\n", "HD W\r\n"),
        (
            "mg a:1 c\r\nmg a:4 c s\r\nmg a:5 c v\r\n",
            "HD c18446744073709551615\r\nHD c9223372036854775807 s0\r\nVA 2 c9223372036854775807\r\n12\r\n",
        ),
        ("invalidate prefix a:\r\n", "INVALIDATED\r\n"),
        (
            "mg a:1\r\nmg a:2\r\nmg a:3\r\nmg a:4\r\nmg a:5\r\nmg a:6\r\nmg a:7\r\n",
            "EN\r\nEN\r\nEN\r\nEN\r\nEN\r\nEN\r\nEN\r\n",
        ),
        ("ms a:1 1 E5\r\n1\r\nmg a:1 c\r\n", "HD\r\nHD c5\r\n"),
    ]);
}

#[test]
fn upkeep_reclaims_what_was_invalidated() {
    let server = Server::start();
    let mut client = server.client();
    for number in 0..500 {
        let kind = if number % 2 == 0 { "even" } else { "odd" };
        let line = format!("set {kind}:{number} 0 0 1\r\nx\r\n");
        client.ask(&line, "STORED\r\n");
    }
    assert!(!stats(&mut client, "").contains_key("invalidations"));
    client.ask("invalidate prefix even:\r\n", "INVALIDATED\r\n");
    wait_until("memory is reclaimed", || {
        (client.stat("curr_items") == "250").then_some(())
    });
    let general = stats(&mut client, "");
    assert_eq!(general["invalidations"], "1");
    assert_eq!(general["invalidated_items"], "250");
    wait_until("nothing is outstanding", || {
        let stats = stats(&mut client, " invalidation");
        (stats["invalidation_outstanding"] == "0").then_some(())
    });
    let own = stats(&mut client, " invalidation");
    let number = |name: &str| own[name].parse::<u64>().unwrap();
    assert_eq!(number("prefix_invalidations"), 1);
    assert_eq!(number("invalidated_items"), 250);
    assert_eq!(
        number("invalidation_table_bytes"),
        8 * number("invalidation_slots")
    );
    // The table counts as overhead of the index.
    let index: u64 = general["hash_bytes"].parse().unwrap();
    assert!(index > number("invalidation_table_bytes"));
}

#[test]
fn watchers_see_invalidations() {
    let server = Server::start();
    let mut watcher = server.client();
    watcher.send("watch mutations\r\n");
    watcher.expect("OK\r\n");
    let mut client = server.client();
    client.ask("invalidate prefix a:\r\n", "INVALIDATED\r\n");
    let line = watcher.line();
    assert!(
        line.contains(" type=invalidate key=a%3A kind=prefix cmd=invalidate stale=no "),
        "{line}"
    );
}
