//! The texts of `-h`, `-V` and `-i`.

use super::{printed, same};
use crate::options::flags::FLAGS;
use crate::options::groups::GROUPS;
use crate::options::row::Effect;
use crate::options::words::WORDS;

#[test]
fn the_long_help_has_all_options_and_nothing_else() {
    let help = printed(&["--help", "all"]);
    let mut lines = help.lines();
    assert_eq!(
        lines.next(),
        Some(concat!("rustcached ", env!("CARGO_PKG_VERSION")))
    );
    assert!(
        lines
            .next()
            .is_some_and(|line| line.contains("memcached 1.6.45"))
    );
    for flag in FLAGS {
        let short = flag
            .short
            .map_or(String::new(), |short| format!("-{short}, "));
        let shown = help.contains(&format!("{short}--{}", flag.name));
        let there = !matches!(flag.effect, Effect::Unavailable(_));
        assert_eq!(shown, there, "{}", flag.name);
    }
    for word in WORDS {
        let there = !matches!(word.effect, Effect::Unavailable(_));
        let shown = help
            .split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
            .any(|shown| shown == word.name);
        assert_eq!(shown, there, "{}", word.name);
    }
    for default in [
        "11211)", "64)", "1024)", "1m)", "20)", "4)", "700)", "1.25)", "48)",
    ] {
        assert!(help.contains(default), "{default}");
    }
    for spelling in [&["-h", "all"][..], &["--help", "-t", "0", "all"]] {
        same(&["--help", "all"], spelling);
    }
}

#[test]
fn the_short_help_fits_on_a_screen_and_names_what_scripts_search_for() {
    let help = printed(&["-h"]);
    assert!(help.lines().count() <= 60, "{help}");
    // The first line names the server and its version, as memcached's does.
    let first = concat!("rustcached ", env!("CARGO_PKG_VERSION"), "\n");
    assert!(help.starts_with(first));
    // Of memcached's own tests (t/lib/MemcachedTest.pm), which look for features.
    for wanted in [
        "SASL",
        "--enable-ssl",
        "--unix-socket",
        "no_drop_privileges",
    ] {
        assert!(help.contains(wanted), "{wanted}");
    }
    assert!(help.contains("--help all"));
    for spelling in [&["--help", "-t", "0"][..], &["-hv"], &["-h", "memory"]] {
        same(&["-h"], spelling);
    }
}

#[test]
fn no_help_text_names_what_is_missing_or_is_too_wide() {
    for help in [printed(&["-h"]), printed(&["-h", "all"])] {
        let lower = help.to_lowercase();
        for absent in ["ext_path", "proxy_", "[proxy]", "flash"] {
            assert!(!lower.contains(absent), "{absent}");
        }
        for line in help.lines() {
            assert!(line.len() <= 80, "{line:?}");
        }
    }
}

#[test]
fn every_option_with_a_text_is_in_one_group() {
    let listed = || GROUPS.iter().flat_map(|group| group.options);
    let rows = || FLAGS.iter().chain(WORDS);
    for row in rows().filter(|row| !row.help.is_empty()) {
        let times = listed().filter(|listed| listed.name == row.name).count();
        assert_eq!(times, 1, "{} in the groups of the help text", row.name);
    }
    for listed in listed() {
        let is_there = rows().any(|row| row.name == listed.name && !row.help.is_empty());
        assert!(is_there, "{}", listed.name);
    }
}

#[test]
fn version_and_licence_are_printed() {
    let version = concat!(
        "rustcached ",
        env!("CARGO_PKG_VERSION"),
        " (memcached 1.6.45)\n"
    );
    assert_eq!(printed(&["-V"]), version);
    assert_eq!(printed(&["--version"]), version);
    assert!(printed(&["-i"]).contains("MIT License"));
}
