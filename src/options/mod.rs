//! The options: parses and validates the command line into a `config::Config`,
//! and reports the settings.
//!
//! `flags` and `words` list every flag and every word of `-o` as rows of one
//! type. A row is all that the rest of the module knows of an option. `read_args`
//! lets clap split the arguments, and `apply` applies each row to a `Draft`.
//! `validate` turns this into settings or into an error for the operator, and
//! `lines` writes `stats settings` from the rows. No other folder uses clap.
//! `config_file` reads the files of `--config`. Nothing else here opens a file or a
//! socket; the resolver is asked for the addresses of host names in `-l`.

mod apply;
mod config_file;
mod draft;
mod endpoint;
mod error;
mod flags;
mod groups;
mod help;
mod lines;
mod number;
mod paths;
mod read_args;
mod report;
mod row;
mod tls;
mod validate;
mod words;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::config::{Config, Process};
use draft::{Ask, Draft};

pub use error::{CliError, Missing};
pub use lines::lines;
pub use report::Current;

/// Result of a valid command line.
#[derive(Debug)]
pub enum Invocation {
    /// Start the server with these settings.
    Run(Box<(Config, Process)>),
    /// Check what the server would read at its start, and exit (`--check-config`).
    Check(Box<(Config, Process)>),
    /// Print this text to standard output and exit with success.
    Print(String),
}

/// Parses the arguments, including the program's name, the configuration file that
/// they name, and the environment. Arguments override the environment, which
/// overrides the file; options that may be repeated add up.
///
/// `directory` is the working directory at the start. A daemon leaves it, so its
/// relative paths are completed.
///
/// # Errors
///
/// Returns the first fault found: one line for the operator, and an exit code.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
    directory: &Path,
) -> Result<Invocation, CliError> {
    let draft = Draft::read(args, env, directory)?;
    let ask = draft.ask;
    match ask {
        Some(Ask::Help) => return Ok(Invocation::Print(help::help())),
        Some(Ask::HelpAll) => return Ok(Invocation::Print(help::help_all())),
        Some(Ask::License) => return Ok(Invocation::Print(help::license())),
        Some(Ask::Version) => return Ok(Invocation::Print(help::version())),
        Some(Ask::Check) | None => {}
    }
    let (mut config, mut process) = validate::settings(draft)?;
    let path = |name| {
        let path = env(name).filter(|path| path != OsStr::new(""));
        path.map(PathBuf::from)
    };
    config.port_file = path("MEMCACHED_PORT_FILENAME");
    if let Some(files) = &mut config.sasl {
        files.users = path("MEMCACHED_SASL_PWDB");
        files.conf = path("SASL_CONF_PATH");
    }
    let restart = &mut config.restart;
    let files_stored = env("FDSTORE").and_then(|most| most.to_str()?.parse::<u32>().ok());
    restart.fd_store = path("NOTIFY_SOCKET").is_some()
        && files_stored.is_some_and(|most| most > 0)
        && restart.memory_file.is_none()
        && restart.save_path.is_none();
    if process.daemonize {
        paths::complete(&mut config, &mut process, directory);
    }
    let settings = Box::new((config, process));
    Ok(match ask {
        Some(Ask::Check) => Invocation::Check(settings),
        _ => Invocation::Run(settings),
    })
}
