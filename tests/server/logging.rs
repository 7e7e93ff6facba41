//! Logging of the running program: whatever happens to standard error, clients
//! are served, no thread ends, and stopping is not delayed.

use std::fs::File;
use std::io::{PipeReader, Read, pipe};
use std::process::{Command, Stdio};

use test_support::client::{Address, Client};
use test_support::program::{Program, on_free_port};
use test_support::{TempDir, stuck, wait_until};

/// Threads of a server with two workers, without the main thread.
const ALL_THREADS: [&str; 7] = [
    "worker 0", "worker 1", "acceptor", "upkeep", "log", "stderr", "signals",
];
/// Concurrent connections, several for each worker.
const CONNECTIONS: usize = 40;

fn program_with_errors(options: &[&str], errors: impl Into<Stdio>) -> (Program, Address) {
    Program::start_with_errors(options, errors.into())
}

/// Returns a standard error whose reader has closed it.
fn closed() -> Stdio {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

/// Returns a standard error and a reader that does not read.
fn unread() -> (PipeReader, Stdio) {
    let (reader, writer) = pipe().expect("a pipe");
    (reader, writer.into())
}

/// Returns the names of the program's threads.
fn names(program: &Program) -> Vec<String> {
    program.thread_statuses("Name")
}

fn dropped(client: &mut Client) -> u64 {
    let answer = client.answer("stats rustcached\r\n");
    let answer = String::from_utf8(answer).expect("text");
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix("STAT log_lines_dropped "));
    let number = line.expect("the counter is there");
    number.parse().expect("a number")
}

/// Opens and closes many connections, each with commands that are logged.
fn traffic(address: &Address, rounds: usize) {
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::connect(address)).collect();
    for round in 0..rounds {
        for (number, client) in clients.iter_mut().enumerate() {
            let key = format!("key-{number}-{round}-{}", "k".repeat(200));
            client.ask(format!("set {key} 0 0 1\r\nv\r\n"), "STORED\r\n");
            let value = format!("VALUE {key} 0 1\r\nv\r\nEND\r\n");
            client.ask(format!("get {key}\r\n"), value);
        }
    }
}

/// Logs at `verbosity 2` until lines are dropped. Clients must be served as
/// before.
fn serves_all_the_same(program: Program, address: &Address) {
    let mut client = Client::connect(address);
    let all_there = || {
        ALL_THREADS
            .iter()
            .all(|name| names(&program).iter().any(|other| other == name))
    };
    wait_until("all threads run", || all_there().then_some(()));
    client.ask("verbosity 2\r\n", "OK\r\n");
    wait_until("lines are dropped", || {
        traffic(address, 10);
        (dropped(&mut client) > 0).then_some(())
    });
    traffic(address, 3);
    assert!(
        all_there(),
        "of the threads are left: {:?}",
        names(&program)
    );
    program.signal("TERM");
    assert_eq!(program.wait().status.code(), Some(0));
}

#[test]
fn a_closed_standard_error_costs_nobody_anything() {
    let (program, address) = program_with_errors(&["-t", "2"], closed());
    serves_all_the_same(program, &address);
}

#[test]
fn a_full_device_costs_nobody_anything() {
    let full = File::create("/dev/full").expect("the device is there");
    let (program, address) = program_with_errors(&["-t", "2"], full);
    serves_all_the_same(program, &address);
}

#[test]
fn a_pipe_that_nobody_reads_costs_nobody_anything() {
    let (reader, writer) = unread();
    let (program, address) = program_with_errors(&["-t", "2"], writer);
    serves_all_the_same(program, &address);
    drop(reader);
}

#[test]
fn a_reader_that_comes_back_learns_how_many_lines_it_missed() {
    let (mut reader, writer) = unread();
    let (program, address) = program_with_errors(&[], writer);
    let mut client = Client::connect(&address);
    client.ask("verbosity 2\r\n", "OK\r\n");
    wait_until("lines are dropped", || {
        traffic(&address, 10);
        (dropped(&mut client) > 0).then_some(())
    });
    client.ask("verbosity 0\r\n", "OK\r\n");
    let missed = dropped(&mut client);
    let report = format!("rustcached: {missed} log lines were dropped\n");
    // The report appears without a further log line or a stop.
    let mut text = Vec::new();
    while !text.ends_with(report.as_bytes()) {
        let mut part = [0; 4096];
        let len = reader.read(&mut part).expect("a pipe can be read");
        let end = String::from_utf8_lossy(&text[text.len().saturating_sub(200)..]).into_owned();
        assert!(len > 0, "no {report:?} behind {end:?}");
        text.extend_from_slice(&part[..len]);
    }
    assert_eq!(dropped(&mut client), missed);
    program.signal("TERM");
    assert_eq!(program.wait().status.code(), Some(0));
}

#[test]
fn the_acceptor_survives_a_refusal_that_nobody_reads() {
    let options = ["-v", "-c", "4", "-t", "1"];
    let (program, address) = program_with_errors(&options, closed());
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(&address)).collect();
    for client in &mut clients {
        client.ask("", "");
    }
    for _ in 0..5 {
        let mut refused = Client::connect(&address);
        refused.expect("ERROR Too many open connections\r\n");
    }
    clients.pop();
    wait_until("a connection is admitted again", || {
        let mut next = Client::try_connect(&address).ok()?;
        next.try_send("version\r\n").ok()?;
        next.line().starts_with("VERSION").then_some(())
    });
    wait_until("the refusals are counted as dropped", || {
        (dropped(&mut clients[0]) >= 5).then_some(())
    });
    drop(program);
}

