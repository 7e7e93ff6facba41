//! Misbehaving clients and exhausted limits, against the program: it must keep
//! answering other clients, with bounded memory.

use std::thread;

use test_support::client::{Address, Client};
use test_support::program::Program;
use test_support::{skip, wait_until};

const MIB: u64 = 1024 * 1024;
const REFUSED: &str = "ERROR Too many open connections\r\n";

#[test]
fn a_client_that_sends_a_byte_at_a_time() {
    let (mut program, address) = Program::start(&[]);
    let mut slow = Client::connect(&address);
    let mut other = Client::connect(&address);
    for byte in b"set k 0 0 5\r\nhello\r\nget k\r\n" {
        slow.send([*byte]);
        other.ask("get nothing\r\n", "END\r\n");
    }
    slow.expect("STORED\r\nVALUE k 0 5\r\nhello\r\nEND\r\n");
    program.assert_answers(&address);
}

#[test]
fn a_client_that_never_reads_costs_bounded_memory() {
    let (mut program, address) = Program::start(&["-m", "64"]);
    let mut client = Client::connect(&address);
    let value = "x".repeat(1_000_000);
    client.ask(format!("set k 0 0 1000000\r\n{value}\r\n"), "STORED\r\n");
    let mut greedy: Vec<Client> = (0..20).map(|_| Client::connect(&address)).collect();
    // 20 × 5,000 replies of 1 MB would be 100 GB if all were buffered.
    let gets = "get k\r\n".repeat(5_000);
    for client in &mut greedy {
        client.send(&gets);
    }
    // Each reply proves that the event loop has run since.
    for _ in 0..50 {
        client.ask("get nothing\r\n", "END\r\n");
    }
    let resident = program.resident_bytes();
    assert!(resident < 200 * MIB, "{} MiB resident", resident / MIB);
    // A client that begins to read late receives everything, in order.
    let one = format!("VALUE k 0 1000000\r\n{value}\r\nEND\r\n");
    for _ in 0..50 {
        greedy[0].expect(&one);
    }
    drop(greedy);
    program.assert_answers(&address);
}

/// Counts the replies that a client receives while `work` keeps another client
/// busy, on a server with a single worker.
fn answers_meanwhile(address: &Address, work: impl FnOnce(&mut Client) + Send) -> usize {
    let mut other = Client::connect(address);
    thread::scope(|scope| {
        let working = scope.spawn(|| work(&mut Client::connect(address)));
        let mut answers = 0;
        while !working.is_finished() {
            other.ask("get nothing\r\n", "END\r\n");
            answers += 1;
        }
        answers
    })
}

#[test]
fn a_client_that_takes_a_large_value_does_not_have_the_worker_to_itself() {
    const BLOCK: usize = 1 << 16;
    const BYTES: usize = 2000 * BLOCK;
    let (mut program, address) = Program::start(&["-t", "1", "-m", "512", "-I", "256m"]);
    let mut client = Client::connect(&address);
    client.send(format!("set k 0 0 {BYTES}\r\n"));
    client.send(vec![b'v'; BYTES]);
    client.ask("\r\n", "STORED\r\n");
    let answers = answers_meanwhile(&address, |client| {
        client.send("get k\r\n");
        client.expect(format!("VALUE k 0 {BYTES}\r\n"));
        for _ in 0..BYTES / BLOCK {
            client.expect([b'v'; BLOCK]);
        }
        client.expect("\r\nEND\r\n");
    });
    assert!(answers > 20, "{answers}");
    program.assert_answers(&address);
}

#[test]
fn a_client_that_sends_without_pause_does_not_have_the_worker_to_itself() {
    let (mut program, address) = Program::start(&["-t", "1"]);
    let answers = answers_meanwhile(&address, |client| {
        let sets = "set k 0 0 1\r\nv\r\n".repeat(20_000);
        let mut reader = client.another_end();
        thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..20 {
                    reader.expect("STORED\r\n".repeat(20_000));
                }
            });
            for _ in 0..20 {
                client.send(&sets);
            }
        });
    });
    assert!(answers > 20, "{answers}");
    program.assert_answers(&address);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_value() {
    let (mut program, address) = Program::start(&[]);
    let mut witness = Client::connect(&address);
    witness.ask("set k 0 0 3\r\nold\r\n", "STORED\r\n");
    let before: u32 = witness.stat("curr_connections").parse().expect("a number");
    for sent in [0, 1, 500, 999_999, 1_000_000, 1_000_001] {
        let mut leaving = Client::connect(&address);
        leaving.send("set k 0 0 1000000\r\n");
        leaving.send(vec![b'x'; sent]);
        drop(leaving);
    }
    wait_until("the connections are gone", || {
        let now: u32 = witness.stat("curr_connections").parse().expect("a number");
        (now == before).then_some(())
    });
    witness.ask("get k\r\n", "VALUE k 0 3\r\nold\r\nEND\r\n");
    program.assert_answers(&address);
}

