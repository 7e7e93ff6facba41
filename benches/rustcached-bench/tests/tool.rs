//! Load generator against a minimal server in a thread: its requests must be
//! valid and its counts must match the replies. Comparisons of two servers run
//! this package's server twice. Needs no installed server.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustcached_bench::address::Address;
use rustcached_bench::content::SizeRange;
use rustcached_bench::plan::{Command, Plan, Stop};
use rustcached_bench::preload::load_keys;
use rustcached_bench::replay::{PaceOptions, replay_on};
use rustcached_bench::report::Summary;
use rustcached_bench::run::measure;
use rustcached_bench::trace::Trace;
use serde_json::Value;
use server_program::server_program;

mod server_program;

type Items = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A minimal server that implements get, set, delete and stats. Replies ERROR
/// to other lines, and ends on bytes that are not text.
struct FakeServer {
    address: Address,
    items: Items,
}

impl FakeServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = Address::Tcp(listener.local_addr().expect("a bound address"));
        let items = Items::default();
        let shared = items.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let items = shared.clone();
                thread::spawn(move || serve(stream, &items));
            }
        });
        FakeServer { address, items }
    }
}

fn serve(mut stream: TcpStream, items: &Items) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    loop {
        line.clear();
        if !reader.fill_buf().ok()?.first()?.is_ascii() {
            return None;
        }
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut reply = Vec::new();
        match words.as_slice() {
            ["get", keys @ ..] => {
                let items = items.lock().expect("no panic under the lock");
                for key in keys {
                    if let Some(value) = items.get(*key) {
                        write!(reply, "VALUE {key} 0 {}\r\n", value.len()).ok()?;
                        reply.extend_from_slice(value);
                        reply.extend_from_slice(b"\r\n");
                    }
                }
                reply.extend_from_slice(b"END\r\n");
            }
            ["set", key, _, _, size] => {
                let mut value = vec![0; size.parse::<usize>().ok()? + 2];
                reader.read_exact(&mut value).ok()?;
                value.truncate(value.len() - 2);
                items
                    .lock()
                    .expect("no panic under the lock")
                    .insert(key.to_string(), value);
                reply.extend_from_slice(b"STORED\r\n");
            }
            ["delete", key] => {
                let gone = items
                    .lock()
                    .expect("no panic under the lock")
                    .remove(*key)
                    .is_some();
                reply.extend_from_slice(if gone {
                    b"DELETED\r\n"
                } else {
                    b"NOT_FOUND\r\n"
                });
            }
            ["stats"] => reply.extend_from_slice(b"STAT evictions 0\r\nEND\r\n"),
            _ => reply.extend_from_slice(b"ERROR\r\n"),
        }
        stream.write_all(&reply).ok()?;
    }
}

fn plan() -> Plan {
    Plan {
        connections: 4,
        depth: 8,
        keys: 500,
        value_size: SizeRange { min: 1, max: 300 },
        stop: Stop::Operations(4000),
        warmup: Duration::ZERO,
        verify: true,
        ..Plan::default()
    }
}

fn run(plan: &Plan, server: &FakeServer) -> Summary {
    let pid = std::process::id();
    measure(plan, &server.address, Some(pid), &mut |_| ()).expect("a measurement")
}

#[test]
fn loaded_keys_are_all_found_with_their_values() {
    let server = FakeServer::start();
    load_keys(&plan(), &server.address).unwrap();
    assert_eq!(server.items.lock().unwrap().len(), 500);
    for (verify, multiget, threads) in [(true, 1, 1), (false, 1, 2), (true, 10, 1), (false, 10, 2)]
    {
        let plan = Plan {
            verify,
            multiget,
            threads,
            ..plan()
        };
        let summary = run(&plan, &server);
        assert_eq!(summary.error(), None);
        assert_eq!((summary.hits, summary.misses), (summary.operations, 0));
        assert!(
            (4000..4400).contains(&summary.operations),
            "{}",
            summary.operations
        );
        assert!(summary.latency_us.p50 > 0.0 && summary.latency_us.max < 60e6);
        assert!(summary.server_cpu_ns.is_some());
    }
}

