//! `lru_crawler`: key dumps and requested crawls.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use test_support::client::Client;
use test_support::server::Server;
use test_support::wait_until;

/// Returns the keys of a metadump or mgdump, and how often each occurs.
fn keys(dump: &[u8], before: &str, last: &str) -> HashMap<String, u32> {
    let text = std::str::from_utf8(dump).expect("dumps are text");
    let lines = text.strip_prefix("OK\r\n").expect("a dump begins with OK");
    let lines = lines.strip_suffix(last).expect("a dump has an end");
    let mut keys = HashMap::new();
    for line in lines.lines() {
        let rest = line.strip_prefix(before).expect("a line names a key");
        let key = rest.split(' ').next().expect("a line has a word");
        *keys.entry(key.to_owned()).or_default() += 1;
    }
    keys
}

fn metadump(client: &mut Client, arguments: &str) -> HashMap<String, u32> {
    let dump = client.answer(format!("lru_crawler metadump {arguments}\r\n"));
    keys(&dump, "key=", "END\r\n")
}

fn fill(client: &mut Client, name: &str, numbers: std::ops::Range<u32>) {
    for chunk in numbers.collect::<Vec<_>>().chunks(1000) {
        let sets = chunk
            .iter()
            .map(|n| format!("set {name}{n} 0 0 1 noreply\r\nv\r\n"));
        client.ask(sets.collect::<String>(), "");
    }
}

#[test]
fn a_line_tells_of_an_item_what_me_tells() {
    let server = Server::start();
    let mut client = server.client();
    client.answer("set a%b:1 7 500 3\r\nabc\r\nmg a%b:1 v\r\n");
    let debug = String::from_utf8(client.answer("me a%b:1\r\n")).expect("text");
    let dump = String::from_utf8(client.answer("lru_crawler metadump all\r\n")).expect("text");
    let line = dump.lines().nth(1).expect("it is there");
    let field = |text: &str, name: &str| {
        let mut words = text.split_ascii_whitespace();
        words
            .find_map(|word| Some(word.strip_prefix(name)?.to_owned()))
            .expect("it is there")
    };
    assert_eq!(field(line, "key="), "a%25b%3A1");
    for name in ["cas=", "fetch=", "cls=", "size="] {
        assert_eq!(field(line, name), field(&debug, name), "{name}");
    }
    assert_eq!(
        (field(line, "flags="), field(line, "fetch=")),
        ("7".into(), "yes".into())
    );
    let now: u64 = client.stat("time").parse().expect("a number");
    let (end, used) = (field(line, "exp="), field(line, "la="));
    let (end, used): (u64, u64) = (
        end.parse().expect("a number"),
        used.parse().expect("a number"),
    );
    assert!(
        (now + 498..=now + 502).contains(&end),
        "{end} is 500 from {now}"
    );
    assert!((now - 2..=now + 1).contains(&used), "{used} is {now}");
    client.answer("touch a%b:1 0\r\n");
    let dump = String::from_utf8(client.answer("lru_crawler metadump hash\r\n")).expect("text");
    assert_eq!(field(&dump, "exp="), "-1");
}

#[test]
fn mgdump_is_a_list_of_commands() {
    let server = Server::start();
    let mut client = server.client();
    client.answer("set plain 0 0 1\r\n1\r\nms AAEC 1 b\r\n2\r\n");
    let dump = client.answer("lru_crawler mgdump hash\r\n");
    let mut lines: Vec<&str> = std::str::from_utf8(&dump).expect("text").lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["EN", "OK", "mg AAEC b", "mg plain"]);
    client.ask("mg AAEC b v\r\n", "VA 1\r\n2\r\n");
}

#[test]
fn older_tools_may_ask_for_dumps_without_ok() {
    let server = Server::with(|config| config.bare_dumps = true);
    let mut client = server.client();
    client.answer("set key 0 0 1\r\n1\r\n");
    client.ask("lru_crawler mgdump all\r\n", "mg key\r\nEN\r\n");
}

