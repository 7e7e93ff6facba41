//! Three servers behind what others use to spread keys over machines: nutcracker
//! (twemproxy), HAProxy, nginx, and clients with a hash ring of their own. One
//! server is killed and comes back. No answer may be wrong.
//!
//! The configurations are those of contrib/several_machines, with other ports.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use test_support::client::{Address, Client};
use test_support::program::Program;
use test_support::{TempDir, skip, wait_until};

use crate::clients::virtual_environment;

const KEYS: usize = 300;

/// Three servers on fixed ports, so that one can come back.
struct Machines {
    ports: Vec<u16>,
    programs: Vec<Option<Program>>,
}

impl Machines {
    fn start() -> Self {
        let mut machines = Self {
            ports: (0..3).map(|_| free_port()).collect(),
            programs: vec![None, None, None],
        };
        (0..3).for_each(|number| machines.start_one(number));
        machines
    }

    fn start_one(&mut self, number: usize) {
        let port = self.ports[number].to_string();
        let program = Program::start(&["-p", &port]).0;
        self.programs[number] = Some(program);
    }

    fn kill(&mut self, number: usize) {
        let program = self.programs[number].take().expect("it runs");
        program.signal("KILL");
        let _ = program.wait();
    }

    /// Returns the number of items of one server.
    fn items(&self, number: usize) -> usize {
        let address = Address::Tcp(([127, 0, 0, 1], self.ports[number]).into());
        let items = Client::connect(&address).stat("curr_items");
        items.parse().expect("a number")
    }
}

/// A program in front of the servers, killed when dropped.
struct Front(Child);

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a port that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Reads a configuration of contrib, and replaces the ports of the three servers
/// and of the front.
fn configuration(name: &str, machines: &Machines, front: u16) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/several_machines");
    let mut text = fs::read_to_string(root.join(name)).expect("it is there");
    for (number, port) in machines.ports.iter().enumerate() {
        let from = format!("192.0.2.{}:11211", number + 1);
        assert!(text.contains(&from), "{name} has no server {from}");
        text = text.replace(&from, &format!("127.0.0.1:{port}"));
    }
    assert!(text.contains("127.0.0.1:22121"), "{name} has no front");
    text.replace("127.0.0.1:22121", &format!("127.0.0.1:{front}"))
}

/// Starts a front, and waits until it accepts connections. Returns `None` if the
/// program is not installed.
fn front(program: &str, arguments: &[&str], port: u16) -> Option<(Front, Address)> {
    if !Path::new(program).is_file() {
        skip(&format!("{program} is not installed"));
        return None;
    }
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it can be executed");
    let front = Front(child);
    let address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    wait_until("the front accepts connections", || {
        Client::try_connect(&address).ok()
    });
    Some((front, address))
}

/// Sends a request and returns the reply, which ends with `end` or is an error.
fn ask(client: &mut Client, request: &str, end: &str) -> Option<String> {
    client.try_send(request).ok()?;
    let mut reply = String::new();
    loop {
        let line = client.try_line()?;
        reply.push_str(&line);
        if line.ends_with(end) || line.starts_with("SERVER_ERROR") {
            return Some(reply);
        }
    }
}

fn value_of(number: usize) -> String {
    format!("value of {number}")
}

fn set(client: &mut Client, number: usize) -> Option<String> {
    let value = value_of(number);
    let len = value.len();
    let request = format!("set key{number} 0 0 {len}\r\n{value}\r\n");
    ask(client, &request, "\r\n")
}

/// Gets a key. A hit must have the right value. Returns whether it was one;
/// `None` for an error.
fn get(client: &mut Client, number: usize) -> Option<bool> {
    let reply = ask(client, &format!("get key{number}\r\n"), "END\r\n")?;
    let value = value_of(number);
    let hit = format!("VALUE key{number} 0 {}\r\n{value}\r\nEND\r\n", value.len());
    if reply.starts_with("SERVER_ERROR") {
        return None;
    }
    assert!(reply == hit || reply == "END\r\n", "{reply}");
    Some(reply == hit)
}

/// Counts hits and errors of one get of each key.
fn get_all(client: &mut Client) -> (usize, usize) {
    let results: Vec<_> = (0..KEYS).map(|number| get(client, number)).collect();
    let hits = results.iter().filter(|hit| **hit == Some(true)).count();
    (hits, results.iter().filter(|hit| hit.is_none()).count())
}

