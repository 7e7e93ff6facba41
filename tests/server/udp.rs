//! UDP (`-U`) with a real client: frame headers, replies in several datagrams,
//! refused requests, and datagrams that get no reply.

use std::net::UdpSocket;

use test_support::DEADLINE;
use test_support::binary::{BinaryClient, Frame, HEADER_BYTES, Reply, opcode, status};
use test_support::client::{Client, show};
use test_support::program::{Program, on_free_port};
use test_support::random::Random;

const FRAME_BYTES: usize = 8;
const DATAGRAM_MAX_BYTES: usize = 1400;
const MULTI_PACKET: &str = "SERVER_ERROR multi-packet request not supported\r\n";

/// A UDP client that numbers its requests.
struct Datagrams {
    socket: UdpSocket,
    next_id: u16,
}

impl Datagrams {
    fn connect(program: &Program) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let server = ("127.0.0.1", program.udp_port());
        socket.connect(server).expect("a socket can be connected");
        socket
            .set_read_timeout(Some(DEADLINE))
            .expect("a timeout can be set");
        Self { socket, next_id: 7 }
    }

    fn send(&mut self, payload: impl AsRef<[u8]>) -> u16 {
        self.next_id = self.next_id.wrapping_add(0x0101);
        let id = self.next_id;
        self.send_frame([id, 0, 1, 0], payload);
        id
    }

    fn send_frame(&self, frame: [u16; 4], payload: impl AsRef<[u8]>) {
        let mut bytes: Vec<u8> = frame.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend_from_slice(payload.as_ref());
        self.socket.send(&bytes).expect("a datagram is sent");
    }

    /// Receives the whole reply to request `id`, whose datagrams must arrive
    /// next and in order.
    fn reply(&mut self, id: u16) -> Vec<u8> {
        let mut answer = Vec::new();
        let mut buffer = [0; 65_536];
        for sequence in 0.. {
            let len = self.socket.recv(&mut buffer).expect("an answer comes");
            assert!(len > FRAME_BYTES && len <= DATAGRAM_MAX_BYTES, "{len}");
            let word = |at: usize| u16::from_be_bytes([buffer[at], buffer[at + 1]]);
            assert_eq!((word(0), word(2), word(6)), (id, sequence, 0));
            answer.extend_from_slice(&buffer[FRAME_BYTES..len]);
            if sequence + 1 == word(4) {
                break;
            }
            assert_eq!(len, DATAGRAM_MAX_BYTES, "only the last is shorter");
        }
        answer
    }

    /// Skips replies until a reply to request `id` begins with `beginning`.
    fn wait_for(&mut self, id: u16, beginning: &str) {
        let mut buffer = [0; 65_536];
        loop {
            let len = self.socket.recv(&mut buffer).expect("an answer comes");
            let is_it = buffer[..2] == id.to_be_bytes();
            if is_it && buffer[FRAME_BYTES..len].starts_with(beginning.as_bytes()) {
                return;
            }
        }
    }

    fn ask(&mut self, payload: impl AsRef<[u8]>, want: impl AsRef<[u8]>) {
        let id = self.send(&payload);
        let got = self.reply(id);
        let (sent, want) = (show(payload.as_ref()), want.as_ref());
        assert!(got == want, "{sent}: {} not {}", show(&got), show(want));
    }

    /// Checks that no unread reply precedes the reply to the next request.
    fn in_step(&mut self) {
        self.ask("mn\r\n", "MN\r\n");
    }
}

/// Starts a server with a single worker, which answers requests in the order of
/// their arrival.
fn start(options: &[&str]) -> (Program, Datagrams) {
    let all = [&["-U", "-1", "-t", "1"], options].concat();
    let program = Program::spawn(&on_free_port(&all));
    let datagrams = Datagrams::connect(&program);
    (program, datagrams)
}

fn tcp(program: &Program) -> Client {
    Client::connect(&program.address())
}

fn udp_stat(program: &Program, name: &str) -> u64 {
    let answer = tcp(program).answer("stats udp\r\n");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
    let figure = line.unwrap_or_else(|| panic!("no {name}: {text}"));
    figure.parse().expect("a number")
}

