//! Password file (`-Y`): commands permitted before authentication, and reading
//! and reloading the file.

use std::fs;
use std::path::PathBuf;

use test_support::client::{Address, Client};
use test_support::program::{Ended, Program};
use test_support::tls::{Files, over_tls};
use test_support::{TempDir, wait_until};

const UNAUTHENTICATED: &str = "CLIENT_ERROR unauthenticated\r\n";
const FAILURE: &str = "CLIENT_ERROR authentication failure\r\n";

/// A password file in its own directory.
struct Secret {
    _directory: TempDir,
    path: PathBuf,
}

impl Secret {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let directory = TempDir::create();
        let path = directory.path("passwords");
        fs::write(&path, text).expect("writable");
        Self {
            _directory: directory,
            path,
        }
    }

    /// Replaces the file atomically, as a careful operator does.
    fn replace(&self, text: &str) {
        let aside = self.path.with_extension("new");
        fs::write(&aside, text).expect("writable");
        fs::rename(&aside, &self.path).expect("in the same directory");
    }

    fn name(&self) -> &str {
        self.path.to_str().expect("a plain path")
    }
}

fn start(secret: &Secret, options: &[&str]) -> (Program, Address) {
    Program::start(&[&["-Y", secret.name()], options].concat())
}

/// Returns the `set` that authenticates a connection (doc/protocol.txt,
/// "Authentication").
fn login(user: &str, password: &str) -> String {
    let token = format!("{user} {password}");
    format!("set any 0 0 {}\r\n{token}\r\n", token.len())
}

/// Sends a request and expects exactly `want`.
fn exchange(client: &mut Client, send: &str, want: &str) {
    client.send(send);
    client.expect(want);
}

fn stats(address: &Address, user: &str, password: &str) -> (String, String) {
    let mut client = Client::connect(address);
    exchange(&mut client, &login(user, password), "STORED\r\n");
    (client.stat("auth_cmds"), client.stat("auth_errors"))
}

#[test]
fn nothing_is_possible_before_the_password() {
    let secret = Secret::new("first:one\nsecond:t w:o\n");
    let (_program, address) = start(&secret, &[]);
    let mut client = Client::connect(&address);
    for line in [
        "get a",
        "gets a",
        "set a 0 0",
        "set a 0 0 -1",
        "set a 0 0 4294967296",
        "add a 0 0 1",
        "version",
        "stats",
        "mg a v",
        "flush_all",
        "shutdown",
        "verbosity 2",
        "watch",
        "refresh_certs",
        "lru_crawler",
    ] {
        exchange(&mut client, &format!("{line}\r\n"), UNAUTHENTICATED);
    }
    exchange(&mut client, &login("first", "two"), FAILURE);
    exchange(&mut client, &login("second", "one"), FAILURE);
    exchange(&mut client, &login("", ""), FAILURE);
    exchange(
        &mut client,
        "set x 0 0 2\r\nab\r\n",
        "CLIENT_ERROR bad authentication token format\r\n",
    );
    exchange(
        &mut client,
        "set x 0 0 2\r\nabcd",
        "CLIENT_ERROR bad command line termination\r\n",
    );
    exchange(&mut client, "get a\r\n", UNAUTHENTICATED);
    exchange(&mut client, &login("second", "t w:o"), "STORED\r\n");
    client.ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    client.ask("get a any\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n");
    client.ask(login("first", "two"), "STORED\r\n");
    client.ask("get any\r\n", "VALUE any 0 9\r\nfirst two\r\nEND\r\n");
    // A length above the limit is refused before the data block arrives.
    let mut other = Client::connect(&address);
    for length in ["16385", "99999999", "2147483646", "4294967295"] {
        let line = format!("set foo 0 0 {length}\r\n");
        exchange(&mut other, &line, "CLIENT_ERROR auth token too long\r\n");
    }
    exchange(&mut other, &login("second", "t w:o"), "STORED\r\n");
    for line in ["quit\r\n", "mn\r\n", "\r\n"] {
        let mut other = Client::connect(&address);
        other.send(line);
        other.expect_closed("");
    }
    // Each connection has to authenticate.
    let mut other = Client::connect(&address);
    exchange(&mut other, "get a\r\n", UNAUTHENTICATED);
    let settings = String::from_utf8(client.answer("stats settings\r\n")).expect("text");
    let shown = format!("STAT auth_enabled_ascii {}\r\n", secret.name());
    assert!(settings.contains(&shown), "{settings}");
    assert!(settings.contains("STAT binding_protocol ascii\r\n"));
    let counts = stats(&address, "first", "one");
    assert_eq!(counts, ("6".to_owned(), "3".to_owned()));
}

