//! What can be wrong with a command line, told by kind. The exit codes are
//! those of memcached, which start scripts look at; the texts keep its
//! wording where operators know it. One line each.

use std::fmt;

/// Exit code of a plain failure.
const EXIT_FAILURE: u8 = 1;
/// `EX_USAGE` of sysexits: options that contradict each other or a limit.
const EX_USAGE: u8 = 64;
/// `EX_OSERR` of sysexits: an address that cannot be listened on.
const EX_OSERR: u8 = 71;

/// An abuse of the command line; its `Display` is one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CliError {
    /// An unknown flag, a flag without its value, or a value too many.
    Syntax(String),
    /// Text where a number belongs.
    NotANumber {
        /// The option as it is written.
        option: String,
        /// The text given instead.
        text: String,
    },
    /// Bytes that are not UTF-8 where text belongs.
    NotText {
        /// The option as it is written.
        option: String,
    },
    /// A value that the option does not take.
    BadValue(String),
    /// A word that `-o` does not know.
    UnknownWord(String),
    /// Options that exceed a limit or contradict each other.
    Limit(String),
    /// A port that is none.
    InvalidPort(i64),
    /// An entry of `-l` that cannot be listened on.
    BadEndpoint {
        /// The entry as typed.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something memcached has and this server has not.
    Unavailable {
        /// The option as it is written.
        option: String,
        /// What it asks for.
        missing: Missing,
    },
}

impl CliError {
    /// The code to exit with: memcached's for the same fault.
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
            Self::UnknownWord(word) => write!(out, "Illegal suboption {word:?} (see --help)"),
            Self::InvalidPort(port) => write!(out, "ERROR: Invalid port number {port}."),
            Self::BadEndpoint { entry, reason } => {
                write!(out, "failed to listen on {entry:?}: {reason}")
            }
            Self::Unavailable { option, missing } => {
                write!(out, "{option}: this server has no {missing}")
            }
        }
    }
}

impl std::error::Error for CliError {}

/// What memcached has and this server has not (yet). To bring one in, give
/// its flags and words in `flags` and `words` an effect and take it off here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A cache that outlives the process (`-e`).
    WarmRestart,
    /// Values on flash (`-o ext_path`).
    Flash,
    /// The proxy (`-o proxy_*`, `-l proto[proxy]:`).
    Proxy,
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::WarmRestart => "warm restart",
            Self::Flash => "flash storage",
            Self::Proxy => "proxy",
        })
    }
}
