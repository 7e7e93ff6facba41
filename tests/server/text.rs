//! Classic text protocol, command by command: the replies of memcached 1.6.45,
//! byte for byte, however the stream is cut.

use test_support::script::check;
use test_support::server::Server;

/// Reply to a line with missing or wrong arguments.
const BAD: &str = "CLIENT_ERROR bad command line format\r\n";

#[test]
fn set_and_get() {
    check(&[
        ("get k\r\n", "END\r\n"),
        ("set k 5 0 2\r\nhi\r\n", "STORED\r\n"),
        ("get k\r\n", "VALUE k 5 2\r\nhi\r\nEND\r\n"),
        ("set k 0 0 0\r\n\r\n", "STORED\r\n"),
        ("get k\r\n", "VALUE k 0 0\r\n\r\nEND\r\n"),
        ("set k 4294967295 0 7\r\na\r\nb\r\nc\r\n", "STORED\r\n"),
        (
            "get k\r\n",
            "VALUE k 4294967295 7\r\na\r\nb\r\nc\r\nEND\r\n",
        ),
        ("set k 0 0 1 surplus words\r\nx\r\n", "STORED\r\n"),
        ("get k\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n"),
    ]);
}

#[test]
fn get_of_many_keys() {
    check(&[
        ("set a 1 0 1\r\nA\r\n", "STORED\r\n"),
        ("set c 3 0 3\r\nCCC\r\n", "STORED\r\n"),
        (
            "get a b c a\r\n",
            "VALUE a 1 1\r\nA\r\nVALUE c 3 3\r\nCCC\r\nVALUE a 1 1\r\nA\r\nEND\r\n",
        ),
        ("get b d e\r\n", "END\r\n"),
        (
            "get  a   c  \r\n",
            "VALUE a 1 1\r\nA\r\nVALUE c 3 3\r\nCCC\r\nEND\r\n",
        ),
        (
            "gets a b c\r\n",
            "VALUE a 1 1 <a>\r\nA\r\nVALUE c 3 3 <c>\r\nCCC\r\nEND\r\n",
        ),
        ("gets c\r\n", "VALUE c 3 3 <c>\r\nCCC\r\nEND\r\n"),
        ("get noreply\r\n", "END\r\n"),
    ]);
}

