//! Memory that clients make the server hold: unsent output, incomplete input,
//! and items pinned by either. The tests use unix sockets, whose buffers are
//! small and do not grow.

use std::sync::atomic::{AtomicBool, Ordering};

use rustcached::config::Config;
use rustcached::limits::{OUTPUT_PAUSE_BYTES, READ_BUFFER_BYTES};
use test_support::binary::{BinaryClient, Frame, opcode};
use test_support::client::{Client, show};
use test_support::server::Server;
use test_support::wait_until;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// Maximum memory per blocked connection, in bytes.
const BLOCKED_MAX_BYTES: usize = 320 * KIB;
const _: () = assert!(OUTPUT_PAUSE_BYTES + READ_BUFFER_BYTES < BLOCKED_MAX_BYTES);

fn value(number: usize, len: usize) -> Vec<u8> {
    let digits = format!("{number:08}");
    digits.bytes().cycle().take(len).collect()
}

/// Stores `count` values of `len` bytes under `key0`, `key1`, ….
fn fill(client: &mut Client, count: usize, len: usize) {
    for number in 0..count {
        let mut line = format!("set key{number} 7 0 {len} noreply\r\n").into_bytes();
        line.extend_from_slice(&value(number, len));
        line.extend_from_slice(b"\r\n");
        client.send(line);
    }
    client.ask("", "");
}

fn keys(count: usize) -> String {
    (0..count).map(|number| format!(" key{number}")).collect()
}

fn stat(client: &mut Client, name: &str) -> usize {
    client.stat(name).parse().expect("a number")
}

/// Returns the bytes that the server holds for clients, without its own read
/// buffers.
fn held_bytes(client: &mut Client) -> usize {
    let own = stat(client, "read_buf_bytes_free");
    stat(client, "response_obj_bytes") + stat(client, "read_buf_bytes") - own
}

/// Sends `request` on `count` connections whose clients do not read.
fn stall(server: &Server, count: usize, request: &[u8]) -> Vec<Client> {
    let open = || {
        let mut client = server.client();
        // The server may close the connection meanwhile.
        let _ = client.try_send(request);
        client
    };
    (0..count).map(|_| open()).collect()
}

fn small(config: &mut Config) {
    config.max_memory = 24 * MIB;
    config.client_memory_limit = MIB;
}

#[test]
fn an_answer_that_pauses_is_the_same_answer() {
    const COUNT: usize = 300;
    const LEN: usize = 10_000;
    let server = Server::start_unix();
    let mut client = server.client();
    fill(&mut client, COUNT, LEN);
    let cas = client.answer("gets key0\r\n");
    let first = String::from_utf8_lossy(&cas)
        .split(' ')
        .nth(4)
        .map(str::to_owned);
    let first = first.and_then(|text| text.split('\r').next().map(str::to_owned));
    let first: usize = first.expect("a CAS value").parse().expect("a number");
    for (line, cas) in [
        ("get", false),
        ("gets", true),
        ("gat 0", false),
        ("gats 0", true),
    ] {
        let mut want = Vec::new();
        for number in 0..COUNT {
            let cas = if cas {
                format!(" {}", first + number)
            } else {
                String::new()
            };
            want.extend(format!("VALUE key{number} 7 {LEN}{cas}\r\n").bytes());
            want.extend(value(number, LEN));
            want.extend(b"\r\n");
        }
        want.extend(b"END\r\n");
        client.ask(format!("{line}{}\r\n", keys(COUNT)), want);
    }
    let gets = stat(&mut client, "cmd_get");
    assert_eq!(gets, 1 + 2 * COUNT, "each key counts once");
    assert_eq!(stat(&mut client, "cmd_touch"), 2 * COUNT);
}

#[test]
fn commands_behind_one_that_pauses_keep_their_order() {
    let server = Server::start_unix();
    let mut client = server.client();
    fill(&mut client, 100, 10_000);
    let mut send = Vec::new();
    let mut want = Vec::new();
    for number in 0..100 {
        send.extend(
            format!("mg key{number} v q\r\nset key{number} 0 0 1 noreply\r\nx\r\n").bytes(),
        );
        send.extend(format!("get key{number} absent\r\n").bytes());
        want.extend(b"VA 10000\r\n");
        want.extend(value(number, 10_000));
        want.extend(format!("\r\nVALUE key{number} 0 1\r\nx\r\nEND\r\n").bytes());
    }
    client.ask(send, want);
}