/// The single line on standard output, written at the start, delays the program
/// only briefly.
#[test]
fn a_greeting_that_nobody_reads_does_not_hold_up_signals() {
    let full = || {
        File::create("/dev/full")
            .expect("the device is there")
            .into()
    };
    let (_reader, stuck) = stuck();
    for output in [closed(), full(), stuck] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rustcached"));
        command.args(on_free_port(&[]));
        let program = Program::spawn_with(&mut command, Stdio::null(), output);
        Client::connect(&program.address()).ask("", "");
        program.signal("TERM");
        let ended = program.wait();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.errors);
        assert_eq!(ended.errors, "");
    }
}

#[test]
fn errors_at_the_start_keep_their_exit_code_unheard() {
    let (_reader, stuck) = stuck();
    let full = File::create("/dev/full").expect("the device is there");
    for errors in [closed(), full.into(), stuck] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rustcached"));
        let ended = Program::launch(command.arg("-t0"), Stdio::null(), Stdio::null(), errors);
        assert_eq!(ended.wait().status.code(), Some(1));
    }
}

/// The signal thread logs too, and must not block.
#[test]
fn a_reload_that_fails_unheard_leaves_signals_working() {
    let directory = TempDir::create();
    let secret = directory.path("passwords");
    std::fs::write(&secret, "u:p\n").expect("writable");
    let path = secret.to_str().expect("a plain path");
    let (program, address) = program_with_errors(&["-Y", path], closed());
    let mut client = Client::connect(&address);
    client.send("set x 0 0 3\r\nu p\r\n");
    client.expect("STORED\r\n");
    std::fs::write(&secret, "no list\n").expect("writable");
    for times in 1..=3 {
        program.signal("HUP");
        wait_until("the error is dropped", || {
            (dropped(&mut client) >= times).then_some(())
        });
    }
    program.signal("TERM");
    assert_eq!(program.wait().status.code(), Some(0));
}

#[test]
fn a_stop_writes_what_is_queued() {
    let (program, address) = Program::start(&["-vv"]);
    let mut client = Client::connect(&address);
    client.ask("set a\x1b[2Jb 0 0 1\r\nv\r\n", "STORED\r\n");
    client.ask("get k\r\n", "END\r\n");
    assert_eq!(dropped(&mut client), 0);
    program.signal("TERM");
    let ended = program.wait();
    assert_eq!(ended.status.code(), Some(0));
    let place = |part: &str| {
        let found = ended.errors.find(part);
        found.unwrap_or_else(|| panic!("no {part:?} in {}", ended.errors))
    };
    let opened = place(" new client connection from 127.0.0.1:");
    let set = place(r" store a\x1b[2Jb");
    let get = place(" get k\n");
    let closed = place(" connection closed (shutdown)\n");
    assert!(
        opened < set && set < get && get < closed,
        "{}",
        ended.errors
    );
}

#[test]
fn the_counter_is_in_a_group_of_its_own() {
    let (_program, address) = Program::start(&[]);
    let answer = Client::connect(&address).answer("stats rustcached\r\n");
    let own = String::from_utf8(answer).expect("text");
    let version = format!("STAT version {}\r\n", env!("CARGO_PKG_VERSION"));
    assert!(own.starts_with(&version), "{own}");
    assert!(own.contains("STAT log_lines_dropped 0\r\n"), "{own}");
}

/// Waits until a file has a line that contains `text`, and returns the line.
fn wait_for_line(path: &std::path::Path, text: &str) -> String {
    wait_until(text, || {
        let lines = std::fs::read_to_string(path).ok()?;
        let found = lines.lines().find(|line| line.contains(text))?;
        lines.ends_with('\n').then(|| found.to_owned())
    })
}

#[test]
fn a_log_file_can_be_rotated() {
    let directory = TempDir::create();
    let path = directory.path("log");
    let option = format!("--log-file={}", path.display());
    let (server, address) = Program::start(&[&option, "-vv"]);
    let mut client = Client::connect(&address);
    client.ask("get first\r\n", "END\r\n");
    wait_for_line(&path, "get first");
    let rotated = directory.path("log.1");
    std::fs::rename(&path, &rotated).expect("it is there");
    server.signal("HUP");
    wait_for_line(&path, "the log file was opened anew");
    client.ask("get second\r\n", "END\r\n");
    wait_for_line(&path, "get second");
    let old = std::fs::read_to_string(&rotated).expect("it is there");
    assert!(!old.contains("second"), "{old}");
    server.signal("TERM");
    let ended = server.wait();
    assert!(ended.status.success());
    assert!(!ended.errors.contains("first"), "{}", ended.errors);
}

#[test]
fn log_lines_can_be_json() {
    let directory = TempDir::create();
    let path = directory.path("log");
    let option = format!("--log-file={}", path.display());
    let (_server, address) = Program::start(&[&option, "--log-format=json", "-vv"]);
    Client::connect(&address).ask("get a\"b\\\r\n", "END\r\n");
    let line = wait_for_line(&path, "get a");
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let message = line["message"].as_str().expect("a text");
    assert!(message.ends_with(" get a\\\"b\\\\"), "{message}");
    assert!(line["ts"].as_f64().expect("a number") > 1.7e9);
}

#[test]
fn log_options_that_cannot_work_are_refused() {
    let ended = Program::spawn(&["--log-file=/nonexistent/log", "-p0", "-unobody"]).wait();
    let expected = "failed to open the log file /nonexistent/log: No such file or directory";
    assert!(ended.errors.contains(expected), "{}", ended.errors);
    assert_eq!(ended.status.code(), Some(1));
    let ended = Program::spawn(&["--log-format=xml"]).wait();
    let expected = "--log-format takes text or json, not \"xml\"";
    assert!(ended.errors.contains(expected), "{}", ended.errors);
    assert_eq!(ended.status.code(), Some(1));
}
