//! Lines of `stats` that depend on options, and commands that options disable,
//! as in memcached 1.6.45; and counters of expired items and yields.

use rustcached::config::{Config, Datagrams, ProtocolMode};
use test_support::client::Client;
use test_support::program::Program;
use test_support::server::Server;
use test_support::wait_until;

const CRAWLER: [&str; 2] = ["lru_crawler_running", "lru_crawler_starts"];
const MAINTAINER: [&str; 7] = [
    "lru_maintainer_juggles",
    "evicted_active",
    "moves_to_cold",
    "moves_to_warm",
    "moves_within_lru",
    "direct_reclaims",
    "lru_bumps_dropped",
];
const REASSIGN: [&str; 9] = [
    "slab_reassign_rescues",
    "slab_reassign_chunk_rescues",
    "slab_reassign_inline_reclaim",
    "slab_reassign_busy_items",
    "slab_reassign_busy_deletes",
    "slab_reassign_busy_nomem",
    "slab_reassign_last_busy_status",
    "slab_reassign_running",
    "slabs_moved",
];
const ITEMS: [&str; 14] = [
    "number",
    "age",
    "mem_requested",
    "evicted",
    "evicted_nonzero",
    "evicted_time",
    "outofmemory",
    "tailrepairs",
    "reclaimed",
    "expired_unfetched",
    "evicted_unfetched",
    "crawler_reclaimed",
    "crawler_items_checked",
    "lrutail_reflocked",
];

