//! The eviction policy and its objective.

/// Eviction policy (`-o eviction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// CLOCK with one reference bit per item: used since the hand last passed,
    /// or not.
    Clock,
    /// By recency and frequency of use, regardless of size.
    Frequency,
    /// By recency and frequency of use; larger items are evicted before smaller
    /// ones, as far as the objective asks for it.
    FrequencySize(Objective),
}

impl Default for Eviction {
    fn default() -> Self {
        Self::FrequencySize(Objective::default())
    }
}

impl Eviction {
    /// Returns the objective, if the policy has one.
    pub fn objective(self) -> Option<Objective> {
        match self {
            Self::FrequencySize(objective) => Some(objective),
            Self::Clock | Self::Frequency => None,
        }
    }
}

/// What eviction by frequency and size aims at (`-o objective`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Objective {
    /// Most hits per request.
    Hits,
    /// Both hit ratios above those of an LRU cache.
    #[default]
    Balanced,
    /// Most bytes served from the cache.
    Bytes,
}

impl Objective {
    /// Returns the objective's name, as the option and `stats settings` spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hits => "hits",
            Self::Balanced => "balanced",
            Self::Bytes => "bytes",
        }
    }
}
