//! Completes the settings: what depends on several options, and the limits of
//! options against each other. The settings are not validated again.

use std::collections::HashSet;

use super::draft::Draft;
use super::endpoint::{
    self, DEFAULT_ADMIN_PORT, DEFAULT_PORT, DEFAULT_UNIX_MASK, Defaults, port_number,
};
use super::error::CliError;
use super::number::above_zero;
use crate::config::{
    Config, Datagrams, Endpoint, Eviction, HandedOver, Listener, Objective, Process, ProtocolMode,
    Tunables,
};
use crate::limits::{CLIENT_MEMORY_MIN_MIB, CLIENT_MEMORY_PART, KEY_MAX_BYTES, PREFIX_LIMITS_MAX};

/// Number of threads above which memcached and this server warn.
const THREADS_WARN: usize = 64;

/// Validates and completes the settings.
///
/// # Errors
///
/// Returns the first fault found.
pub(super) fn settings(mut draft: Draft) -> Result<(Config, Process), CliError> {
    draft.config.tls = draft.tls.settings()?;
    let defaults = defaults(&draft)?;
    draft.config.listeners = listeners(&draft, defaults)?;
    draft.config.udp = datagrams(&draft, defaults)?;
    if let Some(fault) = draft.late_faults.iter_mut().find_map(Option::take) {
        return Err(fault);
    }
    let restart = &draft.config.restart;
    if restart.memory_file.is_some() && restart.save_path.is_some() {
        let text = "-e (--memory-file) and --save-path exclude each other";
        return Err(CliError::bad_value(text));
    }
    if let Some(objective) = draft.objective {
        draft.config.eviction = with_objective(draft.config.eviction, objective)?;
    }
    draft.config.client_memory_limit = client_memory_limit(&draft);
    check_queues(&draft.config.tunables)?;
    check_prefix_limits(&draft.config)?;
    let notices = notices(&draft)?;
    draft.process.notices.extend(notices);
    draft.config.admin.listeners = admin_listeners(&draft, defaults)?;
    draft.config.handed_over = HandedOver {
        protocol: defaults.protocol,
        tls: defaults.tls,
        alone: draft.port.is_none() && draft.listen.is_empty() && draft.unix_socket.is_none(),
    };
    Ok((draft.config, draft.process))
}

/// Returns the eviction policy with this objective. The other policies have none:
/// whoever gives one expects an effect.
fn with_objective(eviction: Eviction, objective: Objective) -> Result<Eviction, CliError> {
    match eviction {
        Eviction::FrequencySize(_) => Ok(Eviction::FrequencySize(objective)),
        Eviction::Clock | Eviction::Frequency => {
            let text = "-o objective needs -o eviction=frequency_size, the default";
            Err(CliError::bad_value(text))
        }
    }
}

fn notices(draft: &Draft) -> Result<Vec<String>, CliError> {
    let mut notices = draft.tls.notices();
    let threads = draft.config.threads;
    if threads > THREADS_WARN {
        notices.push(format!(
            "{threads} worker threads: more than there are processors seldom help"
        ));
    }
    if let Some(ids) = draft.napi_ids {
        let ids = above_zero(ids, "Maximum number of NAPI IDs")?;
        if ids > threads {
            return Err(CliError::Limit(format!(
                "Number of napi_ids({ids}) cannot be greater than number of threads({threads})"
            )));
        }
        notices.push("-N (--napi-ids) has no effect".to_owned());
    }
    Ok(notices)
}