#[test]
fn misses_sets_and_refusals_are_counted_apart() {
    let server = FakeServer::start();
    let summary = run(&plan(), &server);
    assert_eq!((summary.hits, summary.misses), (0, 4000));
    let mixed = Plan {
        sets: 0.5,
        ..plan()
    };
    let summary = run(&mixed, &server);
    assert_eq!(summary.stored + summary.hits + summary.misses, 4000);
    assert!((1800..2200).contains(&summary.stored), "{}", summary.stored);
    assert_eq!(summary.error(), None);
    let unknown = Plan {
        command: Command::Mg,
        ..plan()
    };
    let summary = run(&unknown, &server);
    assert_eq!(summary.refused, 4000);
    assert_eq!(summary.error().as_deref(), Some("ERROR"));
}

#[test]
fn wrong_values_and_foreign_protocols_are_reported() {
    let server = FakeServer::start();
    load_keys(&plan(), &server.address).unwrap();
    for value in server.items.lock().unwrap().values_mut() {
        value.fill(b'!');
    }
    let summary = run(&plan(), &server);
    assert_eq!(summary.wrong_values, 4000);
    let binary = Plan {
        command: Command::BinaryGet,
        ..plan()
    };
    let summary = run(&binary, &server);
    assert_eq!((summary.lost_connections, summary.operations), (4, 0));
    let error = summary.error().unwrap();
    assert!(error.contains("connection lost"), "{error}");
}

#[test]
fn a_paced_load_keeps_its_rate() {
    let server = FakeServer::start();
    load_keys(&plan(), &server.address).unwrap();
    let paced = Plan {
        depth: 1,
        rate: Some(2000.0),
        stop: Stop::Operations(400),
        ..plan()
    };
    let summary = run(&paced, &server);
    assert_eq!(summary.hits, 400);
    // 400 requests at 2,000 a second take 0.2 s. They must not be sent faster.
    assert!(summary.seconds >= 0.199, "{}", summary.seconds);
}

#[test]
fn a_replay_sets_what_it_misses_and_sees_keys_in_order() {
    let server = FakeServer::start();
    let (get, set, delete) = (0u32, 1u32 << 30, 2u32 << 30);
    let requests = [
        get,
        get,
        get | 1,
        delete,
        get,
        set | 2,
        get | 2,
        get | 1,
        get,
    ];
    let mut bytes = b"KVTRACE1".to_vec();
    let words = [3, requests.len() as u32, 0, 0];
    words
        .iter()
        .for_each(|word| bytes.extend_from_slice(&u32::to_le_bytes(*word)));
    bytes.extend_from_slice(b"order");
    bytes.resize(64, 0);
    for column in [[10u32, 20, 30_000], [0, 0, 5]] {
        column
            .iter()
            .for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    }
    bytes.extend_from_slice(&[12, 20, 30]);
    requests
        .iter()
        .for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    let trace = Trace::read(bytes.as_slice()).unwrap();
    let pace = PaceOptions {
        batch: 32,
        ttl_scale: 1.0,
        rate: None,
        requests: None,
    };
    let found = replay_on(&trace, (&server.address, None), &pace, &mut |_| ()).unwrap();
    assert_eq!((found.requests, found.gets, found.hits), (9, 7, 4));
    assert_eq!((found.bytes_found, found.bytes_wanted), (30_040, 30_080));
    assert_eq!((found.wrong_values, found.refused), (0, 0));
    assert_eq!(server.items.lock().unwrap().len(), 3);
}

/// Runs a comparison of this workspace's server with itself. Returns the printed
/// text and the JSON rows.
fn versus_itself(task: &str, arguments: &[&str]) -> (String, Vec<Value>) {
    let (text, mut figures) = figures_versus_itself(task, arguments);
    let rows = figures.as_array_mut().expect("a list of rows");
    (text, std::mem::take(rows))
}

/// Like [`versus_itself`], for a comparison whose JSON is not a list of rows.
fn figures_versus_itself(task: &str, arguments: &[&str]) -> (String, Value) {
    let server = server_program();
    let json = std::env::temp_dir().join(format!("{task}-{}.json", process::id()));
    let output = process::Command::new(env!("CARGO_BIN_EXE_rustcached-bench"))
        .args([task, "--no-pin", "--quiet", "--ours", server])
        .args(["--theirs", server])
        .args(arguments)
        .arg("--json")
        .arg(&json)
        .output()
        .expect("the generator starts");
    assert!(output.status.success(), "{output:?}");
    let figures = fs::read_to_string(&json).expect("the figures are written");
    fs::remove_file(&json).expect("the file is ours");
    let figures = serde_json::from_str(&figures).expect("it is JSON");
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        figures,
    )
}

