//! Restarts that keep the items (`-e`, `--save-path`), and draining.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use test_support::client::{Address, Client};
use test_support::program::Program;
use test_support::{TempDir, wait_until};

/// Where the items are kept: the option and its file.
const OPTIONS: [&str; 2] = ["--memory-file", "--save-path"];

fn start(option: &str, file: &Path, more: &[&str]) -> (Program, Address) {
    let option = format!("{option}={}", file.display());
    let mut options = vec![&option[..]];
    options.extend(more);
    Program::start(&options)
}

/// Stops a program with a signal and returns what it logged.
pub(crate) fn stop(program: Program, signal: &str) -> String {
    program.signal(signal);
    let ended = program.wait();
    assert!(ended.status.success(), "{}", ended.errors);
    ended.errors
}

/// Stores items of all kinds.
pub(crate) fn fill(client: &mut Client) {
    for number in 0..500 {
        let value = "v".repeat(number * 3);
        let flags = number % 5;
        let ttl = if number % 4 == 0 { 5000 + number } else { 0 };
        let len = value.len();
        let set = format!("set key{number} {flags} {ttl} {len}\r\n{value}\r\n");
        client.ask(set, "STORED\r\n");
    }
    for len in [40_000, 300_000, 1_000_000] {
        let value = "x".repeat(len);
        client.ask(
            format!("set large{len} 9 0 {len}\r\n{value}\r\n"),
            "STORED\r\n",
        );
    }
    client.ask("ms a2V5 3 b F7\r\nabc\r\n", "HD\r\n");
    client.ask("md key7 I T90\r\n", "HD\r\n");
    client.answer("get key1 key2 key3\r\n");
    client.ask("delete key11\r\n", "DELETED\r\n");
}

/// Returns the dump of all items, sorted.
pub(crate) fn dump(client: &mut Client) -> Vec<String> {
    let answer = client.answer("lru_crawler metadump all\r\n");
    let answer = String::from_utf8(answer).expect("text");
    // An empty store answers OK.
    let lines = answer.lines().filter(|line| !matches!(*line, "END" | "OK"));
    let mut lines: Vec<String> = lines.map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

pub(crate) fn restart_stat(client: &mut Client, name: &str) -> Option<String> {
    let answer = String::from_utf8(client.answer("stats restart\r\n")).expect("text");
    let prefix = format!("STAT {name} ");
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix(&prefix[..]));
    line.map(ToOwned::to_owned)
}

/// Fails unless the dumps are equal. Times may differ by the second in which a
/// dump begins.
pub(crate) fn assert_same_dump(before: &[String], after: &[String]) {
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(after) {
        for (before, after) in before.split(' ').zip(after.split(' ')) {
            let time = |field: &str| {
                let (name, value) = field.split_once('=')?;
                let is_time = matches!(name, "exp" | "la");
                is_time.then(|| value.parse::<i64>().ok()).flatten()
            };
            match (time(before), time(after)) {
                (Some(before), Some(after)) => assert!(before.abs_diff(after) <= 1),
                _ => assert_eq!(before, after),
            }
        }
    }
}

#[test]
fn every_item_is_there_after_a_restart() {
    for option in OPTIONS {
        let folder = TempDir::create();
        let file = folder.path("items");
        // The sandbox must not forbid what a stop does.
        let options = ["-m", "64", "-o", "drop_privileges"];
        let (program, address) = start(option, &file, &options);
        let mut client = Client::connect(&address);
        assert_eq!(
            restart_stat(&mut client, "started_empty").as_deref(),
            Some("1")
        );
        fill(&mut client);
        let before = dump(&mut client);
        let cas = client.answer("ms last 1 c\r\nv\r\n");
        let log = stop(program, "TERM");
        assert!(log.contains("items are in"), "{log}");
        // Almost every setting may change.
        let (program, address) = start(
            option,
            &file,
            &["-m", "100", "-t", "3", "-I", "2m", "-o", "eviction=clock"],
        );
        let mut client = Client::connect(&address);
        let kept = (before.len() + 1).to_string();
        assert_eq!(restart_stat(&mut client, "kept"), Some(kept));
        assert_eq!(
            restart_stat(&mut client, "started_empty").as_deref(),
            Some("0")
        );
        client.ask("mg last c\r\n", cas);
        client.ask("delete last\r\n", "DELETED\r\n");
        assert_same_dump(&before, &dump(&mut client));
        let value = "x".repeat(300_000);
        client.ask(
            "get large300000\r\n",
            format!("VALUE large300000 9 300000\r\n{value}\r\nEND\r\n"),
        );
        client.ask("mg key7 v\r\n", "VA 21 X W\r\nvvvvvvvvvvvvvvvvvvvvv\r\n");
        drop(program);
    }
}

