//! Binary packets. Quiet commands send no reply on success or, for retrievals,
//! on a miss. Errors are always reported.

use crate::command::admin::control::VERSION;
use crate::command::admin::stat_sink::StatSink;
use crate::command::after::{After, StreamedReply};
use crate::command::executor::Executor;
use crate::command::ops::arithmetic::{ArithmeticOutcome, Change, InitialValue};
use crate::command::ops::delete::Deleted;
use crate::command::ops::invalidate::NotInvalidated;
use crate::command::ops::outcome::{Condition, Outcome};
use crate::command::ops::refusal::Refusal;
use crate::command::output::Output;
use crate::protocol::binary::encode::{self, Echo, Status, error, keyed, plain};
use crate::protocol::binary::packet::{Packet, Verb};
use crate::protocol::verb::StoreVerb;
use crate::store::{Effect, Hashed, Item, ItemSpec, Tags};

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
                let status = self.packet_delete(packet, &key);
                write_status(packet, status, out);
            }
            Verb::Arithmetic { .. } => self.packet_arithmetic(packet, &key, out),
            _ => self.packet_store(packet, &key, value, out),
        }
        After::Continue
    }

    fn packet_delete(&mut self, packet: &Packet<'_>, key: &Hashed<'_>) -> Status {
        if let Some((kind, name)) = self.name_in_key(key.key) {
            return match self.invalidate(kind, name, Effect::Delete, "delete") {
                Ok(()) => Status::Ok,
                Err(NotInvalidated::Forbidden) => Status::Auth,
                Err(NotInvalidated::Bad(_)) => Status::Invalid,
            };
        }
        match self.delete(key, packet.cas) {
            Deleted::Done => Status::Ok,
            Deleted::NotFound => Status::NotFound,
            Deleted::Exists => Status::Exists,
        }
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
        let returned_key = if with_key { key.key } else { &[] };
        let write =
            |item: Item<'_>, out: &mut Output| write_item(item, packet.echo, returned_key, out);
        let hit = match touch {
            None => self.get(key, out, write).is_ok(),
            Some(exptime) => {
                let expiry = self.ttls().expiry(exptime, key.key);
                self.touch(key, expiry, |item| write(item, out))
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
        let expiry = self.ttls().expiry(exptime, key.key);
        let hit = self.touch(key, expiry, |item| {
            let (flags, cas) = (item.flags(), item.cas());
            encode::item(&mut out.bytes, packet.echo, b"", flags, 0, cas);
        });
        if !hit {
            error(&mut out.bytes, packet.echo, Status::NotFound);
        }
    }

    #[inline]
    fn packet_store(
        &mut self,
        packet: &Packet<'_>,
        key: &Hashed<'_>,
        value: &[u8],
        out: &mut Output,
    ) {
        let Some((condition, spec)) = self.packet_spec(packet) else {
            return;
        };
        let stored = self.store_value(key, &spec, condition, value);
        write_stored(stored, condition.verb, packet.echo, packet.quiet, out);
    }

    /// Returns the condition and the item of a storage packet; `None` for other
    /// packets.
    #[inline]
    pub(super) fn packet_spec<'k>(&self, packet: &Packet<'k>) -> Option<(Condition, ItemSpec<'k>)> {
        let Verb::Store {
            verb,
            flags,
            exptime,
        } = packet.verb
        else {
            return None;
        };
        let spec = ItemSpec {
            flags,
            expiry: self.ttls().expiry(exptime, packet.key),
            ..ItemSpec::new(packet.key, packet.rest as usize)
        };
        Some((Condition::packet(verb, packet.cas), spec))
    }

    fn packet_arithmetic(&mut self, packet: &Packet<'_>, key: &Hashed<'_>, out: &mut Output) {
        let Verb::Arithmetic {
            verb,
            delta,
            initial,
            exptime,
        } = packet.verb
        else {
            return;
        };
        let change = Change {
            verb,
            delta,
            cas: packet.cas,
            ..Change::default()
        };
        let initial_value = exptime.map(|exptime| InitialValue {
            number: initial,
            expiry: self.ttls().expiry(exptime, key.key),
            key_binary: false,
            tags: Tags::default(),
        });
        let status = match self.change_or_create(key, change, initial_value) {
            ArithmeticOutcome::Done { number, cas, .. } => {
                if !packet.quiet {
                    encode::number(&mut out.bytes, packet.echo, cas, number);
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
                write_status(packet, Status::Ok, out);
            }
            Verb::Quit => {
                write_status(packet, Status::Ok, out);
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
            | b"prefixes" | b"slowlog" | b"restart" | b"invalidation") => key,
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
pub(super) fn write_stored(
    stored: Result<Outcome, Refusal>,
    verb: StoreVerb,
    echo: Echo,
    quiet: bool,
    out: &mut Output,
) {
    let status = match (stored, verb) {
        (Ok(Outcome::Stored { cas, .. }), _) => {
            if !quiet {
                plain(&mut out.bytes, echo, cas, b"");
            }
            return;
        }
        (Ok(Outcome::Exists), _) | (Ok(Outcome::NotStored), StoreVerb::Add) => Status::Exists,
        (Ok(Outcome::NotFound), _) | (Ok(Outcome::NotStored), StoreVerb::Replace) => {
            Status::NotFound
        }
        (Ok(Outcome::NotStored), _) => Status::NotStored,
        (Err(Refusal::TooLarge), _) => Status::TooLarge,
        (Err(Refusal::NoMemory), _) => Status::OutOfMemory,
        (Err(Refusal::BadChunk), _) => Status::Invalid,
    };
    error(&mut out.bytes, echo, status);
}

/// Appends a reply that consists of a status only.
fn write_status(packet: &Packet<'_>, status: Status, out: &mut Output) {
    match status {
        Status::Ok if packet.quiet => {}
        Status::Ok => plain(&mut out.bytes, packet.echo, 0, b""),
        status => error(&mut out.bytes, packet.echo, status),
    }
}

/// Appends the reply to a retrieval that hit.
#[inline]
fn write_item(item: Item<'_>, echo: Echo, key: &[u8], out: &mut Output) {
    let (flags, value_len, cas) = (item.flags(), item.value_len(), item.cas());
    encode::item(&mut out.bytes, echo, key, flags, value_len, cas);
    out.bare_value(item);
}
