//! What both connections of `stall` do with their sockets.
//!
//! Never waits: a socket that is not ready moves no bytes, and the thread goes on with the other.

use std::io::ErrorKind;

use crate::address::Stream;
use crate::failure::Failure;
use crate::process::ServerProcess;

/// A connection to the server.
pub(super) fn connect(server: &ServerProcess) -> Result<Stream, Failure> {
    Stream::connect(&server.address).map_err(Failure::io("connecting"))
}

/// The bytes moved: 0 if the socket is not ready, an error if it is closed.
pub(super) fn now_or_zero(result: std::io::Result<usize>) -> Result<usize, Failure> {
    match result {
        Ok(0) => Err(Failure::Server("closed the connection".to_string())),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(0)
        }
        result => result.map_err(Failure::io("talking to the server")),
    }
}
