//! `watch`: log lines in memcached's format, for up to 20 watchers, and no
//! delay of other clients by slow watchers.

use test_support::client::Client;
use test_support::datagram::Datagrams;
use test_support::server::Server;
use test_support::wait_until;

fn watcher(server: &Server, words: &str) -> Client {
    let mut client = server.client();
    client.send(format!("watch {words}\r\n"));
    client.expect("OK\r\n");
    client
}

/// Reads a line and removes the parts that differ from run to run.
fn line(watcher: &mut Client) -> String {
    let line = watcher.line();
    let words = line.strip_suffix('\n').expect("a line").split(' ');
    let mut kept = Vec::new();
    for word in words {
        match word.split_once('=').expect("words are name=value") {
            ("ts", value) => {
                let (seconds, micros) = value.split_once('.').expect("a fraction");
                assert!(
                    seconds.parse::<u64>().expect("a number") > 1_600_000_000 && micros.len() == 6
                );
            }
            ("gid", value) => assert!(value.parse::<u64>().expect("a number") > 0),
            ("cfd", value) => assert!(value.parse::<u64>().expect("a number") > 2),
            ("rport", value) => assert!(value.parse::<u16>().expect("a number") > 0),
            _ => kept.push(word),
        }
    }
    kept.join(" ")
}

fn class(client: &mut Client, key: &str) -> String {
    let debug = String::from_utf8(client.answer(format!("me {key}\r\n"))).expect("text");
    let class = debug.split(" cls=").nth(1).expect("it is there");
    class.split(' ').next().expect("it is there").to_owned()
}

#[test]
fn fetchers() {
    // The crawler must not remove the expired item before it is requested.
    let server = Server::with(|config| config.tunables.crawler = false);
    let mut client = server.client();
    client.answer("set a:b 0 0 5\r\nvalue\r\nset gone 0 -1 1\r\n1\r\n");
    let class = class(&mut client, "a:b");
    let mut watcher = watcher(&server, "fetchers");
    client.answer("get a:b none gone\r\nmg a:b v\r\ngat 0 a:b\r\ntouch none 0\r\n");
    let found = format!("type=item_get key=a%3Ab status=found clsid={class} size=5");
    let none = "type=item_get key=none status=not_found clsid=0 size=0";
    let gone = "type=item_get key=gone status=expired clsid=0 size=0";
    for want in [&found, none, gone, &found, &found, none] {
        assert_eq!(line(&mut watcher), want);
    }
    client.answer("flush_all\r\nget a:b\r\n");
    assert_eq!(
        line(&mut watcher),
        "type=item_get key=a%3Ab status=flushed clsid=0 size=0"
    );
}

#[test]
fn mutations() {
    let server = Server::with(|config| config.max_item_size = 4 << 20);
    let mut client = server.client();
    let mut watcher = watcher(&server, "mutations");
    client.answer("set key 0 100 5\r\nvalue\r\nadd key 0 0 1\r\n1\r\nreplace none 0 0 1\r\n1\r\n");
    client.answer("cas key 0 0 1 9999\r\n1\r\ncas none 0 0 1 1\r\n1\r\nappend key 0 0 1\r\n1\r\n");
    client.answer("ms key 1 MP\r\n1\r\nms key 3\r\nabc\r\nget key\r\ndelete key\r\n");
    for want in [
        "stored cmd=set ttl=100",
        "not_stored cmd=add ttl=0",
        "not_stored cmd=replace ttl=0",
        "exists cmd=cas ttl=0",
        "not_found cmd=cas ttl=0",
        // These report the TTL of the joined item.
        "stored cmd=append ttl=100",
        "stored cmd=prepend ttl=100",
        "stored cmd=set ttl=0",
    ] {
        let line = line(&mut watcher);
        let want = format!(" status={want} clsid=");
        assert!(
            line.starts_with("type=item_store key=") && line.contains(&want),
            "{line}"
        );
    }
    let value = "v".repeat(5 << 20);
    client.answer(format!("set large 0 0 {}\r\n{value}\r\n", value.len()));
    let line = line(&mut watcher);
    assert!(line.contains("key=large status=too_large"), "{line}");
}

