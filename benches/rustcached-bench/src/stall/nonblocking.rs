//! Non-blocking socket operations of both connections of `stall`.
//!
//! Never waits: if a socket is not ready, the thread serves the other connection.

use std::io::ErrorKind;

use crate::address::Stream;
use crate::failure::Failure;
use crate::process::ServerProcess;

/// Opens a connection to the server.
pub(super) fn connect(server: &ServerProcess) -> Result<Stream, Failure> {
    Stream::connect(&server.address).map_err(Failure::io("connecting"))
}

/// Returns the bytes moved, 0 if the socket is not ready. Fails if the connection is closed.
pub(super) fn bytes_or_zero(result: std::io::Result<usize>) -> Result<usize, Failure> {
    match result {
        Ok(0) => Err(Failure::Server("closed the connection".to_string())),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(0)
        }
        result => result.map_err(Failure::io("talking to the server")),
    }
}
