//! The program's command line, files, signals and exit codes.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use test_support::client::{Address, Client};
use test_support::program::{Ended, Program, on_free_port};
use test_support::{TempDir, wait_until};

#[test]
fn any_free_port_is_told_in_the_port_file() {
    let (mut program, address) = Program::start(&[]);
    assert_ne!(program.port(), 0);
    program.assert_answers(&address);
}

#[test]
fn a_chosen_port_is_used() {
    let port = test_support::memcached::free_port().to_string();
    let mut program = Program::spawn(&["-u", "root", "-l", "127.0.0.1", "-p", &port]);
    assert_eq!(program.port().to_string(), port);
    let address = program.address();
    program.assert_answers(&address);
}

#[test]
fn a_port_can_be_part_of_the_address() {
    let port = test_support::memcached::free_port();
    let listen = format!("127.0.0.1:{port}");
    let mut program = Program::spawn(&["-u", "root", "-l", &listen]);
    assert_eq!(program.port(), port);
    let address = program.address();
    program.assert_answers(&address);
}

#[test]
fn a_unix_socket_alone_opens_no_tcp_port() {
    let directory = TempDir::create();
    let path = directory.path("socket");
    let name = path.to_str().expect("a plain path");
    let mut program = Program::spawn(&["-u", "root", "-s", name, "-a", "0700"]);
    let address = Address::Unix(path.clone());
    wait_until("the socket answers", || Client::try_connect(&address).ok());
    Client::connect(&address).ask("set k 0 0 1\r\na\r\n", "STORED\r\n");
    let mode = fs::metadata(&path)
        .expect("the socket exists")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
    assert_eq!(tcp_listeners(program.id()), 0);
    program.assert_answers(&address);
    let (program, _) = Program::start(&[]);
    assert_eq!(tcp_listeners(program.id()), 1);
}

/// Returns the number of listening TCP sockets of a process.
fn tcp_listeners(process: u32) -> usize {
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{process}/fd"))
        .expect("descriptors can be listed")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let link = link.to_str()?.to_owned();
            let inode = link.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let mut listeners = 0;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = match fs::read_to_string(table) {
            Ok(text) => text,
            // The machine has no IPv6.
            Err(error) if table.ends_with('6') && error.kind() == ErrorKind::NotFound => continue,
            Err(error) => panic!("{table}: {error}"),
        };
        for line in text.lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let inode = columns[9].to_owned();
            if columns[3] == "0A" && sockets.contains(&inode) {
                listeners += 1;
            }
        }
    }
    listeners
}

#[test]
fn an_occupied_port_is_one_clear_line_and_a_failure() {
    let occupied = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = occupied
        .local_addr()
        .expect("a bound address")
        .port()
        .to_string();
    let ended = Program::spawn(&["-u", "root", "-l", "127.0.0.1", "-p", &port]).wait();
    fails_with_one_line(&ended, &["in use", &port, "another port with -p"]);
}

#[test]
fn a_bad_user_is_refused() {
    let options = on_free_port(&["-u", "no-such-user-anywhere"]);
    let ended = Program::spawn(&options).wait();
    fails_with_one_line(&ended, &["no-such-user-anywhere"]);
}

#[test]
fn a_pid_file_is_written_and_removed() {
    let directory = TempDir::create();
    let path = directory.path("pid");
    let name = path.to_str().expect("a plain path");
    let (program, _) = Program::start(&["-P", name]);
    let written = wait_until("the pid file is complete", || {
        let text = fs::read_to_string(&path).ok()?;
        text.ends_with('\n').then_some(text)
    });
    assert_eq!(written, format!("{}\n", program.id()));
    program.signal("TERM");
    assert!(program.wait().status.success());
    assert!(!path.exists(), "the pid file is left behind");
}

#[test]
fn an_unwritable_pid_file_is_told_and_does_not_stop_it() {
    let (program, address) = Program::start(&["-P", "/no-such-directory/pid"]);
    Client::connect(&address).ask("", "");
    program.signal("TERM");
    let ended = program.wait();
    assert!(
        ended.errors.contains("/no-such-directory/pid"),
        "{}",
        ended.errors
    );
}

#[test]
fn signals_stop_it_without_an_error() {
    for signal in ["TERM", "INT", "USR1"] {
        let (program, address) = Program::start(&[]);
        let mut client = Client::connect(&address);
        client.ask("set k 0 0 1\r\na\r\n", "STORED\r\n");
        program.signal(signal);
        let ended = program.wait();
        assert_eq!(ended.status.code(), Some(0), "{signal}: {}", ended.errors);
        client.expect_closed("");
    }
}

/// Without a listener, only signals reach the server. memcached runs on too.
#[test]
fn without_any_listener_it_runs_until_it_is_stopped() {
    for options in [&["-p", "0"][..], &["-p", "0", "-U", "0"], &["-l", ""]] {
        let all = [options, &["-u", "root"]].concat();
        let mut program = Program::spawn(&all);
        assert_eq!(program.port_file(), "", "{options:?}");
        assert!(program.is_running(), "{options:?}");
        program.signal("TERM");
        let ended = program.wait();
        assert_eq!(
            ended.status.code(),
            Some(0),
            "{options:?}: {}",
            ended.errors
        );
        assert!(
            ended.output.contains("no address"),
            "{options:?}: {}",
            ended.output
        );
    }
}

