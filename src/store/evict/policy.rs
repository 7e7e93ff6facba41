//! The eviction policy: CLOCK with a due tick per item in place of the
//! reference bit. Pure arithmetic on 16 bits per item; `victim.rs` moves the
//! hand.
//!
//! The hand's clock counts ticks; it advances with each item that the hand
//! looks at. An item's stamp holds its use count and its due tick. Frequently
//! used and small items get later due ticks. The hand evicts the first due
//! item. If it finds none among a bounded number of items, it evicts the item
//! with the fewest ticks left. For items of equal use and size this is CLOCK.
//! Weighing by size is the idea of GreedyDual-Size (Cao and Irani, "Cost-Aware
//! WWW Proxy Caching Algorithms", USITS 1997).

use crate::config::{Eviction, Objective};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::EIGHTH_MS;

/// Maximum number of items that one search for a victim looks at.
pub(crate) const SCAN_LIMIT: usize = 32;

/// Bits of the due tick in a stamp; the use count is above.
const DUE_BITS: u32 = 13;
const DUE: u16 = (1 << DUE_BITS) - 1;
const USES_MAX: u16 = 7;

/// Ticks per full turn of the hand, at speed 1.
const TICKS_PER_TURN: f64 = 2.0;
/// Turns that an item of mean size is kept per unit of worth.
const TURNS: f64 = 8.0;
/// A TTL shortens the lifetime only to this multiple of it. Ticks are long in a
/// large store, so that items with a short TTL would be due from the start. The
/// factor is a power of two.
const TTL_SLACK_BITS: u32 = 3;

/// Range of mean size divided by item size, in half doublings: from 1/16 to 22.6.
/// Wider above, because a few large items may raise the mean far above most
/// sizes. The longest lifetime must fit the due tick.
const HALF_DOUBLINGS: std::ops::RangeInclusive<i32> = -8..=9;
const WEIGHTS: usize = 18;

/// Fraction bits of the hand's clock.
const FRACTION_BITS: u32 = 32;
/// Fraction bits of the pace.
const PACE_BITS: u32 = 16;
/// Minimum interval between measurements of the pace, in milliseconds.
const PACE_EVERY_MS: u64 = 1000;
/// Weight of the smoothing: each measurement moves the pace by 1/8 of the
/// difference.
const PACE_MEMORY: f64 = 8.0;
/// Bounds of the clock's speed.
const SPEED_RANGE: (f32, f32) = (1.0 / 256.0, 64.0);

/// How lifetimes depend on use and size. The values were fitted to recorded
/// traces: see docs/eviction.md.
#[derive(Clone, Copy)]
struct Shape {
    /// Worth of an item without a use since it was stored. An item with n uses
    /// is worth 1 + n.
    worth_unused: f64,
    /// Exponent of the size weight: 0 is regardless of size.
    size_power: f64,
}

impl Shape {
    /// Returns the shape of a policy that has one.
    fn of(kind: Eviction) -> Option<Self> {
        let (worth_unused, size_power) = match kind {
            Eviction::Clock => return None,
            Eviction::Frequency => (0.6, 0.0),
            Eviction::FrequencySize(Objective::Hits) => (0.6, 1.0),
            Eviction::FrequencySize(Objective::Balanced) => (1.25, 0.375),
            Eviction::FrequencySize(Objective::Bytes) => (1.0, 0.2),
        };
        Some(Self {
            worth_unused,
            size_power,
        })
    }
}

/// Use count (3 bits) and due tick (13 bits) of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) u16);

/// The part of the policy's state that outlives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The hand's clock: ticks in fixed point.
    pub(crate) clock: u64,
    /// Factor on the ticks per turn: the bits of an `f32`.
    pub(crate) speed: u32,
    /// Ticks per eighth of a second, in fixed point.
    pub(crate) pace: u32,
}

