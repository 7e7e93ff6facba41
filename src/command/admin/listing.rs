//! Lists for `stats conns` and `stats detail dump`. They grow with the number
//! of connections or prefixes, so they are written in steps (see `dump.rs`).

use std::io::Write as _;

use crate::command::admin::stat_sink::{StatSink, stat};
use crate::events::write_uri;
use crate::limits::{CONNS_PER_STEP, PREFIXES_PER_STEP};
use crate::protocol::text::encode;
use crate::shared::Shared;
use crate::stats::{Conn, ConnState, PrefixCursor, PrefixSums};
use crate::time::Now;

/// A list and its position.
#[derive(Debug)]
pub(in crate::command) enum Listing {
    /// `stats conns`
    Connections {
        /// Next descriptor to list.
        next: i32,
        /// Descriptor of the connection that sent the command.
        requester: i32,
    },
    /// `stats detail dump`
    Prefixes(PrefixCursor),
}

impl Listing {
    /// Appends some entries, or `END` after the last one. Returns false once
    /// `END` is written.
    pub(in crate::command) fn step(
        &mut self,
        shared: &Shared,
        now: Now,
        out: &mut Vec<u8>,
    ) -> bool {
        let more = match self {
            Self::Connections { next, requester } => {
                let mut sink = StatSink::text(out);
                let mut show = |fd, conn: &Conn| {
                    write_connection(&mut sink, fd, conn, fd == *requester, now);
                };
                for (fd, conn) in shared.table.from(*next).take(CONNS_PER_STEP) {
                    show(fd, &conn);
                    *next = fd + 1;
                }
                shared.table.from(*next).next().is_some()
            }
            Self::Prefixes(cursor) => {
                let write = |prefix: &[u8], sums| write_prefix(out, prefix, sums);
                shared.prefixes.next(cursor, PREFIXES_PER_STEP, write)
            }
        };
        if !more {
            encode::line(out, "END");
        }
        more
    }
}

fn write_connection(sink: &mut StatSink<'_>, fd: i32, conn: &Conn, is_requester: bool, now: Now) {
    let is_udp = conn.state == ConnState::Datagrams;
    let is_listener = is_udp || conn.state == ConnState::Listening;
    if is_udp {
        stat(sink, &format!("{fd}:UDP"), "UDP");
    }
    let address = match conn.peer {
        _ if is_listener => conn.local.clone(),
        Some(peer) if peer.is_ipv4() => format!("tcp:{peer}"),
        Some(peer) => format!("tcp6:{peer}"),
        None => "unix:<AF 1>".to_owned(),
    };
    stat(sink, &format!("{fd}:addr"), address);
    if !is_listener {
        stat(sink, &format!("{fd}:listen_addr"), &conn.local);
    }
    let state = if is_requester {
        ConnState::Parsing
    } else {
        conn.state
    };
    stat(sink, &format!("{fd}:state"), state.name());
    let idle = match is_requester {
        true => 0,
        false => now.second().saturating_sub(conn.active),
    };
    stat(sink, &format!("{fd}:secs_since_last_cmd"), idle);
}

/// Appends the line of a prefix. Prefixes are bytes of clients' keys: those
/// that are not printable are escaped.
pub(in crate::command) fn write_prefix(out: &mut Vec<u8>, prefix: &[u8], sums: PrefixSums) {
    out.extend_from_slice(b"PREFIX ");
    if prefix.iter().all(u8::is_ascii_graphic) {
        out.extend_from_slice(prefix);
    } else {
        write_uri(out, prefix);
    }
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        " get {} hit {} set {} del {}\r\n",
        sums.gets, sums.hits, sums.sets, sums.deletes
    );
}