#[test]
fn get_needs_a_key() {
    check(&[
        ("get\r\n", BAD),
        ("get \r\n", BAD),
        ("get    \r\n", BAD),
        ("gets\r\n", BAD),
        ("gat\r\n", BAD),
        ("gat 10\r\n", BAD),
        ("gats 10\r\n", BAD),
        ("gat x k\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
        ("gats 1x k\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
    ]);
}

#[test]
fn gat_and_gats() {
    check(&[
        ("gat 100 a\r\n", "END\r\n"),
        ("set a 1 0 1\r\nA\r\n", "STORED\r\n"),
        ("set b 0 0 2\r\nBB\r\n", "STORED\r\n"),
        (
            "gat 100 a x b\r\n",
            "VALUE a 1 1\r\nA\r\nVALUE b 0 2\r\nBB\r\nEND\r\n",
        ),
        ("mg a t\r\n", "HD t<100|99|98>\r\n"),
        ("gats 0 a\r\n", "VALUE a 1 1 <a>\r\nA\r\nEND\r\n"),
        ("gets a\r\n", "VALUE a 1 1 <a>\r\nA\r\nEND\r\n"),
        ("mg a t\r\n", "HD t-1\r\n"),
        ("gat -1 a\r\n", "VALUE a 1 1\r\nA\r\nEND\r\n"),
        ("get a\r\n", "END\r\n"),
        ("get b\r\n", "VALUE b 0 2\r\nBB\r\nEND\r\n"),
    ]);
}

#[test]
fn add_and_replace() {
    check(&[
        ("replace k 0 0 1\r\na\r\n", "NOT_STORED\r\n"),
        ("add k 1 0 1\r\nb\r\n", "STORED\r\n"),
        ("add k 2 0 1\r\nc\r\n", "NOT_STORED\r\n"),
        ("get k\r\n", "VALUE k 1 1\r\nb\r\nEND\r\n"),
        ("replace k 3 0 2\r\ndd\r\n", "STORED\r\n"),
        ("get k\r\n", "VALUE k 3 2\r\ndd\r\nEND\r\n"),
        ("set k 0 -1 1\r\nx\r\n", "STORED\r\n"),
        ("replace k 0 0 1\r\ny\r\n", "NOT_STORED\r\n"),
        ("add k 0 0 1\r\nz\r\n", "STORED\r\n"),
        ("get k\r\n", "VALUE k 0 1\r\nz\r\nEND\r\n"),
    ]);
}

#[test]
fn append_and_prepend_keep_flags_and_ttl() {
    check(&[
        ("append k 0 0 1\r\na\r\n", "NOT_STORED\r\n"),
        ("prepend k 0 0 1\r\na\r\n", "NOT_STORED\r\n"),
        ("set k 7 100 3\r\nmid\r\n", "STORED\r\n"),
        ("append k 9 0 4\r\n-end\r\n", "STORED\r\n"),
        ("prepend k 9 0 6\r\nbegin-\r\n", "STORED\r\n"),
        ("get k\r\n", "VALUE k 7 13\r\nbegin-mid-end\r\nEND\r\n"),
        ("mg k t f\r\n", "HD t<100|99|98> f7\r\n"),
        ("append k 0 0 0\r\n\r\n", "STORED\r\n"),
        ("get k\r\n", "VALUE k 7 13\r\nbegin-mid-end\r\nEND\r\n"),
    ]);
}

#[test]
fn cas_stores_only_what_was_seen() {
    check(&[
        ("cas k 0 0 1 1\r\na\r\n", "NOT_FOUND\r\n"),
        ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
        ("gets k\r\n", "VALUE k 0 1 <one>\r\na\r\nEND\r\n"),
        ("cas k 3 0 2 <one>\r\nbb\r\n", "STORED\r\n"),
        ("cas k 3 0 2 <one>\r\ncc\r\n", "EXISTS\r\n"),
        ("gets k\r\n", "VALUE k 3 2 <two>\r\nbb\r\nEND\r\n"),
        ("cas k 0 0 1 <two> noreply\r\nc\r\n", ""),
        ("get k\r\n", "VALUE k 0 1\r\nc\r\nEND\r\n"),
        ("cas k 0 0 1 0\r\nd\r\n", "EXISTS\r\n"),
        ("cas k 0 0 1 18446744073709551615\r\nd\r\n", "EXISTS\r\n"),
        ("cas k 0 0 1 18446744073709551616\r\nd\r\n", BAD),
        ("cas k 0 0 1 x\r\nd\r\n", BAD),
        ("cas k 0 0 1\r\nd\r\n", BAD),
        ("get k\r\n", "VALUE k 0 1\r\nc\r\nEND\r\n"),
    ]);
}

#[test]
fn every_change_gives_a_larger_cas() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set k 0 0 1\r\n1\r\n", "STORED\r\n");
    let changes = [
        ("set k 0 0 1\r\n1\r\n", "STORED\r\n"),
        ("append k 0 0 1\r\n0\r\n", "STORED\r\n"),
        ("incr k 1\r\n", "11\r\n"),
        ("decr k 2\r\n", "9 \r\n"),
        ("ma k\r\n", "HD\r\n"),
        ("md k I\r\n", "HD\r\n"),
    ];
    let mut last = cas_of(&mut client);
    for (send, want) in changes {
        let want = want.replace("9 \r\n", "9\r\n");
        client.ask(send, want);
        let cas = cas_of(&mut client);
        assert!(cas > last, "{send:?}: {cas} after {last}");
        last = cas;
    }
}

fn cas_of(client: &mut test_support::client::Client) -> u64 {
    let answer = String::from_utf8(client.answer("mg k c\r\n")).expect("an ASCII answer");
    let number = answer.trim_start_matches("HD c");
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a CAS value")
}

#[test]
fn delete_takes_whatever_follows_the_key() {
    check(&[
        ("delete k\r\n", "NOT_FOUND\r\n"),
        ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
        ("delete k\r\n", "DELETED\r\n"),
        ("delete k 0\r\n", "NOT_FOUND\r\n"),
        ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
        ("delete k 0\r\n", "DELETED\r\n"),
        ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
        ("delete k 0 noreply\r\n", ""),
        ("get k\r\n", "END\r\n"),
        ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
        ("delete k noreply\r\n", ""),
        ("get k\r\n", "END\r\n"),
        ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
        ("delete k 5\r\n", "DELETED\r\n"),
        ("delete\r\n", BAD),
    ]);
}

#[test]
fn incr_and_decr() {
    check(&[
        ("incr n 1\r\n", "NOT_FOUND\r\n"),
        ("decr n 1\r\n", "NOT_FOUND\r\n"),
        ("set n 3 0 2\r\n10\r\n", "STORED\r\n"),
        ("incr n 5\r\n", "15\r\n"),
        ("decr n 5\r\n", "10\r\n"),
        ("incr n 0\r\n", "10\r\n"),
        ("incr n 90\r\n", "100\r\n"),
        ("get n\r\n", "VALUE n 3 3\r\n100\r\nEND\r\n"),
        ("decr n 1000\r\n", "0\r\n"),
        ("incr n 7 noreply\r\n", ""),
        ("decr n 1 noreply\r\n", ""),
        ("mg n s f\r\n", "HD s3 f3\r\n"),
    ]);
}

#[test]
fn decr_pads_in_place_with_blanks() {
    check(&[
        ("set n 0 0 2\r\n10\r\n", "STORED\r\n"),
        ("decr n 1\r\n", "9\r\n"),
        ("get n\r\n", "VALUE n 0 2\r\n9 \r\nEND\r\n"),
        ("decr n 4\r\n", "5\r\n"),
        ("get n\r\n", "VALUE n 0 2\r\n5 \r\nEND\r\n"),
        ("incr n 6\r\n", "11\r\n"),
        ("get n\r\n", "VALUE n 0 2\r\n11\r\nEND\r\n"),
        ("set n 0 0 4\r\n1000\r\n", "STORED\r\n"),
        ("decr n 999\r\n", "1\r\n"),
        ("get n\r\n", "VALUE n 0 4\r\n1   \r\nEND\r\n"),
        ("incr n 99999\r\n", "100000\r\n"),
        ("get n\r\n", "VALUE n 0 6\r\n100000\r\nEND\r\n"),
    ]);
}

#[test]
fn arithmetic_wraps_and_stops_at_zero() {
    check(&[
        ("set n 0 0 20\r\n18446744073709551615\r\n", "STORED\r\n"),
        ("incr n 1\r\n", "0\r\n"),
        (
            "incr n 18446744073709551615\r\n",
            "18446744073709551615\r\n",
        ),
        ("incr n 3\r\n", "2\r\n"),
        ("decr n 18446744073709551615\r\n", "0\r\n"),
        (
            "incr n 18446744073709551616\r\n",
            "CLIENT_ERROR invalid numeric delta argument\r\n",
        ),
        (
            "incr n -1\r\n",
            "CLIENT_ERROR invalid numeric delta argument\r\n",
        ),
        (
            "incr n x\r\n",
            "CLIENT_ERROR invalid numeric delta argument\r\n",
        ),
        (
            "decr n 1x\r\n",
            "CLIENT_ERROR invalid numeric delta argument\r\n",
        ),
        ("incr n\r\n", BAD),
        ("decr\r\n", BAD),
    ]);
}

#[test]
fn arithmetic_refuses_what_is_no_number() {
    const NON_NUMERIC: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
    check(&[
        ("set n 0 0 3\r\nabc\r\n", "STORED\r\n"),
        ("incr n 1\r\n", NON_NUMERIC),
        ("decr n 1\r\n", NON_NUMERIC),
        ("set n 0 0 0\r\n\r\n", "STORED\r\n"),
        ("incr n 1\r\n", NON_NUMERIC),
        ("set n 0 0 2\r\n1x\r\n", "STORED\r\n"),
        ("incr n 1\r\n", NON_NUMERIC),
        ("set n 0 0 20\r\n18446744073709551616\r\n", "STORED\r\n"),
        ("incr n 1\r\n", NON_NUMERIC),
        ("set n 0 0 21\r\n184467440737095516150\r\n", "STORED\r\n"),
        ("incr n 1\r\n", NON_NUMERIC),
        (
            "set n 0 0 30\r\n000000000000000000000000000001\r\n",
            "STORED\r\n",
        ),
        ("incr n 1\r\n", "2\r\n"),
        ("mg n s\r\n", "HD s30\r\n"),
        ("set n 0 0 3\r\n012\r\n", "STORED\r\n"),
        ("incr n 1\r\n", "13\r\n"),
        ("get n\r\n", "VALUE n 0 3\r\n13 \r\nEND\r\n"),
    ]);
}

#[test]
fn touch() {
    check(&[
        ("touch k 10\r\n", "NOT_FOUND\r\n"),
        ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
        ("touch k 100\r\n", "TOUCHED\r\n"),
        ("mg k t\r\n", "HD t<100|99|98>\r\n"),
        ("touch k 0\r\n", "TOUCHED\r\n"),
        ("mg k t\r\n", "HD t-1\r\n"),
        ("touch k x\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
        ("touch k\r\n", BAD),
        ("touch\r\n", BAD),
        ("touch k 200 noreply\r\n", ""),
        ("mg k t\r\n", "HD t<200|199|198>\r\n"),
        ("touch k -1\r\n", "TOUCHED\r\n"),
        ("get k\r\n", "END\r\n"),
    ]);
}

#[test]
fn flush_all_now() {
    check(&[
        ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
        ("flush_all\r\n", "OK\r\n"),
        ("get k\r\n", "END\r\n"),
        ("set k 0 0 1\r\nb\r\n", "STORED\r\n"),
        ("get k\r\n", "VALUE k 0 1\r\nb\r\nEND\r\n"),
        ("flush_all 0\r\n", "OK\r\n"),
        ("get k\r\n", "END\r\n"),
        ("set k 0 0 1\r\nc\r\n", "STORED\r\n"),
        ("flush_all noreply\r\n", ""),
        ("get k\r\n", "END\r\n"),
        ("set k 0 0 1\r\nc\r\n", "STORED\r\n"),
        ("flush_all 0 noreply\r\n", ""),
        ("get k\r\n", "END\r\n"),
        ("set k 0 0 1\r\nd\r\n", "STORED\r\n"),
        ("flush_all -1\r\n", "OK\r\n"),
        ("get k\r\n", "END\r\n"),
        (
            "flush_all x\r\n",
            "CLIENT_ERROR invalid exptime argument\r\n",
        ),
        (
            "flush_all 99999999999\r\n",
            "CLIENT_ERROR invalid exptime argument\r\n",
        ),
        ("flush_all x noreply\r\n", ""),
    ]);
}

#[test]
fn a_flushed_key_can_be_added_and_not_replaced() {
    check(&[
        ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
        ("flush_all\r\n", "OK\r\n"),
        ("replace k 0 0 1\r\nb\r\n", "NOT_STORED\r\n"),
        ("append k 0 0 1\r\nb\r\n", "NOT_STORED\r\n"),
        ("incr k 1\r\n", "NOT_FOUND\r\n"),
        ("touch k 1\r\n", "NOT_FOUND\r\n"),
        ("delete k\r\n", "NOT_FOUND\r\n"),
        ("add k 0 0 1\r\nc\r\n", "STORED\r\n"),
        ("get k\r\n", "VALUE k 0 1\r\nc\r\nEND\r\n"),
    ]);
}

#[test]
fn noreply_everywhere() {
    check(&[
        ("set k 0 0 1 noreply\r\na\r\n", ""),
        ("add k 0 0 1 noreply\r\nb\r\n", ""),
        ("add l 0 0 1 noreply\r\nl\r\n", ""),
        ("replace k 0 0 1 noreply\r\nc\r\n", ""),
        ("append k 0 0 1 noreply\r\nd\r\n", ""),
        ("prepend k 0 0 1 noreply\r\n0\r\n", ""),
        ("cas k 0 0 1 1844 noreply\r\n9\r\n", ""),
        (
            "get k l\r\n",
            "VALUE k 0 3\r\n0cd\r\nVALUE l 0 1\r\nl\r\nEND\r\n",
        ),
        ("touch k 0 noreply\r\n", ""),
        ("incr k 1 noreply\r\n", ""),
        ("incr missing 1 noreply\r\n", ""),
        ("delete k noreply\r\n", ""),
        ("delete k noreply\r\n", ""),
        ("verbosity 0 noreply\r\n", ""),
        ("cache_memlimit 64 noreply\r\n", ""),
        ("get k\r\n", "END\r\n"),
    ]);
}

#[test]
fn version_verbosity_and_memory_limit() {
    check(&[
        ("version\r\n", "VERSION 1.6.45\r\n"),
        ("version please\r\n", "VERSION 1.6.45\r\n"),
        ("verbosity 1\r\n", "OK\r\n"),
        ("verbosity 0\r\n", "OK\r\n"),
        ("verbosity 99\r\n", "OK\r\n"),
        ("verbosity 0 0\r\n", "OK\r\n"),
        ("verbosity\r\n", BAD),
        ("verbosity x\r\n", BAD),
        ("verbosity -1\r\n", BAD),
        ("cache_memlimit\r\n", "ERROR\r\n"),
        ("cache_memlimit x\r\n", "ERROR\r\n"),
        (
            "cache_memlimit 7\r\n",
            "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n",
        ),
        (
            "cache_memlimit 1000000001\r\n",
            "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n",
        ),
        ("cache_memlimit 128\r\n", "OK\r\n"),
    ]);
}

#[test]
fn commands_that_need_permission() {
    check(&[("shutdown\r\n", "SERVER_ERROR: shutdown not enabled\r\n")]);
    let server = Server::with(|config| config.flush = false);
    let mut client = server.client();
    client.ask("set k 0 0 1\r\na\r\n", "STORED\r\n");
    client.ask("flush_all\r\n", "CLIENT_ERROR flush_all not allowed\r\n");
    client.ask("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n");
}

#[test]
fn quit_closes_behind_the_answers() {
    let server = Server::start();
    let mut client = server.client();
    client.send("set k 0 0 1\r\na\r\nget k\r\nquit\r\nget k\r\n");
    client.expect_closed("STORED\r\nVALUE k 0 1\r\na\r\nEND\r\n");
    let mut client = server.client();
    client.send("quit now\r\n");
    client.expect_closed("");
}

#[test]
fn stats_groups() {
    let server = Server::start();
    let mut client = server.client();
    for (group, must_contain) in [
        ("stats\r\n", "STAT pid "),
        ("stats\r\n", "STAT version 1.6."),
        ("stats\r\n", "STAT curr_items 0\r\n"),
        ("stats settings\r\n", "STAT maxconns 1024\r\n"),
        ("stats settings\r\n", "STAT growth_factor 1.25\r\n"),
        ("stats set\r\n", "STAT maxbytes 67108864\r\n"),
        ("stats slabs\r\n", "STAT active_slabs "),
    ] {
        let answer = String::from_utf8(client.answer(group)).expect("statistics are ASCII");
        assert!(
            answer.contains(must_contain),
            "{group:?} lacks {must_contain:?}: {answer}"
        );
        assert!(answer.ends_with("END\r\n"), "{group:?}: {answer}");
    }
    client.ask("stats nonsense\r\n", "ERROR\r\n");
    client.ask("stats items\r\n", "END\r\n");
}

#[test]
fn stats_reset_sets_the_counts_back() {
    let server = Server::start();
    let mut client = server.client();
    client.ask(
        "set k 0 0 1\r\na\r\nget k\r\nget l\r\n",
        "STORED\r\nVALUE k 0 1\r\na\r\nEND\r\nEND\r\n",
    );
    let counts = [
        ("cmd_set", "1"),
        ("cmd_get", "2"),
        ("get_hits", "1"),
        ("get_misses", "1"),
    ];
    for (name, want) in counts {
        assert_eq!(client.stat(name), want, "{name}");
    }
    client.ask("stats reset\r\n", "RESET\r\n");
    for (name, _) in counts {
        assert_eq!(client.stat(name), "0", "{name}");
    }
    assert_eq!(client.stat("curr_items"), "1");
    client.ask(
        "get k\r\nstats r\r\n",
        "VALUE k 0 1\r\na\r\nEND\r\nRESET\r\n",
    );
    assert_eq!(client.stat("cmd_get"), "0");
}