#[test]
fn everything_may_come_in_one_piece_or_in_many() {
    let secret = Secret::new("u:p\n");
    let (_program, address) = start(&secret, &[]);
    let whole = format!("get a\r\n{}set a 0 0 1\r\n1\r\nget a\r\n", login("u", "p"));
    let want = format!("{UNAUTHENTICATED}STORED\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n");
    let mut client = Client::connect(&address);
    exchange(&mut client, &whole, &want);
    let mut client = Client::connect(&address);
    client.send_bytewise(&whole);
    client.expect(&want);
}

#[test]
fn every_transport_is_locked() {
    let secret = Secret::new("u:p\n");
    let (files, directory) = (Files::create(), TempDir::create());
    let socket = directory.path("socket");
    let unix = format!("unix:{}", socket.display());
    let program = Program::spawn(&[
        "-u",
        "root",
        "-p",
        "-1",
        "-l",
        "127.0.0.1",
        "-l",
        "notls:proto[auto]:127.0.0.2",
        "-l",
        &unix,
        "-Z",
        "-o",
        &files.words(),
        "-Y",
        secret.name(),
    ]);
    let ports = wait_until("both ports are known", || {
        program.ports().filter(|ports| ports.len() == 2)
    });
    let tls = Address::Tcp(([127, 0, 0, 1], ports[0]).into());
    let plain = Address::Tcp(([127, 0, 0, 2], ports[1]).into());
    let all = [
        over_tls(&tls, files.trusting()),
        plain.clone(),
        Address::Unix(socket),
    ];
    for address in all {
        let mut client = Client::connect(&address);
        exchange(&mut client, "get a\r\n", UNAUTHENTICATED);
        exchange(&mut client, &login("u", "p"), "STORED\r\n");
        client.ask("get a\r\n", "END\r\n");
    }
    // A binary packet is not authentication: the server waits for a newline.
    let mut client = Client::connect(&plain);
    client.send(b"\x80\x0b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    client.send("\r\n");
    client.expect(UNAUTHENTICATED);
}

#[test]
fn fixed_1_6_43_other_protocols_are_refused_beside_it() {
    let secret = Secret::new("u:p\n");
    let cases: [(&[&str], &str); 3] = [
        (&["-U", "11311"], "UDP"),
        (&["-B", "binary"], "binary"),
        (&["-l", "127.0.0.1,proto[binary]:127.0.0.2"], "binary"),
    ];
    for (options, part) in cases {
        let basic = ["-u", "root", "-p", "-1", "-Y", secret.name()];
        let Ended { status, errors, .. } = Program::spawn(&[&basic, options].concat()).wait();
        assert_eq!(status.code(), Some(64), "{errors}");
        assert!(
            errors.to_lowercase().contains(&part.to_lowercase()),
            "{errors}"
        );
    }
}

#[test]
fn cve_2026_90698_and_fixed_1_6_42_floods_before_the_password_are_cut() {
    let secret = Secret::new("u:p\n");
    let (mut program, address) = start(&secret, &[]);
    let before = program.resident_bytes();
    let floods = [
        "\r\n".repeat(1_000_000),
        "\n".repeat(1_000_000),
        "   \r\n".repeat(200_000),
        "x".repeat(1_000_000),
        format!("set x 0 0 4294967295\r\n{}", "x".repeat(1_000_000)),
        format!("set x 0 0 1000000\r\n{}", "x".repeat(1_000_000)),
    ];
    for flood in floods {
        let mut client = Client::connect(&address);
        // The server may close the connection while the client sends.
        let _ = client.try_send(&flood);
        let answer = client.read_to_close();
        let refused = b"CLIENT_ERROR auth token too long\r\n";
        assert!(answer.is_empty() || answer == refused);
    }
    // Each line is refused on its own, and none is stored.
    let mut client = Client::connect(&address);
    for _ in 0..50 {
        client.send("get a\r\n".repeat(1000));
        client.expect(UNAUTHENTICATED.repeat(1000));
    }
    exchange(&mut client, &login("u", "p"), "STORED\r\n");
    client.ask("", "");
    let grown = program.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown}");
    assert!(program.is_running());
}

