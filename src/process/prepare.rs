//! Preparation of the process before any thread starts.

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::unistd::{daemon, geteuid, getuid};
use rustcached::config::{Config, Process};
use rustcached::logging::write_line;

use crate::process::error::ProcessError;
use crate::process::limits::{raise_core_limit, raise_file_limit};
use crate::process::privileges::assume_user;

/// Applies the options about the process, in memcached's order: resource limits,
/// user, daemon mode, locked memory. Call it before any thread starts and before
/// the server listens.
///
/// # Errors
///
/// The first operation that the system refuses. If memory cannot be locked,
/// a warning goes to standard error instead.
pub(crate) fn prepare(process: &Process, config: &Config) -> Result<(), ProcessError> {
    if process.core_dumps {
        raise_core_limit()?;
    }
    raise_file_limit(config)?;
    if getuid().is_root() || geteuid().is_root() {
        match &process.user {
            Some(user) => assume_user(user)?,
            None if config.verbosity > 0 => {
                write_line(format_args!("running as root; -u gives up its rights"));
            }
            None => {}
        }
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

/// Locks all present and future memory of the process (`-k`).
fn lock_memory() {
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE;
    if let Err(error) = mlockall(flags) {
        write_line(format_args!(
            "warning: -k invalid, mlockall() failed: {error}"
        ));
    }
}
