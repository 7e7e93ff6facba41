//! Administrative commands: flush, verbosity, memory limit, certificates,
//! shutdown, and the dispatch to `stats`, `cluster.rs` and `operate.rs`.

use crate::command::admin::operate::AdminReply;
use crate::command::admin::stat_sink::StatSink;
use crate::command::after::{After, StreamedReply};
use crate::command::executor::{Executor, reply};
use crate::command::output::Output;
use crate::config::COMPATIBLE_VERSION;
use crate::limits::{MEMLIMIT_MIN_MIB, VERBOSITY_MAX};
use crate::protocol::request::Request;
use crate::protocol::text::encode;
use crate::protocol::text::reply::Reply;
use crate::protocol::tokens::tokens;
use crate::protocol::verb::ShutdownMode;
use crate::sync::Ordering;
use crate::time::Expiry;

/// Version reported to clients, on every protocol. Clients parse three numbers
/// from it and choose commands by them; some fail on anything after the
/// numbers.
pub(in crate::command) const VERSION: &str = COMPATIBLE_VERSION;

impl Executor<'_> {
    /// Executes a request that [`Executor::execute`] does not handle itself.
    pub(in crate::command) fn control(&mut self, request: &Request<'_>, out: &mut Output) -> After {
        match request {
            Request::BrokenGet { keys, touch } => self.broken_get(keys, *touch, out),
            Request::FlushAll { delay, noreply } => self.flush_all(*delay, *noreply, out),
            Request::Version => {
                out.bytes.extend_from_slice(b"VERSION ");
                encode::line(&mut out.bytes, VERSION);
            }
            Request::Verbosity { level, noreply } => {
                self.set_verbosity(*level);
                reply(out, *noreply, "OK");
            }
            Request::Quit => return After::Quit,
            Request::Shutdown { mode, noreply } => return self.shutdown(*mode, *noreply, out),
            Request::MemoryLimit { mebibytes, noreply } => {
                let answer = self.set_memory_limit(*mebibytes);
                reply(out, *noreply, answer);
            }
            Request::RefreshCerts { noreply } => {
                let outcome = match &self.shared.tls {
                    None => Err("Error TLS not enabled".to_owned()),
                    Some(tls) => tls.reload().map_err(|error| error.to_string()),
                };
                let error = outcome.err();
                reply(out, *noreply, error.as_deref().unwrap_or("OK"));
            }
            Request::ClusterGet => self.cluster_get(out),
            Request::ClusterSet { block, noreply } => {
                return self.cluster_set(*block, *noreply, out);
            }
            Request::Stats { arguments } => {
                if let Some(answer) = self.walking_stats(arguments) {
                    return send_reply(answer, false, out);
                }
                let listing = self.stats(arguments, &mut StatSink::text(&mut out.bytes));
                if let Some(listing) = listing {
                    return After::StreamedReply(StreamedReply::Dump(self.listing(listing)));
                }
            }
            Request::Control {
                verb,
                arguments,
                noreply,
            } => {
                let answer = self.operate(*verb, arguments, out.is_empty());
                return send_reply(answer, *noreply, out);
            }
            _ => debug_assert!(false, "executed before it comes here"),
        }
        After::Continue
    }

    /// Sets the log level, at most [`VERBOSITY_MAX`].
    pub(in crate::command) fn set_verbosity(&self, level: u32) {
        let verbosity = &self.shared.runtime.verbosity;
        verbosity.store(level.min(VERBOSITY_MAX), Ordering::Relaxed);
    }

    /// Executes a retrieval line up to a key over the length limit. Hits and
    /// misses are counted and items touched, but the only reply is an error.
    fn broken_get(&mut self, keys: &[u8], touch: Option<i32>, out: &mut Output) {
        for key in tokens(keys) {
            let key = self.store.hashed(key);
            match touch {
                None => self.get(&key, out, |_, _| ()).is_ok(),
                Some(exptime) => {
                    let expiry = self.ttls().expiry(exptime, key.key);
                    self.touch(&key, expiry, |_| ())
                }
            };
        }
        encode::line(&mut out.bytes, Reply::BadFormat.text());
    }

    fn flush_all(&mut self, delay: Option<i32>, noreply: bool, out: &mut Output) {
        self.local.counters.cmd_flush.add(1);
        let answer = match delay {
            _ if !self.shared.config.flush => "CLIENT_ERROR flush_all not allowed",
            None => "CLIENT_ERROR invalid exptime argument",
            Some(delay) => {
                self.flush(i64::from(delay));
                "OK"
            }
        };
        reply(out, noreply, answer);
    }

    /// Flushes at once if `delay` is not positive, else after `delay` seconds
    /// or at a Unix time. As in memcached, a time before the server started
    /// flushes nothing but cancels a pending flush.
    pub(in crate::command) fn flush(&mut self, delay: i64) {
        let expiry = Expiry::from_seconds(delay, self.now);
        let at = if expiry.is_over(self.now) {
            0
        } else {
            // Up to an eighth of a second early, never late: a client that
            // waited for the delay must find nothing, as with memcached.
            expiry.0.saturating_sub(1)
        };
        if at == 0 && (delay <= 0 || expiry != Expiry::OVER) {
            self.store.flush_all(self.local);
        }
        // The last command wins: an immediate flush cancels a pending one.
        self.shared.runtime.flush_at.store(at, Ordering::Relaxed);
    }

    /// Executes a delayed `flush_all` that is due. Workers call this at each
    /// wake-up.
    pub fn flush_if_due(&mut self) {
        if self.shared.take_due_flush(self.now) {
            self.store.flush_all(self.local);
        }
    }

    fn shutdown(&mut self, mode: ShutdownMode, noreply: bool, out: &mut Output) -> After {
        if !self.shared.config.shutdown_command {
            reply(out, noreply, "SERVER_ERROR: shutdown not enabled");
            return After::Continue;
        }
        match mode {
            ShutdownMode::Now | ShutdownMode::Graceful => After::Shutdown,
            ShutdownMode::Unknown => {
                reply(out, noreply, "CLIENT_ERROR invalid shutdown mode");
                After::Continue
            }
        }
    }

    fn set_memory_limit(&mut self, mebibytes: Option<u32>) -> &'static str {
        const MEBIBYTES_MAX: u32 = 1_000_000_000;
        match mebibytes {
            None => "ERROR",
            Some(..MEMLIMIT_MIN_MIB) => "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m",
            Some(mebibytes) if mebibytes > MEBIBYTES_MAX => {
                "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes"
            }
            Some(mebibytes) => {
                let bytes = mebibytes as usize * 1024 * 1024;
                if bytes < self.store.memory_limit() {
                    self.stalled.shrink_items(self.store, self.local, bytes);
                }
                self.store.set_memory_limit(bytes);
                "OK"
            }
        }
    }
}

fn send_reply(answer: AdminReply, noreply: bool, out: &mut Output) -> After {
    match answer {
        AdminReply::Line(line) => reply(out, noreply, line),
        AdminReply::Text(line) => reply(out, noreply, &line),
        AdminReply::StreamedReply(reply) => return After::StreamedReply(reply),
    }
    After::Continue
}
