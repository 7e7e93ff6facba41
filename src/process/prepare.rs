//! Prepares the process before any thread starts.

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::unistd::{daemon, geteuid, getuid};
use rustcached::config::{Config, Process};
use rustcached::logging::write_line;

use crate::process::error::ProcessError;
use crate::process::limits::{raise_core_limit, raise_file_limit};
use crate::process::privileges::assume_user;

/// Does what the options ask of the process, in memcached's order. Must run
/// before any thread starts and before anything listens.
///
/// # Errors
///
/// The first thing the system refused, except locked memory: that is told
/// on standard error and done without.
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
        // Core files go to the working directory; messages to the terminal.
        daemon(process.core_dumps, config.verbosity > 0).map_err(ProcessError::Detach)?;
    }
    if process.lock_memory {
        lock_memory();
    }
    Ok(())
}

fn lock_memory() {
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE;
    if let Err(error) = mlockall(flags) {
        write_line(format_args!(
            "warning: -k invalid, mlockall() failed: {error}"
        ));
    }
}
