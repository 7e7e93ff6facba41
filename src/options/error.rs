//! Errors of the command line. Exit codes are memcached's, because start scripts
//! check them. Messages are one line each and keep memcached's wording where
//! operators know it.

use std::fmt;

/// Exit code of a general failure.
const EXIT_FAILURE: u8 = 1;
/// `EX_USAGE` of sysexits: contradictory options, or a value beyond its limit.
const EX_USAGE: u8 = 64;
/// `EX_OSERR` of sysexits: an address that cannot be listened on.
const EX_OSERR: u8 = 71;

/// An invalid command line. `Display` writes one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CliError {
    /// An unknown flag, a missing value, or an extra value.
    Syntax(String),
    /// Text instead of a number.
    NotANumber {
        /// Name of the option as the user writes it.
        option: String,
        /// The text given instead.
        text: String,
    },
    /// A text value that is not UTF-8.
    NotText {
        /// Name of the option as the user writes it.
        option: String,
    },
    /// A value that the option does not accept.
    BadValue(String),
    /// An unknown word of `-o`.
    UnknownWord(String),
    /// Options that exceed a limit or contradict each other.
    Limit(String),
    /// A number that is not a port.
    InvalidPort(i64),
    /// An invalid entry of `-l`.
    BadEndpoint {
        /// The entry as typed.
        entry: String,
        /// The reason for which it is invalid.
        reason: String,
    },
    /// A fault in a configuration file, or in a variable of the environment.
    At {
        /// File and line, or the variable.
        place: String,
        /// The fault.
        fault: Box<CliError>,
    },
    /// A feature of memcached that this server does not have.
    Unavailable {
        /// Name of the option as the user writes it.
        option: String,
        /// The missing feature.
        missing: Missing,
    },
}

impl CliError {
    /// Creates a [`CliError::BadValue`].
    pub(super) fn bad_value(text: impl Into<String>) -> Self {
        Self::BadValue(text.into())
    }

    /// Creates a [`CliError::Limit`].
    pub(super) fn limit(text: impl Into<String>) -> Self {
        Self::Limit(text.into())
    }

    /// Adds the place of a fault, unless it has one.
    pub(super) fn at(self, place: String) -> Self {
        match self {
            Self::At { .. } => self,
            fault => Self::At {
                place,
                fault: Box::new(fault),
            },
        }
    }

    /// Returns the exit code: memcached's for the same fault.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Syntax(_)
            | Self::NotANumber { .. }
            | Self::NotText { .. }
            | Self::BadValue(_)
            | Self::UnknownWord(_) => EXIT_FAILURE,
            Self::Limit(_) | Self::InvalidPort(_) | Self::Unavailable { .. } => EX_USAGE,
            Self::BadEndpoint { .. } => EX_OSERR,
            Self::At { fault, .. } => fault.exit_code(),
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(text) => write!(out, "{text} (see --help)"),
            Self::NotANumber { option, text } => {
                write!(out, "{option} takes a number, not {text:?}")
            }
            Self::NotText { option } => write!(out, "{option} takes text in UTF-8"),
            Self::BadValue(text) | Self::Limit(text) => out.write_str(text),
            Self::UnknownWord(word) => write!(out, "Illegal suboption {word:?} (see --help all)"),
            Self::InvalidPort(port) => {
                let range = "a port is 0 to 65535, or -1 for any free one";
                write!(out, "ERROR: Invalid port number {port}. ({range})")
            }
            Self::BadEndpoint { entry, reason } => {
                write!(out, "failed to listen on {entry:?}: {reason}")
            }
            Self::At { place, fault } => write!(out, "{place}: {fault}"),
            Self::Unavailable { option, missing } => {
                write!(
                    out,
                    "{option}: this server has no {missing}; leave the option out"
                )
            }
        }
    }
}

impl std::error::Error for CliError {}

/// Features of memcached that are not implemented. To implement one, give its
/// rows in `flags` and `words` an effect and remove it here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Flash storage (`-o ext_path`).
    Flash,
    /// The proxy (`-o proxy_*`, `-l proto[proxy]:`).
    Proxy,
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Flash => "flash storage",
            Self::Proxy => "proxy",
        })
    }
}
