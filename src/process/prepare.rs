//! Preparation of the process before any thread starts.

use std::path::Path;

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::unistd::{daemon, geteuid, getuid};
use rustcached::config::{Config, Process};
use rustcached::logging::write_line;

use crate::process::error::ProcessError;
use crate::process::limits::{raise_core_limit, raise_file_limit};
use crate::process::memory;
use crate::process::privileges::{assume_user, find_user};

/// Applies the options about the process, in memcached's order: resource limits,
/// user, daemon mode, locked memory. Call it before any thread starts and before
/// the server listens. Warnings go to standard error.
///
/// # Errors
///
/// The first operation that the system refuses. If memory cannot be locked,
/// a warning goes to standard error instead.
pub(crate) fn prepare(process: &Process, config: &Config) -> Result<(), ProcessError> {
    for warning in assume(process, config)? {
        write_line(format_args!("{warning}"));
    }
    if process.user.is_none() && is_root() && config.verbosity > 0 {
        write_line(format_args!("running as root; -u gives up its rights"));
    }
    if process.daemonize {
        // Core files need the working directory, so `-r` keeps it. With `-v`
        // the standard streams stay open for messages.
        daemon(process.core_dumps, config.verbosity > 0).map_err(ProcessError::Detach)?;
    }
    if process.lock_memory {
        lock_memory();
    }
    Ok(())
}

/// Checks what [`prepare`] would do, for `--check-config`. Becomes the user of the
/// server, so that checks of files apply to that user. Returns warnings.
///
/// # Errors
///
/// The first operation that the system refuses.
pub(crate) fn check(process: &Process, config: &Config) -> Result<Vec<String>, ProcessError> {
    let mut warnings = assume(process, config)?;
    if let Some(user) = process.user.as_ref().filter(|_| !is_root())
        && let Err(error) = find_user(user)
    {
        // Without root's rights, -u is ignored at a start.
        warnings.push(format!("warning: {error}"));
    }
    Ok(warnings)
}

/// Takes on resource limits and user. Returns warnings.
fn assume(process: &Process, config: &Config) -> Result<Vec<String>, ProcessError> {
    if process.core_dumps {
        raise_core_limit()?;
    }
    let mut warnings = Vec::new();
    warnings.extend(raise_file_limit(config)?);
    let root = Path::new("/");
    warnings.extend(memory::check(root, memory::installed(), config)?);
    if let Some(user) = process.user.as_ref().filter(|_| is_root()) {
        assume_user(user)?;
    }
    Ok(warnings)
}

fn is_root() -> bool {
    getuid().is_root() || geteuid().is_root()
}

/// Locks all present and future memory of the process (`-k`).
fn lock_memory() {
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE;
    if let Err(error) = mlockall(flags) {
        write_line(format_args!(
            "warning: -k invalid, mlockall() failed: {error}; raise the limit (ulimit -l, \
             LimitMEMLOCK= of the service), start as root, or leave out -k"
        ));
    }
}
