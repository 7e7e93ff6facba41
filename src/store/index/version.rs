//! The version of a shard: tells, without the shard's lock, that nothing in
//! the shard has changed since one looked there. Read by whoever relies on
//! it, and written only when somebody does: a shard that nobody relies on
//! costs its writers a look.

use crate::sync::{AtomicUsize, Ordering, fence};

/// Set while somebody relies on the version.
const RELIED_ON: usize = 1;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Version(AtomicUsize);

/// A version that somebody relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relied(usize);

impl Version {
    /// Of a new shard.
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Begins to rely on what is seen in the shard, whose read lock the
    /// caller holds.
    pub(crate) fn rely(&self) -> Relied {
        // Nobody but other readers, who do the same, can change it now.
        let version = self.0.load(Ordering::Relaxed);
        if version & RELIED_ON == 0 {
            self.0.fetch_or(RELIED_ON, Ordering::Relaxed);
        }
        Relied(version | RELIED_ON)
    }

    /// Whether nothing has been changed since. Something may be being changed,
    /// by a write that has not been answered.
    #[inline]
    pub(crate) fn holds(&self, relied: Relied) -> bool {
        self.0.load(Ordering::Acquire) == relied.0
    }

    /// Whether nothing has been changed until what the caller read before this
    /// call, so that all of it was so at one moment.
    #[inline]
    pub(crate) fn held(&self, relied: Relied) -> bool {
        fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == relied.0
    }

    /// Announces a change; the caller has just taken the shard's write lock.
    #[inline]
    pub(crate) fn change(&self) {
        let version = self.0.load(Ordering::Relaxed);
        if version & RELIED_ON != 0 {
            self.0.store(version + RELIED_ON, Ordering::Release);
            // Whoever sees any of the change sees this before.
            fence(Ordering::Release);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Version;

    #[test]
    fn holds_until_the_next_change() {
        let version = Version::new();
        let relied = version.rely();
        assert!(version.holds(relied) && version.held(relied));
        assert_eq!(version.rely(), relied);
        version.change();
        assert!(!version.holds(relied));
        let again = version.rely();
        version.change();
        version.change();
        assert!(!version.holds(relied) && !version.holds(again));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::RwLock;
    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::thread;

    use super::Version;

    /// Once a write has been answered, nobody who learns of that takes what
    /// was seen before it for what there is.
    #[test]
    fn a_version_does_not_outlive_an_answered_write() {
        loom::model(|| {
            let version = Arc::new(Version::new());
            let shard = Arc::new(RwLock::new(0));
            let answered = Arc::new(AtomicBool::new(false));
            let writer = {
                let (version, shard) = (Arc::clone(&version), Arc::clone(&shard));
                let answered = Arc::clone(&answered);
                thread::spawn(move || {
                    let mut value = shard.write().unwrap();
                    version.change();
                    *value = 1;
                    drop(value);
                    answered.store(true, Ordering::Release);
                })
            };
            let other = {
                let (version, shard) = (Arc::clone(&version), Arc::clone(&shard));
                thread::spawn(move || {
                    let _value = shard.read().unwrap();
                    version.rely();
                })
            };
            let value = shard.read().unwrap();
            let (seen, relied) = (*value, version.rely());
            drop(value);
            let known = answered.load(Ordering::Acquire);
            if version.holds(relied) {
                assert!(!known || seen == 1);
            }
            writer.join().unwrap();
            other.join().unwrap();
            assert!(seen == 1 || !version.holds(relied));
        });
    }
}
