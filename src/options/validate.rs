//! Converts raw arguments to settings. Checks every limit of an option and every
//! contradiction between options; the settings are not validated again.

use std::time::Duration;

use super::endpoint::{
    self, DEFAULT_ADMIN_PORT, DEFAULT_PORT, DEFAULT_UNIX_MASK, Defaults, port_number,
};
use super::error::CliError;
use super::raw_args::RawArgs;
use crate::config::{
    AdminSettings, Config, Datagrams, Endpoint, Eviction, HandedOver, Listener, Process,
    ProtocolMode, SaslFiles, Tunables,
};
use crate::limits::{
    CLIENT_MEMORY_MIN_MIB, CLIENT_MEMORY_PART, ITEM_SIZE_MAX_BYTES, ITEM_SIZE_MIN_BYTES,
    THREADS_MAX, UDP_REPLY_MAX_BYTES,
};
use crate::options::suboptions::EVICTION_KINDS;

/// Number of threads above which memcached and this server warn.
const THREADS_WARN: usize = 64;

/// Validates the raw arguments and converts them to settings.
///
/// # Errors
///
/// Returns the first fault found.
pub(super) fn settings(raw: RawArgs) -> Result<(Config, Process), CliError> {
    let tls = raw.tls.settings()?;
    let defaults = defaults(&raw)?;
    let listeners = listeners(&raw, defaults)?;
    let datagrams = datagrams(&raw, defaults)?;
    let (mut config, notices) = config(&raw, listeners)?;
    config.udp = datagrams;
    config.admin = admin(&raw, defaults)?;
    config.tls = tls;
    config.handed_over = HandedOver {
        protocol: defaults.protocol,
        tls: defaults.tls,
        alone: raw.port.is_none() && raw.listen.is_empty() && raw.unix_socket.is_none(),
    };
    config.auth_file = raw.auth_file;
    let process = Process {
        daemonize: raw.daemonize,
        user: raw.user.filter(|user| !user.is_empty()),
        pid_file: raw.pid_file,
        lock_memory: raw.lock_memory,
        core_dumps: raw.core_dumps,
        drop_privileges: raw.drop_privileges,
        notices: [raw.notices, notices].concat(),
    };
    Ok((config, process))
}

fn config(raw: &RawArgs, listeners: Vec<Listener>) -> Result<(Config, Vec<String>), CliError> {
    let default = Config::default();
    let threads = threads(raw, &default)?;
    let max_memory = max_memory(raw, &default)?;
    let config = Config {
        listeners,
        udp: Vec::new(),
        udp_reply_limit: udp_reply_limit(raw, &default)?,
        client_memory_limit: client_memory_limit(raw, max_memory)?,
        read_buf_mem_limit: raw.read_buf_mem_limit.saturating_mul(1 << 20),
        tls: None,
        auth_file: None,
        admin: AdminSettings::default(),
        observe: raw.observe,
        log_format: raw.log_format,
        log_file: raw.log_file.clone(),
        handed_over: HandedOver::default(),
        threads,
        max_connections: above_zero(raw.connections, "Maximum connections")?
            .unwrap_or(default.max_connections),
        maxconns_fast: raw.maxconns_fast.unwrap_or(default.maxconns_fast),
        backlog: raw.backlog.map_or(default.backlog, saturate),
        requests_per_event: above_zero(raw.requests_per_event, "Number of requests per event")?
            .unwrap_or(default.requests_per_event),
        max_memory,
        max_item_size: max_item_size(raw, &default)?,
        evict: !raw.no_evictions,
        eviction: eviction(raw),
        bare_dumps: raw.bare_dumps,
        cas: !raw.no_cas,
        prefix_delimiter: delimiter(raw, &default)?,
        detail: raw.delimiter.is_some(),
        flush: !raw.no_flush,
        dump: !raw.no_dump,
        watch: !raw.no_watch,
        shutdown_command: raw.shutdown_command,
        sasl: raw.sasl.then(SaslFiles::default),
        idle_timeout: idle_timeout(raw),
        verbosity: raw.verbosity,
        hashpower: raw
            .hashpower
            .and_then(|power| u32::try_from(power).ok())
            .unwrap_or(default.hashpower),
        chunk_size: above_zero(raw.chunk_size, "Chunk size")?.unwrap_or(default.chunk_size),
        growth_factor: growth_factor(raw, &default)?,
        port_file: None,
        tunables: tunables(raw)?,
    };
    Ok((config, notices(raw, threads)?))
}

fn notices(raw: &RawArgs, threads: usize) -> Result<Vec<String>, CliError> {
    let mut notices = raw.tls.notices();
    if threads > THREADS_WARN {
        notices.push(format!(
            "{threads} worker threads: more than there are processors seldom help"
        ));
    }
    if let Some(ids) = above_zero(raw.napi_ids, "Maximum number of NAPI IDs")? {
        if ids > threads {
            return Err(CliError::Limit(format!(
                "Number of napi_ids({ids}) cannot be greater than number of threads({threads})"
            )));
        }
        notices.push("-N (--napi-ids) has no effect".to_owned());
    }
    Ok(notices)
}