#[test]
fn dumps_of_classes_and_of_prefixes() {
    let server = Server::start();
    let mut client = server.client();
    client.answer("set user:1 0 0 1\r\n1\r\nset page:1 0 0 1\r\n1\r\n");
    client.answer("set user:2 0 0 100\r\n".to_owned() + &"v".repeat(100) + "\r\n");
    let class = |client: &mut Client, key: &str| -> u32 {
        let debug = String::from_utf8(client.answer(format!("me {key}\r\n"))).expect("text");
        let class = debug.split(" cls=").nth(1).expect("it is there");
        class
            .split(' ')
            .next()
            .expect("it is there")
            .parse()
            .expect("a number")
    };
    let (small, large) = (class(&mut client, "user:1"), class(&mut client, "user:2"));
    assert_eq!(metadump(&mut client, "all").len(), 3);
    assert_eq!(metadump(&mut client, &format!("{small},{large}")).len(), 3);
    let of_class = metadump(&mut client, &large.to_string());
    assert_eq!(of_class, HashMap::from([("user%3A2".to_owned(), 1)]));
    let of_prefix = metadump(&mut client, "all prefix=user:");
    assert_eq!(of_prefix.len(), 2);
    assert_eq!(metadump(&mut client, "all prefix=none"), HashMap::new());
}

#[test]
fn malformed_forms_are_answered_as_memcached_answers_them() {
    let server = Server::start();
    let mut client = server.client();
    for (send, want) in [
        ("", "ERROR"),
        (" nonsense", "ERROR"),
        (" metadump", "ERROR"),
        (" metadump all more", "ERROR"),
        (" metadump 0", "BADCLASS invalid class id"),
        (" metadump 64", "BADCLASS invalid class id"),
        (" mgdump x", "BADCLASS invalid class id"),
        (" crawl", "ERROR"),
        (" crawl 99", "BADCLASS invalid class id"),
        (" sleep", "ERROR"),
        (" sleep x", "CLIENT_ERROR bad command line format"),
        (
            " sleep 1000001",
            "CLIENT_ERROR sleep must be one second or less",
        ),
        (" sleep 1000000", "OK"),
        (" sleep 0", "OK"),
        (" tocrawl x", "CLIENT_ERROR bad command line format"),
        (" tocrawl 5", "OK"),
        (" enable", "ERROR failed to start lru crawler thread"),
        (" disable", "OK"),
        (" disable", "OK"),
        (" crawl all", "CLIENT_ERROR lru crawler disabled"),
        (" metadump all", "CLIENT_ERROR lru crawler disabled"),
        (" mgdump all", "CLIENT_ERROR lru crawler disabled"),
        (" enable", "OK"),
    ] {
        client.ask(format!("lru_crawler{send}\r\n"), format!("{want}\r\n"));
    }
    let settings = String::from_utf8(client.answer("stats settings\r\n")).expect("text");
    for line in [
        "lru_crawler yes",
        "lru_crawler_sleep 0",
        "lru_crawler_tocrawl 5",
    ] {
        assert!(settings.contains(&format!("STAT {line}\r\n")), "{line}");
    }
}

#[test]
fn a_crawl_sweeps_out_what_is_dead() {
    let server = Server::start();
    let mut client = server.client();
    fill(&mut client, "staying", 0..100);
    for number in 0..500 {
        client.send(format!("set going{number} 0 1 1 noreply\r\nv\r\n"));
    }
    client.answer("");
    server.advance(2);
    client.ask("lru_crawler crawl all\r\n", "OK\r\n");
    wait_until("the dead are gone", || {
        (client.stat("curr_items") == "100").then_some(())
    });
    wait_until("the crawl ends", || {
        (client.stat("lru_crawler_running") == "0").then_some(())
    });
    let reclaimed = |client: &mut Client| -> u64 {
        ["crawler_reclaimed", "reclaimed"]
            .map(|name| client.stat(name).parse::<u64>().expect("a number"))
            .iter()
            .sum()
    };
    assert_eq!(reclaimed(&mut client), 500);
    assert_eq!(client.stat("expired_unfetched"), "500");
    assert_eq!(client.stat("lru_crawler_starts"), "1");
}

