//! TLS from the client's side: valid and failing handshakes, large values,
//! client certificates, reloaded certificates, and session resumption.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use test_support::client::{Address, Client};
use test_support::program::Program;
use test_support::server::Server;
use test_support::tls::{Authority, Files, over_tls, socket_of};
use test_support::{DEADLINE, wait_until};

type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// Starts a server with TLS, with `words` appended to its `-o` suboptions.
fn start(files: &Files, words: &str, options: &[&str]) -> (Program, Address) {
    let words = format!("{}{words}", files.words());
    let options = [&["-v", "-Z", "-o", &words], options].concat();
    let (program, address) = Program::start(&options);
    let address = over_tls(&address, files.trusting());
    (program, address)
}

fn session(address: &Address, config: &Arc<ClientConfig>) -> TlsClient {
    let stream = TcpStream::connect(socket_of(address)).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let name = "localhost".try_into().expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name);
    StreamOwned::new(session.expect("settings that fit"), stream)
}

/// Completes a handshake with this configuration and sends `version`. Returns
/// the client, or the error of the handshake.
fn asks_version(address: &Address, config: &Arc<ClientConfig>) -> std::io::Result<TlsClient> {
    let mut client = session(address, config);
    client.write_all(b"version\r\n")?;
    let mut answer = [0; 8];
    client.read_exact(&mut answer)?;
    assert_eq!(&answer, b"VERSION ");
    Ok(client)
}

fn stat(address: &Address, name: &str) -> u64 {
    let text = Client::connect(address).stat(name);
    text.parse().expect("a number")
}

#[test]
fn large_values_go_both_ways() {
    let files = Files::create();
    for versions in [&TLS12, &TLS13] {
        let (_program, address) = start(&files, "", &["-I", "8m", "-m", "100"]);
        let config = Authority::ours().trusting_with(None, &[versions]);
        let mut client = Client::connect(&over_tls(&address, config));
        for len in [1, 4096, 16_384, 1 << 20, 5_000_000] {
            let value: Vec<u8> = (0..len).map(|i: usize| (i % 251) as u8).collect();
            let mut set = format!("set k 0 0 {len}\r\n").into_bytes();
            set.extend_from_slice(&value);
            set.extend_from_slice(b"\r\n");
            client.ask(set, "STORED\r\n");
            let mut want = format!("VALUE k 0 {len}\r\n").into_bytes();
            want.extend_from_slice(&value);
            want.extend_from_slice(b"\r\nEND\r\n");
            client.ask("get k\r\n", want);
        }
    }
}

#[test]
fn fixed_1_6_39_pipelined_sets_are_all_answered() {
    let files = Files::create();
    let (_program, address) = start(&files, "", &[]);
    let mut client = Client::connect(&address);
    let mut sets = Vec::new();
    for number in 0..6000 {
        let value = "v".repeat(number % 200);
        sets.extend_from_slice(format!("set k{number} 0 0 {}\r\n", value.len()).as_bytes());
        sets.extend_from_slice(value.as_bytes());
        sets.extend_from_slice(b"\r\n");
    }
    assert!(sets.len() > 600_000);
    client.ask(&sets, "STORED\r\n".repeat(6000));
    client.ask(
        "get k5999\r\n",
        format!("VALUE k5999 0 199\r\n{}\r\nEND\r\n", "v".repeat(199)),
    );
}

/// Replies to a client that does not read must not pile up. The client must
/// receive all of them in the end.
#[test]
fn a_slow_reader_costs_bounded_memory() {
    const GETS: usize = 100;
    let files = Files::create();
    let (program, address) = start(&files, "", &[]);
    let mut client = Client::connect(&address);
    let value = "x".repeat(1_000_000);
    client.ask(format!("set k 0 0 1000000\r\n{value}\r\n"), "STORED\r\n");
    let before = program.resident_bytes();
    client.send("get k\r\n".repeat(GETS));
    let mut other = Client::connect(&address);
    wait_until("the server has filled the socket", || {
        let written: u64 = other.stat("bytes_written").parse().ok()?;
        (written > 100_000).then_some(())
    });
    let grown = program.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown}");
    client.expect(format!("VALUE k 0 1000000\r\n{value}\r\nEND\r\n").repeat(GETS));
}

