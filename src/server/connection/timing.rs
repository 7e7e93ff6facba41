//! Latencies of a worker's commands and the slow log.
//!
//! The latency of a command lasts from the wake-up that reported its socket
//! readable to the end of the batch in which its reply was sent. The clock is
//! read once per wake-up and once per batch, not per command.

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::events::{EventKind, Kinds, Ring};
use crate::limits::{BATCH_SOCKETS_MAX, KEY_MAX_BYTES};
use crate::protocol::binary::packet::{Packet, Verb};
use crate::protocol::request::Request;
use crate::protocol::tokens::tokens;
use crate::server::connection::batch::Step;
use crate::shared::Shared;
use crate::stats::{CommandKind, Latencies, SlowCommand};
use crate::time::unix_micros;

/// Number of kinds of commands.
const KINDS: usize = CommandKind::ALL.len();

/// Executed commands by kind.
type Counts = [u32; KINDS];

/// Timing of one worker.
pub(in crate::server) struct Timing {
    /// Recorder of latencies; `None` if they are off.
    latencies: Option<Arc<Latencies>>,
    /// Time of the last wake-up, in nanoseconds of the server's clock.
    pub(in crate::server) woken: u64,
    /// The last time read for the slow log: a wake-up, the end of a send or the
    /// end of a share. The next share begins then.
    last: u64,
    /// Buffer for the key of a [`Share`].
    key: Vec<u8>,
    /// Commands executed for the current connection.
    counts: Counts,
    any: bool,
    /// Commands of the batch, with the wake-up that their latency begins at.
    batch: ArrayVec<(u64, Counts), BATCH_SOCKETS_MAX>,
    /// Time spent in sends for the current connection, if the slow log is on.
    sending: u64,
}

impl Timing {
    /// Creates the timing of a worker. `latencies` is `None` if they are off.
    pub(in crate::server) fn new(latencies: Option<Arc<Latencies>>) -> Self {
        Self {
            latencies,
            woken: 0,
            last: 0,
            key: Vec::with_capacity(KEY_MAX_BYTES),
            counts: [0; KINDS],
            any: false,
            batch: ArrayVec::new(),
            sending: 0,
        }
    }

    /// Notes the time of a wake-up.
    #[inline]
    pub(in crate::server) fn wake(&mut self, nanos: u64) {
        (self.woken, self.last) = (nanos, nanos);
    }

    /// Adds a send to the current connection's share.
    pub(in crate::server) fn add_send(&mut self, begun: u64, ended: u64) {
        self.sending += ended.saturating_sub(begun);
        self.last = ended;
    }

