//! `config get cluster` and `config set cluster`, and the file of `--cluster-file`.
//! Real clients that ask for the list are in `clients.rs`.

use std::fs;
use std::path::PathBuf;

use rustcached::limits::CLUSTER_LIST_MAX_BYTES;
use test_support::client::{Address, Client};
use test_support::datagram::Datagrams;
use test_support::program::Program;
use test_support::server::Server;
use test_support::{TempDir, wait_until};

/// A cluster file in its own directory.
struct List {
    directory: TempDir,
    path: PathBuf,
}

impl List {
    fn create(text: &str) -> Self {
        let directory = TempDir::create();
        let path = directory.path("servers");
        fs::write(&path, text).expect("writable");
        Self { directory, path }
    }

    fn option(&self) -> String {
        format!("--cluster-file={}", self.path.display())
    }

    fn server(&self) -> Server {
        let path = self.path.clone();
        Server::with(|config| config.cluster_file = Some(path))
    }
}

fn reply(flags: u32, text: &str) -> String {
    format!("CONFIG cluster {flags} {}\r\n{text}\r\nEND\r\n", text.len())
}

fn set(flags: u32, text: &str) -> String {
    format!("config set cluster {flags} {}\r\n{text}\r\n", text.len())
}

const TWO: &str = "3\none.example|10.0.0.1|11211 two.example|10.0.0.2|11212\n";
const GET: &str = "config get cluster\r\n";

/// The replies of memcached 1.6.45.
#[test]
fn without_a_file_it_is_an_unknown_command() {
    let server = Server::start();
    let mut client = server.client();
    for (line, want) in [
        (GET, "ERROR\r\n"),
        (" config get cluster\r\n", "ERROR\r\n"),
        ("config get cluster noreply\r\n", ""),
        ("config\r\n", "ERROR\r\n"),
        // What follows is no data block.
        (
            "config set cluster 0 20\r\nflush_all\r\n",
            "ERROR\r\nOK\r\n",
        ),
        ("config set cluster 0 x\r\n", "ERROR\r\n"),
        ("config set cluster 0 5 noreply\r\nhello\r\n", "ERROR\r\n"),
        ("get AmazonElastiCache:cluster\r\n", "END\r\n"),
    ] {
        client.ask(line, want);
    }
    client.send("config get cluster HTTP/1.1\r\n");
    client.expect_closed("");
}

#[test]
fn the_list_is_sent_in_the_format_of_elasticache() {
    let list = List::create("# ours\n3\none.example|10.0.0.1|11211\ntwo.example|10.0.0.2|11212\n");
    let server = list.server();
    let mut client = server.client();
    client.ask(GET, reply(0, TWO));
    client.ask(" config get cluster\n", reply(0, TWO));
    let many = client.answer(GET.repeat(1000));
    assert_eq!(many, reply(0, TWO).repeat(1000).as_bytes());
    client.ask("config get cluster noreply\r\n", "");
    client.ask("config get clusters\r\n", "ERROR\r\n");
    client.ask("config delete cluster\r\n", "ERROR\r\n");
    // The key of old clients is an ordinary one.
    client.ask("get AmazonElastiCache:cluster\r\n", "END\r\n");
    let own = String::from_utf8(client.answer("stats rustcached\r\n")).expect("text");
    assert!(own.contains("STAT cluster_version 3\r\nSTAT cluster_nodes 2\r\n"));
}

#[test]
fn clients_may_replace_the_list() {
    let list = List::create(TWO);
    let server = list.server();
    let (mut client, mut other) = (server.client(), server.client());
    let new = "4\nthree.example||1\n";
    client.ask(set(7, "4\nthree.example||1"), "STORED\r\n");
    other.ask(GET, reply(7, new));
    // In one packet with other commands, and byte by byte.
    let pipeline = format!("{}{GET}get a\r\n", set(1, TWO));
    client.ask(&pipeline, format!("STORED\r\n{}END\r\n", reply(1, TWO)));
    client.send_bytewise(set(0, new));
    client.expect("STORED\r\n");
    let quiet = set(0, TWO).replacen("\r\n", " noreply\r\n", 1);
    client.ask(format!("{quiet}{GET}"), reply(0, TWO));
    // Faulty lists change nothing.
    let fault = "CLIENT_ERROR line 2 is not host|ip|port\r\n";
    client.ask(set(0, "5\nflush_all\r\n"), fault);
    client.ask(
        "config set cluster 0 2\r\n5\nx\r\n",
        "CLIENT_ERROR bad data chunk\r\nCLIENT_ERROR bad command line format\r\n",
    );
    client.ask(
        "config set cluster 0 x\r\n",
        "CLIENT_ERROR bad command line format\r\n",
    );
    client.ask(GET, reply(0, TWO));
    // The longest list, and one that is longer.
    let padded = |len: usize| format!("{new}{}", " ".repeat(len - new.len()));
    client.ask(set(0, &padded(CLUSTER_LIST_MAX_BYTES)), "STORED\r\n");
    client.ask(GET, reply(0, new));
    client.ask(
        set(0, &padded(CLUSTER_LIST_MAX_BYTES + 1)),
        "SERVER_ERROR object too large for cache\r\n",
    );
    // A client that leaves within the block.
    client.send("config set cluster 0 100\r\n9\n");
    client.finish_sending();
    client.expect_closed("");
    other.ask(GET, reply(0, new));
}

