//! Time of the cache: a monotonic clock that starts with the server.
//! A step of the system's clock therefore neither expires an item nor keeps it
//! alive. The wall clock is read only to convert Unix times.
//!
//! A TTL never ends early, and ends at most an eighth of a second late. Expiry
//! times count eighths of a second. They are computed from the current eighth
//! rounded up and compared with the current eighth rounded down. Tests move
//! time with [`Clock::advance`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::limits::RELATIVE_EXPTIME_MAX;
use crate::sync::{AtomicU64, Ordering};

/// Reading of the clock at the start, in seconds. Expiry value 0 can thus mean
/// "never" and 1 "already over", as in memcached.
const START_SECONDS: u64 = 2;

/// The server's monotonic clock.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    /// Reading at the start, in milliseconds.
    origin_ms: u64,
    skew_ms: AtomicU64,
}

/// One reading of the clock. Workers take one per wake-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    ms: u64,
}

/// Eighths of a second in a second.
const EIGHTHS: u32 = 8;
/// Milliseconds in an eighth of a second.
pub const EIGHTH_MS: u64 = 1000 / EIGHTHS as u64;

/// Expiry time of an item, in eighths of a second on the server's clock; 0 is
/// [`Expiry::NEVER`].
///
/// The protocol's 32-bit Unix times end in 2038. This count ends 17 years after
/// the start of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry(pub u32);

impl Clock {
    /// Creates a clock that starts now.
    pub fn start() -> Self {
        Self::resume(Now::from_millis(START_SECONDS * 1000))
    }

    /// Creates a clock that goes on from the reading `now` of an earlier clock.
    pub fn resume(now: Now) -> Self {
        Self {
            started: Instant::now(),
            origin_ms: now.millis(),
            skew_ms: AtomicU64::new(0),
        }
    }

    /// Returns the seconds from the start of the server until `now`.
    pub fn uptime(&self, now: Now) -> u32 {
        (now.millis().saturating_sub(self.origin_ms) / 1000) as u32
    }

    /// Reads the clock.
    pub fn now(&self) -> Now {
        self.now_and_nanos().0
    }

    /// Reads the clock once, as [`Clock::now`] and [`Clock::nanos`] do.
    pub fn now_and_nanos(&self) -> (Now, u64) {
        let nanos = self.nanos();
        let now = Now {
            ms: self.origin_ms + nanos / 1_000_000 + self.skew_ms.load(Ordering::Relaxed),
        };
        (now, nanos)
    }

