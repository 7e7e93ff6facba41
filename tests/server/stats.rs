//! `stats`: every group has the names of memcached 1.6.45 in the same order,
//! every counter changes by exactly the expected amount, and the groups agree.

use std::collections::BTreeMap;

use rustcached::config::Config;
use test_support::client::Client;
use test_support::memcached::Memcached;
use test_support::server::Server;
use test_support::wait_until;

/// Names in the general group of 1.6.45, with crawler and maintainer.
const GENERAL: &str = "pid uptime time version libevent pointer_size rusage_user rusage_system \
    max_connections curr_connections total_connections rejected_connections \
    connection_structures response_obj_oom response_obj_count response_obj_bytes read_buf_count \
    read_buf_bytes read_buf_bytes_free read_buf_oom reserved_fds cmd_get cmd_set cmd_flush \
    cmd_touch cmd_meta get_hits get_misses get_expired get_flushed delete_misses delete_hits \
    incr_misses incr_hits decr_misses decr_hits cas_misses cas_hits cas_badval touch_hits \
    touch_misses store_too_large store_no_memory auth_cmds auth_errors bytes_read bytes_written \
    limit_maxbytes accepting_conns listen_disabled_num time_in_listen_disabled_us threads \
    conn_yields hash_power_level hash_bytes hash_is_expanding slab_reassign_rescues \
    slab_reassign_chunk_rescues slab_reassign_inline_reclaim slab_reassign_busy_items \
    slab_reassign_busy_deletes slab_reassign_busy_nomem slab_reassign_last_busy_status \
    slab_reassign_running slabs_moved lru_crawler_running lru_crawler_starts \
    lru_maintainer_juggles malloc_fails log_worker_dropped log_worker_written \
    log_watcher_skipped log_watcher_sent log_watchers unexpected_napi_ids round_robin_fallback \
    bytes curr_items total_items slab_global_page_pool expired_unfetched evicted_unfetched \
    evicted_active evictions reclaimed crawler_reclaimed crawler_items_checked \
    lrutail_reflocked moves_to_cold moves_to_warm moves_within_lru direct_reclaims \
    lru_bumps_dropped";

/// Names that a group has in 1.6.18 but not in 1.6.45, or not without extstore.
const ONLY_OLD: [(&str, &[&str]); 2] = [
    ("", &["slab_reassign_evictions_nomem"]),
    (
        " settings",
        &[
            "ext_item_size",
            "ext_item_age",
            "ext_low_ttl",
            "ext_recache_rate",
            "ext_wbuf_size",
            "ext_compact_under",
            "ext_drop_under",
            "ext_max_sleep",
            "ext_max_frag",
            "ext_drop_unread",
            "slab_automove_freeratio",
            "ssl_chain_cert",
            "ssl_key",
            "ssl_verify_mode",
            "ssl_keyformat",
            "ssl_ciphers",
            "ssl_ca_cert",
            "ssl_wbuf_size",
            "ssl_session_cache",
            "ssl_kernel_tls",
            "ssl_min_version",
        ],
    ),
];
/// Names that a group has in 1.6.45 but not in 1.6.18.
const ONLY_NEW: [(&str, &[&str]); 2] = [
    (
        "",
        &["slab_reassign_busy_nomem", "slab_reassign_last_busy_status"],
    ),
    (" settings", &["client_flags_size"]),
];
/// Names that a group has in this server only.
const ONLY_OURS: (&str, &str) = (" settings", "objective");

/// Returns the names and values of a group, in order.
fn group(client: &mut Client, group: &str) -> Vec<(String, String)> {
    let answer = client.answer(format!("stats{group}\r\n"));
    let text = String::from_utf8(answer).expect("statistics are text");
    let lines = text.strip_suffix("END\r\n").expect("a group ends with END");
    let stat = |line: &str| {
        let line = line.strip_prefix("STAT ").expect("lines are statistics");
        let (name, value) = line.split_once(' ').expect("a name and a figure");
        (name.to_owned(), value.to_owned())
    };
    lines.lines().map(stat).collect()
}

