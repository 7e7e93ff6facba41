//! Upgrade in place (`--take-over`): a new process gets the listening sockets and
//! the items of the running one.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use test_support::client::{Address, Client};
use test_support::datagram::Datagrams;
use test_support::program::{Program, server_program};
use test_support::{DEADLINE, TempDir, wait_until};

use crate::restart::{assert_same_dump, dump, fill, restart_stat};

/// Starts a server with `--take-over`.
pub(crate) fn start(socket: &Path, more: &[&str]) -> (Program, Address) {
    let option = format!("--take-over={}", socket.display());
    let mut options = vec![&option[..]];
    options.extend(more);
    Program::start(&options)
}

/// Starts a server with `--take-over` at an address that was in use before.
fn start_at(socket: &Path, address: &Address) -> (Program, Address) {
    start_at_with(socket, address, &[])
}

fn start_at_with(socket: &Path, address: &Address, more: &[&str]) -> (Program, Address) {
    let Address::Tcp(address) = address else {
        panic!("only TCP")
    };
    let port = address.port().to_string();
    start(socket, &[&["-p", &port], more].concat())
}

/// Waits for the end of a program, which must have succeeded. Returns its log.
pub(crate) fn ended(program: Program) -> String {
    let ended = program.wait();
    assert!(ended.status.success(), "{}", ended.errors);
    ended.errors
}

/// Waits for the end of a program that could not start. Returns its log.
pub(crate) fn failed(program: Program) -> String {
    let ended = program.wait();
    assert!(!ended.status.success(), "{}", ended.errors);
    ended.errors
}

fn items(client: &mut Client) -> String {
    client.stat("curr_items")
}

#[test]
fn items_and_sockets_go_to_the_successor() {
    let directory = TempDir::create();
    let socket = directory.path("next");
    let unix = format!("unix:{}", directory.path("clients").display());
    let options = ["-l", &unix, "-U", "-1", "--admin-listen=127.0.0.1:0"];
    let (first, address) = start(&socket, &options);
    let udp = first.udp_port();
    let mut client = Client::connect(&address);
    fill(&mut client);
    let before = dump(&mut client);
    assert!(before.len() > 500);
    let (second, same) = start(&socket, &options);
    assert_eq!(format!("{same:?}"), format!("{address:?}"));
    let log = ended(first);
    assert!(log.contains("serves now"), "{log}");
    client.expect_closed("");
    let mut client = Client::connect(&address);
    assert_same_dump(&before, &dump(&mut client));
    let kept = restart_stat(&mut client, "kept");
    assert_eq!(kept, Some(before.len().to_string()));
    let len = 1_000_000;
    let value = "x".repeat(len);
    let reply = format!("VALUE large{len} 9 {len}\r\n{value}\r\nEND\r\n");
    client.ask(format!("get large{len}\r\n"), reply);
    let mut client = Client::connect(&Address::Unix(directory.path("clients")));
    client.ask("get nothing\r\n", "END\r\n");
    assert_eq!(second.udp_port(), udp);
    let mut datagrams = Datagrams::connect(([127, 0, 0, 1], udp).into());
    let reply = datagrams.ask(b"get nothing\r\n");
    assert!(reply.ends_with(b"END\r\n"));
    second.signal("TERM");
    ended(second);
    for name in ["next", "clients"] {
        assert!(!directory.path(name).exists(), "{name} is left behind");
    }
}

#[test]
fn settings_may_change() {
    let directory = TempDir::create();
    let socket = directory.path("next");
    let (first, address) = start(&socket, &["-m", "64", "-t", "4"]);
    let mut client = Client::connect(&address);
    fill(&mut client);
    let also = directory.path("also");
    let unix = format!("unix:{}", also.display());
    let more = ["-m", "32", "-t", "1", "-o", "drop_privileges", "-l", &unix];
    let (second, _) = start(&socket, &more);
    ended(first);
    let mut client = Client::connect(&address);
    assert_eq!(client.stat("limit_maxbytes"), (32 << 20).to_string());
    assert_eq!(items(&mut client), "503");
    Client::connect(&Address::Unix(also.clone())).ask("get nothing\r\n", "END\r\n");
    // A listener that is not wanted any more is closed.
    let (third, _) = start(&socket, &[]);
    ended(second);
    assert!(Client::try_connect(&Address::Unix(also)).is_err());
    assert_eq!(items(&mut Client::connect(&address)), "503");
    drop(third);
}