#[test]
fn quiet_packets_pause_between_two_of_them() {
    let server = Server::start_unix();
    let mut client = server.client();
    fill(&mut client, 100, 10_000);
    let mut packets = Vec::new();
    for number in 0..100 {
        let key = format!("key{number}");
        packets.extend(Frame::new(opcode::GETQ).key(key).bytes());
    }
    let mut client = BinaryClient(server.client());
    client.0.send(packets);
    for number in 0..100 {
        let reply = client.reply().expect("an answer for each");
        assert_eq!(
            (reply.opcode, &reply.extras[..]),
            (opcode::GETQ, &[0, 0, 0, 7][..])
        );
        assert_eq!(reply.value, value(number, 10_000), "{number}");
    }
    client.in_step();
}

#[test]
fn a_blocked_connection_costs_little() {
    const STALLED: usize = 30;
    let server = Server::unix_with(|config| config.client_memory_limit = 64 * MIB);
    let mut client = server.client();
    fill(&mut client, 1000, 10_000);
    for number in 0..2000 {
        // Give every key its own size.
        let block = "x".repeat(8 * number);
        let len = block.len();
        client.send(format!(
            "set sized{number} 0 0 {len} noreply\r\n{block}\r\n"
        ));
    }
    // Store enough keys for a single dump to block.
    for number in 0..20_000 {
        client.send(format!("set small{number} 0 0 1 noreply\r\nx\r\n"));
    }
    let get = format!("get{}\r\n", keys(1000));
    let pipeline: String = (0..1000)
        .map(|number| format!("mg key{number} v\r\n"))
        .collect();
    let requests = [
        get.clone(),
        get.replace("get", "gats 0"),
        pipeline,
        "stats slabs\r\n".repeat(5000),
        "stats items\r\n".repeat(5000),
        "stats conns\r\n".repeat(5000),
        "stats sizes\r\n".repeat(100),
        "stats settings\r\n".repeat(5000),
        "lru_crawler metadump all\r\n".to_owned(),
    ];
    for request in requests {
        let name = &request[..20.min(request.len())];
        let stalled = stall(&server, STALLED, request.as_bytes());
        wait_until(name, || {
            let answer = client.answer("stats conns\r\n");
            let states = String::from_utf8_lossy(&answer);
            (states.matches("conn_mwrite").count() >= STALLED).then_some(())
        });
        let bytes = held_bytes(&mut client);
        assert!(bytes < STALLED * BLOCKED_MAX_BYTES, "{name}: {bytes} bytes");
        drop(stalled);
        wait_until("they are gone", || {
            (stat(&mut client, "curr_connections") == 1).then_some(())
        });
        assert_eq!(held_bytes(&mut client), 0, "{name}");
    }
}

#[test]
fn long_lists_are_whole() {
    let server = Server::unix_with(|config| {
        config.detail = true;
        config.max_connections = 2000;
    });
    let mut client = server.client();
    for number in 0..3000 {
        client.send(format!("set prefix{number}:x 0 0 1 noreply\r\nx\r\n"));
    }
    let others: Vec<Client> = (0..300).map(|_| server.client()).collect();
    // Wait until workers have taken over the connections. The list includes
    // this connection and the listener.
    wait_until("all are listed", || {
        let connections = client.answer("stats conns\r\n");
        let connections = String::from_utf8_lossy(&connections);
        assert!(connections.ends_with("END\r\n"));
        (connections.matches(":addr ").count() == 302).then_some(())
    });
    let prefixes = client.answer("stats detail dump\r\n");
    let prefixes = String::from_utf8_lossy(&prefixes);
    let mut lines: Vec<&str> = prefixes.lines().collect();
    assert_eq!((lines.len(), lines.pop()), (3001, Some("END")));
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 3000);
    drop(others);
}

#[test]
fn output_that_nobody_takes_has_a_limit_in_all() {
    const STALLED: usize = 200;
    let server = Server::unix_with(small);
    let mut client = server.client();
    fill(&mut client, 500, 10_000);
    let get = format!("get{}\r\n", keys(500));
    let _stalled = stall(&server, STALLED, get.as_bytes());
    wait_until("some are cut", || {
        (stat(&mut client, "response_obj_oom") > 0).then_some(())
    });
    wait_until("the limit is kept", || {
        (held_bytes(&mut client) <= MIB).then_some(())
    });
    wait_until("more are cut than this client makes up for", || {
        (stat(&mut client, "curr_connections") < STALLED).then_some(())
    });
    // Clients that read their replies are served meanwhile.
    let answer = client.answer(&get);
    assert!(answer.len() > 500 * 10_000 && answer.ends_with(b"END\r\n"));
}

