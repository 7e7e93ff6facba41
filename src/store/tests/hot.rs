//! Tests of hot items: a thread finds out which keys are hot, and never returns
//! a held item that is no longer current.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Bench, NOW};
use crate::store::evict::policy::Stamp;
use crate::store::{Access, ItemSpec, Local, Miss, Store};
use crate::time::{Expiry, Now};

/// Number of look-ups after which a key is hot if it is the only one looked up.
const ENOUGH: usize = 1000;

fn read(store: &Store, local: &mut Local, key: usize, now: Now) -> Result<Vec<u8>, Miss> {
    let name = key.to_string();
    store.read_often(local, &store.hashed(name.as_bytes()), now, |item| {
        (Access::Counted, item.pieces().flatten().copied().collect())
    })
}

fn write(store: &Store, local: &mut Local, key: usize, value: &[u8]) {
    let name = key.to_string();
    let hashed = store.hashed(name.as_bytes());
    let spec = ItemSpec {
        with_expiry_field: true,
        ..ItemSpec::new(name.as_bytes(), value.len())
    };
    let pieces = std::iter::once(value);
    let new = store
        .new_filled(local, &hashed, &spec, NOW, pieces)
        .unwrap();
    store.edit(local, &hashed, NOW, |entry| entry.put(new, 1));
}

fn is_hot(store: &Store, local: &Local, key: usize) -> bool {
    local.is_hot(store.hashed(key.to_string().as_bytes()).hash)
}

/// Creates a store in which key 1 is hot in the bench's thread.
fn heated(value: &[u8]) -> Bench {
    let mut bench = Bench::new(60);
    let Bench { store, local } = &mut bench;
    write(store, local, 1, value);
    for _ in 0..ENOUGH {
        assert_eq!(read(store, local, 1, NOW).unwrap(), value);
    }
    assert!(is_hot(store, local, 1));
    bench
}

#[test]
fn only_what_everybody_asks_for_is_held() {
    let mut bench = heated(b"hot");
    let Bench { store, local } = &mut bench;
    (2..500).for_each(|key| write(store, local, key, b"lukewarm"));
    for turn in 0..40 {
        for key in 2..500 {
            assert_eq!(read(store, local, key, NOW).unwrap(), b"lukewarm");
            assert!(!is_hot(store, local, key), "{key} in turn {turn}");
        }
    }
    // Too large to be held.
    write(store, local, 500, &[b'x'; 5000]);
    for _ in 0..ENOUGH {
        assert_eq!(read(store, local, 500, NOW).unwrap().len(), 5000);
    }
    assert!(!is_hot(store, local, 500));
}

#[test]
fn what_others_change_is_seen_at_once() {
    let mut bench = heated(b"old");
    let Bench { store, local } = &mut bench;
    let mut other = store.local();
    write(store, &mut other, 1, b"new");
    assert_eq!(read(store, local, 1, NOW).unwrap(), b"new");
    let hashed = store.hashed(b"1");
    let later = Now::from_millis(NOW.millis() + 5000);
    store.edit(&mut other, &hashed, NOW, |entry| {
        assert!(entry.set_expiry(Expiry::from_seconds(2, NOW)));
    });
    assert_eq!(read(store, local, 1, NOW).unwrap(), b"new");
    assert_eq!(read(store, local, 1, later), Err(Miss::Expired));
    write(store, &mut other, 1, b"newer");
    for _ in 0..ENOUGH {
        assert_eq!(read(store, local, 1, NOW).unwrap(), b"newer");
    }
    store.edit(&mut other, &hashed, NOW, |entry| entry.remove());
    assert_eq!(read(store, local, 1, NOW), Err(Miss::Absent));
}

#[test]
fn a_flush_takes_what_is_held() {
    let mut bench = heated(b"old");
    let Bench { store, local } = &mut bench;
    store.flush_all(&mut store.local());
    assert_eq!(read(store, local, 1, NOW), Err(Miss::Flushed));
    assert_eq!(read(store, local, 1, NOW), Err(Miss::Absent));
}

#[test]
fn an_expiry_takes_what_is_held() {
    let mut bench = heated(b"mortal");
    let Bench { store, local } = &mut bench;
    let expiry = Expiry::from_seconds(1, NOW);
    store.edit(local, &store.hashed(b"1"), NOW, |entry| {
        assert!(entry.set_expiry(expiry));
    });
    // Becomes hot again, and then expires within the same second.
    let now = Now::from_millis(NOW.millis() + 1000);
    assert!(!expiry.is_over(NOW) && expiry.is_over(now));
    for _ in 0..ENOUGH {
        assert_eq!(read(store, local, 1, NOW).unwrap(), b"mortal");
    }
    assert_eq!(read(store, local, 1, now), Err(Miss::Expired));
}

