//! Walks over all items in steps. Each step looks at a bounded number of items
//! under short read locks. An item that stays in the store during the whole
//! walk is shown once. An item that is stored during the walk may or may not be
//! shown; a key that is deleted and stored again may be shown twice.
//!
//! A step continues at the position where the last one ended. Items keep their
//! position, with two exceptions. When their shard's table is rebuilt, the walk
//! begins that shard again and leaves out the items it has shown. A single item
//! may move from its primary to its secondary bucket, once. If some did, the walk
//! passes over the shard a second time and looks at those in secondary buckets
//! that it has not shown.

use arrayvec::ArrayVec;

use crate::store::index::prefetch::prefetch;
use crate::store::item::layout::Item;
use crate::store::state::Store;
use crate::time::Now;

/// Maximum number of items that one step shows.
const STEP_ITEMS: usize = 32;
/// Number of positions at which a step ends.
const STEP_POSITIONS: usize = 1024;
/// Maximum number of shards that one step visits.
const STEP_SHARDS: usize = 64;

/// The position of a walk; the default is its start.
#[derive(Debug, Default)]
pub struct Walk {
    /// Current shard.
    shard: usize,
    /// Next position in the shard.
    position: usize,
    /// Whether this is the second pass over the shard.
    again: bool,
    /// The shard's count of displaced items when the walk was last there.
    displaced: usize,
    /// Whether items were displaced since the first pass began.
    must_pass_again: bool,
    /// The shard's count of rebuilds when the walk was last there.
    rebuilt: usize,
    /// Hashes of the shard's items shown since items last moved.
    shown: Vec<u64>,
    /// Sorted hashes of the shard's items shown before items last moved.
    before: Vec<u64>,
}

impl Store {
    /// Takes a step: calls `show` with up to 32 live items, under a shard's
    /// read lock. `show` must not call the store. Returns false once all items
    /// have been shown.
    pub fn walk(&self, walk: &mut Walk, now: Now, mut show: impl FnMut(Item<'_>)) -> bool {
        let (mut items, mut positions) = (0, 0);
        for _ in 0..STEP_SHARDS {
            if walk.shard == self.map.shard_count() {
                return false;
            }
            let (looked, passed) = self.walk_shard(walk, STEP_ITEMS - items, now, &mut show);
            items += looked;
            positions += passed;
            if items >= STEP_ITEMS || positions >= STEP_POSITIONS {
                break;
            }
        }
        true
    }

    /// Shows up to `most` items of the current shard. Returns the numbers of
    /// items and positions that it looked at.
    fn walk_shard(
        &self,
        walk: &mut Walk,
        most: usize,
        now: Now,
        show: &mut impl FnMut(Item<'_>),
    ) -> (usize, usize) {
        let shard = self.map.read_at(walk.shard);
        walk.note_moves(
            self.map.rebuild_count(walk.shard),
            self.map.displaced_count(walk.shard),
        );
        let start = walk.position;
        let end = shard.positions().min(start + STEP_POSITIONS);
        let mut slots = ArrayVec::<_, STEP_ITEMS>::new();
        while walk.position < end && slots.len() < most {
            let position = walk.position;
            if let Some(slot) = shard.slot(position)
                && (!walk.again || shard.is_secondary(position))
            {
                prefetch(slot.chunk().as_ptr());
                slots.push(slot);
            }
            walk.position += 1;
        }
        for slot in &slots {
            let item = shard.item(slot);
            let hash = self.map.hash(item.key());
            let shown_before = walk.before.binary_search(&hash).is_ok();
            if !shown_before && self.miss_reason(item, now).is_none() {
                show(item);
            }
            walk.shown.push(hash);
        }
        let passed = walk.position - start;
        if walk.position >= shard.positions() {
            walk.end_pass();
        }
        (slots.len(), passed)
    }
}

impl Walk {
    /// Notes which items have moved since the last step: begins the current
    /// shard again if its table was rebuilt.
    fn note_moves(&mut self, rebuilt: usize, displaced: usize) {
        if self.position > 0 || self.again {
            if self.rebuilt != rebuilt {
                self.remember_shown();
                self.position = 0;
                self.again = false;
                self.must_pass_again = false;
            } else if self.displaced != displaced && !self.again {
                // An item that was shown may come up again. Another one may have
                // moved to a position that was passed already. In a second pass,
                // neither can happen: what moves during it was in its primary
                // bucket during the first one.
                self.remember_shown();
                self.must_pass_again = true;
            }
        }
        self.rebuilt = rebuilt;
        self.displaced = displaced;
    }

    /// Moves the hashes of the items shown to the sorted ones.
    fn remember_shown(&mut self) {
        self.before.append(&mut self.shown);
        // Mostly in order: this sort makes use of that.
        self.before.sort();
        self.before.dedup();
    }

    /// Ends a pass over the current shard: begins the second one if it is needed,
    /// or the next shard.
    fn end_pass(&mut self) {
        if self.must_pass_again {
            self.remember_shown();
            self.must_pass_again = false;
            self.again = true;
            self.position = 0;
            return;
        }
        *self = Walk {
            shard: self.shard + 1,
            ..Walk::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::Walk;
    use crate::config::Config;
    use crate::store::item::layout::ItemSpec;
    use crate::store::state::{Local, Options, Store};
    use crate::time::Now;

    const NOW: Now = Now::from_millis(5000);

    fn store() -> Store {
        Store::new(Options {
            max_memory: 256 << 20,
            ..Options::from(&Config::default())
        })
    }

    fn put(store: &Store, local: &mut Local, key: &str) {
        let key = store.hashed(key.as_bytes());
        let spec = ItemSpec::new(key.key, 1);
        let value = std::iter::once(&b"v"[..]);
        let new = store.new_filled(local, &key, &spec, NOW, value).unwrap();
        store.edit(local, &key, NOW, |entry| entry.put(new, 1));
    }

    #[test]
    fn what_stays_is_shown_once_however_the_tables_grow() {
        let store = store();
        let mut local = store.local();
        const STAYING: usize = 50_000;
        for number in 0..STAYING {
            put(&store, &mut local, &format!("staying {number}"));
        }
        let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut walk = Walk::default();
        let mut coming = 0;
        while store.walk(&mut walk, NOW, |item| {
            *seen.entry(item.key().to_vec()).or_default() += 1;
        }) {
            // Every table is rebuilt several times during the walk.
            for _ in 0..50 {
                put(&store, &mut local, &format!("coming {coming}"));
                coming += 1;
            }
        }
        for number in 0..STAYING {
            let key = format!("staying {number}").into_bytes();
            assert_eq!(seen.get(&key), Some(&1), "{number}");
        }
        assert!(seen.values().all(|count| *count == 1));
    }

    #[test]
    fn a_step_is_short_and_the_dead_are_left_out() {
        let store = store();
        let mut local = store.local();
        for number in 0..10_000 {
            put(&store, &mut local, &format!("old {number}"));
        }
        store.flush_all(&mut local);
        put(&store, &mut local, "new");
        let mut walk = Walk::default();
        let mut keys = Vec::new();
        let mut steps = 0;
        while store.walk(&mut walk, NOW, |item| keys.push(item.key().to_vec())) {
            steps += 1;
        }
        assert_eq!(keys, [b"new".to_vec()]);
        assert!(steps >= 10_000 / 32, "{steps} steps");
    }
}