#[test]
fn each_way_to_stop_is_clean() {
    let folder = TempDir::create();
    let file = folder.path("items");
    type Stop = fn(&Program, &mut Client);
    let ways: [Stop; 5] = [
        |program, _| program.signal("TERM"),
        |program, _| program.signal("INT"),
        |program, _| program.signal("USR1"),
        |_, client| client.send("shutdown\r\n"),
        |_, client| client.send("shutdown graceful\r\n"),
    ];
    for (round, way) in ways.into_iter().enumerate() {
        let (program, address) = start("-e", &file, &["-A"]);
        let mut client = Client::connect(&address);
        if round > 0 {
            client.ask("incr n 1\r\n", format!("{round}\r\n"));
        } else {
            client.ask("set n 0 0 1\r\n0\r\n", "STORED\r\n");
        }
        // A value that is half received is not kept.
        let mut half = Client::connect(&address);
        half.send("set half 0 0 100\r\nabc");
        client.ask("get half\r\n", "END\r\n");
        way(&program, &mut client);
        assert!(program.wait().status.success());
    }
    let (_program, address) = start("-e", &file, &[]);
    let mut client = Client::connect(&address);
    client.ask("get n half\r\n", "VALUE n 0 1\r\n4\r\nEND\r\n");
}

#[test]
fn a_killed_server_starts_empty_and_healthy() {
    for option in OPTIONS {
        let folder = TempDir::create();
        let file = folder.path("items");
        for round in 0..8_u64 {
            let (program, address) = start(option, &file, &[]);
            let mut client = Client::connect(&address);
            client.ask("get a b\r\n", "END\r\n");
            fill(&mut client);
            client.send("set a 0 0 1\r\nx\r\nset b 0 0 100000\r\nhalf of it");
            // It dies during any of these commands, or after them.
            std::thread::park_timeout(Duration::from_micros(round * 300));
            program.signal("KILL");
            drop(program.wait());
        }
        let (program, address) = start(option, &file, &[]);
        let mut client = Client::connect(&address);
        assert_eq!(dump(&mut client), [""; 0]);
        fill(&mut client);
        let log = stop(program, "TERM");
        assert!(log.contains("starting empty"), "{log}");
    }
}

#[test]
fn expiry_flush_and_cas_go_on() {
    for option in OPTIONS {
        let folder = TempDir::create();
        let file = folder.path("items");
        let (program, address) = start(option, &file, &[]);
        let mut client = Client::connect(&address);
        client.ask("set flushed 0 0 1\r\nv\r\n", "STORED\r\n");
        client.ask("flush_all\r\n", "OK\r\n");
        client.ask("set short 0 1 1\r\nv\r\n", "STORED\r\n");
        client.ask("set long 0 100 1\r\nv\r\n", "STORED\r\n");
        let cas = client.answer("mg long c\r\n");
        stop(program, "TERM");
        std::thread::park_timeout(Duration::from_millis(1200));
        let (program, address) = start(option, &file, &[]);
        let mut client = Client::connect(&address);
        client.ask("get short flushed\r\n", "END\r\n");
        assert_eq!(client.answer("mg long c\r\n"), cas);
        let left = String::from_utf8(client.answer("mg long t\r\n")).expect("text");
        let left: u32 = left
            .trim()
            .strip_prefix("HD t")
            .expect("a TTL")
            .parse()
            .expect("seconds");
        assert!((90..=99).contains(&left), "{left} s");
        client.ask("set new 0 0 1\r\nv\r\n", "STORED\r\n");
        assert_ne!(client.answer("mg new c\r\n"), cas);
        assert_eq!(
            restart_stat(&mut client, "dropped_expired").as_deref(),
            Some("1")
        );
        // A delayed flush is still to come.
        client.ask("flush_all 2\r\n", "OK\r\n");
        stop(program, "TERM");
        let (_program, address) = start(option, &file, &[]);
        let mut client = Client::connect(&address);
        wait_until("the flush is due", || {
            (client.answer("get long\r\n") == b"END\r\n").then_some(())
        });
    }
}

