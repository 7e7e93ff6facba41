//! The load generator over TLS, and the cost of connections with and without it. Both sides are
//! this workspace's server. The certificates come from the tests' own authority.

use std::fs;
use std::path::Path;
use std::process::{self, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use rustcached_bench::process::{Launch, ServerProcess};
use rustcached_bench::tls::{Certificate, ServerTls, TlsOptions};
use serde_json::Value;
use server_program::server_program;
use test_support::tls::{Authority, Files};

mod server_program;

fn generator(arguments: &[&str]) -> Output {
    let mut command = process::Command::new(env!("CARGO_BIN_EXE_rustcached-bench"));
    command.args(arguments).output().expect("it starts")
}

/// Runs a comparison of this workspace's server with itself. Returns the printed text and the JSON.
fn versus_itself(arguments: &[&str]) -> (String, Value) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let json = std::env::temp_dir().join(format!("bench-tls-{}-{number}.json", process::id()));
    let server = server_program();
    let path = json.to_str().expect("a plain path");
    let common = ["--no-pin", "--quiet", "--ours", server, "--theirs", server];
    let output = generator(&[arguments, &common, &["--json", path]].concat());
    assert!(output.status.success(), "{output:?}");
    let figures = fs::read_to_string(&json).expect("the figures are written");
    fs::remove_file(&json).expect("the file is ours");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, serde_json::from_str(&figures).expect("it is JSON"))
}

/// Returns the options of a comparison with these certificates.
fn with_files(files: &Files) -> Vec<String> {
    let path = |name| files.path(name).display().to_string();
    vec![
        "--tls".to_string(),
        format!("--tls-ca={}", path("ca.pem")),
        format!("--tls-cert={}", path("chain.pem")),
        format!("--tls-key={}", path("key.pem")),
    ]
}

fn compare_with(files: &Files, more: &[&str]) -> (String, Value) {
    let tls = with_files(files);
    let tls: Vec<&str> = tls.iter().map(String::as_str).collect();
    versus_itself(&[more, &tls[..]].concat())
}

#[test]
fn compare_measures_its_loads_over_tls() {
    let files = Files::create();
    let arguments = [
        "compare",
        "--rates=2000",
        "--rounds=1",
        "--seconds=0.1",
        "--keys=500",
        "--connections=4",
        "--memory=64",
    ];
    let (text, figures) = compare_with(&files, &arguments);
    let suite = "TLSv1_3 TLS13_AES_256_GCM_SHA384";
    assert!(text.contains("TLS on 127.0.0.1"), "{text}");
    let line = format!("negotiated: ours {suite}, theirs {suite}\n");
    assert!(text.contains(&line), "{text}");
    let loads = figures["loads"].as_array().expect("a list");
    assert_eq!(loads.len(), 10, "{text}");
    for load in loads
        .iter()
        .chain(figures["latency"].as_array().expect("a list"))
    {
        for server in ["theirs", "ours"] {
            assert!(load[server]["error"].is_null(), "{text}");
            assert_eq!(load[server]["tls"], suite, "{text}");
            let round = &load[server]["rounds"][0];
            assert!(round["operations"].as_u64() > Some(0), "{text}");
            assert_eq!(round["misses"], 0, "{text}");
        }
    }
}

/// A server with TLS, and the options of a generator that trusts it.
fn tls_server(files: &Files) -> ServerProcess {
    let options = TlsOptions {
        tls: true,
        ..TlsOptions::default()
    };
    let tls = ServerTls {
        certificate: Certificate {
            chain: files.path("chain.pem"),
            key: files.path("key.pem"),
        },
        client: options.client(&files.path("ca.pem"), false).expect("a CA"),
        resume: false,
    };
    let launch = Launch {
        memory_mib: 64,
        tls: Some(tls),
        ..Launch::new(Path::new(server_program()))
    };
    ServerProcess::start(&launch).expect("it starts")
}

fn port_of(server: &ServerProcess) -> String {
    let text = server.address.to_string();
    text.split(' ').next().expect("an address").to_owned()
}

fn run(server: &str, options: &[&str]) -> Output {
    let load = ["run", "--requests=2000", "--keys=300", "--connections=3"];
    let load = [&load[..], &["--load-keys", "--verify", "--quiet"]].concat();
    generator(&[&load[..], &["--server", server], options].concat())
}

