//! Opening the files that settings name, and noticing that they have changed.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::unistd::{AccessFlags, User, access, geteuid};

/// Identity of a file's content: it differs once the file was written or replaced, or
/// access to it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    /// Device and inode.
    file: (u64, u64),
    len: u64,
    written: (i64, i64),
    /// Time of the last change that the system knows of. Copies of the same age and
    /// length differ in it.
    changed: (i64, i64),
}

impl FileState {
    /// Returns the state of the file with this metadata.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Opens a file for reading, without waiting. A pipe has no end before its writer
/// closes it, and opening one without a writer blocks: SIGHUP would stop the thread
/// that handles signals.
///
/// # Errors
/// The file cannot be opened, or is a pipe.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other("it is a pipe, not a file"));
    }
    Ok(file)
}

/// Opens or creates a file for appending, without waiting: a pipe without a reader is
/// an error. Writes to a full pipe are refused too.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// Checks whether this process could open a file for writing, or create it. Neither
/// opens nor creates it.
///
/// # Errors
/// The file, or its directory, does not permit it.
pub(crate) fn could_write(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(access(path, AccessFlags::W_OK)?),
        Err(error) if error.kind() == ErrorKind::NotFound => could_create(path),
        Err(error) => Err(error),
    }
}

/// Checks whether this process could create a file in the directory of `path`.
///
/// # Errors
/// There is no such directory, or it does not permit it.
pub(crate) fn could_create(path: &Path) -> io::Result<()> {
    let directory = directory_of(path);
    if !fs::metadata(directory)?.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    Ok(access(directory, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// Returns the end of a message about a file that could not be opened: what the
/// operator can do. Empty if there is nothing to add to the error.
pub(crate) fn remedy(path: &Path, error: &io::Error) -> String {
    let directory = directory_of(path);
    match error.kind() {
        ErrorKind::NotFound if !directory.is_dir() => {
            format!("; create the directory {}", directory.display())
        }
        ErrorKind::NotFound => "; there is no such file: check its name".to_owned(),
        ErrorKind::PermissionDenied => {
            let user = geteuid();
            let name = User::from_uid(user).ok().flatten();
            let name = name.map_or_else(|| user.to_string(), |user| user.name);
            format!("; the server runs as user {name}, who needs access")
        }
        ErrorKind::IsADirectory => "; name a file in it".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "; name a file on another file system".to_owned(),
        _ if error.raw_os_error() == Some(libc::ENXIO) => {
            "; nothing reads from this pipe: start its reader first".to_owned()
        }
        _ => String::new(),
    }
}

/// Returns the directory in which a file is, or would be.
fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().unwrap_or(path);
    match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    }
}

#[cfg(test)]
mod tests {
    use super::{FileState, append, could_create, could_write, open, remedy};
    use nix::sys::stat::Mode;
    use std::fs::{self, File};
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant, SystemTime};

    fn scratch(name: &str) -> PathBuf {
        let name = format!("rustcached-files-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a scratch directory");
        folder
    }

    #[test]
    fn a_file_written_with_the_same_age_and_length_has_changed() {
        let folder = scratch("state");
        let path = folder.join("file");
        let write = |text| {
            let mut file = File::create(&path).expect("writable");
            file.write_all(text).expect("writable");
            let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
            file.set_modified(past).expect("permitted");
            FileState::of(&file.metadata().expect("known"))
        };
        let before = write(b"one");
        // The system's times have steps of some milliseconds.
        let begun = Instant::now();
        while write(b"two") == before {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "it looks the same"
            );
        }
        fs::remove_dir_all(&folder).expect("removable");
    }

    #[test]
    fn a_pipe_is_refused_without_waiting() {
        let folder = scratch("open");
        let pipe = folder.join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("created");
        let error = open(&pipe).expect_err("a pipe");
        assert_eq!(error.to_string(), "it is a pipe, not a file");
        let file = folder.join("file");
        std::fs::write(&file, "text").expect("writable");
        let mut text = String::new();
        let read = open(&file).and_then(|mut file| file.read_to_string(&mut text));
        assert_eq!((read.expect("readable"), &text[..]), (4, "text"));
        std::fs::remove_dir_all(&folder).expect("removable");
    }

    #[test]
    fn a_pipe_is_appended_to_without_waiting() {
        let folder = scratch("append");
        let pipe = folder.join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("created");
        let error = append(&pipe).expect_err("nobody reads");
        assert!(remedy(&pipe, &error).contains("start its reader first"));
        let mut reader = open_pipe(&pipe);
        append(&pipe)
            .and_then(|mut file| file.write_all(b"line"))
            .expect("there is a reader");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("readable");
        assert_eq!(text, "line");
        fs::remove_dir_all(&folder).expect("removable");
    }

    fn open_pipe(path: &Path) -> fs::File {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = fs::OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        options.open(path).expect("a pipe")
    }

    #[test]
    fn what_could_be_written_is_neither_created_nor_changed() {
        let folder = scratch("could");
        let (new, old) = (folder.join("new"), folder.join("old"));
        fs::write(&old, "text").expect("writable");
        assert!(could_write(&new).is_ok() && could_create(&new).is_ok());
        assert!(could_write(&old).is_ok());
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(&old).expect("readable"), "text");
        for (path, kind) in [
            (folder.clone(), ErrorKind::IsADirectory),
            (folder.join("missing/new"), ErrorKind::NotFound),
            (old.join("new"), ErrorKind::NotADirectory),
        ] {
            let error = could_write(&path).expect_err("not writable");
            assert_eq!(error.kind(), kind, "{path:?}");
        }
        // Only users other than root are refused.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).expect("ours");
        let is_root = nix::unistd::geteuid().is_root();
        assert_eq!(could_write(&new).is_ok(), is_root);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("ours");
        fs::remove_dir_all(&folder).expect("removable");
    }

    #[test]
    fn a_remedy_names_what_is_missing() {
        let of = |path: &str, kind: ErrorKind| remedy(Path::new(path), &kind.into());
        let missing = of("/no/such/file", ErrorKind::NotFound);
        assert_eq!(missing, "; create the directory /no/such");
        assert!(of("file", ErrorKind::NotFound).contains("check its name"));
        assert!(of("/x", ErrorKind::PermissionDenied).contains("runs as user "));
        assert_eq!(of("/x", ErrorKind::Other), "");
    }
}
