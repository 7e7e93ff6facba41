//! Third-party tools that read statistics and dumps, against the program:
//! memcached's `memcached-tool`, libmemcached's `memcstat` and `memcdump`; and
//! the parsing rules of other tools. A missing tool fails the test in CI.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use test_support::client::Client;
use test_support::program::Program;
use test_support::{DEADLINE, skip};

const MEMCACHED_TOOL: &str = "/usr/share/memcached/scripts/memcached-tool";

/// Starts a server with items of three sizes, some of them fetched.
fn start() -> (Program, Client) {
    let (program, address) = Program::start(&[]);
    let mut client = Client::connect(&address);
    for (number, len) in [(1, 10), (2, 10), (3, 500), (4, 20_000)] {
        let value = "v".repeat(len);
        client.ask(
            format!("set key{number} 0 0 {len}\r\n{value}\r\n"),
            "STORED\r\n",
        );
    }
    client.answer("get key1\r\nget none\r\n");
    (program, client)
}

/// Runs a tool and returns its output. Returns `None` if it is not installed;
/// panics if it fails.
fn run(tool: &str, arguments: &[&str]) -> Option<String> {
    if !Path::new(tool).is_file() {
        skip(&format!("{tool} is not installed"));
        return None;
    }
    let output = Command::new(tool).args(arguments).output();
    let output = output.expect("the tool can be executed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {errors}");
    assert!(
        !errors.contains("uninitialized"),
        "{tool} {arguments:?}: {errors}"
    );
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn memcached_tool_display() {
    let (server, _client) = start();
    let address = format!("127.0.0.1:{}", server.port());
    let Some(shown) = run(MEMCACHED_TOOL, &[&address, "display"]) else {
        return;
    };
    let rows: Vec<Vec<&str>> = shown
        .lines()
        .skip(1)
        .map(|row| row.split_ascii_whitespace().collect())
        .collect();
    let ids: Vec<u32> = rows
        .iter()
        .map(|row| row[0].parse().expect("an id"))
        .collect();
    assert!(ids.is_sorted() && !ids.is_empty(), "{shown}");
    // # Item_Size Max_age Pages Count Full? Evicted Evict_Time OOM
    let counts = rows
        .iter()
        .map(|row| row[4].parse::<u32>().expect("a count"));
    assert_eq!(counts.sum::<u32>(), 4, "{shown}");
}

#[test]
fn memcached_tool_stats_settings_and_sizes() {
    let (server, _client) = start();
    let address = format!("127.0.0.1:{}", server.port());
    for (mode, wanted) in [
        (
            "stats",
            ["curr_items            4", "get_hits            1"],
        ),
        (
            "settings",
            ["maxconns         1024", "num_threads            4"],
        ),
    ] {
        let Some(shown) = run(MEMCACHED_TOOL, &[&address, mode]) else {
            return;
        };
        let words = |text: &str| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let rows: Vec<String> = shown.lines().map(words).collect();
        for want in wanted {
            assert!(rows.contains(&words(want)), "{want}: {shown}");
        }
    }
    let Some(sizes) = run(MEMCACHED_TOOL, &[&address, "sizes"]) else {
        return;
    };
    let bars = sizes.lines().filter_map(|row| {
        let mut words = row.split_ascii_whitespace();
        let size = words.next()?.parse::<u32>().ok()?;
        Some((size, words.next()?.parse::<u32>().ok()?))
    });
    assert_eq!(bars.map(|bar| bar.1).sum::<u32>(), 4, "{sizes}");
}

#[test]
fn memcached_tool_dump_and_keys() {
    let (server, _client) = start();
    let address = format!("127.0.0.1:{}", server.port());
    let Some(dump) = run(MEMCACHED_TOOL, &[&address, "dump"]) else {
        return;
    };
    // The dump is a script of commands that stores all items again.
    let (second, at) = Program::start(&[]);
    let mut client = Client::connect(&at);
    let commands = dump.replace('\n', "\r\n").replace("\r\r\n", "\r\n");
    client.ask(commands, "STORED\r\n".repeat(4));
    assert_eq!(client.stat("curr_items"), "4");
    drop(second);
    let Some(keys) = run(MEMCACHED_TOOL, &[&address, "keys"]) else {
        return;
    };
    for number in 1..=4 {
        assert!(keys.contains(&format!("key=key{number} ")), "{keys}");
    }
}

#[test]
fn memcstat_and_memcdump() {
    let (server, _client) = start();
    let address = format!("--servers=127.0.0.1:{}", server.port());
    let Some(stats) = run("/usr/bin/memcstat", &[&address]) else {
        return;
    };
    assert!(
        stats.contains("curr_items: 4") && stats.contains("get_hits: 1"),
        "{stats}"
    );
    let Some(keys) = run("/usr/bin/memcdump", &[&address]) else {
        return;
    };
    let mut keys: Vec<&str> = keys.lines().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["key1", "key2", "key3", "key4"]);
}