    /// Counts executed steps.
    #[inline]
    pub(in crate::server) fn count(&mut self, steps: &[Step<'_>]) {
        if self.latencies.is_none() {
            return;
        }
        for step in steps {
            self.counts[kind_of(step) as usize] += 1;
        }
        self.any = true;
    }

    /// Counts a command that was received in parts.
    pub(in crate::server) fn count_one(&mut self, kind: CommandKind) {
        self.counts[kind as usize] += 1;
        self.any = true;
    }

    /// Ends a connection's share of the batch. Its commands began at the
    /// wake-up `woken`.
    #[inline]
    pub(in crate::server) fn end_share(&mut self, woken: u64) {
        if !std::mem::take(&mut self.any) {
            return;
        }
        let counts = std::mem::take(&mut self.counts);
        match self.batch.last_mut() {
            Some((same, sum)) if *same == woken => {
                sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            }
            // A batch has at most as many shares as there is room for.
            _ => drop(self.batch.try_push((woken, counts))),
        }
    }

    /// Ends a batch: records the latencies of its commands.
    #[inline]
    pub(in crate::server) fn end_batch(&mut self, shared: &Shared) {
        if self.batch.is_empty() {
            return;
        }
        if let Some(latencies) = &self.latencies {
            let now = shared.clock.nanos();
            for (woken, counts) in &self.batch {
                let nanos = now.saturating_sub(*woken);
                for (kind, n) in CommandKind::ALL.into_iter().zip(counts) {
                    latencies.record_n(kind, nanos, u64::from(*n));
                }
            }
        }
        self.batch.clear();
    }
}

/// First command of a connection's share, and the times of the share.
pub(in crate::server) struct Share {
    command: &'static str,
    woken: u64,
    begun: u64,
    /// Bytes received and sent by the worker before.
    bytes: u64,
}

impl Share {
    /// Notes the begin of a share, if the slow log is on.
    #[inline]
    pub(in crate::server) fn begin(
        shared: &Shared,
        timing: &mut Timing,
        steps: &[Step<'_>],
        woken: u64,
        bytes: impl FnOnce() -> u64,
    ) -> Option<Self> {
        if shared.slow_log.threshold() == 0 {
            return None;
        }
        let (command, key) = match steps.first() {
            Some(Step::Execute { request, .. }) => (name_of(request), key_of(request)),
            Some(Step::Refuse(_)) => ("malformed", &b""[..]),
            None => ("value", &b""[..]),
        };
        timing.sending = 0;
        timing.key.clear();
        timing
            .key
            .extend_from_slice(&key[..key.len().min(KEY_MAX_BYTES)]);
        Some(Self {
            command,
            woken,
            begun: timing.last,
            bytes: bytes(),
        })
    }

    /// Ends the share. Adds it to the slow log if it took too long.
    pub(in crate::server) fn end(
        self,
        shared: &Shared,
        timing: &mut Timing,
        fd: i32,
        bytes: u64,
        ring: &Ring,
    ) {
        // Usually the last send ended just now.
        if timing.sending == 0 {
            timing.last = shared.clock.nanos();
        }
        let (ended, sending) = (timing.last, timing.sending);
        let total = ended.saturating_sub(self.woken);
        if !shared.slow_log.is_slow(total) {
            return;
        }
        let waiting = self.begun.saturating_sub(self.woken);
        let known = shared.table.get(fd);
        let peer = known.and_then(|conn| conn.peer);
        let micros = |nanos: u64| nanos.div_ceil(1000);
        let slow = SlowCommand {
            unix_ms: unix_micros() / 1000,
            total_us: micros(total),
            waiting_us: micros(waiting),
            executing_us: micros(total.saturating_sub(waiting + sending)),
            sending_us: micros(sending),
            command: self.command,
            key: timing.key.as_slice().into(),
            bytes: bytes.saturating_sub(self.bytes),
            peer: peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string()),
        };
        if ring.wanted().any_of(Kinds::SLOW) {
            ring.put(EventKind::Slow {
                command: slow.command,
                key: timing.key.as_slice().into(),
                total_us: slow.total_us,
                waiting_us: slow.waiting_us,
                executing_us: slow.executing_us,
                sending_us: slow.sending_us,
                bytes: slow.bytes,
                connection: fd,
            });
        }
        shared.slow_log.push(slow);
    }
}

#[inline]
fn kind_of(step: &Step<'_>) -> CommandKind {
    let Step::Execute { request, .. } = step else {
        return CommandKind::Other;
    };
    match request {
        Request::Get(line) if line.touch.is_some() => CommandKind::Touch,
        Request::Get(_) => CommandKind::Get,
        Request::Store(_) => CommandKind::Store,
        Request::Delete { .. } => CommandKind::Delete,
        Request::Arithmetic { .. } => CommandKind::Arithmetic,
        Request::Touch { .. } => CommandKind::Touch,
        Request::MetaGet(_)
        | Request::MetaSet(_)
        | Request::MetaDelete(_)
        | Request::MetaArithmetic(_)
        | Request::MetaDebug { .. }
        | Request::MetaNoop => CommandKind::Meta,
        Request::Packet(packet) => kind_of_packet(packet),
        _ => CommandKind::Other,
    }
}

#[inline]
fn kind_of_packet(packet: &Packet<'_>) -> CommandKind {
    match packet.verb {
        Verb::Get { touch: None, .. } => CommandKind::Get,
        Verb::Get { .. } | Verb::Touch { .. } => CommandKind::Touch,
        Verb::Store { .. } => CommandKind::Store,
        Verb::Delete => CommandKind::Delete,
        Verb::Arithmetic { .. } => CommandKind::Arithmetic,
        _ => CommandKind::Other,
    }
}

/// Returns the name of a command for the slow log.
fn name_of(request: &Request<'_>) -> &'static str {
    match request {
        Request::Get(line) => match (line.touch.is_some(), line.cas) {
            (false, false) => "get",
            (false, true) => "gets",
            (true, false) => "gat",
            (true, true) => "gats",
        },
        Request::Store(line) => line.verb.name(),
        Request::Delete { .. } => "delete",
        Request::Arithmetic { verb, .. } => verb.name(),
        Request::Touch { .. } => "touch",
        Request::MetaGet(_) => "mg",
        Request::MetaSet(_) => "ms",
        Request::MetaDelete(_) => "md",
        Request::MetaArithmetic(_) => "ma",
        Request::MetaDebug { .. } => "me",
        Request::MetaNoop => "mn",
        Request::Packet(packet) => match packet.verb {
            Verb::Get { touch: None, .. } => "get",
            Verb::Get { .. } => "gat",
            Verb::Touch { .. } => "touch",
            Verb::Store { verb, .. } => verb.name(),
            Verb::Delete => "delete",
            Verb::Arithmetic { verb, .. } => verb.name(),
            Verb::Stat => "stats",
            Verb::Flush { .. } => "flush_all",
            _ => "other",
        },
        Request::Stats { .. } => "stats",
        Request::FlushAll { .. } => "flush_all",
        Request::Invalidate { .. } => "invalidate",
        Request::MemoryLimit { .. } => "cache_memlimit",
        Request::ClusterGet | Request::ClusterSet { .. } => "config",
        _ => "other",
    }
}

/// Returns the key of a request, the first of several.
fn key_of<'a>(request: &Request<'a>) -> &'a [u8] {
    match request {
        Request::Get(line) => tokens(line.keys).next().unwrap_or(b""),
        Request::MetaGet(meta)
        | Request::MetaSet(meta)
        | Request::MetaDelete(meta)
        | Request::MetaArithmetic(meta) => meta.key,
        Request::Invalidate { name, .. } => name,
        other => other.plain_key().unwrap_or(b""),
    }
}
