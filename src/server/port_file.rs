//! The file that receives the ports, for callers that let the system choose.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::server::error::StartError;

/// Writes the bound ports where test suites look for them.
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
    // Written aside and renamed, so that a reader who waits for the file
    // never sees half of it.
    let aside = path.with_extension("part");
    fs::write(&aside, lines)
        .and_then(|()| fs::rename(&aside, path))
        .map_err(|error| StartError::PortFile(path.to_path_buf(), error))
}
