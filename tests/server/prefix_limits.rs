//! Limits of prefixes: on the command line, in the configuration file and at run
//! time.

use std::collections::HashMap;
use std::fs;

use serde_json::Value;
use test_support::client::{Address, Client};
use test_support::http::{address_of, get};
use test_support::program::Program;
use test_support::server::Server;
use test_support::{TempDir, wait_until};

use rustcached::config::{Endpoint, Listener, MemoryShare, PrefixLimit, ProtocolMode};
use rustcached::limits::PREFIX_LIMITS_MAX;

const MIB: u64 = 1 << 20;

/// Returns the figures of the prefixes with a limit, by prefix.
fn limits(client: &mut Client) -> HashMap<String, HashMap<String, String>> {
    let answer = String::from_utf8(client.answer("stats prefixes\r\n")).expect("text");
    let mut rows: HashMap<String, HashMap<String, String>> = HashMap::new();
    for line in answer.lines() {
        let Some(line) = line.strip_prefix("STAT limit:") else {
            continue;
        };
        let (name, value) = line.split_once(' ').expect("a value");
        let (number, name) = name.split_once(':').expect("a number");
        let row = rows.entry(number.to_owned()).or_default();
        row.insert(name.to_owned(), value.to_owned());
    }
    rows.into_values()
        .map(|row| (row["prefix"].replace("%3A", ":"), row))
        .collect()
}

fn figure(client: &mut Client, prefix: &str, name: &str) -> u64 {
    let limits = limits(client);
    limits[prefix][name].parse().expect("a number")
}

fn fill(client: &mut Client, prefix: &str, count: usize) {
    let value = "v".repeat(900);
    for number in 0..count {
        let set = format!("set {prefix}{number} 0 0 900\r\n{value}\r\n");
        client.ask(set, "STORED\r\n");
    }
}

fn count(client: &mut Client, prefix: &str, count: usize) -> usize {
    let has = |number: &usize| {
        let answer = client.answer(format!("mg {prefix}{number}\r\n"));
        answer == b"HD\r\n"
    };
    (0..count).filter(has).count()
}

#[test]
fn a_prefix_at_its_limit_evicts_its_own_items() {
    let (_program, address) = Program::start(&["-m", "64", "--prefix-limit=user:=2"]);
    let mut client = Client::connect(&address);
    fill(&mut client, "page:", 1000);
    fill(&mut client, "user:", 10_000);
    assert_eq!(count(&mut client, "page:", 1000), 1000);
    let kept = count(&mut client, "user:", 10_000) as u64;
    assert_eq!(figure(&mut client, "user:", "items"), kept);
    assert_eq!(figure(&mut client, "user:", "evictions"), 10_000 - kept);
    assert_eq!(client.stat("evictions"), (10_000 - kept).to_string());
    assert_eq!(figure(&mut client, "user:", "limit_bytes"), 2 * MIB);
    assert_eq!(figure(&mut client, "user:", "counting"), 0);
    let bytes = figure(&mut client, "user:", "bytes");
    assert!((MIB..=2 * MIB).contains(&bytes), "{bytes}");
    client.ask("flush_all\r\n", "OK\r\n");
    fill(&mut client, "user:", 10);
    wait_until("dead items leave the sums", || {
        (figure(&mut client, "user:", "items") == 10).then_some(())
    });
}

#[test]
fn limits_change_while_the_server_runs() {
    let server = Server::start();
    let mut client = server.client();
    fill(&mut client, "user:", 10_000);
    assert!(limits(&mut client).is_empty());
    client.ask("prefix_limit user: 1%\r\n", "OK\r\n");
    let limit = figure(&mut client, "user:", "limit_bytes");
    assert_eq!(limit, 64 * MIB / 100);
    wait_until("the limit is kept", || {
        (figure(&mut client, "user:", "bytes") <= limit).then_some(())
    });
    let kept = count(&mut client, "user:", 10_000) as u64;
    assert_eq!(figure(&mut client, "user:", "items"), kept);
    client.ask(
        "prefix_limit user: 3 noreply\r\nprefix_limit user:a: 50%\r\n",
        "OK\r\n",
    );
    assert_eq!(figure(&mut client, "user:", "limit_bytes"), 3 * MIB);
    fill(&mut client, "user:a:", 1000);
    assert_eq!(figure(&mut client, "user:a:", "items"), 1000);
    assert_eq!(figure(&mut client, "user:", "items"), kept + 1000);
    client.ask("prefix_limit user: none\r\n", "OK\r\n");
    assert_eq!(limits(&mut client).len(), 1);
    fill(&mut client, "user:", 10_000);
    assert_eq!(count(&mut client, "user:", 10_000), 10_000);
    // The second item has no room beside the first one.
    client.ask("prefix_limit small: 1\r\n", "OK\r\n");
    wait_until("all items are counted", || {
        (figure(&mut client, "small:", "counting") == 0).then_some(())
    });
    let (first, second) = ("x".repeat(500_000), "y".repeat(1_048_000));
    client.ask(
        format!("set small:1 0 0 500000\r\n{first}\r\n"),
        "STORED\r\n",
    );
    client.ask(
        format!("set small:2 0 0 1048000\r\n{second}\r\n"),
        "STORED\r\n",
    );
    wait_until("there is room for the second one", || {
        (figure(&mut client, "small:", "items") == 1).then_some(())
    });
}

