//! `config get cluster` and `config set cluster`: the list of servers, in the
//! format of Amazon ElastiCache's auto discovery. Without a list, both are unknown
//! commands, as in memcached.

use std::io::Write;

use crate::cluster::{ListError, Replaced};
use crate::command::after::{After, AwaitedBlock};
use crate::command::executor::{Executor, reply};
use crate::command::output::Output;
use crate::limits::CLUSTER_LIST_MAX_BYTES;
use crate::protocol::request::ClusterBlock;
use crate::protocol::text::encode;
use crate::sync::Ordering;

const UNKNOWN: &str = "ERROR";

impl Executor<'_> {
    pub(super) fn cluster_get(&self, out: &mut Output) {
        let Some(cluster) = &self.shared.cluster else {
            return encode::line(&mut out.bytes, UNKNOWN);
        };
        let list = cluster.list();
        let (flags, len) = (list.flags, list.text.len());
        // Writing to a vector does not fail.
        let _ = write!(out.bytes, "CONFIG cluster {flags} {len}\r\n");
        out.bytes.extend_from_slice(list.text.as_bytes());
        out.bytes.extend_from_slice(b"\r\nEND\r\n");
    }

    /// Executes the line of `config set cluster`, whose data block follows.
    pub(super) fn cluster_set(
        &self,
        block: Option<ClusterBlock>,
        noreply: bool,
        out: &mut Output,
    ) -> After {
        if self.shared.cluster.is_none() {
            reply(out, noreply, UNKNOWN);
            return After::Continue;
        }
        let Some(block) = block else {
            reply(out, noreply, "CLIENT_ERROR bad command line format");
            return After::Continue;
        };
        let refusal = if !self.shared.config.flush {
            "CLIENT_ERROR config set not allowed"
        } else if block.len as usize > CLUSTER_LIST_MAX_BYTES {
            "SERVER_ERROR object too large for cache"
        } else {
            return After::Block(AwaitedBlock::Cluster { block, noreply });
        };
        reply(out, noreply, refusal);
        After::Block(AwaitedBlock::Refused(block.len as usize + 2))
    }

    /// Executes `config set cluster` with its data block, CRLF included.
    pub fn finish_cluster_set(
        &self,
        block: ClusterBlock,
        bytes: &[u8],
        noreply: bool,
        out: &mut Output,
    ) {
        let Some(text) = bytes.strip_suffix(b"\r\n") else {
            return reply(out, noreply, "CLIENT_ERROR bad data chunk");
        };
        match self.replace_list(text, block.flags) {
            None => reply(out, noreply, UNKNOWN),
            Some(Ok(replaced)) => {
                if self.shared.runtime.verbosity.load(Ordering::Relaxed) > 0 {
                    let client = self.connection;
                    let log = &self.shared.log;
                    log.put(format_args!("{replaced}, set by client {client}"));
                }
                reply(out, noreply, "STORED");
            }
            Some(Err(error)) => {
                let text = format!("CLIENT_ERROR {error}");
                reply(out, noreply, &text);
            }
        }
    }

    fn replace_list(&self, text: &[u8], flags: u32) -> Option<Result<Replaced, ListError>> {
        let cluster = self.shared.cluster.as_ref()?;
        Some(cluster.set(text, flags))
    }
}
