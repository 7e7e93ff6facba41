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
    /// `-m` is absurd on this machine.
    Memory {
        /// The memory limit asked for.
        megabytes: u64,
        /// Memory of the machine in MiB.
        machine: u64,
    },
    /// The limit on open files is too low for the connections (`-c`).
    FileLimit {
        /// Connections asked for.
        connections: usize,
        /// Files that these connections and the server itself need.
        needed: u64,
        /// The limit, which could not be raised.
        limit: u64,
    },
}

impl ProcessError {
    /// Returns the exit code of the process: the one that memcached uses for
    /// the same error.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Detach(_) => 1,
            Self::Memory { .. } => 64,
            Self::UnknownUser(_) => 67,
            Self::Identity(..)
            | Self::Groups(_)
            | Self::StillPrivileged(_)
            | Self::Sandbox(_)
            | Self::CoreLimit
            | Self::FileLimit { .. } => 71,
        }
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUser(user) => write!(
                out,
                "can't find the user {user} to switch to; create it (useradd --system {user}) or \
                 name another (-u)"
            ),
            Self::Identity(user, error) => {
                write!(out, "failed to assume identity of user {user}: {error}")
            }
            Self::Groups(error) => write!(out, "failed to drop supplementary groups: {error}"),
            Self::StillPrivileged(user) => {
                write!(out, "could not give up all rights but those of user {user}")
            }
            Self::Sandbox(reason) => {
                write!(
                    out,
                    "-o drop_privileges is not possible here: {reason}; leave it out"
                )
            }
            Self::Detach(error) => write!(out, "failed to run in the background: {error}"),
            Self::CoreLimit => out.write_str(
                "failed to ensure corefile creation: the hard limit is 0; raise it (ulimit -Hc, \
                 LimitCORE= of the service), start as root, or leave out -r",
            ),
            Self::Memory { megabytes, machine } => write!(
                out,
                "-m {megabytes} is more than a hundred times the memory of the machine, {machine} \
                 MiB; -m takes megabytes"
            ),
            Self::FileLimit {
                connections,
                needed,
                limit,
            } => write!(
                out,
                "failed to set rlimit for open files: -c {connections} needs {needed}, and the \
                 hard limit is {limit}; raise it (ulimit -Hn, LimitNOFILE= of the service), start \
                 as root, or ask for fewer connections"
            ),
        }
    }
}
