//! Lines and data blocks that are malformed, long, cut or hostile: the reply is
//! memcached 1.6.45's, and the stream stays in step or is closed.

use test_support::client::Client;
use test_support::script::check;
use test_support::server::Server;

/// Reply to a line with missing or wrong arguments.
const BAD: &str = "CLIENT_ERROR bad command line format\r\n";
const BAD_CHUNK: &str = "CLIENT_ERROR bad data chunk\r\n";
const TOO_LARGE: &str = "SERVER_ERROR object too large for cache\r\n";

/// Maximum key length in bytes.
const KEY_MAX: usize = 250;
/// The default of `-I` in bytes.
const ITEM_MAX: usize = 1024 * 1024;

#[test]
fn bare_line_feeds() {
    check(&[
        ("set k 0 0 2\nhi\r\n", "STORED\r\n"),
        ("get k\n", "VALUE k 0 2\r\nhi\r\nEND\r\n"),
        ("get k \n", "VALUE k 0 2\r\nhi\r\nEND\r\n"),
        ("delete k\n", "DELETED\r\n"),
        ("get k\nget k\nversion\n", "END\r\nEND\r\nVERSION <*>\r\n"),
    ]);
}

#[test]
fn repeated_and_trailing_blanks() {
    check(&[
        ("set   k  0   0 2  \r\nhi\r\n", "STORED\r\n"),
        ("get   k    \r\n", "VALUE k 0 2\r\nhi\r\nEND\r\n"),
        ("delete k    noreply   \r\n", ""),
        ("get k\r\n", "END\r\n"),
        ("set k 0 0 2 noreply \r\nhi\r\n", ""),
        ("touch  k   0  \r\n", "TOUCHED\r\n"),
        ("version \r\n", "VERSION <*>\r\n"),
    ]);
}

#[test]
fn unknown_commands() {
    check(&[
        ("nonsense\r\n", "ERROR\r\n"),
        ("nonsense a b c\r\n", "ERROR\r\n"),
        ("GET k\r\n", "ERROR\r\n"),
        ("Set k 0 0 1\r\n", "ERROR\r\n"),
        ("getx k\r\n", "ERROR\r\n"),
        ("ge k\r\n", "ERROR\r\n"),
        ("sets k 0 0 1\r\n", "ERROR\r\n"),
        ("mz k\r\n", "ERROR\r\n"),
        ("lru\r\n", "ERROR\r\n"),
        ("slabs\r\n", "ERROR\r\n"),
        ("lru_crawler\r\n", "ERROR\r\n"),
    ]);
}

#[test]
fn commands_are_not_abbreviated() {
    check(&[
        ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
        ("flush\r\n", "ERROR\r\n"),
        ("fl\r\n", "ERROR\r\n"),
        ("shut\r\n", "ERROR\r\n"),
        ("verb 1\r\n", "ERROR\r\n"),
        ("stat\r\n", "ERROR\r\n"),
        ("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n"),
    ]);
}

#[test]
fn lines_too_short_for_any_command() {
    check(&[
        ("\r\n", BAD),
        ("\n", BAD),
        ("\n\n\r\n", &BAD.repeat(3)),
        ("a\r\n", BAD),
        ("     \r\n", "ERROR\r\n"),
        ("  \n", BAD),
    ]);
}

#[test]
fn nul_and_eight_bit_bytes() {
    let server = Server::start();
    let mut client = server.client();
    client.ask(b"set \xff\xfe\x01 0 0 3\r\n\x00\r\n\r\n", "STORED\r\n");
    client.ask(
        b"get \xff\xfe\x01\r\n",
        b"VALUE \xff\xfe\x01 0 3\r\n\x00\r\n\r\nEND\r\n",
    );
    client.ask(b"get \xff\xfe\r\n", "END\r\n");
    client.ask(b"get a\tb\r\n", "END\r\n");
    client.ask(b"\xff\xff\xff\xff\r\n", "ERROR\r\n");
    client.ask(b"nul\0nul\r\n", "ERROR\r\n");
    client.ask(b"get k\0k\r\n", "END\r\n");
}

#[test]
fn storage_lines_with_bad_numbers() {
    check(&[
        ("set k 0 0\r\n", BAD),
        ("set k\r\n", BAD),
        ("set\r\n", BAD),
        ("set k 0 0 x\r\n", BAD),
        ("set k 0 0 -1\r\n", BAD),
        ("set k 0 0 -1 noreply\r\n", BAD),
        ("set k 0 0 2147483647\r\n", BAD),
        ("set k 0 0 2147483646\r\n", BAD),
        ("set k 0 0 4294967297\r\n", BAD),
        ("set k 0 0 99999999999999999999\r\n", BAD),
        ("set k x 0 2\r\nhi\r\n", BAD),
        ("set k 0 x 2\r\nhi\r\n", BAD),
        ("set k 18446744073709551616 0 2\r\nhi\r\n", BAD),
        ("set k -1 0 2\r\nhi\r\n", BAD),
        ("set k 0 9223372036854775808 2\r\nhi\r\n", BAD),
        ("set k x 0 2 noreply\r\nhi\r\n", ""),
        ("get k\r\n", "END\r\n"),
    ]);
}