/// Returns the settings of the admin listeners.
fn admin(raw: &RawArgs, defaults: Defaults) -> Result<AdminSettings, CliError> {
    let auth = raw.admin_auth;
    if auth && raw.auth_file.is_none() {
        return Err(CliError::BadValue(
            "--admin-auth needs the file of -Y (--auth-file)".to_owned(),
        ));
    }
    let defaults = Defaults {
        port: Some(DEFAULT_ADMIN_PORT),
        ..defaults
    };
    let mut listeners = Vec::new();
    for entry in &raw.admin_listen {
        listeners.extend(endpoint::parse(entry, defaults)?);
    }
    Ok(AdminSettings {
        listeners,
        hosts: raw.admin_hosts.clone(),
        auth,
    })
}

/// Returns the settings of listeners whose entry does not specify them.
fn defaults(raw: &RawArgs) -> Result<Defaults, CliError> {
    Ok(Defaults {
        port: tcp_port(raw)?,
        protocol: lock(raw, protocol(raw)?)?,
        tls: raw.tls.on.then(|| raw.tls.ask()),
        can_verify: raw.tls.ca.is_some(),
        mode: raw.unix_mask.unwrap_or(DEFAULT_UNIX_MASK),
    })
}

/// Returns the listeners: TCP unless it is off, then the unix socket. As in
/// memcached, there may be none (`-p 0`).
fn listeners(raw: &RawArgs, defaults: Defaults) -> Result<Vec<Listener>, CliError> {
    let mut listeners = Vec::new();
    for listener in asked_listeners(raw, defaults)? {
        if !listeners.contains(&listener) {
            listeners.push(listener);
        }
    }
    if let Some(path) = &raw.unix_socket {
        listeners.push(endpoint::unix(path.clone(), defaults));
    }
    for listener in &mut listeners {
        listener.protocol = lock(raw, listener.protocol)?;
    }
    Ok(listeners)
}

/// Restricts the protocols of a listener to those that authenticate. A protocol
/// without authentication would bypass that of the other.
fn lock(raw: &RawArgs, protocol: ProtocolMode) -> Result<ProtocolMode, CliError> {
    match (raw.sasl, raw.auth_file.is_some(), protocol) {
        (true, false, ProtocolMode::Ascii | ProtocolMode::Auto) => Err(only_binary()),
        (false, true, ProtocolMode::Binary) => {
            let text = "You cannot allow the BINARY protocol while using ascii authentication \
                        tokens.";
            Err(CliError::Limit(text.to_owned()))
        }
        (false, true, _) => Ok(ProtocolMode::Ascii),
        _ => Ok(protocol),
    }
}

/// Returns the default port of TCP listeners; `None` if TCP is off.
fn tcp_port(raw: &RawArgs) -> Result<Option<u16>, CliError> {
    let asked_for = raw.port.is_some() || !raw.listen.is_empty();
    if raw.port == Some(0) || (raw.unix_socket.is_some() && !asked_for) {
        return Ok(None);
    }
    // As in memcached, `-U` without `-p` also sets the TCP port.
    let port = raw.port.or(udp_port(raw));
    port.map_or(Ok(DEFAULT_PORT), port_number).map(Some)
}

/// Returns the listeners of `-l`, or the wildcard ones without `-l`.
fn asked_listeners(raw: &RawArgs, defaults: Defaults) -> Result<Vec<Listener>, CliError> {
    match defaults.port {
        Some(port) if raw.listen.is_empty() => Ok(endpoint::wildcard(port, defaults)),
        _ => {
            let mut listeners = Vec::new();
            for list in &raw.listen {
                listeners.extend(endpoint::parse(list, defaults)?);
            }
            Ok(listeners)
        }
    }
}

/// Returns the UDP port; `None` if UDP is off.
fn udp_port(raw: &RawArgs) -> Option<i64> {
    raw.udp_port.filter(|port| *port != 0)
}

