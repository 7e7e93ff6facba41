//! The `rustcached` server: arguments → settings → process → server → exit
//! code, and nothing else.

mod process;

use std::io::{self, Write};
use std::process::ExitCode;

use process::{PidFile, ProcessError};
use rustcached::cli::{self, Invocation};
use rustcached::config::{Config, Process};

fn main() -> ExitCode {
    let env = |name: &str| std::env::var_os(name);
    match cli::parse(std::env::args_os(), &env) {
        Ok(Invocation::Print(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Ok(Invocation::Run(settings)) => {
            let (config, process) = *settings;
            match run(&config, &process) {
                Ok(code) => code,
                Err(error) => fail(&error, error.exit_code()),
            }
        }
        Err(error) => fail(&error, error.exit_code()),
    }
}

/// Serves until told to stop.
fn run(config: &Config, process: &Process) -> Result<ExitCode, ProcessError> {
    if config.verbosity > 0 {
        for notice in &process.notices {
            eprintln!("{notice}");
        }
    }
    process::prepare(process, config)?;
    let _pid_file = process.pid_file.as_deref().and_then(pid_file);
    Ok(ExitCode::SUCCESS)
}

/// A pid file that cannot be written is no reason not to serve.
fn pid_file(path: &std::path::Path) -> Option<PidFile> {
    PidFile::create(path)
        .inspect_err(|error| {
            eprintln!("could not write the pid file {}: {error}", path.display());
        })
        .ok()
}

/// Prints to a reader that may have gone away (`rustcached -h | head -1`).
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(code)
}
