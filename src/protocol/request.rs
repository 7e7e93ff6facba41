//! What a client can ask for, whichever way it is spelt. Requests borrow
//! from the read buffer; nothing is copied until it reaches an item.

use crate::protocol::binary::packet::Packet;
use crate::protocol::meta::request::MetaRequest;
use crate::protocol::verb::{ControlVerb, ShutdownMode, StoreVerb};

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
