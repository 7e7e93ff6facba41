//! The texts of `-h`, `-V` and `-i`.

use super::{printed, same};
use crate::options::flags::FLAGS;
use crate::options::row::Effect;
use crate::options::words::WORDS;

#[test]
fn help_tells_what_there_is_and_nothing_else() {
    let help = printed(&["-h"]);
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
    let lower = help.to_lowercase();
    for absent in ["ext_path", "proxy", "flash"] {
        assert!(!lower.contains(absent), "{absent}");
    }
    for default in [
        "11211]", "64]", "1024]", "1m]", "20]", "4]", "700]", "1.25]", "48]",
    ] {
        assert!(help.contains(default), "{default}");
    }
    assert!(help.lines().all(|line| line.len() <= 100));
    same(&["-h"], &["--help", "-t", "0"]);
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
