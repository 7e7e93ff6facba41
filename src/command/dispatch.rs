//! From a request to its operation.

use crate::command::after::After;
use crate::command::executor::Executor;
use crate::command::output::Output;
use crate::protocol::request::Request;
use crate::protocol::text::encode;

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
            Request::Get(line) => return self.get(line, hash, out),
            Request::Store(line) => self.store_line(line, hash, block, out),
            Request::Packet(packet) => return self.packet(packet, hash, block, out),
            Request::MetaGet(meta) => self.meta_get(meta, hash, out),
            Request::MetaSet(meta) => self.meta_set(meta, block, out),
            Request::MetaDelete(meta) => self.meta_delete(meta, out),
            Request::MetaArithmetic(meta) => self.meta_arithmetic(meta, out),
            Request::MetaDebug { key, base64 } => self.meta_debug(key, *base64, out),
            Request::MetaNoop => encode::line(&mut out.bytes, "MN"),
            Request::Delete { key, noreply } => self.delete(key, *noreply, out),
            Request::Arithmetic {
                key,
                delta,
                decrement,
                noreply,
            } => {
                self.count(key, *delta, *decrement, *noreply, out);
            }
            Request::Touch {
                key,
                exptime,
                noreply,
            } => self.touch(key, *exptime, *noreply, out),
            rare => return self.control(rare, out),
        }
        After::Continue
    }
}
