//! Listeners with `proxy:`: connections begin with a header of the PROXY protocol,
//! which has the client's address. HAProxy as the proxy is in
//! `several_machines.rs`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustcached::config::Config;
use rustcached::limits::{HANDSHAKE_MAX_SECONDS, PROXY_HEADER_MAX_BYTES};
use rustls::{ClientConnection, StreamOwned};
use test_support::client::{Address, Client};
use test_support::program::Program;
use test_support::server::Server;
use test_support::tls::socket_of;
use test_support::{DEADLINE, TempDir, wait_until};

const V1: &str = "PROXY TCP4 192.0.2.7 10.0.0.1 12345 11211\r\n";
const CLAIMED: &str = "tcp:192.0.2.7:12345";

/// Returns a header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = (rest.len() as u16).to_be_bytes();
    let signature = &b"\r\n\r\n\0\r\nQUIT\n"[..];
    [signature, &[command, family], &len, rest].concat()
}

/// Returns a header of version 2 with the address of [`V1`] and `more` bytes.
fn v2_with(more: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x2b, 0xcb];
    v2(0x21, 0x11, &[&addresses, more].concat())
}

/// Sets the mark on the listeners.
fn marked(config: &mut Config) {
    config.listeners.iter_mut().for_each(|it| it.proxy = true);
}

fn server() -> Server {
    Server::with(marked)
}

/// Connects and sends a header.
fn connect(address: &Address, header: impl AsRef<[u8]>) -> Client {
    let mut client = Client::connect(address);
    client.send(header);
    client
}

/// Returns the address of each client in `stats conns`.
fn addresses(client: &mut Client) -> Vec<String> {
    let conns = String::from_utf8(client.answer("stats conns\r\n")).expect("text");
    let mut shown = Vec::new();
    let mut last = "";
    for line in conns.lines() {
        if let Some((_, address)) = line.split_once(":addr ") {
            last = address;
        } else if line.contains(":listen_addr ") {
            shown.push(last.to_owned());
        }
    }
    shown
}

fn errors(client: &mut Client) -> u64 {
    let text = String::from_utf8(client.answer("stats rustcached\r\n")).expect("text");
    let line = text.lines().find_map(|line| {
        let count = line.strip_prefix("STAT proxy_header_errors ")?;
        count.parse().ok()
    });
    line.expect("the line is there")
}

#[test]
fn the_claimed_address_is_shown_wherever_peers_are() {
    let server = Server::with(|config| {
        marked(config);
        config.observe.slow_log = Some(Duration::from_nanos(1));
    });
    let mut watcher = connect(&server.address(), "PROXY UNKNOWN\r\n");
    watcher.send("watch connevents\r\n");
    watcher.expect("OK\r\n");
    for header in [
        V1.as_bytes().to_vec(),
        v2_with(b""),
        // Fields, up to the longest header.
        v2_with(&[3, 0, 4, 0, 0, 0, 0]),
        v2_with(&vec![0xee; PROXY_HEADER_MAX_BYTES - 28]),
    ] {
        // The header alone, with commands in the same packet, and byte by byte.
        let mut client = connect(&server.address(), &header);
        assert!(addresses(&mut client).contains(&CLAIMED.to_owned()));
        let slow = String::from_utf8(client.answer("stats slowlog\r\n")).expect("text");
        assert!(slow.contains(":peer 192.0.2.7:12345\r\n"), "{slow}");
        client.send("quit\r\n");
        client.expect_closed("");
        let commands = b"set a 0 0 1\r\n1\r\nget a\r\nquit\r\n";
        let want = "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n";
        connect(&server.address(), [&header, &commands[..]].concat()).expect_closed(want);
        let mut client = Client::connect(&server.address());
        client.send_bytewise([&header, &commands[..]].concat());
        client.expect_closed(want);
        for _ in 0..3 {
            for kind in ["conn_new", "conn_close"] {
                let line = watcher.line();
                let want = format!(" type={kind} rip=192.0.2.7 rport=12345 ");
                assert!(line.contains(&want), "{line}");
            }
        }
    }
    let binary = b"\x80\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut client = connect(&server.address(), [&v2_with(b""), &binary[..]].concat());
    client.expect(b"\x81\x0a");
    let six = "PROXY TCP6 2001:db8::7 ::1 12345 11211\r\n";
    let mut client = connect(&server.address(), six);
    let shown = addresses(&mut client);
    assert!(shown.contains(&"tcp6:[2001:db8::7]:12345".to_owned()));
    assert_eq!(errors(&mut client), 0);
}