#[test]
fn a_memory_file_goes_to_the_successor_too() {
    let directory = TempDir::create();
    let socket = directory.path("next");
    let file = format!("-e{}", directory.path("items").display());
    let (first, address) = start(&socket, &[&file]);
    fill(&mut Client::connect(&address));
    let (second, _) = start(&socket, &[&file]);
    ended(first);
    assert_eq!(items(&mut Client::connect(&address)), "503");
    // Nobody else may use the file, though the process that opened it is gone.
    let (other, elsewhere) = Program::start(&[&file[..]]);
    let mut client = Client::connect(&elsewhere);
    let reason = restart_stat(&mut client, "reason");
    assert!(
        reason
            .clone()
            .is_some_and(|reason| reason.contains("another server")),
        "{reason:?}"
    );
    other.signal("TERM");
    ended(other);
    // It stays useful for a usual restart.
    second.signal("TERM");
    ended(second);
    let (_third, address) = start(&socket, &[&file]);
    assert_eq!(items(&mut Client::connect(&address)), "503");
}

#[test]
fn a_successor_saves_the_items_at_its_stop() {
    let directory = TempDir::create();
    let (socket, file) = (directory.path("next"), directory.path("items"));
    let option = format!("--save-path={}", file.display());
    let (first, address) = start(&socket, &[&option]);
    Client::connect(&address).ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    let (second, _) = start_at_with(&socket, &address, &[&option]);
    ended(first);
    let mut client = Client::connect(&address);
    client.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
    client.ask("set b 0 0 1\r\ny\r\n", "STORED\r\n");
    second.signal("TERM");
    let log = ended(second);
    assert!(log.contains("2 items are in"), "{log}");
    let (_third, address) = start(&socket, &[&option]);
    let both = "VALUE a 0 1\r\nx\r\nVALUE b 0 1\r\ny\r\nEND\r\n";
    Client::connect(&address).ask("get a b\r\n", both);
}

#[test]
fn a_successor_with_other_memory_is_refused() {
    let directory = TempDir::create();
    let path = |name: &str| format!("-e{}", directory.path(name).display());
    let (in_memory, in_file) = (directory.path("memory"), directory.path("file"));
    let cases = [
        (&in_memory, vec![], vec![path("a")], "omit -e"),
        (&in_file, vec![path("b")], vec![], "give the same -e"),
        (&in_file, vec![path("b")], vec![path("c")], "another file"),
    ];
    let mut running: Vec<(Program, Address)> = Vec::new();
    for (socket, first, second, reason) in &cases {
        let first: Vec<&str> = first.iter().map(String::as_str).collect();
        let second: Vec<&str> = second.iter().map(String::as_str).collect();
        if !socket.exists() {
            running.push(start(socket, &first));
        }
        let (_, address) = running.last().expect("a server");
        let mut client = Client::connect(address);
        client.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
        let option = format!("--take-over={}", socket.display());
        let mut options = vec!["-u", "root", "-p", "0", &option];
        options.extend(second);
        let log = failed(Program::spawn(&options));
        assert!(log.contains(reason), "{log}");
        client.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
    }
}

