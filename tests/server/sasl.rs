//! SASL (`-S`) against the running program: commands permitted before
//! authentication, replies to attempts, and no access after a failed attempt.

use test_support::TempDir;
use test_support::binary::{BinaryClient, Frame, opcode, status};
use test_support::client::{Address, Client};
use test_support::program::{Program, on_free_port};

const FAILED: &str = "Auth failure.";

struct Guarded {
    program: Program,
    address: Address,
    folder: TempDir,
}

impl Guarded {
    fn start(users: &str) -> Self {
        let folder = TempDir::create();
        let path = folder.path("users");
        std::fs::write(&path, users).expect("a file of users");
        let path = path.to_str().expect("a plain path").to_owned();
        let program = Program::spawn_in(&on_free_port(&["-S"]), &[("MEMCACHED_SASL_PWDB", &path)]);
        let address = program.address();
        Self {
            program,
            address,
            folder,
        }
    }

    fn connect(&self) -> BinaryClient {
        BinaryClient::connect(&self.address)
    }
}

fn auth(message: &str) -> Frame {
    Frame::new(opcode::SASL_AUTH).key("PLAIN").value(message)
}

fn step(message: &str) -> Frame {
    Frame::new(opcode::SASL_STEP).key("PLAIN").value(message)
}

fn accepted(client: &mut BinaryClient, frame: &Frame) {
    let reply = client.ask(frame);
    assert_eq!((reply.status, reply.text()), (status::OK, "Authenticated"));
}

fn locked_out(mut client: BinaryClient) {
    client.closed_with(&Frame::new(opcode::GET).key("k"), status::AUTH, FAILED);
}

#[test]
fn nothing_but_how_to_authenticate_is_answered_before() {
    let server = Guarded::start("user:pass\n");
    for code in 0..=0x30 {
        let free = [
            opcode::VERSION,
            opcode::SASL_LIST,
            opcode::SASL_AUTH,
            opcode::SASL_STEP,
        ];
        if !free.contains(&code) {
            let frame = Frame::new(code).key("k").extras([0; 8]).value("v");
            server.connect().closed_with(&frame, status::AUTH, FAILED);
        }
    }
    // The server does not receive the large value.
    let large = Frame::store(opcode::SET, "k", "").body_len(500_000);
    server.connect().closed_with(&large, status::AUTH, FAILED);
    let mut client = server.connect();
    let version = client.ask(&Frame::new(opcode::VERSION));
    assert!(version.text().starts_with("1.6.45"));
    let mechanisms = client.ask(&Frame::new(opcode::SASL_LIST));
    assert_eq!(mechanisms.text(), "PLAIN");
    locked_out(client);
}

#[test]
fn the_right_password_opens_everything() {
    let server = Guarded::start("other:word\nuser:pass\n");
    let mut client = server.connect();
    accepted(&mut client, &auth("\0user\0pass"));
    client.done(&Frame::store(opcode::SET, "k", "v"));
    client.done(&Frame::store(opcode::SET, "large", "v".repeat(100_000)));
    assert_eq!(client.get("k"), Some((0, b"v".to_vec())));
    // The client sends the mechanism and its data in two messages.
    let mut client = server.connect();
    let begun = client.ask(&auth(""));
    assert_eq!((begun.status, begun.text()), (status::AUTH_CONTINUE, ""));
    accepted(&mut client, &step("other\0other\0word"));
    client.in_step();
    assert_eq!(client.stat("auth_cmds"), "2");
    assert_eq!(client.stat("auth_errors"), "0");
    let settings = client.stats("settings");
    assert!(settings.contains(&("auth_enabled_sasl".into(), "yes".into())));
    assert!(settings.contains(&("binding_protocol".into(), "binary".into())));
}

#[test]
fn a_wrong_password_opens_nothing_and_is_counted() {
    let server = Guarded::start("user:pass\n");
    let wrong = [
        "\0user\0wrong",
        "\0user\0pas",
        "\0user\0passs",
        "\0user\0",
        "\0nobody\0pass",
        "\0\0",
        "root\0user\0pass",
        "user:pass",
        "\0user\0pass\0",
    ];
    for message in wrong {
        let mut client = server.connect();
        client.refused(&auth(message), status::AUTH, FAILED);
        locked_out(client);
    }
    let long = "\0user\0".to_owned() + &"p".repeat(3000);
    let longer = "\0user\0".to_owned() + &"p".repeat(100_000);
    for message in [long, longer] {
        let mut client = server.connect();
        client.refused(&auth(&message), status::AUTH, FAILED);
        client.ask(&Frame::new(opcode::VERSION));
        locked_out(client);
    }
    let mut client = server.connect();
    let other = Frame::new(opcode::SASL_AUTH)
        .key("CRAM-MD5")
        .value("\0user\0pass");
    client.refused(&other, status::AUTH, FAILED);
    client.refused(&step("\0user\0pass"), status::AUTH, FAILED);
    accepted(&mut client, &auth("\0user\0pass"));
    assert_eq!(client.stat("auth_errors"), "13");
    assert_eq!(client.stat("auth_cmds"), "14");
}