/// Returns the names and values of a group, in order.
fn group(client: &mut Client, group: &str) -> Vec<(String, String)> {
    let answer = client.answer(format!("stats {group}\r\n"));
    let text = String::from_utf8(answer).expect("statistics are text");
    let lines = text.lines().filter_map(|line| line.strip_prefix("STAT "));
    lines
        .map(|line| line.split_once(' ').expect("a name and a value"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn names(client: &mut Client, which: &str) -> Vec<String> {
    let all = group(client, which).into_iter();
    all.map(|(name, _)| name).collect()
}

fn value(client: &mut Client, which: &str, name: &str) -> String {
    let all = group(client, which).into_iter();
    let mut found = all.filter(|stat| stat.0 == name).map(|stat| stat.1);
    found.next().unwrap_or_else(|| panic!("no {name}"))
}

fn number(client: &mut Client, name: &str) -> u64 {
    client.stat(name).parse().expect("a number")
}

#[test]
fn lines_of_what_is_off_are_absent() {
    let server = Server::start();
    let all = names(&mut server.client(), "");
    assert_eq!(all.len(), 93);
    let without = |absent: &[&[&str]]| -> Vec<String> {
        let absent = absent.concat();
        let rest = all.iter().filter(|name| !absent.contains(&name.as_str()));
        rest.cloned().collect()
    };
    let conns: &[&str] = &["rejected_connections"];
    for (options, absent, count) in [
        ("no_lru_crawler", &[&CRAWLER[..]][..], 91),
        ("no_lru_maintainer", &[&MAINTAINER], 86),
        (
            "no_lru_crawler,no_lru_maintainer",
            &[&CRAWLER, &MAINTAINER],
            84,
        ),
        ("no_slab_reassign", &[&REASSIGN], 84),
        ("no_modern", &[&CRAWLER, &MAINTAINER, &REASSIGN, conns], 74),
        (
            "no_modern,lru_crawler,lru_maintainer",
            &[&REASSIGN, conns],
            83,
        ),
    ] {
        let (_program, address) = Program::start(&["-o", options]);
        let got = names(&mut Client::connect(&address), "");
        assert_eq!(got, without(absent), "{options}");
        assert_eq!(got.len(), count, "{options}");
    }
}

#[test]
fn queues_are_not_told_of_without_the_maintainer() {
    let server = Server::with(|config| config.tunables.maintainer = false);
    let mut client = server.client();
    client.ask("set key 0 0 1\r\na\r\n", "STORED\r\n");
    let got = names(&mut client, "items");
    let class = got[0].split(':').nth(1).expect("a class").to_owned();
    assert_eq!(got, ITEMS.map(|name| format!("items:{class}:{name}")));
    for refused in ["lru mode flat", "lru mode segmented", "lru temp_ttl 5"] {
        client.ask(format!("{refused}\r\n"), "ERROR\r\n");
    }
    client.ask("lru tune 10 20 0.1 2.0\r\n", "OK\r\n");
}

#[test]
fn the_temporary_queue_is_told_of_where_it_is_on() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set key 0 0 1\r\na\r\n", "STORED\r\n");
    let has_it = |client: &mut Client| {
        let names = names(client, "items");
        names.iter().any(|name| name.ends_with(":number_temp"))
    };
    assert!(!has_it(&mut client));
    client.ask("lru temp_ttl 60\r\n", "OK\r\n");
    assert!(has_it(&mut client));
    client.ask("lru temp_ttl -1\r\n", "OK\r\n");
    assert!(!has_it(&mut client));
}

#[test]
fn no_modern_turns_off_what_it_turns_off_there() {
    let (_program, address) = Program::start(&["-o", "no_modern"]);
    let mut client = Client::connect(&address);
    for (name, want) in [
        ("maxconns_fast", "no"),
        ("slab_reassign", "no"),
        ("slab_automove", "0"),
        ("lru_crawler", "no"),
        ("lru_maintainer_thread", "no"),
        ("lru_segmented", "no"),
    ] {
        assert_eq!(value(&mut client, "settings", name), want, "{name}");
    }
    let disabled = "CLIENT_ERROR lru crawler disabled\r\n";
    client.ask("lru_crawler crawl all\r\n", disabled);
    client.ask("lru_crawler metadump all\r\n", disabled);
    let refused = "CLIENT_ERROR slab reassignment disabled\r\n";
    client.ask("slabs reassign 1 2\r\n", refused);
    client.ask("slabs reassign x y\r\n", refused);
}

#[test]
fn the_crawler_is_switched_on_and_off() {
    let (_program, address) = Program::start(&["-o", "no_lru_crawler"]);
    let mut client = Client::connect(&address);
    assert_eq!(value(&mut client, "settings", "lru_crawler"), "no");
    client.ask("lru_crawler enable\r\n", "OK\r\n");
    assert_eq!(value(&mut client, "settings", "lru_crawler"), "yes");
    assert_eq!(client.stat("lru_crawler_running"), "0");
    let again = "ERROR failed to start lru crawler thread\r\n";
    client.ask("lru_crawler enable\r\n", again);
    client.ask("lru_crawler disable\r\n", "OK\r\n");
    client.ask("lru_crawler disable\r\n", "OK\r\n");
    assert_eq!(value(&mut client, "settings", "lru_crawler"), "no");
    let got = names(&mut client, "");
    assert!(!got.iter().any(|name| CRAWLER.contains(&name.as_str())));
}

#[test]
fn chunks_in_stock_are_not_used() {
    let server = Server::start();
    let mut client = server.client();
    let chunks = |client: &mut Client| -> Vec<u64> {
        let all = group(client, "slabs").into_iter();
        let used = all.filter(|(name, _)| name.ends_with(":used_chunks"));
        used.map(|(_, count)| count.parse().expect("a number"))
            .collect()
    };
    client.ask("set key 0 0 1\r\na\r\n", "STORED\r\n");
    assert_eq!(chunks(&mut client), [1]);
    for item in 0..40 {
        client.ask(format!("set key{item:02} 0 0 1\r\na\r\n"), "STORED\r\n");
    }
    assert_eq!(chunks(&mut client).iter().sum::<u64>(), 41);
    for item in 0..40 {
        client.ask(format!("delete key{item:02}\r\n"), "DELETED\r\n");
    }
    assert_eq!(chunks(&mut client).iter().sum::<u64>(), 1);
}

/// Runs a command on an expired item. Returns the change of `get_expired`,
/// `reclaimed` and `expired_unfetched`.
fn counted(server: &Server, command: &str) -> [u64; 3] {
    let mut client = server.client();
    let names = ["get_expired", "reclaimed", "expired_unfetched"];
    let before = names.map(|name| number(&mut client, name));
    client.ask("set key 0 10 1\r\n1\r\n", "STORED\r\n");
    server.advance(11);
    client.answer(command);
    let mut after = names.map(|name| number(&mut client, name));
    for (after, before) in after.iter_mut().zip(before) {
        *after -= before;
    }
    client.answer("delete key\r\n");
    after
}

#[test]
fn without_the_maintainer_a_flushed_item_is_reclaimed_by_storing() {
    for (maintainer, want) in [(true, ["1", "0"]), (false, ["0", "1"])] {
        let server = Server::with(|config| {
            config.tunables.crawler = false;
            config.tunables.maintainer = maintainer;
        });
        let mut client = server.client();
        client.ask("set key 0 0 1\r\n1\r\n", "STORED\r\n");
        server.advance(2);
        client.ask("flush_all\r\n", "OK\r\n");
        client.ask("set key 0 0 1\r\n1\r\n", "STORED\r\n");
        let got = ["get_flushed", "reclaimed"].map(|name| client.stat(name));
        assert_eq!(got, want, "maintainer {maintainer}");
    }
}

const STORES: [&str; 3] = [
    "set key 0 0 1\r\na\r\n",
    "add key 0 0 1\r\na\r\n",
    "ms key 1\r\na\r\n",
];
const OTHERS: [&str; 6] = [
    "get key\r\n",
    "delete key\r\n",
    "incr key 1\r\n",
    "touch key 1\r\n",
    "mg key v\r\n",
    "md key\r\n",
];

#[test]
fn an_expired_item_that_a_command_meets_was_not_reclaimed() {
    // Otherwise the crawler would find the item first.
    let server = Server::with(|config| config.tunables.crawler = false);
    for command in STORES.iter().chain(&OTHERS) {
        assert_eq!(counted(&server, command), [1, 0, 0], "{command}");
    }
}

#[test]
fn without_the_maintainer_an_expired_item_is_reclaimed_by_storing() {
    let server = Server::with(|config| {
        config.tunables.crawler = false;
        config.tunables.maintainer = false;
    });
    for command in STORES {
        assert_eq!(counted(&server, command), [0, 1, 1], "{command}");
    }
    for command in OTHERS {
        assert_eq!(counted(&server, command), [1, 0, 0], "{command}");
    }
}

#[test]
fn yields_are_counted_by_commands() {
    for (limit, commands, want) in [(1, 1, 0), (1, 10, 9), (20, 20, 0), (20, 41, 2), (3, 10, 3)] {
        let server = Server::with(|config: &mut Config| config.requests_per_event = limit);
        let mut client = server.client();
        client.send("version\r\n".repeat(commands));
        client.expect("VERSION 1.6.45\r\n".repeat(commands));
        let mut asker = server.client();
        let what = format!("-R {limit}, {commands} commands");
        // The worker counts once it has sent the replies. Each request is one command,
        // which is no yield itself.
        wait_until(&what, || {
            asker.send("stats\r\n");
            let lines: Vec<String> = std::iter::repeat_with(|| asker.line())
                .take_while(|line| line != "END\r\n")
                .collect();
            let found = lines
                .iter()
                .find_map(|line| line.strip_prefix("STAT conn_yields "));
            let yields: u64 = found
                .expect("it is counted")
                .trim_end()
                .parse()
                .expect("a number");
            assert!(yields <= want, "{what}: {yields}");
            (yields == want).then_some(())
        });
    }
}

/// Returns the state of the connection of `client`.
fn state(asker: &mut Client, client: &Client) -> String {
    let all = group(asker, "conns");
    let address = format!("tcp:{}", client.local_addr());
    let by_address = all
        .iter()
        .find(|(name, value)| name.ends_with(":addr") && *value == address);
    let fd = by_address.map(|(name, _)| name.trim_end_matches("addr"));
    let name = format!("{}state", fd.unwrap_or("?:"));
    let state = all.iter().find(|stat| stat.0 == name);
    state.map_or_else(String::new, |stat| stat.1.clone())
}

#[test]
fn a_connection_shows_what_it_is_doing() {
    let server = Server::start();
    let mut asker = server.client();
    for (sent, want) in [
        ("", "conn_new_cmd"),
        ("get ke", "conn_read"),
        ("set key 0 0 10\r\nabc", "conn_nread"),
        ("set key 0 0 500000\r\nabc", "conn_nread"),
        ("set key 0 0 5000000\r\nabc", "conn_swallow"),
    ] {
        let mut client = server.client();
        client.send(sent);
        wait_until(want, || (state(&mut asker, &client) == want).then_some(()));
    }
    let mut client = server.client();
    client.send("set key 0 0 3\r\na");
    wait_until("it is receiving", || {
        (state(&mut asker, &client) == "conn_nread").then_some(())
    });
    client.ask("bc\r\n", "STORED\r\n");
    wait_until("it is waiting again", || {
        (state(&mut asker, &client) == "conn_read").then_some(())
    });
}

#[test]
fn sockets_for_datagrams_are_told_of() {
    let server = Server::with(|config| {
        config.udp.push(Datagrams {
            address: ([127, 0, 0, 1], 0).into(),
            protocol: ProtocolMode::Auto,
            optional: false,
        });
    });
    let all = group(&mut server.client(), "conns");
    let marks: Vec<&str> = all
        .iter()
        .filter_map(|(name, value)| name.strip_suffix(":UDP").filter(|_| value == "UDP"))
        .collect();
    assert_eq!(marks.len(), 2, "one of each worker: {all:?}");
    for fd in marks {
        let of = |name: &str| {
            let name = format!("{fd}:{name}");
            let found = all.iter().find(|stat| stat.0 == name);
            found.map(|stat| stat.1.as_str())
        };
        let address = of("addr").expect("an address");
        assert!(address.starts_with("udp:127.0.0.1:"), "{address}");
        assert_eq!(of("state"), Some("conn_read"));
        assert_eq!(of("listen_addr"), None);
    }
}

#[test]
fn dumps_are_not_pipelined_behind_other_commands() {
    let server = Server::start();
    let mut client = server.client();
    for dump in ["metadump", "mgdump"] {
        let refused = format!("ERROR cannot pipeline other commands before {dump}\r\n");
        let sent = format!("get a\r\nlru_crawler {dump} all\r\n");
        client.ask(sent, format!("END\r\n{refused}"));
    }
}
