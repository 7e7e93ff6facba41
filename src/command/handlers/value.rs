//! Storage commands of all protocols whose value arrives in pieces.

use crate::command::executor::{Executor, reply};
use crate::command::handlers::text::reply_to_store;
use crate::command::handlers::{binary, meta};
use crate::command::ops::outcome::{Condition, Outcome};
use crate::command::ops::refusal::Refusal;
use crate::command::output::Output;
use crate::command::pending::{OwnedMeta, Pending, ReplyForm};
use crate::protocol::binary::encode::{Status, error};
use crate::protocol::meta::key::MetaKey;
use crate::protocol::request::Request;
use crate::store::{Hashed, ItemSpec, NoMemory};

impl Executor<'_> {
    /// Begins a storage command whose value has not arrived. If the command is
    /// refused, appends the reply and returns `None`: skip the value.
    pub fn begin_store(&mut self, request: &Request<'_>, out: &mut Output) -> Option<Pending> {
        match request {
            Request::Store(line) => {
                let noreply = line.noreply;
                let key = self.store.hashed(line.key);
                let (condition, spec) = (Condition::classic(line), self.line_spec(line));
                self.begin_value(&key, &spec, condition, ReplyForm::Classic { noreply }, out)
            }
            Request::MetaSet(meta) => {
                let decoded = MetaKey::new(meta.key, meta.base64);
                let key = self.store.hashed(decoded.bytes());
                if meta.flags.opaque_too_long {
                    self.refuse_opaque(meta, &key, out);
                    return None;
                }
                let condition = Condition::meta(&meta.flags);
                let tags = self.meta_tags(meta);
                let spec = self.meta_spec(meta, key.key, tags.as_ref());
                let form = ReplyForm::Meta(Box::new(OwnedMeta::of(meta)));
                self.begin_value(&key, &spec, condition, form, out)
            }
            Request::Packet(packet) => {
                let (echo, quiet) = (packet.echo, packet.quiet);
                let Some((condition, spec)) = self.packet_spec(packet) else {
                    // SASL packets are too short to come here.
                    error(&mut out.bytes, echo, Status::Unknown);
                    return None;
                };
                let key = self.store.hashed(packet.key);
                self.begin_value(
                    &key,
                    &spec,
                    condition,
                    ReplyForm::Binary { echo, quiet },
                    out,
                )
            }
            _ => None,
        }
    }

    fn begin_value(
        &mut self,
        key: &Hashed<'_>,
        spec: &ItemSpec<'_>,
        condition: Condition,
        form: ReplyForm,
        out: &mut Output,
    ) -> Option<Pending> {
        match self.begin(key, spec, condition) {
            Ok(new) => Some(Pending::new(new, condition, form)),
            Err(refusal) => {
                // As in memcached, refused packets are not counted.
                if !matches!(form, ReplyForm::Binary { .. }) {
                    self.count_refused(refusal);
                }
                write_stored(Err(refusal), condition, &form, key.key, out);
                None
            }
        }
    }

    /// Passes input to a storage command: no more than [`Pending::missing`].
    ///
    /// # Errors
    /// Memory ran out: call [`Executor::fail_store`].
    pub fn fill_store(&mut self, pending: &mut Pending, bytes: &[u8]) -> Result<(), NoMemory> {
        let of_value = bytes.len().min(pending.new.missing());
        let (value, end) = bytes.split_at(of_value);
        self.fill(&mut pending.new, value)?;
        pending.fill_end(end);
        Ok(())
    }

    /// Ends a storage command whose data block has arrived.
    pub fn finish_store(&mut self, pending: Pending, out: &mut Output) {
        debug_assert_eq!(pending.missing(), 0);
        let is_block_valid = pending.has_valid_end();
        let Pending {
            new,
            condition,
            form,
            ..
        } = pending;
        let key_bytes = new.item().key().to_vec();
        let key = Hashed {
            key: &key_bytes,
            hash: new.hash(),
        };
        let stored = if is_block_valid {
            self.finish(&key, new, condition)
        } else {
            self.store.discard(self.local, new);
            Err(Refusal::BadChunk)
        };
        write_stored(stored, condition, &form, key.key, out);
    }

    /// Fails a storage command when memory runs out while its value arrives.
    pub fn fail_store(&mut self, pending: Pending, out: &mut Output) {
        self.count_refused(Refusal::NoMemory);
        let Pending {
            new,
            condition,
            form,
            ..
        } = pending;
        let key_bytes = new.item().key().to_vec();
        let key = Hashed {
            key: &key_bytes,
            hash: new.hash(),
        };
        self.store.discard(self.local, new);
        self.drop_old(&key);
        write_stored(Err(Refusal::NoMemory), condition, &form, key.key, out);
    }
}

fn write_stored(
    stored: Result<Outcome, Refusal>,
    condition: Condition,
    form: &ReplyForm,
    key: &[u8],
    out: &mut Output,
) {
    match form {
        ReplyForm::Classic { noreply } => reply(out, *noreply, reply_to_store(stored).text()),
        ReplyForm::Meta(meta) => meta::write_stored(stored, &meta.request(key), key, out),
        ReplyForm::Binary { echo, quiet } => {
            binary::write_stored(stored, condition.verb, *echo, *quiet, out);
        }
    }
}
