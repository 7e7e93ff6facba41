//! The lines of `stats settings`.

use std::collections::BTreeSet;

use super::config;
use crate::config::Config;
use crate::options::lines::{ORDER, lines, reports};
use crate::options::report::Current;

fn current(config: &Config) -> Current<'_> {
    Current {
        config,
        tunables: config.tunables,
        memory_limit: config.max_memory,
        verbosity: config.verbosity,
        detail: config.detail,
        flush_at: 0,
        hash_name: "hash",
        chunk_max: 1,
    }
}

#[test]
fn every_line_is_declared_once_and_every_declared_line_is_listed() {
    let order: Vec<&str> = ORDER.split_whitespace().collect();
    let listed: BTreeSet<&str> = order.iter().copied().collect();
    assert_eq!(listed.len(), order.len(), "a name is listed twice");
    let declared: Vec<&str> = reports().map(|report| report.name).collect();
    let once: BTreeSet<&str> = declared.iter().copied().collect();
    assert_eq!(once.len(), declared.len(), "a line is declared twice");
    assert_eq!(once, listed);
}

#[test]
fn lines_come_in_order_and_those_of_tls_only_with_it() {
    let names =
        |config: &Config| -> Vec<&str> { lines(&current(config)).map(|(name, _)| name).collect() };
    let order: Vec<&str> = ORDER.split_whitespace().collect();
    let encrypted = config(&["-Z", "-o", "ssl_chain_cert=/c.pem"]);
    assert_eq!(names(&encrypted), order);
    let plain: Vec<&str> = order
        .into_iter()
        .filter(|name| !name.starts_with("ssl_") || *name == "ssl_enabled")
        .collect();
    assert_eq!(names(&config(&[])), plain);
}

#[test]
fn words_are_reported() {
    let cases = [
        ("temporary_ttl=-5", "temporary_ttl", "0"),
        ("temporary_ttl=1e3", "temporary_ttl", "1000"),
        ("temporary_ttl=5", "temp_lru", "yes"),
        ("hot_lru_pct=30", "hot_lru_pct", "30"),
        ("slab_automove", "slab_automove", "1"),
        ("warm_max_factor=3", "warm_max_factor", "3.00"),
        ("bare_dumps", "objective", "balanced"),
        ("objective=bytes", "objective", "bytes"),
        ("eviction=clock", "objective", "none"),
    ];
    for (word, name, value) in cases {
        let config = config(&["-o", word]);
        let line = lines(&current(&config)).find(|line| line.0 == name);
        assert_eq!(line, Some((name, value.to_owned())), "{word}");
    }
}
