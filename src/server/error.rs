//! Errors that keep the server from starting.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::auth::LoadError;
use crate::tls::TlsError;

/// Exit code of a general failure.
const EXIT_FAILURE: u8 = 1;
/// Exit codes of `sysexits.h`.
const EX_USAGE: u8 = 64;
const EX_OSERR: u8 = 71;

/// Error that keeps the server from starting.
#[derive(Debug)]
pub enum StartError {
    /// A listening socket cannot be bound.
    Listen {
        /// Address or path, for messages.
        endpoint: String,
        /// Error of the system.
        error: io::Error,
    },
    /// The TLS certificate or its key cannot be used.
    Tls(TlsError),
    /// The password file cannot be used.
    Passwords(LoadError),
    /// A socket passed by the service manager cannot be used.
    Inherited(io::Error),
    /// A thread or its poll cannot be created.
    Thread(io::Error),
    /// The log file cannot be opened.
    LogFile(PathBuf, io::Error),
    /// The port file cannot be written.
    PortFile(PathBuf, io::Error),
    /// The running server cannot be taken over from, or no successor could take
    /// over from this one.
    TakeOver {
        /// The socket of `--take-over`.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { endpoint, error } => {
                write!(f, "failed to listen on {endpoint}: {error}")
            }
            Self::Tls(error) => error.fmt(f),
            Self::Passwords(error) => error.fmt(f),
            Self::Inherited(error) => write!(f, "failed to take over a socket: {error}"),
            Self::Thread(error) => write!(f, "failed to start a thread: {error}"),
            Self::LogFile(path, error) => {
                write!(f, "failed to open the log file {}: {error}", path.display())
            }
            Self::PortFile(path, error) => {
                write!(
                    f,
                    "failed to write the port file {}: {error}",
                    path.display()
                )
            }
            Self::TakeOver { path, reason } => {
                write!(f, "--take-over {}: {reason}", path.display())
            }
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    /// Returns the exit code of the process: the one that memcached uses for
    /// the same error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Passwords(_) | Self::LogFile(..) => EXIT_FAILURE,
            Self::Tls(_) => EX_USAGE,
            Self::Listen { .. }
            | Self::Inherited(_)
            | Self::Thread(_)
            | Self::PortFile(..)
            | Self::TakeOver { .. } => EX_OSERR,
        }
    }

    /// Error of a take-over.
    pub(super) fn take_over(path: &Path, reason: &dyn fmt::Display) -> Self {
        let (path, reason) = (path.to_path_buf(), reason.to_string());
        Self::TakeOver { path, reason }
    }

    /// Error of listening on a TCP port.
    pub(super) fn tcp(address: SocketAddr, error: io::Error) -> Self {
        let endpoint = format!("TCP port {} ({address})", address.port());
        Self::Listen { endpoint, error }
    }

    /// Error of listening on a UDP port.
    pub(super) fn udp(address: SocketAddr, error: io::Error) -> Self {
        let endpoint = format!("UDP port {} ({address})", address.port());
        Self::Listen { endpoint, error }
    }

    /// Error of listening on a unix socket.
    pub(super) fn unix(path: &Path, error: io::Error) -> Self {
        let endpoint = format!("unix socket {}", path.display());
        Self::Listen { endpoint, error }
    }
}
