//! What can end a measurement before its time.
//!
//! Every part of the load generator returns a [`Failure`]; the front end prints it and decides
//! the exit code. Answers that merely refuse a request are not failures: they are counted.

use std::fmt;
use std::io;

/// The reason a measurement could not be made.
#[derive(Debug)]
pub enum Failure {
    /// The operating system refused, while doing what `doing` says.
    Io {
        /// What was attempted.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The server answered something that is not an answer to what was asked.
    Server(String),
    /// The server under test broke a rule. The figures are complete.
    Broken {
        /// The figures, to be printed all the same.
        text: String,
        /// One line for each broken rule.
        faults: Vec<String>,
    },
    /// The options contradict each other or name something that is not there.
    Usage(String),
}

impl Failure {
    /// Wraps a system error, for use in `map_err`.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        let doing = doing.into();
        move |source| Failure::Io { doing, source }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Io { doing, source } => write!(f, "{doing}: {source}"),
            Failure::Server(what) => write!(f, "server: {what}"),
            Failure::Broken { faults, .. } => write!(f, "failed: {}", faults.join("\nfailed: ")),
            Failure::Usage(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for Failure {}