/// Every protocol looks a key up before changing it, and memcached logs that
/// lookup.
#[test]
fn look_ups_are_reported_before_what_follows_from_them() {
    let server = Server::start();
    let mut client = server.client();
    let mut watcher = watcher(&server, "fetchers mutations deletions");
    let miss = |key: &str| format!("item_get {key} not_found");
    let hit = |key: &str| format!("item_get {key} found");
    let store = |key: &str, status: &str| format!("item_store {key} {status}");
    let gone = |key: &str| format!("deleted {key}");
    let cases = [
        (
            "set a 0 0 1\r\n1\r\n",
            vec![miss("a"), store("a", "stored")],
        ),
        (
            "add a 0 0 1\r\n1\r\n",
            vec![hit("a"), store("a", "not_stored")],
        ),
        (
            "replace n 0 0 1\r\n1\r\n",
            vec![miss("n"), store("n", "not_stored")],
        ),
        (
            "append a 0 0 1\r\n1\r\n",
            vec![hit("a"), store("a", "stored")],
        ),
        (
            "cas n 0 0 1 1\r\n1\r\n",
            vec![miss("n"), store("n", "not_found")],
        ),
        ("ms m 1\r\n1\r\n", vec![miss("m"), store("m", "stored")]),
        ("incr a 1\r\n", vec![hit("a")]),
        ("decr n 1\r\n", vec![miss("n")]),
        ("ma m\r\n", vec![hit("m")]),
        (
            "ma new N0\r\n",
            vec![miss("new"), miss("new"), store("new", "stored")],
        ),
        ("mg made N30 v\r\n", vec![miss("made")]),
        ("me m\r\n", vec![hit("m")]),
        ("touch n 0\r\n", vec![miss("n")]),
        (
            "md m x\r\n",
            vec![hit("m"), hit("m"), store("m", "stored"), gone("m")],
        ),
        ("md m I\r\n", vec![hit("m")]),
        ("md m\r\n", vec![hit("m"), gone("m")]),
        ("delete n\r\n", vec![miss("n")]),
        ("delete a\r\n", vec![hit("a"), gone("a")]),
    ];
    for (send, want) in cases {
        client.answer(send);
        for want in want {
            let line = line(&mut watcher);
            let words = line.split(' ').filter_map(|word| {
                let (name, value) = word.split_once('=')?;
                ["type", "key", "status"].contains(&name).then_some(value)
            });
            assert_eq!(words.collect::<Vec<_>>().join(" "), want, "{send}");
        }
    }
}

#[test]
fn deletions_and_evictions() {
    let server = Server::with(|config| config.max_memory = 8 << 20);
    let mut client = server.client();
    client.answer("set key 0 0 5\r\nvalue\r\nset other 0 0 5\r\nvalue\r\n");
    let class = class(&mut client, "key");
    let mut deletions = watcher(&server, "deletions");
    client.answer("delete key\r\ndelete key\r\nmd other\r\n");
    for (key, command) in [("key", "delete"), ("other", "md")] {
        let want = format!("type=deleted key={key} cmd={command} clsid={class} size=5");
        assert_eq!(line(&mut deletions), want);
    }
    let mut evictions = watcher(&server, "evictions");
    let value = "v".repeat(4000);
    for number in 0..3000 {
        client.send(format!("set key{number} 0 0 4000 noreply\r\n{value}\r\n"));
    }
    client.answer("");
    let line = line(&mut evictions);
    assert!(line.starts_with("type=eviction key=key"), "{line}");
    assert!(
        line.contains(" fetch=no ttl=-1 la=0 clsid=") && line.ends_with(" size=4000"),
        "{line}"
    );
}

#[test]
fn connections() {
    let server = Server::start();
    let mut watcher = watcher(&server, "connevents");
    let mut client = server.client();
    client.send("quit\r\n");
    client.expect_closed("");
    assert_eq!(
        line(&mut watcher),
        "type=conn_new rip=127.0.0.1 transport=tcp"
    );
    let closed = "type=conn_close rip=127.0.0.1 transport=tcp reason=normal";
    assert_eq!(line(&mut watcher), closed);
}