/// Returns the numeric values of the general group.
fn numbers(client: &mut Client) -> BTreeMap<String, i64> {
    let all = group(client, "");
    let number = |(name, value): (String, String)| Some((name, value.parse().ok()?));
    all.into_iter().filter_map(number).collect()
}

fn names(client: &mut Client, which: &str) -> Vec<String> {
    group(client, which)
        .into_iter()
        .map(|stat| stat.0)
        .collect()
}

#[test]
fn the_general_group_has_every_name_in_order() {
    let server = Server::start();
    let want: Vec<&str> = GENERAL.split_ascii_whitespace().collect();
    assert_eq!(names(&mut server.client(), ""), want);
}

#[test]
fn names_and_order_are_those_of_the_installed_memcached() {
    let Some(memcached) = Memcached::start_or_skip(&[]) else {
        return;
    };
    // The names of the target release need no exceptions.
    let is_older = memcached.version() < [1, 6, 45];
    let server = Server::start();
    let (mut ours, mut theirs) = (server.client(), Client::connect(&memcached.address()));
    for client in [&mut ours, &mut theirs] {
        client.ask("set key 0 0 5\r\nvalue\r\n", "STORED\r\n");
    }
    // Connections that waited for the server's start may still be open.
    for client in [&mut ours, &mut theirs] {
        wait_until("the listener and one connection are left", || {
            let names = names(client, " conns").into_iter();
            let states = names.filter(|name| name.ends_with(":state"));
            (states.count() == 2).then_some(())
        });
    }
    // Numbers of slab classes and descriptors differ between the servers.
    let plain = |name: String| name.chars().filter(|c| !c.is_ascii_digit()).collect();
    for which in ["", " settings", " items", " slabs", " conns"] {
        let differing = |table: &[(&str, &[&str])]| -> Vec<String> {
            let rows = table.iter().filter(|row| is_older && row.0 == which);
            rows.flat_map(|row| row.1.iter().map(ToString::to_string))
                .collect()
        };
        let without = |client: &mut Client, left_out: &[String]| -> Vec<String> {
            let names = names(client, which).into_iter();
            names
                .filter(|name| !left_out.contains(name))
                .map(plain)
                .collect()
        };
        let mut not_theirs = differing(&ONLY_NEW);
        if which == ONLY_OURS.0 {
            not_theirs.push(ONLY_OURS.1.to_string());
        }
        let common = without(&mut ours, &not_theirs);
        assert_eq!(
            common,
            without(&mut theirs, &differing(&ONLY_OLD)),
            "{which}"
        );
    }
}

/// Steps of a load, each with the counters that it changes.
const LOAD: &[(&str, &str)] = &[
    (
        "set a 0 0 1\r\n1\r\n",
        "cmd_set 1 total_items 1 curr_items 1",
    ),
    (
        "get a\r\nget a b c\r\n",
        "cmd_get 4 get_hits 2 get_misses 2",
    ),
    ("gets a\r\nmg a v\r\n", "cmd_get 2 get_hits 2"),
    ("mg none v\r\n", "cmd_get 1 get_misses 1"),
    (
        "touch a 0\r\ntouch none 0\r\n",
        "cmd_touch 2 touch_hits 1 touch_misses 1",
    ),
    ("incr a 5\r\nincr none 1\r\n", "incr_hits 1 incr_misses 1"),
    ("decr a 5\r\ndecr none 1\r\n", "decr_hits 1 decr_misses 1"),
    ("ma a\r\nma none\r\n", "incr_hits 1 incr_misses 1"),
    ("ma new N0\r\n", "total_items 1 curr_items 1"),
    ("add a 0 0 1\r\n1\r\n", "cmd_set 1"),
    ("append a 0 0 1\r\n1\r\n", "cmd_set 1 total_items 1"),
    ("cas a 0 0 1 99999\r\n1\r\n", "cmd_set 1 cas_badval 1"),
    ("cas none 0 0 1 1\r\n1\r\n", "cmd_set 1 cas_misses 1"),
    (
        "ms c 1 E777\r\n1\r\n",
        "cmd_set 1 total_items 1 curr_items 1",
    ),
    (
        "cas c 0 0 1 777\r\n2\r\n",
        "cmd_set 1 cas_hits 1 total_items 1",
    ),
    (
        "delete a\r\ndelete a\r\n",
        "delete_hits 1 delete_misses 1 curr_items -1",
    ),
    (
        "md new\r\nmd new\r\n",
        "delete_hits 1 delete_misses 1 curr_items -1",
    ),
    ("set bad 0 0 1\r\n123\r\n", "cmd_set 1"),
    ("me c\r\nme none\r\n", "cmd_meta 2"),
    (
        "set x 0 -1 1\r\n1\r\n",
        "cmd_set 1 total_items 1 curr_items 1",
    ),
    (
        "get x\r\n",
        "cmd_get 1 get_misses 1 get_expired 1 curr_items -1",
    ),
    (
        "set f 0 0 1\r\n1\r\n",
        "cmd_set 1 total_items 1 curr_items 1",
    ),
    ("flush_all\r\n", "cmd_flush 1"),
    (
        "get f\r\n",
        "cmd_get 1 get_misses 1 get_flushed 1 curr_items -1",
    ),
];

