//! A request of the binary protocol.

use crate::protocol::binary::encode::{Echo, Status};
use crate::protocol::binary::header::opcode;
use crate::protocol::verb::StoreVerb;

/// A packet without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it asks for.
    pub verb: Verb,
    /// What the answer repeats.
    pub echo: Echo,
    /// Success, or a miss of a retrieval, is not answered.
    pub quiet: bool,
    /// The CAS value to compare with; 0 compares nothing.
    pub cas: u64,
    /// The key, at most 250 bytes, of any kind.
    pub key: &'a [u8],
    /// Bytes of the body behind the key.
    pub rest: u32,
}

/// What a packet asks for, with its extras. Expiry times are unsigned here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `get`, `getk`, `gat`, `gatk`.
    Get {
        /// The answer has the key.
        with_key: bool,
        /// New expiry time for what is found.
        touch: Option<u32>,
    },
    /// `touch`.
    Touch {
        /// New expiry time.
        exptime: u32,
    },
    /// `set`, `add`, `replace`, `append`, `prepend`; the value follows.
    Store {
        /// Which of them; with a CAS value, the first three are the same.
        verb: StoreVerb,
        /// Opaque client flags.
        flags: u32,
        /// Expiry time.
        exptime: u32,
    },
    /// `delete`.
    Delete,
    /// `increment`, `decrement`.
    Arithmetic {
        /// Downwards.
        decrement: bool,
        /// By how much.
        delta: u64,
        /// What a missing item is created with.
        initial: u64,
        /// When that ends; without it nothing is created.
        exptime: Option<u32>,
    },
    /// `flush`.
    Flush {
        /// Seconds from now, or a Unix time; 0 at once.
        delay: u32,
    },
    /// `noop`.
    Noop,
    /// `version`.
    Version,
    /// `quit`.
    Quit,
    /// `stat`; the key says which.
    Stat,
    /// `SASL list mechs`.
    SaslList,
    /// `SASL auth`; the key is the mechanism, the value follows.
    SaslAuth,
    /// `SASL step`; likewise.
    SaslStep,
    /// No command, or not as it must be.
    Refused {
        /// The answer.
        status: Status,
        /// The connection is closed behind it.
        closes: bool,
    },
}

impl Packet<'_> {
    /// Bytes of the value that follows, for a command that takes one.
    pub fn value_len(&self) -> Option<usize> {
        match self.verb {
            Verb::Store { .. } | Verb::SaslAuth | Verb::SaslStep => Some(self.rest as usize),
            _ => None,
        }
    }

    /// Whether the key is an item's.
    pub fn has_item_key(&self) -> bool {
        matches!(
            self.verb,
            Verb::Get { .. }
                | Verb::Touch { .. }
                | Verb::Store { .. }
                | Verb::Delete
                | Verb::Arithmetic { .. }
        )
    }

    /// Whether this is a `set`, with a CAS value or without.
    pub fn is_set(&self) -> bool {
        matches!(
            self.verb,
            Verb::Store {
                verb: StoreVerb::Set,
                ..
            }
        )
    }

    /// Whether a client may ask this before it has authenticated itself.
    pub fn is_for_anybody(&self) -> bool {
        matches!(
            self.echo.opcode,
            opcode::VERSION | opcode::SASL_LIST | opcode::SASL_AUTH | opcode::SASL_STEP
        )
    }

    /// Whether the lengths in the header contradict each other.
    pub fn is_inconsistent(&self) -> bool {
        let (status, closes) = (Status::Unknown, true);
        self.verb == Verb::Refused { status, closes }
    }
}