#[test]
fn commands_are_those_of_tcp() {
    let (program, mut client) = start(&[]);
    client.ask("set k 5 0 2\r\nhi\r\n", "STORED\r\n");
    client.ask("get k\r\n", "VALUE k 5 2\r\nhi\r\nEND\r\n");
    client.ask("mg k v\r\n", "VA 2\r\nhi\r\n");
    client.ask(
        "incr k 1\r\n",
        "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
    );
    client.ask("nosuch\r\n", "ERROR\r\n");
    tcp(&program).ask("get k\r\n", "VALUE k 5 2\r\nhi\r\nEND\r\n");
    client.send("set k 0 0 2 noreply\r\nho\r\n");
    client.in_step();
    client.ask("get k\r\n", "VALUE k 0 2\r\nho\r\nEND\r\n");
}

#[test]
fn one_datagram_may_hold_several_commands() {
    let (_program, mut client) = start(&[]);
    client.ask(
        "set a 0 0 1\r\n1\r\nset b 0 0 1\r\n2\r\nget a b c\r\nmn\r\n",
        "STORED\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nVALUE b 0 1\r\n2\r\nEND\r\nMN\r\n",
    );
    let many = "mn\r\n".repeat(200);
    client.ask(&many, many.to_uppercase());
}

#[test]
fn packets_come_in_datagrams_too() {
    let (_program, mut client) = start(&[]);
    let ask = |client: &mut Datagrams, frame: &Frame| {
        let id = client.send(frame.bytes());
        Reply::parse(&client.reply(id))
    };
    let set = Frame::store(opcode::SET, "k", "value").opaque(3);
    let stored = ask(&mut client, &set);
    assert_eq!((stored.status, stored.opaque), (status::OK, 3));
    let got = ask(&mut client, &Frame::new(opcode::GET).key("k"));
    assert_eq!((got.text(), got.cas), ("value", stored.cas));
    // The next datagram may be text again.
    client.in_step();
    let both = [
        Frame::new(opcode::GETKQ).key("none").bytes(),
        Frame::new(opcode::GETKQ).key("k").bytes(),
        Frame::new(opcode::NOOP).bytes(),
    ];
    let id = client.send(both.concat());
    let answer = client.reply(id);
    let first = Reply::len_of(&answer);
    assert_eq!(Reply::parse(&answer[..first]).text(), "value");
    assert_eq!(answer.len(), first + HEADER_BYTES);
}

#[test]
fn a_long_answer_comes_in_several_datagrams_in_order() {
    let (_program, mut client) = start(&[]);
    for size in [1_300, 1_378, 1_379, 1_392, 4_096, 15_000] {
        let value: String = (0..size)
            .map(|n| char::from(b'a' + (n % 26) as u8))
            .collect();
        let set = format!("set k 0 0 {size}\r\n{value}\r\n");
        client.ask(set, "STORED\r\n");
        let want = format!("VALUE k 0 {size}\r\n{value}\r\nEND\r\n");
        client.ask("get k\r\n", want);
    }
}

#[test]
fn a_request_in_several_datagrams_is_refused() {
    let (_program, mut client) = start(&[]);
    for total in [0, 2, 3, u16::MAX] {
        client.send_frame([9, 0, total, 0], "set k 0 0 10\r\nabcde");
        assert_eq!(client.reply(9), MULTI_PACKET.as_bytes());
        // Later parts are not commands either, in whatever order they arrive.
        client.send_frame([9, 1, total, 0], "fghij\r\n");
        assert_eq!(client.reply(9), MULTI_PACKET.as_bytes());
    }
    client.ask("get k\r\n", "END\r\n");
}

