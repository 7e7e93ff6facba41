//! What the system refused to the process.

use std::fmt;

use nix::errno::Errno;

/// What the system refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProcessError {
    /// No user of this name.
    UnknownUser(String),
    /// The user's rights could not be taken on.
    Identity(String, Errno),
    /// The supplementary groups could not be given up.
    Groups(Errno),
    /// Rights are left over that should be gone.
    StillPrivileged(String),
    /// The system call filter could not be installed.
    Sandbox(String),
    /// The step into the background failed.
    Detach(Errno),
    /// No core files, though `-r` asks for them.
    CoreLimit,
    /// Not enough open files for so many connections.
    FileLimit(usize),
}

impl ProcessError {
    /// The code to exit with: memcached's for the same fault.
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
