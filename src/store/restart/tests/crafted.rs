//! Tests of memory files whose checksums are right and whose contents are not.

use super::{Contents, LIMIT, NOW, TestFile, both, contents, fill, put, works};
use crate::stats::Restored;
use crate::store::restart::EmptyReason;
use crate::store::restart::craft::{Crafted, SuperblockField};
use crate::store::{ItemSpec, Local, Store};

/// Word of a segment when the server stops.
const SEGMENT: u32 = 0x4000_0001;
/// Upper half of the word of a linked item then.
const SEALED: u32 = 0xA000;
/// Offset of the link to the next segment in a chained head, and in a segment.
const HEAD_LINK: usize = 16;
/// Offset of the bytes in a chained head, and of its value length.
const HEAD_LEN: usize = 24;
const VALUE_LEN: usize = 28;
const SEGMENT_LINK: usize = 16;
const SEGMENT_HEADER: usize = 24;

/// Fills a store, stops, changes the file, and loads it.
fn reload(
    file: &TestFile,
    fill: impl FnOnce(&Store, &mut Local),
    change: impl FnOnce(&mut Crafted),
) -> (Store, Result<Restored, EmptyReason>) {
    let (store, _) = file.open();
    fill(&store, &mut store.local());
    file.stop(&store, NOW);
    drop(store);
    let mut crafted = Crafted::read(&file.path).unwrap();
    change(&mut crafted);
    crafted.write(&file.path, 0).unwrap();
    file.open()
}

/// Returns the places of the chunks whose word `wanted` accepts, as numbers of
/// page and chunk.
fn places(file: &mut Crafted, wanted: impl Fn(u32) -> bool) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    for page in 0..file.pages() {
        for number in 0..file.chunk_address(page, 0).0 {
            if wanted(number_at(file, (page, number), 0)) {
                places.push((page, number));
            }
        }
    }
    places
}

fn is_head(word: u32) -> bool {
    word >> 16 == SEALED
}

fn chunk(file: &mut Crafted, (page, number): (usize, usize)) -> &mut [u8] {
    file.chunk(page, number).unwrap()
}

fn number_at(file: &mut Crafted, place: (usize, usize), offset: usize) -> u32 {
    let bytes = chunk(file, place)[offset..].first_chunk();
    u32::from_le_bytes(*bytes.unwrap())
}

fn write(file: &mut Crafted, place: (usize, usize), offset: usize, bytes: &[u8]) {
    chunk(file, place)[offset..][..bytes.len()].copy_from_slice(bytes);
}

/// Stores an item of several chunks, and some small ones.
fn fill_few(store: &Store, local: &mut Local) {
    put(store, local, &ItemSpec::new(b"chained", 40_000));
    put(store, local, &ItemSpec::new(b"small", 5));
    put(store, local, &ItemSpec::new(b"other", 5));
}

/// Asserts that `change` costs the item `lost` and no other one.
fn costs(lost: &str, change: impl Fn(&mut Crafted)) {
    for file in both() {
        let (store, result) = reload(&file, fill_few, &change);
        assert_eq!(result.unwrap().dropped.damaged, 1);
        let left = contents(&store, NOW);
        assert_eq!((left.len(), left.get(lost.as_bytes())), (2, None));
        store.audit(&mut store.local());
        works(&store);
    }
}

/// Asserts that a file with this number in its superblock is damaged.
fn is_refused(field: SuperblockField, number: u64) {
    for file in both() {
        let change = |crafted: &mut Crafted| crafted.set_superblock(field, number);
        let (store, result) = reload(&file, fill_few, change);
        assert!(
            matches!(result, Err(EmptyReason::Damaged(_))),
            "{field:?}: {result:?}"
        );
        works(&store);
    }
}

#[test]
fn words_that_no_server_writes_free_their_chunks() {
    const WORDS: [u32; 7] = [
        0x8000_0001,
        0x5000_0001,
        0xD000_0001,
        0xFFFF_FFFF,
        0x2000_0000,
        0xA001_0000,
        1,
    ];
    for file in both() {
        let mut changed = 0;
        let change = |crafted: &mut Crafted| {
            for (index, place) in places(crafted, is_head).into_iter().enumerate() {
                if let Some(word) = WORDS.get(index % 50) {
                    write(crafted, place, 0, &word.to_le_bytes());
                    changed += 1;
                }
            }
        };
        let (store, result) = reload(&file, fill, change);
        assert!(result.unwrap().kept > 2000 && changed > 300);
        store.audit(&mut store.local());
        works(&store);
    }
}

