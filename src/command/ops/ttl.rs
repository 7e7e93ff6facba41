//! Conversion of TTLs, shortened by key if the server spreads them
//! (`-o ttl_jitter`): items that are stored together then expire one after
//! another, and are not all recomputed at once.

use twox_hash::XxHash3_64;

use crate::command::executor::Executor;
use crate::time::{Expiry, Now};

/// What a conversion depends on.
#[derive(Clone, Copy, Debug)]
pub(in crate::command) struct Ttls {
    /// The present time.
    pub(in crate::command) now: Now,
    /// Most percent by which a TTL is shortened; 0 for none.
    jitter: u8,
}

impl Executor<'_> {
    #[inline]
    pub(in crate::command) fn ttls(&self) -> Ttls {
        Ttls {
            now: self.now,
            jitter: self.shared.config.ttl_jitter,
        }
    }
}

impl Ttls {
    /// Converts the exptime that a command gives the item of a key; see
    /// [`Expiry::from_seconds`].
    #[inline]
    pub(in crate::command) fn expiry(self, exptime: impl Into<i64>, key: &[u8]) -> Expiry {
        let expiry = Expiry::from_seconds(exptime.into(), self.now);
        match self.jitter {
            0 => expiry,
            percent => self.shorten(expiry, percent, key),
        }
    }

    /// Shortens the time that is left by a part of `percent`. The part depends on
    /// the key alone: a touch does not change it, and it is the same on each server.
    #[cold]
    fn shorten(self, expiry: Expiry, percent: u8, key: &[u8]) -> Expiry {
        let left = self.now.remaining_eighths(expiry);
        if left == u32::MAX {
            return expiry;
        }
        let part = XxHash3_64::oneshot(key) >> 32;
        let most = u64::from(left) * u64::from(percent) / 100;
        let by = (most * part) >> 32;
        Expiry(expiry.0 - by as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::Ttls;
    use crate::time::{Expiry, Now};

    const NOW: Now = Now::from_millis(50_000);

    fn left(jitter: u8, ttl: i64, key: &str) -> u32 {
        let ttls = Ttls { now: NOW, jitter };
        NOW.remaining_eighths(ttls.expiry(ttl, key.as_bytes()))
    }

    #[test]
    fn ttls_are_spread_evenly_and_never_longer() {
        let all: Vec<u32> = (0..10_000)
            .map(|number| left(20, 1000, &format!("key:{number}")))
            .collect();
        let (least, most) = (*all.iter().min().unwrap(), *all.iter().max().unwrap());
        let whole = left(0, 1000, "key");
        assert!(most <= whole && most > whole - 10, "{most} of {whole}");
        assert!(least >= whole / 100 * 80 - 1, "{least} of {whole}");
        assert!(least < whole / 100 * 80 + 10, "{least} of {whole}");
        let mean = all.iter().map(|left| u64::from(*left)).sum::<u64>() / all.len() as u64;
        assert!((7100..7300).contains(&mean), "{mean} eighths");
        assert_eq!(left(20, 1000, "key:7"), left(20, 1000, "key:7"));
    }

    #[test]
    fn no_ttl_ends_at_once() {
        for ttl in 1..5 {
            for number in 0..1000 {
                let eighths = left(90, ttl, &number.to_string());
                assert!(eighths >= ttl as u32 * 8 / 10, "{eighths} of {ttl} s");
            }
        }
    }

    #[test]
    fn what_never_expires_and_what_is_over_stays() {
        let ttls = Ttls {
            now: NOW,
            jitter: 50,
        };
        assert_eq!(ttls.expiry(0, b"key"), Expiry::NEVER);
        assert_eq!(ttls.expiry(-1, b"key"), Expiry::OVER);
    }
}