#[test]
fn cve_2013_7239_a_second_bad_attempt_is_no_better_than_the_first() {
    let server = Guarded::start("user:pass\n");
    let mut client = server.connect();
    for _ in 0..5 {
        client.refused(&auth("\0user\0wrong"), status::AUTH, FAILED);
        client.refused(&step("\0user\0wrong"), status::AUTH, FAILED);
        client.refused(&auth("\0user\0wrong2"), status::AUTH, FAILED);
    }
    locked_out(client);
}

#[test]
fn a_later_attempt_undoes_an_earlier_success() {
    let server = Guarded::start("user:pass\n");
    for undoing in [auth("\0user\0wrong"), step("\0user\0pass")] {
        let mut client = server.connect();
        accepted(&mut client, &auth("\0user\0pass"));
        client.refused(&undoing, status::AUTH, FAILED);
        locked_out(client);
    }
    let mut client = server.connect();
    accepted(&mut client, &auth("\0user\0pass"));
    client.ask(&auth(""));
    locked_out(client);
}

#[test]
fn pipelined_commands_do_not_slip_in() {
    let server = Guarded::start("user:pass\n");
    let mut client = server.connect();
    let frames = [
        auth("\0user\0wrong"),
        Frame::store(opcode::SETQ, "k", "v"),
        auth("\0user\0pass"),
        Frame::store(opcode::SETQ, "k", "v"),
    ];
    let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
    client.0.send(bytes);
    for _ in 0..2 {
        let reply = client.reply().expect("an answer");
        assert_eq!(reply.status, status::AUTH);
    }
    client.0.expect_closed("");
    let mut client = server.connect();
    accepted(&mut client, &auth("\0user\0pass"));
    assert_eq!(client.get("k"), None);
}

#[test]
fn lengths_that_lie_are_refused_as_without_authentication() {
    let server = Guarded::start("user:pass\n");
    let lying = auth("").body_len(2);
    server
        .connect()
        .closed_with(&lying, status::UNKNOWN, "Unknown command");
    let no_mechanism = Frame::new(opcode::SASL_AUTH).value("\0user\0pass");
    server
        .connect()
        .closed_with(&no_mechanism, status::INVALID, "Invalid arguments");
    let mut client = server.connect();
    let long_name = Frame::new(opcode::SASL_AUTH).key("M".repeat(33)).value("x");
    client.refused(&long_name, status::INVALID, "Invalid arguments");
    accepted(&mut client, &auth("\0user\0pass"));
}

#[test]
fn text_is_off() {
    let mut server = Guarded::start("user:pass\n");
    for line in [
        "version\r\n",
        "get k\r\n",
        "set user 0 0 9\r\nuser pass\r\n",
    ] {
        let mut client = Client::connect(&server.address);
        client.send(line);
        client.expect_closed("");
    }
    assert!(server.program.is_running());
}

#[test]
fn a_change_of_the_users_counts_at_once() {
    let server = Guarded::start("user:pass\n");
    let mut client = server.connect();
    accepted(&mut client, &auth("\0user\0pass"));
    std::fs::write(server.folder.path("users"), "user:changed\n").expect("it is ours");
    client.refused(&auth("\0user\0pass"), status::AUTH, FAILED);
    accepted(&mut client, &auth("\0user\0changed"));
    // A malformed file changes nothing.
    std::fs::write(server.folder.path("users"), "broken").expect("it is ours");
    accepted(&mut client, &auth("\0user\0changed"));
}

/// The server starts without users, as memcached does. memcached opens the file
/// at each attempt.
#[test]
fn without_users_it_starts_says_so_and_lets_nobody_in() {
    let folder = TempDir::create();
    let [bad, missing] = ["bad", "missing"].map(|name| folder.path(name));
    std::fs::write(&bad, "user:pass\nsecret\n").expect("a file of users");
    for (path, told) in [
        (bad.to_str().expect("a plain path"), "line 2"),
        (missing.to_str().expect("a plain path"), "No such file"),
        ("", "no users"),
    ] {
        let environment = [
            ("MEMCACHED_SASL_PWDB", path),
            ("SASL_CONF_PATH", "/nowhere"),
        ];
        let program = Program::spawn_in(&on_free_port(&["-S"]), &environment);
        let mut client = BinaryClient::connect(&program.address());
        client.refused(&auth("\0user\0pass"), status::AUTH, FAILED);
        if !path.is_empty() {
            std::fs::write(path, "user:pass\n").expect("writable");
            accepted(&mut client, &auth("\0user\0pass"));
        }
        program.signal("TERM");
        let ended = program.wait();
        assert!(ended.status.success(), "{path}");
        assert!(ended.errors.contains(told), "{path}: {}", ended.errors);
        assert!(!ended.errors.contains("secret"), "{}", ended.errors);
    }
}