#[test]
fn if_the_successor_fails_the_server_goes_on() {
    let directory = TempDir::create();
    let socket = directory.path("next");
    let option = format!("--take-over={}", socket.display());
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let busy = busy.local_addr().expect("bound").to_string();
    let no_log = format!("--log-file={}", directory.path("missing/log").display());
    let (mut first, address) = start(&socket, &["-o", "drop_privileges", "-U", "-1"]);
    let mut client = Client::connect(&address);
    fill(&mut client);
    let before = dump(&mut client);
    client.ask("cache_memlimit 100\r\n", "OK\r\n");
    let spawn = |more: &[&str]| {
        let mut options = vec!["-u", "root", "-l", "127.0.0.1", "-p", "-1", &option];
        options.extend(more);
        failed(Program::spawn(&options))
    };
    // Before it asks for the memory: clients notice nothing.
    assert!(spawn(&["-l", &busy]).contains("failed to listen"));
    client.ask("get key11\r\n", "END\r\n");
    // After it: clients must connect again.
    for _ in 0..3 {
        assert!(spawn(&[&no_log]).contains("log file"));
        client.expect_closed("");
        client = Client::connect(&address);
        assert_same_dump(&before, &dump(&mut client));
        assert_eq!(items(&mut client), before.len().to_string());
        assert_eq!(client.stat("limit_maxbytes"), (100 << 20).to_string());
    }
    client.ask("set more 0 0 1\r\nx\r\n", "STORED\r\n");
    first.assert_answers(&address);
    let (second, _) = start(&socket, &[]);
    let log = ended(first);
    assert_eq!(log.matches("this server goes on").count(), 3, "{log}");
    let mut client = Client::connect(&address);
    assert_eq!(items(&mut client), (before.len() + 1).to_string());
    second.signal("TERM");
    ended(second);
}

#[test]
fn a_successor_that_is_stopped_at_its_start_leaves_a_server_that_serves() {
    let directory = TempDir::create();
    let socket = directory.path("next");
    let (first, address) = start(&socket, &["--drain-timeout=60"]);
    for signal in ["TERM", "INT", "USR1"] {
        let mut idle = Client::connect(&address);
        idle.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
        // Keeps the server from handing over.
        let mut busy = Client::connect(&address);
        busy.ask("mn\r\n", "MN\r\n");
        busy.send("set b 0 0 2\r\ny");
        let option = format!("--take-over={}", socket.display());
        let next = Program::spawn(&["-u", "root", "-l", "127.0.0.1", "-p", "-1", &option]);
        // It waits for the items from here on.
        idle.expect_closed("");
        next.signal(signal);
        busy.ask("y\r\n", "STORED\r\n");
        let log = ended(next);
        assert!(log.contains("stopped at the start"), "{log}");
        let both = "VALUE a 0 1\r\nx\r\nVALUE b 0 2\r\nyy\r\nEND\r\n";
        Client::connect(&address).ask("get a b\r\n", both);
    }
    first.signal("TERM");
    ended(first);
}

#[test]
fn a_successor_that_is_killed_leaves_a_server_that_serves() {
    const ITEMS: &str = "2000";
    let directory = TempDir::create();
    let socket = directory.path("next");
    let (mut running, address) = start(&socket, &[]);
    let option = format!("--take-over={}", socket.display());
    let mut fill = String::new();
    for number in 0..2000 {
        fill.push_str(&format!("set key{number} 0 0 3 noreply\r\nabc\r\n"));
    }
    for round in 0..20 {
        // A successor of the last round may have been ready when it was killed. Then
        // the server begins to hand over only now, and closes connections.
        let mut client = wait_until("the items are stored", || {
            let mut client = Client::try_connect(&address).ok()?;
            try_ask(&mut client, &fill).map(|_| client)
        });
        let next = Program::spawn(&["-u", "root", "-l", "127.0.0.1", "-p", "-1", &option]);
        // A different moment in each round.
        for _ in 0..40 * round {
            let _ = try_ask(&mut client, "mn\r\n");
        }
        next.signal("KILL");
        let _ = next.wait();
        let outcome = wait_until("the server ends or goes on", || {
            if !running.is_running() {
                return Some(None);
            }
            let mut client = Client::try_connect(&address).ok()?;
            let stats = try_ask(&mut client, "stats\r\n")?;
            let item = try_ask(&mut client, "get key7\r\n")?;
            Some(Some((stats, item)))
        });
        let Some((stats, item)) = outcome else {
            // The successor had served already.
            let next = start_at(&socket, &address).0;
            assert!(ended(std::mem::replace(&mut running, next)).contains("serves now"));
            continue;
        };
        let has = |items: &str| {
            let line = format!("STAT curr_items {items}\r\n");
            String::from_utf8_lossy(&stats).contains(&line)
        };
        assert!(has(ITEMS) || has("0"));
        let hit = "VALUE key7 0 3\r\nabc\r\nEND\r\n";
        assert_eq!(item, if has("0") { "END\r\n" } else { hit }.as_bytes());
    }
}

