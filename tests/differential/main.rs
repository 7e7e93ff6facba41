//! The same random and hostile commands, cut at random places, go to Debian's
//! memcached and to ours; the answers must be the same bytes, save for what
//! `compare.rs` lists with a reason. A difference is shrunk to a few commands
//! before it is reported.
//!
//! `RUSTCACHED_DIFF_SEED` chooses another first seed and
//! `RUSTCACHED_DIFF_CASES` another number of cases.

#[path = "../support/mod.rs"]
mod support;

mod binary;
mod compare;
mod generate;
mod shrink;

use compare::{Case, difference};
use support::memcached::Memcached;
use support::server::Server;

/// Without its background threads, which hold items for moments and so decide
/// by chance whether 1.6.18 changes a number in place.
const QUIET: [&str; 2] = ["-o", "no_lru_maintainer,no_lru_crawler"];
const SEED: u64 = 20_250_601;
const CASES: u64 = 300;

#[test]
fn ours_answers_as_memcached_does() {
    let Some(memcached) = Memcached::start_or_skip(&QUIET) else {
        return;
    };
    let ours = Server::start();
    let seed = from_environment("RUSTCACHED_DIFF_SEED", SEED);
    let cases = from_environment("RUSTCACHED_DIFF_CASES", CASES);
    let mut differs = |case: &Case| {
        difference(case, &memcached.address(), &ours.address(), |command| {
            command
        })
    };
    for seed in seed..seed + cases {
        if let Some(report) = first_difference(seed, &mut differs) {
            panic!("{report}");
        }
    }
}

#[test]
fn ours_answers_packets_as_memcached_does() {
    let Some(memcached) = Memcached::start_or_skip(&QUIET) else {
        return;
    };
    let ours = Server::start();
    let seed = from_environment("RUSTCACHED_DIFF_SEED", SEED);
    let cases = from_environment("RUSTCACHED_DIFF_CASES", CASES);
    let mut differs = |case: &Case| binary::difference(case, &memcached.address(), &ours.address());
    for seed in seed..seed + cases {
        if let Some(report) = report(seed, binary::case(seed), &mut differs) {
            panic!("{report}");
        }
    }
}

#[test]
fn memcached_answers_packets_as_memcached_does() {
    let Some((first, second)) = two_memcached() else {
        return;
    };
    let mut differs = |case: &Case| binary::difference(case, &first.address(), &second.address());
    for seed in SEED..SEED + 20 {
        if let Some(report) = report(seed, binary::case(seed), &mut differs) {
            panic!("the comparison itself is unsound: {report}");
        }
    }
}

#[test]
fn memcached_answers_as_memcached_does() {
    let Some((first, second)) = two_memcached() else {
        return;
    };
    let mut differs =
        |case: &Case| difference(case, &first.address(), &second.address(), |command| command);
    for seed in SEED..SEED + 20 {
        if let Some(report) = first_difference(seed, &mut differs) {
            panic!("the comparison itself is unsound: {report}");
        }
    }
}

#[test]
fn a_planted_fault_is_found_and_shrunk() {
    let Some((first, second)) = two_memcached() else {
        return;
    };
    // The second server is one that appends where it should prepend.
    let faulty = |command: Vec<u8>| match command.strip_prefix(b"prepend ") {
        Some(rest) => [b"append ", rest].concat(),
        None => command,
    };
    let mut differs = |case: &Case| difference(case, &first.address(), &second.address(), faulty);
    let found = (SEED..SEED + 50).find_map(|seed| {
        let case = generate::case(seed);
        differs(&case).map(|_| shrink::shrink(case, &mut differs))
    });
    let case = found.expect("fifty cases show a wrong prepend");
    let has_prepend = |command: &Vec<u8>| command.starts_with(b"prepend ");
    assert!(case.commands.iter().any(has_prepend), "{case:?}");
    assert!(case.commands.len() <= 4, "not small: {case:?}");
}

fn two_memcached() -> Option<(Memcached, Memcached)> {
    Some((
        Memcached::start_or_skip(&QUIET)?,
        Memcached::start_or_skip(&QUIET)?,
    ))
}

/// Runs the case of a seed; a difference comes back shrunk and described.
fn first_difference(
    seed: u64,
    differs: &mut impl FnMut(&Case) -> Option<String>,
) -> Option<String> {
    report(seed, generate::case(seed), differs)
}

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