/// The policy's state: the hand's clock and the table of lifetimes.
pub(crate) struct Policy {
    kind: Eviction,
    /// Largest use count: 1 for plain CLOCK.
    uses_max: u16,
    /// The hand's clock: ticks in fixed point.
    clock: AtomicU64,
    /// Ticks per item looked at, in fixed point.
    step: AtomicU64,
    /// Factor on the ticks per turn (the bits of an `f32`), set by
    /// [`Policy::adjust_speed`].
    speed: AtomicU32,
    /// Twice the binary logarithm of the mean item size in bytes.
    mean: AtomicU32,
    /// Ticks per eighth of a second, in fixed point; 0 while unknown.
    pace: AtomicU32,
    /// The clock, and the time in milliseconds, at the last measurement of the
    /// pace.
    paced: [AtomicU64; 2],
    /// Lifetimes in ticks, by use count and size weight.
    lifetimes: Box<[[u16; WEIGHTS]; USES_MAX as usize + 1]>,
}

impl Policy {
    /// Creates a policy of this kind.
    pub(crate) fn new(kind: Eviction) -> Self {
        let (lifetimes, uses_max) = match Shape::of(kind) {
            None => (clock_lifetimes(), 1),
            Some(shape) => (lifetimes(shape), USES_MAX),
        };
        Self {
            kind,
            uses_max,
            clock: AtomicU64::new(0),
            step: AtomicU64::new(0),
            speed: AtomicU32::new(1f32.to_bits()),
            mean: AtomicU32::new(half_log(128)),
            pace: AtomicU32::new(0),
            paced: [AtomicU64::new(0), AtomicU64::new(0)],
            lifetimes,
        }
    }

    /// Returns the stamp of an item of `bytes` bytes that is stored. `uses` is
    /// the use count of the item it replaces, or of its ghost, else 0.
    /// `remaining` is its TTL in eighths of a second, or `u32::MAX` if it never
    /// expires.
    #[inline]
    pub(crate) fn on_insert(&self, bytes: usize, uses: u16, remaining: u32) -> Stamp {
        self.stamp(uses, bytes, remaining)
    }

    /// Returns the stamp of an item after a hit: one more use, and a new due
    /// tick. `bytes` and `remaining` are as in [`Policy::on_insert`].
    #[inline]
    pub(crate) fn on_hit(&self, stamp: Stamp, bytes: usize, remaining: u32) -> Stamp {
        self.stamp(stamp.uses() + 1, bytes, remaining)
    }

    /// Returns the ticks left until an item is due; 0 or less if it is due.
    #[inline]
    pub(crate) fn ticks_left(&self, stamp: Stamp) -> i16 {
        let distance = stamp.due().wrapping_sub(self.tick()) & DUE;
        // Sign extension: the upper half of the range is the past.
        ((distance << (16 - DUE_BITS)) as i16) >> (16 - DUE_BITS)
    }

    /// Advances the hand's clock for `looks` items that the hand has looked at.
    #[inline]
    pub(crate) fn advance(&self, looks: usize) {
        let step = self.step.load(Ordering::Relaxed);
        self.clock.fetch_add(step * looks as u64, Ordering::Relaxed);
    }

    /// Adjusts the clock's speed after a search, so that about one search in
    /// five finds a due item. `found_due` is whether this one did. The speed is
    /// constant for plain CLOCK.
    pub(crate) fn adjust_speed(&self, found_due: bool) {
        if self.kind == Eviction::Clock {
            return;
        }
        let speed = f32::from_bits(self.speed.load(Ordering::Relaxed));
        let speed = adjusted(speed, found_due);
        self.speed.store(speed.to_bits(), Ordering::Relaxed);
    }

    /// Returns the ticks by which a hand that does not move the clock ages items,
    /// after one of its searches; as [`Policy::adjust_speed`] does.
    pub(crate) fn adjust_aging(&self, aging: f32, found_due: bool) -> f32 {
        match self.kind {
            Eviction::Clock => TICKS_PER_TURN as f32,
            _ => adjusted(aging, found_due),
        }
    }

    /// Updates the ticks per look and the mean size by the number of items in
    /// the store and their total bytes.
    pub(crate) fn survey(&self, items: u64, bytes: u64) {
        let items = items.max(1);
        let speed = f64::from(f32::from_bits(self.speed.load(Ordering::Relaxed)));
        let step = TICKS_PER_TURN * speed / items as f64 * (1u64 << FRACTION_BITS) as f64;
        self.step.store(step as u64, Ordering::Relaxed);
        let mean = half_log((bytes / items) as usize);
        self.mean.store(mean, Ordering::Relaxed);
    }

