//! Differential tests: memcached and rustcached receive the same random and
//! hostile commands, cut at random places, and must reply with the same bytes.
//! A difference is shrunk to a few commands before it is reported.
//!
//! The reference is Debian's memcached, or the program named by
//! `RUSTCACHED_PEER`. Release 1.6.45 or later must agree exactly, including its
//! counters. The exceptions, nearly all of them bugs of 1.6.45, are listed in
//! `exact.rs`, `exact_binary.rs` and `compare.rs`. An older release receives
//! only commands that all releases answer alike; `generate.rs` and `binary.rs`
//! list the others.
//!
//! `RUSTCACHED_DIFF_SEED` sets the first seed, `RUSTCACHED_DIFF_CASES` the
//! number of cases.

mod binary;
mod compare;
mod counters;
mod exact;
mod exact_binary;
mod generate;
mod shrink;

use compare::{Case, Precision, difference};
use test_support::client::Address;
use test_support::memcached::Memcached;
use test_support::server::Server;

/// Disables memcached's background threads. They pin items briefly, so
/// timing would decide whether memcached changes a number in place.
const QUIET: [&str; 2] = ["-o", "no_lru_maintainer,no_lru_crawler"];
/// The release whose replies rustcached reproduces.
const TARGET: [u32; 3] = [1, 6, 45];
const SEED: u64 = 20_250_601;
const CASES: u64 = 300;
/// Number of differing cases after which the comparison ends.
const REPORTS_MAX: usize = 10;

/// The case generators and the comparison of a protocol, text or binary.
struct Protocol {
    /// Generates a case that every release must answer alike.
    common: fn(u64) -> Case,
    /// Generates a case for the target release.
    exact: fn(u64) -> Case,
    difference: fn(&Case, Precision, &Address, &Address) -> Option<String>,
}

const LINES: Protocol = Protocol {
    common: generate::case,
    exact: exact::case,
    difference: |case, precision, first, second| {
        difference(case, precision, first, second, |command| command)
    },
};

const PACKETS: Protocol = Protocol {
    common: binary::case,
    exact: exact_binary::case,
    difference: binary::difference,
};

#[test]
fn ours_answers_as_memcached_does() {
    compare_with_ours(&LINES);
}

#[test]
fn ours_answers_packets_as_memcached_does() {
    compare_with_ours(&PACKETS);
}

#[test]
fn memcached_answers_as_memcached_does() {
    compare_memcached(&LINES);
}

#[test]
fn memcached_answers_packets_as_memcached_does() {
    compare_memcached(&PACKETS);
}

#[test]
fn a_planted_fault_is_found_and_shrunk() {
    let Some((first, second)) = two_memcached() else {
        return;
    };
    // The second server behaves as if it appended on `prepend`.
    let faulty = |command: Vec<u8>| match command.strip_prefix(b"prepend ") {
        Some(rest) => [b"append ", rest].concat(),
        None => command,
    };
    let precision = precision_of(&first);
    let mut differs =
        |case: &Case| difference(case, precision, &first.address(), &second.address(), faulty);
    let found = (SEED..SEED + 50).find_map(|seed| {
        let case = generate::case(seed);
        differs(&case).map(|_| shrink::shrink(case, &mut differs))
    });
    let case = found.expect("fifty cases show a wrong prepend");
    let has_prepend = |command: &Vec<u8>| command.starts_with(b"prepend ");
    assert!(case.commands.iter().any(has_prepend), "{case:?}");
    assert!(case.commands.len() <= 4, "not small: {case:?}");
}

fn compare_with_ours(protocol: &Protocol) {
    let Some(memcached) = Memcached::start_or_skip(&QUIET) else {
        return;
    };
    // Run without a crawler, as the reference does. It would find expired items
    // first.
    let ours = Server::with(|config| config.tunables.crawler = false);
    let first = from_environment("RUSTCACHED_DIFF_SEED", SEED);
    let cases = from_environment("RUSTCACHED_DIFF_CASES", CASES);
    let precision = precision_of(&memcached);
    let addresses = (memcached.address(), ours.address());
    run(protocol, precision, first..first + cases, &addresses);
}

fn compare_memcached(protocol: &Protocol) {
    let Some((first, second)) = two_memcached() else {
        return;
    };
    let addresses = (first.address(), second.address());
    run(protocol, precision_of(&first), SEED..SEED + 20, &addresses);
}

/// Runs a case for each seed, and panics with the differences. If the reference
/// is of the target release, a quarter of the cases are common cases and the
/// others exact cases.
fn run(
    protocol: &Protocol,
    precision: Precision,
    seeds: std::ops::Range<u64>,
    (first, second): &(Address, Address),
) {
    let mut differs = |case: &Case| (protocol.difference)(case, precision, first, second);
    let mut reports = Vec::new();
    for seed in seeds {
        let case = match precision {
            Precision::Exact if !seed.is_multiple_of(4) => (protocol.exact)(seed),
            _ => (protocol.common)(seed),
        };
        let _named = Named(seed);
        reports.extend(report(seed, case, &mut differs));
        if reports.len() == REPORTS_MAX {
            break;
        }
    }
    assert!(reports.is_empty(), "{}", reports.join("\n"));
}

/// Prints the seed of the current case if a panic unwinds through it, for
/// instance when a server does not reply.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the case of seed {}", self.0);
        }
    }
}

fn precision_of(peer: &Memcached) -> Precision {
    match peer.version() >= TARGET {
        true => Precision::Exact,
        false => Precision::Older,
    }
}

fn two_memcached() -> Option<(Memcached, Memcached)> {
    Some((
        Memcached::start_or_skip(&QUIET)?,
        Memcached::start_or_skip(&QUIET)?,
    ))
}

/// Runs a case. Returns a description of the difference in the shrunk case,
/// `None` if the servers agree.
fn report(
    seed: u64,
    case: Case,
    differs: &mut impl FnMut(&Case) -> Option<String>,
) -> Option<String> {
    let at_first = differs(&case)?;
    let small = shrink::shrink(case, differs);
    let how = differs(&small).unwrap_or_else(|| format!("not every time; at first:\n{at_first}"));
    Some(format!("seed {seed}\n{small:?}{how}"))
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}"))
    })
}
