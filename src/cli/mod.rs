//! The command line: the raw arguments, validated, become a `config::Config`.
//!
//! The way of an option: `flags` (of kind `flag`) and `suboptions` list every flag and every `-o`
//! word as data; `raw_args` lets clap split the arguments and records
//! them; `validate` turns that into settings or into the operator's error.
//! This folder is the only user of clap. It opens no file and no socket; the
//! only thing it asks of the system is the addresses of host names in `-l`.
//! Called by `main`, once.

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

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Serve, with these settings.
    Run(Box<(Config, Process)>),
    /// Print this text to standard output and exit with success.
    Print(String),
}

/// Reads the arguments, the program's name first, and the environment.
///
/// # Errors
///
/// The first fault found, as one line for the operator with an exit code.
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
