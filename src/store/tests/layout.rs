//! Tests of the layout of items and of concurrent access to them. Small enough
//! for Miri, which finds data races and invalid references: `cargo +nightly
//! miri test --lib store::tests::layout` with
//! `MIRIFLAGS=-Zmiri-permissive-provenance -Zmiri-ignore-leaks`.

use std::thread;

use super::{Bench, NOW, value};
use crate::store::evict::reclaim::DrainMode;
use crate::store::item::layout::BIRTH_MAX;
use crate::store::memory::arena::PinnedClasses;
use crate::store::{Access, Item, ItemSpec};
use crate::time::{Expiry, Now};

/// Lengths of values that lie in one chunk, and in several.
const LENGTHS: [usize; 4] = [1, 700, 1500, 2500];

const fn second(second: u64) -> Now {
    Now::from_millis(1000 * second)
}

impl Bench {
    /// Stores an item with the optional fields that `key` selects.
    fn set_with_fields(&mut self, key: usize, len: usize) {
        let name = key.to_string();
        let hashed = self.store.hashed(name.as_bytes());
        let value = value(key, len);
        let spec = ItemSpec {
            flags: flags_of(key),
            expiry: expiry_of(key),
            key_binary: key.is_multiple_of(2),
            with_expiry_field: key.is_multiple_of(3),
            with_birth_field: has_birth_field(key),
            ..ItemSpec::new(name.as_bytes(), len)
        };
        let pieces = std::iter::once(&value[..]);
        let new = self
            .store
            .new_filled(&mut self.local, &hashed, &spec, NOW, pieces)
            .expect("there is memory");
        let cas = cas_of(key);
        self.store
            .edit(&mut self.local, &hashed, NOW, |entry| entry.put(new, cas));
    }

