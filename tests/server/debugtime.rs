//! `debugtime`, a command in builds with the feature of this name: moves time
//! forward and expires items. A build without the feature does not know the
//! command.

use test_support::server::Server;

#[cfg(feature = "debugtime")]
#[test]
fn moving_the_clock_ends_items_and_ages_the_server() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set short 0 10 1\r\na\r\n", "STORED\r\n");
    client.ask("set long 0 1000 1\r\na\r\n", "STORED\r\n");
    client.ask("debugtime 11\r\n", "OK\r\n");
    client.ask("get short long\r\n", "VALUE long 0 1\r\na\r\nEND\r\n");
    let uptime: u64 = client.stat("uptime").parse().expect("a number");
    assert!((11..60).contains(&uptime), "{uptime}");
    client.ask("debugtime 1000\r\nget long\r\n", "OK\r\nEND\r\n");
}

#[cfg(feature = "debugtime")]
#[test]
fn only_steps_forward_are_taken() {
    let server = Server::start();
    let mut client = server.client();
    for wrong in ["", " x", " -5", " p", " r"] {
        client.ask(format!("debugtime{wrong}\r\n"), "ERROR\r\n");
    }
}

#[cfg(not(feature = "debugtime"))]
#[test]
fn clients_cannot_move_the_clock() {
    let server = Server::start();
    server.client().ask("debugtime 5\r\n", "ERROR\r\n");
}
