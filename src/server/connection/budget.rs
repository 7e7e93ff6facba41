//! How long one connection is served before others get their turn: by count of
//! batches and by time, or for as long as nobody else waits.

use std::time::{Duration, Instant};

/// How much of a connection's input is served before others get their turn.
pub(in crate::server) struct Budget<'a> {
    /// Batches left.
    batches: usize,
    /// When the second batch began, after which the clock counts as well.
    begun: Option<Instant>,
    /// Time after which the turn ends whatever is left of the batches.
    most: Duration,
    /// Says whether others wait, for a connection that was alone at first.
    others_wait: Option<&'a mut dyn FnMut() -> bool>,
}

/// Batches of a lone connection between two looks at who else waits: not so
/// many that a newcomer waits long, nor so few that the looks cost much.
const LONE_BATCHES: usize = 8;
/// Time between two such looks at the least.
const LONE_TURN: Duration = Duration::from_millis(1);

impl<'a> Budget<'a> {
    /// At most this many batches, and this long.
    pub(in crate::server) fn of(batches: usize, most: Duration) -> Self {
        Self {
            batches,
            begun: None,
            most,
            others_wait: None,
        }
    }

    /// As much as there is while nobody else waits.
    pub(in crate::server) fn alone(others_wait: &'a mut dyn FnMut() -> bool) -> Self {
        Self {
            batches: LONE_BATCHES,
            begun: None,
            most: LONE_TURN,
            others_wait: Some(others_wait),
        }
    }

    /// Whether another batch is to be served.
    pub(in crate::server) fn take(&mut self) -> bool {
        // Batches differ: while memory comes from the system one may take a
        // hundred times as long as usual.
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
