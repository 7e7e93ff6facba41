//! Details of memcached 1.6.45 that its documents leave open, found by
//! comparing both servers on random input (`tests/differential`). Each test is
//! a table of requests and replies: numbers at and beyond their limits, the
//! order in which errors are reported, odd spellings, and failing commands that
//! are counted.

use test_support::client::Client;
use test_support::memcached::Memcached;
use test_support::script::{self, Step};
use test_support::server::Server;

const BAD: &str = "CLIENT_ERROR bad command line format\r\n";
const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format\r\n";
const BAD_FLAG: &str = "CLIENT_ERROR invalid flag\r\n";
const BAD_KEY: &str = "CLIENT_ERROR error decoding key\r\n";
const BAD_MODE: &str = "CLIENT_ERROR invalid mode for ms M token\r\n";
const BAD_EXPTIME: &str = "CLIENT_ERROR invalid exptime argument\r\n";
const BAD_DELTA: &str = "CLIENT_ERROR invalid numeric delta argument\r\n";
const TWICE: &str = "CLIENT_ERROR duplicate flag\r\n";
const TOO_MANY: &str = "CLIENT_ERROR options flags are too long\r\n";
const OPAQUE_TOO_LONG: &str = "CLIENT_ERROR opaque token too long\r\n";
const MA_BAD: &str = "CLIENT_ERROR invalid or duplicate flag\r\n";
const STORED: &str = "STORED\r\n";

