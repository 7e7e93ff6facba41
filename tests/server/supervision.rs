//! A panic on any thread of the server ends the process, with a message and
//! exit code 70. Each test runs this test program again as a child process with
//! a server, and injects the panic there.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustcached::server::PanicTarget;
use test_support::server::Server;
use test_support::{stuck, wait_until};

const VICTIM: &str = "RUSTCACHED_TEST_VICTIM";
/// `EX_SOFTWARE` of sysexits.h.
const EX_SOFTWARE: i32 = 70;

const VICTIMS: [(&str, PanicTarget); 5] = [
    ("worker 0", PanicTarget::Worker),
    ("acceptor", PanicTarget::Acceptor),
    ("upkeep", PanicTarget::Upkeep),
    ("log", PanicTarget::Watchers),
    ("stderr", PanicTarget::Stderr),
];

/// The child process with the server.
#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child() {
    let Ok(name) = std::env::var(VICTIM) else {
        return;
    };
    let (_, victim) = VICTIMS
        .into_iter()
        .find(|(known, _)| *known == name)
        .expect("a thread's name");
    let server = Server::with(|config| config.verbosity = 2);
    let mut client = server.client();
    client.ask("set k 0 0 1\r\nv\r\n", "STORED\r\n");
    server.inject_panic(victim);
    // Blocks forever, as main does.
    server.wait_for_stop_request();
}

fn start_child(victim: &str, errors: Stdio) -> Child {
    let program = std::env::current_exe().expect("a running program has a path");
    Command::new(program)
        .args(["--ignored", "--exact", "supervision::child", "--nocapture"])
        .env(VICTIM, victim)
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .expect("this program can be executed")
}

fn end_of(child: &mut Child) -> ExitStatus {
    let ended = || child.try_wait().expect("a child can be waited for");
    wait_until("the process ends", ended)
}

#[test]
fn a_panic_of_any_thread_ends_the_process_with_a_message() {
    for (name, _) in VICTIMS {
        let mut child = start_child(name, Stdio::piped());
        let status = end_of(&mut child);
        assert_eq!(status.code(), Some(EX_SOFTWARE), "{name}");
        let mut text = String::new();
        let mut errors = child.stderr.take().expect("it is piped");
        errors.read_to_string(&mut text).expect("text");
        let begin = format!("rustcached: thread '{name}' panicked at src/");
        assert!(text.contains(&begin), "{name}: {text}");
        assert!(text.contains("injected panic"), "{name}: {text}");
        assert!(text.contains("exit with code 70"), "{name}: {text}");
    }
}

/// The process ends even if the thread that writes log lines is blocked.
#[test]
fn a_reader_that_is_stuck_does_not_keep_the_process() {
    for name in ["worker 0", "acceptor"] {
        let (reader, errors) = stuck();
        let mut child = start_child(name, errors);
        assert_eq!(end_of(&mut child).code(), Some(EX_SOFTWARE), "{name}");
        drop(reader);
    }
}

#[test]
fn a_reader_that_is_gone_does_not_change_the_exit_code() {
    let (reader, errors) = stuck();
    drop(reader);
    let mut child = start_child("worker 0", errors);
    assert_eq!(end_of(&mut child).code(), Some(EX_SOFTWARE));
}

/// Only the server's threads are supervised. Threads of an embedding program
/// panic as usual.
#[test]
fn other_threads_of_the_process_may_panic() {
    let server = Server::start();
    let panicked = std::thread::spawn(|| panic!("on purpose")).join();
    assert!(panicked.is_err());
    server.client().ask("", "");
}