#[test]
fn without_an_address_the_peer_s_own_is_shown() {
    let server = server();
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
        v2(0x20, 0x00, b""),
        v2(0x20, 0x11, &[9; 12]),
        v2(0x21, 0x00, b""),
    ] {
        let mut client = connect(&server.address(), &header);
        let own = format!("tcp:{}", client.local_addr());
        // The client before may not have left yet.
        assert!(addresses(&mut client).contains(&own));
    }
}

#[test]
fn a_connection_without_a_header_is_closed() {
    let directory = TempDir::create();
    let log_file = directory.path("log");
    let log_option = format!("--log-file={}", log_file.display());
    let list = "proxy:127.0.0.1,127.0.0.2";
    let options = ["-u", "root", "-p", "-1", "-l", list, "-v", &log_option];
    let program = Program::spawn(&options);
    let ports = wait_until("both ports are known", || {
        program.ports().filter(|ports| ports.len() == 2)
    });
    let address = Address::Tcp(([127, 0, 0, 1], ports[0]).into());
    let plain = Address::Tcp(([127, 0, 0, 2], ports[1]).into());
    let wrong = [
        b"version\r\n".to_vec(),
        b"\x80\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
        b"PROXY TCP4 192.0.2.7\r\nversion\r\n".to_vec(),
        format!("PROXY UNKNOWN {}", "x".repeat(200)).into_bytes(),
        v2(0x31, 0x11, &[0; 12]),
        v2_with(&vec![0; PROXY_HEADER_MAX_BYTES - 27]),
    ];
    let count = wrong.len();
    let mut peers = Vec::new();
    for bytes in wrong {
        let client = connect(&address, bytes);
        peers.push(client.local_addr());
        expect_nothing(client);
    }
    // A client that leaves within the header.
    let mut client = connect(&address, "PROXY TCP4 ");
    peers.push(client.local_addr());
    client.finish_sending();
    expect_nothing(client);
    // A health check, which sends nothing, is no error.
    let mut client = Client::connect(&address);
    client.finish_sending();
    expect_nothing(client);
    let mut other = Client::connect(&plain);
    assert_eq!(errors(&mut other), count as u64 + 1);
    // On this listener, a header is no command.
    other.ask(V1, "ERROR\r\n");
    wait_until("all are logged", || {
        let log = std::fs::read_to_string(&log_file).ok()?;
        let is_logged = |peer: &SocketAddr| log.contains(&format!("{peer}: PROXY header refused"));
        peers.iter().all(is_logged).then_some(())
    });
}

/// Expects that the server closes the connection without a byte. It may reset it,
/// since it leaves input unread.
fn expect_nothing(client: Client) {
    let (stream, pending) = client.into_tcp();
    assert!(pending.is_empty());
    let mut said = Vec::new();
    if let Err(error) = (&stream).read_to_end(&mut said) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert!(said.is_empty(), "{}", said.escape_ascii());
}

#[test]
fn a_header_must_arrive_in_time() {
    let server = server();
    let mut other = connect(&server.address(), V1);
    for (number, part) in (1..).zip(["", "PROXY", "\r\n\r\n"]) {
        let client = connect(&server.address(), part);
        let own = format!("tcp:{}", client.local_addr());
        wait_until("the worker has the connection", || {
            addresses(&mut other).contains(&own).then_some(())
        });
        // A worker that the clock finds asleep wakes up once a second.
        server.advance(u64::from(HANDSHAKE_MAX_SECONDS) + 1);
        expect_nothing(client);
        assert_eq!(errors(&mut other), number);
    }
    // Later, the client may be silent.
    other.ask("mn\r\n", "MN\r\n");
}

