//! A storage command between its line and the end of its value.

use crate::command::ops::outcome::Condition;
use crate::command::ops::outcome::VALUE_END;
use crate::protocol::binary::encode::Echo;
use crate::protocol::meta::request::{MetaFlags, MetaRequest};
use crate::store::{Local, NewItem, Store};

/// A storage command whose value is still arriving.
pub struct Pending {
    /// The item that receives the value.
    pub new: NewItem,
    pub(in crate::command) condition: Condition,
    pub(in crate::command) form: ReplyForm,
}

/// Parts of a storage command needed for its reply.
pub(in crate::command) enum ReplyForm {
    Classic { noreply: bool },
    Meta(Box<OwnedMeta>),
    Binary { echo: Echo, quiet: bool },
}

/// An `ms` without its key, which the item has.
pub(in crate::command) struct OwnedMeta {
    base64: bool,
    value_len: u32,
    tokens: Vec<u8>,
    flags: MetaFlags,
}

impl OwnedMeta {
    /// Copies a request.
    pub(in crate::command) fn of(meta: &MetaRequest<'_>) -> Self {
        Self {
            base64: meta.base64,
            value_len: meta.value_len,
            tokens: meta.tokens.to_vec(),
            flags: meta.flags,
        }
    }

    /// Returns the request, but with the decoded key.
    pub(in crate::command) fn request<'a>(&'a self, key: &'a [u8]) -> MetaRequest<'a> {
        MetaRequest {
            key,
            base64: self.base64,
            value_len: self.value_len,
            tokens: &self.tokens,
            flags: self.flags,
        }
    }
}

impl Pending {
    /// Returns the bytes of the value that the client has yet to send. Binary
    /// clients do not send the end that the item has.
    pub fn missing(&self) -> usize {
        match self.form {
            ReplyForm::Binary { .. } => self.new.missing() - VALUE_END.len(),
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