    fn look<R>(&mut self, key: usize, now: Now, f: impl FnOnce(Item<'_>) -> R) -> R {
        let name = key.to_string();
        let hashed = self.store.hashed(name.as_bytes());
        let seen = self.store.read(&mut self.local, &hashed, now, |item| {
            (Access::Counted, f(item))
        });
        seen.expect("the key has an item")
    }

    /// Appends to a chained value in place. Returns false if that failed.
    fn append(&mut self, key: usize, more: &[u8]) -> bool {
        let name = key.to_string();
        let hashed = self.store.hashed(name.as_bytes());
        let spec = ItemSpec::new(name.as_bytes(), more.len());
        let pieces = std::iter::once(more);
        let new = self
            .store
            .new_filled(&mut self.local, &hashed, &spec, NOW, pieces)
            .expect("there is memory");
        let (local, accepts) = (&mut self.local, |_: Item<'_>| true);
        let cas = self.store.append_in_place(local, &new, NOW, accepts, None);
        self.store.discard(&mut self.local, new);
        cas.is_some()
    }
}

fn flags_of(key: usize) -> u32 {
    if key.is_multiple_of(5) {
        0
    } else {
        u32::MAX - key as u32
    }
}

fn expiry_of(key: usize) -> Expiry {
    if key.is_multiple_of(7) {
        Expiry::NEVER
    } else {
        Expiry(0xFEDC_0000 + key as u32)
    }
}

fn has_birth_field(key: usize) -> bool {
    key.is_multiple_of(13)
}

/// Returns a CAS value in which all bytes are distinct.
fn cas_of(key: usize) -> u64 {
    match has_birth_field(key) {
        true => 0xFEDC_BA98_7654_3210 + key as u64,
        false => 0xBA98_7654_3210 + key as u64,
    }
}

fn check_fields(item: Item<'_>, key: usize, len: usize) {
    assert_eq!(item.key(), key.to_string().as_bytes());
    assert_eq!(
        (item.flags(), item.expiry(), item.cas(), item.value_len()),
        (flags_of(key), expiry_of(key), cas_of(key), len),
        "{key}"
    );
    assert_eq!(item.is_key_binary(), key.is_multiple_of(2));
    let bytes: Vec<u8> = item.pieces().flatten().copied().collect();
    assert!(bytes == value(key, len), "{key} is damaged");
}

#[test]
fn every_field_keeps_its_value_where_items_are_moved() {
    const COUNT: usize = if cfg!(miri) { 200 } else { 480 };
    let len = |key: usize| LENGTHS[key % LENGTHS.len()];
    let mut bench = Bench::new(400);
    (0..COUNT).for_each(|key| bench.set_with_fields(key, len(key)));
    // Few items of each size are left, so that there are pages to drain.
    let is_kept = |key: &usize| key.is_multiple_of(11);
    (0..COUNT)
        .filter(|key| !is_kept(key))
        .for_each(|key| bench.delete(key));
    bench.store.memory.flush(&mut bench.local.magazines);
    for key in (0..COUNT).filter(is_kept) {
        bench.look(key, second(20), |item| check_fields(item, key, len(key)));
    }
    bench.drain_all(DrainMode::Spare);
    let moved = bench.store.stats().snapshot().items_moved;
    assert!(moved > 3, "{moved}");
    for key in (0..COUNT).filter(is_kept) {
        let (age, fetched) = bench.look(key, second(25), |item| {
            check_fields(item, key, len(key));
            (item.age(second(25)), item.is_fetched())
        });
        assert_eq!((age, fetched), (5, true));
        bench.delete(key);
    }
    assert!(bench.is_empty());
}

#[test]
fn what_is_changed_in_place_changes_nothing_else() {
    let mut bench = Bench::new(40);
    // A generation above 0, which shares its word with bits and birth.
    (0..0xA5).for_each(|_| bench.store.flush_all(&mut bench.local));
    for (key, len) in [(1, 100), (2, 2500)] {
        bench.set_with_fields(key, len);
        let name = key.to_string();
        let hashed = bench.store.hashed(name.as_bytes());
        let touched = bench.store.edit(&mut bench.local, &hashed, NOW, |entry| {
            entry.mark_stale();
            entry.item().unwrap().set_birth(BIRTH_MAX, BIRTH_MAX);
            entry.bump(second(30));
            entry.set_expiry(Expiry(u32::MAX))
        });
        assert!(touched);
        bench.look(key, second(33), |item| {
            let state = (item.cas(), item.expiry(), item.age(second(33)));
            assert_eq!(state, (BIRTH_MAX, Expiry(u32::MAX), 3));
            assert!(item.is_stale() && item.is_fetched());
            assert_eq!((item.flags(), item.generation()), (flags_of(key), 0xA5));
            let bytes: Vec<u8> = item.pieces().flatten().copied().collect();
            assert!(bytes == value(key, len), "{key} is damaged");
        });
    }
}

#[test]
fn a_chained_value_grows_in_place() {
    let mut bench = Bench::new(40);
    bench.set_with_fields(1, 2500);
    assert!(bench.look(1, NOW, |item| item.is_chained()));
    let mut expected = value(1, 2500);
    let cas = bench.store.draw(None).cas;
    for round in 0..20 {
        let more = vec![b'a' + round; 200];
        expected.extend_from_slice(&more);
        assert!(bench.append(1, &more), "{round}");
        bench.look(1, NOW, |item| {
            assert_eq!(item.value_len(), expected.len());
            assert_eq!(item.flags(), flags_of(1));
            assert_eq!(item.cas(), cas + 1 + u64::from(round));
            let bytes: Vec<u8> = item.pieces().flatten().copied().collect();
            assert!(bytes == expected, "damaged in round {round}");
        });
    }
    bench.delete(1);
    assert!(bench.is_empty());
}

#[test]
fn a_header_takes_eighteen_bytes() {
    let spec = |key, flags, expiry| ItemSpec {
        flags,
        expiry,
        ..ItemSpec::new(key, 100)
    };
    let key = [b'k'; 20];
    let plain = spec(&key, 0, Expiry::NEVER).bytes();
    assert_eq!(plain, 18 + 20 + 100);
    assert_eq!(spec(&key, 1, Expiry(9)).bytes(), plain + 8);
}

#[test]
fn the_age_of_an_item_is_known_up_to_194_days() {
    const WRAP: u64 = 1 << 24;
    let mut bench = Bench::new(40);
    bench.set(1, 10).unwrap();
    for (accessed, asked, age) in [
        (10, 10, 0),
        (11, 10, 0), // by a thread with an older reading of the time
        (WRAP - 5, WRAP + 5, 10),
        (WRAP + 1, WRAP - 1, 0),
        (5, 5 + WRAP - 4000, WRAP - 4000),
        (5, 5 + WRAP + 7, 7),
    ] {
        bench.look(1, second(accessed), |_| ());
        let seen = bench.look(1, second(accessed), |item| item.age(second(asked)));
        assert_eq!(u64::from(seen), age, "{accessed} {asked}");
    }
}

#[test]
fn readers_meet_movers() {
    const ROUNDS: usize = if cfg!(miri) { 4 } else { 400 };
    const COUNT: usize = 24;
    let mut bench = Bench::new(40);
    let len = |key: usize| if key.is_multiple_of(6) { 1500 } else { 700 };
    (0..COUNT).for_each(|key| bench.set(key, len(key)).unwrap());
    let Bench { store, local } = &mut bench;
    let store = &*store;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut local = store.local();
            for key in (0..COUNT).cycle().take(ROUNDS * COUNT) {
                let name = key.to_string();
                let hashed = store.hashed(name.as_bytes());
                let pin = store.read(&mut local, &hashed, NOW, |item| {
                    (Access::Counted, item.pin())
                });
                if let Some(pin) = pin.ok().flatten() {
                    let bytes: Vec<u8> = pin.item().pieces().flatten().copied().collect();
                    assert!(bytes == value(key, bytes.len()), "{key} is damaged");
                    store.release(&mut local, pin);
                }
            }
            store.memory.flush(&mut local.magazines);
        });
        for round in 0..ROUNDS {
            for key in (0..COUNT).filter(|key| (key + round) % 3 != 0) {
                let name = key.to_string();
                let hashed = store.hashed(name.as_bytes());
                let value = value(key, len(key + round));
                let spec = ItemSpec::new(name.as_bytes(), value.len());
                let pieces = std::iter::once(&value[..]);
                let new = store.new_filled(local, &hashed, &spec, NOW, pieces);
                let new = new.expect("there is memory");
                store.edit(local, &hashed, NOW, |entry| entry.put(new, 1));
            }
            store.drain(local, DrainMode::Forced, &mut PinnedClasses::default());
        }
    });
}
