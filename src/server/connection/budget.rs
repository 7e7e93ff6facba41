//! Budget of a connection's turn: a number of batches and a time, or no bound
//! while no other connection waits.

use std::time::{Duration, Instant};

/// Work that a connection may do before others get their turn.
pub(in crate::server) struct Budget<'a> {
    /// Batches left.
    batches: usize,
    /// Time of the second batch, from which the turn's time counts. A turn of
    /// one batch reads no clock.
    begun: Option<Instant>,
    /// Time after which the turn ends, whatever is left of `batches`.
    most: Duration,
    /// Returns whether other connections wait; `None` if the connection was not
    /// alone when its turn began.
    others_wait: Option<&'a mut dyn FnMut() -> bool>,
}

/// Batches of a lone connection between two checks for other connections. More
/// would delay a newcomer; fewer would make the checks expensive.
const LONE_BATCHES: usize = 8;
/// Time after which a lone connection checks for others earlier.
const LONE_TURN: Duration = Duration::from_millis(1);

impl<'a> Budget<'a> {
    /// Creates a budget of `batches` further batches and the time `most`.
    pub(in crate::server) fn of(batches: usize, most: Duration) -> Self {
        Self {
            batches,
            begun: None,
            most,
            others_wait: None,
        }
    }

    /// Creates a budget that is renewed as long as `others_wait` returns false.
    pub(in crate::server) fn alone(others_wait: &'a mut dyn FnMut() -> bool) -> Self {
        Self {
            batches: LONE_BATCHES,
            begun: None,
            most: LONE_TURN,
            others_wait: Some(others_wait),
        }
    }

    /// Takes one batch from the budget. Returns false if the turn must end.
    pub(in crate::server) fn take(&mut self) -> bool {
        // The time of a batch varies: one that obtains memory from the system
        // may take a hundred times as long as usual.
        let begun = *self.begun.get_or_insert_with(Instant::now);
        if self.batches == 0 || begun.elapsed() >= self.most {
            let Some(others_wait) = &mut self.others_wait else {
                return false;
            };
            if others_wait() {
                return false;
            }
            self.batches = LONE_BATCHES;
            self.begun = Some(Instant::now());
        }
        self.batches -= 1;
        true
    }
}
