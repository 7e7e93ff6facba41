//! Invalidation of prefixes and tags, over every way to say it.

use std::collections::HashMap;

use test_support::binary::{BinaryClient, Frame, opcode, status};
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

#[test]
fn tags_are_given_in_meta_commands() {
    check(&[
        ("ms a 1 T60 Pblue,green\r\na\r\n", "HD\r\n"),
        ("ms b 1 Pgreen,product-7\r\nb\r\n", "HD\r\n"),
        ("ms c 1\r\nc\r\n", "HD\r\n"),
        ("ma d N0 J7 Pblue v\r\n", "VA 1\r\n7\r\n"),
        (
            "get a b c\r\n",
            "VALUE a 0 1\r\na\r\nVALUE b 0 1\r\nb\r\nVALUE c 0 1\r\nc\r\nEND\r\n",
        ),
        ("invalidate tag blue\r\n", "INVALIDATED\r\n"),
        (
            "mg a v\r\nmg b v\r\nmg c v\r\nmg d v\r\n",
            "EN\r\nVA 1\r\nb\r\nVA 1\r\nc\r\nEN\r\n",
        ),
        ("invalidate tag product-7\r\n", "INVALIDATED\r\n"),
        ("mg b v\r\nmg c v\r\n", "EN\r\nVA 1\r\nc\r\n"),
        // A set without tags has none.
        (
            "ms a 1 Pblue\r\na\r\nset a 0 0 1\r\nb\r\n",
            "HD\r\nSTORED\r\n",
        ),
        (
            "invalidate tag blue\r\nget a\r\n",
            "INVALIDATED\r\nVALUE a 0 1\r\nb\r\nEND\r\n",
        ),
        // L is ignored, and P by commands that store nothing.
        (
            "ms a 1 Lx,,\r\na\r\nmg a P v\r\nmd a P,\r\n",
            "HD\r\nVA 1\r\na\r\nHD\r\n",
        ),
    ]);
}

#[test]
fn changes_keep_the_tags() {
    let mut steps = Vec::new();
    for (change, reply) in [
        ("incr n 1\r\n", "10\r\n"),
        ("ma n D90\r\n", "HD\r\n"),
        ("ma n E7\r\n", "HD\r\n"),
        ("decr n 1\r\n", "8\r\n"),
        ("append n 0 0 1\r\n1\r\n", "STORED\r\n"),
        ("ms n 1 MP E9\r\n1\r\n", "HD\r\n"),
        ("touch n 100\r\n", "TOUCHED\r\n"),
        ("md n x\r\n", "HD\r\n"),
        ("md n x I T30\r\n", "HD\r\n"),
        ("mg n T30\r\n", "HD\r\n"),
        ("md n I E5\r\n", "HD\r\n"),
    ] {
        steps.extend([
            ("ms n 1 Pt1,t2\r\n9\r\n", "HD\r\n"),
            (change, reply),
            ("invalidate tag other\r\nmg n s\r\n", ""),
            ("invalidate tag t2\r\nmg n s\r\n", "INVALIDATED\r\nEN\r\n"),
        ]);
    }
    for step in &mut steps {
        if step.1.is_empty() {
            step.1 = "INVALIDATED\r\nHD<*>\r\n";
        }
    }
    check(&steps);
}

#[test]
fn an_appended_value_brings_its_tags() {
    let many: Vec<String> = (0..15).map(|tag| format!("many-{tag}")).collect();
    let many = format!("ms k 1 MA P{}\r\nc\r\n", many.join(","));
    check(&[
        ("ms k 1 Pa\r\na\r\nms k 1 MA Pb\r\nb\r\n", "HD\r\nHD\r\n"),
        (&many, "NS\r\n"),
        ("mg k v\r\n", "VA 2\r\nab\r\n"),
        ("invalidate tag b\r\nmg k v\r\n", "INVALIDATED\r\nEN\r\n"),
        ("ms k 1 Pa\r\na\r\nms k 1 MP Pb\r\nb\r\n", "HD\r\nHD\r\n"),
        ("invalidate tag a\r\nmg k v\r\n", "INVALIDATED\r\nEN\r\n"),
        (
            "ms k 1 MA N0 Pb\r\nb\r\ninvalidate tag b\r\nmg k v\r\n",
            "HD\r\nINVALIDATED\r\nEN\r\n",
        ),
    ]);
    // Values of several chunks grow in place.
    let large = format!("ms k 20000 Pa\r\n{}\r\n", "x".repeat(20000));
    check(&[
        (&large, "HD\r\n"),
        (
            "ms k 1 MA Pb\r\nb\r\nms k 1 MA E77\r\nb\r\nmg k s\r\n",
            "HD\r\nHD\r\nHD s20002\r\n",
        ),
        (
            "append k 0 0 1\r\nb\r\nms k 1 MA Pb\r\nb\r\nmg k s\r\n",
            "STORED\r\nHD\r\nHD s20004\r\n",
        ),
        ("invalidate tag b\r\nmg k\r\n", "INVALIDATED\r\nEN\r\n"),
    ]);
}