/// Checks the prefixes that have a limit. Their delimiter may come after them.
fn check_prefix_limits(config: &Config) -> Result<(), CliError> {
    let delimiter = config.prefix_delimiter;
    let mut prefixes = HashSet::new();
    for limit in &config.prefix_limits {
        prefixes.insert(&limit.prefix);
        let prefix = String::from_utf8_lossy(&limit.prefix);
        if limit.prefix.last() != Some(&delimiter) {
            return Err(CliError::BadValue(format!(
                "--prefix-limit: the prefix {prefix:?} must end with the delimiter {}",
                delimiter.escape_ascii()
            )));
        }
        if limit.prefix.iter().any(u8::is_ascii_whitespace) {
            return Err(CliError::BadValue(format!(
                "--prefix-limit: keys that begin with {prefix:?} would have a space"
            )));
        }
        if limit.prefix.len() > KEY_MAX_BYTES {
            return Err(CliError::BadValue(format!(
                "--prefix-limit: a prefix has at most {KEY_MAX_BYTES} bytes"
            )));
        }
    }
    if prefixes.len() > PREFIX_LIMITS_MAX {
        return Err(CliError::Limit(format!(
            "--prefix-limit: at most {PREFIX_LIMITS_MAX} prefixes can have a limit"
        )));
    }
    Ok(())
}

/// Returns the listening sockets of the admin listeners.
fn admin_listeners(draft: &Draft, defaults: Defaults) -> Result<Vec<Listener>, CliError> {
    if draft.config.admin.auth && draft.config.auth_file.is_none() {
        let text = "--admin-auth needs the file of -Y (--auth-file)";
        return Err(CliError::bad_value(text));
    }
    let defaults = Defaults {
        port: Some(DEFAULT_ADMIN_PORT),
        ..defaults
    };
    let mut listeners = Vec::new();
    for entry in &draft.admin_listen {
        listeners.extend(endpoint::parse(entry, defaults)?);
    }
    if listeners.iter().any(|listener| listener.proxy) {
        let text = "--admin-listen takes no address with proxy:";
        return Err(CliError::bad_value(text));
    }
    Ok(listeners)
}

/// Returns the settings of listeners whose entry does not specify them.
fn defaults(draft: &Draft) -> Result<Defaults, CliError> {
    Ok(Defaults {
        port: tcp_port(draft)?,
        protocol: lock(draft, protocol(draft)?)?,
        tls: draft.tls.on.then(|| draft.tls.ask()),
        can_verify: draft.tls.can_verify(),
        mode: draft.unix_mask.unwrap_or(DEFAULT_UNIX_MASK),
        proxy: false,
    })
}

/// Returns the listeners: TCP unless it is off, then the unix socket. As in
/// memcached, there may be none (`-p 0`).
fn listeners(draft: &Draft, defaults: Defaults) -> Result<Vec<Listener>, CliError> {
    let mut listeners = Vec::new();
    for listener in asked_listeners(draft, defaults)? {
        if !listeners.contains(&listener) {
            listeners.push(listener);
        }
    }
    if let Some(path) = &draft.unix_socket {
        listeners.push(endpoint::unix(path.clone(), defaults));
    }
    for listener in &mut listeners {
        listener.protocol = lock(draft, listener.protocol)?;
    }
    Ok(listeners)
}

/// Restricts the protocols of a listener to those that authenticate. A protocol
/// without authentication would bypass that of the other.
fn lock(draft: &Draft, protocol: ProtocolMode) -> Result<ProtocolMode, CliError> {
    let config = &draft.config;
    match (config.sasl.is_some(), config.auth_file.is_some(), protocol) {
        (true, false, ProtocolMode::Ascii | ProtocolMode::Auto) => Err(only_binary()),
        (false, true, ProtocolMode::Binary) => {
            let text = "You cannot allow the BINARY protocol while using ascii authentication \
                        tokens.";
            Err(CliError::limit(text))
        }
        (false, true, _) => Ok(ProtocolMode::Ascii),
        _ => Ok(protocol),
    }
}

/// Returns the default port of TCP listeners; `None` if TCP is off.
fn tcp_port(draft: &Draft) -> Result<Option<u16>, CliError> {
    let asked_for = draft.port.is_some() || !draft.listen.is_empty();
    if draft.port == Some(0) || (draft.unix_socket.is_some() && !asked_for) {
        return Ok(None);
    }
    // As in memcached, `-U` without `-p` also sets the TCP port.
    let port = draft.port.or(udp_port(draft));
    port.map_or(Ok(DEFAULT_PORT), port_number).map(Some)
}

