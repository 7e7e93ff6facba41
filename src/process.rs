//! The process around the server: limits on files and cores, the user it
//! runs as, the background, locked memory, the pid file. Called by `main`
//! alone, in steps: [`prepare`] before any thread starts, because a fork keeps
//! only the calling thread, [`PidFile`] next, and [`sandbox`] once the server
//! listens.
//! Knows nothing of sockets or of the cache.

pub(crate) mod sandbox;

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal;
use nix::unistd::{
    Pid, Uid, User, daemon, geteuid, getgroups, getresgid, getresuid, getuid, setgid, setgroups,
    setuid,
};
use rustcached::config::{Config, Process};
use rustcached::limits::LAST_WORDS_MAX_WAIT;
use rustcached::logging::{Stream, write_line, write_within};

/// Descriptors for anything but clients: standard streams, files, and a few
/// in reserve.
const FILES_RESERVED: usize = 32;
/// Descriptors a worker needs for itself.
const FILES_PER_THREAD: usize = 4;

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

/// Does what the options ask of the process, in memcached's order. Must run
/// before any thread starts and before anything listens.
///
/// # Errors
///
/// The first thing the system refused, except locked memory: that is told
/// on standard error and done without.
pub(crate) fn prepare(process: &Process, config: &Config) -> Result<(), ProcessError> {
    if process.core_dumps {
        raise_core_limit()?;
    }
    raise_file_limit(config)?;
    if getuid().is_root() || geteuid().is_root() {
        match &process.user {
            Some(user) => assume_user(user)?,
            None if config.verbosity > 0 => {
                write_line(format_args!("running as root; -u gives up its rights"));
            }
            None => {}
        }
    }
    if process.daemonize {
        // Core files go to the working directory; messages to the terminal.
        daemon(process.core_dumps, config.verbosity > 0).map_err(ProcessError::Detach)?;
    }
    if process.lock_memory {
        lock_memory();
    }
    Ok(())
}

/// The pid file, which goes away with this value.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the id of this process. It appears whole: readers never see an
    /// empty file.
    ///
    /// # Errors
    ///
    /// The file cannot be written. memcached tells that and serves on.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        if let Some(pid) = running_owner(path) {
            let path = path.display();
            write_line(format_args!("{path}: process {pid} is still running"));
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        fs::write(&temporary, format!("{}\n", std::process::id()))?;
        fs::rename(&temporary, path)?;
        let path = path.to_owned();
        Ok(Self { path })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            let text = format!("could not remove the pid file {path}: {error}\n");
            write_within(Stream::Error, text, LAST_WORDS_MAX_WAIT);
        }
    }
}

/// The process an old pid file names, if it still runs and is not this one.
fn running_owner(path: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let other = pid > 0 && u32::try_from(pid) != Ok(std::process::id());
    (other && signal::kill(Pid::from_raw(pid), None).is_ok()).then_some(pid)
}

/// Raises the limit on core files to whatever is permitted.
fn raise_core_limit() -> Result<(), ProcessError> {
    let limit = Resource::RLIMIT_CORE;
    if setrlimit(limit, RLIM_INFINITY, RLIM_INFINITY).is_ok() {
        return Ok(());
    }
    let (_, hard) = getrlimit(limit).map_err(|_| ProcessError::CoreLimit)?;
    match setrlimit(limit, hard, hard) {
        Ok(()) if hard > 0 => Ok(()),
        _ => Err(ProcessError::CoreLimit),
    }
}

/// Makes room for all connections and the server's own files.
fn raise_file_limit(config: &Config) -> Result<(), ProcessError> {
    let own = FILES_RESERVED + FILES_PER_THREAD * config.threads + config.listeners.len();
    let connections = config.max_connections;
    let wanted = rlim_t::try_from(connections.saturating_add(own)).unwrap_or(rlim_t::MAX);
    let refused = |_| ProcessError::FileLimit(connections);
    let limit = Resource::RLIMIT_NOFILE;
    let (soft, hard) = getrlimit(limit).map_err(refused)?;
    if soft >= wanted || setrlimit(limit, wanted, hard.max(wanted)).is_ok() {
        return Ok(());
    }
    // As in memcached, a limit that is right for the connections alone will do.
    match rlim_t::try_from(connections) {
        Ok(connections) if hard >= connections => setrlimit(limit, hard, hard).map_err(refused),
        _ => Err(ProcessError::FileLimit(connections)),
    }
}