#[test]
fn limits_of_tags_are_kept() {
    let tags = |count: usize| {
        let tags: Vec<String> = (0..count).map(|tag| format!("{tag:0>64}")).collect();
        tags.join(",")
    };
    let most = format!("ms k 1 P{}\r\na\r\n", tags(16));
    let more = format!("ms k 1 P{}\r\na\r\n", tags(17));
    let long = format!("ms k 1 P{}\r\na\r\n", "t".repeat(65));
    let number = format!("ma k N0 P{}\r\n", tags(17));
    let last = format!("invalidate tag {:0>64}\r\nmg k\r\n", 15);
    check(&[
        (&most, "HD\r\n"),
        (&last, "INVALIDATED\r\nEN\r\n"),
        (&more, "CLIENT_ERROR too many tags\r\n"),
        (&number, "CLIENT_ERROR too many tags\r\n"),
        (&long, "CLIENT_ERROR tag too long\r\n"),
        ("ms k 1 P\r\na\r\n", "CLIENT_ERROR empty tag\r\n"),
        ("ms k 1 Pa,\r\na\r\n", "CLIENT_ERROR empty tag\r\n"),
        ("ms k 1 Pa,,b\r\na\r\n", "CLIENT_ERROR empty tag\r\n"),
        ("ma k N0 P\r\n", "CLIENT_ERROR empty tag\r\n"),
        ("mg k\r\n", "EN\r\n"),
    ]);
}

fn with_keys() -> Server {
    Server::with(|config| config.invalidate_keys = true)
}

#[test]
fn a_key_invalidates_if_the_server_takes_such_keys() {
    let stored = [
        ("set user:42:a 0 0 1\r\na\r\n", "STORED\r\n"),
        ("ms b 1 Pproduct-7\r\nb\r\n", "HD\r\n"),
    ];
    let gone = ("get user:42:a b\r\n", "END\r\n");
    for (prefix, tag, reply) in [
        (
            "delete @prefix/user:42:\r\n",
            "delete @tag/product-7\r\n",
            "DELETED\r\n",
        ),
        (
            "delete @prefix/user:42: noreply\r\n",
            "delete @tag/product-7 noreply\r\n",
            "",
        ),
        ("md @prefix/user:42: q\r\n", "md @tag/product-7 q\r\n", ""),
        ("md @prefix/user:42:\r\n", "md @tag/product-7\r\n", "HD\r\n"),
        (
            "md QHByZWZpeC91c2VyOjQyOg== b\r\n",
            "md QHRhZy9wcm9kdWN0LTc= b\r\n",
            "HD\r\n",
        ),
    ] {
        let server = with_keys();
        run(&server.address(), &stored);
        run(&server.address(), &[(prefix, reply), (tag, reply), gone]);
    }
    let server = with_keys();
    run(&server.address(), &stored);
    run(
        &server.address(),
        &[
            ("md @tag/product-7 k O12\r\n", "HD k@tag/product-7 O12\r\n"),
            (
                "md @prefix/user:42 k\r\n",
                "CLIENT_ERROR prefix must end with the delimiter :\r\n",
            ),
            (
                "delete @prefix/user:42\r\n",
                "CLIENT_ERROR prefix must end with the delimiter :\r\n",
            ),
            ("delete @tag/\r\n", "CLIENT_ERROR empty prefix or tag\r\n"),
            (
                "md @tag/x T30\r\n",
                "CLIENT_ERROR flags C, E, T and x do not apply to an invalidation\r\n",
            ),
            ("delete @other/x\r\n", "NOT_FOUND\r\n"),
            ("get user:42:a b\r\n", "VALUE user:42:a 0 1\r\na\r\nEND\r\n"),
        ],
    );
    // By default, these are keys as all others.
    let server = Server::start();
    run(&server.address(), &stored);
    run(
        &server.address(),
        &[
            ("delete @prefix/user:42:\r\n", "NOT_FOUND\r\n"),
            ("md @tag/product-7\r\n", "NF\r\n"),
            (
                "set @tag/x 0 0 1\r\nx\r\ndelete @tag/x\r\n",
                "STORED\r\nDELETED\r\n",
            ),
            ("mg b v\r\n", "VA 1\r\nb\r\n"),
        ],
    );
}

