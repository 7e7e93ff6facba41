//! The command line: parses and validates the arguments into a
//! `config::Config`.
//!
//! `flags` and `suboptions` list every flag and every `-o` word as data.
//! `read_args` lets clap split the arguments and records them in `raw_args`.
//! `validate` turns these into settings or into an error for the operator.
//! No other folder uses clap. Nothing here opens a file or a socket; the
//! resolver is asked for the addresses of host names in `-l`. `main` calls this
//! once.

mod endpoint;
mod error;
mod flag;
mod flags;
mod help;
mod number;
mod raw_args;
mod read_args;
mod suboptions;
mod tls;
mod validate;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::config::{Config, Process};
use raw_args::{Ask, RawArgs};

pub use error::{CliError, Missing};

/// Result of a valid command line.
#[derive(Debug)]
pub enum Invocation {
    /// Start the server with these settings.
    Run(Box<(Config, Process)>),
    /// Print this text to standard output and exit with success.
    Print(String),
}

/// Parses the arguments, including the program's name, and the environment.
///
/// # Errors
///
/// Returns the first fault found: one line for the operator, and an exit code.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Invocation, CliError> {
    let raw = RawArgs::read(args)?;
    match raw.ask {
        Some(Ask::Help) => return Ok(Invocation::Print(help::help())),
        Some(Ask::License) => return Ok(Invocation::Print(help::license())),
        Some(Ask::Version) => return Ok(Invocation::Print(help::version())),
        None => {}
    }
    let (mut config, process) = validate::settings(raw)?;
    let path = |name| {
        let path = env(name).filter(|path| path != OsStr::new(""));
        path.map(PathBuf::from)
    };
    config.port_file = path("MEMCACHED_PORT_FILENAME");
    if let Some(files) = &mut config.sasl {
        files.users = path("MEMCACHED_SASL_PWDB");
        files.conf = path("SASL_CONF_PATH");
    }
    Ok(Invocation::Run(Box::new((config, process))))
}
