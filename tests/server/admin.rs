//! The admin listener: metrics, health checks, JSON, access and limits.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustcached::config::{ClientCertificates, Config, Observe};
use rustcached::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_MAX_BYTES};
use rustcached::options::{self, Invocation};
use rustcached::stats::{DECLARATIONS, Declaration, Group, Kind};
use test_support::binary::BinaryClient;
use test_support::client::{Address, Client};
use test_support::http::{address_of, get, get_with, parse};
use test_support::program::Program;
use test_support::server::Server;
use test_support::tls::{Files, over_tls};
use test_support::{TempDir, skip, wait_until};

/// Applies the admin settings of a command line to a server's.
fn admin(config: &mut Config, options: &[&str]) {
    let arguments = ["rustcached"].iter().chain(options).map(Into::into);
    match options::parse(arguments, &|_| None, Path::new("")) {
        Ok(Invocation::Run(settings)) => config.admin = settings.0.admin,
        other => panic!("{other:?}"),
    }
}

fn start() -> (Server, Address) {
    let server = Server::with(|config| admin(config, &["--admin-listen=127.0.0.1:0"]));
    let address = address_of(&server.admin_urls()[0]);
    (server, address)
}

/// Returns the samples of a text of metrics, by name and labels.
fn samples(metrics: &str) -> HashMap<String, f64> {
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    pairs.collect()
}

/// Groups of declared statistics, with their argument.
const GROUPS: [(Group, &str); 4] = [
    (Group::General, ""),
    (Group::Udp, "udp"),
    (Group::Own, "rustcached"),
    (Group::Invalidation, "invalidation"),
];

#[test]
fn each_statistic_is_declared_and_shown_everywhere() {
    let (server, address) = start();
    let mut client = server.client();
    let mut packets = BinaryClient::connect(&server.address());
    let metrics = samples(&get(&address, "/metrics").body);
    let docs = include_str!("../../docs/observability.md");
    // These depend on an option.
    let optional =
        |name: &str| name.contains("ssl") || name.contains("cert") || name == "idle_kicks";
    for (group, argument) in GROUPS {
        let text = client.answer(format!("stats {argument}\r\n").replace(" \r\n", "\r\n"));
        let text = String::from_utf8(text).unwrap();
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("STAT ")?.split(' ').next())
            .collect();
        let in_packets: Vec<String> = packets.stats(argument).into_iter().map(|it| it.0).collect();
        assert_eq!(in_packets, names);
        for name in &names {
            let declared = Declaration::find(group, name);
            assert!(declared.is_some(), "{name} is not declared");
        }
        for declared in DECLARATIONS.iter().filter(|it| it.group == group) {
            let name = declared.name;
            assert!(optional(name) || names.contains(&name), "{name}");
            let row = format!("| `{name}` | {}", declared.help);
            assert!(docs.contains(&row), "{row} is missing in the docs");
        }
    }
    for declared in DECLARATIONS.iter().filter(|it| it.kind != Kind::Text) {
        let name = declared.metric_name().expect("a number has a metric");
        let labels = declared.labels().iter();
        let labels: Vec<String> = labels
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        let sample = match labels.is_empty() {
            true => name,
            false => format!("{name}{{{}}}", labels.join(",")),
        };
        assert!(
            optional(declared.name) || metrics.contains_key(&sample),
            "{sample}"
        );
    }
}