#[test]
fn old_versions_are_refused() {
    let files = Files::create();
    let (_program, address) = start(&files, ",ssl_min_version=3", &[]);
    let ours = Authority::ours();
    asks_version(&address, &ours.trusting_with(None, &[&TLS13])).expect("TLS 1.3");
    let refused = asks_version(&address, &ours.trusting_with(None, &[&TLS12]));
    assert!(refused.is_err(), "TLS 1.2 below the minimum");
    // The failure is counted when the server sees it, which may be later.
    wait_until("the failed handshake is counted", || {
        (stat(&address, "ssl_handshake_errors") == 1).then_some(())
    });
}

/// Uses OpenSSL as the client, for the old TLS versions that it still supports.
#[test]
fn openssl_gets_through_with_new_versions_only() {
    if Command::new("openssl").arg("version").output().is_err() {
        return test_support::skip("openssl is not installed");
    }
    let files = Files::create();
    let (_program, address) = start(&files, "", &[]);
    let talk = |options: &[&str]| {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", "-CAfile"])
            .arg(files.path("ca.pem"))
            .args(["-connect", &socket_of(&address).to_string()])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl can be executed");
        let mut input = child.stdin.take().expect("it is piped");
        // Without a handshake, the child may have exited already.
        let _ = input.write_all(b"set a 0 0 2\r\nhi\r\nget a\r\nquit\r\n");
        let output = child.wait_with_output().expect("it ends");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let answers = "STORED\r\nVALUE a 0 2\r\nhi\r\nEND\r\n";
    assert_eq!(talk(&["-tls1_2"]), answers);
    assert_eq!(talk(&["-tls1_3"]), answers);
    for old in ["-tls1", "-tls1_1"] {
        assert_eq!(talk(&[old, "-cipher", "DEFAULT@SECLEVEL=0"]), "", "{old}");
    }
    // Both were refused by the server, not by the client itself.
    wait_until("the failed handshakes are counted", || {
        (stat(&address, "ssl_handshake_errors") == 2).then_some(())
    });
}

#[test]
fn client_certificates_are_asked_for_as_configured() {
    let ours = Authority::ours();
    let (good, bad) = (ours.issue(), Authority::create().issue());
    let shows_good = ours.trusting(Some(&good));
    let shows_bad = ours.trusting(Some(&bad));
    let shows_none = ours.trusting(None);
    // Mode, and whether it accepts no, an untrusted and a trusted certificate.
    let cases = [
        (0, [true, true, true]),
        (1, [true, false, true]),
        (2, [false, false, true]),
        (3, [false, false, true]),
    ];
    for (mode, expected) in cases {
        let files = Files::create();
        let (_program, address) = start(&files, &format!(",ssl_verify_mode={mode}"), &[]);
        let passed = [&shows_none, &shows_bad, &shows_good]
            .map(|config| asks_version(&address, config).is_ok());
        assert_eq!(passed, expected, "ssl_verify_mode={mode}");
    }
}

#[test]
fn each_listener_has_its_own_way() {
    let ours = Authority::ours();
    let shows_good = ours.trusting(Some(&ours.issue()));
    let shows_none = ours.trusting(None);
    let files = Files::create();
    let list = "notls:127.0.0.2:0,btls:127.0.0.3:0,mtls:127.0.0.4:0,proto[ascii]:127.0.0.5:0";
    let program = Program::spawn(&[
        "-u",
        "root",
        "-p",
        "-1",
        "-l",
        list,
        "-Z",
        "-o",
        &format!("{},ssl_session_cache", files.words()),
    ]);
    let ports = wait_until("all ports are known", || {
        let ports = program.ports()?;
        (ports.len() == 4).then_some(ports)
    });
    let at = |index: usize| {
        let host = [127, 0, 0, 2 + index as u8];
        Address::Tcp((host, ports[index]).into())
    };
    Client::connect(&at(0)).ask("", "");
    asks_version(&at(1), &shows_none).expect("no certificate needed");
    assert!(asks_version(&at(2), &shows_none).is_err());
    asks_version(&at(2), &shows_good).expect("a good one");
    asks_version(&at(3), &shows_none).expect("as -Z says");
    // A session from a listener without client certificates must not resume on
    // a listener that requires them.
    assert!(asks_version(&at(2), &shows_none).is_err());
}

#[test]
fn garbage_and_plain_text_are_counted_and_cut() {
    let files = Files::create();
    let (mut program, address) = start(&files, "", &[]);
    for garbage in [
        &b"get a\r\nget b\r\n"[..],
        &[0xff; 5000],
        b"\x16\x03\x01\xff\xff\x01",
    ] {
        let mut stream = TcpStream::connect(socket_of(&address)).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.write_all(garbage).expect("taken");
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("connected");
        let mut said = Vec::new();
        match stream.read_to_end(&mut said) {
            Ok(_) => assert!(said.len() < 16, "an alert at most: {said:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    // A connection that closes without sending (a port check) is not an error.
    drop(TcpStream::connect(socket_of(&address)).expect("it listens"));
    wait_until("the failed handshakes are counted", || {
        (stat(&address, "ssl_handshake_errors") == 3).then_some(())
    });
    program.assert_answers(&address);
    // A protocol error after the handshake has its own counter.
    let mut client = asks_version(&address, &files.trusting()).expect("a session");
    client.sock.write_all(&[0xff; 64]).expect("taken");
    let mut rest = Vec::new();
    // The server sends an alert or the kernel a reset, whichever is first.
    let _ = client.sock.read_to_end(&mut rest);
    assert_eq!(stat(&address, "ssl_proto_errors"), 1);
    program.signal("TERM");
    let errors = program.wait().errors;
    assert_eq!(
        errors.matches("TLS handshake failed: ").count(),
        3,
        "{errors}"
    );
    assert_eq!(
        errors.matches("TLS connection failed: ").count(),
        1,
        "{errors}"
    );
}

#[test]
fn a_stalled_handshake_is_cut() {
    let server = Server::tls_with(|_| {});
    let address = server.address();
    // No bytes at all, and half a ClientHello.
    for hello in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(socket_of(&address)).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.write_all(hello).expect("taken");
        // The worker has taken over the connection once later connections are
        // served.
        Client::connect(&address).ask("", "");
        Client::connect(&address).ask("", "");
        server.advance(11);
        let mut said = Vec::new();
        // The server may close before it has read what was sent.
        if let Err(error) = stream.read_to_end(&mut said) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    }
    wait_until("the failed handshakes are counted", || {
        (stat(&address, "ssl_handshake_errors") == 2).then_some(())
    });
    // After the handshake, a client may be silent for longer.
    let mut client = server.client();
    client.ask("", "");
    server.advance(100);
    Client::connect(&address).ask("", "");
    client.ask("", "");
}

#[test]
fn certificates_are_renewed_while_connections_live() {
    let files = Files::create();
    let (mut program, address) = start(&files, "", &[]);
    let mut old = Client::connect(&address);
    old.ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    let (ours, others) = (Authority::ours(), Authority::create());
    let others_clients = over_tls(&address, others.trusting(None));

    files.put(&others.issue());
    assert!(asks_version(&others_clients, &others.trusting(None)).is_err());
    old.ask("refresh_certs\r\n", "OK\r\n");
    asks_version(&address, &others.trusting(None)).expect("the new certificate");
    assert!(asks_version(&address, &ours.trusting(None)).is_err());
    old.ask("get a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n");

    files.put(&ours.issue());
    program.signal("HUP");
    wait_until("the signal brings the next", || {
        asks_version(&address, &ours.trusting(None)).ok()
    });
    old.ask("get a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n");

    // Invalid files change nothing.
    std::fs::write(files.path("key.pem"), others.issue().key).expect("writable");
    let answer = old.answer("refresh_certs\r\n");
    assert!(answer.starts_with(b"Error validating the certificate: "));
    std::fs::write(files.path("chain.pem"), "no PEM").expect("writable");
    let answer = old.answer("refresh_certs\r\n");
    assert!(answer.starts_with(b"Error loading the certificate chain: "));
    asks_version(&address, &ours.trusting(None)).expect("still the last good one");
    assert!(program.is_running());
}

#[test]
fn without_tls_there_is_nothing_to_refresh() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("refresh_certs\r\n", "Error TLS not enabled\r\n");
    client.ask("refresh_certs noreply\r\n", "");
}

#[test]
fn bad_files_keep_the_server_from_starting() {
    let files = Files::create();
    std::fs::write(files.path("key.pem"), "").expect("writable");
    let program = Program::spawn(&["-u", "root", "-p", "-1", "-Z", "-o", &files.words()]);
    let ended = program.wait();
    assert_eq!(ended.status.code(), Some(64), "{}", ended.errors);
    assert!(
        ended.errors.starts_with("Error loading the key: "),
        "{}",
        ended.errors
    );
}

#[test]
fn sessions_are_resumed_when_that_is_on() {
    let files = Files::create();
    for (words, second) in [
        (",ssl_session_cache", HandshakeKind::Resumed),
        ("", HandshakeKind::Full),
    ] {
        let (_program, address) = start(&files, words, &[]);
        for versions in [&TLS12, &TLS13] {
            let config = Authority::ours().trusting_with(None, &[versions]);
            let kinds = [(); 2].map(|()| {
                let client = asks_version(&address, &config).expect("a session");
                client.conn.handshake_kind().expect("it is done")
            });
            assert_eq!(kinds, [HandshakeKind::Full, second], "{versions:?}");
        }
        if !words.is_empty() {
            // Two full handshakes, and that of the connection that reads the
            // counter.
            assert_eq!(stat(&address, "ssl_new_sessions"), 3);
        }
    }
}

#[test]
fn the_end_is_announced() {
    let files = Files::create();
    let (_program, address) = start(&files, "", &[]);
    let mut client = session(&address, &files.trusting());
    client.write_all(b"version\r\nquit\r\n").expect("taken");
    let mut said = Vec::new();
    // This read fails if the stream ends without a close_notify.
    client.read_to_end(&mut said).expect("a goodbye");
    assert!(said.starts_with(b"VERSION "), "{said:?}");
}

#[test]
fn statistics_tell_about_tls() {
    let files = Files::create();
    let (_program, address) = start(&files, "", &[]);
    let mut client = Client::connect(&address);
    let names = |answer: Vec<u8>| {
        let text = String::from_utf8(answer).expect("text");
        let lines = text.lines().filter_map(|line| line.strip_prefix("STAT "));
        let rows = lines.map(|line| line.to_owned()).collect::<Vec<_>>();
        rows.into_iter()
            .filter(|row| row.contains("ssl_") || row.starts_with("time_since"))
            .collect::<Vec<_>>()
    };
    let rows = names(client.answer("stats\r\n"));
    let shown: Vec<_> = rows
        .iter()
        .filter_map(|row| row.split(' ').next())
        .collect();
    let expected = [
        "ssl_proto_errors",
        "ssl_handshake_errors",
        "time_since_server_cert_refresh",
    ];
    assert_eq!(shown, expected);
    let rows = names(client.answer("stats settings\r\n"));
    let chain = files.path("chain.pem").display().to_string();
    assert_eq!(rows[0], "ssl_enabled yes");
    assert_eq!(rows[1], format!("ssl_chain_cert {chain}"));
    assert_eq!(
        rows.last().map(String::as_str),
        Some("ssl_min_version tlsv1.2")
    );
    assert_eq!(rows.len(), 11);
}
