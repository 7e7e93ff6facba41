//! `stats`: which numbers, under memcached's names and in its order. A group
//! is a file that names figures to a sink; what walks the store to find them
//! is a dump (`dump.rs`) and answers later.

mod classes;
mod general;
mod own;
mod settings;
mod tls;

use crate::command::Executor;
use crate::command::stat_sink::{StatSink, stat};
use crate::events::{Kinds, write_uri};
use crate::protocol::request::tokens;
use crate::stats::ConnState;

impl Executor<'_> {
    /// Some sub-commands match by prefix, as memcached's do.
    pub(super) fn stats(&mut self, arguments: &[u8], out: &mut StatSink<'_>) {
        let Some(group) = tokens(arguments).next() else {
            return self.general(out);
        };
        let is = |name: &str| name.as_bytes().starts_with(group);
        if is("reset") {
            self.shared
                .reset(self.store.snapshot(), self.store.class_snapshots());
            out.done("RESET");
        } else if is("detail") {
            self.detail(arguments, out);
        } else if is("settings") {
            self.settings(out);
        } else if is("conns") {
            self.connections(out);
        } else if is("extstore") {
            out.end();
        } else {
            match group {
                b"items" => self.items(out),
                b"slabs" => self.slabs(out),
                b"udp" => self.datagrams(out),
                b"rustcached" => self.own(out),
                _ => out.refuse("ERROR"),
            }
        }
    }

    /// Not one of memcached's groups.
    fn datagrams(&self, out: &mut StatSink<'_>) {
        let sum = self.shared.since_reset(&self.store.snapshot());
        stat(out, "udp_requests", sum.udp_requests);
        stat(out, "udp_dropped", sum.udp_dropped);
        stat(out, "udp_reply_limit", self.shared.config.udp_reply_limit);
        out.end();
    }

    fn detail(&mut self, arguments: &[u8], out: &mut StatSink<'_>) {
        let what = tokens(arguments).nth(1).unwrap_or(b"stats");
        let is = |name: &str| name.as_bytes().starts_with(what);
        if !self.shared.config.dump {
            out.refuse("CLIENT_ERROR stats detail not allowed");
        } else if is("on") {
            self.store.events().want(Kinds::DETAIL, true);
            out.done("OK");
        } else if is("off") {
            self.store.events().want(Kinds::DETAIL, false);
            out.done("OK");
        } else if is("dump") {
            out.lines("detailed", &self.prefix_lines());
        } else {
            out.refuse("CLIENT_ERROR usage: stats detail on|off|dump");
        }
    }

    /// Prefixes are bytes of clients' keys: one that is no word is escaped.
    fn prefix_lines(&self) -> Vec<u8> {
        use std::io::Write as _;
        let mut lines = Vec::new();
        self.shared.prefixes.each(|prefix, sums| {
            lines.extend_from_slice(b"PREFIX ");
            if prefix.iter().all(u8::is_ascii_graphic) {
                lines.extend_from_slice(prefix);
            } else {
                write_uri(&mut lines, prefix);
            }
            // Writing to a Vec cannot fail.
            let _ = write!(
                lines,
                " get {} hit {} set {} del {}\r\n",
                sums.gets, sums.hits, sums.sets, sums.deletes
            );
        });
        lines.extend_from_slice(b"END\r\n");
        lines
    }

    fn connections(&self, out: &mut StatSink<'_>) {
        let now = self.now.second();
        self.shared.table.each(|fd, conn| {
            let listens = conn.state == ConnState::Listening;
            let address = match conn.peer {
                _ if listens => conn.local.clone(),
                Some(peer) if peer.is_ipv4() => format!("tcp:{peer}"),
                Some(peer) => format!("tcp6:{peer}"),
                None => "unix:<AF 1>".to_owned(),
            };
            stat(out, &format!("{fd}:addr"), address);
            if !listens {
                stat(out, &format!("{fd}:listen_addr"), &conn.local);
            }
            let asks = fd == self.connection;
            let state = if asks { ConnState::Parsing } else { conn.state };
            stat(out, &format!("{fd}:state"), state.name());
            let idle = if asks {
                0
            } else {
                now.saturating_sub(conn.active)
            };
            stat(out, &format!("{fd}:secs_since_last_cmd"), idle);
        });
        out.end();
    }
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