/// Returns the listeners of `-l`, or the wildcard ones without `-l`.
fn asked_listeners(draft: &Draft, defaults: Defaults) -> Result<Vec<Listener>, CliError> {
    match defaults.port {
        Some(port) if draft.listen.is_empty() => Ok(endpoint::wildcard(port, defaults)),
        _ => {
            let mut listeners = Vec::new();
            for list in &draft.listen {
                listeners.extend(endpoint::parse(list, defaults)?);
            }
            Ok(listeners)
        }
    }
}

/// Returns the UDP port; `None` if UDP is off.
fn udp_port(draft: &Draft) -> Option<i64> {
    draft.udp_port.filter(|port| *port != 0)
}

/// Returns the UDP addresses: those of `-l`, or all.
fn datagrams(draft: &Draft, defaults: Defaults) -> Result<Vec<Datagrams>, CliError> {
    let Some(port) = udp_port(draft) else {
        return Ok(Vec::new());
    };
    // Datagrams would bypass both kinds of authentication.
    for (given, flag) in [
        (draft.config.sasl.is_some(), "-S"),
        (draft.config.auth_file.is_some(), "-Y"),
    ] {
        if given {
            let text = format!("ERROR: UDP (-U) cannot be used with authentication ({flag}).");
            return Err(CliError::Limit(text));
        }
    }
    let port = Some(port_number(port)?);
    let listeners = asked_listeners(draft, Defaults { port, ..defaults })?;
    let mut places: Vec<Datagrams> = Vec::new();
    for listener in listeners {
        if let Endpoint::Tcp(address) = listener.endpoint {
            if listener.proxy {
                let text = "ERROR: UDP (-U) cannot be used with the PROXY protocol (-l proxy:).";
                return Err(CliError::limit(text));
            }
            let place = Datagrams {
                address,
                protocol: listener.protocol,
                optional: listener.optional,
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    Ok(places)
}

/// Returns the limit of all client buffers in bytes.
fn client_memory_limit(draft: &Draft) -> usize {
    let part = draft.config.max_memory / CLIENT_MEMORY_PART;
    let default = part.max(CLIENT_MEMORY_MIN_MIB << 20);
    let limit = draft.client_memory_limit.unwrap_or(default);
    match draft.config.read_buf_mem_limit {
        0 => limit,
        bytes => limit.min(bytes),
    }
}

/// Validates the settings of memcached's segmented LRU, which must not contradict
/// each other.
fn check_queues(tunables: &Tunables) -> Result<(), CliError> {
    let [hot, warm] = tunables.queue_percents;
    if hot.saturating_add(warm) > 80 {
        let text = "hot_lru_pct + warm_lru_pct cannot be more than 80% combined";
        return Err(CliError::limit(text));
    }
    if tunables.temporary && !tunables.maintainer {
        let text = "temporary_ttl requires lru_maintainer to be enabled";
        return Err(CliError::limit(text));
    }
    Ok(())
}

fn protocol(draft: &Draft) -> Result<ProtocolMode, CliError> {
    match draft.protocol.as_deref() {
        None if draft.config.sasl.is_some() && draft.config.auth_file.is_none() => {
            Ok(ProtocolMode::Binary)
        }
        None | Some("auto") => Ok(ProtocolMode::Auto),
        Some("ascii") => Ok(ProtocolMode::Ascii),
        Some("binary") => Ok(ProtocolMode::Binary),
        Some(other) => Err(CliError::Limit(format!(
            "Invalid value for binding protocol: {other} -- should be one of auto, binary, or ascii"
        ))),
    }
}

/// The error of text listeners under SASL, which the text protocol does not have.
fn only_binary() -> CliError {
    let text = "ERROR: With SASL (-S) only the binary protocol can be spoken.";
    CliError::limit(text)
}