#[test]
fn unusable_files_do_not_keep_the_server_from_starting() {
    for option in OPTIONS {
        let folder = TempDir::create();
        let foreign = folder.path("notes");
        fs::write(&foreign, "not a memory file").expect("written");
        let missing = folder.path("no").join("such");
        for (file, why) in [(&foreign, "left alone"), (&missing, "os error 2")] {
            let (program, address) = start(option, file, &[]);
            let mut client = Client::connect(&address);
            fill(&mut client);
            let reason = restart_stat(&mut client, "reason");
            let log = stop(program, "TERM");
            assert!(reason.is_some_and(|reason| reason.contains(why)));
            assert!(log.contains(why), "{log}");
            if file == &foreign {
                let notes = fs::read(file).expect("it is still there");
                assert_eq!(notes, b"not a memory file");
            }
        }
    }
}

#[test]
fn a_long_gap_empties_the_store() {
    for option in OPTIONS {
        let folder = TempDir::create();
        let file = folder.path("items");
        let (program, address) = start(option, &file, &[]);
        Client::connect(&address).ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
        stop(program, "TERM");
        std::thread::park_timeout(Duration::from_millis(300));
        let (program, address) = start(option, &file, &["--restart-max-gap=0.2"]);
        Client::connect(&address).ask("get a\r\n", "END\r\n");
        let log = stop(program, "TERM");
        assert!(log.contains("longer than --restart-max-gap"), "{log}");
    }
}

#[test]
fn two_servers_do_not_share_a_file() {
    for option in OPTIONS {
        let folder = TempDir::create();
        let file = folder.path("items");
        let (first, address) = start(option, &file, &[]);
        Client::connect(&address).ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
        let (second, other) = start(option, &file, &[]);
        let mut client = Client::connect(&other);
        client.ask("get a\r\n", "END\r\n");
        client.ask("set b 0 0 1\r\nx\r\n", "STORED\r\n");
        stop(first, "TERM");
        // The last one to stop keeps nothing: it must not replace the items.
        let log = stop(second, "TERM");
        let lines = log.lines().filter(|line| line.contains("restart:"));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains("another server uses it"), "{log}");
        let (_third, address) = start(option, &file, &[]);
        let mut client = Client::connect(&address);
        client.ask("get a b\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
    }
}

#[test]
fn without_eviction_a_lower_limit_drops_nothing() {
    for option in OPTIONS {
        let folder = TempDir::create();
        let file = folder.path("items");
        let (program, address) = start(option, &file, &["-m", "64"]);
        let mut client = Client::connect(&address);
        let value = "v".repeat(10_000);
        for number in 0..2000 {
            let set = format!("set key{number} 0 0 10000\r\n{value}\r\n");
            client.ask(set, "STORED\r\n");
        }
        stop(program, "TERM");
        let (program, address) = start(option, &file, &["-M", "-m", "8"]);
        let mut client = Client::connect(&address);
        let stat = |client: &mut Client, name| restart_stat(client, name);
        assert_eq!(stat(&mut client, "kept").as_deref(), Some("2000"));
        assert_eq!(
            stat(&mut client, "dropped_over_limit").as_deref(),
            Some("0")
        );
        client.ask("get key0 key1999 none\r\n", {
            let block = |key| format!("VALUE {key} 0 10000\r\n{value}\r\n");
            block("key0") + &block("key1999") + "END\r\n"
        });
        let set = format!("set new 0 0 10000\r\n{value}\r\n");
        client.ask(&set, "SERVER_ERROR out of memory storing object\r\n");
        client.ask("cache_memlimit 64\r\n", "OK\r\n");
        client.ask(&set, "STORED\r\n");
        let log = stop(program, "TERM");
        assert!(log.contains("the items exceed the memory limit"), "{log}");
    }
}

/// Length of the superblock of a memory file. A checksum ends it.
const SUPERBLOCK_BYTES: usize = 256;
/// Place of the format's version in it.
const VERSION_PLACE: usize = 8;

/// Changes the superblock of a memory file and corrects its checksum.
pub(crate) fn change_superblock(file: &Path, change: impl FnOnce(&mut [u8])) {
    let mut bytes = fs::read(file).expect("a memory file");
    let (content, crc) = bytes[..SUPERBLOCK_BYTES].split_at_mut(SUPERBLOCK_BYTES - 4);
    assert_eq!(crc32fast::hash(content).to_le_bytes(), crc);
    change(content);
    crc.copy_from_slice(&crc32fast::hash(content).to_le_bytes());
    fs::write(file, bytes).expect("it can be written");
}

