//! Tests of reads without the shard's lock: they take none, and never return an
//! item that is no longer current.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Bench, NOW};
use crate::store::evict::policy::Stamp;
use crate::store::{Access, ItemSpec, Local, Miss, Store};
use crate::time::{Expiry, Now};

/// Bytes of the values: such are read without the lock.
const VALUE_BYTES: usize = 32;

fn padded(value: &str) -> Vec<u8> {
    format!("{value:VALUE_BYTES$}").into_bytes()
}

fn read(store: &Store, local: &mut Local, key: usize, now: Now) -> Result<Vec<u8>, Miss> {
    let name = key.to_string();
    store.enter(local);
    let read = store.read_unlocked(local, &store.hashed(name.as_bytes()), now, |item| {
        (Access::Counted, item.pieces().flatten().copied().collect())
    });
    store.leave(local);
    read
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

/// Creates a store with key 1.
fn filled(value: &str) -> Bench {
    let mut bench = Bench::new(60);
    let Bench { store, local } = &mut bench;
    write(store, local, 1, &padded(value));
    bench
}

#[test]
fn a_hit_and_a_miss_take_no_lock() {
    let mut bench = filled("value");
    let Bench { store, local } = &mut bench;
    for (key, found) in [(1, Ok(padded("value"))), (2, Err(Miss::Absent))] {
        let hash = store.hashed(key.to_string().as_bytes()).hash;
        let lock = store.map.write(hash);
        assert_eq!(read(store, local, key, NOW), found);
        drop(lock);
    }
}

#[test]
fn what_others_change_is_seen_at_once() {
    let mut bench = filled("old");
    let Bench { store, local } = &mut bench;
    let mut other = store.local();
    write(store, &mut other, 1, &padded("new"));
    assert_eq!(read(store, local, 1, NOW).unwrap(), padded("new"));
    let hashed = store.hashed(b"1");
    let later = Now::from_millis(NOW.millis() + 5000);
    store.edit(&mut other, &hashed, NOW, |entry| {
        assert!(entry.set_expiry(Expiry::from_seconds(2, NOW)));
    });
    assert_eq!(read(store, local, 1, NOW).unwrap(), padded("new"));
    assert_eq!(read(store, local, 1, later), Err(Miss::Expired));
    write(store, &mut other, 1, &padded("newer"));
    assert_eq!(read(store, local, 1, NOW).unwrap(), padded("newer"));
    store.edit(&mut other, &hashed, NOW, |entry| entry.remove());
    assert_eq!(read(store, local, 1, NOW), Err(Miss::Absent));
}

#[test]
fn a_flush_takes_what_is_read_without_the_lock() {
    let mut bench = filled("old");
    let Bench { store, local } = &mut bench;
    store.flush_all(&mut store.local());
    assert_eq!(read(store, local, 1, NOW), Err(Miss::Flushed));
    assert_eq!(read(store, local, 1, NOW), Err(Miss::Absent));
}

#[test]
fn what_changes_during_a_read_is_read_again() {
    let mut bench = filled("value");
    let Bench { store, local } = &mut bench;
    let mut other = store.local();
    let hashed = store.hashed(b"1");
    let (mut calls, mut cas) = (0, 0);
    store.enter(local);
    let read = store.read_unlocked(local, &hashed, NOW, |item| {
        calls += 1;
        let seen = (item.cas(), item.is_stale());
        if calls == 1 {
            // As `md` with the flag `I` does.
            store.edit(&mut other, &hashed, NOW, |entry| {
                let birth = entry.renew(None).unwrap();
                entry.mark_stale();
                entry.set_birth(birth);
                cas = birth.cas;
            });
        }
        (Access::Counted, seen)
    });
    store.leave(local);
    assert_eq!((read, calls), (Ok((cas, true)), 2));
}

#[test]
fn what_changes_in_place_is_read_under_the_lock() {
    let mut bench = filled("unused");
    let Bench { store, local } = &mut bench;
    write(store, local, 1, b"12345");
    let hashed = store.hashed(b"1");
    let changed = store.edit(local, &hashed, NOW, |entry| entry.overwrite(b"6"));
    assert!(changed);
    assert_eq!(read(store, local, 1, NOW).unwrap(), b"6    ");
    write(store, local, 1, &padded("12345"));
    let changed = store.edit(local, &hashed, NOW, |entry| entry.overwrite(b"6"));
    assert!(!changed, "a reader may copy it at this moment");
}

#[test]
fn accesses_are_recorded() {
    let mut bench = filled("value");
    let Bench { store, local } = &mut bench;
    let hashed = store.hashed(b"1");
    let stamp = || store.map.read(hashed.hash).find(&hashed).unwrap().stamp();
    let shard = store.map.read(hashed.hash);
    shard.find(&hashed).unwrap().set_stamp(Stamp(0));
    drop(shard);
    read(store, local, 1, NOW).unwrap();
    assert!(stamp().uses() > 0);
    let later = Now::from_millis(NOW.millis() + 3000);
    read(store, local, 1, later).unwrap();
    let age = store.read(local, &hashed, later, |item| {
        (Access::Peek, item.age(later))
    });
    assert_eq!(age, Ok(0), "the second of the access");
}

#[test]
fn readers_never_go_back_behind_an_answered_write() {
    const WRITES: usize = if cfg!(miri) { 60 } else { 5_000 };
    let bench = Bench::new(200);
    let store = &bench.store;
    let answered = &AtomicUsize::new(0);
    write(store, &mut store.local(), 1, &padded("0"));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut local = store.local();
                let mut last = 0;
                while last < WRITES {
                    let known = answered.load(Ordering::Acquire);
                    let value = read(store, &mut local, 1, NOW).unwrap();
                    let value = String::from_utf8(value).unwrap();
                    let value = value.trim_end().parse().unwrap();
                    assert!(
                        value >= known && value >= last,
                        "{value} after {known}, {last}"
                    );
                    last = value;
                }
            });
        }
        scope.spawn(|| {
            let mut local = store.local();
            for value in 1..=WRITES {
                write(store, &mut local, 1, &padded(&value.to_string()));
                answered.store(value, Ordering::Release);
                for _ in 0..value % 64 {
                    thread::yield_now();
                }
            }
        });
    });
}