#[test]
fn cve_2022_48571_half_a_request_leaves_nothing_behind() {
    let (mut program, mut client) = start(&[]);
    for half in [
        "set k 0 0 10\r\nabcde",
        "set k 0 0 100000\r\nabcde",
        "get k",
        "set k 0 0 10",
        &format!("get {}", "k ".repeat(3000)),
    ] {
        client.ask(half, MULTI_PACKET);
        client.in_step();
    }
    let large = Frame::store(opcode::SET, "k", "v").body_len(1_000_000);
    client.ask(large.bytes(), MULTI_PACKET);
    client.ask(
        &Frame::new(opcode::GET).key("k").bytes()[..20],
        MULTI_PACKET,
    );
    client.ask("mn\r\nset k 0 0 9\r\nabc", format!("MN\r\n{MULTI_PACKET}"));
    client.ask("get k\r\n", "END\r\n");
    assert!(program.is_running());
}

#[test]
fn numbers_are_repeated_whatever_the_order() {
    let (_program, mut client) = start(&[]);
    client.ask("set k 0 0 1\r\n1\r\n", "STORED\r\n");
    for id in [5, 4, 65_535, 0, 5] {
        // In a request of a single datagram, the sequence number is ignored.
        client.send_frame([id, 17, 1, 99], "get k\r\n");
        assert_eq!(client.reply(id), b"VALUE k 0 1\r\n1\r\nEND\r\n");
    }
}

#[test]
fn garbage_does_no_harm() {
    let (mut program, mut client) = start(&[]);
    let mut random = Random::new(48_571);
    for len in (0..200).chain([1_000, 9_000, 60_000]) {
        let bytes: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
        client.socket.send(&bytes).expect("a datagram is sent");
        client.socket.send(&bytes[..len.min(8)]).expect("likewise");
        client.send("");
        // Wait after each datagram: a burst would exceed the socket's buffer.
        // Random bytes that form a valid frame are answered too.
        let id = client.send("version\r\n");
        client.wait_for(id, "VERSION ");
    }
    assert!(program.is_running());
    tcp(&program).ask("", "");
}

#[test]
fn a_datagram_may_be_as_large_as_there_are() {
    let (program, mut client) = start(&[]);
    let value = "v".repeat(65_000);
    client.ask(format!("set k 0 0 65000\r\n{value}\r\n"), "STORED\r\n");
    tcp(&program).ask(
        "get k\r\n",
        format!("VALUE k 0 65000\r\n{value}\r\nEND\r\n"),
    );
}

#[test]
fn cve_2018_1000115_a_large_answer_is_not_sent() {
    let (mut program, mut client) = start(&["-m", "256"]);
    let before = program.resident_bytes();
    let mut stream = tcp(&program);
    for (key, size) in [("a", 66_000), ("b", 500_000), ("c", 40_000)] {
        let value = "v".repeat(size);
        stream.ask(format!("set {key} 0 0 {size}\r\n{value}\r\n"), "STORED\r\n");
    }
    let many = "get c\r\n".repeat(9_000);
    let one_line = format!("get {}\r\n", "c ".repeat(30_000));
    let packets = Frame::new(opcode::GET).key("b").bytes().repeat(2_000);
    let requests = [
        "get a\r\n",
        "get b b b b\r\n",
        "get c c\r\n",
        &many,
        &one_line,
    ];
    for request in requests {
        client.send(request);
        client.in_step();
    }
    client.send(packets);
    client.in_step();
    assert_eq!(udp_stat(&program, "udp_dropped"), 6);
    assert_eq!(udp_stat(&program, "udp_requests"), 12);
    assert_eq!(udp_stat(&program, "udp_reply_limit"), 65_536);
    let grown = program.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown}");
    let want = format!("VALUE c 0 40000\r\n{}\r\nEND\r\n", "v".repeat(40_000));
    client.ask("get c\r\n", want);
    assert!(program.is_running());
}

/// libmemcached's UDP test requests this size.
#[test]
fn a_value_of_twenty_thousand_bytes_is_answered() {
    let (program, mut client) = start(&[]);
    let value = "v".repeat(20_000);
    tcp(&program).ask(format!("set k 0 0 20000\r\n{value}\r\n"), "STORED\r\n");
    client.ask(
        "get k\r\n",
        format!("VALUE k 0 20000\r\n{value}\r\nEND\r\n"),
    );
}

