//! The start of the program: what it says, what it refuses with which advice, and what
//! `--check-config` finds before.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use test_support::client::{Address, Client};
use test_support::program::{Ended, Program, on_free_port, server_program};
use test_support::{TempDir, wait_until};

/// Returns some more megabytes than this machine has.
fn too_many() -> String {
    let text = fs::read_to_string("/proc/meminfo").expect("there is one");
    let line = text.lines().find(|line| line.starts_with("MemTotal:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    let kilobytes: u64 = number.expect("a number");
    (kilobytes / 1024 + 100).to_string()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Starts the program, which must fail with one line that has all of `parts`.
fn fails(options: &[&str], parts: &[&str]) {
    let ended = Program::spawn(&on_free_port(options)).wait();
    assert!(!ended.status.success(), "{options:?}");
    has_one_line(&ended, parts);
}

fn has_one_line(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
    for part in parts {
        assert!(ended.errors.contains(part), "{part:?}: {}", ended.errors);
    }
}

fn check(options: &[&str]) -> Ended {
    Program::spawn(&[options, &["--check-config"]].concat()).wait()
}

#[test]
fn the_first_line_names_version_address_memory_and_threads() {
    let (program, address) = Program::start(&["-m", "100", "-t", "3"]);
    Client::connect(&address).ask("", "");
    let port = program.port();
    program.signal("TERM");
    let ended = program.wait();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        ended.output,
        format!(
            "rustcached {version} is listening on 127.0.0.1:{port}; memory limit 100 MiB, 3 threads\n"
        )
    );
}

#[test]
fn places_that_cannot_be_used_are_refused_with_what_to_do() {
    let directory = TempDir::create();
    let missing = directory.path("missing/x");
    let create = format!(
        "create the directory {}",
        directory.path("missing").display()
    );
    let file = directory.path("file");
    fs::write(&file, "").expect("writable");
    for (option, path, parts) in [
        ("-s", &missing, [&create, "missing/x"]),
        ("-s", &file, ["no socket", "file"]),
        ("--log-file", &missing, [&create, "missing/x"]),
        ("--take-over", &missing, [&create, "missing/x"]),
        ("-Y", &missing, [&create, "missing/x"]),
    ] {
        fails(&[option, text(path)], &parts);
    }
    fails(&["-l", "192.0.2.1"], &["192.0.2.1", "name another with -l"]);
    fails(&["-u", "no-such-user"], &["no-such-user", "useradd"]);
}

#[test]
fn a_log_pipe_without_a_reader_is_refused_and_one_with_a_reader_gets_the_lines() {
    let directory = TempDir::create();
    let pipe = directory.path("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("created");
    fails(&["--log-file", text(&pipe)], &["start its reader first"]);
    // Opens at once, and makes a reader of this process.
    let mut reader = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(&pipe)
        .expect("opened");
    let (program, address) = Program::start(&["--log-file", text(&pipe), "-v"]);
    Client::connect(&address).ask("", "");
    program.signal("HUP");
    let mut lines = Vec::new();
    wait_until("a line arrives", || {
        // Nothing has arrived, or the file is being opened anew.
        let _ = reader.read_to_end(&mut lines);
        let lines = String::from_utf8_lossy(&lines);
        lines.contains("the log file was opened anew").then_some(())
    });
    program.signal("TERM");
    assert!(program.wait().status.success());
}

#[test]
fn more_memory_than_there_is_is_one_warning_and_no_failure() {
    let many = &too_many()[..];
    let parts = [many, "MiB", "lower -m"];
    let (program, address) = Program::start(&["-m", many]);
    Client::connect(&address).ask("", "");
    program.signal("TERM");
    let ended = program.wait();
    assert!(ended.status.success(), "{}", ended.errors);
    has_one_line(&ended, &parts);
    let checked = check(&["-m", many]);
    assert!(checked.status.success(), "{}", checked.errors);
    has_one_line(&checked, &parts);
    // Bytes where megabytes are meant.
    fails(&["-m", "1073741824"], &["1073741824", "-m takes megabytes"]);
}

#[test]
fn text_behind_a_number_is_a_warning_at_any_verbosity() {
    let options = ["-u", "root", "-m", "1g", "-L"];
    let read = "warning: -m (--memory-limit): \"1g\" is read as 1";
    let (program, _) = Program::start(&options);
    program.signal("TERM");
    let ended = program.wait();
    assert_eq!(ended.errors, format!("{read}\n"));
    assert!(
        ended.output.contains("memory limit 1 MiB"),
        "{}",
        ended.output
    );
    // A check also names what has no effect.
    let ended = check(&options);
    let unused = "-L (--enable-largepages) has no effect";
    assert_eq!(ended.errors, format!("{read}\n{unused}\n"));
    assert!(ended.status.success());
}

#[test]
fn a_check_finds_what_a_start_cannot_use() {
    let directory = TempDir::create();
    let missing = directory.path("missing/x");
    for option in ["-s", "-e", "--save-path", "--log-file", "--take-over"] {
        let ended = check(&[option, text(&missing)]);
        assert!(!ended.status.success(), "{option}");
        has_one_line(&ended, &["missing/x", "create the directory"]);
    }
    let ended = check(&["--log-file", text(&directory.path(""))]);
    assert!(!ended.status.success());
    has_one_line(&ended, &["directory"]);
    // Only root changes its user; for others it is a warning.
    let ended = check(&["-u", "no-such-user"]);
    has_one_line(&ended, &["no-such-user"]);
    assert_eq!(ended.status.success(), !nix::unistd::geteuid().is_root());
}

#[test]
fn a_check_creates_and_changes_nothing() {
    let directory = TempDir::create();
    let old = directory.path("old");
    fs::write(&old, "a line\n").expect("writable");
    let paths = ["log", "items", "socket", "next"].map(|name| directory.path(name));
    let [log, items, socket, next] = paths.each_ref().map(|path| text(path));
    let ended = check(&[
        "--log-file",
        log,
        "-e",
        items,
        "-s",
        socket,
        "--take-over",
        next,
    ]);
    assert!(ended.status.success(), "{}", ended.errors);
    assert_eq!(ended.output, "the configuration is valid\n");
    let ended = check(&["--log-file", text(&old), "--save-path", items]);
    assert!(ended.status.success(), "{}", ended.errors);
    assert_eq!(fs::read_to_string(&old).expect("readable"), "a line\n");
    let names = fs::read_dir(directory.path("")).expect("readable");
    assert_eq!(names.count(), 1);
}

#[test]
fn relative_paths_of_a_daemon_begin_where_it_was_started() {
    let directory = TempDir::create();
    fs::write(directory.path("conf"), "memory-limit 100\n").expect("writable");
    let options = [
        "-d",
        "-P",
        "pid",
        "--take-over",
        "next",
        "--log-file",
        "log",
        "--config",
        "conf",
        "-s",
        "socket",
        "-u",
        "root",
    ];
    let status = Command::new(server_program())
        .args(options)
        .current_dir(directory.path(""))
        .status()
        .expect("the program can be executed");
    assert!(status.success());
    let address = Address::Unix(directory.path("socket"));
    let mut client = wait_until("it answers", || Client::try_connect(&address).ok());
    let limit = client.stat("limit_maxbytes");
    let pid = client.stat("pid");
    let kill = |signal: &str| Command::new("kill").args(["-s", signal, &pid]).status();
    // Also when the file is read again, nothing differs.
    kill("HUP").expect("kill");
    let log = directory.path("log");
    wait_until("the signal is handled", || {
        let text = fs::read_to_string(&log).ok()?;
        text.contains("opened anew").then_some(())
    });
    kill("TERM").expect("kill");
    wait_until("it has ended", || {
        (!directory.path("pid").exists()).then_some(())
    });
    assert_eq!(limit, (100 << 20).to_string());
    let log = fs::read_to_string(&log).expect("a log");
    assert!(!log.contains("changed"), "{log}");
}
