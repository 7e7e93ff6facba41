//! Tests of invalidations over a restart: what was invalidated does not come
//! back, and tags keep their meaning.

use std::collections::BTreeSet;

use super::{Contents, NOW, TAGS, both, contents, fill, put, works};
use crate::store::restart::EmptyReason;
use crate::store::restart::craft::{Crafted, SuperblockField};
use crate::store::{Effect, ItemSpec, Local, Name, Store};

fn invalidate(store: &Store, local: &mut Local, tag: &[u8], effect: Effect) {
    let done = store.invalidate(local, Name::Tag(tag), effect);
    assert_eq!(done, Ok(()));
}

/// Returns whether an item of the test's contents has the tag.
fn has_tag(store: &Store, contents: &Contents, key: &[u8], tag: &[u8]) -> bool {
    let tags = contents[key].tags;
    tags.union(&store.tags(std::iter::once(tag))) == Some(tags)
}

#[test]
fn what_was_invalidated_does_not_come_back() {
    for file in both() {
        let (store, _) = file.open();
        let mut local = store.local();
        fill(&store, &mut local);
        let all = contents(&store, NOW);
        invalidate(&store, &mut local, TAGS[2], Effect::Delete);
        invalidate(&store, &mut local, TAGS[0], Effect::MarkStale);
        let with = |tag| -> BTreeSet<Vec<u8>> {
            let keys = all.keys().filter(|key| has_tag(&store, &all, key, tag));
            keys.cloned().collect()
        };
        let (dead, stale) = (with(TAGS[2]), with(TAGS[0]));
        let live = all.len() - dead.len();
        assert!(live > 1000 && live < all.len() - 1000);
        file.stop(&store, NOW);
        drop(store);
        let (next, result) = file.open();
        let restored = result.unwrap();
        assert_eq!((restored.kept, restored.dropped.total()), (live as u64, 0));
        assert!(!next.invalidation_state().is_outstanding);
        for (key, seen) in contents(&next, NOW) {
            assert!(!dead.contains(&key));
            let [_, is_stale, is_token_sent, _] = seen.bits;
            if stale.contains(&key) {
                assert!(is_stale && !is_token_sent && seen.cas > all[&key].cas);
            } else {
                assert_eq!(seen, all[&key]);
            }
        }
        next.audit(&mut next.local());
        works(&next);
    }
}

#[test]
fn tags_and_births_keep_their_meaning() {
    for file in both() {
        let before = file.filled();
        let (store, result) = file.open();
        assert_eq!(result.unwrap().kept, before.len() as u64);
        let mut local = store.local();
        for tag in [TAGS[4], TAGS[1]] {
            invalidate(&store, &mut local, tag, Effect::Delete);
            let left = contents(&store, NOW);
            for key in before.keys() {
                let is_dead = has_tag(&store, &before, key, tag);
                assert!(!is_dead || !left.contains_key(key));
            }
            assert!(left.len() > 500);
        }
        let untagged = before.values().filter(|seen| seen.tags.count() < 2).count();
        assert_eq!(contents(&store, NOW).len(), untagged);
    }
}

#[test]
fn items_that_invalidations_could_not_find_are_damaged() {
    // A birth later than any that was given; tags that do not fit.
    for (offset, bytes) in [
        (32, &[0xFF; 8][..]),
        (18, &[0x80 | 0x1F]),
        (18, &[0x40]),
        (18, &[0]),
    ] {
        for file in both() {
            let (store, _) = file.open();
            let mut local = store.local();
            let spec = ItemSpec {
                with_birth_field: true,
                ..ItemSpec::new(b"broken", 100)
            };
            put(&store, &mut local, &spec);
            put(&store, &mut local, &ItemSpec::new(b"whole", 100));
            file.stop(&store, NOW);
            drop(store);
            let mut crafted = Crafted::read(&file.path).unwrap();
            let mut changed = 0;
            for page in 0..crafted.pages() {
                for number in 0..crafted.chunk_address(page, 0).0 {
                    let chunk = crafted.chunk(page, number).unwrap();
                    if chunk.windows(6).any(|key| key == b"broken") {
                        chunk[offset..][..bytes.len()].copy_from_slice(bytes);
                        changed += 1;
                    }
                }
            }
            assert_eq!(changed, 1);
            crafted.write(&file.path, 0).unwrap();
            let (store, result) = file.open();
            let restored = result.unwrap();
            assert_eq!(
                (restored.kept, restored.dropped.damaged),
                (1, 1),
                "{bytes:?}"
            );
            works(&store);
        }
    }
}

#[test]
fn the_seed_of_tags_is_kept() {
    let [file, _] = both();
    file.filled();
    let mut crafted = Crafted::read(&file.path).unwrap();
    let seed = crafted.superblock(SuperblockField::NameSeed);
    crafted.set_superblock(SuperblockField::NameSeed, seed ^ 1);
    crafted.write(&file.path, 0).unwrap();
    let (store, result) = file.open();
    assert!(result.is_ok());
    file.stop(&store, NOW);
    let crafted = Crafted::read(&file.path).unwrap();
    assert_eq!(crafted.superblock(SuperblockField::NameSeed), seed ^ 1);
}

#[test]
fn a_file_of_the_last_version_is_refused() {
    use std::os::unix::fs::FileExt;
    for file in both() {
        file.filled();
        let opened = std::fs::OpenOptions::new().write(true).open(&file.path);
        opened
            .unwrap()
            .write_all_at(&1u32.to_le_bytes(), 8)
            .unwrap();
        let (_, result) = file.open();
        assert!(matches!(result, Err(EmptyReason::Version(1))), "{result:?}");
    }
}
