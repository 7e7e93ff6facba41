//! A request of the binary protocol.

use crate::protocol::binary::encode::{Echo, Status};
use crate::protocol::binary::header::opcode;
use crate::protocol::cas::Cas;
use crate::protocol::verb::{ArithmeticVerb, StoreVerb};

/// A packet without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The command and its extras.
    pub verb: Verb,
    /// Header fields that the reply repeats.
    pub echo: Echo,
    /// Quiet command: success, or a miss of a retrieval, gets no reply.
    pub quiet: bool,
    /// CAS value to compare with; `None` for 0.
    pub cas: Option<Cas>,
    /// The key, at most 250 bytes of any value.
    pub key: &'a [u8],
    /// Bytes of the body after the key.
    pub rest: u32,
}

/// Command of a packet with its extras. Exptimes are unsigned here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `get`, `getk`, `gat`, `gatk`.
    Get {
        /// The reply includes the key.
        with_key: bool,
        /// New exptime of the item found.
        touch: Option<u32>,
    },
    /// `touch`.
    Touch {
        /// New exptime.
        exptime: u32,
    },
    /// `set`, `add`, `replace`, `append`, `prepend`; the value follows.
    Store {
        /// The verb. With a CAS value, `set`, `add` and `replace` act alike.
        verb: StoreVerb,
        /// Opaque client flags.
        flags: u32,
        /// Exptime.
        exptime: u32,
    },
    /// `delete`.
    Delete,
    /// `increment`, `decrement`.
    Arithmetic {
        /// The verb.
        verb: ArithmeticVerb,
        /// Amount to add or subtract.
        delta: u64,
        /// Value of an item created on a miss.
        initial: u64,
        /// Exptime of an item created on a miss; `None` to create none.
        exptime: Option<u32>,
    },
    /// `flush`.
    Flush {
        /// Delay in seconds or a Unix time; 0 is at once.
        delay: u32,
    },
    /// `noop`.
    Noop,
    /// `version`.
    Version,
    /// `quit`.
    Quit,
    /// `stat`; the key names the group of statistics.
    Stat,
    /// `SASL list mechs`.
    SaslList,
    /// `SASL auth`; the key is the mechanism, the value follows.
    SaslAuth,
    /// `SASL step`; the key is the mechanism, the value follows.
    SaslStep,
    /// An unknown command, or a malformed packet.
    Refused {
        /// Status of the reply.
        status: Status,
        /// Close the connection after the reply.
        closes: bool,
    },
}

impl Packet<'_> {
    /// Returns the length in bytes of the value that follows; `None` if the
    /// command takes none.
    pub fn value_len(&self) -> Option<usize> {
        match self.verb {
            Verb::Store { .. } | Verb::SaslAuth | Verb::SaslStep => Some(self.rest as usize),
            _ => None,
        }
    }

    /// Returns whether the key is the key of an item.
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

    /// Returns whether this is a `set`, with a CAS value or without.
    pub fn is_set(&self) -> bool {
        matches!(
            self.verb,
            Verb::Store {
                verb: StoreVerb::Set,
                ..
            }
        )
    }

    /// Returns whether a client may send this before it has authenticated.
    pub fn is_allowed_before_auth(&self) -> bool {
        matches!(
            self.echo.opcode,
            opcode::VERSION | opcode::SASL_LIST | opcode::SASL_AUTH | opcode::SASL_STEP
        )
    }

    /// Returns whether the header is inconsistent: the body is shorter than key
    /// and extras.
    pub fn is_inconsistent(&self) -> bool {
        let (status, closes) = (Status::Unknown, true);
        self.verb == Verb::Refused { status, closes }
    }
}