/// Runs the steps against rustcached, and against memcached if
/// `RUSTCACHED_PEER` names the target release.
fn check(steps: &[Step<'_>]) {
    if std::env::var_os("RUSTCACHED_PEER").is_some()
        && let Some(memcached) = Memcached::start_or_skip(&[])
        && memcached.version() >= [1, 6, 45]
    {
        script::run(&memcached.address(), steps);
    }
    script::check(steps);
}

/// Numbers that the tokenizer refuses although the C library would read them.
const STRICTLY_WRONG: [&str; 6] = ["+1", "0x10", "1x", "\t1", "1\t", "18446744073709551616"];

#[test]
fn times_of_storage_commands_count_32_bits() {
    let kept = [
        "0",
        "4294967296",
        "10000",
        "2592000",
        "+10000",
        "10000\t",
        "2147483647",
    ];
    let over = [
        "-1",
        "4294967295",
        "4102444800",
        "2147483648",
        "2592001",
        "9223372036854775807",
        "-2147483648",
    ];
    // A refused line leaves the old item of `replace` and `cas` alone.
    let refused = [
        "9223372036854775808",
        "-9223372036854775809",
        "x",
        "1x",
        "0x10",
        "-",
        "+",
    ];
    for verb in ["set", "add", "replace", "cas"] {
        let old = match verb {
            "set" | "add" => "END\r\n",
            _ => "VALUE k 1 1\r\nx\r\nEND\r\n",
        };
        for (times, stored, want) in [
            (&kept, STORED, "VALUE k 5 2\r\nhi\r\nEND\r\n"),
            (&over, STORED, "END\r\n"),
            (&refused, BAD, old),
        ] {
            for time in times {
                let server = Server::start();
                let mut client = server.client();
                let unique = prepare(&mut client, verb);
                let line = format!("{verb} k 5 {time} 2{unique}\r\nhi\r\n");
                client.ask(line, stored);
                client.ask("get k\r\n", want);
            }
        }
    }
}

/// Stores what `verb` needs, and returns the CAS value to send with it.
fn prepare(client: &mut Client, verb: &str) -> String {
    if verb != "set" && verb != "add" {
        client.ask("set k 1 0 1\r\nx\r\n", STORED);
    }
    if verb != "cas" {
        return String::new();
    }
    let answer = String::from_utf8(client.answer("mg k c\r\n")).expect("ASCII");
    format!(" {}", answer.trim_end().trim_start_matches("HD c"))
}

#[test]
fn joining_reads_its_time_and_ignores_it() {
    for verb in ["append", "prepend"] {
        check(&[
            ("set k 0 0 1\r\na\r\n", STORED),
            (&format!("{verb} k 0 4294967295 1\r\na\r\n"), STORED),
            (&format!("{verb} k 0 4102444800 1\r\na\r\n"), STORED),
            (&format!("{verb} k 0 99999999999999999999 1\r\na\r\n"), BAD),
            ("get k\r\n", "VALUE k 0 3\r\naaa\r\nEND\r\n"),
        ]);
    }
}

#[test]
fn other_times_have_32_bits_or_are_refused() {
    for wrong in [
        "4294967295",
        "2147483648",
        "-2147483649",
        "+1",
        "0x10",
        "1x",
        "000000000010",
    ] {
        check(&[
            ("set k 0 0 1\r\na\r\n", STORED),
            (&format!("touch k {wrong}\r\n"), BAD_EXPTIME),
            (&format!("touch k {wrong} noreply\r\n"), ""),
            (&format!("gat {wrong} k\r\n"), BAD_EXPTIME),
            (&format!("gats {wrong} k\r\n"), BAD_EXPTIME),
            (&format!("flush_all {wrong}\r\n"), BAD_EXPTIME),
            (&format!("mg k T{wrong}\r\n"), BAD_TOKEN),
            (&format!("mg k N{wrong}\r\n"), BAD_TOKEN),
            (&format!("mg k R{wrong}\r\n"), BAD_TOKEN),
            (&format!("md k T{wrong}\r\n"), BAD_TOKEN),
            (&format!("ma k T{wrong}\r\n"), MA_BAD),
            (&format!("ms k 1 T{wrong}\r\nb\r\n"), BAD_TOKEN),
            ("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n"),
        ]);
    }
    check(&[
        ("set k 0 100 1\r\na\r\n", STORED),
        ("touch k -\r\n", "TOUCHED\r\n"),
        ("mg k t\r\n", "HD t-1\r\n"),
        ("gat 00000002000 k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n"),
        ("mg k t\r\n", "HD t<2000|1999|1998>\r\n"),
    ]);
}

#[test]
fn a_flush_at_a_time_before_the_server_flushes_nothing() {
    check(&[
        ("set k 0 0 1\r\na\r\n", STORED),
        ("flush_all 2592001\r\n", "OK\r\n"),
        ("flush_all 100\r\n", "OK\r\n"),
        ("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n"),
        ("flush_all -2147483648\r\n", "OK\r\n"),
        ("get k\r\n", "END\r\n"),
    ]);
}

#[test]
fn an_expired_item_has_less_than_no_time_left() {
    check(&[
        ("set k 0 0 1\r\na\r\n", STORED),
        ("mg k t T-1\r\n", "HD t-1\r\n"),
        ("set k 0 0 1\r\na\r\n", STORED),
        ("mg k T-1 t\r\n", "HD t42949672<*>\r\n"),
        ("mg k\r\n", "EN\r\n"),
    ]);
}

#[test]
fn client_flags_count_32_bits() {
    for (flags, shown) in [
        ("4294967295", "4294967295"),
        ("4294967296", "0"),
        ("4294967301", "5"),
        ("18446744073709551615", "4294967295"),
        ("-18446744073709551615", "1"),
        ("+7", "7"),
    ] {
        check(&[
            (&format!("set k {flags} 0 1\r\na\r\n"), STORED),
            ("get k\r\n", &format!("VALUE k {shown} 1\r\na\r\nEND\r\n")),
        ]);
    }
    for wrong in ["-1", "18446744073709551616", "x", "0x10"] {
        check(&[
            (&format!("set k {wrong} 0 1\r\na\r\n"), BAD),
            ("get k\r\n", "END\r\n"),
        ]);
    }
    // White space and NUL end a number. White space before it is skipped.
    check(&[
        ("set k 7\08 0 1\r\na\r\n", STORED),
        ("set l \t 9 2 1\r\nab\r\n", STORED),
        ("set m \t9 0 1\r\na\r\n", STORED),
        (
            "get k m\r\n",
            "VALUE k 7 1\r\na\r\nVALUE m 9 1\r\na\r\nEND\r\n",
        ),
    ]);
}

#[test]
fn deltas_and_cas_values_are_digits() {
    for wrong in STRICTLY_WRONG
        .into_iter()
        .chain(["-1", "00000000000000000000001"])
    {
        check(&[
            ("set n 0 0 1\r\n1\r\n", STORED),
            (&format!("incr n {wrong}\r\n"), BAD_DELTA),
            (&format!("decr n {wrong} noreply\r\n"), ""),
            (&format!("cas n 0 0 1 {wrong}\r\n2\r\n"), BAD),
            (&format!("mg n C{wrong}\r\n"), BAD_TOKEN),
            (&format!("mg n E{wrong}\r\n"), BAD_TOKEN),
            (&format!("ma n D{wrong}\r\n"), MA_BAD),
            (&format!("ma n J{wrong}\r\n"), MA_BAD),
            (
                &format!("md n D{wrong}\r\n"),
                "CLIENT_ERROR invalid numeric delta value\r\n",
            ),
            (
                &format!("md n J{wrong}\r\n"),
                "CLIENT_ERROR invalid numeric initial value\r\n",
            ),
            (&format!("ms n 1 F{wrong}\r\n2\r\n"), BAD),
            ("get n\r\n", "VALUE n 0 1\r\n1\r\nEND\r\n"),
        ]);
    }
    check(&[
        ("set n 0 0 1\r\n1\r\n", STORED),
        ("incr n 0000000000000000000009\r\n", "10\r\n"),
        ("incr n 18446744073709551615\r\n", "9\r\n"),
    ]);
}

#[test]
fn faults_of_meta_commands_in_their_order() {
    let long_key = "k".repeat(251);
    let many = " k".repeat(19);
    let steps: Vec<(String, &str)> = vec![
        // Invalid flag characters are reported first, then the key, then the
        // count.
        (format!("mg {long_key} \x01\r\n"), BAD),
        (format!("mg {long_key}{many}\r\n"), BAD),
        (format!("mg k{many}\r\n"), TOO_MANY),
        (format!("mg k{many} !\r\n"), BAD),
        (format!("mg k{many} k !\r\n"), BAD),
        (format!("mg k{many} k k !\r\n"), TOO_MANY),
        ("mg k y !\r\n".into(), BAD),
        ("mg k \u{e4}\r\n".into(), BAD),
        ("mg k {\r\n".into(), BAD),
        ("mg k [\r\n".into(), BAD_FLAG),
        ("mg k 5\r\n".into(), BAD_FLAG),
        // Then the first unknown or duplicate flag, whatever its number is.
        ("mg k Tx y\r\n".into(), BAD_FLAG),
        ("mg k Tx v v\r\n".into(), TWICE),
        ("mg k v v y\r\n".into(), TWICE),
        ("mg k y v v\r\n".into(), BAD_FLAG),
        // Then the last bad argument, except for F, which keeps its own error.
        ("mg = b\r\n".into(), BAD_KEY),
        ("mg = b Tx\r\n".into(), BAD_TOKEN),
        ("mg = Tx b\r\n".into(), BAD_KEY),
        ("mg k T\r\n".into(), BAD_TOKEN),
        ("mg k F\r\n".into(), BAD),
        ("mg k Tx F\r\n".into(), BAD_TOKEN),
        ("mg k Fx T\r\n".into(), BAD_TOKEN),
        ("mg k Dx Tx\r\n".into(), BAD_TOKEN),
        (
            "mg k Tx Dx\r\n".into(),
            "CLIENT_ERROR invalid numeric delta value\r\n",
        ),
        // The mode is checked last, and only by ms and ma.
        ("ms k 1 MX Tx\r\na\r\n".into(), BAD_TOKEN),
        ("ms k 1 MX\r\na\r\n".into(), BAD_MODE),
        ("ms k 1 Mset\r\na\r\n".into(), BAD_MODE),
        ("ms k 1 M\r\na\r\n".into(), BAD_MODE),
        ("mg k MX\r\n".into(), "EN\r\n"),
        ("md k MX\r\n".into(), "NF\r\n"),
        (
            "ma k MX\r\n".into(),
            "CLIENT_ERROR invalid mode for ma M token\r\n",
        ),
        ("ma k MX v v\r\n".into(), MA_BAD),
        (format!("ma {long_key}\r\n"), MA_BAD),
        (format!("ma k{many}\r\n"), MA_BAD),
        ("ma k \x01\r\n".into(), BAD),
        ("ma\r\n".into(), BAD),
    ];
    let steps: Vec<Step<'_>> = steps
        .iter()
        .map(|(send, want)| (&send[..], *want))
        .collect();
    check(&steps);
}

#[test]
fn a_block_behind_a_bad_line_is_skipped_or_not() {
    for (line, skipped) in [
        ("ms k 2 y", true),
        ("ms k 2 v v", true),
        ("ms k 2 Tx", true),
        ("ms k 2 MX", true),
        ("ms k 2 v \x01", false),
        ("ms k 2 !", false),
        ("ms k 2x", false),
        ("ms k +2", false),
        ("ms k 0x2", false),
        ("ms k 2147483646", false),
        ("set k x 0 2", true),
        ("set k 0 0 +2", false),
        ("set k 0 0 2x", false),
        ("set k 0 0 noreply", false),
        ("cas k 0 0 2", true),
        ("cas k 0 0 2 noreply x", true),
    ] {
        let answer = Server::start().client().answer(format!("{line}\r\nhi\r\n"));
        let lines = answer.split(|byte| *byte == b'\n').count() - 1;
        // Two bytes and a CRLF are too short for any command.
        assert_eq!(lines, if skipped { 1 } else { 2 }, "{line:?}");
    }
}

#[test]
fn a_fifth_token_of_set_is_passed_over() {
    check(&[
        ("set k 0 0 1 5\r\na\r\n", STORED),
        ("set k 0 0 1 5 noreply\r\nb\r\n", ""),
        ("set k 0 0 1 noreply 5\r\nc\r\n", STORED),
        ("set k 0 0 - noreply\r\n\r\n", ""),
        ("get k\r\n", "VALUE k 0 0\r\n\r\nEND\r\n"),
    ]);
}

#[test]
fn opaques_over_their_limit_come_late() {
    let long = format!("O{}", "x".repeat(32));
    check(&[
        // The item is created, and changed by the flags before the opaque.
        (&format!("mg a T100 {long} N50\r\n"), OPAQUE_TOO_LONG),
        ("mg a t s\r\n", "HD t<100|99|98> s0\r\n"),
        (&format!("mg a {long} T200 R300\r\n"), OPAQUE_TOO_LONG),
        ("mg a t\r\n", "HD t<100|99|98>\r\n"),
        (&format!("mg none {long} q\r\n"), OPAQUE_TOO_LONG),
        (&format!("ma n N0 J5 {long}\r\n"), OPAQUE_TOO_LONG),
        (&format!("ma n {long} T-1 q\r\n"), OPAQUE_TOO_LONG),
        ("mg n v t\r\n", "VA 1 t-1\r\n6\r\n"),
        (
            &format!("ma a {long}\r\n"),
            "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
        ),
        (&format!("md n {long}\r\n"), OPAQUE_TOO_LONG),
        (&format!("ms n 1 {long} q\r\n7\r\n"), OPAQUE_TOO_LONG),
        (&format!("ms n 1 {long} MX\r\n7\r\n"), BAD_MODE),
        ("mg n v\r\n", "VA 1\r\n6\r\n"),
    ]);
}

#[test]
fn the_order_of_flags_decides() {
    check(&[
        ("mg a N100 T200 t\r\n", "HD t<200|199|198> W\r\n"),
        ("mg b T200 t N100\r\n", "HD t<200|199|198> W\r\n"),
        ("mg b t\r\n", "HD t<100|99|98> Z\r\n"),
        ("ma c T200 N100 t\r\n", "HD t<100|99|98>\r\n"),
        ("ma d N100 t T200\r\n", "HD t<100|99|98>\r\n"),
        ("mg d t\r\n", "HD t<200|199|198>\r\n"),
        ("set e 0 1000 1\r\nx\r\n", STORED),
        ("mg e R300 T200\r\n", "HD\r\n"),
        ("mg e T200 R300\r\n", "HD W\r\n"),
    ]);
}

#[test]
fn cas_values_that_clients_choose() {
    check(&[
        ("ms k 1 E77 c\r\n1\r\n", "HD c77\r\n"),
        // E with a changed TTL has no effect. E0 makes ms assign a CAS value,
        // while ma stores 0.
        ("mg k T100 E88 c\r\n", "HD c77\r\n"),
        ("ma k E99 c v\r\n", "VA 1 c99\r\n2\r\n"),
        ("mg new N0 E55 c\r\n", "HD c55 W\r\n"),
        ("md k I E66\r\n", "HD\r\n"),
        ("mg k c\r\n", "HD c66 X W\r\n"),
        ("ms zero 1 E0 c\r\n1\r\n", "HD c<z>\r\n"),
        ("ma zero E0 c\r\n", "HD c0\r\n"),
        ("cas zero 0 0 1 0\r\n5\r\n", "EXISTS\r\n"),
        ("ms zero 1 C0\r\n5\r\n", "EX\r\n"),
        ("md zero C0\r\n", "HD\r\n"),
    ]);
}

#[test]
fn a_longer_number_keeps_what_ma_asked_for() {
    // memcached sets T and E on the item that the longer number replaces.
    script::check(&[
        ("set n 0 0 1\r\n9\r\n", STORED),
        ("ma n T100 E77 c v\r\n", "VA 2 c77\r\n10\r\n"),
        ("mg n t c\r\n", "HD t<100|99|98> c77\r\n"),
        ("set n 0 0 1\r\n9\r\n", STORED),
        ("ma n T-1 v\r\n", "VA 2\r\n10\r\n"),
        ("mg n\r\n", "EN\r\n"),
    ]);
}

#[test]
fn base64_keys_are_read_leniently() {
    for (spelt, key) in [
        ("Zm9v", "foo"),
        ("YQ==", "a"),
        ("YR==", "a"),
        ("Zm-9v", "foo"),
        ("YQ==YQ==", "a"),
        ("YWI=", "ab"),
        ("Y=I=", "`"),
    ] {
        check(&[
            (
                &format!("mg {spelt} b k\r\n"),
                &format!("EN k{} b\r\n", encoded(key)),
            ),
            (&format!("set {key} 0 0 1\r\nx\r\n"), STORED),
            (&format!("mg {spelt} b v\r\n"), "VA 1\r\nx\r\n"),
            (&format!("md {spelt} b q\r\n"), ""),
        ]);
    }
    for wrong in ["=", "====", "Z===", "Zm9", "-", "Zm9vY"] {
        check(&[(&format!("mg {wrong} b\r\n"), BAD_KEY)]);
    }
}

fn encoded(key: &str) -> String {
    let mut out = Vec::new();
    rustcached::protocol::meta::key::encode_key(key.as_bytes(), &mut out);
    String::from_utf8(out).expect("base64 is ASCII")
}

#[test]
fn keys_from_base64_are_shown_so_after_ms_or_where_they_break_lines() {
    check(&[
        ("ms Zm9v 1 b\r\n1\r\n", "HD\r\n"),
        ("mg foo k\r\n", "HD kZm9v b\r\n"),
        ("ms Zm9v 1 b MA\r\n2\r\n", "HD\r\n"),
        ("mg foo k\r\n", "HD kfoo\r\n"),
        ("mg YmFy b N0 k\r\n", "HD kbar W\r\n"),
        ("ma YmF6 b N0\r\n", "HD\r\n"),
        ("mg baz k\r\n", "HD kbaz\r\n"),
    ]);
    // The keys "a b" and "a\nb": memcached prints them unencoded.
    script::check(&[
        ("mg YSBi b N0 k\r\n", "HD kYSBi b W\r\n"),
        ("ma YQpi b N0 k\r\n", "HD kYQpi b\r\n"),
        ("mg YQpi b k\r\n", "HD kYQpi b\r\n"),
    ]);
}

#[test]
fn meta_debug_with_more_behind_its_key() {
    check(&[
        ("me\r\n", BAD),
        ("me k\r\n", "EN\r\n"),
        ("me k \x01\r\n", BAD),
        ("me k x y z\r\n", "EN\r\n"),
        ("set foo 0 0 1\r\n1\r\n", STORED),
        ("me foo x y\r\n", "ME foo <*>\r\n"),
        ("me Zm9v b\r\n", "EN\r\n"),
        ("me Zm9v b b\r\n", "ME foo <*>\r\n"),
        ("me = b b\r\n", BAD),
    ]);
}

#[test]
fn lines_spelt_oddly() {
    let many = " x".repeat(20);
    check(&[
        ("noreply\r\n", ""),
        ("noreply noreply\r\n", ""),
        ("x noreply\r\n", ""),
        ("x noreply y\r\n", "ERROR\r\n"),
        ("delete k 0 noreply noreply\r\n", ""),
        ("delete k noreply 0\r\n", "NOT_FOUND\r\n"),
        ("delete noreply\r\n", ""),
        // Administrative commands may follow spaces, other commands may not.
        (" flush_all\r\n", "OK\r\n"),
        ("  flush_all noreply\r\n", ""),
        (" verbosity 0\r\n", "OK\r\n"),
        (" get k\r\n", "ERROR\r\n"),
        (" watch\r\n", "ERROR\r\n"),
        (" version\r\n", "ERROR\r\n"),
        (" noreply\r\n", ""),
        ("    \r\n", "ERROR\r\n"),
        (&format!("{}\r\n", " ".repeat(2000)), "ERROR\r\n"),
        // Words behind the 23rd token are ignored.
        (&format!("delete k{many} noreply\r\n"), ""),
        (&format!("delete k{many} x noreply\r\n"), "NOT_FOUND\r\n"),
        (&format!("x k{many} noreply\r\n"), ""),
        (&format!("x k{many} x noreply\r\n"), "ERROR\r\n"),
        ("shutdown g\r\n", "SERVER_ERROR: shutdown not enabled\r\n"),
        (
            "slabs automove window 2\r\n",
            "CLIENT_ERROR automove window too low or too high\r\n",
        ),
        ("lru tune 10 20 0.1\t 2.\r\r\n", "OK\r\n"),
    ]);
}

#[test]
fn lines_too_long_end_the_connection() {
    const WHOLE_MAX_BYTES: usize = 16 * 1024;
    let line = |front: &str, len: usize| {
        let filler = " x".repeat(len);
        format!("{}\r\n", &format!("{front}{filler}")[..len - 2])
    };
    let server = Server::start();
    for (front, want) in [
        ("gat 0", "END\r\n"),
        ("delete k", "NOT_FOUND\r\n"),
        ("", "ERROR\r\n"),
        ("x", "ERROR\r\n"),
    ] {
        let mut client = server.client();
        client.ask(line(front, WHOLE_MAX_BYTES), want);
        client.send(line(front, WHOLE_MAX_BYTES + 1));
        client.expect_closed("");
    }
    let mut client = server.client();
    client.ask(line("get", 3 * WHOLE_MAX_BYTES), "END\r\n");
    // A line that begins with spaces is an error at any length, even if the
    // command permits long lines.
    client.ask(line("  get", WHOLE_MAX_BYTES / 2), "ERROR\r\n");
    client.send(&line("  get", 3000)[..2500]);
    client.ask(&line("  get", 3000)[2500..], "ERROR\r\n");
}
