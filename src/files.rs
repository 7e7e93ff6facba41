//! Opening the files that settings name.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

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

#[cfg(test)]
mod tests {
    use super::open;
    use nix::sys::stat::Mode;
    use std::io::Read;

    #[test]
    fn a_pipe_is_refused_without_waiting() {
        let name = format!("rustcached-files-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a scratch directory");
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
}