    /// Measures how fast the clock advances in real time. `now_ms` is in
    /// milliseconds. Only one thread may call it.
    pub(crate) fn measure_pace(&self, now_ms: u64) {
        let clock = self.clock.load(Ordering::Relaxed);
        let [clock_before, ms_before] = &self.paced;
        let elapsed = now_ms.saturating_sub(ms_before.load(Ordering::Relaxed));
        if elapsed < PACE_EVERY_MS {
            return;
        }
        let advanced = clock - clock_before.swap(clock, Ordering::Relaxed);
        ms_before.store(now_ms, Ordering::Relaxed);
        let ticks = advanced as f64 / (1u64 << FRACTION_BITS) as f64;
        let per_eighth = ticks * EIGHTH_MS as f64 / elapsed as f64;
        let measured = per_eighth * f64::from(1u32 << PACE_BITS);
        let before = f64::from(self.pace.load(Ordering::Relaxed));
        let smooth = if before == 0.0 {
            measured
        } else {
            before + (measured - before) / PACE_MEMORY
        };
        self.pace.store(smooth as u32, Ordering::Relaxed);
    }

    /// Returns what a restarted server needs to go on with the stamps of this
    /// one: clock, speed and pace.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            clock: self.clock.load(Ordering::Relaxed),
            speed: self.speed.load(Ordering::Relaxed),
            pace: self.pace.load(Ordering::Relaxed),
        }
    }

    /// Goes on from the progress of an earlier server. `now_ms` is the time, in
    /// milliseconds. Only the ticks that stamps can hold are kept of the clock,
    /// so that it has no end.
    pub(crate) fn resume(&self, progress: Progress, now_ms: u64) {
        let speed = f32::from_bits(progress.speed);
        let speed = if speed.is_finite() { speed } else { 1.0 };
        let speed = speed.clamp(SPEED_RANGE.0, SPEED_RANGE.1);
        self.speed.store(speed.to_bits(), Ordering::Relaxed);
        let clock = progress.clock % (1 << (DUE_BITS + FRACTION_BITS));
        self.clock.store(clock, Ordering::Relaxed);
        self.paced[0].store(clock, Ordering::Relaxed);
        self.paced[1].store(now_ms, Ordering::Relaxed);
        self.pace.store(progress.pace, Ordering::Relaxed);
    }

    /// Returns the stamp of an item of an earlier server, within the limits of
    /// this policy: that of the earlier server may have been another one.
    pub(crate) fn adopt(&self, stamp: Stamp) -> Stamp {
        let uses = stamp.uses().min(self.uses_max);
        let [.., longest] = self.lifetimes[usize::from(uses)];
        let left = self.ticks_left(stamp).min(longest as i16);
        Stamp(uses << DUE_BITS | self.tick().wrapping_add_signed(left) & DUE)
    }

    /// Returns the stamp of an item with this use count, size in bytes and TTL
    /// in eighths of a second.
    #[inline]
    fn stamp(&self, uses: u16, bytes: usize, remaining: u32) -> Stamp {
        let uses = uses.min(self.uses_max);
        let mean = self.mean.load(Ordering::Relaxed) as i32;
        let weight =
            (mean - half_log(bytes) as i32).clamp(*HALF_DOUBLINGS.start(), *HALF_DOUBLINGS.end());
        let index = (weight - HALF_DOUBLINGS.start()) as usize;
        let mut life = self.lifetimes[usize::from(uses)][index];
        if remaining != u32::MAX {
            life = life.min(self.ticks_in(remaining));
        }
        Stamp(uses << DUE_BITS | self.tick().wrapping_add(life) & DUE)
    }

    /// Returns the most ticks that an item with this TTL in eighths of a second
    /// lives: at least 1, and `u16::MAX` while the pace is unknown.
    fn ticks_in(&self, eighths: u32) -> u16 {
        match self.pace.load(Ordering::Relaxed) {
            0 => u16::MAX,
            pace => {
                let product = u64::from(eighths) * u64::from(pace);
                let ticks = product >> (PACE_BITS - TTL_SLACK_BITS);
                ticks.clamp(1, u64::from(u16::MAX)) as u16
            }
        }
    }

    /// Returns the current tick, modulo 2^13.
    fn tick(&self) -> u16 {
        (self.clock.load(Ordering::Relaxed) >> FRACTION_BITS) as u16 & DUE
    }
}

