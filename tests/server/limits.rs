//! Connection limits: the maximum number, the idle timeout, and the count of
//! every connection in a storm.

use test_support::client::Client;
use test_support::server::Server;
use test_support::wait_until;

const TOO_MANY: &str = "ERROR Too many open connections\r\n";

fn number(client: &mut Client, name: &str) -> u64 {
    client.stat(name).parse().expect("a number")
}

#[test]
fn a_storm_is_refused_and_counted() {
    let server = Server::with(|config| config.max_connections = 10);
    let mut client = server.client();
    client.answer("");
    let mut kept: Vec<Client> = (0..9).map(|_| server.client()).collect();
    for client in &mut kept {
        client.answer("");
    }
    for _ in 0..200 {
        server.client().expect_closed(TOO_MANY);
    }
    assert_eq!(number(&mut client, "rejected_connections"), 200);
    assert_eq!(number(&mut client, "curr_connections"), 10);
    assert_eq!(number(&mut client, "total_connections"), 10);
    assert_eq!(number(&mut client, "connection_structures"), 10);
    assert_eq!(number(&mut client, "listen_disabled_num"), 0);
    assert_eq!(number(&mut client, "accepting_conns"), 1);
    kept.truncate(4);
    wait_until("the others are gone", || {
        (number(&mut client, "curr_connections") == 5).then_some(())
    });
    server.client().ask("get none\r\n", "END\r\n");
    assert_eq!(number(&mut client, "total_connections"), 11);
    assert_eq!(number(&mut client, "rejected_connections"), 200);
}

#[test]
fn without_fast_refusal_it_stops_accepting_for_a_while() {
    let server = Server::with(|config| {
        config.max_connections = 3;
        config.maxconns_fast = false;
    });
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    for client in &mut clients {
        client.answer("");
    }
    let mut waiting = server.client();
    waiting.send("get none\r\n");
    let mut client = clients.pop().expect("one of three");
    wait_until("accepting stops", || {
        (number(&mut client, "accepting_conns") == 0).then_some(())
    });
    assert_eq!(number(&mut client, "listen_disabled_num"), 1);
    clients.clear();
    waiting.expect("END\r\n");
    wait_until("accepting goes on", || {
        (number(&mut client, "accepting_conns") == 1).then_some(())
    });
    assert!(number(&mut client, "time_in_listen_disabled_us") > 0);
    assert_eq!(number(&mut client, "total_connections"), 4);
}

#[test]
fn idle_connections_are_closed_and_counted() {
    let server = Server::with(|config| {
        config.idle_timeout = Some(std::time::Duration::from_secs(10));
    });
    let mut watcher = server.client();
    watcher.send("watch connevents\r\n");
    watcher.expect("OK\r\n");
    let mut idle: Vec<Client> = (0..5).map(|_| server.client()).collect();
    for client in &mut idle {
        client.answer("");
    }
    server.advance(8);
    let mut busy = server.client();
    busy.answer("");
    server.advance(4);
    for client in &mut idle {
        client.expect_closed("");
    }
    assert_eq!(number(&mut busy, "idle_kicks"), 5);
    assert_eq!(number(&mut busy, "curr_connections"), 2);
    let mut closed = 0;
    while closed < 5 {
        let line = watcher.line();
        closed += u32::from(line.contains(" reason=idle_timeout "));
    }
}

#[test]
fn clients_that_move_on_slowly_are_not_idle() {
    let server = Server::with(|config| {
        config.idle_timeout = Some(std::time::Duration::from_secs(10));
        // With a single worker, its reply proves that earlier input was read.
        config.threads = 1;
    });
    let mut client = server.client();
    client.ask(
        format!("set big 0 0 1000000\r\n{}\r\n", "v".repeat(1_000_000)),
        "STORED\r\n",
    );
    let mut storing = server.client();
    storing.send("set slow 0 0 30\r\n");
    let mut refused = server.client();
    refused.send("set large 0 0 2000000\r\n");
    refused.expect("SERVER_ERROR object too large for cache\r\n");
    let mut reading = server.client();
    // More than the kernel's buffers hold.
    reading.send(format!("get{}\r\n", " big".repeat(40)));
    for _ in 0..3 {
        reading.skip(2_000_000);
        storing.send("0123456789");
        refused.send("0123456789");
        // This reply proves that the server has read the bytes above.
        client.answer("");
        server.advance(8);
        client.answer("");
    }
    storing.send("\r\n");
    storing.expect("STORED\r\n");
    let line = "VALUE big 0 1000000\r\n";
    reading.skip(40 * (line.len() + 1_000_002) - 6_000_000);
    reading.expect("END\r\n");
    assert_eq!(number(&mut client, "idle_kicks"), 0);
    server.advance(4);
    client.answer("");
    server.advance(8);
    for mut stopped in [refused, storing] {
        stopped.expect_closed("");
    }
}

#[test]
fn clients_of_a_unix_socket_are_never_idle() {
    let server = Server::unix_with(|config| {
        config.idle_timeout = Some(std::time::Duration::from_secs(10));
        config.threads = 1;
    });
    let mut client = server.client();
    client.answer("");
    server.advance(100);
    // The only worker looks for idle connections before or while it serves
    // these.
    server.client().answer("");
    server.client().answer("");
    client.answer("");
    assert_eq!(number(&mut client, "idle_kicks"), 0);
}