#[test]
fn how_large_an_answer_may_be_is_an_option() {
    let (program, mut client) = start(&["--udp-reply-limit", "60k"]);
    let value = "v".repeat(50_000);
    let set = format!("set k 0 0 50000\r\n{value}\r\n");
    tcp(&program).ask(set, "STORED\r\n");
    client.ask(
        "get k\r\n",
        format!("VALUE k 0 50000\r\n{value}\r\nEND\r\n"),
    );
    let (_program, mut client) = start(&["--udp-reply-limit=10"]);
    client.send("version\r\n");
    client.in_step();
}

#[test]
fn nobody_stops_the_server_or_hangs_up_by_datagram() {
    let (mut program, mut client) = start(&["-A"]);
    for request in ["shutdown\r\n", "quit\r\n", "GET / HTTP/1.0\r\n"] {
        client.send(request);
        client.in_step();
    }
    client.ask("mn\r\nquit\r\nmn\r\n", "MN\r\n");
    assert!(program.is_running());
}

#[test]
fn nobody_watches_by_datagram() {
    let (_program, mut client) = start(&[]);
    // More requests than there may be watchers. None must become a watcher.
    for _ in 0..30 {
        client.ask(
            "watch fetchers\r\n",
            "CLIENT_ERROR watch commands not allowed\r\n",
        );
    }
}

#[test]
fn all_workers_answer() {
    let program = Program::spawn(&on_free_port(&["-U", "-1", "-t", "4"]));
    std::thread::scope(|scope| {
        for name in 0..8 {
            let program = &program;
            scope.spawn(move || {
                let mut client = Datagrams::connect(program);
                for number in 0..200 {
                    let set = format!("set k{name} 0 0 4\r\n{:04}\r\n", number);
                    client.ask(set, "STORED\r\n");
                    let want = format!("VALUE k{name} 0 4\r\n{number:04}\r\nEND\r\n");
                    client.ask(format!("get k{name}\r\n"), want);
                }
            });
        }
    });
}

#[test]
fn it_is_off_unless_asked_for() {
    let (program, _) = Program::start(&[]);
    assert!(
        !program.port_file().contains("UDP"),
        "{}",
        program.port_file()
    );
    assert_eq!(udp_stat(&program, "udp_requests"), 0);
}

#[test]
fn it_may_be_the_only_way_in() {
    let options = ["-l", "127.0.0.1", "-p", "0", "-U", "-1", "-u", "root"];
    let program = Program::spawn(&options);
    let mut client = Datagrams::connect(&program);
    client.in_step();
    assert!(
        !program.port_file().contains("TCP"),
        "{}",
        program.port_file()
    );
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let ended = Program::spawn(&on_free_port(&["-U", &port])).wait();
    assert_eq!(ended.status.code(), Some(71), "{}", ended.errors);
    assert!(ended.errors.contains("UDP port"), "{}", ended.errors);
}

#[test]
fn fixed_1_5_20_it_does_not_go_round_authentication() {
    let both: [&[&str]; 3] = [
        &["-U", "-1", "-S"],
        &["-S", "-U", "11211"],
        &["-U", "-1", "-Y", "/nowhere"],
    ];
    for options in both {
        let ended = Program::spawn(&on_free_port(options)).wait();
        assert_eq!(ended.status.code(), Some(64));
        assert!(ended.errors.contains("UDP"), "{}", ended.errors);
        assert!(ended.errors.contains("authentication"), "{}", ended.errors);
    }
}

#[test]
fn a_protocol_may_be_the_only_one() {
    let (_program, mut client) = start(&["-B", "ascii"]);
    client.ask(b"\x80abc\r\n", "ERROR\r\n");
    let (program, mut client) = start(&["-B", "binary"]);
    client.send("mn\r\n");
    let id = client.send(Frame::new(opcode::NOOP).bytes());
    assert_eq!(Reply::parse(&client.reply(id)).status, status::OK);
    BinaryClient::connect(&program.address()).in_step();
}