#[test]
fn a_data_block_of_the_wrong_length() {
    check(&[
        ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
        // One byte too long: the surplus CRLF is a line of its own.
        ("set k 0 0 2\r\nabc\r\n", &format!("{BAD_CHUNK}{BAD}")),
        // Much too long: the rest is a command.
        (
            "set k 0 0 2\r\nabcdefghij\r\n",
            &format!("{BAD_CHUNK}ERROR\r\n"),
        ),
        // Two bytes too short: the block swallows the start of the next line.
        (
            "set k 0 0 4\r\nab\r\nget k\r\n",
            &format!("{BAD_CHUNK}ERROR\r\n"),
        ),
        ("set k 0 0 2 noreply\r\nabcdefghij\r\n", "ERROR\r\n"),
        ("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n"),
        // The block ends with a bare LF.
        (
            "set k 0 0 2\r\nhi\nmn \r\n",
            &format!("{BAD_CHUNK}ERROR\r\n"),
        ),
    ]);
}

#[test]
fn keys_of_the_longest_length_and_beyond() {
    let longest = "k".repeat(KEY_MAX);
    let longer = "k".repeat(KEY_MAX + 1);
    check(&[
        (&format!("set {longest} 0 0 2\r\nhi\r\n"), "STORED\r\n"),
        (
            &format!("get {longest}\r\n"),
            &format!("VALUE {longest} 0 2\r\nhi\r\nEND\r\n"),
        ),
        (&format!("set {longer} 0 0 2\r\nhi\r\n"), BAD),
        (&format!("set {longer} 0 0 2 noreply\r\nhi\r\n"), ""),
        (&format!("cas {longer} 0 0 2 1\r\nhi\r\n"), BAD),
        (&format!("delete {longer}\r\n"), BAD),
        (&format!("incr {longer} 1\r\n"), BAD),
        (&format!("touch {longer} 1\r\n"), BAD),
        (&format!("get {longer}\r\n"), BAD),
        (&format!("gets {longer}\r\n"), BAD),
        (&format!("gat 0 {longer}\r\n"), BAD),
        (&format!("mg {longer} v\r\n"), BAD),
        (&format!("delete {longest}\r\n"), "DELETED\r\n"),
    ]);
}

#[test]
fn a_long_key_anywhere_spoils_the_whole_get() {
    let longer = "k".repeat(KEY_MAX + 1);
    check(&[
        ("set a 0 0 1\r\nA\r\n", "STORED\r\n"),
        (&format!("get a {longer}\r\n"), BAD),
        (&format!("get a {longer} a\r\n"), BAD),
        (&format!("gets {longer} a\r\n"), BAD),
        ("get a\r\n", "VALUE a 0 1\r\nA\r\nEND\r\n"),
        (
            &format!("get a\r\nget a {longer} a\r\nget a\r\n"),
            &format!("VALUE a 0 1\r\nA\r\nEND\r\n{BAD}VALUE a 0 1\r\nA\r\nEND\r\n"),
        ),
    ]);
}

#[test]
fn values_that_are_too_large() {
    let server = Server::start();
    let mut client = server.client();
    let large = vec![b'x'; ITEM_MAX + 1];
    let block = |verb: &str, more: &str| {
        let mut bytes = format!("{verb} k 0 0 {}{more}\r\n", large.len()).into_bytes();
        bytes.extend_from_slice(&large);
        bytes.extend_from_slice(b"\r\n");
        bytes
    };
    client.ask("set k 0 0 1\r\na\r\n", "STORED\r\n");
    client.ask(block("add", ""), TOO_LARGE);
    client.ask(block("replace", ""), TOO_LARGE);
    client.ask(block("append", ""), TOO_LARGE);
    client.ask("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n");
    client.ask(block("set", ""), TOO_LARGE);
    client.ask("get k\r\n", "END\r\n");
    client.ask("set k 0 0 1\r\na\r\n", "STORED\r\n");
    client.ask(block("set", " noreply"), "");
    client.ask("get k\r\n", "END\r\n");
    client.ask(
        "version\r\n",
        format!("VERSION {}\r\n", client_version(&server)),
    );
}

fn client_version(server: &Server) -> String {
    let mut client = server.client();
    let version = client.stat("version");
    assert!(version.starts_with("1.6."), "{version}");
    version
}