/// Takes on the user's rights and gives up all others for good.
fn assume_user(name: &str) -> Result<(), ProcessError> {
    let user = find_user(name)?;
    // Groups first, as long as we may; the user last, which ends that.
    match setgroups(&[]) {
        // Not permitted: that there is nothing to give up is verified below.
        Ok(()) | Err(Errno::EPERM) => {}
        Err(error) => return Err(ProcessError::Groups(error)),
    }
    setgid(user.gid)
        .and_then(|()| setuid(user.uid))
        .map_err(|error| ProcessError::Identity(name.to_owned(), error))?;
    match is_only(&user) {
        true => Ok(()),
        false => Err(ProcessError::StillPrivileged(name.to_owned())),
    }
}

/// Whether the process has the rights of this user, no others, and no way
/// back.
fn is_only(user: &User) -> bool {
    let root = Uid::from_raw(0);
    let users = getresuid().map(|ids| [ids.real, ids.effective, ids.saved]);
    let groups = getresgid().map(|ids| [ids.real, ids.effective, ids.saved]);
    users == Ok([user.uid; 3])
        && groups == Ok([user.gid; 3])
        && getgroups().is_ok_and(|groups| groups.iter().all(|group| *group == user.gid))
        && (user.uid == root || setuid(root).is_err())
}

fn find_user(name: &str) -> Result<User, ProcessError> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user),
        _ => Err(ProcessError::UnknownUser(name.to_owned())),
    }
}

fn lock_memory() {
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE;
    if let Err(error) = mlockall(flags) {
        write_line(format_args!(
            "warning: -k invalid, mlockall() failed: {error}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::{PidFile, ProcessError, find_user, raise_file_limit, running_owner};
    use rustcached::config::Config;
    use std::fs;
    use std::path::PathBuf;

    fn scratch(name: &str) -> PathBuf {
        let directory =
            std::env::temp_dir().join(format!("rustcached-process-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("a scratch directory");
        directory
    }

    #[test]
    fn pid_file_holds_the_pid_and_goes_away() {
        let directory = scratch("pid");
        let path = directory.join("server.pid");
        let file = PidFile::create(&path).expect("a writable directory");
        let text = fs::read_to_string(&path).expect("the pid file");
        assert_eq!(text, format!("{}\n", std::process::id()));
        assert_eq!(running_owner(&path), None, "our own pid is no other owner");
        drop(file);
        assert_eq!(fs::read_dir(&directory).expect("readable").count(), 0);
        fs::remove_dir(&directory).expect("empty");
    }

    #[test]
    fn pid_file_in_no_directory_is_an_error() {
        let directory = scratch("none");
        assert!(PidFile::create(&directory.join("missing/server.pid")).is_err());
        fs::remove_dir(&directory).expect("empty");
    }

    #[test]
    fn running_owner_is_found_and_garbage_is_not() {
        let directory = scratch("owner");
        let path = directory.join("server.pid");
        fs::write(&path, "1\n").expect("writable");
        let reachable = nix::unistd::geteuid().is_root();
        assert_eq!(running_owner(&path), reachable.then_some(1));
        for text in ["", "x", "-1", "0", "99999999999999"] {
            fs::write(&path, text).expect("writable");
            assert_eq!(running_owner(&path), None, "{text:?}");
        }
        fs::remove_dir_all(&directory).expect("removable");
    }

    #[test]
    fn unknown_user_has_memcached_s_exit_code() {
        let error = find_user("no-such-user-here").expect_err("nobody has this name");
        assert_eq!(error, ProcessError::UnknownUser("no-such-user-here".into()));
        assert_eq!(error.exit_code(), 67);
        assert!(find_user("root").is_ok());
    }

    #[test]
    fn more_connections_than_files_are_refused() {
        let config = Config {
            max_connections: usize::MAX / 2,
            ..Config::default()
        };
        let error = raise_file_limit(&config).expect_err("above any kernel's limit");
        assert_eq!(error.exit_code(), 71);
        assert_eq!(raise_file_limit(&Config::default()), Ok(()));
    }
}