#[test]
fn metrics_count_what_clients_do() {
    let (server, address) = start();
    let mut client = server.client();
    client.ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    client.ask("cas a 0 0 1 0\r\n1\r\n", "EXISTS\r\n");
    client.ask("incr a 2\r\n", "3\r\n");
    client.ask("get a b\r\n", "VALUE a 0 1\r\n3\r\nEND\r\n");
    let reply = get(&address, "/metrics");
    assert!(
        reply
            .head
            .contains("Content-Type: text/plain; version=0.0.4")
    );
    let metrics = samples(&reply.body);
    for (sample, value) in [
        ("memcached_up", 1.0),
        (
            "memcached_commands_total{command=\"set\",status=\"hit\"}",
            1.0,
        ),
        (
            "memcached_commands_total{command=\"cas\",status=\"badval\"}",
            1.0,
        ),
        (
            "memcached_commands_total{command=\"get\",status=\"hit\"}",
            1.0,
        ),
        (
            "memcached_commands_total{command=\"get\",status=\"miss\"}",
            1.0,
        ),
        (
            "memcached_commands_total{command=\"incr\",status=\"hit\"}",
            1.0,
        ),
        ("memcached_version{version=\"1.6.45\"}", 1.0),
        ("memcached_current_connections", 1.0),
        ("memcached_current_items", 1.0),
        ("memcached_slab_current_items{slab=\"1\"}", 1.0),
        (
            "memcached_slab_commands_total{slab=\"1\",command=\"set\",status=\"hit\"}",
            1.0,
        ),
        ("memcached_lru_crawler_enabled", 1.0),
        ("rustcached_memory_bytes{use=\"clients\"}", 0.0),
    ] {
        assert_eq!(metrics.get(sample), Some(&value), "{sample}");
    }
    let of_workers = [0, 1].map(|number| {
        let sample = format!("rustcached_worker_connections{{worker=\"{number}\"}}");
        metrics[&sample]
    });
    assert_eq!(of_workers.iter().sum::<f64>(), 1.0);
    let busy = metrics["rustcached_worker_busy_ratio{worker=\"1\"}"];
    assert!((0.0..=1.0).contains(&busy), "{busy}");
    let accept = "Host: localhost\r\nAccept: application/openmetrics-text;version=1.0.0\r\n";
    let open = get_with(&address, "/metrics", accept);
    assert!(
        open.head
            .contains("Content-Type: application/openmetrics-text")
    );
    assert!(open.body.contains("# TYPE memcached_commands counter\n"));
    assert!(open.body.ends_with("\n# EOF\n"));
}

#[test]
fn the_page_and_its_json_are_served() {
    let (server, address) = start();
    let page = get(&address, "/");
    assert_eq!(page.status, 200);
    assert!(page.head.contains("Content-Type: text/html"));
    assert!(
        page.head
            .contains("Content-Security-Policy: default-src 'none'")
    );
    let mut client = server.client();
    client.ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    let json = |path: &str| -> serde_json::Value {
        let reply = get(&address, path);
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.head.contains("Content-Type: application/json"));
        serde_json::from_str(&reply.body).expect("JSON")
    };
    let about = json("/api/server.json");
    assert_eq!(about["threads"], 2);
    assert_eq!(about["draining"], false);
    let local = about["listeners"][0]["address"].as_str().unwrap();
    assert!(local.starts_with("tcp:127.0.0.1:"), "{local}");
    let times = |history: &serde_json::Value| -> Vec<u64> {
        let times = history["t"].as_array().unwrap().iter();
        times.map(|time| time.as_u64().unwrap()).collect()
    };
    let seen = wait_until("the set is in the history", || {
        let history = json("/api/history.json");
        let sets = history["operations"]["set"].as_array().unwrap();
        let found = sets.iter().any(|count| *count == 1);
        found.then(|| times(&history))
    });
    // A second may end between two requests, so only the first time is certain.
    let last = *seen.last().unwrap();
    let since_before = times(&json(&format!("/api/history.json?since={}", last - 1)));
    assert_eq!(since_before[0], last);
    let since_last = times(&json(&format!("/api/history.json?since={last}")));
    assert!(since_last.iter().all(|time| *time > last), "{since_last:?}");
    let classes = json("/api/classes.json");
    assert_eq!(classes["classes"][0]["items"], 1);
    let settings = json("/api/settings.json");
    let settings = settings["settings"].as_array().unwrap();
    assert!(
        settings
            .iter()
            .any(|it| it["name"] == "maxconns" && it["value"] == "1024")
    );
    assert_eq!(get(&address, "/api/none.json").status, 404);
}

