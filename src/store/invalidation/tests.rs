//! Tests of invalidations, step by step and with several threads.

use std::sync::Barrier;
use std::thread;

use crate::config::Config;
use crate::limits::{KEY_MAX_BYTES, TAG_MAX_BYTES, TAGS_MAX};
use crate::store::item::layout::BIRTH_MAX;
use crate::store::{
    Access, BadName, Effect, ItemSpec, Local, Miss, Name, NewItem, Options, Store, Tags, Walk,
};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::time::Now;

const NOW: Now = Now::from_millis(10_000);

fn store() -> Store {
    Store::new(Options::from(&Config::default()))
}

/// What a test stores beside the key.
#[derive(Clone, Copy, Default)]
struct With<'a> {
    tags: &'a [&'a str],
    cas: Option<u64>,
    value: &'a str,
}

fn make(store: &Store, local: &mut Local, key: &str, with: With<'_>) -> NewItem {
    let tags: Tags = store.tags(with.tags.iter().map(|tag| tag.as_bytes()));
    let spec = ItemSpec {
        tags: Some(&tags),
        with_birth_field: with.cas.is_some(),
        ..ItemSpec::new(key.as_bytes(), with.value.len())
    };
    let key = store.hashed(key.as_bytes());
    let pieces = std::iter::once(with.value.as_bytes());
    store.new_filled(local, &key, &spec, NOW, pieces).unwrap()
}

fn set_with(store: &Store, local: &mut Local, key: &str, with: With<'_>) {
    let new = make(store, local, key, with);
    let key = store.hashed(key.as_bytes());
    store.edit(local, &key, NOW, |entry| {
        entry.put_born(new, store.draw(with.cas));
    });
}

fn set(store: &Store, local: &mut Local, key: &str) {
    set_with(store, local, key, With::default());
}

/// Returns the item's CAS value and whether it is stale.
fn get(store: &Store, local: &mut Local, key: &str) -> Result<(u64, bool), Miss> {
    let key = store.hashed(key.as_bytes());
    store.read_unlocked(local, &key, NOW, |item| {
        (Access::Counted, (item.cas(), item.is_stale()))
    })
}

fn lives(store: &Store, local: &mut Local, key: &str) -> bool {
    match get(store, local, key) {
        Ok(_) => true,
        Err(miss) => {
            assert!(matches!(miss, Miss::Invalidated | Miss::Absent));
            false
        }
    }
}

fn kill_prefix(store: &Store, local: &mut Local, prefix: &str) {
    let name = Name::Prefix(prefix.as_bytes());
    store.invalidate(local, name, Effect::Delete).unwrap();
}

fn kill_tag(store: &Store, local: &mut Local, tag: &str) {
    let name = Name::Tag(tag.as_bytes());
    store.invalidate(local, name, Effect::Delete).unwrap();
}

/// Sweeps all shards as upkeep does.
fn lap(store: &Store, local: &mut Local) {
    assert!(store.begin_lap());
    for shard in 0..store.shard_count() {
        store.sweep_shard(local, shard, NOW);
    }
    store.end_lap();
}

#[test]
fn a_prefix_takes_its_items_and_no_others() {
    let store = store();
    let mut local = store.local();
    let keys = [
        "a:", "a:b", "a:b:", "a:b:c", "a:c:d", "a", "b:a:b:", "ab:", ":",
    ];
    let long = format!("{}:", "k".repeat(KEY_MAX_BYTES - 1));
    for (prefix, dead) in [
        ("a:", &["a:", "a:b", "a:b:", "a:b:c", "a:c:d"][..]),
        ("a:b:", &["a:b:", "a:b:c"]),
        (":", &[":"]),
        ("ab:", &["ab:"]),
        ("nobody:", &[]),
        (&long, &[&long]),
    ] {
        keys.iter().for_each(|key| set(&store, &mut local, key));
        set(&store, &mut local, &long);
        kill_prefix(&store, &mut local, prefix);
        for key in keys.into_iter().chain([&long[..]]) {
            let want = !dead.contains(&key);
            assert_eq!(lives(&store, &mut local, key), want, "{prefix} {key}");
        }
        set(&store, &mut local, "a:b:c");
        assert!(lives(&store, &mut local, "a:b:c"), "stored afterwards");
    }
}

