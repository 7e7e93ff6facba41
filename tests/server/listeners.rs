//! Listeners: unix sockets and their files, several listeners at once, and
//! sockets passed by a service manager.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use test_support::client::{Address, Client};
use test_support::program::Program;
use test_support::tls::{Files, over_tls};
use test_support::{DEADLINE, TempDir, wait_until};

/// Starts the program with only these options and a user.
fn spawn(options: &[&str]) -> Program {
    Program::spawn(&[&["-u", "root"], options].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn connect(path: &Path) -> Client {
    let address = Address::Unix(path.to_path_buf());
    wait_until("the socket answers", || Client::try_connect(&address).ok())
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[test]
fn a_unix_socket_has_its_mask_and_goes_away() {
    let directory = TempDir::create();
    let path = directory.path("socket");
    for (mask, mode) in [("0600", 0o600), ("777", 0o777), ("0770", 0o770)] {
        let program = spawn(&["-s", text(&path), "-a", mask]);
        connect(&path).ask("", "");
        let permissions = fs::metadata(&path).expect("it is there").permissions();
        assert_eq!(permissions.mode() & 0o777, mode);
        program.signal("TERM");
        assert!(program.wait().status.success());
        assert!(!path.exists(), "removed at the end");
    }
}

#[test]
fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
    let directory = TempDir::create();
    let path = directory.path("socket");
    // A killed server leaves the file behind. (A listener of this process would
    // be inherited by programs that other tests start at the moment.)
    let killed = spawn(&["-s", text(&path)]);
    connect(&path).ask("", "");
    killed.signal("KILL");
    assert!(!killed.wait().status.success());
    assert!(is_socket(&path));
    let first = spawn(&["-s", text(&path)]);
    connect(&path).ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");

    let ended = spawn(&["-s", text(&path)]).wait();
    assert_eq!(ended.status.code(), Some(71), "{}", ended.errors);
    connect(&path).ask("get a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n");

    // The server must not remove a file that has replaced its own.
    fs::remove_file(&path).expect("removable");
    let usurper = UnixListener::bind(&path).expect("bound");
    first.signal("TERM");
    assert!(first.wait().status.success());
    assert!(is_socket(&path));
    drop(usurper);
}

#[test]
fn other_files_are_left_alone() {
    let directory = TempDir::create();
    let path = directory.path("file");
    fs::write(&path, "precious").expect("writable");
    let ended = spawn(&["-s", text(&path)]).wait();
    assert_eq!(ended.status.code(), Some(71), "{}", ended.errors);
    assert_eq!(fs::read(&path).expect("there"), b"precious");
    let ended = spawn(&["-s", text(&directory.path("no/such/directory"))]).wait();
    assert_eq!(ended.status.code(), Some(71), "{}", ended.errors);
}

#[test]
fn listeners_of_all_kinds_share_one_cache() {
    let (directory, files) = (TempDir::create(), Files::create());
    let sockets = [
        directory.path("one"),
        directory.path("two"),
        directory.path("three"),
    ];
    let list = format!(
        "127.0.0.1,notls:127.0.0.2,unix:{},proto[ascii]:unix:{}",
        text(&sockets[1]),
        text(&sockets[2])
    );
    let program = spawn(&[
        "-p",
        "-1",
        "-l",
        &list,
        "-s",
        text(&sockets[0]),
        "-Z",
        "-o",
        &files.words(),
    ]);
    let ports = wait_until("both ports are known", || {
        program.ports().filter(|ports| ports.len() == 2)
    });
    let tls = Address::Tcp(([127, 0, 0, 1], ports[0]).into());
    let plain = Address::Tcp(([127, 0, 0, 2], ports[1]).into());
    let mut addresses = vec![over_tls(&tls, files.trusting()), plain];
    addresses.extend(sockets.map(Address::Unix));
    Client::connect(&addresses[0]).ask("set shared 0 0 2\r\nhi\r\n", "STORED\r\n");
    for address in addresses {
        let mut client = Client::connect(&address);
        client.ask("get shared\r\n", "VALUE shared 0 2\r\nhi\r\nEND\r\n");
    }
}

/// Starts the program as a service manager does, with these sockets from
/// descriptor 3 on.
fn activated(first: OwnedFd, second: Option<OwnedFd>, count: u32, options: &[&str]) -> Program {
    let script = format!(
        "exec 3<&0 4>&1 </dev/null; LISTEN_PID=$$ LISTEN_FDS={count} exec \"$0\" -u root \"$@\" \
         >/dev/null"
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_rustcached")])
        .args(options);
    let second = second.map_or_else(Stdio::null, Stdio::from);
    Program::spawn_with(&mut command, Stdio::from(first), second)
}

#[test]
fn sockets_handed_over_are_served_instead_of_the_usual_ones() {
    let directory = TempDir::create();
    let path = directory.path("socket");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = Address::Tcp(tcp.local_addr().expect("bound"));
    let unix = UnixListener::bind(&path).expect("bound");
    let program = activated(tcp.into(), Some(unix.into()), 2, &[]);
    Client::connect(&address).ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    connect(&path).ask("get a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n");
    assert_eq!(program.ports().map(|ports| ports.len()), Some(1));
    program.signal("TERM");
    assert!(program.wait().status.success());
    // The socket's file belongs to the service manager, so it must remain.
    assert!(is_socket(&path));
}

#[test]
fn sockets_handed_over_are_served_besides_those_asked_for() {
    let files = Files::create();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = Address::Tcp(tcp.local_addr().expect("bound"));
    let options = [
        "-l",
        "notls:127.0.0.2",
        "-p",
        "-1",
        "-Z",
        "-o",
        &files.words(),
    ];
    let program = activated(tcp.into(), None, 1, &options);
    Client::connect(&over_tls(&address, files.trusting())).ask("", "");
    let ports = wait_until("both ports are known", || {
        program.ports().filter(|ports| ports.len() == 2)
    });
    let asked_for = SocketAddr::from(([127, 0, 0, 2], ports[1]));
    Client::connect(&Address::Tcp(asked_for)).ask("", "");
}

#[test]
fn what_is_no_listener_is_refused() {
    let (one, _other) = UnixDatagram::pair().expect("a pair");
    let ended = activated(one.into(), None, 1, &[]).wait();
    assert_eq!(ended.status.code(), Some(71), "{}", ended.errors);
    assert!(
        ended.errors.contains("failed to take over a socket"),
        "{}",
        ended.errors
    );
}

#[test]
fn the_service_manager_is_told() {
    let directory = TempDir::create();
    let path: PathBuf = directory.path("notify");
    let manager = UnixDatagram::bind(&path).expect("bound");
    manager.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let told = || {
        let mut message = [0; 256];
        let len = manager.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..len]).into_owned()
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_rustcached"));
    command
        .args(["-u", "root", "-l", "127.0.0.1", "-p", "-1"])
        .env("NOTIFY_SOCKET", &path);
    let mut program = Program::spawn_command(&mut command);
    assert_eq!(told().trim_end(), "READY=1");
    // READY means that the server answers.
    let address = program.address();
    program.assert_answers(&address);
    program.signal("HUP");
    assert!(told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(told().trim_end(), "READY=1");
    program.signal("TERM");
    assert_eq!(told().trim_end(), "STOPPING=1");
    assert!(program.wait().status.success());
}
