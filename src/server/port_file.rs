//! The port file, from which callers learn the ports that the system chose.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::server::error::StartError;

/// Writes the bound ports to `path`, one a line, such as `TCP INET: 11211`. The
/// format is that of memcached's `MEMCACHED_PORT_FILENAME`. Does nothing
/// without a path.
///
/// # Errors
/// [`StartError::PortFile`] if the file cannot be written.
pub(super) fn write_port_file(
    path: Option<&Path>,
    tcp: &[SocketAddr],
    udp: &[SocketAddr],
) -> Result<(), StartError> {
    let Some(path) = path else {
        return Ok(());
    };
    let line = |kind: &str, address: &SocketAddr| {
        let family = if address.is_ipv6() { "INET6" } else { "INET" };
        format!("{kind} {family}: {}\n", address.port())
    };
    let tcp = tcp.iter().map(|address| line("TCP", address));
    let udp = udp.iter().map(|address| line("UDP", address));
    let lines: String = tcp.chain(udp).collect();
    // Written to a temporary file and renamed, so that a waiting reader never
    // sees a part of it.
    let aside = path.with_extension("part");
    fs::write(&aside, lines)
        .and_then(|()| fs::rename(&aside, path))
        .map_err(|error| StartError::PortFile(path.to_path_buf(), error))
}
