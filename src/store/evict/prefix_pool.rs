//! Candidates for eviction of a prefix with a limit. A search looks at all items
//! of a few cache lines of the index, which are more than one eviction needs. The
//! pool keeps the best of them for the next ones: evictions then cost less, and
//! choose from more items. The idea is that of Redis' eviction pool.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::evict::policy::{Policy, Stamp};
use crate::sync::{AtomicU32, Ordering};

/// Candidates that a pool keeps.
const POOL_ITEMS: usize = 32;
/// Items of the prefix of which one is evicted, unless one is due.
const SAMPLE_ITEMS: usize = 8;

/// An item that a search has seen.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Seen {
    pub(in crate::store) shard: u32,
    pub(in crate::store) bucket: u32,
    /// Address of the head chunk.
    pub(in crate::store) chunk: usize,
    /// The stamp that the search left.
    pub(in crate::store) stamp: Stamp,
    /// Whether it was flushed, invalidated or expired.
    pub(in crate::store) is_dead: bool,
}

/// The candidates of one prefix.
pub(in crate::store) struct Pool {
    kept: Mutex<Kept>,
    /// Ticks by which a search ages an item: the bits of an `f32`.
    aging: AtomicU32,
}

#[derive(Default)]
struct Kept {
    items: Vec<Seen>,
    /// Items seen for evictions to come.
    credit: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            aging: AtomicU32::new(1f32.to_bits()),
        }
    }
}

impl Seen {
    fn ticks_left(&self, policy: &Policy) -> i16 {
        match self.is_dead {
            true => i16::MIN,
            false => policy.ticks_left(self.stamp),
        }
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the ticks by which a search ages the item of bucket `number`, in
    /// the order in which searches pass over buckets. A fraction of a tick ages
    /// that fraction of the items.
    pub(in crate::store) fn aging(&self, number: u32) -> u16 {
        let aging = f32::from_bits(self.aging.load(Ordering::Relaxed));
        let spread = (number.wrapping_mul(0x9e37_79b9) >> 8) as f32 / (1 << 24) as f32;
        (aging + spread) as u16
    }

    /// Adds the items that a search has seen. Keeps those with the fewest ticks
    /// left.
    pub(in crate::store) fn add<'s>(&self, policy: &Policy, seen: impl Iterator<Item = &'s Seen>) {
        let mut kept = self.lock();
        for item in seen {
            kept.credit += 1;
            if kept.items.len() < POOL_ITEMS {
                kept.items.push(*item);
                continue;
            }
            let most = kept
                .items
                .iter_mut()
                .max_by_key(|item| item.ticks_left(policy));
            if let Some(most) = most
                && item.ticks_left(policy) < most.ticks_left(policy)
            {
                *most = *item;
            }
        }
    }

    /// Takes the candidate with the fewest ticks left, if it is due or enough items
    /// were seen since the last one. `at_once` takes any.
    pub(in crate::store) fn take(&self, policy: &Policy, at_once: bool) -> Option<Seen> {
        let mut kept = self.lock();
        let lefts = kept.items.iter().map(|item| item.ticks_left(policy));
        let (index, left) = lefts.enumerate().min_by_key(|(_, left)| *left)?;
        let is_due = left <= 0;
        if !is_due && !at_once && kept.credit < SAMPLE_ITEMS {
            return None;
        }
        // What a search saw beyond the need of a few evictions is no reason to
        // evict the next items without a look at others.
        kept.credit = kept.credit.min(POOL_ITEMS).saturating_sub(SAMPLE_ITEMS);
        let aging = f32::from_bits(self.aging.load(Ordering::Relaxed));
        let aging = policy.adjust_aging(aging, is_due);
        self.aging.store(aging.to_bits(), Ordering::Relaxed);
        Some(kept.items.swap_remove(index))
    }
}

#[cfg(test)]
mod tests {
    use super::{POOL_ITEMS, Pool, SAMPLE_ITEMS, Seen};
    use crate::config::Eviction;
    use crate::store::evict::policy::Policy;

    fn seen(policy: &Policy, number: u32, uses: u16) -> Seen {
        Seen {
            shard: 0,
            bucket: number,
            chunk: 8 * number as usize,
            stamp: policy.on_insert(100, uses, u32::MAX),
            is_dead: false,
        }
    }

    #[test]
    fn the_best_of_enough_items_is_taken() {
        let policy = Policy::new(Eviction::Frequency);
        let pool = Pool::default();
        let items: Vec<Seen> = (0..SAMPLE_ITEMS as u32)
            .map(|number| seen(&policy, number, u16::from(number != 3)))
            .collect();
        let (last, first) = items.split_last().expect("items");
        pool.add(&policy, first.iter());
        assert!(pool.take(&policy, false).is_none(), "too few were seen");
        pool.add(&policy, [last].into_iter());
        let best = pool.take(&policy, false).expect("a candidate");
        assert_eq!(best.bucket, 3);
        assert!(pool.take(&policy, false).is_none(), "others come first");
        assert!(pool.take(&policy, true).is_some());
        let dead = Seen {
            is_dead: true,
            ..seen(&policy, 99, 7)
        };
        pool.add(&policy, [&dead].into_iter());
        let taken = pool.take(&policy, false).expect("a due one");
        assert_eq!(taken.bucket, 99);
    }

    #[test]
    fn a_full_pool_keeps_the_best() {
        let policy = Policy::new(Eviction::Frequency);
        let pool = Pool::default();
        let items: Vec<Seen> = (0..4 * POOL_ITEMS as u32)
            .map(|number| seen(&policy, number, u16::from(number % 4 != 0)))
            .collect();
        pool.add(&policy, items.iter());
        for _ in 0..POOL_ITEMS {
            let taken = pool.take(&policy, true).expect("a candidate");
            assert_eq!(taken.bucket % 4, 0);
        }
        assert!(pool.take(&policy, true).is_none());
    }

    #[test]
    fn fractions_of_ticks_age_a_part_of_the_items() {
        let policy = Policy::new(Eviction::Frequency);
        let pool = Pool::default();
        // Due items are found too often: items age less.
        while pool.aging.load(crate::sync::Ordering::Relaxed) > 0.5_f32.to_bits() {
            let due = Seen {
                is_dead: true,
                ..seen(&policy, 0, 0)
            };
            pool.add(&policy, [&due].into_iter());
            pool.take(&policy, true).expect("a due one");
        }
        let aged: u32 = (0..1000).map(|number| u32::from(pool.aging(number))).sum();
        assert!((400..=600).contains(&aged), "{aged} of 1000");
    }
}