#[test]
fn compare_measures_its_loads_on_both_servers() {
    let loads = [
        "get1", "set1", "get32", "set32", "mget50", "mg32", "bget32", "incr32", "get100k", "zipf",
    ];
    let arguments = [
        "--rates=2000",
        "--rounds=1",
        "--seconds=0.05",
        "--keys=500",
        "--connections=4",
        "--memory=64",
    ];
    let (text, figures) = figures_versus_itself("compare", &arguments);
    let found = |list: &str| figures[list].as_array().expect("a list").clone();
    assert_eq!(found("loads").len(), loads.len(), "{text}");
    for (name, load) in loads.iter().zip(found("loads")) {
        assert_eq!(load["load"], *name);
        for server in ["theirs", "ours"] {
            assert!(load[server]["error"].is_null(), "{text}");
            let round = &load[server]["rounds"][0];
            assert!(round["operations"].as_u64() > Some(0), "{text}");
            assert_eq!(round["misses"], 0, "{text}");
        }
    }
    assert_eq!(found("latency")[0]["rate"], 2000.0, "{text}");
}

#[test]
fn every_scene_of_stall_is_played_on_both_servers() {
    let arguments = [
        "--millions=0.02",
        "--memory=64",
        "--limit-millions=0.02",
        "--limit-sizes=1000,9000",
        "--limit-memory=64",
        "--huge-mib=8",
        "--huge-memory=64",
    ];
    let (text, rows) = versus_itself("stall", &arguments);
    let names = rows
        .iter()
        .map(|row| (row["scene"].as_str(), row["server"].as_str()));
    let all = ["growth", "limit", "huge"].map(|scene| [(scene, "theirs"), (scene, "ours")]);
    let all = all.as_flattened().iter();
    assert!(
        names.eq(all.map(|&(scene, server)| (Some(scene), Some(server)))),
        "{text}"
    );
    for row in &rows {
        let number = |name: &str| row[name].as_u64().expect("a whole number");
        let (sets, bytes) = (number("sets"), number("value_bytes"));
        match row["scene"].as_str() {
            Some("growth") => assert_eq!((sets, bytes), (20_000, 20_000 * 32)),
            Some("limit") => assert_eq!((sets, bytes), (20_000, 10_000 * (1000 + 9000))),
            _ => assert_eq!((sets, bytes), (2, 3 * ((8 << 20) - 1024))),
        }
        let evicts = row["scene"].as_str() == Some("limit");
        assert_eq!(number("evictions") > 0, evicts, "{text}");
        assert!(number("probes") > 0, "{text}");
        assert_eq!(number("refused"), 0, "{text}");
    }
}

/// A scene of each family that needs no other program.
const HOSTILE: [&str; 5] = ["metadump", "watchers", "torn-gets", "passwords", "udp"];
/// Options for a short run, independent of the machine's load.
const SHORT: [&str; 3] = ["--memory=64", "--seconds=0.3", "--p99-limit=60000"];

#[test]
fn hostile_scenes_are_played_on_both_servers() {
    let scenes = format!("--scenes={}", HOSTILE.join(","));
    let arguments: Vec<&str> = SHORT.into_iter().chain([scenes.as_str()]).collect();
    let (text, rows) = versus_itself("memory", &arguments);
    assert_eq!(rows.len(), 2 * HOSTILE.len(), "{text}");
    for row in &rows {
        let connections = match row["scene"].as_str() {
            Some("metadump") => 50,
            Some("watchers") => 20,
            Some("torn-gets" | "passwords") => 1000,
            _ => 0,
        };
        assert_eq!(row["connections"], connections, "{text}");
        assert_eq!(row["alive"], true, "{text}");
        assert_eq!(row["faults"], serde_json::json!([]), "{text}");
        assert!(
            row["peak_bytes"].as_u64() >= row["base_bytes"].as_u64(),
            "{text}"
        );
        let counts = ["gets", "sets"].map(|name| row[name].as_u64());
        assert!(counts.iter().all(|&count| count > Some(0)), "{text}");
        // Logins that are wrong from their first byte are disconnected, other
        // clients are not.
        let some_are_cut = row["cut"].as_u64() > Some(0);
        assert_eq!(some_are_cut, row["scene"] == "passwords", "{text}");
    }
}