/// Sets the flag when dropped, so that threads end after a failed assertion too.
struct StoreOnDrop<'a>(&'a AtomicBool);

impl Drop for StoreOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An item that exists during a whole dump occurs in it exactly once, even if
/// other items come and go and tables grow.
#[test]
fn a_dump_of_many_items_under_load_is_complete() {
    const STAYING: u32 = 100_000;
    let server = Server::with(|config| config.max_memory = 512 << 20);
    let mut client = server.client();
    fill(&mut client, "staying", 0..STAYING);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StoreOnDrop(&over);
        scope.spawn(|| {
            let mut client = server.client();
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                fill(&mut client, "coming", number..number + 1000);
                number += 1000;
            }
        });
        let dumps = [0; 3].map(|_| scope.spawn(|| metadump(&mut server.client(), "all")));
        for dump in dumps {
            let keys = dump.join().expect("no panic");
            for number in 0..STAYING {
                let count = keys.get(&format!("staying{number}"));
                assert_eq!(count, Some(&1), "staying{number}");
            }
        }
    });
    assert_eq!(client.stat("lru_crawler_starts"), "3");
    assert_eq!(client.stat("lru_crawler_running"), "0");
}

#[test]
fn what_follows_on_the_line_is_answered_behind_the_dump() {
    let server = Server::start();
    let mut client = server.client();
    fill(&mut client, "key", 0..5000);
    client.send("lru_crawler mgdump all\r\nget key7\r\nlru_crawler mgdump all\r\nmn\r\n");
    let answer = String::from_utf8(client.read_answer()).expect("text");
    assert!(answer.starts_with("OK\r\nmg "), "first the dump");
    let (_, rest) = answer.split_once("EN\r\n").expect("a dump has an end");
    let refused = "ERROR cannot pipeline other commands before mgdump\r\n";
    assert_eq!(rest, format!("VALUE key7 0 1\r\nv\r\nEND\r\n{refused}"));
    assert_eq!(answer.matches("mg key").count(), 5_000);
}

#[test]
fn a_client_that_half_closes_gets_its_dump() {
    let server = Server::start();
    let mut client = server.client();
    fill(&mut client, "key", 0..20_000);
    client.send("lru_crawler metadump all\r\n");
    client.finish_sending();
    let dump = client.read_to_close();
    assert_eq!(keys(&dump, "key=", "END\r\n").len(), 20_000);
}

/// A client that stops reading its dump costs bounded memory, does not delay
/// other clients, and is disconnected in the end.
#[test]
fn a_client_that_stops_reading_is_cut_off() {
    let server = Server::with(|config| config.max_memory = 512 << 20);
    let mut other = server.client();
    fill(&mut other, &"k".repeat(200), 0..100_000);
    let mut client = server.client();
    client.send("lru_crawler metadump all\r\n");
    wait_until("the dump is stuck", || {
        let conns = String::from_utf8(other.answer("stats conns\r\n")).expect("text");
        conns.contains("conn_mwrite").then_some(())
    });
    let written = || -> u64 {
        server
            .client()
            .stat("bytes_written")
            .parse()
            .expect("a number")
    };
    assert!(written() < 20 << 20, "{} bytes", written());
    assert_eq!(other.stat("lru_crawler_running"), "1");
    assert_eq!(
        metadump(&mut server.client(), "all").len(),
        100_000,
        "another is served"
    );
    server.advance(31 * 60);
    wait_until("it is hung up on", || {
        (other.stat("lru_crawler_running") == "0").then_some(())
    });
    assert!(!client.read_to_close().ends_with(b"END\r\n"));
}