#[test]
fn a_run_verifies_values_with_each_version_and_cipher() {
    let files = Files::create();
    let server = tls_server(&files);
    let address = port_of(&server);
    let ca = format!("--tls-ca={}", files.path("ca.pem").display());
    for (version, cipher, negotiated) in [
        ("1.3", "aes256", "TLSv1_3 TLS13_AES_256_GCM_SHA384"),
        ("1.3", "aes128", "TLSv1_3 TLS13_AES_128_GCM_SHA256"),
        ("1.3", "chacha20", "TLSv1_3 TLS13_CHACHA20_POLY1305_SHA256"),
        (
            "1.2",
            "aes256",
            "TLSv1_2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        ),
    ] {
        let choice = ["--tls-version", version, "--tls-cipher", cipher];
        let options = [
            &["--tls", &ca, "--value-size=1-40000", "--depth=20"],
            &choice[..],
        ];
        let output = run(&address, &options.concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(
            text.contains(" 0 misses, 0 stored, 0 refused, 0 wrong"),
            "{text}"
        );
        assert!(
            text.contains(&format!("TLS          {negotiated}\n")),
            "{text}"
        );
    }
}

#[test]
fn what_cannot_be_verified_is_refused_with_a_reason() {
    let files = Files::create();
    let server = tls_server(&files);
    let address = port_of(&server);
    let clear = ServerProcess::start(&Launch::new(Path::new(server_program())));
    let clear = port_of(&clear.expect("it starts"));
    let foreign = Files::create();
    foreign.put(&Authority::create().issue());
    let ca = format!("--tls-ca={}", files.path("ca.pem").display());
    let other = format!("--tls-ca={}", foreign.path("chain.pem").display());
    let cases: [(&str, &[&str], &str); 5] = [
        (&address, &["--tls"], "--tls needs --tls-ca FILE"),
        (&address, &["--tls", &other], "invalid peer certificate"),
        (
            &address,
            &["--tls", &ca, "--tls-name=elsewhere"],
            "not valid for name",
        ),
        (&address, &[&ca], "--tls"),
        ("unix:/nonexistent", &["--tls", &ca], "only over TCP"),
    ];
    for (server, options, reason) in cases {
        let output = run(server, options);
        assert!(!output.status.success(), "{options:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(reason), "{options:?}: {errors}");
    }
    // Nothing answers at an address whose server has ended.
    let output = run(&clear, &["--tls", &ca]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains(&format!("connecting to {clear} over TLS")),
        "{errors}"
    );
}

#[test]
fn a_server_without_tls_is_named_as_such() {
    let files = Files::create();
    let server = ServerProcess::start(&Launch::new(Path::new(server_program())));
    let server = server.expect("it starts");
    let ca = format!("--tls-ca={}", files.path("ca.pem").display());
    let output = run(&port_of(&server), &["--tls", &ca]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("TLS handshake: "), "{errors}");
}

#[test]
fn accept_counts_connections_with_and_without_tls_and_resumption() {
    let files = Files::create();
    let accept = ["accept", "--rounds=1", "--seconds=0.3", "--clients=2"];
    let check = |figures: &Value, resumes: bool, text: &str| {
        let sides = figures.as_array().expect("a list");
        assert_eq!(sides.len(), 2, "{text}");
        for side in sides {
            assert!(side["error"].is_null(), "{text}");
            let round = &side["rounds"][0];
            let count = |name: &str| round[name].as_u64().expect("a whole number");
            assert!(count("connections") > 0, "{text}");
            assert_eq!(count("resumed") > 0, resumes, "{text}");
            assert!(round["server_cpu_ns"].as_f64() > Some(0.0), "{text}");
        }
    };
    let (text, figures) = versus_itself(&accept);
    check(&figures, false, &text);
    let (text, figures) = compare_with(&files, &accept);
    check(&figures, false, &text);
    assert!(text.contains("TLS13_AES_256_GCM_SHA384"), "{text}");
    let (text, figures) = compare_with(&files, &[&accept[..], &["--resume"]].concat());
    check(&figures, true, &text);
}

#[test]
fn connections_measures_few_and_many_of_which_few_are_active() {
    let files = Files::create();
    let arguments = [
        "connections",
        "--open=60",
        "--active=4",
        "--few=3",
        "--rounds=1",
        "--seconds=0.1",
        "--keys=300",
        "--memory=64",
    ];
    for (text, figures) in [versus_itself(&arguments), compare_with(&files, &arguments)] {
        let rows = figures.as_array().expect("a list");
        let counts: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row["server"].as_str(),
                    row["open"].as_u64(),
                    row["active"].as_u64(),
                )
            })
            .collect();
        let case = |side| {
            [
                (Some(side), Some(3), Some(3)),
                (Some(side), Some(60), Some(4)),
            ]
        };
        assert_eq!(counts, [case("theirs"), case("ours")].concat(), "{text}");
        for row in rows {
            assert!(row["error"].is_null(), "{text}");
            assert!(row["cpu_ns"][0].as_f64() > Some(0.0), "{text}");
        }
    }
    let output = generator(&["connections", "--ours", "x", "--open=3", "--active=4"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("4 of 3 connections cannot be active"),
        "{errors}"
    );
}
