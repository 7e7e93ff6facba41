//! The man page and the completions in contrib are generated from the table of
//! options. With `UPDATE_GENERATED=1` in the environment, the tests write them.

use std::fs;
use std::path::Path;

use clap_complete::Shell;
use clap_mangen::Man;

use crate::options::help;

/// Compares a file in contrib with what it must be, or writes it.
fn compare(name: &str, wanted: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib")
        .join(name);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, wanted).expect("writable");
    }
    let text = fs::read(&path).unwrap_or_default();
    assert!(
        text == wanted,
        "contrib/{name} is not up to date: run the tests with UPDATE_GENERATED=1"
    );
}

#[test]
fn the_man_page_is_up_to_date() {
    let about = "a cache server that speaks memcached's protocols";
    let man = Man::new(
        help::described()
            .about(about)
            .version(env!("CARGO_PKG_VERSION")),
    )
    .section("1")
    .date("")
    .manual("User Commands");
    let mut page = Vec::new();
    man.render(&mut page).expect("memory");
    compare("rustcached.1", &page);
}

#[test]
fn completions_are_up_to_date() {
    let shells = [
        (Shell::Bash, "completions/rustcached.bash"),
        (Shell::Zsh, "completions/_rustcached"),
        (Shell::Fish, "completions/rustcached.fish"),
    ];
    for (shell, name) in shells {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut help::described(), "rustcached", &mut text);
        compare(name, &text);
    }
}
