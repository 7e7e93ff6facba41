//! What a row of the table says about a line of `stats settings`.

use crate::config::{Config, TlsSettings, Tunables};

/// State of the server from which `stats settings` is written.
pub struct Current<'a> {
    /// Settings as of the start.
    pub config: &'a Config,
    /// Settings that commands may have changed since.
    pub tunables: Tunables,
    /// Memory limit in bytes (`cache_memlimit`).
    pub memory_limit: usize,
    /// Log level (`verbosity`).
    pub verbosity: u32,
    /// Whether `stats detail` collects.
    pub detail: bool,
    /// Second of the pending `flush_all`; 0 if none is pending.
    pub flush_at: u32,
    /// Name of the hash function.
    pub hash_name: &'static str,
    /// Largest chunk in bytes.
    pub chunk_max: usize,
}

/// A line of `stats settings`.
#[derive(Clone, Copy)]
pub(super) struct Report {
    /// Name of the line.
    pub(super) name: &'static str,
    /// Its value.
    pub(super) value: Source,
}

/// Source of a value, and condition for the line.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// In every report.
    Always(fn(&Current<'_>) -> String),
    /// Only if TLS is on.
    WithTls(fn(&TlsSettings) -> String),
}

impl Report {
    /// Returns the name and the value; `None` if the line is absent.
    pub(super) fn line(&self, current: &Current<'_>) -> Option<(&'static str, String)> {
        let value = match self.value {
            Source::Always(value) => value(current),
            Source::WithTls(value) => value(current.config.tls.as_ref()?),
        };
        Some((self.name, value))
    }
}

/// Returns a switch as memcached prints it.
pub(super) fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}