#[test]
fn why_a_connection_is_closed() {
    let server = Server::start();
    let mut watcher = watcher(&server, "connevents");
    let endless = "x".repeat(40_000);
    let closes = [
        ("quit\r\n", "normal"),
        ("GET / HTTP/1.1\r\n", "error"),
        (&endless, "error"),
        ("\u{1}", "normal"),
        ("set k 0 0 100000\r\nhalf", "normal"),
        ("watch fetchers\r\n", "error"),
    ];
    for (send, reason) in closes {
        let mut client = server.client();
        // The server may close the connection while the client sends.
        let _ = client.try_send(send);
        if reason == "normal" {
            client.finish_sending();
        }
        if send.starts_with("watch") {
            client.expect("OK\r\n");
            client.finish_sending();
        }
        client.expect_closed("");
        assert!(line(&mut watcher).starts_with("type=conn_new "), "{reason}");
        let closed = line(&mut watcher);
        assert!(closed.ends_with(&format!(" reason={reason}")), "{closed}");
    }
}

#[test]
fn words_are_those_of_memcached_and_a_few_more() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("watch nonsense\r\n", "ERROR\r\n");
    client.ask("watch fetchers nonsense\r\n", "ERROR\r\n");
    client.ask("watch sample=0\r\n", "ERROR\r\n");
    let refused = "ERROR cannot pipeline other commands before watch\r\n";
    client.ask("get none\r\nwatch\r\n", format!("END\r\n{refused}"));
    let silent = watcher(&server, "rawcmds sysevents proxyreqs proxyevents proxyuser");
    let mut plain = watcher(&server, "");
    let mut filtered = watcher(&server, "fetchers prefix=user: sample=3");
    for number in 0..9 {
        client.answer(format!("get user:{number} page:{number}\r\n"));
    }
    for number in 0..9 {
        assert!(line(&mut plain).contains(&format!("key=user%3A{number} ")));
        assert!(line(&mut plain).contains(&format!("key=page%3A{number} ")));
    }
    client.answer("get user:9\r\n");
    for number in [0, 3, 6, 9] {
        assert!(line(&mut filtered).contains(&format!("key=user%3A{number} ")));
    }
    // The log thread sends the lines of one event to all watchers before it
    // drains the next, to the earliest watcher first.
    client.answer("get last\r\n");
    while !line(&mut plain).contains("key=last ") {}
    assert!(!silent.has_input());
}

#[test]
fn lines_of_all_workers_come_in_order() {
    let server = Server::with(|config| config.threads = 4);
    let mut watcher = watcher(&server, "fetchers");
    let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
    for round in 0..20 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.answer(format!("get key{}\r\n", round * 8 + number));
        }
    }
    for number in 0..160 {
        assert!(
            line(&mut watcher).contains(&format!("key=key{number} ")),
            "{number}"
        );
    }
}

#[test]
fn up_to_twenty_watch() {
    let server = Server::start();
    let mut watchers: Vec<Client> = (0..20).map(|_| watcher(&server, "fetchers")).collect();
    let mut client = server.client();
    client.ask(
        "watch\r\n",
        "WATCHER_TOO_MANY log watcher limit reached\r\n",
    );
    client.answer("get key\r\n");
    for watcher in &mut watchers {
        assert!(line(watcher).contains("key=key "));
    }
    assert_eq!(client.stat("log_watchers"), "20");
    let open: u32 = client.stat("curr_connections").parse().expect("a number");
    assert_eq!(open, 21);
    watchers.truncate(19);
    wait_until("the place is free", || {
        (client.stat("log_watchers") == "19").then_some(())
    });
    assert_eq!(client.stat("curr_connections"), "20");
    let _another = watcher(&server, "fetchers");
    drop(watchers);
    wait_until("they are gone", || {
        (client.stat("log_watchers") == "1").then_some(())
    });
}

