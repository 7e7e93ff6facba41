//! The process around the server: limits on files and cores, the user it
//! runs as, the background, locked memory, the pid file. Called by `main`
//! alone, in steps: [`prepare`](prepare::prepare) before any thread starts, because a fork keeps
//! only the calling thread, [`PidFile`](pid_file::PidFile) next, and [`sandbox`] once the server
//! listens.
//! Knows nothing of sockets or of the cache.

mod error;
mod limits;
mod pid_file;
mod prepare;
mod privileges;
pub(crate) mod sandbox;

pub(crate) use error::ProcessError;
pub(crate) use pid_file::PidFile;
pub(crate) use prepare::prepare;
