//! Style that a program can check: dependencies between layers, file sizes,
//! banned calls and unused files. The tables below are the rules. A change of
//! the design changes them first.

mod circles;
mod packaging;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of each layer, lowest first. An import refers to a lower layer
/// or to the same module.
const LAYERS: [&[&str]; 8] = [
    &["limits", "sync"],
    &["config", "files", "time"],
    &[
        "options", "protocol", "stats", "events", "auth", "tls", "cluster", "logging",
    ],
    &["store", "shared", "supervise"],
    &["command", "upkeep"],
    &["admin"],
    &["server", "process"],
    &["main", "lib"],
];

/// Maximum length of a file, in lines.
const LINES_MAX: usize = 600;

/// A word, and the only places where it may occur. Folders end with a slash.
struct Reserved {
    word: &'static str,
    places: &'static [&'static str],
    why: &'static str,
}

const RESERVED: [Reserved; 9] = [
    Reserved {
        word: "unsafe",
        places: &["store/"],
        why: "unsafe code is fenced into few files",
    },
    Reserved {
        word: "std::net",
        places: &[
            "server/",
            "config.rs",
            "options/",
            "events/",
            "stats/conns.rs",
            "admin/mod.rs",
            "cluster.rs",
            "protocol/proxy.rs",
        ],
        why: "sockets belong to the server",
    },
    Reserved {
        word: "mio",
        places: &["server/"],
        why: "the event loop belongs to the server",
    },
    Reserved {
        word: "socket2",
        places: &["server/"],
        why: "sockets belong to the server",
    },
    Reserved {
        word: "dashmap",
        places: &["store/index/map.rs"],
        why: "one file names the map",
    },
    Reserved {
        word: "ahash",
        places: &["store/index/map.rs"],
        why: "one file names the hash",
    },
    Reserved {
        word: "hashbrown",
        places: &["store/index/map.rs"],
        why: "one file names the table",
    },
    Reserved {
        word: "clap",
        places: &["options/"],
        why: "the command line is data elsewhere",
    },
    Reserved {
        word: "SystemTime",
        places: &["time.rs", "sync.rs", "server/"],
        why: "time comes in as an argument",
    },
];

/// Text that no file of a place may contain.
struct Banned {
    text: &'static str,
    place: &'static str,
    why: &'static str,
}

const BANNED: [Banned; 5] = [
    Banned {
        text: "::encode",
        place: "command/ops/",
        why: "operations return outcomes, which handlers encode",
    },
    Banned {
        text: ".unwrap()",
        place: "protocol/",
        why: "no panic is reachable from the network",
    },
    Banned {
        text: "panic!(",
        place: "protocol/",
        why: "no panic is reachable from the network",
    },
    Banned {
        text: "process::exit",
        place: "store/",
        why: "only main and the supervisor end the process",
    },
    Banned {
        text: "process::exit",
        place: "server/",
        why: "only main and the supervisor end the process",
    },
];

/// Files that may write to standard streams. No file may use the print macros,
/// which block while the reader is slow and panic after it has gone.
const MAY_WRITE_STREAMS: [&str; 2] = ["logging/", "main.rs"];

/// A source file, with its path below the crate's `src/` and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Returns the top-level module of the file.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.trim_end_matches(".rs")
    }

    /// Returns the text without comments and without the unit tests at its end.
    fn code(&self) -> String {
        let tests = self.text.find("#[cfg(test)]\nmod tests {");
        let lines = self.text[..tests.unwrap_or(self.text.len())].lines();
        lines.map(without_comment).collect::<Vec<_>>().join("\n")
    }
}

