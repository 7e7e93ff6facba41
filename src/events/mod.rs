//! What watchers are told of: events, the ring that a thread puts them into,
//! and the words and lines that clients know them by. A thread never waits
//! for a watcher: what does not fit into its ring is dropped and counted.
//! While nobody watches, the rings do not exist and a batch of commands costs
//! one relaxed load. Filled by commands, the store and the workers; drained
//! by the server's log thread.

mod hub;
mod line;
mod word;

use std::net::SocketAddr;

pub use hub::{Hub, Ring, Totals};
pub use line::{write_line, write_uri};
pub use word::{Filter, Kinds};

/// Something that happened.
#[derive(Debug)]
pub struct Event {
    /// Its place among all events.
    pub gid: u64,
    /// When it happened, in microseconds since 1970.
    pub unix_us: u64,
    /// What it is.
    pub what: EventKind,
}

/// What happened.
#[derive(Debug)]
pub enum EventKind {
    /// A key was asked for.
    Fetched {
        /// The key.
        key: Box<[u8]>,
        /// `found`, `not_found`, `flushed` or `expired`.
        status: &'static str,
        /// What was found.
        found: ItemSize,
        /// Descriptor of the connection.
        connection: i32,
    },
    /// A value was to be stored.
    Stored {
        /// The key.
        key: Box<[u8]>,
        /// `stored`, or why not.
        status: &'static str,
        /// The command, by its classic name.
        command: &'static str,
        /// Seconds it is to live; 0 for ever.
        ttl: u32,
        /// The new item.
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
        /// What was deleted.
        old: ItemSize,
    },
    /// An item was removed for lack of memory.
    Evicted {
        /// The key.
        key: Box<[u8]>,
        /// Whether it was ever fetched.
        fetched: bool,
        /// Seconds it had left; `None` if it would not have ended.
        ttl: Option<u32>,
        /// Seconds since its last use.
        idle: u32,
        /// The item.
        old: ItemSize,
    },
    /// A connection was taken over by a worker.
    Opened {
        /// Where it comes from; `None` for a unix socket.
        peer: Option<SocketAddr>,
        /// Its descriptor.
        connection: i32,
    },
    /// A connection was closed.
    Closed {
        /// Where it came from; `None` for a unix socket.
        peer: Option<SocketAddr>,
        /// Its descriptor.
        connection: i32,
        /// `error`, `normal`, `idle_timeout` or `shutdown`.
        reason: &'static str,
    },
}

/// What an event says of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemSize {
    /// Its size class, from 1; 0 for none.
    pub class: u8,
    /// Bytes of its value.
    pub value_len: u32,
}

impl EventKind {
    /// The kind of event it is.
    pub fn kind(&self) -> Kinds {
        match self {
            Self::Fetched { .. } => Kinds::FETCHERS,
            Self::Stored { .. } => Kinds::MUTATIONS,
            Self::Deleted { .. } => Kinds::DELETIONS,
            Self::Evicted { .. } => Kinds::EVICTIONS,
            Self::Opened { .. } | Self::Closed { .. } => Kinds::CONNECTIONS,
        }
    }

    /// The key it is about, if it is about one.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Fetched { key, .. }
            | Self::Stored { key, .. }
            | Self::Deleted { key, .. }
            | Self::Evicted { key, .. } => Some(key),
            Self::Opened { .. } | Self::Closed { .. } => None,
        }
    }
}