#[test]
fn bad_limits_are_refused() {
    let server = Server::start();
    let mut client = server.client();
    let usage = "CLIENT_ERROR usage: prefix_limit prefix 1%-100%|megabytes|none [noreply]\r\n";
    for line in [
        "prefix_limit",
        "prefix_limit user:",
        "prefix_limit user: 0",
        "prefix_limit user: 101%",
        "prefix_limit user: 1g",
        "prefix_limit user: 1 2",
        "prefix_limit user: 1 noreply 2",
        "prefix_limit user: 99999999999999999999",
    ] {
        client.ask(format!("{line}\r\n"), usage);
    }
    client.ask(
        "prefix_limit user 5%\r\n",
        "CLIENT_ERROR prefix must end with the delimiter\r\n",
    );
    client.ask(
        format!("prefix_limit {}: 5%\r\n", "a".repeat(250)),
        "CLIENT_ERROR a prefix has at most 250 bytes\r\n",
    );
    for number in 0..PREFIX_LIMITS_MAX {
        client.ask(format!("prefix_limit {number}: 5%\r\n"), "OK\r\n");
    }
    client.ask(
        "prefix_limit more: 5%\r\n",
        "CLIENT_ERROR 64 prefixes have had a limit since the start\r\n",
    );
    assert_eq!(limits(&mut client).len(), PREFIX_LIMITS_MAX);
}

