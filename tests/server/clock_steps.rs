//! Steps of the system clock while the server runs: no item becomes immortal or
//! expires early. Debian's libfaketime steps the wall clock of the server's
//! process and leaves its monotonic clock alone.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use test_support::TempDir;
use test_support::client::Client;
use test_support::program::Program;
use test_support::wait_until;

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

#[test]
fn steps_of_the_system_clock_neither_immortalise_nor_drop_items() {
    if !Path::new(LIBRARY).is_file() {
        return test_support::skip("libfaketime is not installed");
    }
    let directory = TempDir::create();
    let step = directory.path("step");
    let set_clock = |offset: &str| {
        std::fs::write(&step, format!("{offset}\n")).expect("a file can be written");
    };
    set_clock("+0");
    let (_program, address) = Program::start_with_env(
        &[],
        &[
            ("LD_PRELOAD", LIBRARY),
            (
                "FAKETIME_TIMESTAMP_FILE",
                step.to_str().expect("plain text"),
            ),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_NO_CACHE", "1"),
        ],
    );
    let mut client = Client::connect(&address);
    let begun = Instant::now();
    client.ask("set short 0 2 1\r\na\r\n", "STORED\r\n");
    client.ask("set long 0 1000 1\r\nb\r\n", "STORED\r\n");
    client.ask("set ever 0 0 1\r\nc\r\n", "STORED\r\n");

    set_clock("+400d");
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

    set_clock("-400d");
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