/// The state of a client that stores numbers under one key.
struct Writer {
    key: String,
    /// Highest number whose storing was acknowledged.
    acknowledged: AtomicU64,
}

/// Stores rising numbers and reads them, and connects again whenever the server
/// closes the connection. Fails if a connection is refused or an answer is wrong.
fn write_until(stop: &AtomicBool, address: &Address, writer: &Writer) {
    let mut number = 0_u64;
    let mut client = Client::connect(address);
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let text = number.to_string();
        let len = text.len();
        let set = format!("set {} 0 0 {len}\r\n{text}\r\n", writer.key);
        let get = format!("get {}\r\n", writer.key);
        let wants = [
            (set, "STORED\r\n".to_owned()),
            (
                get,
                format!("VALUE {} 0 {len}\r\n{text}\r\nEND\r\n", writer.key),
            ),
        ];
        for (request, want) in wants {
            match try_ask(&mut client, &request) {
                Some(reply) => {
                    assert_eq!(reply, want.as_bytes());
                    writer.acknowledged.store(number, Ordering::Relaxed);
                }
                None => {
                    client = Client::connect(address);
                    break;
                }
            }
        }
    }
}

/// Returns the answer; `None` if the connection is closed before it.
fn try_ask(client: &mut Client, request: &str) -> Option<Vec<u8>> {
    client.try_send(format!("{request}mn\r\n")).ok()?;
    client.answer_or_close().ok()
}

