//! Errors that end a measurement.
//!
//! Every part of the load generator returns a [`Failure`]. The front end prints it and chooses the
//! exit code. Requests refused by the server are not failures: they are counted.

use std::fmt;
use std::io;

/// The reason for which a measurement failed.
#[derive(Debug)]
pub enum Failure {
    /// A system call failed.
    Io {
        /// Description of the attempted operation.
        doing: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The server closed the connection or sent an invalid reply.
    Server(String),
    /// The server under test broke a rule. The measurements are complete.
    Broken {
        /// The results, which are printed in spite of the failure.
        text: String,
        /// A line per broken rule.
        faults: Vec<String>,
    },
    /// The options are contradictory or refer to something that does not exist.
    Usage(String),
}

impl Failure {
    /// Returns a function for `map_err` that wraps an I/O error. `doing` describes the operation.
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
