//! Checks that the rule tables name existing files and folders, and that the
//! architecture page shows the enforced layers.

use std::collections::BTreeSet;
use std::fs;

use crate::{
    BANNED, LAYERS, MAY_START_THREADS, MAY_WRITE_STREAMS, RESERVED, no_faults, root, sources,
};

#[test]
fn tables_name_what_exists() {
    let named = RESERVED.iter().flat_map(|reserved| reserved.places);
    let named = named.copied().chain(BANNED.iter().map(|rule| rule.place));
    let named = named.chain(MAY_WRITE_STREAMS).chain(MAY_START_THREADS);
    let base = root().join("src");
    let missing = named.filter(|place| !base.join(place).exists());
    let missing: Vec<String> = missing.map(|place| format!("src/{place}")).collect();
    no_faults(&missing);
}

#[test]
fn every_module_is_in_a_layer_and_every_layer_is_shown() {
    // The crate root belongs to no layer.
    let of_layer = |names: &[&str]| -> BTreeSet<String> {
        let names = names.iter().filter(|name| **name != "lib");
        names.map(|name| (*name).to_owned()).collect()
    };
    let sources = sources();
    let modules = sources.iter().map(|source| source.module().to_owned());
    let modules: BTreeSet<String> = modules.filter(|module| module != "lib").collect();
    assert_eq!(of_layer(&LAYERS.concat()), modules);

    let page = fs::read_to_string(root().join("src/lib.rs")).expect("a source file is text");
    let mut shown = Vec::new();
    for line in page.lines() {
        let mut cells = line
            .strip_prefix("//! |")
            .into_iter()
            .flat_map(|row| row.split('|'));
        let number = cells
            .next()
            .and_then(|cell| cell.trim().parse::<usize>().ok());
        if let (Some(number), Some(modules)) = (number, cells.next()) {
            let names = modules.split(',').map(|name| {
                name.trim_matches(|letter: char| !letter.is_alphanumeric())
                    .to_owned()
            });
            shown.push((number, names.collect::<BTreeSet<String>>()));
        }
    }
    let layers = LAYERS.iter().enumerate().rev();
    let wanted: Vec<_> = layers
        .map(|(number, names)| (number, of_layer(names)))
        .collect();
    assert_eq!(shown, wanted);
}