fn without_comment(line: &str) -> &str {
    let trimmed = line.trim_start();
    if trimmed.starts_with("//") {
        return "";
    }
    line.find(" // ").map_or(line, |at| &line[..at])
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the source files of the library.
fn sources() -> Vec<Source> {
    sources_in("src")
}

fn sources_in(folder: &str) -> Vec<Source> {
    let base = root().join(folder);
    let read = |path: PathBuf| Source {
        text: fs::read_to_string(&path).expect("a source file is text"),
        path: name_below(&path, &base),
    };
    rust_files(&base).into_iter().map(read).collect()
}

fn name_below(path: &Path, base: &Path) -> String {
    let below = path
        .strip_prefix(base)
        .expect("the file is below its folder");
    below.to_str().expect("paths are plain").replace('\\', "/")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).expect("the folder can be listed");
    for entry in entries {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Panics with the list of faults unless it is empty.
fn no_faults(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn imports_point_downward() {
    let layers: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(layer, modules)| modules.iter().map(move |module| (*module, layer)))
        .collect();
    let mut faults = Vec::new();
    for source in sources() {
        let Some(&from) = layers.get(source.module()) else {
            faults.push(format!("{}: its module is in no layer", source.path));
            continue;
        };
        for target in crate_paths(&source.code()) {
            let below = layers.get(target.as_str()).is_some_and(|&to| to < from);
            if !below && target != source.module() {
                faults.push(format!("{}: crate::{target} is not below it", source.path));
            }
        }
    }
    no_faults(&faults);
}

/// Returns the modules named after `crate::` or `rustcached::`, also in braces.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for prefix in ["crate::", "rustcached::"] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|letter| letter == '$' || is_word(letter)) {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(group) => found.extend(names_in_group(group)),
                None => found.extend(first_word(rest)),
            }
        }
    }
    found
}

/// Returns the first path segment of each member of a `use` group, without
/// nested members.
fn names_in_group(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut member = String::new();
    let mut names = Vec::new();
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.extend(first_word(member.trim()));
                member.clear();
            }
            _ if depth == 0 => member.push(letter),
            _ => {}
        }
    }
    names.extend(first_word(member.trim()));
    names
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|letter| is_word(*letter)).collect();
    let is_module = word.starts_with(|letter: char| letter.is_ascii_lowercase());
    is_module.then_some(word)
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

#[test]
fn crate_paths_are_found() {
    let code = "use crate::{config::Config, store::{Item, map}};\nlet x = crate::limits::MAX;\n\
        use rustcached::options;\n$crate::ignored::x; crate::Name";
    let found: Vec<String> = crate_paths(code).into_iter().collect();
    assert_eq!(found, ["config", "limits", "options", "store"]);
}

#[test]
fn files_are_short() {
    let mut faults = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for path in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&path).expect("a source file is text");
            let lines = text.lines().count();
            if lines > LINES_MAX {
                faults.push(format!("{}: {lines} lines", name_below(&path, &root())));
            }
        }
    }
    no_faults(&faults);
}

#[test]
fn words_stay_in_their_places() {
    let mut faults = Vec::new();
    for source in sources() {
        let code = source.code();
        for reserved in &RESERVED {
            let permitted = reserved
                .places
                .iter()
                .any(|place| is_at(&source.path, place));
            if !permitted && has_word(&code, reserved.word) {
                faults.push(format!(
                    "{}: {} ({})",
                    source.path, reserved.word, reserved.why
                ));
            }
        }
    }
    no_faults(&faults);
}

/// Returns whether a path is in a place: below a folder (ends with a slash) or
/// equal to a file.
fn is_at(path: &str, place: &str) -> bool {
    if place.ends_with('/') {
        path.starts_with(place)
    } else {
        path == place
    }
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[test]
fn banned_calls_are_absent() {
    let mut faults = Vec::new();
    for source in sources() {
        let code = source.code();
        for banned in &BANNED {
            if source.path.starts_with(banned.place) && code.contains(banned.text) {
                faults.push(format!("{}: {} ({})", source.path, banned.text, banned.why));
            }
        }
    }
    no_faults(&faults);
}

#[test]
fn serving_threads_do_not_print() {
    let mut faults = Vec::new();
    for source in sources() {
        let code = source.code();
        let may_write = MAY_WRITE_STREAMS
            .iter()
            .any(|place| is_at(&source.path, place));
        let streams = STREAMS.iter().filter(|_| !may_write);
        let found = PRINTING.iter().chain(streams);
        let found = found.filter(|text| code.contains(**text));
        faults.extend(found.map(|text| format!("{}: {text} (use the log)", source.path)));
    }
    no_faults(&faults);
}

/// Files that may start a thread without supervision: the supervisor itself,
/// the direct log writer, which must not block its caller, and unit tests.
const MAY_START_THREADS: [&str; 9] = [
    "supervise.rs",
    "logging/direct.rs",
    "store/invalidation/order.rs",
    "store/invalidation/tests.rs",
    "store/item/refs.rs",
    "store/index/bucket.rs",
    "store/reclaim/epoch.rs",
    "store/restart/tests.rs",
    "store/tests/",
];

#[test]
fn threads_are_supervised() {
    let mut faults = Vec::new();
    for source in sources() {
        let code = source.code();
        let exempt = MAY_START_THREADS
            .iter()
            .any(|place| is_at(&source.path, place));
        for start in ["thread::spawn", "thread::Builder", "thread::scope"] {
            if !exempt && code.contains(start) {
                faults.push(format!("{}: {start} (supervise::spawn)", source.path));
            }
        }
    }
    no_faults(&faults);
    let main = fs::read_to_string(root().join("src/main.rs")).expect("a source file is text");
    assert!(main.contains("supervise::this_thread();"));
}

/// These words also match within `eprint!` and `eprintln!`.
const PRINTING: [&str; 3] = ["print!", "println!", "dbg!"];
const STREAMS: [&str; 2] = ["stdout()", "stderr()"];

#[test]
fn imports_name_what_they_bring() {
    let mut faults = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for path in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&path).expect("a source file is text");
            for (number, line) in text.lines().enumerate() {
                let line = line.trim();
                let is_use = line.starts_with("use ") || line.starts_with("pub use ");
                if is_use && line.ends_with("::*;") {
                    let name = name_below(&path, &root());
                    faults.push(format!("{name}:{}: {line}", number + 1));
                }
            }
        }
    }
    no_faults(&faults);
}