#[test]
fn input_that_nobody_completes_has_a_limit_in_all() {
    let server = Server::unix_with(small);
    let mut client = server.client();
    let line = [b"get ", &b"k"[..].repeat(200)[..]].concat();
    let block = [&b"set k 0 0 4000\r\n"[..], &b"v".repeat(3900)].concat();
    let packet = Frame::store(opcode::SET, "key", [7; 4000]).bytes();
    let serves = |client: &mut Client| {
        client.ask(
            "set a 0 0 1\r\nx\r\nget a\r\n",
            "STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n",
        );
    };
    // These lines are within the limit.
    let stalled = stall(&server, 900, &line);
    wait_until("all are held", || {
        (held_bytes(&mut client) >= 900 * line.len()).then_some(())
    });
    assert_eq!(stat(&mut client, "read_buf_oom"), 0);
    serves(&mut client);
    drop(stalled);
    for begun in [&block, &packet[..4000]] {
        let cut = stat(&mut client, "read_buf_oom");
        let _stalled = stall(&server, 900, begun);
        wait_until("some are cut", || {
            (stat(&mut client, "read_buf_oom") > cut).then_some(())
        });
        wait_until("the limit is kept", || {
            (held_bytes(&mut client) <= MIB).then_some(())
        });
        serves(&mut client);
    }
}

#[test]
fn stale_values_of_slow_readers_do_not_stop_sets() {
    const LEN: usize = 900 * KIB;
    let server = Server::unix_with(small);
    let mut client = server.client();
    let mut readers = Vec::new();
    for number in 0..100 {
        let mut set = format!("set big 0 0 {LEN}\r\n").into_bytes();
        set.extend(value(number, LEN));
        set.extend(b"\r\n");
        client.ask(&set, "STORED\r\n");
        readers.extend(stall(&server, 1, b"get big\r\n"));
        wait_until("it is blocked", || {
            let answer = client.answer("stats conns\r\n");
            let states = String::from_utf8_lossy(&answer);
            states.contains("conn_mwrite").then_some(())
        });
        let pages = client.stat("total_items");
        assert_eq!(pages, (number + 1).to_string());
    }
    assert!(stat(&mut client, "curr_connections") < 100, "some were cut");
    assert_eq!(client.stat("store_no_memory"), "0");
    // The last reader still receives its value whole.
    let mut last = readers.pop().expect("a hundred");
    last.expect(format!("VALUE big 0 {LEN}\r\n"));
    last.expect(value(99, LEN));
}

#[test]
fn values_sent_half_do_not_stop_sets() {
    let server = Server::unix_with(small);
    let mut client = server.client();
    let mut begun = format!("set half 0 0 {}\r\n", 900 * KIB).into_bytes();
    begun.extend(value(0, 800 * KIB));
    let mut stalled = Vec::new();
    for number in 0..60 {
        stalled.extend(stall(&server, 1, &begun));
        let mut set = format!("set whole{number} 0 0 100000\r\n").into_bytes();
        set.extend(value(number, 100_000));
        set.extend(b"\r\n");
        client.ask(&set, "STORED\r\n");
    }
    assert!(stat(&mut client, "curr_connections") < 60, "some were cut");
    assert_eq!(client.stat("store_no_memory"), "0");
    let own = client.answer("stats rustcached\r\n");
    let own = String::from_utf8_lossy(&own);
    let figure = |name: &str| {
        let figures = own.lines().filter_map(|line| line.strip_prefix("STAT "));
        let mut named = figures.filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let figure = named.next().unwrap_or_else(|| panic!("no {name} in {own}"));
        figure.parse::<usize>().expect("a number")
    };
    assert!(figure("clients_cut_items") > 0);
    assert!(figure("client_item_bytes") > 0);
    assert_eq!(figure("client_memory_limit"), MIB);
    assert_eq!(
        figure("clients_cut_output") + figure("clients_cut_input"),
        0
    );
}

#[test]
fn a_value_larger_than_that_share_is_received_slowly() {
    const LEN: usize = 16 * MIB;
    let server = Server::unix_with(|config| {
        small(config);
        config.max_item_size = 20 * MIB;
    });
    let mut slow = server.client();
    let mut client = server.client();
    slow.send(format!("set slow 0 0 {LEN}\r\n"));
    for part in 0..64 {
        slow.send(value(0, LEN / 64));
        client.ask(format!("set k{part} 0 0 1\r\nx\r\n"), "STORED\r\n");
    }
    slow.ask("\r\n", "STORED\r\n");
}