#[test]
fn a_hangup_does_not_stop_it() {
    let (mut program, address) = Program::start(&[]);
    program.signal("HUP");
    program.assert_answers(&address);
    program.signal("HUP");
    program.assert_answers(&address);
}

#[test]
fn the_shutdown_command_stops_it_when_permitted() {
    for mode in ["shutdown\r\n", "shutdown graceful\r\n"] {
        let (program, address) = Program::start(&["-A"]);
        let mut client = Client::connect(&address);
        client.ask(
            "shutdown quickly\r\n",
            "CLIENT_ERROR invalid shutdown mode\r\n",
        );
        client.send(mode);
        client.expect_closed("");
        assert_eq!(program.wait().status.code(), Some(0));
    }
}

#[test]
fn help_and_version_say_so_and_succeed() {
    for option in ["-h", "--help"] {
        let ended = Program::spawn(&[option]).wait();
        assert_eq!(ended.status.code(), Some(0), "{option}: {}", ended.errors);
        for word in ["--port", "--unix-socket", "--memory-limit"] {
            assert!(
                ended.output.contains(word),
                "{option} lacks {word}: {}",
                ended.output
            );
        }
    }
    for option in ["-V", "--version"] {
        let ended = Program::spawn(&[option]).wait();
        assert_eq!(ended.status.code(), Some(0), "{option}: {}", ended.errors);
        assert!(ended.output.contains("1.6."), "{}", ended.output);
    }
}

#[test]
fn settings_reach_the_server() {
    let options = [
        "-m", "100", "-c", "200", "-t", "3", "-I", "2m", "-M", "-f", "1.10",
    ];
    let (_program, address) = Program::start(&options);
    let answer = Client::connect(&address).answer("stats settings\r\n");
    let text = String::from_utf8(answer).expect("statistics are ASCII");
    for line in [
        "STAT maxbytes 104857600\r\n",
        "STAT maxconns 200\r\n",
        "STAT num_threads 3\r\n",
        "STAT item_size_max 2097152\r\n",
        "STAT evictions off\r\n",
        "STAT growth_factor 1.10\r\n",
    ] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
}

#[test]
fn a_value_may_begin_with_a_blank() {
    // Some Helm charts pass an option and its value as one word.
    let (_program, address) = Program::start(&["-m 128", "-c 100"]);
    let answer = Client::connect(&address).answer("stats settings\r\n");
    let text = String::from_utf8(answer).expect("statistics are ASCII");
    assert!(text.contains("STAT maxbytes 134217728\r\n"), "{text}");
    assert!(text.contains("STAT maxconns 100\r\n"), "{text}");
}

#[test]
fn memcached_s_extended_options_are_accepted() {
    for words in [
        "modern",
        "no_modern",
        "hashpower=18,no_hashexpand",
        "slab_reassign,slab_automove=1,lru_crawler,lru_maintainer",
        "hot_lru_pct=20,warm_lru_pct=40,hot_max_factor=0.2,warm_max_factor=2.0",
        "track_sizes,no_inline_ascii_resp,hash_algorithm=murmur3",
        "tail_repair_time=120,idle_timeout=3600,resp_obj_mem_limit=100",
    ] {
        let (mut program, address) = Program::start(&["-o", words]);
        program.assert_answers(&address);
    }
}

#[test]
fn wrong_options_are_refused() {
    for options in [
        &["--no-such-option"][..],
        &["-p", "x"],
        &["-p", "65536"],
        &["-m", "x"],
        &["-t", "0"],
        &["-c", "0"],
        &["-I", "100"],
        &["-I", "2g"],
        &["-f", "1.0"],
        &["-o", "no_such_word"],
        &["-B", "morse"],
    ] {
        println!("with {options:?}");
        let all = [&["-u", "root", "-l", "127.0.0.1"][..], options].concat();
        let ended = Program::spawn(&all).wait();
        assert!(!ended.status.success(), "{options:?} was accepted");
        assert!(
            !ended.errors.trim().is_empty(),
            "{options:?} was refused in silence"
        );
    }
}

#[test]
fn the_default_port_is_11211() {
    let mut program = Program::spawn(&["-u", "root", "-l", "127.0.0.1"]);
    let listens = wait_until("it listens or ends", || {
        let ports = program.ports().filter(|ports| !ports.is_empty());
        let ended = !program.is_running();
        ports.map(Some).or(ended.then_some(None))
    });
    match listens {
        Some(ports) => assert_eq!(ports, [11211]),
        // Another process uses the port.
        None => fails_with_one_line(&program.wait(), &["in use", "11211"]),
    }
}

/// Asserts that the program failed with a single line of output that contains
/// all of `words`.
fn fails_with_one_line(ended: &Ended, words: &[&str]) {
    assert!(!ended.status.success(), "it succeeded");
    let lines: Vec<&str> = ended.errors.lines().collect();
    assert_eq!(lines.len(), 1, "{}", ended.errors);
    for word in words {
        assert!(lines[0].contains(word), "no {word:?} in {:?}", lines[0]);
    }
}
