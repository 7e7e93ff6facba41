//! Commands that share a form of request.

/// Verb of a storage command: its condition and how it combines values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreVerb {
    /// Stores unconditionally.
    Set,
    /// Stores only if the key is absent.
    Add,
    /// Stores only if the key is present.
    Replace,
    /// Appends to the present value.
    Append,
    /// Prepends to the present value.
    Prepend,
    /// Compare-and-swap: stores only if the item has the given CAS value.
    Cas,
}

impl StoreVerb {
    /// Returns whether the command extends the present value.
    #[inline]
    pub fn extends(self) -> bool {
        matches!(self, Self::Append | Self::Prepend)
    }

    /// Returns the name of the classic command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Add => "add",
            Self::Replace => "replace",
            Self::Append => "append",
            Self::Prepend => "prepend",
            Self::Cas => "cas",
        }
    }
}

/// Verb of an arithmetic command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArithmeticVerb {
    /// Adds modulo 2^64.
    #[default]
    Increment,
    /// Subtracts, stopping at 0.
    Decrement,
}

impl ArithmeticVerb {
    /// Returns the name of the classic command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Increment => "incr",
            Self::Decrement => "decr",
        }
    }

    /// Returns the new number of an item.
    #[inline]
    pub fn apply(self, number: u64, delta: u64) -> u64 {
        match self {
            Self::Increment => number.wrapping_add(delta),
            Self::Decrement => number.saturating_sub(delta),
        }
    }
}

/// Argument of `shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// No argument: stop at once.
    Now,
    /// `graceful`.
    Graceful,
    /// Any other argument, which is refused.
    Unknown,
}

/// What `invalidate` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// `prefix`
    Prefix,
    /// `tag`
    Tag,
}

impl NameKind {
    /// Returns the word of the command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Tag => "tag",
        }
    }
}

/// Administrative commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlVerb {
    /// `lru`
    Lru,
    /// `lru_crawler`
    LruCrawler,
    /// `slabs`
    Slabs,
    /// `watch`
    Watch,
    /// `extstore`
    Extstore,
    /// `prefix_limit`
    PrefixLimit,
    /// `debugtime`, in test builds only
    #[cfg(feature = "debugtime")]
    DebugTime,
}