    /// Returns the nanoseconds since the start. [`Clock::advance`] does not
    /// change them.
    pub fn nanos(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Moves the clock forward by `by`. For tests and the command `debugtime`.
    pub fn advance(&self, by: Duration) {
        self.skew_ms
            .fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Now {
    /// Creates a reading of `ms` milliseconds since the clock's origin; for
    /// tests.
    pub const fn from_millis(ms: u64) -> Self {
        Self { ms }
    }

    /// Returns the milliseconds since the clock's origin.
    pub const fn millis(self) -> u64 {
        self.ms
    }

    /// Returns the seconds since the clock's origin, rounded down.
    pub const fn second(self) -> u32 {
        (self.ms / 1000) as u32
    }

    /// Eighths of a second since the clock's origin, rounded down.
    const fn passed_eighth(self) -> u32 {
        (self.ms / EIGHTH_MS) as u32
    }

    /// Eighths of a second since the clock's origin, rounded up.
    const fn running_eighth(self) -> u32 {
        self.ms.div_ceil(EIGHTH_MS) as u32
    }

    /// Returns the eighths of a second left until `expiry`, or `u32::MAX` for
    /// an item that never expires.
    #[inline]
    pub const fn remaining_eighths(self, expiry: Expiry) -> u32 {
        if expiry.0 == 0 {
            return u32::MAX;
        }
        expiry.0.saturating_sub(self.passed_eighth())
    }

    /// Returns the remaining TTL in seconds as the protocol reports it, or
    /// `None` for an item that never expires.
    pub const fn remaining_seconds(self, expiry: Expiry) -> Option<u32> {
        if expiry.0 == 0 {
            return None;
        }
        Some(
            expiry
                .0
                .saturating_sub(self.running_eighth())
                .div_ceil(EIGHTHS),
        )
    }

    /// Returns the remaining TTL of an expired item as memcached reports it:
    /// `expiry` minus `self` in seconds, a negative number modulo 2^32.
    ///
    /// For [`Expiry::OVER`] the clock is taken to start a minute ahead of the
    /// server and `expiry` to be its first second.
    pub const fn overdue(self, expiry: Expiry) -> u32 {
        const LEAD_SECONDS: u32 = 60;
        let (second, now) = match expiry {
            Expiry::OVER => (1, self.second() + LEAD_SECONDS),
            Expiry(eighths) => (eighths / EIGHTHS, self.second()),
        };
        second.wrapping_sub(now)
    }
}

impl Expiry {
    /// Never expires.
    pub const NEVER: Self = Self(0);
    /// Expired already, or at a time before the server started.
    pub const OVER: Self = Self(1);

    /// Converts the exptime of a text or meta command: 0 is never, a negative
    /// number at once, up to 30 days relative to `now`, a larger one a Unix
    /// time (doc/protocol.txt, "Expiration times").
    pub fn from_protocol(exptime: i32, now: Now) -> Self {
        Self::from_seconds(i64::from(exptime), now)
    }

    /// Converts an exptime like [`Expiry::from_protocol`]. Takes 64 bits
    /// because the exptime of a binary packet is unsigned.
    pub fn from_seconds(exptime: i64, now: Now) -> Self {
        if exptime == 0 {
            return Self::NEVER;
        }
        if exptime < 0 {
            return Self::OVER;
        }
        if exptime <= RELATIVE_EXPTIME_MAX {
            return Self::after(exptime, now);
        }
        let left = exptime - unix_seconds() as i64;
        if left <= 0 {
            let eighth = i64::from(now.passed_eighth()) + left * i64::from(EIGHTHS);
            return Self(eighth.max(1) as u32);
        }
        Self::after(left, now)
    }

    /// Returns the expiry time `eighths` eighths of a second after `now`, or never
    /// for `u32::MAX`: the inverse of [`Now::remaining_eighths`].
    pub fn from_remaining(eighths: u32, now: Now) -> Self {
        match eighths {
            u32::MAX => Self::NEVER,
            _ => Self::after_eighths(eighths, now),
        }
    }

    fn after(seconds: i64, now: Now) -> Self {
        let eighths = u32::try_from(seconds * i64::from(EIGHTHS)).unwrap_or(u32::MAX);
        Self::after_eighths(eighths, now)
    }

    fn after_eighths(eighths: u32, now: Now) -> Self {
        Self(now.running_eighth().saturating_add(eighths))
    }

    /// Returns the second in which it ends; 0 for never.
    pub const fn second(self) -> u32 {
        self.0 / EIGHTHS
    }

    /// Returns whether this time has passed at `now`.
    pub const fn is_over(self, now: Now) -> bool {
        self.0 != 0 && self.0 <= now.passed_eighth()
    }
}

/// A reading of the system's clocks, which a later process can compare with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// Milliseconds since the machine started, including those it was suspended.
    pub boot_ms: u64,
    /// Random number of the machine's present run; 0 if unknown.
    pub boot_id: u128,
}

impl Moment {
    /// Reads the clocks.
    pub fn now() -> Self {
        let boot = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot_id = boot_id.unwrap_or_default().trim().replace('-', "");
        Self {
            unix_ms: unix_time().as_millis() as u64,
            boot_ms: boot.map_or(0, |time| Duration::from(time).as_millis() as u64),
            boot_id: u128::from_str_radix(&boot_id, 16).unwrap_or(0),
        }
    }

    /// Returns the milliseconds since `earlier`, a reading by another process.
    /// Uses the system's clock only if the machine was started in between,
    /// because it may have been set. Returns `None` if it went back.
    pub fn since(&self, earlier: &Self) -> Option<u64> {
        if self.boot_id != 0 && self.boot_id == earlier.boot_id {
            return self.boot_ms.checked_sub(earlier.boot_ms);
        }
        self.unix_ms.checked_sub(earlier.unix_ms)
    }
}

/// Returns the seconds since 1970 by the system's clock.
pub fn unix_seconds() -> u64 {
    unix_time().as_secs()
}

/// Returns the microseconds since 1970 by the system's clock.
pub fn unix_micros() -> u64 {
    unix_time().as_micros() as u64
}

fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Expiry, Now, unix_seconds};

    #[test]
    fn a_ttl_never_ends_early() {
        for start in [10_000, 10_001, 10_500, 10_999] {
            let set = Now::from_millis(start);
            let expiry = Expiry::from_protocol(2, set);
            assert!(!expiry.is_over(Now::from_millis(start + 1999)), "{start}");
            assert!(expiry.is_over(Now::from_millis(start + 2125)), "{start}");
            assert_eq!(set.remaining_seconds(expiry), Some(2));
        }
    }

    #[test]
    fn special_numbers() {
        let now = Now::from_millis(5_500);
        assert_eq!(Expiry::from_protocol(0, now), Expiry::NEVER);
        assert!(Expiry::from_protocol(-1, now).is_over(now));
        assert!(Expiry::from_protocol(i32::MIN, now).is_over(now));
        assert_eq!(now.remaining_seconds(Expiry::NEVER), None);
    }

    #[test]
    fn thirty_days_are_relative_and_more_is_a_date() {
        let now = Now::from_millis(5_000);
        let month = 60 * 60 * 24 * 30;
        assert_eq!(
            now.remaining_seconds(Expiry::from_protocol(month, now)),
            Some(month as u32)
        );
        assert!(Expiry::from_protocol(month + 1, now).is_over(now));
        let date = (unix_seconds() + 1000) as i32;
        let left = now
            .remaining_seconds(Expiry::from_protocol(date, now))
            .unwrap();
        assert!((998..=1000).contains(&left), "{left}");
    }
}
