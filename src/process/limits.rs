//! Limits on open files and core files.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use rustcached::config::Config;

use crate::process::error::ProcessError;

/// Descriptors for anything but clients: standard streams, files, and a few
/// in reserve.
const FILES_RESERVED: usize = 32;
/// Descriptors a worker needs for itself.
const FILES_PER_THREAD: usize = 4;

/// Raises the limit on core files to whatever is permitted.
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

/// Makes room for all connections and the server's own files.
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
    // As in memcached, a limit that is right for the connections alone will do.
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
