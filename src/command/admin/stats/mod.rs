//! `stats`: memcached's statistics under its names and in its order. Each group
//! writes to a sink. Statistics that walk the store are dumps (`dump.rs`).

mod classes;
mod general;
mod invalidation;
mod observed;
mod rustcached;
mod settings;
mod tls;

use crate::command::admin::listing::{Listing, write_prefix};
use crate::command::admin::stat_sink::{StatSink, stat};
use crate::command::executor::Executor;
use crate::events::Kinds;
use crate::limits::{OUTPUT_PAUSE_BYTES, PREFIXES_PER_STEP};
use crate::protocol::tokens::tokens;
use crate::stats::PrefixCursor;

impl Executor<'_> {
    /// Writes a group of statistics, or returns a listing to be written in
    /// steps. As in memcached, the names of some groups may be abbreviated.
    pub(in crate::command) fn stats(
        &mut self,
        arguments: &[u8],
        out: &mut StatSink<'_>,
    ) -> Option<Listing> {
        let Some(group) = tokens(arguments).next() else {
            self.general(out);
            return None;
        };
        let is = |name: &str| name.as_bytes().starts_with(group);
        if is("reset") {
            self.shared.reset(
                self.shared.stats.snapshot(),
                self.shared.stats.class_snapshots(),
            );
            out.done("RESET");
        } else if is("detail") {
            return self.detail(arguments, out);
        } else if is("settings") {
            self.settings(out);
        } else if is("conns") {
            let requester = self.connection;
            return Some(Listing::Connections { next: 0, requester });
        } else if is("extstore") {
            out.end();
        } else {
            match group {
                b"items" => self.items(out),
                b"slabs" => self.slabs(out),
                b"udp" => self.datagrams(out),
                b"rustcached" => self.rustcached(out),
                b"latency" => self.latency(out),
                b"hotkeys" => self.hot_keys(count(arguments), out),
                b"prefixes" => self.prefixes(count(arguments), out),
                b"mrc" => self.curve(out),
                b"invalidation" => self.invalidation(out),
                b"slowlog" => self.slow_log(count(arguments), out),
                b"restart" => self.restart(out),
                _ => out.refuse("ERROR"),
            }
        }
        None
    }

    /// `stats udp`, a group that memcached does not have.
    fn datagrams(&self, out: &mut StatSink<'_>) {
        let sum = self.shared.since_reset(&self.shared.stats.snapshot());
        stat(out, "udp_requests", sum.udp_requests);
        stat(out, "udp_dropped", sum.udp_dropped);
        stat(out, "udp_reply_limit", self.shared.config.udp_reply_limit);
        out.end();
    }

    fn detail(&mut self, arguments: &[u8], out: &mut StatSink<'_>) -> Option<Listing> {
        let action = tokens(arguments).nth(1).unwrap_or(b"stats");
        let is = |name: &str| name.as_bytes().starts_with(action);
        if !self.shared.config.dump {
            out.refuse("CLIENT_ERROR stats detail not allowed");
        } else if is("on") {
            self.shared.events.set_wanted(Kinds::DETAIL, true);
            out.done("OK");
        } else if is("off") {
            self.shared.events.set_wanted(Kinds::DETAIL, false);
            out.done("OK");
        } else if is("dump") {
            return Some(Listing::Prefixes(PrefixCursor::default()));
        } else {
            out.refuse("CLIENT_ERROR usage: stats detail on|off|dump");
        }
        None
    }

    /// Returns the prefix list for a single packet, whose length must be known
    /// in advance; `None` if it is longer than a reply may be.
    pub(in crate::command) fn prefix_lines(&self) -> Option<Vec<u8>> {
        let (mut lines, mut cursor) = (Vec::new(), PrefixCursor::default());
        let mut more = true;
        while more {
            if lines.len() > OUTPUT_PAUSE_BYTES {
                return None;
            }
            let write = |prefix: &[u8], sums| write_prefix(&mut lines, prefix, sums);
            more = self
                .shared
                .prefixes
                .next(&mut cursor, PREFIXES_PER_STEP, write);
        }
        lines.extend_from_slice(b"END\r\n");
        Some(lines)
    }
}

/// Returns the number behind the name of a group.
fn count(arguments: &[u8]) -> Option<usize> {
    let word = tokens(arguments).nth(1)?;
    std::str::from_utf8(word).ok()?.parse().ok()
}
