//! Resource limits (`setrlimit`) on open files and core files.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use rustcached::config::Config;

use crate::process::error::ProcessError;

/// Descriptors of the whole process that serve no client: standard streams,
/// files, and some in reserve.
const FILES_RESERVED: usize = 32;
/// Descriptors per worker that serve no client, such as its poll.
const FILES_PER_THREAD: usize = 4;

/// Raises the limit on the size of core files as far as permitted (`-r`).
///
/// # Errors
///
/// [`ProcessError::CoreLimit`] if core files stay disabled.
pub(super) fn raise_core_limit() -> Result<(), ProcessError> {
    let limit = Resource::RLIMIT_CORE;
    if setrlimit(limit, RLIM_INFINITY, RLIM_INFINITY).is_ok() {
        return Ok(());
    }
    let (_, hard) = getrlimit(limit).map_err(|_| ProcessError::CoreLimit)?;
    match setrlimit(limit, hard, hard) {
        Ok(()) if hard > 0 => Ok(()),
        _ => Err(ProcessError::CoreLimit),
    }
}

/// Raises the limit on open files to the connection limit plus the server's own
/// descriptors.
///
/// # Errors
///
/// [`ProcessError::FileLimit`] if not even all connections fit.
pub(super) fn raise_file_limit(config: &Config) -> Result<(), ProcessError> {
    let own = FILES_RESERVED + FILES_PER_THREAD * config.threads + config.listeners.len();
    let connections = config.max_connections;
    let wanted = rlim_t::try_from(connections.saturating_add(own)).unwrap_or(rlim_t::MAX);
    let refused = |_| ProcessError::FileLimit(connections);
    let limit = Resource::RLIMIT_NOFILE;
    let (soft, hard) = getrlimit(limit).map_err(refused)?;
    if soft >= wanted || setrlimit(limit, wanted, hard.max(wanted)).is_ok() {
        return Ok(());
    }
    // As in memcached, a limit that covers the connections alone is accepted.
    match rlim_t::try_from(connections) {
        Ok(connections) if hard >= connections => setrlimit(limit, hard, hard).map_err(refused),
        _ => Err(ProcessError::FileLimit(connections)),
    }
}

#[cfg(test)]
mod tests {
    use super::raise_file_limit;
    use rustcached::config::Config;

    #[test]
    fn more_connections_than_files_are_refused() {
        let config = Config {
            max_connections: usize::MAX / 2,
            ..Config::default()
        };
        let error = raise_file_limit(&config).expect_err("above any kernel's limit");
        assert_eq!(error.exit_code(), 71);
        assert_eq!(raise_file_limit(&Config::default()), Ok(()));
    }
}