#[test]
fn a_file_of_the_previous_format_empties_the_store() {
    for option in OPTIONS {
        let folder = TempDir::create();
        let file = folder.path("items");
        let (program, address) = start(option, &file, &[]);
        Client::connect(&address).ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
        stop(program, "TERM");
        let mut previous = 0;
        change_superblock(&file, |superblock| {
            let version = &mut superblock[VERSION_PLACE..][..4];
            previous = u32::from_le_bytes(version.try_into().expect("4 bytes")) - 1;
            version.copy_from_slice(&previous.to_le_bytes());
        });
        let (program, address) = start(option, &file, &[]);
        let mut client = Client::connect(&address);
        let reason = format!("it has version {previous} of the format");
        assert_eq!(restart_stat(&mut client, "reason"), Some(reason.clone()));
        client.ask("get a\r\n", "END\r\n");
        client.ask("set b 0 0 1\r\ny\r\n", "STORED\r\n");
        let log = stop(program, "TERM");
        let why = log.lines().filter(|line| line.contains("starting empty"));
        let why: Vec<_> = why.collect();
        assert_eq!(why.len(), 1, "{log}");
        assert!(why[0].ends_with(&reason), "{log}");
        let (_program, address) = start(option, &file, &[]);
        Client::connect(&address).ask("get a b\r\n", "VALUE b 0 1\r\ny\r\nEND\r\n");
    }
}

#[test]
fn draining_serves_the_active_and_closes_the_idle() {
    let (program, address) = Program::start(&["--drain-timeout=60"]);
    let mut idle = Client::connect(&address);
    idle.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    let mut active = Client::connect(&address);
    let mut half = Client::connect(&address);
    half.send("set half 0 0 5\r\nab");
    active.ask("get half\r\n", "END\r\n");
    program.signal("TERM");
    wait_until("no connection is accepted", || {
        active.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
        Client::try_connect(&address).is_err().then_some(())
    });
    std::thread::scope(|scope| {
        let closed = scope.spawn(|| idle.read_to_close());
        wait_until("the idle connection is closed", || {
            active.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
            closed.is_finished().then_some(())
        });
    });
    half.send("cde\r\nget half\r\n");
    let answer = half.answer("");
    assert_eq!(answer, b"STORED\r\nVALUE half 0 5\r\nabcde\r\nEND\r\n");
    active.send("quit\r\n");
    half.send("quit\r\n");
    let begun = Instant::now();
    assert!(program.wait().status.success());
    assert!(begun.elapsed() < Duration::from_secs(30), "nobody is left");
}

#[test]
fn a_second_signal_ends_draining() {
    let (program, address) = Program::start(&["--drain-timeout=600"]);
    let mut client = Client::connect(&address);
    client.send("set a 0 0 5\r\nab");
    program.signal("TERM");
    wait_until("no connection is accepted", || {
        Client::try_connect(&address).is_err().then_some(())
    });
    program.signal("TERM");
    assert!(program.wait().status.success());
}

#[test]
fn what_was_invalidated_stays_away_and_tags_keep_their_meaning() {
    for option in OPTIONS {
        let folder = TempDir::create();
        let file = folder.path("items");
        // Without sweeps, the invalidation is outstanding at the stop.
        let (program, address) = start(option, &file, &["-o", "no_lru_crawler"]);
        let mut client = Client::connect(&address);
        client.ask("set a:1 0 0 1\r\nx\r\n", "STORED\r\n");
        client.ask("ms b 1 Pt1,t2 E18446744073709551615\r\nx\r\n", "HD\r\n");
        client.ask("ms c 1 Pt3\r\nx\r\n", "HD\r\n");
        client.ask("invalidate prefix a:\r\n", "INVALIDATED\r\n");
        client.ask("invalidate tag t3\r\n", "INVALIDATED\r\n");
        stop(program, "TERM");
        // Another delimiter is fine.
        let (program, address) = start(option, &file, &["-D", "/"]);
        let mut client = Client::connect(&address);
        assert_eq!(restart_stat(&mut client, "kept").as_deref(), Some("1"));
        client.ask("get a:1 c\r\n", "END\r\n");
        client.ask("mg b v c\r\n", "VA 1 c18446744073709551615\r\nx\r\n");
        client.ask("invalidate tag t2\r\n", "INVALIDATED\r\n");
        client.ask("mg b v\r\n", "EN\r\n");
        stop(program, "TERM");
    }
}
