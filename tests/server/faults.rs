//! Regression tests for bugs of memcached and of this server's predecessor.
//! Each test is named after its bug. Bugs of the binary protocol, UDP and TLS
//! are tested with their transports.

use test_support::client::Client;
use test_support::program::Program;
use test_support::script::check;
use test_support::server::Server;

const BAD: &str = "CLIENT_ERROR bad command line format\r\n";

#[test]
fn cve_2009_1255_and_1494_stats_do_not_show_the_process() {
    check(&[
        ("stats maps\r\n", "ERROR\r\n"),
        ("stats malloc\r\n", "ERROR\r\n"),
    ]);
}

#[test]
fn cve_2009_2415_absurd_lengths() {
    check(&[
        ("set k 0 0 4294967295\r\n", BAD),
        ("set k 0 0 2147483647\r\n", BAD),
        ("set k 0 0 -2147483648\r\n", BAD),
        ("set k 0 0 -1\r\n", BAD),
        ("set k 0 0 18446744073709551615\r\n", BAD),
        ("ms k 4294967295\r\n", BAD),
        ("ms k -1\r\n", BAD),
        ("get k\r\n", "END\r\n"),
    ]);
}

#[test]
fn cve_2009_2415_a_promised_gigabyte_takes_no_memory() {
    let (mut program, address) = Program::start(&[]);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&address)).collect();
    for client in &mut clients {
        client.send("set k 0 0 1073741824\r\nabc");
    }
    program.assert_answers(&address);
    let mebibytes = program.resident_bytes() >> 20;
    assert!(mebibytes < 100, "{mebibytes} MiB resident");
}

#[test]
fn memcached_bug_102_nul_bytes_piped_in() {
    let server = Server::start();
    let mut client = server.client();
    client.send([0; 1500]);
    client.send("\r\n");
    let answer = client.answer("get k\r\n");
    assert!(
        answer.ends_with(b"\r\nEND\r\n"),
        "{}",
        answer.escape_ascii()
    );
    let mut client = server.client();
    client.send([0; 100_000]);
    client.expect_closed("");
    server.client().ask("get k\r\n", "END\r\n");
}

#[test]
fn cve_2010_1152_an_endless_line_is_cut_off() {
    let (mut program, address) = Program::start(&[]);
    let mut client = Client::connect(&address);
    let refused = (0..2000).any(|_| client.try_send([b'a'; 65_536]).is_err());
    assert!(refused, "128 MiB of one line were taken");
    let mebibytes = program.resident_bytes() >> 20;
    assert!(mebibytes < 100, "{mebibytes} MiB resident");
    program.assert_answers(&address);
}

#[test]
fn cve_2013_0179_and_7290_and_7291_keys_are_logged_within_bounds() {
    let (program, address) = Program::start(&["-vv"]);
    let mut client = Client::connect(&address);
    let odd: Vec<u8> = (1..=250u8)
        .map(|byte| if byte <= b' ' { 27 } else { byte })
        .collect();
    for verb in ["get ", "delete ", "mg ", "xyzzy "] {
        client.answer([verb.as_bytes(), &odd, b"\r\n"].concat());
    }
    client.answer([b"set ".as_slice(), &odd, b" 0 0 2\r\nhi\r\n"].concat());
    client.ask("get k\r\n", "END\r\n");
    program.signal("TERM");
    let ended = program.wait();
    assert!(ended.status.success());
    for logged in [
        r" get \x1b\x1b",
        r" delete \x1b\x1b",
        r" mg \x1b\x1b",
        r" store \x1b\x1b",
    ] {
        assert!(ended.errors.contains(logged), "{logged}: {}", ended.errors);
    }
    assert!(
        !ended.errors.contains('\u{1b}'),
        "control bytes reached the terminal"
    );
}

#[test]
fn cve_2018_1000127_one_key_65_thousand_times() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set k 0 0 1\r\na\r\n", "STORED\r\n");
    let times = 70_000;
    let one = "VALUE k 0 1\r\na\r\n";
    client.ask(
        format!("get{}\r\n", " k".repeat(times)),
        format!("{}END\r\n", one.repeat(times)),
    );
    client.ask("delete k\r\nget k\r\n", "DELETED\r\nEND\r\n");
}

#[test]
fn cve_2019_11596_lru_without_arguments() {
    check(&[
        ("lru\r\n", "ERROR\r\n"),
        ("lru mode\r\n", "ERROR\r\n"),
        ("lru temp_ttl\r\n", "ERROR\r\n"),
        ("lru tune\r\n", "ERROR\r\n"),
        ("lru tune 1 2\r\n", "ERROR\r\n"),
        ("lru x y z\r\n", "ERROR\r\n"),
    ]);
}

#[test]
fn cve_2019_15026_the_address_of_a_unix_client() {
    let server = Server::start_unix();
    let answer = server.client().answer("stats conns\r\n");
    assert!(answer.ends_with(b"END\r\n"), "{}", answer.escape_ascii());
    assert!(!answer.contains(&0), "{}", answer.escape_ascii());
}

