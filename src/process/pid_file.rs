//! The pid file (`-P`).

use std::path::{Path, PathBuf};
use std::{fs, io, process};

use nix::sys::signal;
use nix::unistd::Pid;
use rustcached::limits::FINAL_MESSAGE_TIMEOUT;
use rustcached::logging::{Stream, write_line, write_within};

/// Pid file of this process. Dropping it removes the file, unless another process
/// has replaced it.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the process ID to `path`. Uses a temporary file and a rename, so
    /// that a reader never sees an empty file.
    ///
    /// Warns on standard error if the existing file names another running
    /// process than `predecessor`, and replaces the file.
    ///
    /// # Errors
    ///
    /// The file cannot be written. As in memcached, the caller reports that and
    /// continues.
    pub(crate) fn create(path: &Path, predecessor: Option<i32>) -> io::Result<Self> {
        if let Some(pid) = running_owner(path).filter(|pid| Some(*pid) != predecessor) {
            let path = path.display();
            write_line(format_args!("{path}: process {pid} is still running"));
        }
        write(path)?;
        let path = path.to_owned();
        Ok(Self { path })
    }

    /// Writes the file again if a successor that has failed had replaced it.
    pub(crate) fn renew(&self) {
        if self.owner() != Some(process::id())
            && let Err(error) = write(&self.path)
        {
            let path = self.path.display();
            write_line(format_args!("could not write the pid file {path}: {error}"));
        }
    }

    /// Returns the process that the file names.
    fn owner(&self) -> Option<u32> {
        fs::read_to_string(&self.path).ok()?.trim().parse().ok()
    }
}

/// Writes the process ID to a temporary file, and renames that.
fn write(path: &Path) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    fs::write(&temporary, format!("{}\n", process::id()))?;
    fs::rename(&temporary, path)
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.owner().is_some_and(|owner| owner != process::id()) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            let text = format!("could not remove the pid file {path}: {error}\n");
            write_within(Stream::Error, text, FINAL_MESSAGE_TIMEOUT);
        }
    }
}

/// Returns the process that an existing pid file names. `None` if it is this
/// process, is not running, or cannot be signalled.
fn running_owner(path: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let other = pid > 0 && u32::try_from(pid) != Ok(process::id());
    (other && signal::kill(Pid::from_raw(pid), None).is_ok()).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::{PidFile, running_owner};
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
        let file = PidFile::create(&path, None).expect("a writable directory");
        let text = fs::read_to_string(&path).expect("the pid file");
        assert_eq!(text, format!("{}\n", std::process::id()));
        assert_eq!(running_owner(&path), None, "our own pid is no other owner");
        drop(file);
        assert_eq!(fs::read_dir(&directory).expect("readable").count(), 0);
        fs::remove_dir(&directory).expect("empty");
    }

    #[test]
    fn pid_file_of_another_process_stays() {
        let directory = scratch("other");
        let path = directory.join("server.pid");
        let file = PidFile::create(&path, None).expect("a writable directory");
        fs::write(&path, "1\n").expect("writable");
        drop(file);
        assert_eq!(fs::read_to_string(&path).expect("the pid file"), "1\n");
        let file = PidFile::create(&path, Some(1)).expect("a writable directory");
        fs::write(&path, "1\n").expect("writable");
        file.renew();
        assert_eq!(file.owner(), Some(std::process::id()));
        drop(file);
        assert!(!path.exists());
        fs::remove_dir_all(&directory).expect("removable");
    }

    #[test]
    fn pid_file_in_no_directory_is_an_error() {
        let directory = scratch("none");
        assert!(PidFile::create(&directory.join("missing/server.pid"), None).is_err());
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
}
