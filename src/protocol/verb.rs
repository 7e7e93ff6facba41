//! Commands that share a form of request.

/// How a storage command decides whether to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreVerb {
    /// Store unconditionally.
    Set,
    /// Store only if the key is absent.
    Add,
    /// Store only if the key is present.
    Replace,
    /// Add behind the present value.
    Append,
    /// Add before the present value.
    Prepend,
    /// Store only if the item is the one with this CAS value.
    Cas,
}

/// The argument of `shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// None.
    Now,
    /// `graceful`.
    Graceful,
    /// Anything else.
    Unknown,
}

/// Commands for operators.
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
    /// `debugtime`, of builds for tests
    #[cfg(feature = "debugtime")]
    DebugTime,
}
