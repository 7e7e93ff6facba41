//! A storage command between its line and the end of its value.

use crate::command::ops::outcome::Condition;
use crate::protocol::binary::encode::Echo;
use crate::protocol::meta::request::MetaFlags;
use crate::store::{Local, NewItem, Store};

/// End of every value in an item. Binary clients do not send it.
pub(in crate::command) const CRLF: &[u8] = b"\r\n";

/// A storage command whose value is still arriving.
pub struct Pending {
    /// The item that receives the value.
    pub new: NewItem,
    pub(in crate::command) how: OwnedHow,
}

pub(in crate::command) enum OwnedHow {
    Classic {
        condition: Condition,
        noreply: bool,
    },
    Meta(Box<OwnedMeta>),
    Binary {
        condition: Condition,
        echo: Echo,
        quiet: bool,
    },
}

/// Parts of an `ms` needed for its reply.
pub(in crate::command) struct OwnedMeta {
    pub(in crate::command) condition: Condition,
    pub(in crate::command) flags: MetaFlags,
    pub(in crate::command) base64: bool,
    pub(in crate::command) tokens: Vec<u8>,
}

impl Pending {
    /// Returns the bytes of the value that the client has yet to send. Binary
    /// clients do not send the CRLF that the item has.
    pub fn missing(&self) -> usize {
        match self.how {
            OwnedHow::Binary { .. } => self.new.missing() - CRLF.len(),
            _ => self.new.missing(),
        }
    }

    /// Returns the item memory in use so far, in bytes, roughly.
    pub fn bytes(&self) -> usize {
        self.new.bytes()
    }

    /// Discards the command and its item.
    pub fn abandon(self, store: &Store, local: &mut Local) {
        store.discard(local, self.new);
    }
}
