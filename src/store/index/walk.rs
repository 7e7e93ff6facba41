//! Walks over all items in steps. Each step looks at a bounded number of items
//! under short read locks. An item that stays in the store during the whole
//! walk is shown once. An item that is stored during the walk may or may not be
//! shown; a key that is deleted and stored again may be shown twice.
//!
//! A step continues at the bucket where the last one ended. Items keep their
//! bucket until their shard's table is rebuilt. Then the walk begins that shard
//! again and leaves out the items it has shown.

use arrayvec::ArrayVec;

use crate::store::index::prefetch::prefetch;
use crate::store::item::layout::Item;
use crate::store::state::Store;
use crate::time::Now;

/// Maximum number of items that one step shows.
const STEP_ITEMS: usize = 32;
/// Number of buckets at which a step ends.
const STEP_BUCKETS: usize = 1024;
/// Maximum number of shards that one step visits.
const STEP_SHARDS: usize = 64;

/// The position of a walk; the default is its start.
#[derive(Debug, Default)]
pub struct Walk {
    /// Current shard.
    shard: usize,
    /// Next bucket in the shard.
    bucket: usize,
    /// The shard's count of rebuilds when the walk was last there.
    rebuilt: usize,
    /// Hashes of the shard's items shown since the last rebuild.
    shown: Vec<u64>,
    /// Sorted hashes of the shard's items shown before it was rebuilt.
    before: Vec<u64>,
}

impl Store {
    /// Takes a step: calls `show` with up to 32 live items, under a shard's
    /// read lock. `show` must not call the store. Returns false once all items
    /// have been shown.
    pub fn walk(&self, walk: &mut Walk, now: Now, mut show: impl FnMut(Item<'_>)) -> bool {
        let (mut items, mut buckets) = (0, 0);
        for _ in 0..STEP_SHARDS {
            if walk.shard == self.map.shard_count() {
                return false;
            }
            let (looked, passed) = self.walk_shard(walk, STEP_ITEMS - items, now, &mut show);
            items += looked;
            buckets += passed;
            if items >= STEP_ITEMS || buckets >= STEP_BUCKETS {
                break;
            }
        }
        true
    }

    /// Shows up to `most` items of the current shard. Returns the numbers of
    /// items and buckets that it looked at.
    fn walk_shard(
        &self,
        walk: &mut Walk,
        most: usize,
        now: Now,
        show: &mut impl FnMut(Item<'_>),
    ) -> (usize, usize) {
        let shard = self.map.read_at(walk.shard);
        walk.begin_again_if_rebuilt(self.map.rebuild_count(walk.shard));
        let start = walk.bucket;
        let end = shard.buckets().min(start + STEP_BUCKETS);
        let mut slots = ArrayVec::<_, STEP_ITEMS>::new();
        while walk.bucket < end && slots.len() < most {
            if let Some(slot) = shard.slot(walk.bucket) {
                prefetch(slot.chunk().as_ptr());
                slots.push(slot);
            }
            walk.bucket += 1;
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
        let passed = walk.bucket - start;
        if walk.bucket >= shard.buckets() {
            *walk = Walk {
                shard: walk.shard + 1,
                ..Walk::default()
            };
        }
        (slots.len(), passed)
    }
}

impl Walk {
    /// Begins the current shard again if its table was rebuilt since the last
    /// step.
    fn begin_again_if_rebuilt(&mut self, rebuilt: usize) {
        if self.bucket > 0 && self.rebuilt != rebuilt {
            self.bucket = 0;
            self.before.append(&mut self.shown);
            self.before.sort_unstable();
            self.before.dedup();
        }
        self.rebuilt = rebuilt;
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
