//! Errors that keep the server from starting.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::auth::LoadError;
use crate::cluster::ClusterError;
use crate::files;
use crate::tls::TlsError;

/// Exit code of a general failure.
const EXIT_FAILURE: u8 = 1;
/// Exit codes of `sysexits.h`.
const EX_USAGE: u8 = 64;
const EX_OSERR: u8 = 71;

/// Ports below this one are reserved for processes with rights, unless the sysctl
/// `net.ipv4.ip_unprivileged_port_start` says otherwise.
const PRIVILEGED_PORTS: u16 = 1024;
/// Longest path of a unix socket: `sun_path` without its zero.
const UNIX_PATH_MAX_BYTES: usize = 107;

/// Error that keeps the server from starting.
#[derive(Debug)]
pub enum StartError {
    /// A listening socket cannot be bound.
    Listen {
        /// Where it would listen.
        place: Place,
        /// Error of the system.
        error: io::Error,
    },
    /// The TLS certificate or its key cannot be used.
    Tls(TlsError),
    /// The password file cannot be used.
    Passwords(LoadError),
    /// The cluster file cannot be used.
    Cluster(ClusterError),
    /// A socket passed by the service manager cannot be used.
    Inherited(io::Error),
    /// A thread or its poll cannot be created.
    Thread(io::Error),
    /// The log file cannot be opened.
    LogFile(PathBuf, io::Error),
    /// The port file cannot be written.
    PortFile(PathBuf, io::Error),
    /// The file of `-e` or `--save-path` could not be written. Only a check of the
    /// configuration reports it; a start goes on without items.
    ItemFile(PathBuf, io::Error),
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
            Self::Listen { place, error } => {
                let remedy = place.remedy(error);
                write!(f, "failed to listen on {place}: {error}{remedy}")
            }
            Self::Tls(error) => error.fmt(f),
            Self::Passwords(error) => error.fmt(f),
            Self::Cluster(error) => error.fmt(f),
            Self::Inherited(error) => write!(f, "failed to take over a socket: {error}"),
            Self::Thread(error) => {
                write!(f, "failed to start a thread: {error}")?;
                match error.kind() {
                    io::ErrorKind::WouldBlock => f.write_str(
                        "; ask for fewer threads (-t), or raise the limit on processes (ulimit \
                         -u, pids.max of the container)",
                    ),
                    _ => Ok(()),
                }
            }
            Self::LogFile(path, error) => {
                let (path, remedy) = (path.display(), files::remedy(path, error));
                write!(f, "failed to open the log file {path}: {error}{remedy}")
            }
            Self::PortFile(path, error) => {
                let (path, remedy) = (path.display(), files::remedy(path, error));
                write!(f, "failed to write the port file {path}: {error}{remedy}")
            }
            Self::ItemFile(path, error) => {
                let (path, remedy) = (path.display(), files::remedy(path, error));
                write!(f, "failed to write the items to {path}: {error}{remedy}")
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
            Self::Passwords(_) | Self::Cluster(_) | Self::LogFile(..) => EXIT_FAILURE,
            Self::Tls(_) => EX_USAGE,
            Self::Listen { .. }
            | Self::Inherited(_)
            | Self::Thread(_)
            | Self::PortFile(..)
            | Self::ItemFile(..)
            | Self::TakeOver { .. } => EX_OSERR,
        }
    }

    /// Error of a take-over.
    pub(super) fn take_over(path: &Path, reason: &dyn fmt::Display) -> Self {
        let (path, reason) = (path.to_path_buf(), reason.to_string());
        Self::TakeOver { path, reason }
    }

    /// Error of the socket at which a server waits for its successor.
    pub(super) fn take_over_file(path: &Path, error: &io::Error) -> Self {
        let remedy = files::remedy(path, error);
        Self::take_over(path, &format!("{error}{remedy}"))
    }

    /// Error of listening on a TCP port.
    pub(super) fn tcp(address: SocketAddr, error: io::Error) -> Self {
        let place = Place::Tcp(address);
        Self::Listen { place, error }
    }

    /// Error of listening on a UDP port.
    pub(super) fn udp(address: SocketAddr, error: io::Error) -> Self {
        let place = Place::Udp(address);
        Self::Listen { place, error }
    }

    /// Error of listening on a unix socket.
    pub(super) fn unix(path: &Path, error: io::Error) -> Self {
        let place = Place::Unix(path.to_path_buf());
        Self::Listen { place, error }
    }
}

/// Where a socket would listen.
#[derive(Debug)]
pub enum Place {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A UDP port.
    Udp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "TCP port {} ({address})", address.port()),
            Self::Udp(address) => write!(f, "UDP port {} ({address})", address.port()),
            Self::Unix(path) => write!(f, "unix socket {}", path.display()),
        }
    }
}