#[test]
fn nutcracker_ejects_a_dead_server_and_takes_it_back() {
    let mut machines = Machines::start();
    let directory = TempDir::create();
    let port = free_port();
    let path = directory.path("nutcracker.yml");
    // Retried soon, or the test would wait.
    let text = configuration("nutcracker.yml", &machines, port);
    assert!(text.contains("server_retry_timeout: 30000"));
    let text = text.replace("server_retry_timeout: 30000", "server_retry_timeout: 300");
    fs::write(&path, text).expect("writable");
    let stats = free_port().to_string();
    let arguments = ["-c", path.to_str().expect("plain"), "-s", &stats];
    let Some((_front, address)) = front("/usr/sbin/nutcracker", &arguments, port) else {
        return;
    };
    let mut client = Client::connect(&address);
    for number in 0..KEYS {
        assert_eq!(set(&mut client, number).as_deref(), Some("STORED\r\n"));
    }
    assert_eq!(get_all(&mut client), (KEYS, 0));
    let items: Vec<usize> = (0..3).map(|number| machines.items(number)).collect();
    assert_eq!(items.iter().sum::<usize>(), KEYS);
    assert!(items.iter().all(|items| *items > KEYS / 10), "{items:?}");
    // Retrievals of several keys go to all servers.
    let reply = ask(&mut client, "get key1 key2 key3 key4\r\n", "END\r\n").expect("an answer");
    assert_eq!(reply.matches("VALUE ").count(), 4);
    machines.kill(1);
    // The first request to the dead server fails; then it is left out.
    let (mut hits, mut errors) = (0, 0);
    wait_until("the dead server is left out", || {
        let (found, failed) = get_all(&mut client);
        (hits, errors) = (found, errors + failed);
        (failed == 0).then_some(())
    });
    assert_eq!(hits, KEYS - items[1]);
    assert!(errors < 20, "{errors} errors");
    machines.start_one(1);
    wait_until("the server is back", || {
        let mut client = Client::connect(&address);
        for number in 0..KEYS {
            let _ = set(&mut client, number);
        }
        (machines.items(1) > 0 && get_all(&mut client) == (KEYS, 0)).then_some(())
    });
}

#[test]
fn haproxy_checks_servers_by_their_version() {
    let mut machines = Machines::start();
    let directory = TempDir::create();
    let port = free_port();
    let path = directory.path("haproxy.cfg");
    let text = configuration("haproxy.cfg", &machines, port);
    assert!(text.contains("inter 2s"));
    fs::write(&path, text.replace("inter 2s", "inter 50ms")).expect("writable");
    let arguments = ["-db", "-f", path.to_str().expect("plain")];
    let Some((_front, address)) = front("/usr/sbin/haproxy", &arguments, port) else {
        return;
    };
    let which = |machines: &Machines| {
        wait_until("a server answers", || {
            let mut client = Client::try_connect(&address).ok()?;
            set(&mut client, 1).filter(|reply| reply == "STORED\r\n")?;
            Some(())
        });
        let running = (0..3).filter(|number| machines.programs[*number].is_some());
        let with_items = |number: &usize| machines.items(*number) > 0;
        running.filter(with_items).collect::<Vec<_>>()
    };
    assert_eq!(
        which(&machines),
        [0],
        "the first server has all connections"
    );
    machines.kill(0);
    assert_eq!(which(&machines), [1], "the next one stands in");
    let mut client = Client::connect(&address);
    assert_eq!(get(&mut client, 1), Some(true));
    // When the first is back, it is empty: a miss, and no wrong answer.
    machines.start_one(0);
    wait_until("the first server is back", || {
        let mut client = Client::try_connect(&address).ok()?;
        (!get(&mut client, 1)?).then_some(())
    });
}

/// HAProxy tells the server whose connections they are.
#[test]
fn haproxy_sends_the_clients_addresses() {
    let options = ["-u", "root", "-p", "-1", "-l", "proxy:127.0.0.1"];
    let options = [&options[..], &["-o", "drop_privileges"]].concat();
    let program = Program::spawn(&options);
    for version in ["send-proxy", "send-proxy-v2"] {
        let port = free_port();
        let text = format!(
            "defaults\n mode tcp\n timeout connect 1s\n timeout client 1h\n timeout server 1h\n\
             listen cache\n bind 127.0.0.1:{port}\n option tcp-check\n\
             tcp-check send version\\r\\n\n tcp-check expect string VERSION\n\
             server one 127.0.0.1:{} {version} check check-send-proxy inter 50ms\n",
            program.port()
        );
        let directory = TempDir::create();
        let path = directory.path("haproxy.cfg");
        fs::write(&path, text).expect("writable");
        let arguments = ["-db", "-f", path.to_str().expect("plain")];
        let Some((_front, address)) = front("/usr/sbin/haproxy", &arguments, port) else {
            return;
        };
        let mut client = Client::connect(&address);
        assert_eq!(set(&mut client, 1).as_deref(), Some("STORED\r\n"));
        let own = client.local_addr();
        let conns = String::from_utf8(client.answer("stats conns\r\n")).expect("text");
        assert!(conns.contains(&format!(":addr tcp:{own}\r\n")), "{conns}");
        let own = String::from_utf8(client.answer("stats rustcached\r\n")).expect("text");
        assert!(own.contains("STAT proxy_header_errors 0\r\n"), "{own}");
        // Checks of HAProxy itself pass too, or it would take the server out.
        let mut connections = || -> u64 {
            let total = client.stat("total_connections");
            total.parse().expect("a number")
        };
        let before = connections();
        wait_until("the server was checked", || {
            (connections() > before + 5).then_some(())
        });
        assert_eq!(get(&mut Client::connect(&address), 1), Some(true));
    }
}

