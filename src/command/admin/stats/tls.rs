//! TLS lines of `stats` and `stats settings`, present if TLS is on.

use crate::command::admin::stat_sink::{StatSink, stat};
use crate::command::admin::stats::yes_no;
use crate::command::executor::Executor;
use crate::config::{KeyFormat, TlsVersion};
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

    /// Writes the files and limits in use.
    pub(in crate::command) fn tls_settings(&self, out: &mut StatSink<'_>) {
        let Some(tls) = &self.shared.config.tls else {
            return;
        };
        let key = tls.key.as_ref().unwrap_or(&tls.chain);
        let authorities = tls.ca.as_ref().map(|path| path.display().to_string());
        // memcached prints OpenSSL's bit mask.
        let verify_mode = [0, 1, 3, 7].get(usize::from(tls.verify_mode));
        let key_format = match tls.key_format {
            KeyFormat::Pem => 1,
            KeyFormat::Der => 2,
        };
        let version = match tls.min_version {
            TlsVersion::V12 => "tlsv1.2",
            TlsVersion::V13 => "tlsv1.3",
        };
        stat(out, "ssl_chain_cert", tls.chain.display());
        stat(out, "ssl_key", key.display());
        stat(out, "ssl_verify_mode", verify_mode.unwrap_or(&0));
        stat(out, "ssl_keyformat", key_format);
        let ciphers = tls.ciphers.as_deref().unwrap_or("NULL");
        stat(out, "ssl_ciphers", ciphers);
        stat(out, "ssl_ca_cert", authorities.as_deref().unwrap_or("NULL"));
        stat(out, "ssl_wbuf_size", tls.write_buffer);
        stat(out, "ssl_session_cache", yes_no(tls.session_cache));
        stat(out, "ssl_kernel_tls", yes_no(tls.kernel));
        stat(out, "ssl_min_version", version);
    }
}