/// Readers beside a writer that overwrites, deletes, and lets tables grow: what
/// they find is what was stored for the key, and a key that is always there is
/// always found.
#[test]
fn readers_beside_all_changes_find_what_was_stored() {
    const ROUNDS: usize = if cfg!(miri) { 2 } else { 60 };
    const KEYS: usize = if cfg!(miri) { 60 } else { 4_000 };
    // Every tenth key stays.
    let stays = |key: usize| key.is_multiple_of(10);
    let value = |key: usize, round: usize| padded(&format!("{key} {round}"));
    let bench = Bench::new(2_000);
    let store = &bench.store;
    let mut local = store.local();
    (0..KEYS).for_each(|key| write(store, &mut local, key, &value(key, 0)));
    let done = &AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                let mut local = store.local();
                let mut key = thread * KEYS / 2;
                while done.load(Ordering::Acquire) == 0 {
                    key = (key + 7) % KEYS;
                    match read(store, &mut local, key, NOW) {
                        Ok(found) => {
                            let found = String::from_utf8(found).unwrap();
                            let of_key = found.split(' ').next().unwrap();
                            assert_eq!(of_key, key.to_string());
                        }
                        Err(miss) => {
                            assert_eq!(miss, Miss::Absent);
                            assert!(!stays(key), "{key} is always there");
                        }
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut local = store.local();
            for round in 1..=ROUNDS {
                for key in 0..KEYS {
                    if stays(key) || !(key + round).is_multiple_of(3) {
                        write(store, &mut local, key, &value(key, round));
                    } else {
                        let name = key.to_string();
                        let hashed = store.hashed(name.as_bytes());
                        store.edit(&mut local, &hashed, NOW, |entry| entry.remove());
                    }
                }
                // Further keys in each round, so that the tables grow.
                for key in KEYS * round..KEYS * round + KEYS / 4 {
                    write(store, &mut local, key, &value(key, round));
                }
            }
            done.store(1, Ordering::Release);
        });
    });
}
