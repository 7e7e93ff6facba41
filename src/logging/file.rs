//! A log file that can be reopened, so that it can be rotated.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files;
use crate::logging::queue::Log;

/// File that log lines are appended to (`--log-file`).
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    log: Arc<Log>,
}

impl LogFile {
    /// Opens or creates the file. A pipe must have a reader.
    ///
    /// # Errors
    /// The error of the system.
    pub fn open(path: &Path, log: Arc<Log>) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: files::append(path)?,
            log,
        })
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.log.take_reopen_request() {
            // If that fails, lines go to the old file, and the next request
            // tries again.
            match files::append(&self.path) {
                Ok(file) => self.file = file,
                Err(error) => {
                    let path = self.path.display();
                    writeln!(self.file, "the log file {path} stays open: {error}")?;
                }
            }
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