impl Place {
    /// Returns the end of a message: what the operator can do. Empty if there is
    /// nothing to add to the error.
    fn remedy(&self, error: &io::Error) -> String {
        let (address, option) = match self {
            Self::Tcp(address) => (address, "-p"),
            Self::Udp(address) => (address, "-U"),
            Self::Unix(path) => return unix_remedy(path, error),
        };
        let port = address.port();
        match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "; stop the server that uses it (ss -lnp 'sport = {port}' finds it), or choose \
                 another port with {option} or -l"
            ),
            io::ErrorKind::PermissionDenied if port < PRIVILEGED_PORTS => format!(
                "; ports below {PRIVILEGED_PORTS} need root (with -u USER) or \
                 CAP_NET_BIND_SERVICE; choose another with {option} or -l"
            ),
            io::ErrorKind::AddrNotAvailable if address.is_ipv6() => {
                "; no interface has this address, or IPv6 is off (sysctl \
                 net.ipv6.conf.all.disable_ipv6); name another with -l"
                    .to_owned()
            }
            io::ErrorKind::AddrNotAvailable => {
                "; no interface has this address (ip addr lists them); name another with -l"
                    .to_owned()
            }
            _ if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                "; this machine has no IPv6; name an IPv4 address with -l".to_owned()
            }
            _ => String::new(),
        }
    }
}

/// Returns what the operator can do about a unix socket.
fn unix_remedy(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another server listens there: stop it, or choose another path".to_owned()
        }
        io::ErrorKind::AlreadyExists => {
            "; the file is no socket: remove it, or choose another path".to_owned()
        }
        io::ErrorKind::InvalidInput => {
            format!("; a path may have {UNIX_PATH_MAX_BYTES} bytes: choose a shorter one")
        }
        _ => files::remedy(path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::StartError;
    use std::io;
    use std::path::Path;

    fn tcp(address: &str, error: i32) -> String {
        let address = address.parse().expect("an address");
        StartError::tcp(address, io::Error::from_raw_os_error(error)).to_string()
    }

    #[test]
    fn a_port_that_cannot_be_used_is_named_with_what_to_do() {
        let used = tcp("127.0.0.1:11211", libc::EADDRINUSE);
        assert!(used.starts_with("failed to listen on TCP port 11211 (127.0.0.1:11211): "));
        for part in ["in use", "ss -lnp 'sport = 11211'", "-p or -l"] {
            assert!(used.contains(part), "{used}");
        }
        let low = tcp("127.0.0.1:80", libc::EACCES);
        assert!(low.contains("CAP_NET_BIND_SERVICE"), "{low}");
        // Above 1023, a port is refused for other reasons.
        let high = tcp("127.0.0.1:8080", libc::EACCES);
        assert!(!high.contains("CAP_NET_BIND_SERVICE"), "{high}");
        let udp = "127.0.0.1:11211".parse().expect("an address");
        let udp = StartError::udp(udp, io::Error::from_raw_os_error(libc::EADDRINUSE));
        assert!(udp.to_string().contains("-U or -l"), "{udp}");
    }

    #[test]
    fn an_address_that_is_not_there_is_named_with_what_to_do() {
        let v6 = tcp("[::1]:11211", libc::EADDRNOTAVAIL);
        assert!(v6.contains("disable_ipv6"), "{v6}");
        let v6 = tcp("[::1]:11211", libc::EAFNOSUPPORT);
        assert!(v6.contains("no IPv6"), "{v6}");
        let v4 = tcp("192.0.2.1:11211", libc::EADDRNOTAVAIL);
        assert!(v4.contains("ip addr") && !v4.contains("IPv6"), "{v4}");
    }

    #[test]
    fn a_unix_socket_is_named_with_what_to_do() {
        let of =
            |path: &str, error: io::Error| StartError::unix(Path::new(path), error).to_string();
        for (kind, part) in [
            (io::ErrorKind::AddrInUse, "another server listens there"),
            (io::ErrorKind::AlreadyExists, "no socket"),
            (io::ErrorKind::InvalidInput, "107 bytes"),
            (io::ErrorKind::NotFound, "create the directory /no/such"),
            (io::ErrorKind::PermissionDenied, "runs as user"),
        ] {
            let text = of("/no/such/socket", kind.into());
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_thread_that_cannot_start_is_told_with_what_to_do() {
        let text = StartError::Thread(io::Error::from_raw_os_error(libc::EAGAIN)).to_string();
        assert!(text.contains("-t") && text.contains("pids.max"), "{text}");
    }
}