#[test]
fn what_nobody_asks_for_any_more_is_let_go() {
    let mut bench = heated(b"hot");
    let Bench { store, local } = &mut bench;
    for (seconds, held) in [(1, true), (2, false)] {
        local.now = Now::from_millis(NOW.millis() + 1000 * seconds);
        store.release_cold(local);
        assert_eq!(local.holds_items(), held, "after {seconds} seconds");
    }
    bench.delete(1);
    assert!(bench.is_empty(), "a reference was lost");
}

#[test]
fn what_is_held_and_gone_does_not_hold_its_memory_for_long() {
    let mut bench = heated(b"hot");
    bench.delete(1);
    assert!(!bench.is_empty(), "it is held");
    bench.store.release_all_hot(&mut bench.local);
    assert!(bench.is_empty());
}

#[test]
fn what_is_held_is_given_back_when_memory_is_short() {
    let mut bench = heated(b"hot");
    bench.delete(1);
    bench.store.memory.request_flush();
    // An allocation that heeds the request for the magazines makes no
    // difference.
    bench.set(2, 10).unwrap();
    bench.delete(2);
    bench.store.prepare_to_wait(&mut bench.local);
    assert!(!bench.local.holds_items());
    assert_eq!(bench.store.page_bytes(), 0, "a chunk lies in the magazines");
}

#[test]
fn accesses_are_heard_of() {
    let mut bench = heated(b"hot");
    let Bench { store, local } = &mut bench;
    let hashed = store.hashed(b"1");
    let uses = || {
        store
            .map
            .read(hashed.hash)
            .find(&hashed)
            .unwrap()
            .stamp()
            .uses()
    };
    store
        .map
        .read(hashed.hash)
        .find(&hashed)
        .unwrap()
        .set_stamp(Stamp(0));
    for _ in 0..ENOUGH {
        read(store, local, 1, NOW).unwrap();
    }
    assert!(uses() > 0);
    let later = Now::from_millis(NOW.millis() + 3000);
    read(store, local, 1, later).unwrap();
    let age = store.read(local, &hashed, later, |item| {
        (Access::Peek, item.age(later))
    });
    assert_eq!(age, Ok(0), "the second of the access");
}

#[test]
fn nothing_is_refused_for_what_is_held() {
    // As many pages as sizes of items that can be held.
    let mut bench = Bench::new(24);
    let sizes: Vec<usize> = (0..24).map(|number| 40 + 24 * number).collect();
    for key in 0..2000 {
        let size = sizes[key % sizes.len()];
        bench.set(key, size).unwrap();
        let Bench { store, local } = &mut bench;
        for hot in key.saturating_sub(8)..=key {
            for _ in 0..30 {
                let _ = read(store, local, hot, NOW);
            }
        }
    }
    for key in 0..200 {
        bench.set(key, 20_000).unwrap();
        assert!(bench.within_limit());
    }
}

#[test]
fn readers_never_go_back_behind_an_answered_write() {
    const WRITES: usize = if cfg!(miri) { 60 } else { 5_000 };
    let bench = Bench::new(200);
    let store = &bench.store;
    let answered = &AtomicUsize::new(0);
    write(store, &mut store.local(), 1, b"0");
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut local = store.local();
                let (mut last, mut hot) = (0, 0);
                while last < WRITES {
                    let known = answered.load(Ordering::Acquire);
                    let value = read(store, &mut local, 1, NOW).unwrap();
                    let value = String::from_utf8(value).unwrap().parse().unwrap();
                    assert!(
                        value >= known && value >= last,
                        "{value} after {known}, {last}"
                    );
                    last = value;
                    hot += usize::from(local.holds_items());
                }
                store.release_all_hot(&mut local);
                assert!(hot > 0 || cfg!(miri), "it was never held");
            });
        }
        scope.spawn(|| {
            let mut local = store.local();
            for value in 1..=WRITES {
                write(store, &mut local, 1, value.to_string().as_bytes());
                answered.store(value, Ordering::Release);
                // Long enough for readers to hold it, often enough for races.
                for _ in 0..value % 64 {
                    thread::yield_now();
                }
            }
        });
    });
}