/// collectd reads at most 4,096 bytes and expects END within them.
#[test]
fn collectd_reads_all_of_stats_at_once() {
    let (_server, mut client) = start();
    let answer = String::from_utf8(client.answer("stats\r\n")).expect("text");
    assert!(answer.ends_with("END\r\n"));
    // Every counter may grow to 13 digits before the group exceeds that.
    let room = |line: &str| {
        let (name, figure) = line.rsplit_once(' ').unwrap_or((line, ""));
        let len = match figure.parse::<u64>() {
            Ok(_) => figure.len().max(13),
            Err(_) => figure.len(),
        };
        name.len() + 1 + len + 2
    };
    let bytes: usize = answer.lines().map(room).sum();
    assert!(bytes < 4096, "{bytes} bytes");
}

/// damemtop, nagios plugins and scripts end lines with a bare LF, some after
/// spaces.
#[test]
fn scripts_that_send_bare_line_feeds() {
    let (server, _client) = start();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
    stream
        .set_read_timeout(Some(DEADLINE))
        .expect("a timeout can be set");
    let asked =
        "lru_crawler metadump all\nstats \nstats items \nstats slabs\nstats settings\nquit\n";
    stream.write_all(asked.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert_eq!(answer.lines().filter(|line| *line == "END").count(), 5);
    assert!(!answer.contains("ERROR"), "{answer}");
}

/// mtop requires each of these statistics, and each must be an unsigned number.
#[test]
fn mtop_finds_every_figure_unsigned() {
    const GENERAL: &str = "pid uptime time max_connections curr_connections total_connections \
        rejected_connections cmd_get cmd_set cmd_flush cmd_touch cmd_meta get_hits get_misses \
        get_expired get_flushed delete_misses delete_hits incr_misses incr_hits decr_misses \
        decr_hits cas_misses cas_hits cas_badval touch_hits touch_misses store_too_large \
        store_no_memory auth_cmds auth_errors bytes_read bytes_written limit_maxbytes threads \
        hash_power_level hash_bytes hash_is_expanding slab_reassign_rescues \
        slab_reassign_running slabs_moved bytes curr_items total_items evictions reclaimed";
    const ITEMS: &str = "number number_hot number_warm number_cold age_hot age_warm age \
        mem_requested evicted evicted_nonzero evicted_time outofmemory tailrepairs reclaimed \
        expired_unfetched evicted_unfetched evicted_active crawler_reclaimed \
        crawler_items_checked lrutail_reflocked moves_to_cold moves_to_warm moves_within_lru \
        direct_reclaims hits_to_hot hits_to_warm hits_to_cold hits_to_temp";
    const SLABS: &str = "chunk_size chunks_per_page total_pages total_chunks used_chunks \
        free_chunks free_chunks_end get_hits cmd_set delete_hits incr_hits decr_hits cas_hits \
        cas_badval touch_hits";
    let (_server, mut client) = start();
    let mut table = |command: &str| -> HashMap<String, String> {
        let text = String::from_utf8(client.answer(command)).expect("text");
        let stats = text.lines().filter_map(|line| line.strip_prefix("STAT "));
        let pairs = stats.filter_map(|stat| stat.split_once(' '));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let check = |table: &HashMap<String, String>, name: &str| {
        let value = table.get(name).unwrap_or_else(|| panic!("no {name}"));
        value
            .parse::<u64>()
            .unwrap_or_else(|_| panic!("{name} is {value}"));
    };
    let general = table("stats\r\n");
    GENERAL
        .split_ascii_whitespace()
        .for_each(|name| check(&general, name));
    for name in ["rusage_user", "rusage_system"] {
        let (_, micros) = general[name].split_once('.').expect("one dot");
        assert!(micros.len() == 6 && micros.parse::<u64>().is_ok(), "{name}");
    }
    let (items, slabs) = (table("stats items\r\n"), table("stats slabs\r\n"));
    for (table, names, before) in [(&items, ITEMS, "items:"), (&slabs, SLABS, "")] {
        let first = names.split_ascii_whitespace().next().expect("names");
        let ids: Vec<u32> = (1..=63)
            .filter(|id| table.contains_key(&format!("{before}{id}:{first}")))
            .collect();
        assert!(ids.len() >= 3, "{ids:?}");
        for id in ids {
            let names = names.split_ascii_whitespace();
            names.for_each(|name| check(table, &format!("{before}{id}:{name}")));
        }
    }
}

/// The Prometheus exporter treats an error reply as a server that is down. It
/// derives the number of sets from the cas counters.
#[test]
fn every_cas_counts_as_a_set() {
    let (_server, mut client) = start();
    client.answer("cas key1 0 0 1 1\r\n1\r\ncas none 0 0 1 1\r\n1\r\nms key1 1 E5\r\n1\r\n");
    client.answer("cas key1 0 0 1 5\r\n1\r\n");
    let mut number = |name| -> i64 { client.stat(name).parse().expect("a number") };
    let sets = number("cmd_set");
    let rest = sets - (number("cas_hits") + number("cas_misses") + number("cas_badval"));
    assert_eq!((sets, rest), (8, 5));
}

/// memcached-automove sends these commands.
#[test]
fn slab_movers_get_answers_they_know() {
    let (_server, mut client) = start();
    for (send, want) in [
        ("slabs automove 0", "OK"),
        ("slabs automove 1", "OK"),
        ("slabs reassign 1 1", "SAME src and dst class are identical"),
        (
            "slabs reassign 1 2",
            "NOSPARE source class has no spare pages",
        ),
        (
            "slabs reassign 64 2",
            "BADCLASS invalid src or dst class id",
        ),
        ("slabs reassign x 2", "CLIENT_ERROR bad command line format"),
    ] {
        client.ask(format!("{send}\r\n"), format!("{want}\r\n"));
    }
    // Fill pages of a class, so that it has pages to release.
    for number in 0..4000 {
        let value = "v".repeat(500);
        client.send(format!("set many{number} 0 0 500 noreply\r\n{value}\r\n"));
    }
    let debug = String::from_utf8(client.answer("me many1\r\n")).expect("text");
    let class = debug
        .split(" cls=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let class = class.expect("an item has a class");
    let pages = |client: &mut Client| -> u32 {
        let slabs = String::from_utf8(client.answer("stats slabs\r\n")).expect("text");
        let name = format!("STAT {class}:total_pages ");
        let line = slabs.lines().find_map(|line| line.strip_prefix(&name));
        line.expect("the class has pages")
            .parse()
            .expect("a number")
    };
    for number in (0..4000).step_by(2) {
        client.send(format!("delete many{number} noreply\r\n"));
    }
    let before = pages(&mut client);
    client.ask(format!("slabs reassign {class} 0\r\n"), "OK\r\n");
    assert_eq!(pages(&mut client), before - 1);
}
