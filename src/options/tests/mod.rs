//! Tests of the command line.

mod errors;
mod files;
mod generated;
mod lines;
mod listen;
mod tables;
mod texts;
mod tls;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::error::CliError;
use super::{Invocation, parse};
use crate::config::{Config, Endpoint, Listener, Process, ProtocolMode};

fn invoke(args: &[&str]) -> Result<Invocation, CliError> {
    let all = std::iter::once("rustcached").chain(args.iter().copied());
    parse(all.map(OsString::from), &|_| None, Path::new(""))
}

fn settings(args: &[&str]) -> (Config, Process) {
    match invoke(args) {
        Ok(Invocation::Run(settings)) => *settings,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn config(args: &[&str]) -> Config {
    settings(args).0
}

fn error(args: &[&str]) -> CliError {
    match invoke(args) {
        Err(error) => error,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn printed(args: &[&str]) -> String {
    match invoke(args) {
        Ok(Invocation::Print(text)) => text,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn tcp(address: &str) -> Listener {
    let address: SocketAddr = address.parse().expect("an address");
    Listener {
        endpoint: Endpoint::Tcp(address),
        protocol: ProtocolMode::Auto,
        tls: None,
        proxy: false,
        optional: false,
    }
}

fn wildcards(port: u16) -> Vec<Listener> {
    let v6 = Listener {
        proxy: false,
        optional: true,
        ..tcp(&format!("[::]:{port}"))
    };
    vec![tcp(&format!("0.0.0.0:{port}")), v6]
}

fn unix(path: &str, mode: u32) -> Listener {
    Listener {
        endpoint: Endpoint::Unix {
            path: PathBuf::from(path),
            mode,
        },
        protocol: ProtocolMode::Auto,
        tls: None,
        proxy: false,
        optional: false,
    }
}

/// Asserts that two command lines have the same result.
fn same(one: &[&str], other: &[&str]) {
    let (one, other) = (invoke(one), invoke(other));
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}
