//! Entries of `-l`: `[tls:][proto[x]:][tag[x]:][proxy:]host[:port]`, with
//! `unix:path` in place of host and port for a unix socket. `tls` stands for `notls`,
//! `btls`, `otls` or `mtls`. Commas or semicolons separate entries. Without `-l`, the
//! wildcard addresses apply. Resolves host names; binds nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use super::error::{CliError, Missing};
use super::number;
use crate::config::{ClientCertificates, Endpoint, Listener, ProtocolMode};

/// The TCP port when none is given.
pub(super) const DEFAULT_PORT: u16 = 11211;
/// The port of the admin listener when none is given.
pub(super) const DEFAULT_ADMIN_PORT: u16 = 9150;
/// Permissions of the unix socket when none are given.
pub(super) const DEFAULT_UNIX_MASK: u32 = 0o700;
/// Longest listener tag in bytes, as in memcached.
const TAG_MAX_BYTES: usize = 8;

/// Settings of listeners whose entry does not specify them.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    /// TCP port; `None` if TCP is disabled.
    pub(super) port: Option<u16>,
    /// Protocols that clients may use.
    pub(super) protocol: ProtocolMode,
    /// Client certificates under TLS; `None` without `-Z`.
    pub(super) tls: Option<ClientCertificates>,
    /// Whether CA certificates for client certificates are configured.
    pub(super) can_verify: bool,
    /// Permissions of unix sockets.
    pub(super) mode: u32,
    /// Connections begin with a header of the PROXY protocol.
    pub(super) proxy: bool,
}

/// Returns the listeners of one `-l`.
///
/// # Errors
///
/// An entry is malformed, its host name does not resolve, or it requests a
/// feature that this server does not have.
pub(super) fn parse(list: &str, defaults: Defaults) -> Result<Vec<Listener>, CliError> {
    let mut listeners = Vec::new();
    let entries = list.split([',', ';']).map(str::trim);
    for entry in entries.filter(|entry| !entry.is_empty()) {
        let (rest, defaults) = prefixes(entry, defaults)?;
        if let Some(path) = rest.strip_prefix("unix:") {
            listeners.push(unix(path.into(), defaults));
            continue;
        }
        let Some(port) = defaults.port else {
            continue;
        };
        let (host, port) = host_and_port(entry, rest, port)?;
        listeners.extend(resolve(entry, host, port, defaults)?);
    }
    Ok(listeners)
}

/// Returns the listener of a unix socket, which never uses TLS.
pub(super) fn unix(path: PathBuf, defaults: Defaults) -> Listener {
    let mode = defaults.mode;
    Listener {
        endpoint: Endpoint::Unix { path, mode },
        protocol: defaults.protocol,
        tls: None,
        proxy: defaults.proxy,
        optional: false,
    }
}

/// Returns listeners on all addresses: IPv4, and IPv6 if the system has it.
pub(super) fn wildcard(port: u16, defaults: Defaults) -> Vec<Listener> {
    let addresses = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    addresses
        .into_iter()
        .map(|address| Listener {
            endpoint: Endpoint::Tcp(SocketAddr::new(address, port)),
            protocol: defaults.protocol,
            tls: defaults.tls,
            proxy: defaults.proxy,
            optional: address.is_ipv6(),
        })
        .collect()
}

/// Parses the prefixes of an entry, in any order. Returns the rest.
fn prefixes(entry: &str, mut defaults: Defaults) -> Result<(&str, Defaults), CliError> {
    let mut rest = entry;
    loop {
        if let Some(plain) = rest.strip_prefix("notls:") {
            defaults.tls = None;
            rest = plain;
        } else if let Some((ask, after)) = tls_prefix(rest) {
            check_tls(entry, rest, ask, defaults)?;
            defaults.tls = Some(ask);
            rest = after;
        } else if let Some((name, after)) = bracketed(entry, rest, "proto[")? {
            defaults.protocol = protocol_of(entry, name)?;
            rest = after;
        } else if let Some((tag, after)) = bracketed(entry, rest, "tag[")? {
            check_tag(entry, tag)?;
            rest = after;
        } else if let Some((tag, after)) = underscored(rest) {
            check_tag(entry, tag)?;
            rest = after;
        } else if let Some(after) = proxy_prefix(rest) {
            defaults.proxy = true;
            rest = after;
        } else {
            return Ok((rest, defaults));
        }
    }
}

/// Parses a TLS prefix. Returns its requirement and the rest of the entry.
fn tls_prefix(text: &str) -> Option<(ClientCertificates, &str)> {
    [
        ("btls:", ClientCertificates::Ignore),
        ("otls:", ClientCertificates::Request),
        ("mtls:", ClientCertificates::Require),
    ]
    .into_iter()
    .find_map(|(prefix, ask)| Some((ask, text.strip_prefix(prefix)?)))
}