#[test]
fn a_page_that_was_given_back_has_no_segments() {
    let file = TestFile::new(false);
    let fill = |store: &Store, local: &mut Local| {
        for number in 0..20 {
            let key = format!("a-{number:02}");
            put(store, local, &ItemSpec::new(key.as_bytes(), 4));
        }
        store.flush_all(local);
        put(store, local, &ItemSpec::new(b"page", 32_682));
        put(store, local, &ItemSpec::new(b"chained", 40_000));
    };
    let (flushed, page, chained) = ((0, 10), (1, 0), (2, 0));
    let change = |crafted: &mut Crafted| {
        // The page of flushed items is given back, and the next one is read to
        // its address. There, the chunk of a flushed item would be a part of a
        // value that looks like a segment.
        let offset = flushed.1 * 32;
        write(crafted, page, offset, &(SEGMENT - 1).to_le_bytes());
        write(crafted, page, offset + 4, &8_u32.to_le_bytes());
        write(crafted, page, offset + 8, &[0; 16]);
        write(crafted, page, offset + SEGMENT_HEADER, b"........");
        let (chunks, address) = crafted.chunk_address(flushed.0, flushed.1);
        assert!(chunks >= 20);
        write(crafted, chained, HEAD_LINK, &address.to_le_bytes());
        let here = number_at(crafted, chained, HEAD_LEN);
        write(crafted, chained, VALUE_LEN, &(here + 8).to_le_bytes());
    };
    let (store, result) = reload(&file, fill, change);
    let dropped = result.unwrap().dropped;
    assert_eq!((dropped.flushed, dropped.damaged), (20, 1));
    assert!(contents(&store, NOW).into_keys().eq([b"page".to_vec()]));
    store.audit(&mut store.local());
    works(&store);
}

#[test]
fn an_empty_segment_is_damaged() {
    costs("chained", |crafted| {
        let (head, segment) = ((0, 0), places(crafted, |word| word == SEGMENT)[0]);
        let len = number_at(crafted, segment, 4);
        let value_len = number_at(crafted, head, VALUE_LEN);
        assert_eq!(value_len, 40_000);
        write(crafted, segment, 4, &[0; 4]);
        write(crafted, head, VALUE_LEN, &(value_len - len).to_le_bytes());
    });
}

#[test]
fn a_chain_of_more_segments_than_any_server_makes_is_damaged() {
    const SEGMENTS: usize = 3000;
    const DATA: u32 = 8;
    for file in both() {
        let fill = |store: &Store, local: &mut Local| {
            put(store, local, &ItemSpec::new(b"chained", 40_000));
            for number in 0..SEGMENTS {
                let key = format!("{number:04}");
                put(store, local, &ItemSpec::new(key.as_bytes(), 4));
            }
        };
        let change = |crafted: &mut Crafted| {
            let mut previous = ((0, 0), HEAD_LINK);
            let small = places(crafted, is_head);
            for place in small.into_iter().filter(|place| *place != (0, 0)) {
                write(crafted, place, 0, &SEGMENT.to_le_bytes());
                write(crafted, place, 4, &DATA.to_le_bytes());
                write(crafted, place, SEGMENT_LINK, &[0; 8]);
                write(crafted, place, SEGMENT_HEADER, b"........");
                let (_, address) = crafted.chunk_address(place.0, place.1);
                write(crafted, previous.0, previous.1, &address.to_le_bytes());
                previous = (place, SEGMENT_LINK);
            }
            let here = number_at(crafted, (0, 0), HEAD_LEN);
            let len = here + SEGMENTS as u32 * DATA;
            write(crafted, (0, 0), VALUE_LEN, &len.to_le_bytes());
        };
        let (store, result) = reload(&file, fill, change);
        assert_eq!(result.unwrap().dropped.damaged, 1);
        assert_eq!(contents(&store, NOW), Contents::new());
        works(&store);
    }
}

#[test]
fn numbers_without_room_to_count_on_are_refused() {
    is_refused(SuperblockField::Cas, u64::MAX);
    is_refused(SuperblockField::Items, 4);
    is_refused(SuperblockField::Items, u64::MAX);
    is_refused(SuperblockField::Pages, u64::MAX >> 5);
}

#[test]
fn a_generation_and_a_policy_clock_have_no_end() {
    for file in both() {
        let change = |crafted: &mut Crafted| {
            crafted.set_superblock(SuperblockField::Generation, u64::MAX - 255);
            crafted.set_superblock(SuperblockField::Clock, u64::MAX);
        };
        let (store, result) = reload(&file, fill_few, change);
        assert_eq!(result.unwrap().kept, 3);
        let mut local = store.local();
        store.measure_pace(NOW);
        store.set_memory_limit(LIMIT / 32);
        for number in 0..3000 {
            let key = format!("new-{number}");
            put(&store, &mut local, &ItemSpec::new(key.as_bytes(), 1000));
        }
        store.measure_pace(crate::time::Now::from_millis(NOW.millis() + 2000));
        for _ in 0..300 {
            store.flush_all(&mut local);
        }
        assert_eq!(contents(&store, NOW), Contents::new());
        store.audit(&mut local);
    }
}

#[test]
fn a_clock_that_would_end_is_not_resumed() {
    const YEARS_9: u64 = 9 * 365 * 24 * 3600;
    for file in both() {
        file.filled();
        let (store, result) = file.open_with(LIMIT, YEARS_9, None);
        assert!(matches!(result, Err(EmptyReason::ClockEnds)), "{result:?}");
        works(&store);
    }
}