#[test]
fn near_a_limit_of_memcached_s_retrievals_are_refused() {
    let server = Server::unix_with(|config| {
        small(config);
        config.read_buf_mem_limit = config.client_memory_limit;
    });
    let mut client = server.client();
    let settings = client.answer("stats settings\r\n");
    let settings = String::from_utf8_lossy(&settings);
    let line = format!("STAT read_buf_mem_limit {MIB}\r\n");
    assert!(settings.contains(&line), "{settings}");
    fill(&mut client, 500, 1000);
    // Send incomplete commands until their total exceeds the limit.
    let begun = [&b"set k 0 0 4000\r\n"[..], &b"v".repeat(3900)].concat();
    let mut stalled = Vec::new();
    let answer = wait_until("the limit is reached", || {
        stalled.extend(stall(&server, 20, &begun));
        let answer = client.answer("get key1\r\n");
        answer.starts_with(b"SERVER_ERROR").then_some(answer)
    });
    assert_eq!(
        answer,
        b"SERVER_ERROR out of memory writing get response\r\n"
    );
    assert!(stat(&mut client, "response_obj_oom") > 0);
    drop(stalled);
}

/// A client that half-closes, as `printf … | nc -N` does.
#[test]
fn a_client_that_half_closes_gets_all_its_answers() {
    const COUNT: usize = 40;
    const LEN: usize = 100_000;
    let server = Server::start_unix();
    let mut setup = server.client();
    fill(&mut setup, COUNT, LEN);
    let one_line = format!("get{}\r\n", keys(COUNT));
    let lines: String = (0..COUNT).map(|n| format!("get key{n}\r\n")).collect();
    for (request, ends) in [(one_line, 1), (lines, COUNT)] {
        let mut client = server.client();
        client.send(format!("{request}set last 0 0 1\r\n1\r\n"));
        client.finish_sending();
        // Half-close only once the connection is blocked and the server keeps
        // the rest of its commands.
        wait_until("it is blocked", || {
            let answer = setup.answer("stats conns\r\n");
            let states = String::from_utf8_lossy(&answer);
            states.contains("conn_mwrite").then_some(())
        });
        let answer = client.read_to_close();
        assert!(
            answer.ends_with(b"END\r\nSTORED\r\n"),
            "{} bytes",
            answer.len()
        );
        let found = answer.windows(5).filter(|at| at == b"END\r\n").count();
        assert_eq!(found, ends);
        setup.ask(
            "get last\r\ndelete last\r\n",
            "VALUE last 0 1\r\n1\r\nEND\r\nDELETED\r\n",
        );
    }
}

#[test]
fn a_lowered_memory_limit_cuts_stalled_clients_before_live_items() {
    let server = Server::unix_with(|config| config.max_memory = 64 * MIB);
    let mut client = server.client();
    fill(&mut client, 1000, 2000);
    let half = [&b"set half 0 0 120000\r\n"[..], &[b'x'; 100_000]].concat();
    let _stalled = stall(&server, 150, &half);
    wait_until("all of them are being received", || {
        let own = client.answer("stats rustcached\r\n");
        let own = String::from_utf8_lossy(&own).into_owned();
        let held = own
            .lines()
            .find_map(|line| line.strip_prefix("STAT client_item_bytes "));
        let held: usize = held.expect("it is there").parse().expect("a number");
        (held >= 150 * 90_000).then_some(())
    });
    client.ask("cache_memlimit 12\r\n", "OK\r\n");
    wait_until("the limit is kept", || {
        (stat(&mut client, "curr_connections") < 60).then_some(())
    });
    assert_eq!(stat(&mut client, "curr_items"), 1000);
    assert_eq!(stat(&mut client, "evictions"), 0);
}

#[test]
fn a_full_server_that_does_not_evict_refuses_instead_of_cutting() {
    let server = Server::unix_with(|config| {
        small(config);
        config.evict = false;
    });
    let server = &server;
    let upload = |part: usize| {
        let mut client = server.client();
        let mut refused = 0;
        for number in 0..40 {
            let len = 900_000;
            let mut set = format!("set k{part}:{number} 0 0 {len}\r\n").into_bytes();
            set.extend(value(number, len));
            set.extend(b"\r\n");
            match &client.answer(set)[..] {
                b"STORED\r\n" => {}
                answer => {
                    assert_eq!(answer, b"SERVER_ERROR out of memory storing object\r\n");
                    refused += 1;
                }
            }
        }
        refused
    };
    let refused: usize = std::thread::scope(|scope| {
        let uploads = [0, 1, 2, 3].map(|part| scope.spawn(move || upload(part)));
        uploads
            .map(|upload| upload.join().expect("nobody is cut"))
            .iter()
            .sum()
    });
    assert!(refused > 0);
}

