//! The process of the server: resource limits, user, daemon mode, locked memory,
//! pid file and sandbox. Knows no sockets and no cache.
//!
//! Only `main` calls this, in three steps:
//!
//! 1. [`prepare`](prepare::prepare) before any thread starts, because a fork
//!    keeps only the calling thread,
//! 2. [`PidFile`](pid_file::PidFile),
//! 3. [`sandbox`] once the server listens.

mod error;
mod limits;
mod memory;
mod pid_file;
mod prepare;
mod privileges;
pub(crate) mod sandbox;

pub(crate) use error::ProcessError;
pub(crate) use pid_file::PidFile;
pub(crate) use prepare::{check, prepare};
