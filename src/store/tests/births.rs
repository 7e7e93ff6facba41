//! Tests of CAS values and births of more bits than a header holds.

use super::{Bench, NOW, value};
use crate::store::item::layout::BIRTH_MAX;
use crate::store::state::BIRTH_FIELDS_FROM;
use crate::store::{Access, ItemSpec, NewItem};

/// CAS value and birth of a key's item, and whether it has a field for them.
type Birth = Option<(u64, u64, bool)>;

impl Bench {
    fn birth_of(&mut self, key: usize) -> Birth {
        let name = key.to_string();
        let hashed = self.store.hashed(name.as_bytes());
        let read = self.store.read(&mut self.local, &hashed, NOW, |item| {
            let birth = (item.cas(), item.birth(), item.has_birth_field());
            (Access::Peek, birth)
        });
        read.ok()
    }

    /// Links an item with the next CAS value, or with `cas`.
    fn link_drawn(&mut self, key: usize, new: NewItem, cas: Option<u64>) {
        let name = key.to_string();
        let hashed = self.store.hashed(name.as_bytes());
        let store = &self.store;
        store.edit(&mut self.local, &hashed, NOW, |entry| {
            entry.put_born(new, store.draw(cas));
        });
    }

    fn set_drawn(&mut self, key: usize) {
        let new = self.make(key, 10).unwrap();
        self.link_drawn(key, new, None);
    }

    /// Gives the item another CAS value in place. Returns false if it needs a
    /// birth field for that.
    fn change(&mut self, key: usize) -> bool {
        let name = key.to_string();
        let hashed = self.store.hashed(name.as_bytes());
        self.store.edit(&mut self.local, &hashed, NOW, |entry| {
            if entry.lacks_birth_field(None) {
                return false;
            }
            let birth = entry.renew(None).expect("there is an item");
            entry.set_birth(birth);
            true
        })
    }
}

#[test]
fn a_cas_value_of_a_client_keeps_all_its_bits() {
    let mut bench = Bench::new(40);
    for (key, cas) in [1, BIRTH_MAX, BIRTH_MAX + 1, u64::MAX]
        .into_iter()
        .enumerate()
    {
        let name = key.to_string();
        let spec = ItemSpec {
            with_birth_field: true,
            ..ItemSpec::new(name.as_bytes(), 10)
        };
        let hashed = bench.store.hashed(name.as_bytes());
        let value = value(key, 10);
        let (store, local) = (&bench.store, &mut bench.local);
        let value = std::iter::once(&value[..]);
        let new = store.new_filled(local, &hashed, &spec, NOW, value);
        let last = bench.store.draw(None).number;
        bench.link_drawn(key, new.unwrap(), Some(cas));
        assert_eq!(bench.birth_of(key), Some((cas, last, true)));
        assert_eq!(bench.get(key), Some(10));
    }
}

#[test]
fn items_have_birth_fields_before_headers_are_too_small() {
    let mut bench = Bench::new(40);
    bench.store.raise_cas(BIRTH_FIELDS_FROM - 3);
    (0..4).for_each(|key| bench.set_drawn(key));
    let born = |after: u64, has_field| {
        Some((
            BIRTH_FIELDS_FROM + after,
            BIRTH_FIELDS_FROM + after,
            has_field,
        ))
    };
    assert_eq!(bench.birth_of(2), born(0, false));
    assert_eq!(bench.birth_of(3), born(1, true));
    // An item from before must be replaced before it is changed in place.
    assert!(!bench.change(2));
    assert!(bench.change(3));
    assert_eq!(bench.birth_of(3), born(2, true));
    bench.store.raise_cas(BIRTH_MAX - 1);
    for key in 4..8 {
        bench.set_drawn(key);
        let number = BIRTH_MAX + 2 * (key as u64 - 4);
        assert_eq!(bench.birth_of(key), Some((number, number, true)));
        assert!(bench.change(3));
    }
}

#[test]
fn a_birth_that_an_old_item_cannot_hold_is_not_cut() {
    let mut bench = Bench::new(40);
    (0..4).for_each(|key| bench.set_drawn(key));
    let replacing = bench.make(1, 10).unwrap();
    let added = bench.make(4, 10).unwrap();
    let before = bench.birth_of(0);
    bench.store.raise_cas(BIRTH_MAX);
    // Made before and linked after: as if evicted at once.
    bench.link_drawn(1, replacing, None);
    bench.link_drawn(4, added, None);
    assert_eq!((bench.birth_of(1), bench.birth_of(4)), (None, None));
    // Changed in place without the check.
    let name = 2.to_string();
    let hashed = bench.store.hashed(name.as_bytes());
    bench.store.edit(&mut bench.local, &hashed, NOW, |entry| {
        let birth = entry.renew(None).expect("there is an item");
        entry.set_birth(birth);
    });
    assert_eq!(bench.birth_of(2), None);
    assert_eq!(bench.birth_of(0), before);
    bench.set_drawn(0);
    assert_eq!(bench.get(0), Some(10));
    bench.store.audit(&mut bench.local);
}