#[test]
fn foreign_hosts_and_methods_are_refused() {
    let (_server, address) = start();
    let status = |headers: &str| get_with(&address, "/metrics", headers).status;
    assert_eq!(status("Host: 10.1.2.3:9150\r\n"), 200);
    assert_eq!(status("Host: [::1]:9150\r\n"), 200);
    assert_eq!(status("Host: LOCALHOST\r\n"), 200);
    assert_eq!(status("Host: cache.attacker.example\r\n"), 421);
    assert_eq!(
        get_with(&address, "/healthz", "Host: a.example\r\n").status,
        421
    );
    assert_eq!(status(""), 400);
    let named = Server::with(|config| {
        admin(
            config,
            &["--admin-listen=127.0.0.1:0", "--admin-host=cache-1"],
        );
    });
    let named = address_of(&named.admin_urls()[0]);
    assert_eq!(
        get_with(&named, "/metrics", "Host: cache-1:9150\r\n").status,
        200
    );
    let mut client = Client::connect(&address);
    client.send("DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(parse(&client.read_to_close()).status, 405);
    // A memcached client is told off as well.
    let mut client = Client::connect(&address);
    client.send("get a\r\n\r\n");
    assert_eq!(parse(&client.read_to_close()).status, 400);
}

#[test]
fn a_password_may_be_needed() {
    let directory = TempDir::create();
    let file = directory.path("users");
    std::fs::write(&file, "operator:secret\n").unwrap();
    let server = Server::with(|config| {
        let auth = format!("--auth-file={}", file.display());
        admin(
            config,
            &["--admin-listen=127.0.0.1:0", "--admin-auth", &auth],
        );
        config.auth_file = Some(file.clone());
    });
    let address = address_of(&server.admin_urls()[0]);
    let refused = get(&address, "/metrics");
    assert_eq!(refused.status, 401);
    assert!(refused.head.contains("WWW-Authenticate: Basic"));
    let with = |credentials: &str| {
        let headers = format!("Host: localhost\r\nAuthorization: Basic {credentials}\r\n");
        get_with(&address, "/metrics", &headers).status
    };
    // operator:secret, operator:wrong, and no base64.
    assert_eq!(with("b3BlcmF0b3I6c2VjcmV0"), 200);
    assert_eq!(with("b3BlcmF0b3I6d3Jvbmc="), 401);
    assert_eq!(with("***"), 401);
    assert_eq!(get(&address, "/healthz").status, 200);
    assert_eq!(get(&address, "/api/server.json").status, 401);
}

#[test]
fn keys_are_hidden_where_dumps_are_forbidden() {
    let server = Server::with(|config| {
        admin(config, &["--admin-listen=127.0.0.1:0"]);
        config.dump = false;
        config.observe.slow_log = Some(Duration::from_nanos(1));
    });
    let mut client = server.client();
    client.ask("set secret:1 0 0 1\r\n1\r\n", "STORED\r\n");
    client.ask("get secret:1\r\n", "VALUE secret:1 0 1\r\n1\r\nEND\r\n");
    let address = address_of(&server.admin_urls()[0]);
    for (path, list) in [
        ("/api/hotkeys.json", "keys"),
        ("/api/prefixes.json", "prefixes"),
        ("/api/slowlog.json", "commands"),
    ] {
        let body = wait_until(path, || {
            let body = get(&address, path).body;
            let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            let rows = json[list].as_array().expect("a list").len();
            (rows > 0).then_some(body)
        });
        assert!(!body.contains("secret"), "{body}");
    }
}

#[test]
fn the_admin_listener_speaks_tls() {
    let directory = Files::create();
    let server = Server::with(|config| {
        admin(config, &["--admin-listen=127.0.0.1:0"]);
        config.tls = Some(directory.settings());
        config.admin.listeners[0].tls = Some(ClientCertificates::Ignore);
    });
    let url = &server.admin_urls()[0];
    let plain = url.replace("https://", "http://");
    assert_ne!(*url, plain);
    let address = over_tls(&address_of(&plain), directory.trusting());
    assert_eq!(get(&address, "/healthz").body, "ok\n");
    assert_eq!(
        samples(&get(&address, "/metrics").body)["memcached_up"],
        1.0
    );
}

#[test]
fn a_draining_server_is_not_ready() {
    let directory = TempDir::create();
    let path = directory.path("admin");
    let listen = format!("--admin-listen=unix:{}", path.display());
    let (server, address) = Program::start(&[&listen, "-I8m"]);
    let admin = Address::Unix(path);
    assert_eq!(get(&admin, "/readyz").body, "ready\n");
    // The worker waits for a client that does not read its reply.
    let mut client = Client::connect(&address);
    let value = "x".repeat(7_000_000);
    client.ask(
        format!("set a 0 0 {}\r\n{value}\r\n", value.len()),
        "STORED\r\n",
    );
    client.send("get a a a\r\n");
    client.expect("VALUE");
    server.signal("TERM");
    let draining = wait_until("the server drains", || {
        let reply = get(&admin, "/readyz");
        (reply.status != 200).then_some(reply)
    });
    assert_eq!((draining.status, &draining.body[..]), (503, "draining\n"));
    assert!(server.wait().status.success());
}

#[test]
fn requests_come_in_pieces_and_pipelines() {
    let (_server, address) = start();
    let mut client = Client::connect(&address);
    client.send_bytewise("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let expected = "HTTP/1.1 200 OK\r\n";
    client.expect(expected);
    let mut client = Client::connect(&address);
    let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "HEAD /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    client.send(format!("{request}{request}{last}"));
    let replies = client.read_to_close();
    let text = String::from_utf8(replies).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3);
    assert_eq!(text.matches("ready\n").count(), 2, "HEAD has no body");
}

#[test]
fn long_requests_are_refused() {
    let (_server, address) = start();
    let mut client = Client::connect(&address);
    let long = "x".repeat(ADMIN_HEAD_MAX_BYTES + 1);
    client.send(format!("GET /{long}"));
    assert_eq!(parse(&client.read_to_close()).status, 431);
}

#[test]
fn connections_are_bounded() {
    let (_server, address) = start();
    let mut idle: Vec<Client> = (0..ADMIN_CONNECTIONS_MAX)
        .map(|_| Client::connect(&address))
        .collect();
    // The last of them is served, so that all are accepted.
    let last = idle.last_mut().unwrap();
    last.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    last.expect("HTTP/1.1 200 OK\r\n");
    Client::connect(&address).expect_closed("");
    drop(idle);
    wait_until("there is room again", || {
        let mut client = Client::connect(&address);
        client
            .try_send("GET /healthz HTTP/1.0\r\n\r\n")
            .ok()
            .filter(|()| client.read_to_close().starts_with(b"HTTP/1.1 200"))
    });
}

#[test]
fn unix_sockets_need_no_known_host() {
    let directory = TempDir::create();
    let path = directory.path("admin");
    let listen = format!("--admin-listen=unix:{}", path.display());
    let (_server, address) = Program::start(&[&listen]);
    let admin = Address::Unix(path);
    assert_eq!(
        get_with(&admin, "/healthz", "Host: any.example\r\n").status,
        200
    );
    let mut client = Client::connect(&address);
    client.ask("get a\r\n", "END\r\n");
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[test]
fn the_page_works_in_a_browser() {
    for program in ["chromium", "chromedriver", "python3"] {
        if !is_installed(program) {
            return skip(&format!("{program} is missing"));
        }
    }
    let server = Server::with(|config| {
        admin(config, &["--admin-listen=127.0.0.1:0"]);
        config.observe = Observe {
            slow_log: Some(Duration::from_millis(1)),
            curve: true,
            ..Observe::default()
        };
    });
    let Address::Tcp(address) = server.address() else {
        panic!("not TCP");
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/admin_page.py");
    let pictures = concat!(env!("CARGO_TARGET_TMPDIR"), "/admin-page");
    let ended = Command::new("python3")
        .args([script, &server.admin_urls()[0], &address.to_string()])
        .arg(pictures)
        .output()
        .expect("python3 starts");
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{errors}");
}

/// Returns the words of a text that name metrics of this server.
fn metric_names(text: &str) -> HashSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words
        .filter(|word| word.starts_with("memcached_") || word.starts_with("rustcached_"))
        .collect()
}

#[test]
fn dashboards_and_alerts_use_metrics_that_exist() {
    let (server, address) = start();
    server.client().ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    let metrics = get(&address, "/metrics").body;
    let known = metric_names(&metrics);
    for text in [
        include_str!("../../contrib/grafana/rustcached.json"),
        include_str!("../../contrib/prometheus/alerts.yml"),
    ] {
        let used = metric_names(text);
        assert!(used.len() > 5);
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}

#[test]
fn promtool_accepts_the_metrics() {
    if !is_installed("promtool") {
        return skip("promtool is missing");
    }
    let (server, address) = start();
    server.client().ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    let metrics = get(&address, "/metrics").body;
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(metrics.as_bytes()).expect("it reads");
    drop(input);
    let ended = child.wait_with_output().expect("it ends");
    // 3 stands for valid metrics with complaints.
    let code = ended.status.code();
    assert!(matches!(code, Some(0 | 3)), "{ended:?}");
    // It complains of names that the exporter gave.
    let complaints = String::from_utf8_lossy(&ended.stderr);
    let foreign = complaints
        .lines()
        .filter(|line| line.starts_with("rustcached_") || !line.starts_with("memcached_"));
    let foreign: Vec<&str> = foreign.collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/prometheus");
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
    ] {
        let checked = Command::new("promtool")
            .args(arguments)
            .current_dir(folder)
            .output()
            .expect("promtool starts");
        assert!(checked.status.success(), "{checked:?}");
    }
}