#[test]
fn the_header_comes_before_the_handshake() {
    let server = Server::tls_with(marked);
    let Address::Tls(_, config) = server.address() else {
        panic!("it has TLS");
    };
    let socket = || {
        let stream = TcpStream::connect(socket_of(&server.address())).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream
    };
    let session = |stream| {
        let name = "localhost".try_into().expect("a name");
        let session = ClientConnection::new(Arc::clone(&config), name);
        StreamOwned::new(session.expect("settings that fit"), stream)
    };
    let mut stream = socket();
    stream.write_all(V1.as_bytes()).expect("taken");
    let mut client = session(stream);
    client.write_all(b"stats conns\r\nquit\r\n").expect("taken");
    let mut said = String::new();
    // After `quit`, the end of the session is in order.
    client.read_to_string(&mut said).expect("text");
    assert!(said.contains(&format!(":addr {CLAIMED}\r\n")), "{said}");
    // Without a header, the handshake is refused.
    let mut client = session(socket());
    let result = client.write_all(b"version\r\n").and_then(|()| {
        let mut answer = [0; 8];
        client.read_exact(&mut answer)
    });
    assert!(result.is_err());
    // The deadline of the handshake begins with the connection.
    let mut stream = socket();
    stream.write_all(V1.as_bytes()).expect("taken");
    let mut other = session({
        let mut stream = socket();
        stream.write_all(&v2_with(b"")).expect("taken");
        stream
    });
    other.write_all(b"mn\r\n").expect("taken");
    let mut answer = [0; 4];
    other.read_exact(&mut answer).expect("an answer");
    wait_until("the worker has taken the header", || {
        other.write_all(b"stats conns\r\nmn\r\n").expect("taken");
        let mut text = String::new();
        while !text.ends_with("MN\r\n") {
            let mut chunk = [0; 4096];
            let len = other.read(&mut chunk).expect("an answer");
            text.push_str(&String::from_utf8_lossy(&chunk[..len]));
        }
        (text.matches(CLAIMED).count() == 2).then_some(())
    });
    server.advance(u64::from(HANDSHAKE_MAX_SECONDS) + 1);
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn without_a_header_no_handshake_has_begun() {
    let server = Server::tls_with(|config| {
        marked(config);
        let mut plain = config.listeners[0].clone();
        (plain.tls, plain.proxy) = (None, false);
        config.listeners.push(plain);
    });
    let plain = server.tcp_address(1);
    let counts = || {
        let mut client = Client::connect(&plain);
        let text = String::from_utf8(client.answer("stats\r\n")).expect("text");
        let none_failed = text.contains("STAT ssl_handshake_errors 0\r\n");
        (none_failed, errors(&mut client))
    };
    // A health check is no error of either kind.
    for (number, part) in (0..).zip(["", "PROXY ", "version\r\n"]) {
        let mut stream = TcpStream::connect(socket_of(&server.address())).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.write_all(part.as_bytes()).expect("taken");
        // The server may have reset the connection already.
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        if let Err(error) = stream.read_to_end(&mut said) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        assert!(said.is_empty(), "{}", said.escape_ascii());
        assert_eq!(counts(), (true, number), "{part:?}");
    }
}

#[test]
fn unix_sockets_and_passwords() {
    let server = Server::unix_with(marked);
    let mut client = connect(&server.address(), V1);
    assert_eq!(addresses(&mut client), [CLAIMED]);
    let mut client = Client::connect(&server.address());
    client.send_bytewise("PROXY UNKNOWN\r\n");
    assert!(addresses(&mut client).contains(&"unix:<AF 1>".to_owned()));
    connect(&server.address(), "version\r\n").expect_closed("");
    // A password is asked for behind the header.
    let directory = TempDir::create();
    let path = directory.path("passwords");
    std::fs::write(&path, "u:p\n").expect("writable");
    let passwords = format!("--auth-file={}", path.display());
    let options = ["-u", "root", "-p", "-1", "-l", "proxy:127.0.0.1"];
    let program = Program::spawn(&[&options[..], &[&passwords]].concat());
    let mut client = connect(&program.address(), format!("{V1}get a\r\n"));
    client.expect("CLIENT_ERROR unauthenticated\r\n");
    client.send("set a 0 0 3\r\nu p\r\n");
    client.expect("STORED\r\n");
    assert_eq!(addresses(&mut client), [CLAIMED]);
}

#[test]
fn udp_and_the_admin_page_have_no_header() {
    for (options, want) in [
        (
            ["-U", "11211", "-l", "proxy:127.0.0.1"],
            "UDP (-U) cannot be used with the PROXY protocol",
        ),
        (
            ["-p", "0", "--admin-listen", "proxy:127.0.0.1:0"],
            "--admin-listen takes no address with proxy:",
        ),
    ] {
        let ended = Program::spawn(&options).wait();
        assert!(!ended.status.success());
        assert!(ended.errors.contains(want), "{}", ended.errors);
    }
}
