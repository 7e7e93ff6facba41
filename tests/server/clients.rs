//! Third-party clients against the program: libmemcached's `memccapable`,
//! pymemcache, pylibmc, python-binary-memcached and django-elastipymemcache. A
//! missing tool fails the test in CI.
//!
//! The Python clients are installed in a virtual environment,
//! `target/client-venv` or the path in `RUSTCACHED_CLIENT_VENV`:
//!
//! ```text
//! python3 -m venv target/client-venv
//! target/client-venv/bin/pip install pymemcache pylibmc python-binary-memcached \
//!     django-elastipymemcache
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use test_support::client::Client;
use test_support::program::{Program, on_free_port};
use test_support::{TempDir, skip, wait_until};

#[test]
fn memccapable_ascii() {
    memccapable("-a", 20);
}

#[test]
fn memccapable_binary() {
    memccapable("-b", 27);
}

#[test]
fn pymemcache() {
    run_python("with_pymemcache.py", &[]);
}

#[test]
fn pylibmc() {
    run_python("with_pylibmc.py", &["text"]);
}

#[test]
fn pylibmc_binary() {
    run_python("with_pylibmc.py", &["binary"]);
}

#[test]
fn clients_invalidate_by_deleting_a_key() {
    let (server, _) = Program::start(&["-o", "invalidate_keys"]);
    run_python_with(&server, "invalidation.py", &[]);
}

#[test]
fn python_binary_memcached() {
    run_python("with_bmemcached.py", &[]);
}

#[test]
fn clients_of_elasticache_discover_three_servers() {
    let folder = TempDir::create();
    let path = folder.path("servers");
    std::fs::write(&path, "1\nnone.example||1\n").expect("writable");
    let option = format!("--cluster-file={}", path.display());
    let (first, address) = Program::start(&[&option]);
    let (second, third) = (Program::start(&[]).0, Program::start(&[]).0);
    let ports = [&first, &second, &third].map(|server| server.port().to_string());
    let node = |port: &String| format!("node{port}.example|127.0.0.1|{port}\n");
    let list: String = ports.iter().map(node).collect();
    std::fs::write(&path, format!("2\n{list}")).expect("writable");
    first.signal("HUP");
    wait_until("the list is read again", || {
        let answer = Client::connect(&address).answer("config get cluster\r\n");
        answer.starts_with(b"CONFIG cluster 0 ").then_some(())?;
        String::from_utf8_lossy(&answer)
            .contains("\n2\n")
            .then_some(())
    });
    run_python_with(&first, "with_elasticache.py", &[&ports[1], &ports[2]]);
}

/// Reads statistics as the Datadog agent does.
#[test]
fn python_binary_memcached_reads_statistics() {
    run_python("statistics_with_bmemcached.py", &[]);
}

#[test]
fn python_binary_memcached_authenticates() {
    let folder = TempDir::create();
    let users = folder.path("users");
    std::fs::write(&users, "user:pass\n").expect("a file of users");
    let users = users.to_str().expect("a plain path");
    let options = on_free_port(&["-S"]);
    let server = Program::spawn_in(&options, &[("MEMCACHED_SASL_PWDB", users)]);
    run_python_with(&server, "with_bmemcached.py", &["user", "pass"]);
}

/// Runs the checks of a protocol. Fails if there are fewer than `checks`.
fn memccapable(protocol: &str, checks: usize) {
    let program = Path::new("/usr/bin/memccapable");
    if !program.is_file() {
        skip("memccapable (libmemcached-tools) is not installed");
        return;
    }
    let (server, _) = Program::start(&[]);
    let output = Command::new(program)
        .args(["-h", "127.0.0.1", protocol, "-p"])
        .arg(server.port().to_string())
        .output()
        .expect("memccapable can be executed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let results: Vec<&str> = text.lines().filter(|line| line.contains('[')).collect();
    assert!(results.len() >= checks, "few results: {text}");
    for line in results {
        assert!(line.contains("[pass]"), "{text}");
    }
}

fn run_python(script: &str, arguments: &[&str]) {
    let (server, _) = Program::start(&[]);
    run_python_with(&server, script, arguments);
}

fn run_python_with(server: &Program, script: &str, arguments: &[&str]) {
    let python = virtual_environment().join("bin/python");
    if !python.is_file() {
        skip(&format!("there is no {}", python.display()));
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(script);
    let output = Command::new(python)
        .arg("-B")
        .arg(path)
        .arg(server.port().to_string())
        .args(arguments)
        .output()
        .expect("python can be executed");
    assert!(output.status.success(), "{}", said(&output));
}

/// Returns the directory of the Python environment with the client libraries.
pub(crate) fn virtual_environment() -> PathBuf {
    match std::env::var_os("RUSTCACHED_CLIENT_VENV") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/client-venv"),
    }
}

fn said(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{stdout}{stderr}")
}
