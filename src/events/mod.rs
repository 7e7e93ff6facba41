//! Events for watchers: their kinds, the ring that each thread puts them into,
//! the arguments of `watch` and the event lines.
//!
//! Commands, the store and the workers put events into rings; the server's log
//! thread drains them. A thread never waits for a watcher: an event that finds
//! its ring full is dropped and counted. A ring is allocated at its first
//! event. While nobody watches, a batch of commands costs one relaxed load.

mod filter;
mod hub;
mod line;

use std::net::SocketAddr;

use crate::limits::ClassId;
pub use filter::{Filter, Kinds};
pub use hub::{Hub, Ring, Totals};
pub use line::{escape_key, write_line, write_uri};

/// A numbered event.
#[derive(Debug)]
pub struct Event {
    /// Number of the event, ascending over all threads.
    pub gid: u64,
    /// Time of the event, in microseconds since 1970.
    pub unix_us: u64,
    /// Kind and details.
    pub kind: EventKind,
}

/// Details of an event, by kind.
#[derive(Debug)]
pub enum EventKind {
    /// A command looked up a key.
    Fetched {
        /// The key.
        key: Box<[u8]>,
        /// Result of the lookup.
        status: LookupStatus,
        /// Size of the item found; zeroes on a miss.
        found: ItemSize,
        /// Descriptor of the connection.
        connection: i32,
    },
    /// A storage command was executed or refused.
    Stored {
        /// The key.
        key: Box<[u8]>,
        /// Result of the command.
        status: StoreStatus,
        /// The command by its classic name.
        command: &'static str,
        /// TTL in seconds; 0 for none.
        ttl: u32,
        /// Size of the new item.
        new: ItemSize,
        /// Descriptor of the connection.
        connection: i32,
    },
    /// An item was deleted.
    Deleted {
        /// The key.
        key: Box<[u8]>,
        /// `delete` or `md`.
        command: &'static str,
        /// Size of the deleted item.
        old: ItemSize,
    },
    /// An item was evicted.
    Evicted {
        /// The key.
        key: Box<[u8]>,
        /// Whether it was ever fetched.
        fetched: bool,
        /// Remaining TTL in seconds; `None` for an item that never expires.
        ttl: Option<u32>,
        /// Seconds since its last use.
        idle: u32,
        /// Size of the evicted item.
        old: ItemSize,
    },
    /// A prefix or a tag was invalidated.
    Invalidated {
        /// The prefix or tag.
        name: Box<[u8]>,
        /// `prefix` or `tag`.
        kind: &'static str,
        /// `invalidate`, `delete` or `md`.
        command: &'static str,
        /// Whether items are marked stale instead of removed.
        stale: bool,
        /// Descriptor of the connection.
        connection: i32,
    },
    /// A worker took over a connection.
    Opened {
        /// Address of the peer; `None` for a unix socket.
        peer: Option<SocketAddr>,
        /// Descriptor of the connection.
        connection: i32,
    },
    /// A connection was closed.
    Closed {
        /// Address of the peer; `None` for a unix socket.
        peer: Option<SocketAddr>,
        /// Descriptor of the connection.
        connection: i32,
        /// `error`, `normal`, `idle_timeout` or `shutdown`.
        reason: &'static str,
    },
    /// A command took longer than the threshold of the slow log.
    Slow {
        /// The command.
        command: &'static str,
        /// Its key, or the first of several.
        key: Box<[u8]>,
        /// Microseconds from its arrival to the end of its reply.
        total_us: u64,
        /// Microseconds between arrival and execution.
        waiting_us: u64,
        /// Microseconds of execution.
        executing_us: u64,
        /// Microseconds of sending.
        sending_us: u64,
        /// Bytes received and sent.
        bytes: u64,
        /// Descriptor of the connection.
        connection: i32,
    },
}

/// Result of a lookup, as `watch fetchers` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupStatus {
    /// The key has a live item.
    Found,
    /// The key has no item.
    NotFound,
    /// The key's item was flushed.
    Flushed,
    /// The key's item has expired.
    Expired,
    /// The key's item was invalidated by its prefix or tag.
    Invalidated,
}

impl LookupStatus {
    /// Returns memcached's word for it; `invalidated` is this server's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotFound => "not_found",
            Self::Flushed => "flushed",
            Self::Expired => "expired",
            Self::Invalidated => "invalidated",
        }
    }
}

/// Result of a storage command, as `watch mutations` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreStatus {
    /// The value was stored.
    Stored,
    /// The condition of the command does not hold.
    NotStored,
    /// The CAS value differs.
    Exists,
    /// The key has no item.
    NotFound,
    /// The value exceeds the item size limit.
    TooLarge,
    /// There is no memory for the value.
    NoMemory,
}

impl StoreStatus {
    /// Returns memcached's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::NotStored => "not_stored",
            Self::Exists => "exists",
            Self::NotFound => "not_found",
            Self::TooLarge => "too_large",
            Self::NoMemory => "no_memory",
        }
    }
}

/// Size of an item as an event reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemSize {
    /// Size class; `None` if there is no item.
    pub class: Option<ClassId>,
    /// Length of the value in bytes.
    pub value_len: u32,
}

impl EventKind {
    /// Returns the set of this kind alone, for matching against a [`Filter`].
    pub fn as_set(&self) -> Kinds {
        match self {
            Self::Fetched { .. } => Kinds::FETCHERS,
            Self::Stored { .. } | Self::Invalidated { .. } => Kinds::MUTATIONS,
            Self::Deleted { .. } => Kinds::DELETIONS,
            Self::Evicted { .. } => Kinds::EVICTIONS,
            Self::Opened { .. } | Self::Closed { .. } => Kinds::CONNECTIONS,
            Self::Slow { .. } => Kinds::SLOW,
        }
    }

    /// Returns the key, or the name that was invalidated; `None` for a connection
    /// event.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Fetched { key, .. }
            | Self::Stored { key, .. }
            | Self::Deleted { key, .. }
            | Self::Evicted { key, .. }
            | Self::Slow { key, .. } => Some(key),
            Self::Invalidated { name, .. } => Some(name),
            Self::Opened { .. } | Self::Closed { .. } => None,
        }
    }
}
