//! Requests, independent of the protocol that encodes them. They borrow from
//! the read buffer; nothing is copied until it reaches an item.

use crate::protocol::binary::packet::{Packet, Verb};
use crate::protocol::cas::Cas;
use crate::protocol::meta::request::MetaRequest;
use crate::protocol::verb::{ArithmeticVerb, ControlVerb, NameKind, ShutdownMode, StoreVerb};

/// Command line of a classic storage command. Its data block follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLine<'a> {
    /// The verb.
    pub verb: StoreVerb,
    /// The key, 1 to 250 bytes.
    pub key: &'a [u8],
    /// Opaque client flags.
    pub flags: u32,
    /// Exptime as in the protocol.
    pub exptime: i32,
    /// Length of the data block in bytes, without CRLF.
    pub value_len: u32,
    /// CAS value of `cas` to compare with; `None` for other verbs. With 0,
    /// which is also `None`, `cas` matches no item.
    pub cas: Option<Cas>,
    /// Suppresses the reply.
    pub noreply: bool,
}

/// Command line of a classic retrieval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetLine<'a> {
    /// The keys, separated by spaces, each at most 250 bytes.
    pub keys: &'a [u8],
    /// There is exactly one key and `keys` has no spaces.
    pub single: bool,
    /// Return CAS values (`gets`, `gats`).
    pub cas: bool,
    /// New exptime of the items found (`gat`, `gats`).
    pub touch: Option<i32>,
}

/// Data block of `config set cluster`, as its line announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterBlock {
    /// Opaque client flags.
    pub flags: u32,
    /// Length of the data block in bytes, without CRLF.
    pub len: u32,
}

/// A parsed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `get`, `gets`, `gat`, `gats`.
    Get(GetLine<'a>),
    /// A retrieval line with a key over the length limit. The reply is an
    /// error, but memcached looks up or touches the keys before it and counts
    /// them.
    BrokenGet {
        /// The keys before the bad key, separated by spaces.
        keys: &'a [u8],
        /// New exptime of the items found (`gat`, `gats`).
        touch: Option<i32>,
    },
    /// `set`, `add`, `replace`, `append`, `prepend`, `cas`.
    Store(StoreLine<'a>),
    /// `delete`.
    Delete {
        /// The key.
        key: &'a [u8],
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `incr` and `decr`.
    Arithmetic {
        /// The verb.
        verb: ArithmeticVerb,
        /// The key.
        key: &'a [u8],
        /// Amount to add or subtract.
        delta: u64,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `touch`.
    Touch {
        /// The key.
        key: &'a [u8],
        /// New exptime.
        exptime: i32,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `mg`.
    MetaGet(MetaRequest<'a>),
    /// `ms`; its data block follows.
    MetaSet(MetaRequest<'a>),
    /// `md`.
    MetaDelete(MetaRequest<'a>),
    /// `ma`.
    MetaArithmetic(MetaRequest<'a>),
    /// `me`.
    MetaDebug {
        /// The key as sent, maybe in base64.
        key: &'a [u8],
        /// The key is in base64.
        base64: bool,
    },
    /// A binary packet of any command.
    Packet(Packet<'a>),
    /// `mn`.
    MetaNoop,
    /// `flush_all`.
    FlushAll {
        /// Delay in seconds or a Unix time; not positive is at once. `None` if
        /// the argument is no number: an error that still counts as a flush.
        delay: Option<i32>,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `invalidate`, which memcached does not have.
    Invalidate {
        /// What `name` is.
        kind: NameKind,
        /// The prefix or tag.
        name: &'a [u8],
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `version`.
    Version,
    /// `verbosity`.
    Verbosity {
        /// The new log level.
        level: u32,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `quit`.
    Quit,
    /// `shutdown`.
    Shutdown {
        /// The argument.
        mode: ShutdownMode,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `cache_memlimit`.
    MemoryLimit {
        /// The new limit in MiB; `None` if the argument is no number.
        mebibytes: Option<u32>,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `refresh_certs`.
    RefreshCerts {
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `config get cluster`, of Amazon ElastiCache.
    ClusterGet,
    /// `config set cluster`. Its data block follows if the server has a list of
    /// servers; else the command is unknown.
    ClusterSet {
        /// The block; `None` if the line is malformed.
        block: Option<ClusterBlock>,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `stats`.
    Stats {
        /// Arguments, separated by spaces.
        arguments: &'a [u8],
    },
    /// Administrative commands: `watch`, `lru`, `lru_crawler`, `slabs`,
    /// `extstore`, `prefix_limit`.
    Control {
        /// The command.
        verb: ControlVerb,
        /// Arguments, separated by spaces.
        arguments: &'a [u8],
        /// Suppresses the reply.
        noreply: bool,
    },
}

impl<'a> Request<'a> {
    /// Returns the key to hash before execution, if there is exactly one and it
    /// is not in base64.
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

    /// Returns whether the command usually changes no item.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::Get(_) | Self::MetaGet(_) => true,
            Self::Packet(packet) => matches!(packet.verb, Verb::Get { .. }),
            _ => false,
        }
    }

    /// Returns the length in bytes of the data block that follows: with CRLF
    /// for a text or meta command, without for a packet. `None` if none
    /// follows.
    pub fn block_len(&self) -> Option<usize> {
        match self {
            Self::Store(line) => Some(line.value_len as usize + 2),
            Self::MetaSet(meta) => Some(meta.value_len as usize + 2),
            Self::Packet(packet) => packet.value_len(),
            _ => None,
        }
    }
}