#[test]
fn cve_2020_22570_crafted_meta_commands() {
    let server = Server::start();
    let mut client = server.client();
    for line in [
        "mg",
        "mg ",
        "mg  ",
        "ms",
        "ms ",
        "ms k",
        "ms k ",
        "ms k S",
        "md",
        "ma",
        "me",
        "me  ",
        "mg k \x7f",
        "mg k \x01",
        "mg k O",
        "mg k MMMM",
        "ma k M",
        "ma k N J D",
        "mg k b",
        "ms k 0x1",
        "ms k 1e3",
        "me k b",
        "me b b",
    ] {
        let answer = client.answer(format!("{line}\r\n"));
        assert!(answer.ends_with(b"\r\n"), "{line:?}");
    }
    client.ask("get k\r\n", "END\r\n");
}

#[test]
fn cve_2023_46852_many_blanks_after_get() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set k 0 0 1\r\na\r\n", "STORED\r\n");
    for blanks in [100, 1000, 2000, 5000, 70_000] {
        let line = format!("get{}k\r\n", " ".repeat(blanks));
        client.ask(line, "VALUE k 0 1\r\na\r\nEND\r\n");
    }
}

#[test]
fn cve_2023_46853_bare_line_feeds() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set k 0 0 1\na\r\n", "STORED\r\n");
    client.ask("get k\nget k\n", "VALUE k 0 1\r\na\r\nEND\r\n".repeat(2));
    client.ask("mg k v\nmd k\n", "VA 1\r\na\r\nHD\r\n");
}

#[test]
fn a_get_error_frees_what_was_found_before_it() {
    // [1.6.13] use after free when a multiget contained an error.
    let server = Server::start();
    let mut client = server.client();
    let long = "k".repeat(251);
    client.ask("set a 0 0 1\r\nA\r\n", "STORED\r\n");
    for _ in 0..200 {
        client.ask(format!("get a a a {long} a\r\n"), BAD);
    }
    client.ask(
        "get a\r\ndelete a\r\n",
        "VALUE a 0 1\r\nA\r\nEND\r\nDELETED\r\n",
    );
}

#[test]
fn pipelined_sets_survive_partial_reads() {
    // [1.6.39] sets behind a set that was read in parts were lost.
    let server = Server::start();
    let mut client = server.client();
    let value = "v".repeat(40_000);
    let set = |number: usize| format!("set k{number} 0 0 {}\r\n{value}\r\n", value.len());
    let all: String = (0..60).map(set).collect();
    client.ask(all, "STORED\r\n".repeat(60));
    for number in 0..60 {
        client.ask(format!("mg k{number} s\r\n"), "HD s40000\r\n");
    }
}

#[test]
fn slabs_reassign_with_bad_classes() {
    // [1.6.42] read outside the table of slab classes.
    let server = Server::start();
    let mut client = server.client();
    for classes in [
        "0 0",
        "-1 -1",
        "1 999",
        "999 1",
        "64 65",
        "2147483647 1",
        "x y",
    ] {
        let answer = client.answer(format!("slabs reassign {classes}\r\n"));
        assert!(answer.ends_with(b"\r\n"), "{}", answer.escape_ascii());
    }
    for line in [
        "slabs",
        "slabs reassign",
        "slabs reassign 1",
        "slabs automove",
    ] {
        let answer = client.answer(format!("{line}\r\n"));
        assert!(answer.ends_with(b"\r\n"), "{}", answer.escape_ascii());
    }
    client.ask("get k\r\n", "END\r\n");
}

#[test]
fn an_oversized_opaque_changes_nothing() {
    // [1.6.45] leaked or corrupted the reference count.
    const TOO_LONG: &str = "CLIENT_ERROR opaque token too long\r\n";
    let server = Server::start();
    let mut client = server.client();
    let opaque = format!("O{}", "o".repeat(40));
    client.ask("ms k 1\r\na\r\n", "HD\r\n");
    for _ in 0..100 {
        client.ask(format!("mg k v {opaque}\r\n"), TOO_LONG);
        client.ask(format!("ms k 1 {opaque}\r\nb\r\n"), TOO_LONG);
        client.ask(format!("md k {opaque}\r\n"), TOO_LONG);
    }
    client.ask("mg k v\r\nmd k\r\nmg k\r\n", "VA 1\r\na\r\nHD\r\nEN\r\n");
}

#[test]
fn lines_of_blanks() {
    // [1.6.45] a line of spaces alone ran a command.
    let server = Server::start();
    let mut client = server.client();
    client.ask("set k 0 0 1\r\na\r\n", "STORED\r\n");
    for blanks in [2, 3, 10, 100, 1000] {
        client.ask(format!("{}\r\n", " ".repeat(blanks)), "ERROR\r\n");
    }
    client.ask("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n");
}