#[test]
fn packets_invalidate_too() {
    let server = with_keys();
    let mut text = server.client();
    let mut client = BinaryClient::connect(&server.address());
    let delete = |key: &str| Frame::new(opcode::DELETE).key(key);
    for frame in [
        delete("@prefix/a:"),
        delete("@tag/t"),
        Frame::new(opcode::DELETEQ).key("@prefix/a:"),
    ] {
        text.ask("ms a:1 1 Pt\r\nx\r\n", "HD\r\n");
        assert!(client.get("a:1").is_some());
        match frame.bytes()[1] {
            opcode::DELETEQ => client.silent(&frame),
            _ => drop(client.done(&frame)),
        }
        assert_eq!(client.get("a:1"), None);
    }
    assert_eq!(client.ask(&delete("@prefix/a")).status, status::INVALID);
    assert_eq!(client.ask(&delete("@tag/")).status, status::INVALID);
    let server = Server::with(|config| {
        config.invalidate_keys = true;
        config.flush = false;
    });
    let mut client = BinaryClient::connect(&server.address());
    assert_eq!(client.ask(&delete("@tag/t")).status, status::AUTH);
    server
        .client()
        .ask("md @tag/t\r\n", "CLIENT_ERROR invalidate not allowed\r\n");
}

#[test]
fn a_stale_invalidation_is_that_of_each_item() {
    for (name, store) in [
        ("@prefix/a:", "ms a:1 1 c\r\na\r\n"),
        ("@tag/t", "ms a:1 1 c Pt\r\na\r\n"),
    ] {
        let mark = format!("md {name} I\r\n");
        let server = with_keys();
        run(
            &server.address(),
            &[
                (store, "HD c<old>\r\n"),
                (&mark, "HD\r\n"),
                ("ms a:1 1 C<old>\r\nb\r\n", "EX\r\n"),
                ("mg a:1 v c\r\n", "VA 1 c<stale> X W\r\na\r\n"),
                ("mg a:1 v c\r\n", "VA 1 c<stale> Z X\r\na\r\n"),
                ("gets a:1\r\n", "VALUE a:1 0 1 <stale>\r\na\r\nEND\r\n"),
                // Another invalidation lets another client win.
                (&mark, "HD\r\n"),
                ("mg a:1 v c\r\n", "VA 1 c<again> X W\r\na\r\n"),
                ("ms a:1 1 C<stale>\r\nb\r\n", "EX\r\n"),
                ("ms a:1 1 C<stale> I\r\nb\r\n", "HD\r\n"),
                ("mg a:1 v\r\n", "VA 1 Z X\r\nb\r\n"),
                // Recaching clears it.
                ("ms a:1 1\r\nc\r\nmg a:1 v\r\n", "HD\r\nVA 1\r\nc\r\n"),
                ("mg a:2 v\r\n", "EN\r\n"),
            ],
        );
    }
}

#[test]
fn upkeep_marks_what_nobody_looks_up() {
    let server = with_keys();
    let mut client = server.client();
    for number in 0..100 {
        client.ask(format!("set a:{number} 0 0 1\r\nx\r\n"), "STORED\r\n");
    }
    client.ask("md @prefix/a: I\r\n", "HD\r\n");
    wait_until("nothing is outstanding", || {
        let stats = stats(&mut client, " invalidation");
        (stats["invalidation_outstanding"] == "0").then_some(())
    });
    let own = stats(&mut client, " invalidation");
    assert_eq!(
        (&*own["stale_invalidations"], &*own["invalidated_stale"]),
        ("1", "100")
    );
    client.ask("mg a:7 v\r\n", "VA 1 X W\r\nx\r\n");
}
