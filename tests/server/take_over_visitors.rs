//! Who may take over (`--take-over`), and visitors that make no sense.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustcached::limits::HANDOVER_CONNECTIONS_MAX;
use socket2::{Domain, SockAddr, Socket, Type};
use test_support::client::Client;
use test_support::program::{Program, server_program};
use test_support::{DEADLINE, TempDir, skip, wait_until};

use crate::take_over::{ended, failed, start};

/// Connects to the socket for successors.
fn knock(socket: &Path) -> Socket {
    let visitor = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    visitor.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let address = SockAddr::unix(socket).expect("a short path");
    visitor.connect(&address).expect("the server listens");
    visitor
}

/// Receives a message. Returns `None` at the end of the connection.
fn hear(visitor: &Socket) -> Option<String> {
    use std::io::Read;
    let mut text = [0; 4096];
    let mut visitor = visitor;
    match visitor.read(&mut text) {
        Ok(0) => None,
        Ok(len) => Some(String::from_utf8_lossy(&text[..len]).into_owned()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn visitors_that_make_no_sense_change_nothing() {
    let directory = TempDir::create();
    let socket = directory.path("next");
    let (mut program, address) = start(&socket, &[]);
    let mut client = Client::connect(&address);
    client.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    // Out of order, of another version, and no message at all.
    let long = "x".repeat(100_000);
    for text in [
        "{\"say\":\"ready\"}",
        "{\"say\":\"serving\"}",
        "no",
        "{}",
        &long,
    ] {
        let visitor = knock(&socket);
        // It may have closed the connection by then.
        let _ = visitor.send(text.as_bytes());
        assert_eq!(hear(&visitor), None, "{text}");
    }
    let visitor = knock(&socket);
    visitor
        .send(b"{\"say\":\"hello\",\"version\":99}")
        .expect("sent");
    let reason = hear(&visitor).expect("an answer");
    assert!(
        reason.contains("refused") && reason.contains("99"),
        "{reason}"
    );
    assert_eq!(hear(&visitor), None);
    // One that is offered the sockets, and leaves.
    let visitor = knock(&socket);
    visitor
        .send(b"{\"say\":\"hello\",\"version\":1}")
        .expect("sent");
    assert!(hear(&visitor).expect("an answer").contains("listener"));
    drop(visitor);
    // More than there may be.
    let crowd: Vec<Socket> = (0..HANDOVER_CONNECTIONS_MAX)
        .map(|_| knock(&socket))
        .collect();
    let reason = wait_until("one is refused", || {
        let visitor = knock(&socket);
        visitor
            .set_read_timeout(Some(Duration::from_millis(500)))
            .ok()?;
        hear(&visitor)
    });
    assert!(reason.contains("too many"), "{reason}");
    drop(crowd);
    client.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
    program.assert_answers(&address);
    let (_second, _) = wait_until("the crowd is gone", || {
        let visitor = knock(&socket);
        visitor.send(b"{\"say\":\"hello\",\"version\":1}").ok()?;
        hear(&visitor)?.contains("listener").then_some(())?;
        drop(visitor);
        Some(start(&socket, &[]))
    });
    ended(program);
    Client::connect(&address).ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn another_user_cannot_take_over() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can become another user");
    }
    let directory = TempDir::create();
    let socket = directory.path("next");
    let (_first, address) = start(&socket, &[]);
    let option = format!("--take-over={}", socket.display());
    let mut command = Command::new(server_program());
    command.args(["-u", "nobody", "-p", "0", &option]);
    let log = failed(Program::spawn_command(&mut command));
    assert!(log.contains("--take-over"), "{log}");
    Client::connect(&address).ask("get a\r\n", "END\r\n");
}