#[test]
fn figures_move_by_exactly_what_is_done() {
    let server = Server::start();
    let mut client = server.client();
    // Otherwise the crawler may find expired items before the script does.
    client.ask("lru_crawler disable\r\n", "OK\r\n");
    let wandering = [
        "uptime",
        "time",
        "bytes",
        "bytes_read",
        "bytes_written",
        "hash_bytes",
        "hash_power_level",
        "lru_maintainer_juggles",
        "crawler_items_checked",
        "slab_global_page_pool",
    ];
    for (send, want) in LOAD {
        let before = numbers(&mut client);
        client.answer(send);
        let after = numbers(&mut client);
        let moved = |(name, value): (&String, &i64)| {
            let by = value - before[name];
            (by != 0 && !wandering.contains(&name.as_str())).then(|| (name.clone(), by))
        };
        let moved: BTreeMap<String, i64> = after.iter().filter_map(moved).collect();
        let words: Vec<&str> = want.split_ascii_whitespace().collect();
        let want = words
            .chunks(2)
            .map(|pair| (pair[0].to_owned(), pair[1].parse().expect("a number")));
        assert_eq!(moved, want.collect(), "{send:?}");
    }
}

#[test]
fn bytes_are_counted_to_the_last() {
    let server = Server::start();
    let mut client = server.client();
    // Each reply to `stats` is followed by the reply to the delimiting `mn`.
    let (asked, end) = ("stats\r\nmn\r\n".len(), "MN\r\n".len());
    let figure = |answer: &[u8], name: &str| -> usize {
        let text = String::from_utf8_lossy(answer);
        let begin = format!("STAT {name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&begin));
        line.expect("it is told").parse().expect("a number")
    };
    let first = client.answer("stats\r\n");
    let second = client.answer("stats\r\n");
    let moved = |name| figure(&second, name) - figure(&first, name);
    assert_eq!(moved("bytes_read"), asked);
    assert_eq!(moved("bytes_written"), first.len() + end);
}

#[test]
fn a_value_of_any_way_in_counts_once() {
    let server = Server::with(|config: &mut Config| config.max_item_size = 4 << 20);
    let mut client = server.client();
    let value = "v".repeat(2 << 20);
    client.ask(
        format!("set large 0 0 {}\r\n{value}\r\n", value.len()),
        "STORED\r\n",
    );
    client.ask("set small 0 0 1\r\n1\r\n", "STORED\r\n");
    let too_large = "v".repeat(5 << 20);
    let refused = "SERVER_ERROR object too large for cache\r\n";
    client.ask(
        format!("set none 0 0 {}\r\n{too_large}\r\n", too_large.len()),
        refused,
    );
    let stats = numbers(&mut client);
    assert_eq!(stats["cmd_set"], 2);
    assert_eq!(stats["store_too_large"], 1);
    assert_eq!(stats["total_items"], 2);
}

#[test]
fn evictions_and_refusals_are_counted() {
    let server = Server::with(|config| config.max_memory = 8 << 20);
    let mut client = server.client();
    let value = "v".repeat(4000);
    for number in 0..4000 {
        client.send(format!("set key{number} 0 0 4000 noreply\r\n{value}\r\n"));
    }
    let stats = numbers(&mut client);
    assert_eq!(stats["total_items"], 4000);
    assert_eq!(stats["evictions"], 4000 - stats["curr_items"]);
    assert_eq!(stats["evicted_unfetched"], stats["evictions"]);
    assert!(stats["evictions"] > 1000 && stats["direct_reclaims"] > 0);
    let items = group(&mut client, " items");
    let sum = |name: &str| -> i64 {
        let named = items.iter().filter(|stat| stat.0.ends_with(name));
        named
            .map(|stat| stat.1.parse::<i64>().expect("a number"))
            .sum()
    };
    assert_eq!(sum(":number"), stats["curr_items"]);
    assert_eq!(sum(":mem_requested"), stats["bytes"]);
    assert_eq!(sum(":evicted"), stats["evictions"]);
    assert_eq!(sum(":evicted_nonzero"), 0);

    let strict = Server::with(|config| {
        config.max_memory = 8 << 20;
        config.evict = false;
    });
    let mut client = strict.client();
    for number in 0..4000 {
        client.send(format!("set key{number} 0 0 4000 noreply\r\n{value}\r\n"));
    }
    let stats = numbers(&mut client);
    assert_eq!(stats["evictions"], 0);
    assert_eq!(stats["store_no_memory"], 4000 - stats["curr_items"]);
}

#[test]
fn classes_ascend_and_add_up() {
    let server = Server::start();
    let mut client = server.client();
    for (number, len) in [0, 20, 70, 300, 900, 1100, 3000, 9000, 40_000]
        .into_iter()
        .enumerate()
    {
        let value = "v".repeat(len);
        client.ask(
            format!("set key{number} 0 0 {len}\r\n{value}\r\n"),
            "STORED\r\n",
        );
        client.answer(format!("get key{number}\r\n"));
        let debug = String::from_utf8(client.answer(format!("me key{number}\r\n"))).expect("text");
        let class = debug
            .split(" cls=")
            .nth(1)
            .expect("it is there")
            .split(' ')
            .next()
            .expect("it is there");
        let size = debug
            .split(" size=")
            .nth(1)
            .expect("it is there")
            .trim_end();
        let items = group(&mut client, " items");
        let figure = |name: &str| {
            let name = format!("items:{class}:{name}");
            &items
                .iter()
                .find(|stat| stat.0 == name)
                .expect("it is there")
                .1
        };
        assert_eq!(figure("number"), "1", "{len}: {debug}");
        assert_eq!(figure("mem_requested"), size, "{len}");
        assert_eq!(figure("hits_to_cold"), "1", "{len}");
    }
    let slabs = group(&mut client, " slabs");
    let mut ids = Vec::new();
    let mut hits = 0;
    for (name, value) in &slabs {
        let Some((id, name)) = name.split_once(':') else {
            continue;
        };
        let id: i64 = id.parse().expect("a number");
        assert!((1..=63).contains(&id));
        let value: i64 = value.parse().expect("a number");
        match name {
            "chunk_size" => ids.push((id, value)),
            "total_chunks" => assert!(value > 0),
            "get_hits" => hits += value,
            _ => {}
        }
    }
    assert!(ids.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{ids:?}");
    assert_eq!(hits, 9);
    let active = slabs
        .iter()
        .find(|stat| stat.0 == "active_slabs")
        .expect("it is there");
    assert_eq!(active.1, ids.len().to_string());
}

#[test]
fn appending_in_place_moves_an_item_to_its_new_class() {
    let server = Server::start();
    let mut client = server.client();
    let piece = "v".repeat(3000);
    client.ask(format!("set key 0 0 3000\r\n{piece}\r\n"), "STORED\r\n");
    for _ in 0..20 {
        client.ask(format!("append key 0 0 3000\r\n{piece}\r\n"), "STORED\r\n");
    }
    client.ask("delete key\r\n", "DELETED\r\n");
    assert_eq!(group(&mut client, " items"), []);
    assert_eq!(client.stat("bytes"), "0");
}

#[test]
fn reset_begins_anew_but_for_what_is_there() {
    let server = Server::start();
    let mut client = server.client();
    client.answer("set a 0 0 1\r\n1\r\nget a\r\nget b\r\ndelete b\r\n");
    client.ask("stats reset\r\n", "RESET\r\n");
    let stats = numbers(&mut client);
    for name in [
        "cmd_get",
        "get_hits",
        "get_misses",
        "cmd_set",
        "total_items",
        "delete_misses",
    ] {
        assert_eq!(stats[name], 0, "{name}");
    }
    assert_eq!(stats["curr_items"], 1);
    let items = group(&mut client, " items");
    let figure = |name: &str| {
        &items
            .iter()
            .find(|stat| stat.0.ends_with(name))
            .expect("it is there")
            .1
    };
    assert_eq!(
        (figure(":number").as_str(), figure(":hits_to_cold").as_str()),
        ("1", "0")
    );
    // Some group names may be abbreviated.
    client.ask("stats r\r\n", "RESET\r\n");
    client.ask("stats it\r\n", "ERROR\r\n");
    client.ask("stats maps\r\nstats malloc\r\n", "ERROR\r\nERROR\r\n");
}

#[test]
fn detail_counts_by_prefix_while_it_is_on() {
    let server = Server::start();
    let mut client = server.client();
    client.answer("set user:1 0 0 1\r\n1\r\n");
    client.ask("stats detail dump\r\n", "END\r\n");
    client.ask("stats detail on\r\n", "OK\r\n");
    assert!(group(&mut client, " settings").contains(&("detail_enabled".into(), "yes".into())));
    client.answer("set user:1 0 0 1\r\n1\r\nget user:1 user:2 plain\r\nmg user:1 v\r\n");
    client.answer("delete user:1\r\nmd user:9\r\nms user:3 1\r\n1\r\n");
    client.ask(
        "stats detail dump\r\n",
        "PREFIX user get 3 hit 2 set 2 del 2\r\nEND\r\n",
    );
    client.ask("stats detail off\r\n", "OK\r\n");
    client.answer("get user:1\r\n");
    client.ask(
        "stats detail dump\r\n",
        "PREFIX user get 3 hit 2 set 2 del 2\r\nEND\r\n",
    );
    client.ask("stats reset\r\nstats detail dump\r\n", "RESET\r\nEND\r\n");
    let usage = "CLIENT_ERROR usage: stats detail on|off|dump\r\n";
    client.ask("stats detail\r\nstats detail nonsense\r\n", usage.repeat(2));
}

#[test]
fn detail_from_the_start_and_with_another_delimiter() {
    let server = Server::with(|config| {
        config.detail = true;
        config.prefix_delimiter = b'/';
    });
    let mut client = server.client();
    client.answer("get a/b\r\nget a:b\r\n");
    client.ask(
        "stats detail dump\r\n",
        "PREFIX a get 1 hit 0 set 0 del 0\r\nEND\r\n",
    );
}

#[test]
fn cachedump_lists_a_class() {
    let server = Server::start();
    let mut client = server.client();
    client.answer("set a 0 0 3\r\nabc\r\nset b 0 500 3\r\nabc\r\nms AAEC 1 b\r\n1\r\n");
    let debug = String::from_utf8(client.answer("me a\r\n")).expect("text");
    let class = debug
        .split(" cls=")
        .nth(1)
        .expect("it is there")
        .split(' ')
        .next()
        .expect("it is there");
    let dump = |client: &mut Client, limit: u32| -> Vec<String> {
        let answer = client.answer(format!("stats cachedump {class} {limit}\r\n"));
        let text = String::from_utf8(answer).expect("text");
        let lines = text.strip_suffix("END\r\n").expect("it is there");
        let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let all = dump(&mut client, 0);
    assert_eq!(all[0], "ITEM a [3 b; 0 s]");
    assert!(all.iter().all(|line| line.starts_with("ITEM ")), "{all:?}");
    assert_eq!(dump(&mut client, 1).len(), 1);
    for (send, want) in [
        ("cachedump 64 0", "CLIENT_ERROR Illegal slab id"),
        ("cachedump x 0", "CLIENT_ERROR bad command line format"),
        ("cachedump 1 x", "CLIENT_ERROR bad command line format"),
        ("cachedump 1", "CLIENT_ERROR bad command line"),
        ("cachedump", "CLIENT_ERROR bad command line"),
        ("cachedump 63 0", "END"),
        ("cachedump 0 0", "END"),
    ] {
        client.ask(format!("stats {send}\r\n"), format!("{want}\r\n"));
    }
}

#[test]
fn sizes_are_a_histogram_without_a_restart() {
    let server = Server::start();
    let mut client = server.client();
    for number in 0..1000 {
        client.answer(format!("set key{number:04} 0 0 10\r\n0123456789\r\n"));
    }
    client.answer("set large 0 0 1000\r\n".to_owned() + &"v".repeat(1000) + "\r\n");
    let sizes = group(&mut client, " sizes");
    let want = [
        ("64".to_owned(), "1000".to_owned()),
        ("1024".into(), "1".into()),
    ];
    assert_eq!(sizes, want);
    // Commands pipelined behind it are answered after it.
    let answer = client.answer("stats sizes\r\nget none\r\n");
    assert_eq!(answer, b"STAT 64 1000\r\nSTAT 1024 1\r\nEND\r\nEND\r\n");
}

#[test]
fn connections_are_listed() {
    let server = Server::start();
    let mut first = server.client();
    first.answer("");
    let mut second = server.client();
    second.answer("");
    let count = |client: &mut Client| {
        let conns = group(client, " conns");
        let states = conns.iter().filter(|stat| stat.0.ends_with(":state"));
        states.map(|stat| stat.1.clone()).collect::<Vec<_>>()
    };
    let mut states = count(&mut second);
    states.sort_unstable();
    assert_eq!(states, ["conn_listening", "conn_parse_cmd", "conn_read"]);
    server.advance(10);
    let idle: Vec<String> = group(&mut second, " conns")
        .into_iter()
        .filter(|stat| stat.0.ends_with(":secs_since_last_cmd"))
        .map(|stat| stat.1)
        .collect();
    assert!(
        idle.contains(&"0".to_owned()) && idle.contains(&"10".to_owned()),
        "{idle:?}"
    );
    drop(first);
    wait_until("the connection is no longer listed", || {
        (count(&mut second).len() == 2).then_some(())
    });
}

#[test]
fn dumps_can_be_forbidden() {
    let server = Server::with(|config| {
        config.dump = false;
        config.watch = false;
        config.flush = false;
    });
    let mut client = server.client();
    for (send, want) in [
        (
            "stats cachedump 1 0",
            "CLIENT_ERROR stats cachedump not allowed",
        ),
        ("stats detail on", "CLIENT_ERROR stats detail not allowed"),
        ("stats detail dump", "CLIENT_ERROR stats detail not allowed"),
        ("lru_crawler metadump all", "ERROR metadump not allowed"),
        ("lru_crawler mgdump all", "ERROR key dump not allowed"),
        ("watch", "CLIENT_ERROR watch commands not allowed"),
        ("flush_all", "CLIENT_ERROR flush_all not allowed"),
    ] {
        client.ask(format!("{send}\r\n"), format!("{want}\r\n"));
    }
    assert_eq!(client.stat("cmd_flush"), "1");
}