impl Stamp {
    /// Returns the use count.
    pub(crate) fn uses(self) -> u16 {
        self.0 >> DUE_BITS
    }

    /// Returns the stamp of an item that has `left` ticks left and becomes due
    /// `by` ticks earlier, but not before now.
    pub(crate) fn aged(self, left: i16, by: u16) -> Self {
        let by = by.min(left.max(0) as u16);
        Self(self.0 & !DUE | self.due().wrapping_sub(by) & DUE)
    }

    fn due(self) -> u16 {
        self.0 & DUE
    }
}

/// Returns the speed after a search that found a due item or did not.
fn adjusted(speed: f32, found_due: bool) -> f32 {
    let factor = if found_due {
        1.0 - 4.0 / 512.0
    } else {
        1.0 + 1.0 / 512.0
    };
    (speed * factor).clamp(SPEED_RANGE.0, SPEED_RANGE.1)
}

/// Returns the lifetimes for plain CLOCK: a used item is passed over once.
fn clock_lifetimes() -> Box<[[u16; WEIGHTS]; USES_MAX as usize + 1]> {
    let mut lifetimes = Box::new([[1 + TICKS_PER_TURN as u16; WEIGHTS]; USES_MAX as usize + 1]);
    lifetimes[0] = [1; WEIGHTS];
    lifetimes
}

/// Returns the lifetimes of this shape.
fn lifetimes(shape: Shape) -> Box<[[u16; WEIGHTS]; USES_MAX as usize + 1]> {
    let mut lifetimes = Box::new([[0; WEIGHTS]; USES_MAX as usize + 1]);
    for (uses, row) in lifetimes.iter_mut().enumerate() {
        let worth = if uses == 0 {
            shape.worth_unused
        } else {
            1.0 + uses as f64
        };
        for (life, half_doublings) in row.iter_mut().zip(HALF_DOUBLINGS) {
            let weight = (f64::from(half_doublings) / 2.0 * shape.size_power).exp2();
            *life = (TURNS * TICKS_PER_TURN * worth * weight).round().max(1.0) as u16;
        }
    }
    lifetimes
}

/// Returns twice the binary logarithm, rounded down.
#[inline]
fn half_log(bytes: usize) -> u32 {
    let bytes = bytes.max(2);
    let whole = bytes.ilog2();
    let half = bytes >> (whole - 1) & 1;
    2 * whole + half as u32
}

#[cfg(test)]
mod tests {
    use super::{Policy, Stamp, USES_MAX, half_log};
    use crate::config::{Eviction, Objective};

    #[test]
    fn used_and_small_items_live_longer() {
        let policy = Policy::new(Eviction::default());
        policy.survey(1000, 1000 * 1024);
        let left = |stamp| policy.ticks_left(stamp);
        let new = policy.on_insert(1024, 0, u32::MAX);
        let used = policy.on_hit(new, 1024, u32::MAX);
        assert!(left(used) > left(new) && left(new) > 0);
        assert!(left(policy.on_insert(128, 0, u32::MAX)) > left(new));
        assert!(left(policy.on_insert(8192, 0, u32::MAX)) < left(new));
        let blind = Policy::new(Eviction::Frequency);
        assert_eq!(
            blind.on_insert(64, 0, u32::MAX),
            blind.on_insert(1 << 20, 0, u32::MAX)
        );
    }

    #[test]
    fn objectives_differ_by_the_weight_of_size() {
        let ratio = |objective| {
            let policy = Policy::new(Eviction::FrequencySize(objective));
            policy.survey(1000, 1000 * 1024);
            let left = |bytes| policy.ticks_left(policy.on_insert(bytes, 3, u32::MAX));
            f64::from(left(256)) / f64::from(left(4096))
        };
        let (hits, balanced) = (ratio(Objective::Hits), ratio(Objective::Balanced));
        let bytes = ratio(Objective::Bytes);
        assert!(hits > 2.0 * balanced && balanced > 1.3 * bytes && bytes > 1.3);
    }

    #[test]
    fn the_longest_lifetime_fits_the_due_tick() {
        let all = [Objective::Hits, Objective::Balanced, Objective::Bytes];
        let kinds = [Eviction::Clock, Eviction::Frequency];
        for kind in kinds.into_iter().chain(all.map(Eviction::FrequencySize)) {
            let policy = Policy::new(kind);
            // One byte, and a mean that is far above.
            policy.survey(1, 1 << 30);
            let stamp = policy.on_insert(1, USES_MAX, u32::MAX);
            let lives = policy.lifetimes.iter().flatten();
            let longest = *lives.max().expect("there are lifetimes") as i16;
            assert_eq!(policy.ticks_left(stamp), longest, "{kind:?}");
        }
    }