#[test]
fn no_secret_is_logged_however_much_is() {
    let folder = TempDir::create();
    let path = folder.path("users");
    std::fs::write(&path, "someone:s3cr3t\n").expect("a file of users");
    let path = path.to_str().expect("a plain path").to_owned();
    let options = on_free_port(&["-S", "-vvv"]);
    let program = Program::spawn_in(&options, &[("MEMCACHED_SASL_PWDB", &path)]);
    let mut client = BinaryClient::connect(&program.address());
    client.refused(&auth("\0someone\0s3cr3t2"), status::AUTH, FAILED);
    // With a wrong key length, the mechanism's name includes the message.
    let lying = Frame::new(opcode::SASL_AUTH).key("PLAIN\0someone\0s3cr3t");
    client.refused(&lying, status::AUTH, FAILED);
    accepted(&mut client, &auth("\0someone\0s3cr3t"));
    client.in_step();
    program.signal("TERM");
    let ended = program.wait();
    assert!(ended.errors.contains("0x21"), "{}", ended.errors);
    for secret in ["someone", "s3cr3t"] {
        assert!(!ended.errors.contains(secret), "{}", ended.errors);
    }
}

/// `-S` and `-Y` together: each protocol has its own users, and neither
/// bypasses the other's authentication.
#[test]
fn beside_a_password_file_each_protocol_has_its_own_way_in() {
    let folder = TempDir::create();
    let (users, passwords) = (folder.path("users"), folder.path("passwords"));
    std::fs::write(&users, "binary:one\n").expect("a file of users");
    std::fs::write(&passwords, "text:two\n").expect("a file of passwords");
    let [users, passwords] = [&users, &passwords].map(|path| path.to_str().expect("plain"));
    let options = on_free_port(&["-S", "-Y", passwords]);
    let program = Program::spawn_in(&options, &[("MEMCACHED_SASL_PWDB", users)]);
    let address = program.address();

    locked_out(BinaryClient::connect(&address));
    let refused = |message: &str| {
        let mut client = BinaryClient::connect(&address);
        assert_eq!(client.ask(&auth(message)).status, status::AUTH, "{message}");
        locked_out(client);
    };
    refused("\0text\0two");
    let mut packets = BinaryClient::connect(&address);
    accepted(&mut packets, &auth("\0binary\0one"));
    packets.done(&Frame::store(opcode::SET, "k", "v"));

    let mut lines = Client::connect(&address);
    for (send, want) in [
        ("get k\r\n", "CLIENT_ERROR unauthenticated\r\n"),
        (
            "set x 0 0 10\r\nbinary one\r\n",
            "CLIENT_ERROR authentication failure\r\n",
        ),
        ("set x 0 0 8\r\ntext two\r\n", "STORED\r\n"),
    ] {
        lines.send(send);
        lines.expect(want);
    }
    lines.ask("get k\r\n", "VALUE k 0 1\r\nv\r\nEND\r\n");
    let large = "v".repeat(100_000);
    lines.ask(format!("set large 0 0 100000\r\n{large}\r\n"), "STORED\r\n");
    assert_eq!(
        packets.get("large").map(|(_, value)| value.len()),
        Some(100_000)
    );
    // A text client remains a text client, before and after authentication.
    for login in ["", "set x 0 0 8\r\ntext two\r\n"] {
        let mut client = Client::connect(&address);
        client.send(format!("get k\r\n{login}"));
        client.line();
        if !login.is_empty() {
            assert_eq!(client.line(), "STORED\r\n");
        }
        client.send(b"\x80\x0b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n");
        let answer = client.line();
        let want = if login.is_empty() {
            "CLIENT_ERROR unauthenticated\r\n"
        } else {
            "ERROR\r\n"
        };
        assert_eq!(answer, want);
    }
    assert_eq!(packets.stat("auth_cmds"), "5");
    assert_eq!(packets.stat("auth_errors"), "2");
    let settings = packets.stats("settings");
    for (name, value) in [
        ("auth_enabled_sasl", "yes"),
        ("auth_enabled_ascii", passwords),
        ("binding_protocol", "auto-negotiate"),
    ] {
        assert!(
            settings.contains(&(name.into(), value.into())),
            "{settings:?}"
        );
    }
}

#[test]
fn without_it_there_is_no_authentication() {
    let (_program, address) = Program::start(&[]);
    let mut client = BinaryClient::connect(&address);
    for frame in [auth("\0user\0pass"), Frame::new(opcode::SASL_LIST)] {
        client.refused(&frame, status::UNKNOWN, "Unknown command");
    }
    client.in_step();
}