#[test]
fn under_load_no_connection_is_refused_and_nothing_acknowledged_is_lost() {
    let directory = TempDir::create();
    let socket = directory.path("next");
    let (mut running, address) = start(&socket, &["-t", "2"]);
    let writers: Vec<Writer> = (0..6)
        .map(|number| Writer {
            key: format!("key{number}"),
            acknowledged: AtomicU64::new(0),
        })
        .collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in &writers {
            scope.spawn(|| write_until(&stop, &address, writer));
        }
        let all_wrote = |floor: &[u64]| {
            wait_until("all clients have stored something", || {
                let mut pairs = writers.iter().zip(floor);
                pairs
                    .all(|(writer, floor)| writer.acknowledged.load(Ordering::Relaxed) > *floor)
                    .then_some(())
            });
        };
        all_wrote(&[0; 6]);
        for _ in 0..8 {
            let (next, _) = start(&socket, &["-t", "2"]);
            ended(std::mem::replace(&mut running, next));
            let floor = writers
                .iter()
                .map(|it| it.acknowledged.load(Ordering::Relaxed));
            all_wrote(&floor.collect::<Vec<_>>());
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mut client = Client::connect(&address);
    for writer in &writers {
        let reply = client.answer(format!("get {}\r\n", writer.key));
        let reply = String::from_utf8(reply).expect("text");
        let stored: u64 = reply
            .lines()
            .nth(1)
            .and_then(|line| line.parse().ok())
            .expect("a number");
        // The last one may have been stored without its answer being read.
        let acknowledged = writer.acknowledged.load(Ordering::Relaxed);
        assert!(stored == acknowledged || stored == acknowledged + 1);
    }
}

#[test]
fn a_raised_memory_limit_holds_while_items_are_loaded_again() {
    let directory = TempDir::create();
    let socket = directory.path("next");
    let (first, address) = start(&socket, &["-m", "16"]);
    let mut client = Client::connect(&address);
    client.ask("cache_memlimit 100\r\n", "OK\r\n");
    let value = "x".repeat(10_000);
    for number in 0..4000 {
        client.send(format!("set key{number} 0 0 10000 noreply\r\n{value}\r\n"));
    }
    client.ask("mn\r\n", "MN\r\n");
    assert_eq!(items(&mut client), "4000");
    let option = format!("--take-over={}", socket.display());
    let no_log = format!("--log-file={}", directory.path("missing/log").display());
    failed(Program::spawn(&[
        "-u",
        "root",
        "-l",
        "127.0.0.1",
        "-p",
        "-1",
        "-m",
        "200",
        &option,
        &no_log,
    ]));
    let mut client = Client::connect(&address);
    assert_eq!(items(&mut client), "4000");
    assert_eq!(client.stat("limit_maxbytes"), (100 << 20).to_string());
    drop(first);
}

#[test]
fn what_was_invalidated_stays_away() {
    let directory = TempDir::create();
    let socket = directory.path("next");
    let file = format!("-e{}", directory.path("items").display());
    for options in [&[][..], &[&file[..]]] {
        let (first, address) = start(&socket, options);
        let mut client = Client::connect(&address);
        client.ask("set user:1 0 0 1\r\na\r\n", "STORED\r\n");
        client.ask("ms page:7 1 Pproduct-7\r\nb\r\n", "HD\r\n");
        client.ask("ms page:8 1 Pproduct-8\r\nc\r\n", "HD\r\n");
        client.ask("invalidate prefix user:\r\n", "INVALIDATED\r\n");
        client.ask("invalidate tag product-7\r\n", "INVALIDATED\r\n");
        client.ask("set user:2 0 0 1\r\nd\r\n", "STORED\r\n");
        let (second, _) = start(&socket, options);
        ended(first);
        let mut client = Client::connect(&address);
        let kept = "VALUE user:2 0 1\r\nd\r\nVALUE page:8 0 1\r\nc\r\nEND\r\n";
        client.ask("get user:1 user:2 page:7 page:8\r\n", kept);
        // Tags keep their meaning.
        client.ask("invalidate tag product-8\r\n", "INVALIDATED\r\n");
        client.ask("get page:8\r\n", "END\r\n");
        second.signal("TERM");
        ended(second);
    }
}

#[test]
fn the_pid_file_names_the_process_that_serves() {
    let directory = TempDir::create();
    let socket = directory.path("next");
    let path = directory.path("pid");
    let option = format!("-P{}", path.display());
    let owner = || fs::read_to_string(&path).ok()?.trim().parse::<u32>().ok();
    let is = |id: u32| wait_until("the pid file is right", || (owner()? == id).then_some(()));
    let (first, _) = start(&socket, &[&option]);
    is(first.id());
    let (second, _) = start(&socket, &[&option]);
    let log = ended(first);
    assert!(!log.contains("still running"), "{log}");
    is(second.id());
    let (third, _) = start(&socket, &[&option]);
    let log = ended(second);
    assert!(!log.contains("still running"), "{log}");
    is(third.id());
    third.signal("TERM");
    let log = ended(third);
    assert!(!log.contains("still running"), "{log}");
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_another_file_is_left_alone() {
    let directory = TempDir::create();
    let socket = directory.path("next");
    let (first, _) = start(&socket, &[]);
    first.signal("KILL");
    let _ = first.wait();
    assert!(socket.exists());
    let (second, _) = start(&socket, &[]);
    second.signal("TERM");
    ended(second);
    fs::write(&socket, "mine").expect("writable");
    let option = format!("--take-over={}", socket.display());
    let log = failed(Program::spawn(&["-u", "root", "-p", "0", &option]));
    assert!(log.contains("--take-over"), "{log}");
    assert_eq!(fs::read_to_string(&socket).expect("readable"), "mine");
}

#[test]
fn the_service_manager_learns_which_process_serves() {
    let directory = TempDir::create();
    let (socket, notify) = (directory.path("next"), directory.path("notify"));
    let manager = UnixDatagram::bind(&notify).expect("bound");
    manager.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let told = || {
        let mut message = [0; 256];
        let len = manager.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..len])
            .trim_end()
            .to_owned()
    };
    let option = format!("--take-over={}", socket.display());
    let run = || {
        let mut command = Command::new(server_program());
        command
            .args(["-u", "root", "-l", "127.0.0.1", "-p", "-1", &option])
            .env("NOTIFY_SOCKET", &notify);
        Program::spawn_command(&mut command)
    };
    let first = run();
    assert_eq!(told(), "READY=1");
    let second = run();
    let mut both = [told(), told()];
    both.sort();
    assert_eq!(
        both,
        [format!("MAINPID={}", second.id()), "READY=1".to_owned()]
    );
    ended(first);
}
