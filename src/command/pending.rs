//! A storage command between its line and the end of its value.

use crate::command::ops::outcome::Condition;
use crate::protocol::binary::encode::Echo;
use crate::protocol::meta::request::MetaFlags;
use crate::store::{Local, NewItem, Store};

/// What every value in an item ends with, though only text clients send it.
pub(in crate::command) const LINE_END: &[u8] = b"\r\n";

/// A storage command whose value is still arriving.
pub struct Pending {
    /// The item its value goes into.
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

/// What the answer to an `ms` is made from.
pub(in crate::command) struct OwnedMeta {
    pub(in crate::command) condition: Condition,
    pub(in crate::command) flags: MetaFlags,
    pub(in crate::command) base64: bool,
    pub(in crate::command) tokens: Vec<u8>,
}

impl Pending {
    /// Bytes of the value that are still to come from the client. A binary
    /// one ends without the line end that the item's has.
    pub fn missing(&self) -> usize {
        match self.how {
            OwnedHow::Binary { .. } => self.new.missing() - LINE_END.len(),
            _ => self.new.missing(),
        }
    }

    /// Bytes of item memory that it takes so far, roughly.
    pub fn bytes(&self) -> usize {
        self.new.bytes()
    }

    /// Gives up on the command.
    pub fn abandon(self, store: &Store, local: &mut Local) {
        store.discard(local, self.new);
    }
}
