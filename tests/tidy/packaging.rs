//! The packages: what they install exists, and what they say agrees with the program.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use rustcached::config::Config;
use rustcached::options::{self, Invocation};

/// Memory of a server without items and clients, in bytes.
const BASE_BYTES: usize = 24 << 20;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    let text = fs::read_to_string(root().join(name));
    text.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns whether a file of the tree matches a name whose last part may have `*`.
fn exists(name: &str) -> bool {
    let Some((folder, pattern)) = name.rsplit_once('/').filter(|(_, last)| last.contains('*'))
    else {
        return root().join(name).exists();
    };
    let (start, end) = pattern.split_once('*').expect("a pattern");
    let entries = fs::read_dir(root().join(folder)).expect("a folder");
    let mut names = entries.map(|entry| entry.expect("readable").file_name());
    names.any(|name| {
        let name = name.to_string_lossy();
        name.starts_with(start) && name.ends_with(end)
    })
}

#[test]
fn what_the_debian_package_installs_exists() {
    let manifest = read("Cargo.toml");
    let package = manifest.split("[package.metadata.deb]").nth(1);
    let package = package.and_then(|text| text.split("\n[").next());
    let lines = package.expect("a package").lines();
    let sources = lines.filter_map(|line| line.trim().strip_prefix("[\"")?.split('"').next());
    let sources: Vec<&str> = sources.collect();
    assert!(sources.len() > 5, "{sources:?}");
    for source in sources {
        let is_built = source == "target/release/rustcached";
        assert!(is_built || exists(source), "{source}");
    }
}

#[test]
fn the_debian_changelog_begins_with_this_version() {
    let changelog = read("contrib/debian/changelog");
    let first = format!("rustcached ({}-1) ", env!("CARGO_PKG_VERSION"));
    assert!(changelog.starts_with(&first), "{first}");
}

#[test]
fn the_image_has_the_program_alone_and_a_user_without_rights() {
    let text = read("contrib/container/Containerfile");
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    for from in lines().filter_map(|line| line.strip_prefix("FROM ")) {
        let image = from.split(' ').next().expect("an image");
        let tag = image.rsplit_once(':').map(|(_, tag)| tag);
        assert!(tag.is_some_and(|tag| tag != "latest"), "{image}");
    }
    let last = text.rfind("\nFROM ").expect("two stages");
    let last: Vec<&str> = text[last..].lines().collect();
    let user = last.iter().find_map(|line| line.strip_prefix("USER "));
    let id = user.and_then(|user| user.split(':').next()?.parse::<u32>().ok());
    assert!(id.is_some_and(|id| id > 0), "{user:?}");
    let copies = last.iter().filter(|line| line.starts_with("COPY "));
    let copies: Vec<&&str> = copies.collect();
    let program = "COPY --from=build /source/target/release/rustcached /usr/bin/rustcached";
    assert_eq!(copies, [&program]);
    for line in ["ENTRYPOINT [\"/usr/bin/rustcached\"]", "EXPOSE 11211"] {
        assert!(last.contains(&line), "{line}");
    }
    // The examples for Kubernetes name the same user.
    let values = read("contrib/kubernetes/values-bitnami.yaml");
    let id = id.unwrap_or_default();
    assert!(values.contains(&format!("runAsUser: {id}\n")));
}

#[test]
fn an_image_is_built_from_all_members_and_nothing_large() {
    let ignored = read(".dockerignore");
    let ignored: Vec<&str> = ignored.lines().collect();
    for large in [".git", "target"] {
        assert!(ignored.contains(&large), "{large}");
    }
    for needed in [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "benches",
        "tests",
        "LICENSE",
    ] {
        assert!(!ignored.contains(&needed), "{needed}");
        assert!(exists(needed), "{needed}");
    }
}

/// Returns the settings of the arguments in an example, a list of JSON.
fn settings(example: &str) -> Config {
    let list = example.split("\nargs: ").nth(1);
    let list = list.or_else(|| example.split(" args: ").nth(1));
    let list = list.and_then(|text| text.split_inclusive(']').next());
    let list: Vec<String> = serde_json::from_str(list.expect("arguments")).expect("a list");
    let args = ["rustcached".to_owned()].into_iter().chain(list);
    match options::parse(args.map(OsString::from), &|_| None, Path::new("")) {
        Ok(Invocation::Run(settings)) => settings.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pods_of_the_examples_have_enough_memory() {
    for name in ["rustcached.yaml", "values-bitnami.yaml"] {
        let example = read(&format!("contrib/kubernetes/{name}"));
        let config = settings(&example);
        assert!(!config.admin.listeners.is_empty(), "{name}: probes need it");
        let limit = example.split("limits: {memory: ").nth(1);
        let limit = limit.and_then(|text| text.split("Mi").next()?.parse::<usize>().ok());
        let needed = config.max_memory + config.client_memory_limit + BASE_BYTES;
        let limit = limit.expect("a limit") << 20;
        assert!(limit >= needed, "{name}: {limit} < {needed}");
    }
}
