//! Why the server could not start.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::auth::LoadError;
use crate::tls::TlsError;

/// Exit code of a plain failure.
const EXIT_FAILURE: u8 = 1;
/// `EX_USAGE` and `EX_OSERR` of sysexits.
const EX_USAGE: u8 = 64;
const EX_OSERR: u8 = 71;

/// Why the server could not start; for the operator.
#[derive(Debug)]
pub enum StartError {
    /// A listening socket could not be had.
    Listen {
        /// Where it was to listen.
        endpoint: String,
        /// Why not.
        error: io::Error,
    },
    /// Certificates or their key are no good.
    Tls(TlsError),
    /// The password file is no good.
    Passwords(LoadError),
    /// A socket that was handed over is of no use.
    Inherited(io::Error),
    /// A thread or its poll could not be had.
    Thread(io::Error),
    /// The file that was to receive the ports could not be written.
    PortFile(PathBuf, io::Error),
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
            Self::PortFile(path, error) => {
                write!(
                    f,
                    "failed to write the port file {}: {error}",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    /// The code to exit with: memcached's for the same fault.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Passwords(_) => EXIT_FAILURE,
            Self::Tls(_) => EX_USAGE,
            Self::Listen { .. } | Self::Inherited(_) | Self::Thread(_) | Self::PortFile(..) => {
                EX_OSERR
            }
        }
    }

    pub(super) fn tcp(address: SocketAddr, error: io::Error) -> Self {
        let endpoint = format!("TCP port {} ({address})", address.port());
        Self::Listen { endpoint, error }
    }

    pub(super) fn udp(address: SocketAddr, error: io::Error) -> Self {
        let endpoint = format!("UDP port {} ({address})", address.port());
        Self::Listen { endpoint, error }
    }

    pub(super) fn unix(path: &Path, error: io::Error) -> Self {
        let endpoint = format!("unix socket {}", path.display());
        Self::Listen { endpoint, error }
    }
}