#[test]
fn cve_2021_37519_files_of_many_kinds_are_read() {
    for (text, user, password) in [
        ("u:p", "u", "p"),
        ("u:p\r\n", "u", "p"),
        ("u:\n", "u", ""),
        (":p\n", "", "p"),
        ("a:b\nu:p", "u", "p"),
    ] {
        let secret = Secret::new(text);
        let (_program, address) = start(&secret, &[]);
        let mut client = Client::connect(&address);
        exchange(&mut client, &login(user, "wrong"), FAILURE);
        exchange(&mut client, &login(user, password), "STORED\r\n");
    }
    let long = format!("u:{}\n", "p".repeat(300));
    for text in ["no colon\n", "u:p\n\n", "u:p\nrest", "\0:p\n", &long] {
        let secret = Secret::new(text);
        let options = ["-u", "root", "-p", "-1", "-Y", secret.name()];
        let ended = Program::spawn(&options).wait();
        assert_eq!(ended.status.code(), Some(1), "{text:?}: {}", ended.errors);
        assert!(ended.errors.contains(secret.name()), "{}", ended.errors);
        assert!(!ended.errors.contains("ppp"), "{}", ended.errors);
    }
    let missing = Program::spawn(&["-u", "root", "-p", "-1", "-Y", "/nonexistent/file"]).wait();
    assert_eq!(missing.status.code(), Some(1), "{}", missing.errors);
}

#[test]
fn the_file_is_read_again_on_a_signal() {
    let secret = Secret::new("old:one\n");
    let log = secret.path.with_extension("log");
    let option = format!("--log-file={}", log.display());
    let (program, address) = start(&secret, &[&option]);
    let mut inside = Client::connect(&address);
    exchange(&mut inside, &login("old", "one"), "STORED\r\n");
    secret.replace("new:two\n");
    let mut client = Client::connect(&address);
    exchange(&mut client, &login("new", "two"), FAILURE);
    program.signal("HUP");
    wait_until("the new password opens", || {
        let mut client = Client::connect(&address);
        client.send(login("new", "two"));
        (client.line() == "STORED\r\n").then_some(())
    });
    let mut client = Client::connect(&address);
    exchange(&mut client, &login("old", "one"), FAILURE);
    // Authenticated connections stay authenticated.
    inside.ask("get a\r\n", "END\r\n");
    // A malformed file changes nothing: the last valid list stays in force.
    secret.replace("broken\n");
    program.signal("HUP");
    wait_until("the error is logged", || {
        let lines = fs::read_to_string(&log).ok()?;
        lines.contains("nothing changed: ").then_some(())
    });
    let mut client = Client::connect(&address);
    exchange(&mut client, &login("new", "two"), "STORED\r\n");
    secret.replace("third:three\nfourth:four\n");
    program.signal("HUP");
    wait_until("the third password opens", || {
        let mut client = Client::connect(&address);
        client.send(login("third", "three"));
        (client.line() == "STORED\r\n").then_some(())
    });
}

/// Reloading races with logins: no login is accepted or refused wrongly.
#[test]
fn fixed_1_6_42_reloading_races_with_nobody() {
    let secret = Secret::new("u:p\nother:1\n");
    let (program, address) = start(&secret, &[]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let mut client = Client::connect(&address);
                    exchange(&mut client, &login("u", "q"), FAILURE);
                    exchange(&mut client, &login("u", "p"), "STORED\r\n");
                }
            });
        }
        for number in 0..20 {
            secret.replace(&format!("other:{number}\nu:p\n"));
            program.signal("HUP");
        }
    });
}

#[test]
fn no_log_ever_shows_a_password() {
    let secret = Secret::new("someuser:s3cretword\n");
    let (program, address) = start(&secret, &["-vvv"]);
    let mut client = Client::connect(&address);
    exchange(&mut client, &login("someuser", "wr0ngword"), FAILURE);
    // The length is wrong, so the rest of the data block looks like a command.
    exchange(
        &mut client,
        "set x 0 0 3\r\nsomeuser s3cretword\r\n",
        &format!("CLIENT_ERROR bad command line termination\r\n{UNAUTHENTICATED}"),
    );
    exchange(&mut client, &login("someuser", "s3cretword"), "STORED\r\n");
    exchange(&mut client, &login("someuser", "s3cretword"), "STORED\r\n");
    client.ask("someuser s3cretword\r\n", "ERROR\r\n");
    client.ask("get visible\r\n", "END\r\n");
    program.signal("TERM");
    let Ended { errors, output, .. } = program.wait();
    let said = errors + &output;
    assert!(
        said.contains("login accepted") && said.contains("login refused"),
        "{said}"
    );
    assert!(said.contains("visible"), "{said}");
    for hidden in ["someuser", "s3cret", "wr0ng", "word"] {
        assert!(!said.contains(hidden), "{hidden}: {said}");
    }
}
