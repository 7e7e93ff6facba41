//! Imports between the files of a crate never form a circle. A `mod.rs` that
//! re-exports what its files define may therefore not be imported by them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Source, is_word, no_faults, sources_in};

/// The crates that are checked: the library and the load generator.
const CRATES: [&str; 2] = ["src", "benches/rustcached-bench/src"];

/// A module's path below the crate, such as `["store", "index", "map"]`.
type Module = Vec<String>;

#[test]
fn no_imports_form_a_circle() {
    let faults: Vec<String> = CRATES.iter().flat_map(|folder| circles(folder)).collect();
    no_faults(&faults);
}

/// Returns a line for each import that is part of a circle.
fn circles(folder: &str) -> Vec<String> {
    let sources = sources_in(folder);
    let modules: BTreeSet<Module> = sources.iter().map(module_of).collect();
    let imports: BTreeMap<Module, BTreeSet<Module>> = sources
        .iter()
        .map(|source| (module_of(source), imported(source, &modules)))
        .collect();
    let in_circle = |from: &Module, to: &Module| reaches(&imports, to, from);
    let mut faults = Vec::new();
    for (from, targets) in &imports {
        for to in targets.iter().filter(|to| in_circle(from, to)) {
            let (from, to) = (from.join("::"), to.join("::"));
            faults.push(format!(
                "{folder}: {from} imports {to}, which leads back to it"
            ));
        }
    }
    faults
}

fn module_of(source: &Source) -> Module {
    let path = source.path.trim_end_matches(".rs");
    let mut names: Module = path.split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|name| name == "mod") {
        names.pop();
    }
    names
}

/// Returns the modules that a file imports from, except its own module.
fn imported(source: &Source, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let own = module_of(source);
    let code = without_visibility(&source.code());
    paths(&code)
        .iter()
        .filter_map(|path| resolve(path, &own, modules))
        .filter(|module| *module != own)
        .collect()
}

/// Removes `pub(in path)`, whose path is not an import.
fn without_visibility(code: &str) -> String {
    let mut parts = code.split("pub(in ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once(')').map_or(part, |(_, rest)| rest)
    })
}

/// Returns all paths that begin with `crate`, `super` or `self`, with `use`
/// groups expanded.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            // Preceded by these, the match is the middle of a longer path.
            if !before.is_some_and(|letter| letter == ':' || letter == '$' || is_word(letter)) {
                found.extend(expand(&code[at..]));
            }
        }
    }
    found
}

/// Returns the paths at the start of `text`: a single path, or the members of
/// a `use` group.
fn expand(text: &str) -> Vec<String> {
    let len = text
        .find(|letter| !is_word(letter) && letter != ':')
        .unwrap_or(text.len());
    let (prefix, rest) = text.split_at(len);
    match rest.strip_prefix('{') {
        Some(group) if prefix.ends_with("::") => members(group)
            .iter()
            .flat_map(|member| expand(member))
            .map(|path| format!("{prefix}{path}"))
            .collect(),
        _ => vec![prefix.to_owned()],
    }
}

/// Returns the members of a group. `group` begins after its opening brace.
fn members(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut all = vec![String::new()];
    for letter in group.chars().filter(|letter| !letter.is_whitespace()) {
        match letter {
            '}' if depth == 0 => break,
            ',' if depth == 0 => all.push(String::new()),
            _ => {
                depth += i32::from(letter == '{') - i32::from(letter == '}');
                all.last_mut().expect("one at least").push(letter);
            }
        }
    }
    all.retain(|member| !member.is_empty());
    all
}

/// Returns the innermost module on a path, `None` if there is none.
fn resolve(path: &str, own: &Module, modules: &BTreeSet<Module>) -> Option<Module> {
    let mut base = own.clone();
    let mut names = Vec::new();
    for name in path.split("::").filter(|name| !name.is_empty()) {
        match name {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            "self" => {}
            _ => names.push(name.to_owned()),
        }
    }
    base.extend(names);
    while !base.is_empty() && !modules.contains(&base) {
        base.pop();
    }
    (!base.is_empty()).then_some(base)
}

fn reaches(imports: &BTreeMap<Module, BTreeSet<Module>>, from: &Module, to: &Module) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            open.extend(imports.get(module).into_iter().flatten());
        }
    }
    false
}

#[test]
fn paths_are_found_and_resolved() {
    let code = "use crate::store::{Item, index::{map::Map, walk}};\n\
        use super::batch::Step;\nlet x = crate::limits::MAX;";
    assert_eq!(
        paths(code),
        [
            "crate::store::Item",
            "crate::store::index::map::Map",
            "crate::store::index::walk",
            "crate::limits::MAX",
            "super::batch::Step",
        ]
    );
    let module = |path: &str| path.split("::").map(str::to_owned).collect::<Module>();
    let known = [
        "store",
        "store::index",
        "store::index::map",
        "server::batch",
    ]
    .map(module);
    let modules = BTreeSet::from(known);
    let resolved = |path: &str| resolve(path, &module("server::serve"), &modules);
    let map = Some(module("store::index::map"));
    assert_eq!(resolved("crate::store::index::map::Map"), map);
    assert_eq!(resolved("crate::store::Item"), Some(module("store")));
    assert_eq!(
        resolved("super::batch::Step"),
        Some(module("server::batch"))
    );
    assert_eq!(resolved("crate::limits::MAX"), None);
    assert_eq!(without_visibility("pub(in crate::store) fn f()"), " fn f()");
}