#[test]
fn tests_wait_for_conditions() {
    // Assembled from parts, or this file would match.
    let sleep = ["thread::", "sleep("].concat();
    let mut faults = Vec::new();
    for path in rust_files(&root().join("tests")) {
        let name = name_below(&path, &root());
        let text = fs::read_to_string(&path).expect("a source file is text");
        if text.contains(&sleep) && !name.starts_with("tests/support/") {
            faults.push(format!("{name}: a sleep; wait for a condition instead"));
        }
    }
    no_faults(&faults);
}

#[test]
fn every_source_file_is_part_of_the_program() {
    let base = root().join("src");
    let mut reached = BTreeSet::new();
    let mut open = vec![base.join("lib.rs"), base.join("main.rs")];
    while let Some(path) = open.pop() {
        if !path.is_file() || !reached.insert(path.clone()) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source file is text");
        let folder = folder_of_children(&path);
        for module in declared_modules(&text) {
            open.push(folder.join(format!("{module}.rs")));
            open.push(folder.join(&module).join("mod.rs"));
        }
        open.extend(included_files(&text, &path));
    }
    let dead: Vec<String> = rust_files(&base)
        .into_iter()
        .filter(|path| !reached.contains(path))
        .map(|path| format!("{}: no module declares it", name_below(&path, &base)))
        .collect();
    no_faults(&dead);
}

/// Returns the folder of the modules that a file declares.
fn folder_of_children(path: &Path) -> PathBuf {
    let parent = path.parent().expect("a file has a folder");
    let stem = path.file_stem().expect("a file has a name");
    if ["mod", "lib", "main"].iter().any(|name| stem == *name) {
        parent.to_owned()
    } else {
        parent.join(stem)
    }
}

fn declared_modules(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let declaration = line.trim().strip_suffix(';')?;
            let (before, name) = declaration.rsplit_once("mod ")?;
            let visible = before.is_empty() || before.starts_with("pub");
            (visible && name.chars().all(is_word)).then(|| name.to_owned())
        })
        .collect()
}

/// Returns the files named by `#[path = "…"]` attributes.
fn included_files(text: &str, path: &Path) -> Vec<PathBuf> {
    let folder = path.parent().expect("a file has a folder");
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]"))
        .map(|name| folder.join(name))
        .collect()
}

#[test]
fn every_module_says_what_it_is() {
    let mut faults = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//!") {
            faults.push(format!(
                "{}: it does not begin with its documentation",
                source.path
            ));
        }
    }
    no_faults(&faults);
}

#[test]
fn the_readme_says_how_to_run_and_to_test() {
    let text = fs::read_to_string(root().join("README.md")).expect("there is a README.md");
    for command in ["cargo run --release", "cargo test"] {
        assert!(
            text.contains(command),
            "README.md does not mention `{command}`"
        );
    }
}
