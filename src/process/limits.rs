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
/// descriptors. Returns a warning if only the connections fit.
///
/// # Errors
///
/// [`ProcessError::FileLimit`] if not even all connections fit.
pub(super) fn raise_file_limit(config: &Config) -> Result<Option<String>, ProcessError> {
    let own = FILES_RESERVED + FILES_PER_THREAD * config.threads + config.listeners.len();
    let connections = config.max_connections;
    let needed = rlim_t::try_from(connections.saturating_add(own)).unwrap_or(rlim_t::MAX);
    let refused = |limit| ProcessError::FileLimit {
        connections,
        needed,
        limit,
    };
    let resource = Resource::RLIMIT_NOFILE;
    let (soft, hard) = getrlimit(resource).map_err(|_| refused(0))?;
    if soft >= needed || setrlimit(resource, needed, hard.max(needed)).is_ok() {
        return Ok(None);
    }
    // As in memcached, a limit that covers the connections alone is accepted.
    if rlim_t::try_from(connections).is_ok_and(|connections| hard >= connections) {
        setrlimit(resource, hard, hard).map_err(|_| refused(hard))?;
        return Ok(Some(tight(connections, needed, hard)));
    }
    Err(refused(hard))
}

/// Returns the warning about a limit that covers the connections alone.
fn tight(connections: usize, needed: rlim_t, hard: rlim_t) -> String {
    let missing = needed.saturating_sub(hard);
    format!(
        "warning: -c {connections} needs {needed} open files, and the hard limit is {hard}: up to \
         {missing} connections will wait; raise it (ulimit -Hn, LimitNOFILE= of the service) or \
         ask for fewer connections"
    )
}

#[cfg(test)]
mod tests {
    use super::{raise_file_limit, tight};
    use rustcached::config::Config;

    #[test]
    fn more_connections_than_files_are_refused() {
        let config = Config {
            max_connections: usize::MAX / 2,
            ..Config::default()
        };
        let error = raise_file_limit(&config).expect_err("above any kernel's limit");
        assert_eq!(error.exit_code(), 71);
        let text = error.to_string();
        assert!(text.contains(&(usize::MAX / 2).to_string()), "{text}");
        assert!(text.contains("LimitNOFILE"), "{text}");
        assert_eq!(raise_file_limit(&Config::default()), Ok(None));
    }

    #[test]
    fn a_tight_limit_is_told_with_its_figures() {
        let text = tight(1000, 1050, 1020);
        for part in [
            "-c 1000",
            "1050 open files",
            "limit is 1020",
            "30 connections",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
