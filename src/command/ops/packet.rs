//! Commands of the binary protocol: the same operations as the text commands,
//! with their outcomes encoded as packets. Quiet commands send no reply on
//! success or, for retrievals, on a miss. Errors are always reported.

use crate::command::admin::control::VERSION;
use crate::command::admin::stat_sink::StatSink;
use crate::command::after::{After, StreamedReply};
use crate::command::executor::Executor;
use crate::command::ops::arithmetic::{ArithmeticOutcome, Change, InitialValue};
use crate::command::ops::delete::Removed;
use crate::command::ops::outcome::{Condition, Outcome};
use crate::command::output::Output;
use crate::protocol::binary::encode::{Echo, Lengths, Status, error, header, keyed, plain};
use crate::protocol::binary::header::HEADER_BYTES;
use crate::protocol::binary::packet::{Packet, Verb};
use crate::protocol::verb::StoreVerb;
use crate::store::{Hashed, Item, ItemSpec};
use crate::time::Expiry;

/// Length in bytes of the client flags in the extras of a reply.
const FLAGS_BYTES: usize = 4;

impl Executor<'_> {
    /// Executes a packet. `hash` is the hash of its key if that is the key of
    /// an item, else `None`. `value` is empty for commands without a value.
    #[inline]
    pub(in crate::command) fn packet(
        &mut self,
        packet: &Packet<'_>,
        hash: Option<u64>,
        value: &[u8],
        out: &mut Output,
    ) -> After {
        let Some(hash) = hash else {
            return self.packet_without_item(packet, out);
        };
        let key = Hashed {
            key: packet.key,
            hash,
        };
        match packet.verb {
            Verb::Get { with_key, touch } => self.packet_get(packet, &key, with_key, touch, out),
            Verb::Touch { exptime } => self.packet_touch(packet, &key, exptime, out),
            Verb::Delete => {
                let status = match self.remove(&key, packet.cas) {
                    Removed::Done => Status::Ok,
                    Removed::NotFound => Status::NotFound,
                    Removed::Exists => Status::Exists,
                };
                answer(packet, status, out);
            }
            Verb::Arithmetic { .. } => self.packet_arithmetic(packet, &key, out),
            _ => self.packet_set(packet, &key, value, out),
        }
        After::Continue
    }

    #[inline]
    fn packet_get(
        &mut self,
        packet: &Packet<'_>,
        key: &Hashed<'_>,
        with_key: bool,
        touch: Option<u32>,
        out: &mut Output,
    ) {
        let told_key = if with_key { key.key } else { &[] };
        let write = |item: Item<'_>, out: &mut Output| write_item(item, packet.echo, told_key, out);
        let hit = match touch {
            None => self.show(key, out, write).is_ok(),
            Some(exptime) => {
                let expiry = Expiry::from_seconds(i64::from(exptime), self.now);
                self.show_touched(key, expiry, |item| write(item, out))
            }
        };
        if hit || packet.quiet {
            return;
        }
        if with_key {
            keyed(&mut out.bytes, packet.echo, Status::NotFound, key.key, b"");
        } else {
            error(&mut out.bytes, packet.echo, Status::NotFound);
        }
    }

    fn packet_touch(
        &mut self,
        packet: &Packet<'_>,
        key: &Hashed<'_>,
        exptime: u32,
        out: &mut Output,
    ) {
        let expiry = Expiry::from_seconds(i64::from(exptime), self.now);
        let lengths = Lengths {
            extras: FLAGS_BYTES as u8,
            ..Lengths::default()
        };
        let hit = self.show_touched(key, expiry, |item| {
            let header = header(packet.echo, Status::Ok, lengths, item.cas());
            out.bytes.extend_from_slice(&header);
            out.bytes.extend_from_slice(&item.flags().to_be_bytes());
        });
        if !hit {
            error(&mut out.bytes, packet.echo, Status::NotFound);
        }
    }

    #[inline]
    fn packet_set(
        &mut self,
        packet: &Packet<'_>,
        key: &Hashed<'_>,
        value: &[u8],
        out: &mut Output,
    ) {
        let Some((condition, spec)) = self.packet_store(packet) else {
            return;
        };
        // Items always store their value with CRLF, which packets do not send.
        let pieces = [value, b"\r\n"].into_iter();
        match self.begin_filled(key, &spec, packet.is_set(), pieces) {
            Err(refusal) => error(&mut out.bytes, packet.echo, refusal.status()),
            Ok(new) => {
                let outcome = self.commit(key, new, condition);
                write_stored(outcome, condition.verb, packet.echo, packet.quiet, out);
            }
        }
    }

    /// Returns the condition and the item of a storage packet; `None` for other
    /// packets.
    #[inline]
    pub(in crate::command) fn packet_store<'k>(
        &self,
        packet: &Packet<'k>,
    ) -> Option<(Condition, ItemSpec<'k>)> {
        let Verb::Store {
            verb,
            flags,
            exptime,
        } = packet.verb
        else {
            return None;
        };
        let joins = matches!(verb, StoreVerb::Append | StoreVerb::Prepend);
        let verb = if packet.cas != 0 && !joins {
            StoreVerb::Cas
        } else {
            verb
        };
        let spec = ItemSpec {
            flags,
            expiry: Expiry::from_seconds(i64::from(exptime), self.now),
            ..ItemSpec::new(packet.key, packet.rest as usize)
        };
        Some((Condition::plain(verb, packet.cas), spec))
    }

    fn packet_arithmetic(&mut self, packet: &Packet<'_>, key: &Hashed<'_>, out: &mut Output) {
        let Verb::Arithmetic {
            decrement,
            delta,
            initial,
            exptime,
        } = packet.verb
        else {
            return;
        };
        let change = Change {
            delta,
            decrement,
            cas: packet.cas,
            ..Change::default()
        };
        let beginning = exptime.map(|exptime| InitialValue {
            number: initial,
            expiry: Expiry::from_seconds(i64::from(exptime), self.now),
            key_binary: false,
        });
        let status = match self.change_or_create(key, change, beginning) {
            ArithmeticOutcome::Done { number, cas, .. } => {
                if !packet.quiet {
                    plain(&mut out.bytes, packet.echo, cas, &number.to_be_bytes());
                }
                return;
            }
            ArithmeticOutcome::NotFound => Status::NotFound,
            ArithmeticOutcome::NonNumeric => Status::NonNumeric,
            ArithmeticOutcome::Exists => Status::Exists,
            ArithmeticOutcome::NoMemory => Status::OutOfMemory,
        };
        error(&mut out.bytes, packet.echo, status);
    }

    fn packet_without_item(&mut self, packet: &Packet<'_>, out: &mut Output) -> After {
        let echo = packet.echo;
        match packet.verb {
            Verb::Noop => plain(&mut out.bytes, echo, 0, b""),
            Verb::Version => plain(&mut out.bytes, echo, 0, VERSION.as_bytes()),
            Verb::Stat if packet.key == b"sizes" => {
                return After::StreamedReply(StreamedReply::Dump(self.sizes(Some(echo))));
            }
            Verb::Stat => self.packet_stat(packet, out),
            Verb::Flush { delay } => {
                if !self.shared.config.flush {
                    error(&mut out.bytes, echo, Status::Auth);
                    return After::Continue;
                }
                self.local.counters.cmd_flush.add(1);
                self.flush(i64::from(delay));
                answer(packet, Status::Ok, out);
            }
            Verb::Quit => {
                answer(packet, Status::Ok, out);
                return After::Quit;
            }
            Verb::Refused { status, closes } => {
                error(&mut out.bytes, echo, status);
                if closes {
                    return After::Close;
                }
            }
            // SASL commands on a server without SASL are unknown commands.
            _ => error(&mut out.bytes, echo, Status::Unknown),
        }
        After::Continue
    }

    /// Executes `stat`. Group names follow memcached's binary protocol: unlike
    /// on text lines they may not be abbreviated, and some groups are missing.
    fn packet_stat(&mut self, packet: &Packet<'_>, out: &mut Output) {
        let arguments: &[u8] = match packet.key {
            key @ (b"" | b"items" | b"slabs" | b"udp" | b"rustcached" | b"latency" | b"hotkeys"
            | b"prefixes" | b"slowlog") => key,
            key if key.starts_with(b"reset") => b"reset",
            key if key.starts_with(b"settings") => b"settings",
            key if key.starts_with(b"detail on") => b"detail on",
            key if key.starts_with(b"detail off") => b"detail off",
            key if key.starts_with(b"detail dump") => b"detail dump",
            _ => return error(&mut out.bytes, packet.echo, Status::NotFound),
        };
        let mut sink = StatSink::binary(&mut out.bytes, packet.echo);
        if self.stats(arguments, &mut sink).is_none() {
            return;
        }
        // The only listing of the binary protocol is `detail dump`.
        match self.prefix_lines() {
            Some(lines) => sink.lines("detailed", &lines),
            None => error(&mut out.bytes, packet.echo, Status::OutOfMemory),
        }
    }
}

