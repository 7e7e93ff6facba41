//! A storage command between its line and the end of its value.

use arrayvec::ArrayVec;

use crate::command::ops::outcome::{Condition, VALUE_END};
use crate::protocol::binary::encode::Echo;
use crate::protocol::meta::request::{MetaFlags, MetaRequest};
use crate::store::{Local, NewItem, Store};

/// A storage command whose value is still arriving.
pub struct Pending {
    /// The item that receives the value.
    pub new: NewItem,
    /// What has arrived of [`VALUE_END`], right or wrong.
    end: ArrayVec<u8, { VALUE_END.len() }>,
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
    /// Creates a command of which no data has arrived.
    pub(in crate::command) fn new(new: NewItem, condition: Condition, form: ReplyForm) -> Self {
        Self {
            new,
            end: ArrayVec::new(),
            condition,
            form,
        }
    }

    /// Returns the bytes of the data block that the client has yet to send: of
    /// the value, and of its CRLF if the client is not a binary one.
    pub fn missing(&self) -> usize {
        self.new.missing() + self.expected_end().len() - self.end.len()
    }

    fn expected_end(&self) -> &'static [u8] {
        match self.form {
            ReplyForm::Binary { .. } => &[],
            ReplyForm::Classic { .. } | ReplyForm::Meta(_) => VALUE_END,
        }
    }

    /// Adds bytes that follow the value: no more than [`Pending::missing`].
    pub(in crate::command) fn fill_end(&mut self, bytes: &[u8]) {
        self.end.extend(bytes.iter().copied());
    }

    /// Returns whether the right bytes follow the value.
    pub(in crate::command) fn has_valid_end(&self) -> bool {
        self.end[..] == *self.expected_end()
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
