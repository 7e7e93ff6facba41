//! TLS lines of `stats`, present if TLS is on.

use crate::command::admin::stat_sink::{StatSink, stat};
use crate::command::executor::Executor;
use crate::sync::{AtomicU64, Ordering};

impl Executor<'_> {
    /// Writes the counters of handshakes and sessions.
    pub(in crate::command) fn tls_stats(&self, out: &mut StatSink<'_>) {
        let (Some(tls), Some(settings)) = (&self.shared.tls, &self.shared.config.tls) else {
            return;
        };
        let counters = &tls.counters;
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        if settings.session_cache {
            stat(out, "ssl_new_sessions", read(&counters.new_sessions));
        }
        stat(out, "ssl_proto_errors", read(&counters.protocol_errors));
        let handshakes = read(&counters.handshake_errors);
        stat(out, "ssl_handshake_errors", handshakes);
        stat(out, "time_since_server_cert_refresh", tls.age());
    }
}