/// Appends the reply to a storage command.
#[inline]
pub(in crate::command) fn write_stored(
    outcome: Outcome,
    verb: StoreVerb,
    echo: Echo,
    quiet: bool,
    out: &mut Output,
) {
    let status = match (outcome, verb) {
        (Outcome::Stored { cas, .. }, _) => {
            if !quiet {
                plain(&mut out.bytes, echo, cas, b"");
            }
            return;
        }
        (Outcome::Exists, _) | (Outcome::NotStored, StoreVerb::Add) => Status::Exists,
        (Outcome::NotFound, _) | (Outcome::NotStored, StoreVerb::Replace) => Status::NotFound,
        (Outcome::NotStored, _) => Status::NotStored,
    };
    error(&mut out.bytes, echo, status);
}

/// Appends a reply that consists of a status only.
fn answer(packet: &Packet<'_>, status: Status, out: &mut Output) {
    match status {
        Status::Ok if packet.quiet => {}
        Status::Ok => plain(&mut out.bytes, packet.echo, 0, b""),
        status => error(&mut out.bytes, packet.echo, status),
    }
}

/// Appends the reply to a retrieval that hit.
#[inline]
fn write_item(item: Item<'_>, echo: Echo, key: &[u8], out: &mut Output) {
    let lengths = Lengths {
        extras: FLAGS_BYTES as u8,
        key: key.len(),
        value: item.value_len(),
    };
    let mut front = [0; HEADER_BYTES + FLAGS_BYTES];
    let (head, flags) = front.split_at_mut(HEADER_BYTES);
    head.copy_from_slice(&header(echo, Status::Ok, lengths, item.cas()));
    flags.copy_from_slice(&item.flags().to_be_bytes());
    out.bytes.extend_from_slice(&front);
    out.bytes.extend_from_slice(key);
    out.bare_value(item);
}
