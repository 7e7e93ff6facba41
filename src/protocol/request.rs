//! What a client can ask for, whichever way it is spelt. Requests borrow
//! from the read buffer; nothing is copied until it reaches an item.

use crate::protocol::binary::Packet;
use crate::protocol::meta::MetaRequest;
use crate::protocol::scan::until_blank;

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

/// A classic storage command's line; its value follows on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLine<'a> {
    /// What to do.
    pub verb: StoreVerb,
    /// The key, 1 to 250 bytes.
    pub key: &'a [u8],
    /// Opaque client flags.
    pub flags: u32,
    /// Expiry time as the protocol spells it.
    pub exptime: i32,
    /// Bytes of the value, without its line end.
    pub value_len: u32,
    /// The CAS value to compare with; 0 for all but `cas`.
    pub cas: u64,
    /// Answer nothing.
    pub noreply: bool,
}

/// A classic retrieval line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetLine<'a> {
    /// The keys, blank-separated; each at most 250 bytes.
    pub keys: &'a [u8],
    /// There is one key, and `keys` is nothing else.
    pub single: bool,
    /// Send CAS values (`gets`, `gats`).
    pub cas: bool,
    /// New expiry time for what is found (`gat`, `gats`).
    pub touch: Option<i32>,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `get`, `gets`, `gat`, `gats`.
    Get(GetLine<'a>),
    /// A retrieval line with a key that is too long, which is an error. The
    /// keys before it count as asked for, and are touched.
    BrokenGet {
        /// The keys before the bad one, blank-separated.
        keys: &'a [u8],
        /// New expiry time for what is found (`gat`, `gats`).
        touch: Option<i32>,
    },
    /// `set`, `add`, `replace`, `append`, `prepend`, `cas`.
    Store(StoreLine<'a>),
    /// `delete`.
    Delete {
        /// The key.
        key: &'a [u8],
        /// Answer nothing.
        noreply: bool,
    },
    /// `incr` and `decr`.
    Arithmetic {
        /// The key.
        key: &'a [u8],
        /// By how much.
        delta: u64,
        /// Downwards.
        decrement: bool,
        /// Answer nothing.
        noreply: bool,
    },
    /// `touch`.
    Touch {
        /// The key.
        key: &'a [u8],
        /// New expiry time.
        exptime: i32,
        /// Answer nothing.
        noreply: bool,
    },
    /// `mg`.
    MetaGet(MetaRequest<'a>),
    /// `ms`; its value follows on the wire.
    MetaSet(MetaRequest<'a>),
    /// `md`.
    MetaDelete(MetaRequest<'a>),
    /// `ma`.
    MetaArithmetic(MetaRequest<'a>),
    /// `me`.
    MetaDebug {
        /// The key as it stands on the line.
        key: &'a [u8],
        /// The key is base64.
        base64: bool,
    },
    /// Any of these in binary form.
    Packet(Packet<'a>),
    /// `mn`.
    MetaNoop,
    /// `flush_all`.
    FlushAll {
        /// Seconds from now, or a Unix time; at once if not positive. `None`
        /// if it is no number, which counts as a command all the same.
        delay: Option<i32>,
        /// Answer nothing.
        noreply: bool,
    },
    /// `version`.
    Version,
    /// `verbosity`.
    Verbosity {
        /// The new level.
        level: u32,
        /// Answer nothing.
        noreply: bool,
    },
    /// `quit`.
    Quit,
    /// `shutdown`.
    Shutdown {
        /// What follows on the line.
        mode: ShutdownMode,
        /// Answer nothing.
        noreply: bool,
    },
    /// `cache_memlimit`.
    MemoryLimit {
        /// In MiB; `None` if it is no number.
        mebibytes: Option<u32>,
        /// Answer nothing.
        noreply: bool,
    },
    /// `refresh_certs`.
    RefreshCerts {
        /// Answer nothing.
        noreply: bool,
    },
    /// `stats`, with the rest of the line.
    Stats {
        /// Blank-separated arguments.
        arguments: &'a [u8],
    },
    /// `watch`, `lru`, `lru_crawler`, `slabs`, `extstore`: what operators turn.
    Control {
        /// Which of them.
        verb: ControlVerb,
        /// Blank-separated arguments.
        arguments: &'a [u8],
        /// Answer nothing.
        noreply: bool,
    },
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

impl<'a> Request<'a> {
    /// The key to hash ahead of execution, if there is exactly one and it
    /// needs no decoding.
    pub fn plain_key(&self) -> Option<&'a [u8]> {
        match self {
            Self::Get(line) => line.single.then_some(line.keys),
            Self::Store(line) => Some(line.key),
            Self::Delete { key, .. } | Self::Arithmetic { key, .. } | Self::Touch { key, .. } => {
                Some(key)
            }
            Self::MetaGet(meta)
            | Self::MetaSet(meta)
            | Self::MetaDelete(meta)
            | Self::MetaArithmetic(meta) => (!meta.base64).then_some(meta.key),
            Self::Packet(packet) => packet.has_item_key().then_some(packet.key),
            _ => None,
        }
    }

    /// Bytes of the value block that follows on the wire, its line end
    /// included.
    pub fn block_len(&self) -> Option<usize> {
        match self {
            Self::Store(line) => Some(line.value_len as usize + 2),
            Self::MetaSet(meta) => Some(meta.value_len as usize + 2),
            Self::Packet(packet) => packet.value_len(),
            _ => None,
        }
    }
}

/// The blank-separated tokens of a line; repeated, leading and trailing
/// blanks separate nothing.
pub fn tokens(line: &[u8]) -> Tokens<'_> {
    Tokens { rest: line }
}

/// See [`tokens`].
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
        if self.rest.is_empty() {
            return None;
        }
        let (token, rest) = self.rest.split_at(until_blank(self.rest));
        self.rest = rest;
        Some(token)
    }
}
