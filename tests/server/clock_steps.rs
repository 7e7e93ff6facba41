//! Steps of the system clock while the server runs: no item becomes immortal or
//! expires early. Debian's libfaketime steps the wall clock of the server's
//! process and leaves its monotonic clock alone.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use test_support::TempDir;
use test_support::client::{Address, Client};
use test_support::program::Program;
use test_support::wait_until;

use crate::restart::{change_superblock, restart_stat, stop};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Sets the wall clock that programs with this file see.
fn set_clock(step: &Path, offset: &str) {
    std::fs::write(step, format!("{offset}\n")).expect("a file can be written");
}

/// Starts a server whose wall clock follows the file `step`.
fn start(options: &[&str], step: &Path) -> (Program, Address) {
    let variables = [
        ("LD_PRELOAD", LIBRARY),
        (
            "FAKETIME_TIMESTAMP_FILE",
            step.to_str().expect("plain text"),
        ),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_NO_CACHE", "1"),
    ];
    Program::start_with_env(options, &variables)
}

#[test]
fn steps_of_the_system_clock_neither_immortalise_nor_drop_items() {
    if !Path::new(LIBRARY).is_file() {
        return test_support::skip("libfaketime is not installed");
    }
    let directory = TempDir::create();
    let step = directory.path("step");
    set_clock(&step, "+0");
    let (_program, address) = start(&[], &step);
    let mut client = Client::connect(&address);
    let begun = Instant::now();
    client.ask("set short 0 2 1\r\na\r\n", "STORED\r\n");
    client.ask("set long 0 1000 1\r\nb\r\n", "STORED\r\n");
    client.ask("set ever 0 0 1\r\nc\r\n", "STORED\r\n");

    set_clock(&step, "+400d");
    // Wait until the server sees the step: an hour from now has then passed.
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is past 1970");
    let soon = wall.as_secs() + 3600;
    client.ask(format!("set past 0 {soon} 1\r\nd\r\n"), "STORED\r\n");
    client.ask("get past\r\n", "END\r\n");
    client.ask(
        "get long ever\r\n",
        "VALUE long 0 1\r\nb\r\nVALUE ever 0 1\r\nc\r\nEND\r\n",
    );

    set_clock(&step, "-400d");
    // Had a step ended this item, it would be gone already.
    wait_until("the short life ends", || {
        (client.answer("get short\r\n") == b"END\r\n").then_some(())
    });
    let elapsed = begun.elapsed();
    assert!(elapsed >= Duration::from_secs(2), "gone after {elapsed:?}");
    let left = client.answer("mg long t\r\n");
    let left = String::from_utf8_lossy(&left);
    let left = left
        .trim_end()
        .strip_prefix("HD t")
        .and_then(|left| left.parse().ok());
    let expected = 1000 - elapsed.as_secs();
    assert!(
        left.is_some_and(|left: u64| left.abs_diff(expected) <= 1),
        "{left:?} seconds left of {expected}"
    );
    client.ask("get ever\r\n", "VALUE ever 0 1\r\nc\r\nEND\r\n");
}

/// Place of the number of the machine's run in a memory file's superblock.
const BOOT_ID: std::ops::Range<usize> = 88..104;

/// A server that was stopped and started again.
struct Restarted {
    program: Program,
    client: Client,
    /// Why it started empty.
    reason: Option<String>,
    /// Seconds that it says to have been away.
    away: f64,
    /// Folder of its files.
    _directory: TempDir,
}

/// Stores items, stops, steps the wall clock by `offset`, and starts again. The
/// machine was started in between if `reboots`.
fn restart_with_step(option: &str, offset: &str, reboots: bool) -> Restarted {
    let directory = TempDir::create();
    let (step, file) = (directory.path("step"), directory.path("items"));
    let option = format!("{option}={}", file.display());
    set_clock(&step, "+0");
    let (program, address) = start(&[&option], &step);
    let mut client = Client::connect(&address);
    client.ask("set short 0 1000 1\r\na\r\n", "STORED\r\n");
    client.ask("set ever 0 0 1\r\nb\r\n", "STORED\r\n");
    stop(program, "TERM");
    if reboots {
        change_superblock(&file, |superblock| {
            let boot_id = &mut superblock[BOOT_ID];
            assert!(boot_id.iter().any(|byte| *byte != 0), "a boot ID is known");
            boot_id[0] ^= 1;
        });
    }
    set_clock(&step, offset);
    let (program, address) = start(&[&option], &step);
    let mut client = Client::connect(&address);
    let reason = restart_stat(&mut client, "reason");
    let away = restart_stat(&mut client, "away_seconds");
    let away = away.map_or(0.0, |away| away.parse().expect("a number"));
    Restarted {
        program,
        client,
        reason,
        away,
        _directory: directory,
    }
}

#[test]
fn restarts_do_not_ask_the_stepped_clock_unless_the_machine_was_started() {
    const BOTH: &str = "VALUE short 0 1\r\na\r\nVALUE ever 0 1\r\nb\r\nEND\r\n";
    const EVER: &str = "VALUE ever 0 1\r\nb\r\nEND\r\n";
    const HOUR: f64 = 3600.0;
    if !Path::new(LIBRARY).is_file() {
        return test_support::skip("libfaketime is not installed");
    }
    for option in ["--memory-file", "--save-path"] {
        // The clock that runs since the machine was started knows the time away.
        for offset in ["+1h", "-1h", "+400d", "-400d"] {
            let mut server = restart_with_step(option, offset, false);
            server.client.ask("get short ever\r\n", BOTH);
            assert!(server.away < HOUR / 2.0, "{offset}: {} s", server.away);
        }
        let mut server = restart_with_step(option, "+0", true);
        server.client.ask("get short ever\r\n", BOTH);
        assert!(server.away < HOUR / 2.0, "{} s", server.away);
        // Then a step counts as time away: nothing is served too long.
        let mut server = restart_with_step(option, "+1h", true);
        server.client.ask("get short ever\r\n", EVER);
        let away = server.away;
        assert!((HOUR..1.5 * HOUR).contains(&away), "{away} s");
        let mut server = restart_with_step(option, "-1h", true);
        server.client.ask("get short ever\r\n", "END\r\n");
        let reason = server.reason.expect("it started empty");
        assert_eq!(reason, "the system's clock went back since the last stop");
        let log = stop(server.program, "TERM");
        assert_eq!(log.matches(&reason).count(), 1, "{log}");
    }
}