#[test]
fn a_broken_rule_of_a_hostile_scene_ends_in_an_error() {
    let server = server_program();
    let output = process::Command::new(env!("CARGO_BIN_EXE_rustcached-bench"))
        .args(["memory", "--no-pin", "--quiet", "--scenes=metadump"])
        .args(["--ours", server, "--theirs", "/nonexistent"])
        .args(["--memory=64", "--seconds=0.1", "--p99-limit=0"])
        .output()
        .expect("the generator starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let line = "failed: metadump, ours: p99 of a well-behaved get";
    assert!(errors.contains(line), "{errors}");
    assert!(text.contains("theirs is not there"), "{text}");
}

#[test]
fn the_watchdog_kills_a_server_that_grows() {
    let server = server_program();
    let output = process::Command::new(env!("CARGO_BIN_EXE_rustcached-bench"))
        .args(["memory", "--no-pin", "--quiet", "--scenes=metadump"])
        .args(["--ours", server, "--theirs", "/nonexistent"])
        .args(["--memory=256", "--watchdog=64"])
        .output()
        .expect("the generator starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("killed by the watchdog at"), "{errors}");
}

#[test]
fn density_counts_all_items_or_those_kept_at_the_limit() {
    let (text, rows) = versus_itself("density", &["--items=2000", "--shapes=20+32"]);
    assert_eq!(rows.len(), 2, "{text}");
    for row in &rows {
        assert_eq!(
            (&row["items"], &row["shifted_items"]),
            (&2000.into(), &2000.into())
        );
        assert!(
            row["filled_bytes"].as_u64() > row["empty_bytes"].as_u64(),
            "{text}"
        );
    }
    let full = ["--full", "--memory=64", "--shapes=20+100000"];
    let (text, rows) = versus_itself("density", &full);
    assert_eq!(rows.len(), 2, "{text}");
    for row in &rows {
        // Three times 64 MiB were sent, in items of 100,020 bytes.
        assert_eq!(row["sets"], 2012, "{text}");
        let items = row["items"].as_u64().expect("a whole number");
        assert!((300..=670).contains(&items), "{text}");
        assert_eq!(row["wrong_values"], 0, "{text}");
    }
}

#[test]
fn startup_measures_starts_and_idle_connections() {
    let (text, rows) = versus_itself("startup", &["--rounds=2", "--connections=50"]);
    assert_eq!(rows.len(), 2, "{text}");
    for row in &rows {
        assert!(row["error"].is_null(), "{text}");
        assert_eq!(
            row["milliseconds"].as_array().map(Vec::len),
            Some(2),
            "{text}"
        );
        assert_eq!(row["connections"]["connections"], 50, "{text}");
    }
}

#[test]
fn restart_measures_stops_and_starts_and_verifies_a_sample() {
    let folder = std::env::temp_dir();
    let folder = folder.to_str().expect("a plain path");
    let (text, rows) = versus_itself(
        "restart",
        &[
            "--rounds=2",
            "--items=300,3000",
            "--sample=500",
            "--pause=0",
            "--memory=64",
            "--memory-dir",
            folder,
            "--save-dir",
            folder,
            "--also",
            server_program(),
            "--also=/nonexistent",
        ],
    );
    assert_eq!(rows.len(), 2 * 5, "{text}");
    for row in &rows {
        let rounds = row["rounds"].as_array().expect("a list");
        if row["variant"] == "/nonexistent -e" {
            assert!(rounds.is_empty() && row["error"].is_string(), "{text}");
            continue;
        }
        assert!(row["error"].is_null(), "{text}");
        assert_eq!(rounds.len(), 2, "{text}");
        for round in rounds {
            assert_eq!(round["kept"], row["items"], "{text}");
            let counts = ["sampled", "sample_hits", "wrong_values"].map(|name| &round[name]);
            assert_eq!(counts, [500, 500, 0], "{text}");
            for time in ["stop_seconds", "hit_seconds"] {
                assert!(round[time].as_f64() > Some(0.0), "{text}");
            }
        }
    }
}

#[test]
fn former_subcommands_name_their_successors() {
    for (former, current) in [("idle", "`startup`"), ("keep", "`density --full`")] {
        let output = process::Command::new(env!("CARGO_BIN_EXE_rustcached-bench"))
            .args([former, "--ours", "server", "-m", "128", "--no-pin"])
            .output()
            .expect("the generator starts");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(current), "{errors}");
    }
}