#[test]
fn metrics_and_the_page_show_limits() {
    let server = Server::with(|config| {
        config.prefix_limits = vec![PrefixLimit {
            prefix: b"user:"[..].into(),
            share: MemoryShare::Percent(10),
        }];
        config.admin.listeners = vec![Listener {
            endpoint: Endpoint::Tcp(([127, 0, 0, 1], 0).into()),
            protocol: ProtocolMode::Auto,
            tls: None,
            proxy: false,
            optional: false,
        }];
    });
    let mut client = server.client();
    client.ask("prefix_limit a\"\\\u{e9}: 1\r\n", "OK\r\n");
    fill(&mut client, "user:", 20);
    let bytes = figure(&mut client, "user:", "bytes");
    let admin = address_of(&server.admin_urls()[0]);
    let metrics = get(&admin, "/metrics").body;
    for line in [
        &format!("rustcached_prefix_bytes{{prefix=\"user:\"}} {bytes}\n")[..],
        "rustcached_prefix_items{prefix=\"user:\"} 20\n",
        "rustcached_prefix_items{prefix=\"a\\\"\\\\x5c\\\\xc3\\\\xa9:\"} 0\n",
        "rustcached_prefix_limit_bytes{prefix=\"user:\"} 6710880\n",
        "rustcached_prefix_evictions_total{prefix=\"user:\"} 0\n",
        "rustcached_evictions_total{reason=\"prefix_limit\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let body = get(&admin, "/api/prefix_limits.json").body;
    let json: Value = serde_json::from_str(&body).expect("JSON");
    let row = &json["limits"][0];
    assert_eq!(row["prefix"], "user:");
    assert_eq!(row["limit"], "10%");
    assert_eq!(row["bytes"], bytes);
    client.ask("invalidate prefix user:\r\n", "INVALIDATED\r\n");
    let body = get(&admin, "/api/invalidation.json").body;
    let json: Value = serde_json::from_str(&body).expect("JSON");
    let rows = json["invalidation"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["name"] == "invalidations");
    assert_eq!(row.expect("declared")["value"], 1);
}

#[test]
fn a_value_that_a_limit_refuses_costs_no_other_client_its_connection() {
    let server = Server::with(|config| config.max_item_size = 4 << 20);
    let mut client = server.client();
    client.ask("prefix_limit small: 1\r\n", "OK\r\n");
    let mut slow = server.client();
    let half = "x".repeat(1_000_000);
    slow.send(format!("set other 0 0 2000000\r\n{half}"));
    wait_until("the value is half received", || {
        (client.stat("bytes_read").parse::<usize>().ok()? > 1_000_000).then_some(())
    });
    let large = "y".repeat(2_000_000);
    client.ask(
        format!("set small:1 0 0 2000000\r\n{large}\r\n"),
        "SERVER_ERROR out of memory storing object\r\n",
    );
    slow.ask(format!("{half}\r\n"), "STORED\r\n");
}

#[test]
fn values_that_arrive_together_share_the_room() {
    for evict in [false, true] {
        let server = Server::with(|config| config.evict = evict);
        let mut client = server.client();
        client.ask("prefix_limit p: 1\r\n", "OK\r\n");
        let value = "x".repeat(400_000);
        let mut senders: Vec<Client> = (0..4).map(|_| server.client()).collect();
        for (number, sender) in senders.iter_mut().enumerate() {
            sender.send(format!("set p:{number} 0 0 400000\r\n{value}"));
        }
        wait_until("all values but their ends have arrived", || {
            (client.stat("bytes_read").parse::<usize>().ok()? > 1_600_000).then_some(())
        });
        for (number, sender) in senders.iter_mut().enumerate() {
            let wanted = match evict || number < 2 {
                true => "STORED\r\n",
                false => "SERVER_ERROR out of memory storing object\r\n",
            };
            sender.ask("\r\n", wanted);
        }
        assert_eq!(figure(&mut client, "p:", "items"), 2);
    }
}

#[test]
fn a_reload_changes_limits() {
    let directory = TempDir::create();
    let path = directory.path("settings");
    let write = |text: &str| fs::write(&path, text).expect("a file");
    write("memory-limit 64\nprefix-limit user:=50%\nprefix-limit page:=4\n");
    let option = format!("--config={}", path.display());
    let (program, address) = Program::start(&[&option[..]]);
    let mut client = Client::connect(&address);
    assert_eq!(limits(&mut client).len(), 2);
    fill(&mut client, "user:", 3000);
    write("memory-limit 64\nprefix-limit user:=1\nprefix-limit other:=1%\n");
    program.signal("HUP");
    wait_until("the limits change", || {
        let limits = limits(&mut client);
        (limits.contains_key("other:") && !limits.contains_key("page:")).then_some(())
    });
    wait_until("the limit is kept", || {
        (figure(&mut client, "user:", "bytes") <= MIB).then_some(())
    });
    write("memory-limit 64\nprefix-limit user=1\n");
    program.signal("HUP");
    program.signal("TERM");
    let ended = program.wait();
    let log = &ended.errors;
    assert!(ended.status.success(), "{log}");
    assert!(log.contains("2 prefixes have a limit now"), "{log}");
    assert!(log.contains("must end with the delimiter :"), "{log}");
}

#[test]
fn kept_items_count_after_a_restart() {
    let directory = TempDir::create();
    let option = format!("--save-path={}", directory.path("items").display());
    let start = |limit: &str| -> (Program, Address) { Program::start(&[&option, limit]) };
    let (program, address) = start("--prefix-limit=user:=50%");
    let mut client = Client::connect(&address);
    fill(&mut client, "user:", 2000);
    fill(&mut client, "page:", 500);
    let before = figure(&mut client, "user:", "bytes");
    crate::restart::stop(program, "TERM");
    let (program, address) = start("--prefix-limit=user:=50%");
    let mut client = Client::connect(&address);
    wait_until("all items are counted", || {
        (figure(&mut client, "user:", "counting") == 0).then_some(())
    });
    assert_eq!(figure(&mut client, "user:", "bytes"), before);
    assert_eq!(figure(&mut client, "user:", "items"), 2000);
    crate::restart::stop(program, "TERM");
    let (_program, address) = start("--prefix-limit=user:=1");
    let mut client = Client::connect(&address);
    wait_until("the lower limit is kept", || {
        let bytes = figure(&mut client, "user:", "bytes");
        (bytes > 0 && bytes <= MIB && figure(&mut client, "user:", "counting") == 0).then_some(())
    });
    assert_eq!(count(&mut client, "page:", 500), 500);
}