/// A connection that is cut while it waits for its turn must leave the queue.
/// Otherwise a new connection inherits its entry, and its commands run twice.
#[test]
fn commands_run_once_though_queued_clients_are_cut() {
    const SHORT: usize = 2000;
    let server = Server::unix_with(|config| {
        small(config);
        config.threads = 1;
        config.max_connections = 4096;
    });
    let server = &server;
    server.client().ask("set n 0 0 1\r\n0\r\n", "STORED\r\n");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pipeline = "stats sizes\r\n".repeat(5000);
            let mut client = server.client();
            while !over.load(Ordering::Relaxed) {
                let before = stat(&mut client, "read_buf_oom");
                let _stalled = stall(server, 80, pipeline.as_bytes());
                wait_until("some are cut", || {
                    let cut = stat(&mut client, "read_buf_oom") > before;
                    (cut || over.load(Ordering::Relaxed)).then_some(())
                });
            }
        });
        let _stop = StoreOnDrop(&over);
        let mut cut = 0;
        for _ in 0..SHORT {
            let mut client = server.client();
            client.send("incr n 1\r\nquit\r\n");
            let answer = client.read_to_close();
            let lines = answer.iter().filter(|byte| **byte == b'\n').count();
            assert!(lines <= 1, "answered twice: {answer:?}");
            cut += 1 - lines;
        }
        assert_eq!(cut, 0, "who does not wait is not cut");
    });
    let mut client = server.client();
    client.ask("get n\r\n", format!("VALUE n 0 4\r\n{SHORT}\r\nEND\r\n"));
    assert!(stat(&mut client, "read_buf_oom") > 0, "some were cut");
}

/// A hot value may be looked up twice. The copy from the first lookup must be
/// dropped.
#[test]
fn hot_values_are_answered_once_while_buffers_are_small() {
    const READS: usize = 60_000;
    let server = Server::unix_with(small);
    let mut client = server.client();
    let begun = [&b"set k 0 0 4000\r\n"[..], &b"v".repeat(3900)].concat();
    let _stalled = stall(&server, 180, &begun);
    wait_until("buffers are kept small", || {
        (held_bytes(&mut client) > MIB * 5 / 8).then_some(())
    });
    let set = |fill: &str| format!("set hot 0 0 2000\r\n{}\r\n", fill.repeat(2000));
    client.ask(set("a"), "STORED\r\n");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = server.client();
            while !over.load(Ordering::Relaxed) {
                writer.ask(set("b"), "STORED\r\n");
            }
        });
        let _stop = StoreOnDrop(&over);
        let values = ["a", "b"].map(|fill| fill.repeat(2000));
        let lines = values
            .each_ref()
            .map(|value| format!("VALUE hot 0 2000\r\n{value}\r\nEND\r\n"));
        let meta = values.map(|value| format!("VA 2000\r\n{value}\r\n"));
        for number in 0..READS {
            let (send, want) = match number % 2 {
                0 => ("get hot\r\n", &lines),
                _ => ("mg hot v\r\n", &meta),
            };
            let answer = client.answer(send);
            let whole = want.iter().any(|want| want.as_bytes() == answer);
            assert!(whole, "{number}: {}", show(&answer));
        }
    });
}

/// Records that the kernel does not accept stay in the TLS session.
#[test]
fn output_inside_tls_sessions_is_limited() {
    const CLIENTS: usize = 40;
    let server = Server::tls_with(|config| {
        small(config);
        config.threads = 1;
        let tls = config.tls.as_mut().expect("TLS is on");
        tls.write_buffer = MIB;
    });
    let mut client = server.client();
    let value = "v".repeat(900_000);
    client.ask(format!("set k 0 0 900000\r\n{value}\r\n"), "STORED\r\n");
    // Each has far more unsent output than the kernel's buffers hold.
    let _stalled = stall(&server, CLIENTS, "get k\r\n".repeat(20).as_bytes());
    wait_until("some are cut", || {
        (stat(&mut client, "read_buf_oom") > 0).then_some(())
    });
    wait_until("the limit is kept", || {
        (held_bytes(&mut client) <= MIB).then_some(())
    });
}

/// Sets the flag when dropped, so that threads end after a failed assertion
/// too.
struct StoreOnDrop<'a>(&'a AtomicBool);

impl Drop for StoreOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
