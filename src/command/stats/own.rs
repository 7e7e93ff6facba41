//! `stats rustcached`: figures that memcached does not have.

use crate::command::Executor;
use crate::command::stat_sink::{StatSink, stat};

impl Executor<'_> {
    /// `version` is this server's own; `log_lines_dropped` counts the log
    /// lines since the start that did not reach standard error.
    pub(super) fn own(&self, out: &mut StatSink<'_>) {
        stat(out, "version", env!("CARGO_PKG_VERSION"));
        stat(out, "log_lines_dropped", self.shared.log.dropped());
        out.end();
    }
}