    #[test]
    fn items_become_due_as_the_hand_turns() {
        let policy = Policy::new(Eviction::Frequency);
        policy.survey(100, 100 * 100);
        let stamp = policy.on_insert(100, 0, u32::MAX);
        let mut looks = 0;
        while policy.ticks_left(stamp) > 0 {
            policy.advance(1);
            looks += 1;
        }
        assert!((400..=600).contains(&looks), "{looks} looks at 100 items");
        policy.advance(100_000);
        assert!(
            policy.ticks_left(stamp) < 0,
            "the date does not come back soon"
        );
    }

    #[test]
    fn repeated_hits_end_in_the_same_stamp() {
        let policy = Policy::new(Eviction::default());
        let mut stamp = policy.on_insert(100, 0, u32::MAX);
        for _ in 0..7 {
            stamp = policy.on_hit(stamp, 100, u32::MAX);
        }
        assert_eq!(
            policy.on_hit(stamp, 100, u32::MAX),
            stamp,
            "nothing to write"
        );
        assert_eq!(
            policy.on_insert(100, stamp.uses(), u32::MAX),
            stamp,
            "uses are kept"
        );
        let _: Stamp = stamp;
    }

    #[test]
    fn what_ends_soon_is_due_soon_after() {
        let policy = Policy::new(Eviction::Frequency);
        policy.survey(100, 100 * 100);
        let forever = policy.on_insert(100, 0, u32::MAX);
        assert_eq!(policy.on_insert(100, 0, 8), forever, "no pace known yet");
        // 100 looks are a turn of two ticks; one turn a second.
        for second in 1..=30 {
            policy.advance(100);
            policy.measure_pace(1000 * second);
        }
        // The lifetime is at most eight times the TTL.
        let left = |eighths: u32| policy.ticks_left(policy.on_insert(100, 0, eighths));
        assert!((1..=2).contains(&left(1)), "{}", left(1));
        assert!((3..=4).contains(&left(2)), "{}", left(2));
        assert_eq!(left(0), 1);
        let forever = policy.ticks_left(policy.on_insert(100, 0, u32::MAX));
        assert_eq!(left(8), forever, "a second is half a lifetime");
    }

    #[test]
    fn the_pace_goes_on_after_a_restart() {
        let before = Policy::new(Eviction::Frequency);
        before.survey(100, 100 * 100);
        for second in 1..=30 {
            before.advance(100);
            before.measure_pace(1000 * second);
        }
        let after = Policy::new(Eviction::Frequency);
        after.resume(before.progress(), 30_000);
        after.survey(100, 100 * 100);
        let ttl = 2;
        let left = |policy: &Policy| policy.ticks_left(policy.on_insert(100, 0, ttl));
        assert!(left(&before) < before.ticks_left(before.on_insert(100, 0, u32::MAX)));
        assert_eq!(left(&after), left(&before));
        for second in 31..=40 {
            after.advance(100);
            after.measure_pace(1000 * second);
            assert_eq!(left(&after), left(&before), "{second}");
        }
    }

    #[test]
    fn stamps_of_another_policy_are_adopted() {
        let before = Policy::new(Eviction::default());
        before.survey(100, 100 * 10_000);
        let stamp = (0..7).fold(before.on_insert(64, 0, u32::MAX), |stamp, _| {
            before.on_hit(stamp, 64, u32::MAX)
        });
        assert_eq!(before.adopt(stamp), stamp);
        let after = Policy::new(Eviction::Clock);
        after.resume(before.progress(), 0);
        let used = after.on_hit(after.on_insert(64, 0, u32::MAX), 64, u32::MAX);
        assert_eq!(after.adopt(stamp), used);
    }

    #[test]
    fn half_logs() {
        assert_eq!(half_log(0), 2);
        assert_eq!(half_log(64), 12);
        assert_eq!(half_log(96), 13);
        assert_eq!(half_log(127), 13);
        assert_eq!(half_log(128), 14);
    }
}
