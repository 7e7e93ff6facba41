//! Invalidations of a store, and what they make of its items.

use crate::limits::KEY_MAX_BYTES;
use crate::store::invalidation::name::{
    BadName, Birth, Effect, InvalidationState, Name, check_tag,
};
use crate::store::invalidation::table::Verdict;
use crate::store::item::layout::{Item, STALE, TOKEN_SENT};
use crate::store::item::tags::Tags;
use crate::store::outcome::{Condition, Miss};
use crate::store::state::{Local, Store};
use crate::time::Now;

impl Store {
    /// Invalidates the items of a name that are stored so far.
    ///
    /// # Errors
    /// The reason why the name cannot be invalidated.
    pub fn invalidate(
        &self,
        local: &mut Local,
        name: Name<'_>,
        effect: Effect,
    ) -> Result<(), BadName> {
        if !self.options.cas {
            return Err(BadName::NoBirths);
        }
        match name {
            Name::Prefix(prefix) => self.check_prefix(prefix)?,
            Name::Tag(tag) => check_tag(tag)?,
        }
        let allocated = self
            .invalidations
            .invalidate(name, effect, &self.map, &self.cas);
        if allocated > 0 {
            // If this does not suffice, the next allocations and upkeep give up
            // more.
            self.memory.pool().add_overhead(allocated);
            self.shrink_to_limit(local);
        }
        let counters = &local.counters;
        counters.invalidations.add(1);
        match name {
            Name::Prefix(_) => counters.prefix_invalidations.add(1),
            Name::Tag(_) => counters.tag_invalidations.add(1),
        }
        if effect == Effect::MarkStale {
            counters.stale_invalidations.add(1);
        }
        Ok(())
    }

    /// Checks that a prefix is one of keys: it ends at the delimiter.
    pub(in crate::store) fn check_prefix(&self, prefix: &[u8]) -> Result<(), BadName> {
        match prefix.last() {
            None => Err(BadName::Empty),
            Some(_) if prefix.len() > KEY_MAX_BYTES => Err(BadName::TooLong),
            Some(last) if *last != self.options.delimiter => Err(BadName::NotDelimited),
            Some(_) => Ok(()),
        }
    }

    /// Returns the byte at which prefixes end (`-D`).
    pub fn delimiter(&self) -> u8 {
        self.options.delimiter
    }

    /// Returns the tags of these names. Further ones than
    /// [`TAGS_MAX`](crate::limits::TAGS_MAX) are left out.
    pub fn tags<'n>(&self, names: impl Iterator<Item = &'n [u8]>) -> Tags {
        let mut tags = Tags::default();
        for name in names {
            if !tags.add(self.invalidations.hash_tag(name)) {
                break;
            }
        }
        tags
    }

    /// Draws the CAS value and the birth of a new item. `cas` is the CAS value if
    /// a client gives one; the item then needs a birth field.
    #[inline]
    pub fn draw(&self, cas: Option<u64>) -> Birth {
        match cas {
            None => {
                let number = self.next_cas();
                Birth {
                    cas: number,
                    number,
                }
            }
            Some(cas) => Birth {
                cas,
                number: self.cas.last(),
            },
        }
    }

    /// Returns the condition of an item while invalidations are outstanding, if
    /// it is neither flushed nor expired.
    #[inline(never)]
    pub(in crate::store) fn judge(&self, item: Item<'_>) -> Condition {
        match self.invalidations.verdict(item, &self.map, &self.cas) {
            Verdict::Spared => Condition::Live,
            Verdict::Stale => Condition::TurnsStale,
            Verdict::Dead => Condition::Dead(Miss::Invalidated),
        }
    }

    /// Marks an item stale whose condition is [`Condition::TurnsStale`]. The
    /// caller holds the shard's write lock. Returns false if the item has been
    /// invalidated meanwhile, or cannot hold the new birth: then it is dead and
    /// unchanged.
    pub(in crate::store) fn turn_stale(&self, item: Item<'_>) -> bool {
        // Drawn before the check: the item must not outlive an invalidation with
        // the new number.
        let number = self.next_cas();
        if matches!(self.judge(item), Condition::Dead(_)) || !item.can_hold(number, number) {
            return false;
        }
        item.set_birth(number, number);
        item.set_bits(STALE, TOKEN_SENT);
        true
    }

    /// Marks an item stale like [`Store::turn_stale`] and counts it. Returns its
    /// condition afterwards.
    pub(in crate::store) fn turn_stale_counted(
        &self,
        local: &Local,
        item: Item<'_>,
        now: Now,
    ) -> Condition {
        if self.turn_stale(item) {
            local.counters.invalidated_stale.add(1);
            return Condition::Live;
        }
        match self.condition(item, now) {
            dead @ Condition::Dead(_) => dead,
            _ => Condition::Dead(Miss::Invalidated),
        }
    }

    /// Begins a lap of the sweep over all shards. Returns false if no
    /// invalidation is outstanding, so that none is needed.
    pub fn begin_lap(&self) -> bool {
        self.invalidations.begin_lap()
    }

    /// Ends a lap: no item is left that an invalidation from before it concerns.
    /// The caller has swept all shards since [`Store::begin_lap`].
    pub fn end_lap(&self) {
        self.invalidations.end_lap();
    }

    /// Returns the state of the invalidations.
    pub fn invalidation_state(&self) -> InvalidationState {
        self.invalidations.state()
    }
}