#[test]
fn a_tag_takes_its_items_and_no_others() {
    let store = store();
    let mut local = store.local();
    let many: Vec<String> = (0..TAGS_MAX).map(|tag| format!("tag-{tag}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for tag in ["tag-0", "tag-15", "other", "x", "key"] {
        for (key, tags) in [("key", &many[..]), ("x", &["x", "other"]), ("plain:x", &[])] {
            set_with(
                &store,
                &mut local,
                key,
                With {
                    tags,
                    value: "value",
                    ..With::default()
                },
            );
        }
        kill_tag(&store, &mut local, tag);
        assert_eq!(
            lives(&store, &mut local, "key"),
            !many.contains(&tag),
            "{tag}"
        );
        assert_eq!(
            lives(&store, &mut local, "x"),
            !["x", "other"].contains(&tag)
        );
        assert!(lives(&store, &mut local, "plain:x"));
    }
}

#[test]
fn names_are_checked() {
    let store = store();
    let mut local = store.local();
    let long = "k".repeat(KEY_MAX_BYTES) + ":";
    let tag = "t".repeat(TAG_MAX_BYTES + 1);
    for (name, error) in [
        (Name::Prefix(b""), BadName::Empty),
        (Name::Prefix(b"a"), BadName::NotDelimited),
        (Name::Prefix(b"a:b"), BadName::NotDelimited),
        (Name::Prefix(long.as_bytes()), BadName::TooLong),
        (Name::Tag(b""), BadName::Empty),
        (Name::Tag(tag.as_bytes()), BadName::TooLong),
        (Name::Tag(b"a,b"), BadName::Comma),
    ] {
        for effect in [Effect::Delete, Effect::MarkStale] {
            assert_eq!(store.invalidate(&mut local, name, effect), Err(error));
        }
    }
    assert!(!store.invalidation_state().is_outstanding);
    for name in [
        Name::Prefix(&long.as_bytes()[1..]),
        Name::Tag(&tag.as_bytes()[1..]),
    ] {
        assert_eq!(store.invalidate(&mut local, name, Effect::Delete), Ok(()));
    }
    let without = Store::new(Options {
        cas: false,
        ..Options::from(&Config::default())
    });
    let mut local = without.local();
    let refused = without.invalidate(&mut local, Name::Tag(b"t"), Effect::Delete);
    assert_eq!(refused, Err(BadName::NoBirths));
}

#[test]
fn cas_values_of_clients_are_no_births() {
    let store = store();
    let mut local = store.local();
    for cas in [1, 5, 1 << 40, u64::MAX] {
        let with = With {
            cas: Some(cas),
            ..With::default()
        };
        set_with(&store, &mut local, "a:b", with);
        assert_eq!(get(&store, &mut local, "a:b"), Ok((cas, false)));
        kill_prefix(&store, &mut local, "a:");
        assert!(!lives(&store, &mut local, "a:b"), "{cas}");
        set_with(&store, &mut local, "a:b", with);
        assert_eq!(
            get(&store, &mut local, "a:b"),
            Ok((cas, false)),
            "born later"
        );
    }
}

#[test]
fn copies_are_as_old_as_their_originals() {
    let store = store();
    let mut local = store.local();
    let key = store.hashed(b"a:b");
    for cas in [None, Some(u64::MAX)] {
        let with = With {
            cas,
            tags: &["t"],
            ..With::default()
        };
        set_with(&store, &mut local, "a:b", with);
        let copy = make(&store, &mut local, "a:b", with);
        store.edit(&mut local, &key, NOW, |entry| entry.put_copy(copy));
        assert!(lives(&store, &mut local, "a:b"));
        kill_tag(&store, &mut local, "t");
        let copy = make(&store, &mut local, "a:b", with);
        // The edit finds no item to copy.
        let found = store.edit(&mut local, &key, NOW, |entry| entry.item().is_some());
        assert!(!found);
        store.discard(&mut local, copy);
    }
}

#[test]
fn a_change_after_an_invalidation_finds_nothing() {
    let store = store();
    let mut local = store.local();
    let key = store.hashed(b"a:b");
    set(&store, &mut local, "a:b");
    let renewed = store.edit(&mut local, &key, NOW, |entry| {
        // Between the check of the edit and the draw.
        kill_prefix(&store, &mut store.local(), "a:");
        assert!(entry.item().is_some());
        (entry.renew(None), entry.item().is_some(), entry.miss())
    });
    assert_eq!(renewed, (None, false, Miss::Invalidated));
    assert_eq!(store.stats().snapshot().items, 0);
}

#[test]
fn dead_items_are_neither_shown_nor_evicted_as_live_ones() {
    let store = store();
    let mut local = store.local();
    for number in 0..1000 {
        set(&store, &mut local, &format!("a:{number}"));
        set(&store, &mut local, &format!("b:{number}"));
    }
    kill_prefix(&store, &mut local, "a:");
    let (mut walk, mut seen) = (Walk::default(), 0);
    while store.walk(&mut walk, NOW, |item| {
        assert!(item.key().starts_with(b"b:"));
        seen += 1;
    }) {}
    assert_eq!(seen, 1000);
    while store.evict(&mut local).is_some() {}
    let sum = store.stats().snapshot();
    assert_eq!((sum.evictions, sum.invalidated_items), (1000, 1000));
}

#[test]
fn a_lap_reclaims_memory_and_ends_the_checks() {
    let store = store();
    let mut local = store.local();
    assert!(!store.begin_lap(), "nothing is outstanding");
    let tagged = With {
        tags: &["t"],
        ..With::default()
    };
    for number in 0..2000 {
        set(&store, &mut local, &format!("a:{number}"));
        set(&store, &mut local, &format!("b:{number}"));
        set_with(&store, &mut local, &format!("{number}"), tagged);
    }
    kill_prefix(&store, &mut local, "a:");
    kill_tag(&store, &mut local, "t");
    let state = store.invalidation_state();
    assert!(state.is_outstanding && state.prefix_lengths == 1);
    assert_eq!(state.table_bytes, state.slots * 8);
    lap(&store, &mut local);
    let sum = store.stats().snapshot();
    assert_eq!((sum.items, sum.invalidated_items), (2000, 4000));
    let state = store.invalidation_state();
    assert!(!state.is_outstanding && state.prefix_lengths == 0);
    for key in ["a:1", "b:1", "1"] {
        set_with(&store, &mut local, key, tagged);
        assert!(lives(&store, &mut local, key), "{key}");
    }
    kill_prefix(&store, &mut local, "a:");
    assert!(!lives(&store, &mut local, "a:1") && lives(&store, &mut local, "b:1"));
}

#[test]
fn an_invalidation_during_a_lap_stays_outstanding() {
    let store = store();
    let mut local = store.local();
    set(&store, &mut local, "a:1");
    set(&store, &mut local, "bb:1");
    kill_prefix(&store, &mut local, "a:");
    assert!(store.begin_lap());
    for shard in 0..store.shard_count() {
        if shard == store.shard_count() - 1 {
            kill_prefix(&store, &mut local, "bb:");
        }
        store.sweep_shard(&mut local, shard, NOW);
    }
    store.end_lap();
    let state = store.invalidation_state();
    assert!(state.is_outstanding);
    assert_eq!(state.prefix_lengths, 1, "only that of the later one");
    assert!(!lives(&store, &mut local, "bb:1"));
    lap(&store, &mut local);
    assert!(!store.invalidation_state().is_outstanding);
    assert_eq!(store.stats().snapshot().items, 0);
}

#[test]
fn a_lazy_mark_is_that_of_md() {
    let store = store();
    let mut local = store.local();
    let tagged = With {
        tags: &["t"],
        ..With::default()
    };
    let given = With {
        cas: Some(u64::MAX),
        ..tagged
    };
    for with in [tagged, given] {
        set_with(&store, &mut local, "a:b", with);
        let (before, _) = get(&store, &mut local, "a:b").unwrap();
        for name in [Name::Prefix(b"a:"), Name::Tag(b"t")] {
            store
                .invalidate(&mut local, name, Effect::MarkStale)
                .unwrap();
            let (after, stale) = get(&store, &mut local, "a:b").unwrap();
            assert!(stale && after != before && after < u64::MAX);
            assert_eq!(get(&store, &mut local, "a:b"), Ok((after, true)), "once");
        }
        let key = store.hashed(b"a:b");
        // A client wins the token; the next invalidation lets another win.
        store.edit(&mut local, &key, NOW, |entry| entry.mark_token_sent());
        let name = Name::Tag(b"t");
        store
            .invalidate(&mut local, name, Effect::MarkStale)
            .unwrap();
        let sent = store.edit(&mut local, &key, NOW, |entry| {
            entry
                .item()
                .map(|item| (item.is_stale(), item.is_token_sent()))
        });
        assert_eq!(sent, Some((true, false)));
        set_with(&store, &mut local, "a:b", with);
        assert!(!get(&store, &mut local, "a:b").unwrap().1, "recached");
        store
            .invalidate(&mut local, name, Effect::MarkStale)
            .unwrap();
        kill_tag(&store, &mut local, "t");
        assert!(!lives(&store, &mut local, "a:b"));
    }
}

#[test]
fn a_lap_marks_what_nobody_looks_up() {
    let store = store();
    let mut local = store.local();
    (0..100).for_each(|number| set(&store, &mut local, &format!("a:{number}")));
    let name = Name::Prefix(b"a:");
    store
        .invalidate(&mut local, name, Effect::MarkStale)
        .unwrap();
    lap(&store, &mut local);
    assert!(!store.invalidation_state().is_outstanding);
    for number in 0..100 {
        let found = get(&store, &mut local, &format!("a:{number}"));
        assert!(found.is_ok_and(|(_, stale)| stale));
    }
    assert_eq!(store.stats().snapshot().invalidated_stale, 100);
}

/// Writers store a value and copy it again and again, while another thread
/// invalidates and sweeps. No value that was stored before an invalidation is
/// found after it, whatever its copies are.
#[test]
fn no_content_outlives_an_invalidation() {
    const ROUNDS: u64 = 300;
    const WRITERS: usize = 3;
    let store = &store();
    // A number from before the last invalidation that has returned.
    let floor = &AtomicU64::new(0);
    let ended = &AtomicBool::new(false);
    let begun = &Barrier::new(WRITERS + 1);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let mut local = store.local();
                let name = format!("a:{writer}");
                let key = store.hashed(name.as_bytes());
                let mut stored = 0;
                begun.wait();
                while !ended.load(Ordering::SeqCst) {
                    let before = floor.load(Ordering::SeqCst);
                    let found = get(store, &mut local, &name);
                    let mut new = Some(make(store, &mut local, &name, With::default()));
                    if let Ok((cas, _)) = found {
                        assert!(stored > before, "{stored} outlives {before}");
                        store.edit(&mut local, &key, NOW, |entry| {
                            if entry.item().is_some_and(|item| item.cas() == cas)
                                && let Some(birth) = entry.renew(None)
                                && let Some(new) = new.take()
                            {
                                entry.put_born(new, birth);
                            }
                        });
                    } else {
                        store.edit(&mut local, &key, NOW, |entry| {
                            let birth = store.draw(None);
                            entry.put_born(new.take().unwrap(), birth);
                            stored = birth.cas;
                        });
                    }
                    if let Some(unused) = new {
                        store.discard(&mut local, unused);
                    }
                }
            });
        }
        let mut local = store.local();
        begun.wait();
        for round in 1..=ROUNDS {
            let before = store.next_cas();
            kill_prefix(store, &mut local, "a:");
            floor.store(before, Ordering::SeqCst);
            if round % 3 == 0 {
                lap(store, &mut local);
            }
        }
        ended.store(true, Ordering::SeqCst);
    });
}

#[test]
fn an_item_that_cannot_hold_its_new_birth_is_dead_instead_of_stale() {
    let store = store();
    let mut local = store.local();
    let with = With {
        tags: &["t"],
        ..With::default()
    };
    set_with(&store, &mut local, "old", with);
    store.raise_cas(BIRTH_MAX);
    set_with(&store, &mut local, "new", with);
    store
        .invalidate(&mut local, Name::Tag(b"t"), Effect::MarkStale)
        .unwrap();
    assert_eq!(get(&store, &mut local, "old"), Err(Miss::Absent));
    let (cas, is_stale) = get(&store, &mut local, "new").unwrap();
    assert!(cas > BIRTH_MAX + 1 && is_stale);
}
