//! The interface of a load under which a server is probed.

use crate::failure::Failure;

/// A load on a single connection.
pub(super) trait Load {
    /// Moves a bounded number of bytes. Never waits.
    fn turn(&mut self) -> Result<(), Failure>;

    /// Returns whether everything has been sent and answered.
    fn is_finished(&self) -> bool;

    /// Returns the name of the current phase.
    fn phase(&self) -> &str;

    /// Returns a text about the progress.
    fn progress(&self) -> String;

    /// Returns the number of sets answered.
    fn sets(&self) -> u64;

    /// Returns the number of sets refused for lack of memory.
    fn refused(&self) -> u64;

    /// Returns the bytes of values sent and received.
    fn value_bytes(&self) -> u64;
}