/// Returns the UDP addresses: those of `-l`, or all.
fn datagrams(raw: &RawArgs, defaults: Defaults) -> Result<Vec<Datagrams>, CliError> {
    let Some(port) = udp_port(raw) else {
        return Ok(Vec::new());
    };
    // Datagrams would bypass both kinds of authentication.
    for (given, flag) in [(raw.sasl, "-S"), (raw.auth_file.is_some(), "-Y")] {
        if given {
            let text = format!("ERROR: UDP (-U) cannot be used with authentication ({flag}).");
            return Err(CliError::Limit(text));
        }
    }
    let port = Some(port_number(port)?);
    let listeners = asked_listeners(raw, Defaults { port, ..defaults })?;
    let mut places: Vec<Datagrams> = Vec::new();
    for listener in listeners {
        if let Endpoint::Tcp(address) = listener.endpoint {
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

fn udp_reply_limit(raw: &RawArgs, default: &Config) -> Result<usize, CliError> {
    let Some(bytes) = raw.udp_reply_limit else {
        return Ok(default.udp_reply_limit);
    };
    let bytes = usize::try_from(bytes).unwrap_or(0);
    if (1..=UDP_REPLY_MAX_BYTES).contains(&bytes) {
        return Ok(bytes);
    }
    let most = UDP_REPLY_MAX_BYTES >> 20;
    let text = format!("--udp-reply-limit must be between 1 byte and {most}m");
    Err(CliError::BadValue(text))
}

/// Returns the limit of all client buffers in bytes.
fn client_memory_limit(raw: &RawArgs, max_memory: usize) -> Result<usize, CliError> {
    const MIB: usize = 1 << 20;
    let default = (max_memory / CLIENT_MEMORY_PART).max(CLIENT_MEMORY_MIN_MIB * MIB);
    let limit = match raw.client_memory_limit {
        None => default,
        Some(mebibytes) => usize::try_from(mebibytes)
            .ok()
            .filter(|mebibytes| *mebibytes > 0)
            .and_then(|mebibytes| mebibytes.checked_mul(MIB))
            .ok_or_else(|| {
                let text = "--client-memory-limit must be at least 1 megabyte";
                CliError::BadValue(text.to_owned())
            })?,
    };
    match raw.read_buf_mem_limit {
        0 => Ok(limit),
        mebibytes => Ok(limit.min(mebibytes.saturating_mul(MIB))),
    }
}

/// Validates the settings of memcached's segmented LRU, which must not contradict
/// each other.
fn tunables(raw: &RawArgs) -> Result<Tunables, CliError> {
    let tunables = raw.tunables;
    let [hot, warm] = tunables.queue_percents;
    let wrong = if hot.saturating_add(warm) > 80 {
        "hot_lru_pct + warm_lru_pct cannot be more than 80% combined"
    } else if tunables.temporary && !tunables.maintainer {
        "temporary_ttl requires lru_maintainer to be enabled"
    } else {
        return Ok(tunables);
    };
    Err(CliError::Limit(wrong.to_owned()))
}

fn protocol(raw: &RawArgs) -> Result<ProtocolMode, CliError> {
    match raw.protocol.as_deref() {
        None if raw.sasl && raw.auth_file.is_none() => Ok(ProtocolMode::Binary),
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
    CliError::Limit(text.to_owned())
}

fn threads(raw: &RawArgs, default: &Config) -> Result<usize, CliError> {
    let threads = above_zero(raw.threads, "Number of threads")?.unwrap_or(default.threads);
    if threads > THREADS_MAX {
        let text = format!("Number of threads must be at most {THREADS_MAX}");
        return Err(CliError::BadValue(text));
    }
    Ok(threads)
}

fn eviction(raw: &RawArgs) -> Eviction {
    let index = raw.eviction.and_then(|index| usize::try_from(index).ok());
    index
        .and_then(|index| EVICTION_KINDS.get(index).copied())
        .unwrap_or_default()
}

fn max_memory(raw: &RawArgs, default: &Config) -> Result<usize, CliError> {
    let Some(mib) = raw.memory_mib else {
        return Ok(default.max_memory);
    };
    usize::try_from(mib)
        .ok()
        .and_then(|mib| mib.checked_mul(1 << 20))
        .filter(|bytes| *bytes > 0 && isize::try_from(*bytes).is_ok())
        .ok_or_else(|| CliError::Limit(format!("Memory limit of {mib} megabytes is out of range")))
}

/// Returns the largest item size in bytes. Unlike memcached, a single item may
/// take any part of the memory; a value that does not fit is refused on arrival.
fn max_item_size(raw: &RawArgs, default: &Config) -> Result<usize, CliError> {
    let bytes = match raw.item_size {
        Some(bytes) => usize::try_from(bytes).unwrap_or(0),
        None => default.max_item_size,
    };
    let wrong = if bytes < ITEM_SIZE_MIN_BYTES {
        "Item max size cannot be less than 1024 bytes."
    } else if bytes > ITEM_SIZE_MAX_BYTES {
        "Cannot set item size limit higher than a gigabyte."
    } else {
        return Ok(bytes);
    };
    Err(CliError::Limit(wrong.to_owned()))
}

fn delimiter(raw: &RawArgs, default: &Config) -> Result<u8, CliError> {
    let Some(text) = &raw.delimiter else {
        return Ok(default.prefix_delimiter);
    };
    let wrong = || CliError::BadValue("No delimiter specified".to_owned());
    text.bytes().next().ok_or_else(wrong)
}

fn growth_factor(raw: &RawArgs, default: &Config) -> Result<f64, CliError> {
    let factor = raw.growth_factor.unwrap_or(default.growth_factor);
    if factor > 1.0 {
        return Ok(factor);
    }
    let text = "Factor must be greater than 1".to_owned();
    Err(CliError::BadValue(text))
}

fn idle_timeout(raw: &RawArgs) -> Option<Duration> {
    let seconds = raw.idle_timeout_seconds?;
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds))
}

fn above_zero(raw: Option<i64>, what: &str) -> Result<Option<usize>, CliError> {
    let Some(number) = raw else {
        return Ok(None);
    };
    let wrong = || CliError::BadValue(format!("{what} must be greater than 0"));
    match usize::try_from(number) {
        Ok(number) if number > 0 => Ok(Some(number)),
        _ => Err(wrong()),
    }
}

fn saturate(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
