//! Privileges of the process: the user it changes to, and the system call
//! filter.

use test_support::client::{Address, Client};
use test_support::program::Program;
use test_support::tls::{Files, over_tls};
use test_support::{TempDir, wait_until};

/// Returns the IDs of user and group `nobody` as the kernel prints them: real,
/// effective, saved and file system ID.
fn ids_of_nobody() -> Option<(String, String)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.starts_with("nobody:"))?;
    let mut fields = line.split(':').skip(2);
    let (user, group) = (fields.next()?, fields.next()?);
    let four = |id: &str| [id; 4].join("\t");
    Some((four(user), four(group)))
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has one");
    status.lines().any(|line| line == "Uid:\t0\t0\t0\t0")
}

/// Workers, acceptor, upkeep, and the threads that write logs.
const THREADS_MIN: usize = 8;

fn every_thread_has(program: &Program, name: &str, want: &str) {
    let statuses = program.thread_statuses(name);
    assert!(statuses.len() >= THREADS_MIN, "{statuses:?}");
    assert!(
        statuses.iter().all(|status| status == want),
        "{name}: {statuses:?}"
    );
}

#[test]
fn root_s_rights_are_given_up_for_good() {
    if !is_root() {
        return test_support::skip("only root can become somebody else");
    }
    let (user, group) = ids_of_nobody().expect("there is a nobody");
    let (mut program, address) = Program::start(&["-u", "nobody"]);
    program.assert_answers(&address);
    let none = "0000000000000000";
    for (name, want) in [
        ("Uid", user.as_str()),
        ("Gid", group.as_str()),
        ("Groups", ""),
        ("CapEff", none),
        ("CapPrm", none),
    ] {
        every_thread_has(&program, name, want);
    }
}

#[test]
fn without_the_word_there_is_no_filter() {
    for options in [&[][..], &["-o", "drop_privileges,no_drop_privileges"]] {
        let (program, address) = Program::start(options);
        Client::connect(&address).ask("", "");
        every_thread_has(&program, "Seccomp", "0");
    }
}

/// Every function of the server works under the filter, on every thread. The
/// unit tests of the filter cover the calls that it forbids.
#[test]
fn the_filter_holds_all_threads_and_hinders_none() {
    let (files, directory) = (Files::create(), TempDir::create());
    let socket = directory.path("socket");
    let secret = directory.path("passwords");
    std::fs::write(&secret, "u:p\n").expect("writable");
    let list = format!("127.0.0.1,notls:127.0.0.2,unix:{}", socket.display());
    let program = Program::spawn(&[
        "-u",
        "root",
        "-p",
        "-1",
        "-l",
        &list,
        "-Z",
        "-o",
        &files.words(),
        "-Y",
        secret.to_str().expect("a plain path"),
        "-o",
        "drop_privileges",
        "-A",
        "-vv",
        "-m",
        "64",
        "-o",
        "idle_timeout=60",
    ]);
    let ports = wait_until("both ports are known", || {
        program.ports().filter(|ports| ports.len() == 2)
    });
    wait_until("every thread is held", || {
        let statuses = program.thread_statuses("Seccomp");
        let held = statuses.iter().filter(|status| *status == "2").count();
        (held >= THREADS_MIN && held == statuses.len()).then_some(())
    });
    let tls = Address::Tcp(([127, 0, 0, 1], ports[0]).into());
    let plain = Address::Tcp(([127, 0, 0, 2], ports[1]).into());
    let all = [
        over_tls(&tls, files.trusting()),
        plain.clone(),
        Address::Unix(socket.clone()),
    ];
    for address in &all {
        for round in 0..8 {
            let mut client = Client::connect(address);
            client.send("set x 0 0 3\r\nu p\r\n");
            client.expect("STORED\r\n");
            // Exceed the memory limit, with values of many sizes.
            for size in [10, 1000, 40_000, 1_000_000] {
                for number in 0..12 {
                    let key = format!("k{round}-{size}-{number}");
                    let value = "v".repeat(size);
                    client.ask(format!("set {key} 0 0 {size}\r\n{value}\r\n"), "STORED\r\n");
                }
            }
            client.ask("refresh_certs\r\n", "OK\r\n");
            client.ask("flush_all\r\n", "OK\r\n");
            client.ask("cache_memlimit 32\r\n", "OK\r\n");
            for group in ["", " settings", " slabs", " items", " sizes", " conns"] {
                assert!(!client.answer(format!("stats{group}\r\n")).is_empty());
            }
        }
    }
    std::fs::write(&secret, "new:two\n").expect("writable");
    program.signal("HUP");
    wait_until("the new password opens", || {
        let mut client = Client::connect(&plain);
        client.send("set x 0 0 7\r\nnew two\r\n");
        (client.line() == "STORED\r\n").then_some(())
    });
    program.signal("TERM");
    let ended = program.wait();
    assert!(ended.status.success(), "{}", ended.errors);
    assert!(!socket.exists(), "removed at the end");
    assert!(!ended.errors.contains("not permitted"), "{}", ended.errors);
}
