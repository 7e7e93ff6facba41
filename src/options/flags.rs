//! Every flag as data: names, help text, default and effect on the raw arguments.
//! The parser, the help text and tests use this table.

use std::time::Duration;

use clap::builder::OsStringValueParser;
use clap::{Arg, Command};

use super::endpoint::{DEFAULT_PORT, DEFAULT_UNIX_MASK};
use super::error::{CliError, Missing};
use super::flag::{Effect, Flag};
use super::number;
use super::raw_args::Ask;
use super::suboptions;
use crate::config::{Config, LogFormat};

/// Name under which clap keeps arguments that are not options.
pub(super) const EXTRA: &str = "extra";

/// Returns the command line for clap.
pub(super) fn command() -> Command {
    let defaults = Config::default();
    Command::new("rustcached")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .args_override_self(true)
        .args(FLAGS.iter().map(|flag| flag.arg(&defaults)))
        .mut_arg("napi-ids", |arg| arg.alias("napi_ids"))
        // memcached ignores arguments that are not options. Start scripts with
        // an empty variable rely on it.
        .arg(
            Arg::new(EXTRA)
                .num_args(0..)
                .value_parser(OsStringValueParser::new())
                .hide(true),
        )
}

/// All flags, in the order of the help text.
pub(super) const FLAGS: &[Flag] = &[
    Flag::new(
        'p',
        "port",
        "num",
        "TCP port to listen on; 0 is off, -1 picks a free one",
        Effect::Number(|raw, port| raw.port = Some(port)),
    )
    .default(|_| DEFAULT_PORT.to_string()),
    Flag::new(
        'U',
        "udp-port",
        "num",
        "UDP port to listen on; 0 is off, -1 picks a free one; not with authentication",
        Effect::Number(|raw, port| raw.udp_port = Some(port)),
    )
    .default(|_| "0".to_owned()),
    Flag::own(
        "udp-reply-limit",
        "bytes",
        "Longest answer over UDP, or with k or m behind the number; a longer one is not sent",
        Effect::Size(|raw, bytes| raw.udp_reply_limit = Some(bytes)),
    )
    .default(|config| format!("{}k", config.udp_reply_limit >> 10)),
    Flag::own(
        "client-memory-limit",
        "megabytes",
        "Memory for the buffers of all clients together; at the limit, the clients that hold \
         most and have stalled longest are disconnected (default a quarter of -m, at least 64)",
        Effect::Number(|raw, mebibytes| raw.client_memory_limit = Some(mebibytes)),
    ),
    Flag::new(
        's',
        "unix-socket",
        "file",
        "Listen on this unix socket; TCP is then off unless -p or -l is given too",
        Effect::Path(|raw, path| raw.unix_socket = Some(path)),
    ),
    Flag::new(
        'a',
        "unix-mask",
        "mask",
        "Permissions of the unix socket, in octal",
        Effect::Text(|raw, text| {
            let wrong = || CliError::BadValue(format!("-a takes octal permissions, not {text:?}"));
            raw.unix_mask = Some(number::octal(text).ok_or_else(wrong)?);
            Ok(())
        }),
    )
    .default(|_| format!("{DEFAULT_UNIX_MASK:o}")),
    Flag::new(
        'l',
        "listen",
        "addr",
        "Address to listen on: host, host:port, [v6]:port, * or unix:/path; repeat it or \
         separate several by commas. In front of one: proto[ascii]: sets its protocol; with -Z \
         notls: leaves it in the clear, btls: asks its clients for no certificate, mtls: \
         demands one",
        Effect::Text(|raw, text| {
            raw.listen.push(text.to_owned());
            Ok(())
        }),
    )
    .default(|_| "*, all addresses".to_owned()),
    Flag::own(
        "admin-listen",
        "addr",
        "Address, as for -l, on which operators find metrics, health checks and a live page over \
         HTTP; port 9150 if none is given; repeat it or separate several by commas (default none)",
        Effect::Text(|raw, text| {
            raw.admin_listen.push(text.to_owned());
            Ok(())
        }),
    ),
    Flag::own(
        "admin-host",
        "name",
        "Name, besides IP addresses and localhost, under which the admin listener may be reached; \
         repeat it for several",
        Effect::Text(|raw, text| {
            raw.admin_hosts.push(text.trim().to_owned());
            Ok(())
        }),
    ),
    Flag::own(
        "admin-auth",
        "",
        "Let only users of the file of -Y use the admin listener; health checks need no password",
        Effect::Switch(|raw| raw.admin_auth = true),
    ),
    Flag::own(
        "slow-log-ms",
        "ms",
        "Keep the last commands that took at least this many milliseconds, fractions allowed, for \
         \"stats slowlog\", \"watch slow\" and the admin page (default off)",
        Effect::Text(|raw, text| {
            let wrong = || {
                CliError::BadValue(format!(
                    "--slow-log-ms takes milliseconds above 0, not {text:?}"
                ))
            };
            let ms = number::fraction(text).ok_or_else(wrong)?;
            let limit = Duration::try_from_secs_f64(ms / 1000.0).map_err(|_| wrong())?;
            raw.observe.slow_log = (!limit.is_zero()).then_some(limit);
            raw.observe.slow_log.map(drop).ok_or_else(wrong)
        }),
    ),
    Flag::new(
        'B',
        "protocol",
        "name",
        "What clients may speak: ascii, binary or auto, which tells them by their first byte",
        Effect::Text(|raw, text| {
            raw.protocol = Some(text.trim().to_owned());
            Ok(())
        }),
    )
    .default(|_| "auto".to_owned()),
    Flag::new(
        'A',
        "enable-shutdown",
        "",
        "Permit the \"shutdown\" command",
        Effect::Switch(|raw| raw.shutdown_command = true),
    ),
    Flag::new(
        'd',
        "daemon",
        "",
        "Detach and run in the background",
        Effect::Switch(|raw| raw.daemonize = true),
    ),
    Flag::new(
        'u',
        "user",
        "user",
        "Become this user (when started as root)",
        Effect::Text(|raw, text| {
            raw.user = Some(text.trim().to_owned());
            Ok(())
        }),
    ),
    Flag::new(
        'P',
        "pidfile",
        "file",
        "Keep the process id in this file while running",
        Effect::Path(|raw, path| raw.pid_file = Some(path)),
    ),
    Flag::new(
        'r',
        "enable-coredumps",
        "",
        "Raise the limit on core files as far as permitted",
        Effect::Switch(|raw| raw.core_dumps = true),
    ),
    Flag::new(
        'k',
        "lock-memory",
        "",
        "Keep all memory out of swap",
        Effect::Switch(|raw| raw.lock_memory = true),
    ),
    Flag::new(
        'm',
        "memory-limit",
        "num",
        "Memory for items in megabytes, everything that belongs to them included",
        Effect::Number(|raw, mib| raw.memory_mib = Some(mib)),
    )
    .default(|config| (config.max_memory >> 20).to_string()),
    Flag::new(
        'M',
        "disable-evictions",
        "",
        "When memory is full answer errors instead of evicting",
        Effect::Switch(|raw| raw.no_evictions = true),
    ),
    Flag::new(
        'I',
        "max-item-size",
        "num",
        "Largest item in bytes, or with k or m behind the number; 1k to 1024m",
        Effect::Size(|raw, bytes| raw.item_size = Some(bytes)),
    )
    .default(|config| format!("{}m", config.max_item_size >> 20)),
    Flag::new(
        'c',
        "conn-limit",
        "num",
        "Most simultaneous connections",
        Effect::Number(|raw, count| raw.connections = Some(count)),
    )
    .default(|config| config.max_connections.to_string()),
    Flag::new(
        't',
        "threads",
        "num",
        "Worker threads",
        Effect::Number(|raw, count| raw.threads = Some(count)),
    )
    .default(|config| config.threads.to_string()),
    Flag::new(
        'R',
        "max-reqs-per-event",
        "num",
        "Batches of a busy connection that are served before others get their turn",
        Effect::Number(|raw, count| raw.requests_per_event = Some(count)),
    )
    .default(|config| config.requests_per_event.to_string()),
    Flag::new(
        'b',
        "listen-backlog",
        "num",
        "Length of the queue of connections not yet accepted",
        Effect::Number(|raw, length| raw.backlog = Some(length)),
    )
    .default(|config| config.backlog.to_string()),
    Flag::new(
        'C',
        "disable-cas",
        "",
        "Give items no CAS values",
        Effect::Switch(|raw| raw.no_cas = true),
    ),
    Flag::new(
        'D',
        "prefix-delimiter",
        "char",
        "Character that ends the prefix of a key; also turns on \"stats detail\"",
        Effect::Text(|raw, text| {
            raw.delimiter = Some(text.to_owned());
            Ok(())
        }),
    )
    .default(|config| char::from(config.prefix_delimiter).to_string()),
    Flag::new(
        'f',
        "slab-growth-factor",
        "factor",
        "Growth factor of size classes; only reported",
        Effect::Text(|raw, text| {
            let wrong = || CliError::NotANumber {
                option: "-f (--slab-growth-factor)".to_owned(),
                text: text.to_owned(),
            };
            raw.growth_factor = Some(number::fraction(text).ok_or_else(wrong)?);
            Ok(())
        }),
    )
    .default(|config| config.growth_factor.to_string()),
    Flag::new(
        'n',
        "slab-min-size",
        "bytes",
        "Smallest space for key, value and flags; only reported",
        Effect::Number(|raw, bytes| raw.chunk_size = Some(bytes)),
    )
    .default(|config| config.chunk_size.to_string()),
    Flag::new(
        'L',
        "enable-largepages",
        "",
        "Accepted, without effect",
        Effect::Switch(|raw| raw.note("-L (--enable-largepages) has no effect".to_owned())),
    ),
    Flag::new(
        'N',
        "napi-ids",
        "num",
        "Accepted, without effect",
        Effect::Number(|raw, count| raw.napi_ids = Some(count)),
    ),
    Flag::new(
        'F',
        "disable-flush-all",
        "",
        "Refuse the \"flush_all\" command",
        Effect::Switch(|raw| raw.no_flush = true),
    ),
    Flag::new(
        'X',
        "disable-dumping",
        "",
        "Refuse commands that list keys",
        Effect::Switch(|raw| raw.no_dump = true),
    ),
    Flag::new(
        'W',
        "disable-watch",
        "",
        "Refuse the \"watch\" command",
        Effect::Switch(|raw| raw.no_watch = true),
    ),
    Flag::new(
        'S',
        "enable-sasl",
        "",
        "Let in only who authenticates by SASL (PLAIN, binary protocol; the only one without -Y); the users are in \
         the file that MEMCACHED_SASL_PWDB names",
        Effect::Switch(|raw| raw.sasl = true),
    ),
    Flag::new(
        'Y',
        "auth-file",
        "file",
        "Let text clients speak only after a password: lines of user:password, read again on \
         SIGHUP; without -S the only protocol is then text",
        Effect::Path(|raw, path| raw.auth_file = Some(path)),
    ),
    Flag::new(
        'Z',
        "enable-ssl",
        "",
        "Speak TLS; needs -o ssl_chain_cert and ssl_key",
        Effect::Switch(|raw| raw.tls.on = true),
    ),
    Flag::new(
        'e',
        "memory-file",
        "file",
        "",
        Effect::Unavailable(Missing::WarmRestart),
    ),
    Flag::new(
        'o',
        "extended",
        "words",
        "Extended options, separated by commas; listed below",
        Effect::Text(suboptions::apply),
    ),
    Flag::new(
        'v',
        "verbose",
        "",
        "Log errors and warnings; -vv also commands and answers, -vvv also what each \
         connection does next",
        Effect::Level(|raw| raw.verbosity += 1),
    ),
    Flag::own(
        "log-file",
        "file",
        "Append log lines to this file instead of standard error; SIGHUP opens it anew",
        Effect::Path(|raw, path| raw.log_file = Some(path)),
    ),
    Flag::own(
        "log-format",
        "name",
        "Format of log lines: text, or json with the members ts and message",
        Effect::Text(|raw, text| {
            raw.log_format = match text.trim() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                other => {
                    let wrong = format!("--log-format takes text or json, not {other:?}");
                    return Err(CliError::BadValue(wrong));
                }
            };
            Ok(())
        }),
    )
    .default(|_| "text".to_owned()),
    Flag::new(
        'h',
        "help",
        "",
        "Print this text",
        Effect::Switch(|raw| raw.ask = Some(Ask::Help)),
    ),
    Flag::new(
        'i',
        "license",
        "",
        "Print the licence",
        Effect::Switch(|raw| raw.ask = Some(Ask::License)),
    ),
    Flag::new(
        'V',
        "version",
        "",
        "Print the version",
        Effect::Switch(|raw| raw.ask = Some(Ask::Version)),
    ),
];
