//! Shard versions: a thread can check without the shard lock that nothing in a
//! shard has changed since it looked there. A version is written only if a
//! thread relies on it. Otherwise, it costs a writer one load.

use crate::sync::{AtomicUsize, Ordering, fence};

/// Set while a thread may rely on the version. A change adds this bit once
/// more: that clears it and counts the change in the bits above.
const RELIED_ON: usize = 1;

/// The version of one shard.
#[derive(Debug)]
pub(crate) struct Version(AtomicUsize);

/// A version that a thread relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObservedVersion(usize);

impl Version {
    /// Creates the version of a new shard.
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Returns the current version, for a caller that holds the shard's read
    /// lock and relies on what it sees there.
    pub(crate) fn observe(&self) -> ObservedVersion {
        // Only other readers, which do the same, can change it now.
        let version = self.0.load(Ordering::Relaxed);
        if version & RELIED_ON == 0 {
            self.0.fetch_or(RELIED_ON, Ordering::Relaxed);
        }
        ObservedVersion(version | RELIED_ON)
    }

    /// Returns whether the shard is unchanged since `observed`. A write that has
    /// not been answered yet may be in progress.
    #[inline]
    pub(crate) fn is_unchanged(&self, observed: ObservedVersion) -> bool {
        self.0.load(Ordering::Acquire) == observed.0
    }

    /// Returns whether the shard was unchanged until now, so that all the
    /// caller read before this call is consistent.
    #[inline]
    pub(crate) fn was_unchanged(&self, observed: ObservedVersion) -> bool {
        fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == observed.0
    }

    /// Announces a change. The caller has just taken the shard's write lock and
    /// has changed nothing yet.
    #[inline]
    pub(crate) fn bump(&self) {
        let version = self.0.load(Ordering::Relaxed);
        if version & RELIED_ON != 0 {
            self.0.store(version + RELIED_ON, Ordering::Release);
            // A thread that sees any part of the change also sees the new
            // version.
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
        let observed = version.observe();
        assert!(version.is_unchanged(observed) && version.was_unchanged(observed));
        assert_eq!(version.observe(), observed);
        version.bump();
        assert!(!version.is_unchanged(observed));
        let again = version.observe();
        version.bump();
        version.bump();
        assert!(!version.is_unchanged(observed) && !version.is_unchanged(again));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::RwLock;
    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::thread;

    use super::Version;

    /// Once a write has been answered, a thread that knows of the reply does
    /// not take an older state for the current one.
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
                    version.bump();
                    *value = 1;
                    drop(value);
                    answered.store(true, Ordering::Release);
                })
            };
            let other = {
                let (version, shard) = (Arc::clone(&version), Arc::clone(&shard));
                thread::spawn(move || {
                    let _value = shard.read().unwrap();
                    version.observe();
                })
            };
            let value = shard.read().unwrap();
            let (seen, observed) = (*value, version.observe());
            drop(value);
            let known = answered.load(Ordering::Acquire);
            if version.is_unchanged(observed) {
                assert!(!known || seen == 1);
            }
            writer.join().unwrap();
            other.join().unwrap();
            assert!(seen == 1 || !version.is_unchanged(observed));
        });
    }
}