#[test]
fn nginx_serves_pages_from_the_cache() {
    let machines = Machines::start();
    let directory = TempDir::create();
    let port = free_port();
    let path = directory.path("nginx.conf");
    let folder = directory.path("");
    let folder = folder.to_str().expect("plain").trim_end_matches('/');
    let text = configuration("nginx.conf", &machines, port);
    let text = format!(
        "daemon off; pid {folder}/pid; error_log {folder}/errors; worker_processes 1;\n\
         events {{}}\nhttp {{ access_log off; client_body_temp_path {folder}/body;\n\
         proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;\n\
         uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n{text}\n}}\n"
    );
    fs::write(&path, text).expect("writable");
    let arguments = ["-c", path.to_str().expect("plain"), "-p", folder];
    let Some((_front, address)) = front("/usr/sbin/nginx", &arguments, port) else {
        return;
    };
    // The ring of nginx selects the server, so all have the page.
    for port in &machines.ports {
        let server = Address::Tcp(([127, 0, 0, 1], *port).into());
        Client::connect(&server).ask("set page:/a 0 0 5\r\nhello\r\n", "STORED\r\n");
    }
    let fetch = |path: &str| {
        let mut client = Client::connect(&address);
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ));
        String::from_utf8(client.read_to_close()).expect("text")
    };
    let page = fetch("/a");
    assert!(
        page.starts_with("HTTP/1.1 200") && page.ends_with("hello"),
        "{page}"
    );
    let missing = fetch("/b");
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
}

/// A client library with a ring of its own, in a script that goes through all keys
/// when it is asked.
struct Ring {
    script: Child,
    replies: Lines<BufReader<ChildStdout>>,
}

/// What a round through all keys came to.
#[derive(Debug)]
struct Round {
    found: usize,
    missing: usize,
    stored: usize,
    failed: usize,
}

impl Drop for Ring {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

impl Ring {
    fn start(library: &str, machines: &Machines) -> Option<Self> {
        let python = virtual_environment().join("bin/python");
        if !python.is_file() {
            skip(&format!("there is no {}", python.display()));
            return None;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut script = Command::new(python)
            .arg("-B")
            .arg(root.join("tests/clients/with_rings.py"))
            .arg(library)
            .args(machines.ports.iter().map(u16::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python can be executed");
        let output = script.stdout.take().expect("it is a pipe");
        let replies = BufReader::new(output).lines();
        Some(Self { script, replies })
    }

    /// Goes through all keys once. The script checks each value.
    fn round(&mut self) -> Round {
        let input = self.script.stdin.as_mut().expect("it is a pipe");
        input.write_all(b"\n").expect("the script runs");
        let line = self.replies.next().expect("no value is wrong");
        let line = line.expect("text");
        let mut counts = line
            .split(' ')
            .map(|count| count.parse().expect("a number"));
        let mut count = || counts.next().expect("four numbers");
        Round {
            found: count(),
            missing: count(),
            stored: count(),
            failed: count(),
        }
    }
}

#[test]
fn rings_of_client_libraries_leave_a_dead_server_out() {
    for library in ["pylibmc", "pymemcache"] {
        let mut machines = Machines::start();
        let Some(mut ring) = Ring::start(library, &machines) else {
            return;
        };
        let first = ring.round();
        assert_eq!(
            (first.missing, first.stored),
            (KEYS, KEYS),
            "{library}: {first:?}"
        );
        let second = ring.round();
        assert_eq!(
            (second.found, second.failed),
            (KEYS, 0),
            "{library}: {second:?}"
        );
        let items = machines.items(1);
        assert!((KEYS / 6..KEYS / 2).contains(&items), "{library}: {items}");

        machines.kill(1);
        let degraded = ring.round();
        // The keys of the others stay where they are.
        assert_eq!(degraded.found, KEYS - items, "{library}: {degraded:?}");
        assert!(degraded.failed <= 10, "{library}: {degraded:?}");
        assert_eq!(degraded.stored + degraded.failed, items, "{library}");
        wait_until("the others have all keys", || {
            let round = ring.round();
            (round.found == KEYS && round.failed == 0).then_some(())
        });
        assert_eq!(machines.items(0) + machines.items(2), KEYS, "{library}");

        machines.start_one(1);
        wait_until("the server is used again", || {
            let round = ring.round();
            (round.found == KEYS && machines.items(1) == items).then_some(())
        });
    }
}
