//! A check that owned chunks are released, in debug builds.

/// Part of a value whose owner must pass it back to the store. In debug builds,
/// dropping it panics, because the value's chunks have leaked. In release
/// builds it does nothing and has no size.
#[derive(Debug)]
#[must_use]
pub(in crate::store) struct DropBomb(());

impl DropBomb {
    /// Creates the check for a new value.
    pub(in crate::store) fn new() -> Self {
        Self(())
    }

    /// Ends the check: the value has been passed back.
    pub(in crate::store) fn defuse(self) {
        std::mem::forget(self);
    }
}

#[cfg(debug_assertions)]
impl Drop for DropBomb {
    fn drop(&mut self) {
        // A second panic would hide the first.
        assert!(
            std::thread::panicking(),
            "an item's reference was dropped, not released"
        );
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::DropBomb;

    #[test]
    #[should_panic(expected = "not released")]
    fn dropping_panics() {
        drop(DropBomb::new());
    }

    #[test]
    fn defusing_does_not() {
        DropBomb::new().defuse();
    }
}