#[test]
fn a_slow_watcher_misses_lines_and_is_told() {
    let server = Server::start();
    let mut slow = watcher(&server, "fetchers");
    let mut client = server.client();
    let key = "k".repeat(200);
    let gets = format!("get {key}\r\n").repeat(500);
    let before: u64 = client.stat("get_misses").parse().expect("a number");
    let mut asked = 0;
    wait_until("lines are skipped", || {
        client.ask(&gets, "END\r\n".repeat(500));
        asked += 500;
        let missed = client.stat("log_watcher_skipped") != "0";
        missed.then_some(())
    });
    let after: u64 = client.stat("get_misses").parse().expect("a number");
    assert_eq!(after - before, asked, "nobody waited for it");
    let mut fast = watcher(&server, "fetchers");
    client.answer("get last\r\n");
    assert!(line(&mut fast).contains("key=last "), "others are told");
    // The socket's buffer holds many earlier lines. New lines follow them.
    let skipped = (0..1_000_000).find_map(|number| {
        if number % 10 == 0 {
            client.answer("get last\r\n");
        }
        let line = slow.line();
        let skipped = line.strip_prefix("skipped=")?.trim_end();
        Some(skipped.parse::<u64>().expect("a number"))
    });
    assert!(skipped.expect("it is told") > 0);
    let stat =
        |client: &mut Client, name: &str| -> u64 { client.stat(name).parse().expect("a number") };
    assert!(
        stat(&mut client, "log_worker_written") > 0 && stat(&mut client, "log_watcher_sent") > 0
    );
}

#[test]
fn nothing_is_written_while_nobody_watches() {
    let server = Server::start();
    let mut client = server.client();
    client.answer("set key 0 0 1\r\n1\r\nget key\r\n");
    drop(watcher(&server, "fetchers mutations"));
    wait_until("it is gone", || {
        (client.stat("log_watchers") == "0").then_some(())
    });
    let before = client.stat("log_worker_written");
    client.answer("set key 0 0 1\r\n1\r\nget key\r\n");
    assert_eq!(client.stat("log_worker_written"), before);
}

/// Returns the descriptor (`cfd`) and the key in a line.
fn cfd_and_key(line: &str) -> (u32, String) {
    let word = |name: &str| {
        line.trim_end()
            .split(' ')
            .find_map(|word| word.strip_prefix(name))
    };
    let cfd = word("cfd=").expect("a descriptor").parse();
    (
        cfd.expect("a number"),
        word("key=").expect("a key").to_owned(),
    )
}

#[test]
fn events_name_the_connection_whose_command_goes_on() {
    let server = Server::with(|config| config.threads = 1);
    let (mut first, mut second) = (server.client(), server.client());
    let value = "v".repeat(100_000);
    second.answer(format!("set big 0 0 100000\r\n{value}\r\n"));
    first.send("set k 0 0 100000\r\nvv");
    // This reply proves that the server has read a part of the value.
    second.answer("");
    let mut watcher = watcher(&server, "fetchers mutations");
    second.answer("get who\r\n");
    let (of_second, key) = cfd_and_key(&watcher.line());
    assert_eq!(key, "who");
    first.send(format!("{}\r\n", &value[2..]));
    first.expect("STORED\r\n");
    let (of_first, key) = cfd_and_key(&watcher.line());
    assert_eq!(key, "k");
    assert_ne!(of_first, of_second);
    // A retrieval that pauses, with another client's command in between.
    first.send(format!("get{}\r\n", " big".repeat(200)));
    first.skip(1_000_000);
    second.answer("get who\r\n");
    first.skip(200 * ("VALUE big 0 100000\r\n".len() + value.len() + 2) - 1_000_000);
    first.expect("END\r\n");
    let mut of_big = 0;
    while of_big < 200 {
        let (cfd, key) = cfd_and_key(&watcher.line());
        let wanted = if key == "who" { of_second } else { of_first };
        assert_eq!(cfd, wanted, "{key}");
        of_big += u32::from(key == "big");
    }
}

#[test]
fn datagrams_are_watched_though_no_connection_asks() {
    let (server, address) = Server::start_udp();
    let mut watcher = watcher(&server, "fetchers");
    let mut datagrams = Datagrams::connect(address);
    datagrams.ask(b"get none\r\n");
    let line = watcher.line();
    assert_eq!(cfd_and_key(&line).1, "none");
}