#[test]
fn who_may_not_flush_may_not_replace_the_list() {
    let list = List::create(TWO);
    let path = list.path.clone();
    let server = Server::with(|config| {
        config.cluster_file = Some(path);
        config.flush = false;
    });
    let refused = "CLIENT_ERROR config set not allowed\r\n";
    let request = format!("{}{GET}", set(0, "9\na||1\nflush_all\r\n"));
    server
        .client()
        .ask(request, format!("{refused}{}", reply(0, TWO)));
}

#[test]
fn other_transports_and_authentication() {
    let list = List::create(TWO);
    let path = list.path.clone();
    let server = Server::tls_with(|config| config.cluster_file = Some(path));
    let mut client = server.client();
    client.ask(set(0, "9\na||1"), "STORED\r\n");
    client.ask(GET, reply(0, "9\na||1\n"));
    // Before the password, nothing.
    let passwords = list.directory.path("passwords");
    fs::write(&passwords, "u:p\n").expect("writable");
    let passwords = format!("--auth-file={}", passwords.display());
    let (_program, address) = Program::start(&[&passwords, &list.option()]);
    let mut client = Client::connect(&address);
    let unauthenticated = "CLIENT_ERROR unauthenticated\r\n";
    client.send(format!("{GET}config set cluster 0 9\r\n"));
    client.expect(unauthenticated.repeat(2));
    client.send("set a 0 0 3\r\nu p\r\n");
    client.expect("STORED\r\n");
    client.ask(GET, reply(0, TWO));
    // A sender's address may be spoofed, so a datagram replaces nothing.
    let (program, address) = Program::start(&["-U", "-1", &list.option()]);
    let mut datagrams = Datagrams::connect(([127, 0, 0, 1], program.udp_port()).into());
    assert_eq!(datagrams.ask(GET.as_bytes()), reply(0, TWO).as_bytes());
    let refused = datagrams.ask(set(0, "9\na||1").as_bytes());
    assert_eq!(refused, b"CLIENT_ERROR config set not allowed\r\n");
    Client::connect(&address).ask(GET, reply(0, TWO));
}

/// Waits until the server sends this list.
fn wait_for(address: &Address, text: &str) {
    wait_until("the list is new", || {
        let answer = Client::connect(address).answer(GET);
        (answer == reply(0, text).as_bytes()).then_some(())
    });
}

#[test]
fn a_changed_file_is_read_again_under_the_filter_of_system_calls_too() {
    let list = List::create(TWO);
    let log_file = list.directory.path("log");
    let log_option = format!("--log-file={}", log_file.display());
    let options = [&list.option()[..], &log_option, "-o", "drop_privileges"];
    let (program, address) = Program::start(&options);
    wait_for(&address, TWO);
    let log_has = |want: &str| {
        wait_until("it is logged", || {
            let log = fs::read_to_string(&log_file).ok()?;
            log.contains(want).then_some(())
        });
    };
    // Replaced as a careful operator does.
    let aside = list.directory.path("new");
    fs::write(&aside, "4\na||1\n").expect("writable");
    fs::rename(&aside, &list.path).expect("in the same directory");
    wait_for(&address, "4\na||1\n");
    log_has("the list of servers has version 4 and length 1 now\n");
    fs::write(&list.path, "5\na\n").expect("writable");
    log_has("servers: line 2 is not host|ip|port\n");
    wait_for(&address, "4\na||1\n");
    // On the signal, the file replaces what a client has set.
    fs::write(&list.path, "2\na||1\nb||1\n").expect("writable");
    program.signal("HUP");
    wait_for(&address, "2\na||1 b||1\n");
    log_has("length 2 now; clients that have version 4 keep their list");
    Client::connect(&address).ask(set(0, "6\nc||1"), "STORED\r\n");
    wait_for(&address, "6\nc||1\n");
    program.signal("HUP");
    wait_for(&address, "2\na||1 b||1\n");
    // A pipe delays neither signals nor upkeep.
    fs::remove_file(&list.path).expect("there");
    nix::unistd::mkfifo(&list.path, nix::sys::stat::Mode::S_IRUSR).expect("created");
    log_has("it is a pipe, not a file\n");
    program.signal("HUP");
    wait_for(&address, "2\na||1 b||1\n");
    program.signal("TERM");
    assert!(program.wait().status.success());
}

#[test]
fn a_faulty_file_keeps_the_server_from_starting() {
    let list = List::create("1\n\none:11211\n");
    for options in [&["--check-config"][..], &[]] {
        let option = list.option();
        let ended =
            Program::spawn(&[options, &[&option, "-u", "root", "-p", "-1"]].concat()).wait();
        let want = format!(
            "cluster file {}: line 3 is not host|ip|port",
            list.path.display()
        );
        assert!(ended.errors.contains(&want), "{}", ended.errors);
        assert_eq!(ended.status.code(), Some(1));
    }
}