#[test]
fn append_does_not_pass_the_size_limit() {
    let server = Server::start();
    let mut client = server.client();
    let half = "x".repeat(ITEM_MAX / 2 + 1000);
    client.ask(
        format!("set k 0 0 {}\r\n{half}\r\n", half.len()),
        "STORED\r\n",
    );
    for verb in ["append", "prepend"] {
        let joining = format!("{verb} k 0 0 {}\r\n{half}\r\n", half.len());
        client.ask(joining, "NOT_STORED\r\n");
    }
    client.ask("mg k s\r\n", format!("HD s{}\r\n", half.len()));
}

#[test]
fn large_values_come_back_whole() {
    let server = Server::start();
    let mut client = server.client();
    for size in [1000, 16 * 1024, 64 * 1024 + 1, 300_000, 1_000_000] {
        let value: String = (0..size)
            .map(|i| char::from(b'a' + (i % 23) as u8))
            .collect();
        let set = format!("set k 0 0 {size}\r\n{value}\r\n");
        client.ask(&set, "STORED\r\n");
        let one = format!("VALUE k 0 {size}\r\n{value}\r\n");
        client.ask("get k\r\n", format!("{one}END\r\n"));
        client.ask("get k k k\r\n", format!("{one}{one}{one}END\r\n"));
    }
}

#[test]
fn a_line_that_never_ends_is_closed() {
    let server = Server::start();
    let mut client = server.client();
    // The server closes after a few kilobytes, so later writes fail.
    let chunk = [b'x'; 4096];
    let refused = (0..4096).any(|_| client.try_send(chunk).is_err());
    assert!(refused, "16 MiB of one line were taken");
    server.client().ask(
        "version\r\n",
        format!("VERSION {}\r\n", client_version(&server)),
    );
}

#[test]
fn an_overlong_line_is_closed() {
    let server = Server::start();
    for start in ["set ", "delete ", "mg k ", "xyzzy "] {
        let mut client = server.client();
        client.send(format!("{start}{}", "x".repeat(3000)));
        client.expect_closed("");
    }
}

#[test]
fn http_is_hung_up_on() {
    let server = Server::start();
    for line in ["GET / HTTP/1.1", "POST /set HTTP/1.0", "OPTIONS * HTTP/2"] {
        let mut client = server.client();
        client.ask("set k 0 0 1\r\na\r\n", "STORED\r\n");
        client.send(format!("{line}\r\nHost: x\r\n\r\nflush_all\r\n"));
        client.expect_closed("");
        server
            .client()
            .ask("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n");
    }
}

#[test]
fn a_get_of_very_many_keys() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set hit 0 0 2\r\nhi\r\n", "STORED\r\n");
    let mut line = "get".to_owned();
    let mut want = String::new();
    for number in 0..20_000 {
        line.push_str(&format!(" some-missing-key-{number}"));
        if number % 100 == 0 {
            line.push_str(" hit");
            want.push_str("VALUE hit 0 2\r\nhi\r\n");
        }
    }
    want.push_str("END\r\n");
    client.ask(format!("{line}\r\n"), &want);
    client.ask(format!("{line}\n"), &want);
    client.ask(format!("{line}\r\n{line}\r\n"), want.repeat(2));
}

#[test]
fn every_cut_of_a_pipeline_gives_the_same_answer() {
    let server = Server::with(|config| config.threads = 1);
    let mut client = server.client();
    let send: &[u8] = b"set k 1 0 5\r\nhe\r\no\r\nget k nothing k\r\nms l 3 F2\r\nabc\r\n\
        mg l v f\r\nnonsense\r\nset k 0 0 1 noreply\r\nx\r\nget k\r\nset k 0 0 1\r\nxyz\r\n\
        incr n 1\r\ndelete k 0\r\nmn\r\n";
    let want: &[u8] =
        b"STORED\r\nVALUE k 1 5\r\nhe\r\no\r\nVALUE k 1 5\r\nhe\r\no\r\nEND\r\nHD\r\n\
        VA 3 f2\r\nabc\r\nERROR\r\nVALUE k 0 1\r\nx\r\nEND\r\n\
        CLIENT_ERROR bad data chunk\r\nCLIENT_ERROR bad command line format\r\n\
        NOT_FOUND\r\nDELETED\r\nMN\r\n";
    for cut in 1..send.len() {
        client.send(&send[..cut]);
        // A reply on another connection proves that the only worker has seen
        // the first part.
        server.client().ask("", "");
        client.send(&send[cut..]);
        client.expect(want);
    }
    for cut in 1..send.len() - 1 {
        for length in [1, 2, 3] {
            let end = (cut + length).min(send.len());
            client.send(&send[..cut]);
            client.send(&send[cut..end]);
            client.send(&send[end..]);
            client.expect(want);
        }
    }
}

