//! The configuration file on the running server.

use std::fs;

use test_support::client::Client;
use test_support::program::Program;
use test_support::{TempDir, wait_until};

#[test]
fn what_can_change_changes_on_hup_and_the_rest_is_named() {
    let directory = TempDir::create();
    let path = directory.path("conf");
    let write = |text: &str| fs::write(&path, text).expect("writable");
    write("memory-limit 100\nthreads 2\n");
    let option = format!("--config={}", path.display());
    let (program, address) = Program::start(&[&option]);
    let mut client = Client::connect(&address);
    let limit = |client: &mut Client| client.stat("limit_maxbytes");
    assert_eq!(limit(&mut client), (100 << 20).to_string());
    assert_eq!(client.stat("threads"), "2");
    // A change at run time stays if the file says the same as before.
    client.ask("cache_memlimit 150\r\n", "OK\r\n");
    write("memory-limit 100\nthreads 3\nverbose\nidle_timeout 9\n");
    program.signal("HUP");
    let verbosity = |client: &mut Client| {
        let settings = String::from_utf8(client.answer("stats settings\r\n")).expect("text");
        settings.contains("STAT verbosity 1\r\n").then_some(())
    };
    wait_until("the verbosity changes", || verbosity(&mut client));
    assert_eq!(limit(&mut client), (150 << 20).to_string());
    write("memory-limit 200\nverbose\n");
    program.signal("HUP");
    wait_until("the limit changes", || {
        (limit(&mut client) == (200 << 20).to_string()).then_some(())
    });
    write("memory-limit 300\nbogus\n");
    program.signal("HUP");
    program.signal("TERM");
    let ended = program.wait();
    let log = &ended.errors;
    assert!(ended.status.success(), "{log}");
    let named = "changed after a restart only: threads, idle_timeout";
    assert!(log.contains(named), "{log}");
    assert!(log.contains("the memory limit is 200 MiB now"), "{log}");
}

#[test]
fn a_file_with_a_fault_changes_nothing() {
    let directory = TempDir::create();
    let path = directory.path("conf");
    fs::write(&path, "memory-limit 100\n").expect("writable");
    let log_file = directory.path("log");
    let options = [
        format!("--config={}", path.display()),
        format!("--log-file={}", log_file.display()),
    ];
    let (program, address) = Program::start(&[&options[0], &options[1]]);
    fs::write(&path, "memory-limit 200\n\nbogus 1\n").expect("writable");
    program.signal("HUP");
    wait_until("the fault is logged", || {
        let log = fs::read_to_string(&log_file).ok()?;
        let want = format!("nothing changed: {}:3: unrecognized option", path.display());
        log.contains(&want).then_some(())
    });
    let limit = Client::connect(&address).stat("limit_maxbytes");
    assert_eq!(limit, (100 << 20).to_string());
}

#[test]
fn check_config_reads_what_a_start_reads() {
    let directory = TempDir::create();
    let passwords = directory.path("passwords");
    let option = format!("--auth-file={}", passwords.display());
    let check = |options: &[&str]| Program::spawn(options).wait();
    let missing = check(&["--check-config", &option]);
    assert!(!missing.status.success());
    assert!(missing.errors.contains("passwords"), "{}", missing.errors);
    fs::write(&passwords, "user:secret\n").expect("writable");
    let good = check(&["--check-config", &option]);
    assert!(good.status.success(), "{}", good.errors);
    assert_eq!(good.output, "the configuration is valid\n");
    let path = directory.path("conf");
    fs::write(&path, "threads many\n").expect("writable");
    let bad = check(&["--check-config", "--config", path.to_str().expect("plain")]);
    let want = format!("{}:1: -t (--threads) takes a number", path.display());
    assert!(bad.errors.starts_with(&want), "{}", bad.errors);
}

#[test]
fn pipes_in_the_place_of_files_do_not_delay_signals() {
    let directory = TempDir::create();
    let path = |name: &str| directory.path(name);
    let (config, passwords) = (path("conf"), path("passwords"));
    fs::write(&config, "verbose\n").expect("writable");
    fs::write(&passwords, "user:secret\n").expect("writable");
    let options = [
        format!("--config={}", config.display()),
        format!("--auth-file={}", passwords.display()),
    ];
    let (program, _) = Program::start(&[&options[0], &options[1]]);
    for path in [&config, &passwords] {
        fs::remove_file(path).expect("there");
        let mode = nix::sys::stat::Mode::S_IRUSR;
        nix::unistd::mkfifo(path, mode).expect("created");
    }
    program.signal("HUP");
    program.signal("TERM");
    let ended = program.wait();
    assert!(ended.status.success(), "{}", ended.errors);
    let start = Program::spawn(&[&options[0][..]]).wait();
    assert!(!start.status.success());
    assert!(start.errors.contains("a pipe"), "{}", start.errors);
}