/// Parses the prefix of the PROXY protocol. Returns the rest of the entry. In front
/// of a port, it is the name of a host, as in memcached.
fn proxy_prefix(text: &str) -> Option<&str> {
    let after = text.strip_prefix("proxy:")?;
    after.parse::<i64>().is_err().then_some(after)
}

fn check_tls(
    entry: &str,
    text: &str,
    ask: ClientCertificates,
    defaults: Defaults,
) -> Result<(), CliError> {
    let prefix = text.split(':').next().unwrap_or(text);
    if defaults.tls.is_none() {
        let reason = format!("'{prefix}' option is valid only when SSL is enabled (-Z)");
        return Err(bad(entry, reason));
    }
    if ask != ClientCertificates::Ignore && !defaults.can_verify {
        return Err(bad(
            entry,
            format!("'{prefix}' needs -o ssl_ca_cert=<file>"),
        ));
    }
    Ok(())
}

/// Splits `proto[x]:rest` into x and rest.
fn bracketed<'a>(
    entry: &str,
    text: &'a str,
    opening: &str,
) -> Result<Option<(&'a str, &'a str)>, CliError> {
    let Some(after) = text.strip_prefix(opening) else {
        return Ok(None);
    };
    let (inner, rest) = after
        .split_once(']')
        .ok_or_else(|| bad(entry, "a bracket is not closed"))?;
    Ok(Some((inner, rest.strip_prefix(':').unwrap_or(rest))))
}

/// Splits `tag_x:rest` into x and rest.
fn underscored(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("tag_")?.split_once(':')
}

fn check_tag(entry: &str, tag: &str) -> Result<(), CliError> {
    if (1..=TAG_MAX_BYTES).contains(&tag.len()) {
        return Ok(());
    }
    let wanted = format!("Listener tags must be between 1 and {TAG_MAX_BYTES} characters");
    Err(bad(entry, wanted))
}

fn protocol_of(entry: &str, name: &str) -> Result<ProtocolMode, CliError> {
    match name {
        "ascii" => Ok(ProtocolMode::Ascii),
        "auto" | "negotiating" => Ok(ProtocolMode::Auto),
        "binary" => Ok(ProtocolMode::Binary),
        "proxy" => Err(unavailable(entry, Missing::Proxy)),
        _ => Err(bad(entry, format!("Invalid protocol spec: {name:?}"))),
    }
}

/// Splits `host:port`; an IPv6 address needs brackets to have a port.
fn host_and_port<'a>(
    entry: &str,
    text: &'a str,
    default_port: u16,
) -> Result<(&'a str, u16), CliError> {
    let (host, port) = if let Some(after) = text.strip_prefix('[') {
        let (host, rest) = after
            .split_once(']')
            .ok_or_else(|| bad(entry, "Invalid IPV6 address: a bracket is not closed"))?;
        (host, rest.strip_prefix(':'))
    } else {
        match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (text, None),
        }
    };
    let Some(port) = port else {
        return Ok((host, default_port));
    };
    number::integer(port)
        .filter(|number| !number.trailing)
        .and_then(|number| port_number(number.value).ok())
        .map(|port| (host, port))
        .ok_or_else(|| bad(entry, format!("Invalid port number: {port:?}")))
}

fn resolve(
    entry: &str,
    host: &str,
    port: u16,
    defaults: Defaults,
) -> Result<Vec<Listener>, CliError> {
    if host == "*" || host.is_empty() {
        return Ok(wildcard(port, defaults));
    }
    let addresses: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|error| bad(entry, error))?
        .collect();
    // A name often resolves to both families on machines that have only one.
    let any_v4 = addresses.iter().any(SocketAddr::is_ipv4);
    let listener = |address: SocketAddr| Listener {
        endpoint: Endpoint::Tcp(address),
        protocol: defaults.protocol,
        tls: defaults.tls,
        proxy: defaults.proxy,
        optional: any_v4 && address.is_ipv6(),
    };
    Ok(addresses.into_iter().map(listener).collect())
}

fn bad(entry: &str, reason: impl ToString) -> CliError {
    CliError::BadEndpoint {
        entry: entry.to_owned(),
        reason: reason.to_string(),
    }
}

fn unavailable(entry: &str, missing: Missing) -> CliError {
    CliError::Unavailable {
        option: format!("-l {entry}"),
        missing,
    }
}

/// Validates a port number. -1 selects any free port, as 0 does for the system.
///
/// # Errors
///
/// `InvalidPort` if the number is not a port.
pub(super) fn port_number(raw: i64) -> Result<u16, CliError> {
    if raw == -1 {
        return Ok(0);
    }
    u16::try_from(raw).map_err(|_| CliError::InvalidPort(raw))
}