#[test]
fn the_end_of_a_large_data_block_may_come_late_and_wrong() {
    let server = Server::with(|config| config.threads = 1);
    let mut client = server.client();
    client.ask("set k 0 0 2\r\nhi\r\n", "STORED\r\n");
    // In one chunk, and in several; received by copy, and straight into the item.
    for (len, sent_first) in [(20_000, 100), (20_000, 20_000), (100_000, 100_000)] {
        let value = vec![b'v'; len];
        for (line, stored) in [("set k 0 0 ", "STORED"), ("ms k ", "HD")] {
            for end in ["xy", "\rx", "x\n", "\n\r", "\r\n"] {
                for cut in 0..=2 {
                    let (first, last) = end.split_at(cut);
                    let parts = [&value[..sent_first], &value[sent_first..], first.as_bytes()];
                    client.send(format!("{line}{len}\r\n"));
                    for part in parts {
                        client.send(part);
                        // The only worker has seen the part.
                        server.client().ask("", "");
                    }
                    client.send(format!("{last}mn\r\n"));
                    if end == "\r\n" {
                        client.expect(format!("{stored}\r\nMN\r\n"));
                        let shown = [format!("VA {len}\r\n").as_bytes(), &value, b"\r\n"].concat();
                        client.ask("mg k v\r\n", shown);
                        client.ask("set k 0 0 2\r\nhi\r\n", "STORED\r\n");
                    } else {
                        client.expect(format!("{BAD_CHUNK}MN\r\n"));
                        client.ask("mg k v\r\n", "VA 2\r\nhi\r\n");
                    }
                }
            }
        }
    }
}

#[test]
fn a_deep_pipeline_is_answered_in_order() {
    let server = Server::start();
    let mut client = server.client();
    let mut send = String::new();
    let mut want = String::new();
    for number in 0..3000 {
        send.push_str(&format!("set k{number} {number} 0 4\r\n{number:04}\r\n"));
        want.push_str("STORED\r\n");
        send.push_str(&format!("get k{number} nothing\r\nmg k{number} v k\r\n"));
        want.push_str(&format!(
            "VALUE k{number} {number} 4\r\n{number:04}\r\nEND\r\n"
        ));
        want.push_str(&format!("VA 4 kk{number}\r\n{number:04}\r\n"));
    }
    client.ask(send, want);
}

#[test]
fn a_half_closed_client_still_gets_its_answers() {
    let server = Server::start();
    let mut client: Client = server.client();
    client.send("set k 0 0 2\r\nhi\r\nget k\r\nget k\r\nget");
    client.finish_sending();
    client.expect_closed("STORED\r\nVALUE k 0 2\r\nhi\r\nEND\r\nVALUE k 0 2\r\nhi\r\nEND\r\n");
}

#[test]
fn the_same_get_many_times_in_a_row_is_answered_and_counted_each_time() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set k 5 0 1\r\na\r\n", "STORED\r\n");
    let hit = "VALUE k 5 1\r\na\r\nEND\r\n";
    client.ask("get k\r\n".repeat(100), hit.repeat(100));
    client.ask("get none\r\n".repeat(100), "END\r\n".repeat(100));
    // Each write changes the replies to the gets after it.
    client.ask(
        "get k\r\nget k\r\nset k 0 0 2\r\nbc\r\nget k\r\nget k\r\ndelete k\r\nget k\r\nget k\r\n",
        format!(
            "{hit}{hit}STORED\r\n{new}{new}DELETED\r\nEND\r\nEND\r\n",
            new = "VALUE k 0 2\r\nbc\r\nEND\r\n"
        ),
    );
    assert_eq!(client.stat("get_hits"), "104");
    assert_eq!(client.stat("get_misses"), "102");
    // A value that is sent from the item itself, and a value that expires.
    let large = "v".repeat(50_000);
    client.ask(format!("set l 0 10 50000\r\n{large}\r\n"), "STORED\r\n");
    let hit = format!("VALUE l 0 50000\r\n{large}\r\nEND\r\n");
    client.ask("get l\r\n".repeat(9), hit.repeat(9));
    server.advance(11);
    client.ask("get l\r\n".repeat(9), "END\r\n".repeat(9));
    assert_eq!(client.stat("get_expired"), "1");
    assert_eq!(client.stat("get_misses"), "111");
}

#[test]
fn a_long_get_that_comes_in_pieces_is_answered_like_a_whole_one() {
    let server = Server::with(|config| config.threads = 1);
    let mut client = server.client();
    client.ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    let bad = "k".repeat(251);
    for (last, want) in [(bad.as_str(), BAD), ("b", "")] {
        client.send(format!("get{}", " a".repeat(2000)));
        // This reply proves that the only worker has read the first piece.
        server.client().answer("");
        let values = match want {
            "" => format!("{}END\r\n", "VALUE a 0 1\r\n1\r\n".repeat(2000)),
            error => error.to_owned(),
        };
        client.ask(format!(" {last}\r\n"), values);
    }
}
