//! Dispatches requests to their handlers.

use crate::command::after::After;
use crate::command::executor::Executor;
use crate::command::output::Output;
use crate::protocol::meta::encode;
use crate::protocol::request::Request;

impl Executor<'_> {
    /// Executes a complete request and appends its reply to `out`.
    ///
    /// `hash` is the hash of [`Request::plain_key`] if that was computed ahead.
    /// `block` is the data block of a storage command: with CRLF for a text or
    /// meta command, without for a packet.
    #[inline]
    pub fn execute(
        &mut self,
        request: &Request<'_>,
        hash: Option<u64>,
        block: &[u8],
        out: &mut Output,
    ) -> After {
        match request {
            Request::Get(line) => return self.get_line(line, hash, out),
            Request::Store(line) => self.store_line(line, hash, block, out),
            Request::Packet(packet) => return self.packet(packet, hash, block, out),
            Request::MetaGet(meta) => self.meta_get_line(meta, hash, out),
            Request::MetaSet(meta) => self.meta_set_line(meta, block, out),
            Request::MetaDelete(meta) => self.meta_delete_line(meta, out),
            Request::MetaArithmetic(meta) => self.meta_arithmetic_line(meta, out),
            Request::MetaDebug { key, base64 } => self.meta_debug_line(key, *base64, out),
            Request::MetaNoop => encode::noop(&mut out.bytes),
            Request::Delete { key, noreply } => self.delete_line(key, *noreply, out),
            Request::Arithmetic {
                verb,
                key,
                delta,
                noreply,
            } => {
                self.arithmetic_line(*verb, key, *delta, *noreply, out);
            }
            Request::Touch {
                key,
                exptime,
                noreply,
            } => self.touch_line(key, *exptime, *noreply, out),
            Request::Invalidate {
                kind,
                name,
                noreply,
            } => self.invalidate_line(*kind, name, *noreply, out),
            rare => return self.control(rare, out),
        }
        After::Continue
    }
}