#[test]
fn unfinished_values_do_not_accumulate() {
    let (mut program, address) = Program::start(&["-m", "64"]);
    for _ in 0..300 {
        let mut leaving = Client::connect(&address);
        leaving.send("set k 0 0 1000000\r\n");
        leaving.send(vec![b'x'; 900_000]);
    }
    let mut witness = Client::connect(&address);
    let value = "y".repeat(900_000);
    for number in 0..100 {
        witness.ask(
            format!("set k{number} 0 0 {}\r\n{value}\r\n", value.len()),
            "STORED\r\n",
        );
    }
    let resident = program.resident_bytes();
    assert!(resident < 150 * MIB, "{} MiB resident", resident / MIB);
    program.assert_answers(&address);
}

#[test]
fn endless_lines_and_endless_gets_cost_bounded_memory() {
    let (mut program, address) = Program::start(&[]);
    for start in ["set ", "mg ", "nonsense "] {
        let mut client = Client::connect(&address);
        client.send(start);
        let refused = (0..1000).any(|_| client.try_send([b'x'; 65_536]).is_err());
        assert!(refused, "64 MiB of one line were taken");
    }
    let resident = program.resident_bytes();
    assert!(resident < 100 * MIB, "{} MiB resident", resident / MIB);
    program.assert_answers(&address);
}

#[test]
fn connections_above_the_limit_are_told_and_closed() {
    let (mut program, address) = Program::start(&["-c", "50"]);
    let mut kept: Vec<Client> = std::iter::from_fn(|| served(&address)).take(51).collect();
    assert_eq!(kept.len(), 50);
    // This client sends nothing, because the refusal would be lost in a reset.
    Client::connect(&address).expect_closed(REFUSED);
    for client in &mut kept {
        client.ask("get nothing\r\n", "END\r\n");
    }
    assert_eq!(kept[0].stat("rejected_connections"), "2");
    kept.truncate(10);
    wait_until("a place is free again", || served(&address));
    program.assert_answers(&address);
}

/// Connects and sends a command. Returns `None` if the server refuses the
/// connection.
fn served(address: &Address) -> Option<Client> {
    let mut client = Client::connect(address);
    let answered = client.try_send("mn\r\n").is_ok() && client.answer_or_close().is_ok();
    answered.then_some(client)
}

#[test]
fn ten_thousand_connections() {
    let wanted = wanted_connections();
    if wanted < 2000 {
        skip("the hard limit of open files permits too few connections");
        return;
    }
    let limit = wanted - 1000;
    let option = limit.to_string();
    let (mut program, address) = Program::start(&["-c", &option, "-t", "2"]);
    let mut clients = Vec::with_capacity(wanted);
    for _ in 0..wanted {
        clients.push(Client::connect(&address));
    }
    // All connections well below the limit are served.
    let expected = limit - 200;
    for client in &mut clients[..expected] {
        client.send("get nothing\r\n");
    }
    for client in &mut clients[..expected] {
        client.expect("END\r\n");
    }
    // The last connections exceed the limit.
    clients[wanted - 1].expect_closed(REFUSED);
    drop(clients);
    wait_until("a connection is accepted again", || served(&address));
    program.assert_answers(&address);
}

/// Returns 10,000, or fewer if this process's limit of open files is low. This
/// process holds the client's ends, the server process the other ends.
fn wanted_connections() -> usize {
    let text = std::fs::read_to_string("/proc/self/limits").expect("limits can be read");
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    let mut columns = line.expect("open files are limited").split_whitespace();
    let soft = columns.nth(3).expect("the soft limit is the fourth word");
    let soft: usize = soft.parse().unwrap_or(usize::MAX);
    soft.saturating_sub(300).min(10_000)
}

#[test]
fn it_recovers_when_it_runs_out_of_descriptors() {
    let (mut program, address) = Program::start(&["-t", "1"]);
    program.limit_open_files(30);
    let mut waiting: Vec<Client> = (0..100).map(|_| Client::connect(&address)).collect();
    let first = &mut waiting[0];
    wait_until("accepting stops", || {
        (first.stat("accepting_conns") == "0").then_some(())
    });
    let open: usize = first.stat("curr_connections").parse().expect("a number");
    assert!(open < 30, "{open} connections are open");
    assert_eq!(first.stat("rejected_connections"), "0");
    drop(waiting);
    wait_until("new connections are served again", || served(&address));
    program.assert_answers(&address);
}
