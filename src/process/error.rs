//! Errors that keep the process from being prepared or sandboxed.

use std::fmt;

use nix::errno::Errno;

/// Operation that the operating system refused. `Display` is one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProcessError {
    /// There is no user of this name (`-u`).
    UnknownUser(String),
    /// The user or group ID could not be changed to this user's.
    Identity(String, Errno),
    /// The supplementary groups could not be dropped.
    Groups(Errno),
    /// After the change to this user, other IDs or groups are left, or root can
    /// be regained.
    StillPrivileged(String),
    /// The system call filter could not be installed.
    Sandbox(String),
    /// The process could not detach (`-d`).
    Detach(Errno),
    /// Core files stay disabled despite `-r`.
    CoreLimit,
    /// The limit on open files is too low for this number of connections.
    FileLimit(usize),
}

impl ProcessError {
    /// Returns the exit code of the process: the one that memcached uses for
    /// the same error.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Detach(_) => 1,
            Self::UnknownUser(_) => 67,
            Self::Identity(..)
            | Self::Groups(_)
            | Self::StillPrivileged(_)
            | Self::Sandbox(_)
            | Self::CoreLimit
            | Self::FileLimit(_) => 71,
        }
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUser(user) => write!(out, "can't find the user {user} to switch to"),
            Self::Identity(user, error) => {
                write!(out, "failed to assume identity of user {user}: {error}")
            }
            Self::Groups(error) => write!(out, "failed to drop supplementary groups: {error}"),
            Self::StillPrivileged(user) => {
                write!(out, "could not give up all rights but those of user {user}")
            }
            Self::Sandbox(reason) => {
                write!(out, "-o drop_privileges is not possible here: {reason}")
            }
            Self::Detach(error) => write!(out, "failed to run in the background: {error}"),
            Self::CoreLimit => out.write_str("failed to ensure corefile creation"),
            Self::FileLimit(connections) => write!(
                out,
                "failed to set rlimit for open files: start as root, or ask for fewer than \
                 {connections} connections (-c)"
            ),
        }
    }
}