#[test]
fn a_flag_without_its_number_at_the_end_of_the_line() {
    // [1.6.45] parsed the bytes behind the line.
    let server = Server::start();
    let mut client = server.client();
    client.ask("ms k 1\r\na\r\n", "HD\r\n");
    for flag in ["T", "N", "R", "C", "E"] {
        let line = format!("mg k v {flag}\r\n17\r\n");
        let want = "CLIENT_ERROR bad token in command line format\r\nERROR\r\n";
        client.ask(line, want);
    }
    client.ask("mg k t\r\n", "HD t-1\r\n");
}

#[test]
fn the_table_of_prefixes_is_bounded() {
    // [1.6.45] `stats detail` kept every prefix it ever saw.
    let (program, address) = Program::start(&["-m", "64"]);
    let mut client = Client::connect(&address);
    client.ask("stats detail on\r\n", "OK\r\n");
    let padding = "p".repeat(200);
    for batch in 0..200 {
        let line: String = (0..1000)
            .map(|number| format!(" {padding}{batch}-{number}:x"))
            .collect();
        client.ask(format!("get{line}\r\n"), "END\r\n");
    }
    let mebibytes = program.resident_bytes() >> 20;
    assert!(mebibytes < 120, "{mebibytes} MiB resident");
}

#[test]
fn automove_windows_of_any_size() {
    // [1.6.45] an automove window of 0 or a huge one crashed the server.
    let server = Server::start();
    let mut client = server.client();
    let refused = "CLIENT_ERROR automove window too low or too high\r\n";
    let malformed = "CLIENT_ERROR bad command line format\r\n";
    for (window, want) in [
        ("0", refused),
        ("2", refused),
        ("3", "OK\r\n"),
        ("1800", "OK\r\n"),
        ("1801", refused),
        ("4294967295", refused),
        ("4294967296", malformed),
        ("x", malformed),
        ("", malformed),
    ] {
        client.ask(format!("slabs automove window {window}\r\n"), want);
    }
    client.ask("get k\r\n", "END\r\n");
}

#[test]
fn a_failed_set_leaves_no_stale_value() {
    let server = Server::start();
    let mut client = server.client();
    let large = "x".repeat(2_000_000);
    client.ask("set k 0 0 3\r\nold\r\n", "STORED\r\n");
    client.ask(
        format!("set k 0 0 {}\r\n{large}\r\n", large.len()),
        "SERVER_ERROR object too large for cache\r\n",
    );
    client.ask("get k\r\n", "END\r\n");
}

#[test]
fn browsers_cannot_be_made_to_send_commands() {
    let server = Server::start();
    for verb in ["GET", "POST", "PUT", "OPTIONS"] {
        let mut client = server.client();
        client.send(format!("{verb} /x HTTP/1.1\r\nset evil 0 0 1\r\nx\r\n"));
        client.expect_closed("");
        server.client().ask("get evil\r\n", "END\r\n");
    }
    // A `get` of keys that look like a request is a command.
    let get = "get /x HTTP/1.1\r\nset good 0 0 1\r\nx\r\n";
    server.client().ask(get, "END\r\nSTORED\r\n");
}

#[test]
fn ancestor_short_writes_lose_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let value = "v".repeat(900_000);
    let one = format!("VALUE k 0 {}\r\n{value}\r\n", value.len());
    client.ask(
        format!("set k 0 0 {}\r\n{value}\r\n", value.len()),
        "STORED\r\n",
    );
    client.ask(
        "get k k k k k k k k k k\r\n",
        format!("{}END\r\n", one.repeat(10)),
    );
}

#[test]
fn ancestor_line_endings_are_exact() {
    check(&[
        ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
        ("gets k\r\n", "VALUE k 0 1 <cas>\r\na\r\nEND\r\n"),
    ]);
}

#[test]
fn ancestor_pipelined_commands_do_not_wait_for_more() {
    let server = Server::start();
    let mut client = server.client();
    client.send("get a\r\nget b\r\nget c\r\n");
    client.expect("END\r\nEND\r\nEND\r\n");
}

#[test]
fn ancestor_key_length() {
    let server = Server::start();
    let mut client = server.client();
    for (length, want) in [(250, "END\r\n"), (251, BAD), (255, BAD), (256, BAD)] {
        client.ask(format!("get {}\r\n", "k".repeat(length)), want);
    }
}

#[test]
fn ancestor_times_to_live() {
    check(&[
        ("set month 0 2592000 1\r\na\r\n", "STORED\r\n"),
        ("set past 0 2592001 1\r\na\r\n", "STORED\r\n"),
        ("set gone 0 -1 1\r\na\r\n", "STORED\r\n"),
        ("get month past gone\r\n", "VALUE month 0 1\r\na\r\nEND\r\n"),
    ]);
}

#[test]
fn ancestor_version_is_three_numbers() {
    let server = Server::start();
    let answer = server.client().answer("version\r\n");
    let text = String::from_utf8(answer).expect("a version is ASCII");
    let version = text
        .strip_prefix("VERSION ")
        .expect("a version line")
        .trim_end();
    let numbers: Vec<&str> = version.split('.').collect();
    assert_eq!(numbers.len(), 3, "{version}");
    assert!(
        numbers.iter().all(|number| number.parse::<u32>().is_ok()),
        "{version}"
    );
}
