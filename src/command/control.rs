//! Commands for operators: flushing, verbosity, limits, stopping.

use crate::command::operate::Operated;
use crate::command::stat_sink::StatSink;
use crate::command::{After, Detour, Executor, Output, reply};
use crate::limits::{MEMLIMIT_MIN_MIB, VERBOSITY_MAX};
use crate::protocol::encode;
use crate::protocol::request::{Request, ShutdownMode};
use crate::sync::Ordering;
use crate::time::Expiry;

/// What `VERSION` answers. Clients parse three numbers out of it and decide
/// by them which commands to use.
pub(super) const VERSION: &str = "1.6.45";

impl Executor<'_> {
    pub(super) fn control(&mut self, request: &Request<'_>, out: &mut Output) -> After {
        match request {
            Request::FlushAll { delay, noreply } => self.flush_all(*delay, *noreply, out),
            Request::Version => {
                out.bytes.extend_from_slice(b"VERSION ");
                encode::line(&mut out.bytes, VERSION);
            }
            Request::Verbosity { level, noreply } => {
                self.set_verbosity(*level);
                reply(out, *noreply, "OK");
            }
            Request::Quit => return After::Close,
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
            Request::Stats { arguments } => {
                if let Some(operated) = self.walking_stats(arguments) {
                    return say(operated, false, out);
                }
                let listing = self.stats(arguments, &mut StatSink::text(&mut out.bytes));
                if let Some(listing) = listing {
                    return After::Detour(Detour::Dump(self.listing(listing)));
                }
            }
            Request::Control {
                verb,
                arguments,
                noreply,
            } => {
                let operated = self.operate(*verb, arguments, out.is_empty());
                return say(operated, *noreply, out);
            }
            _ => debug_assert!(false, "executed before it comes here"),
        }
        After::Continue
    }

    pub(super) fn set_verbosity(&self, level: u32) {
        let verbosity = &self.shared.runtime.verbosity;
        verbosity.store(level.min(VERBOSITY_MAX), Ordering::Relaxed);
    }

    fn flush_all(&mut self, delay: i32, noreply: bool, out: &mut Output) {
        let answer = match self.flush(i64::from(delay)) {
            true => "OK",
            false => "CLIENT_ERROR flush_all not allowed",
        };
        reply(out, noreply, answer);
    }

    /// Flushes now or later; false if that is not permitted.
    pub(super) fn flush(&mut self, delay: i64) -> bool {
        self.local.counters.cmd_flush.add(1);
        if !self.shared.config.flush {
            return false;
        }
        let at = match Expiry::from_seconds(delay, self.now) {
            Expiry::NEVER | Expiry::OVER => 0,
            // Up to an eighth of a second early, never late: who waited for so
            // many seconds finds nothing, as with memcached.
            Expiry(at) => at - 1,
        };
        if at == 0 {
            self.store.flush_all(self.local);
        }
        // The last command counts: a flush at once calls off a later one.
        self.shared.runtime.flush_at.store(at, Ordering::Relaxed);
        true
    }

    /// Carries out a delayed `flush_all` whose time has come.
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
            ShutdownMode::Now => After::Shutdown { graceful: false },
            ShutdownMode::Graceful => After::Shutdown { graceful: true },
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
                self.store
                    .set_memory_limit(mebibytes as usize * 1024 * 1024);
                "OK"
            }
        }
    }
}

fn say(operated: Operated, noreply: bool, out: &mut Output) -> After {
    match operated {
        Operated::Said(line) => reply(out, noreply, line),
        Operated::Detour(detour) => return After::Detour(detour),
    }
    After::Continue
}
