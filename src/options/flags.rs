//! The flags, in the order of the help text. The parser, the help text,
//! `stats settings` and tests use this table.

use std::time::Duration;

use super::draft::Ask;
use super::endpoint::{DEFAULT_PORT, DEFAULT_UNIX_MASK};
use super::error::CliError;
use super::number::{self, above_zero};
use super::report::yes_no;
use super::row::Effect::{Number, Path, Switch, Text, TryFraction, TryNumber, TryText};
use super::row::{Row, Rule, flag, own_flag};
use super::words;
use crate::config::{Endpoint, Listener, LogFormat, PrefixLimit, ProtocolMode, SaslFiles};
use crate::limits::{ITEM_SIZE_MAX_BYTES, ITEM_SIZE_MIN_BYTES, THREADS_MAX, UDP_REPLY_MAX_BYTES};

const MIB: usize = 1 << 20;

/// All flags.
pub(super) const FLAGS: &[Row] = &[
    flag('p', "port")
        .takes("num", Rule::Integer)
        .help("TCP port to listen on; 0 is off, -1 picks a free one")
        .default(|_| DEFAULT_PORT.to_string())
        .sets(Number(|draft, port| draft.port = Some(port)))
        .reports("tcpport", |now| {
            let port = |listener: &Listener| match listener.endpoint {
                Endpoint::Tcp(address) => Some(address.port()),
                Endpoint::Unix { .. } => None,
            };
            let port = now.config.listeners.iter().find_map(port);
            port.unwrap_or(0).to_string()
        }),
    flag('U', "udp-port")
        .takes("num", Rule::Integer)
        .help("UDP port to listen on; 0 is off, -1 picks a free one; not with authentication")
        .default(|_| "0".to_owned())
        .sets(Number(|draft, port| draft.udp_port = Some(port)))
        .reports("udpport", |now| {
            let port = now.config.udp.first().map(|udp| udp.address.port());
            port.unwrap_or(0).to_string()
        }),
    own_flag("udp-reply-limit")
        .takes("bytes", Rule::Size)
        .help("Longest answer over UDP, or with k or m behind the number; a longer one is not sent")
        .default(|config| format!("{}k", config.udp_reply_limit >> 10))
        .sets(TryNumber(|draft, bytes| {
            let bytes = usize::try_from(bytes).unwrap_or(0);
            if !(1..=UDP_REPLY_MAX_BYTES).contains(&bytes) {
                let most = UDP_REPLY_MAX_BYTES >> 20;
                let text = format!("--udp-reply-limit must be between 1 byte and {most}m");
                return Err(CliError::BadValue(text));
            }
            draft.config.udp_reply_limit = bytes;
            Ok(())
        })),
    own_flag("client-memory-limit")
        .takes("megabytes", Rule::Integer)
        .help(
            "Memory for the buffers of all clients together; at the limit, the clients that hold \
             most and have stalled longest are disconnected (default a quarter of -m, at least 64)",
        )
        .sets(TryNumber(|draft, mebibytes| {
            let mebibytes = usize::try_from(mebibytes).ok().filter(|count| *count > 0);
            draft.client_memory_limit = mebibytes.and_then(|count| count.checked_mul(MIB));
            let wrong = || CliError::bad_value("--client-memory-limit must be at least 1 megabyte");
            draft.client_memory_limit.map(drop).ok_or_else(wrong)
        })),
    flag('s', "unix-socket")
        .takes("file", Rule::Path)
        .help("Listen on this unix socket; TCP is then off unless -p or -l is given too")
        .sets(Path(|draft, path| draft.unix_socket = Some(path)))
        .reports("domain_socket", |now| {
            let socket = unix_socket(&now.config.listeners);
            socket.map_or("NULL".to_owned(), |(path, _)| path)
        }),
    flag('a', "unix-mask")
        .takes("mask", Rule::Text)
        .help("Permissions of the unix socket, in octal")
        .default(|_| format!("{DEFAULT_UNIX_MASK:o}"))
        .sets(TryText(|draft, text| {
            let wrong = || CliError::BadValue(format!("-a takes octal permissions, not {text:?}"));
            draft.unix_mask = Some(number::octal(text).ok_or_else(wrong)?);
            Ok(())
        }))
        .reports("umask", |now| {
            let socket = unix_socket(&now.config.listeners);
            format!("{:o}", socket.map_or(DEFAULT_UNIX_MASK, |(_, mode)| mode))
        }),
    flag('l', "listen")
        .takes("addr", Rule::Text)
        .help(
            "Address to listen on: host, host:port, [v6]:port, * or unix:/path; repeat it or \
             separate several by commas. In front of one: proto[ascii]: sets its protocol; with -Z \
             notls: leaves it in the clear, btls: asks its clients for no certificate, mtls: \
             demands one; proxy: expects each connection to begin with a header of the PROXY \
             protocol",
        )
        .default(|_| "*, all addresses".to_owned())
        .sets(Text(|draft, text| draft.listen.push(text.to_owned())))
        .reports("inter", |_| "NULL".to_owned()),
    own_flag("admin-listen")
        .takes("addr", Rule::Text)
        .help(
            "Address, as for -l, on which operators find metrics, health checks and a live page \
             over HTTP; port 9150 if none is given; repeat it or separate several by commas \
             (default none)",
        )
        .sets(Text(|draft, text| draft.admin_listen.push(text.to_owned()))),
    own_flag("admin-host")
        .takes("name", Rule::Text)
        .help(
            "Name, besides IP addresses and localhost, under which the admin listener may be \
             reached; repeat it for several",
        )
        .sets(Text(|draft, text| {
            draft.config.admin.hosts.push(text.trim().to_owned())
        })),
    own_flag("admin-auth")
        .help(
            "Let only users of the file of -Y use the admin listener; health checks need no \
             password",
        )
        .sets(Switch(|draft| draft.config.admin.auth = true)),
    own_flag("slow-log-ms")
        .takes("ms", Rule::Text)
        .help(
            "Keep the last commands that took at least this many milliseconds, fractions allowed, \
             for \"stats slowlog\", \"watch slow\" and the admin page (default off)",
        )
        .sets(TryText(|draft, text| {
            let wrong = || {
                CliError::BadValue(format!(
                    "--slow-log-ms takes milliseconds above 0, not {text:?}"
                ))
            };
            let ms = number::fraction(text).ok_or_else(wrong)?;
            let limit = Duration::try_from_secs_f64(ms / 1000.0).map_err(|_| wrong())?;
            draft.config.observe.slow_log = (!limit.is_zero()).then_some(limit);
            draft.config.observe.slow_log.map(drop).ok_or_else(wrong)
        })),
    flag('B', "protocol")
        .takes("name", Rule::Text)
        .help("What clients may speak: ascii, binary or auto, which tells them by their first byte")
        .default(|_| "auto".to_owned())
        .sets(Text(|draft, text| {
            draft.protocol = Some(text.trim().to_owned())
        }))
        .reports("binding_protocol", |now| {
            let listeners = &now.config.listeners;
            let only = |mode| {
                !listeners.is_empty() && listeners.iter().all(|listener| listener.protocol == mode)
            };
            let name = if only(ProtocolMode::Ascii) {
                "ascii"
            } else if only(ProtocolMode::Binary) {
                "binary"
            } else {
                "auto-negotiate"
            };
            name.to_owned()
        }),
    flag('A', "enable-shutdown")
        .help("Permit the \"shutdown\" command")
        .sets(Switch(|draft| draft.config.shutdown_command = true))
        .reports("shutdown_command", |now| {
            yes_no(now.config.shutdown_command)
        }),
    flag('d', "daemon")
        .help("Detach and run in the background")
        .sets(Switch(|draft| draft.process.daemonize = true)),
    flag('u', "user")
        .takes("user", Rule::Text)
        .help("Become this user (when started as root)")
        .sets(Text(|draft, text| {
            let user = Some(text.trim()).filter(|user| !user.is_empty());
            draft.process.user = user.map(str::to_owned);
        })),
    flag('P', "pidfile")
        .takes("file", Rule::Path)
        .help("Keep the process id in this file while running")
        .sets(Path(|draft, path| draft.process.pid_file = Some(path))),
    flag('r', "enable-coredumps")
        .help("Raise the limit on core files as far as permitted")
        .sets(Switch(|draft| draft.process.core_dumps = true)),
    flag('k', "lock-memory")
        .help("Keep all memory out of swap")
        .sets(Switch(|draft| draft.process.lock_memory = true)),
    flag('m', "memory-limit")
        .takes("num", Rule::Integer)
        .help("Memory for items in megabytes, everything that belongs to them included")
        .default(|config| (config.max_memory >> 20).to_string())
        .sets(TryNumber(|draft, mib| {
            let count = usize::try_from(mib).ok().filter(|count| *count > 0);
            let bytes = count.and_then(|count| count.checked_mul(MIB));
            let bytes = bytes.filter(|bytes| isize::try_from(*bytes).is_ok());
            let text = format!("Memory limit of {mib} megabytes is out of range");
            draft.config.max_memory = bytes.ok_or(CliError::Limit(text))?;
            Ok(())
        }))
        .reports("maxbytes", |now| now.memory_limit.to_string()),
    flag('M', "disable-evictions")
        .help("When memory is full answer errors instead of evicting")
        .sets(Switch(|draft| draft.config.evict = false))
        .reports("evictions", |now| {
            if now.config.evict { "on" } else { "off" }.to_owned()
        }),
    // Unlike in memcached, an item may take any part of the memory; a value that
    // does not fit is refused on arrival.
    flag('I', "max-item-size")
        .takes("num", Rule::Size)
        .help("Largest item in bytes, or with k or m behind the number; 1k to 1024m")
        .default(|config| format!("{}m", config.max_item_size >> 20))
        .sets(TryNumber(|draft, bytes| {
            draft.config.max_item_size = usize::try_from(bytes).unwrap_or(0);
            let wrong = match draft.config.max_item_size {
                ITEM_SIZE_MIN_BYTES..=ITEM_SIZE_MAX_BYTES => return Ok(()),
                ..ITEM_SIZE_MIN_BYTES => "Item max size cannot be less than 1024 bytes.",
                _ => "Cannot set item size limit higher than a gigabyte.",
            };
            Err(CliError::limit(wrong))
        }))
        .reports("item_size_max", |now| now.config.max_item_size.to_string()),
    flag('c', "conn-limit")
        .takes("num", Rule::Integer)
        .help("Most simultaneous connections")
        .default(|config| config.max_connections.to_string())
        .sets(TryNumber(|draft, count| {
            draft.config.max_connections = above_zero(count, "Maximum connections")?;
            Ok(())
        }))
        .reports("maxconns", |now| now.config.max_connections.to_string()),
    flag('t', "threads")
        .takes("num", Rule::Integer)
        .help("Worker threads")
        .default(|config| config.threads.to_string())
        .sets(TryNumber(|draft, count| {
            draft.config.threads = above_zero(count, "Number of threads")?;
            let text = format!("Number of threads must be at most {THREADS_MAX}");
            let fits = draft.config.threads <= THREADS_MAX;
            fits.then_some(()).ok_or(CliError::BadValue(text))
        }))
        .reports("num_threads", |now| now.config.threads.to_string())
        .reports("num_threads_per_udp", |now| now.config.threads.to_string()),
    flag('R', "max-reqs-per-event")
        .takes("num", Rule::Integer)
        .help("Batches of a busy connection that are served before others get their turn")
        .default(|config| config.requests_per_event.to_string())
        .sets(TryNumber(|draft, count| {
            draft.config.requests_per_event = above_zero(count, "Number of requests per event")?;
            Ok(())
        }))
        .reports("reqs_per_event", |now| {
            now.config.requests_per_event.to_string()
        }),
    flag('b', "listen-backlog")
        .takes("num", Rule::Integer)
        .help("Length of the queue of connections not yet accepted")
        .default(|config| config.backlog.to_string())
        .sets(Number(|draft, length| {
            draft.config.backlog = i32::try_from(length).unwrap_or(i32::MAX);
        }))
        .reports("tcp_backlog", |now| now.config.backlog.to_string()),
    flag('C', "disable-cas")
        .help("Give items no CAS values")
        .sets(Switch(|draft| draft.config.cas = false))
        .reports("cas_enabled", |now| yes_no(now.config.cas)),
    flag('D', "prefix-delimiter")
        .takes("char", Rule::Text)
        .help("Character that ends the prefix of a key; also turns on \"stats detail\"")
        .default(|config| char::from(config.prefix_delimiter).to_string())
        .sets(TryText(|draft, text| {
            let wrong = || CliError::bad_value("No delimiter specified");
            draft.config.prefix_delimiter = text.bytes().next().ok_or_else(wrong)?;
            draft.config.detail = true;
            Ok(())
        }))
        .reports("stat_key_prefix", |now| {
            char::from(now.config.prefix_delimiter).to_string()
        })
        .reports("detail_enabled", |now| yes_no(now.detail)),
    own_flag("prefix-limit")
        .takes("prefix=limit", Rule::Text)
        .help(
            "Memory that the items of a key prefix may take: a percentage of -m, such as \
             user:=25%, or a number of megabytes; at the limit, items of the prefix are evicted \
             for its new ones; repeat it for several, or separate them with commas",
        )
        .sets(TryText(|draft, text| {
            let limits = PrefixLimit::parse_list(text).ok_or_else(|| {
                CliError::BadValue(format!(
                    "--prefix-limit takes a prefix, = and 1% to 100% or a number of megabytes, \
                     such as user:=25%, not {text:?}"
                ))
            })?;
            draft.config.prefix_limits.extend(limits);
            Ok(())
        })),
    flag('f', "slab-growth-factor")
        .takes("factor", Rule::Decimal)
        .help("Growth factor of size classes; only reported")
        .default(|config| config.growth_factor.to_string())
        .sets(TryFraction(|draft, factor| {
            draft.config.growth_factor = factor;
            let wrong = || CliError::bad_value("Factor must be greater than 1");
            (factor > 1.0).then_some(()).ok_or_else(wrong)
        }))
        .reports("growth_factor", |now| {
            format!("{:.2}", now.config.growth_factor)
        }),
    flag('n', "slab-min-size")
        .takes("bytes", Rule::Integer)
        .help("Smallest space for key, value and flags; only reported")
        .default(|config| config.chunk_size.to_string())
        .sets(TryNumber(|draft, bytes| {
            draft.config.chunk_size = above_zero(bytes, "Chunk size")?;
            Ok(())
        }))
        .reports("chunk_size", |now| now.config.chunk_size.to_string()),
    flag('L', "enable-largepages")
        .help("Accepted, without effect")
        .ignored(),
    flag('N', "napi-ids")
        .takes("num", Rule::Integer)
        .help("Accepted, without effect")
        .sets(Number(|draft, count| draft.napi_ids = Some(count)))
        .reports("num_napi_ids", |_| "0".to_owned()),
    flag('F', "disable-flush-all")
        .help("Refuse \"flush_all\", \"invalidate\" and \"config set cluster\"")
        .sets(Switch(|draft| draft.config.flush = false))
        .reports("flush_enabled", |now| yes_no(now.config.flush)),
    flag('X', "disable-dumping")
        .help("Refuse commands that list keys")
        .sets(Switch(|draft| draft.config.dump = false))
        .reports("dump_enabled", |now| yes_no(now.config.dump)),
    flag('W', "disable-watch")
        .help("Refuse the \"watch\" command")
        .sets(Switch(|draft| draft.config.watch = false)),
    flag('S', "enable-sasl")
        .help(
            "Let in only who authenticates by SASL (PLAIN, binary protocol; the only one without \
             -Y); the users are in the file that MEMCACHED_SASL_PWDB names",
        )
        .sets(Switch(|draft| {
            draft.config.sasl = Some(SaslFiles::default())
        }))
        .reports("auth_enabled_sasl", |now| yes_no(now.config.sasl.is_some())),
    flag('Y', "auth-file")
        .takes("file", Rule::Path)
        .help(
            "Let text clients speak only after a password: lines of user:password, read again on \
             SIGHUP; without -S the only protocol is then text",
        )
        .sets(Path(|draft, path| draft.config.auth_file = Some(path)))
        .reports("auth_enabled_ascii", |now| {
            let path = now.config.auth_file.as_ref();
            path.map_or("no".into(), |path| path.to_string_lossy())
                .into_owned()
        }),
    own_flag("cluster-file")
        .takes("file", Rule::Path)
        .help(
            "Answer \"config get cluster\" of ElastiCache's clients from this file: a line with a \
             version number, then servers as host|ip|port; read again when it changes and on \
             SIGHUP",
        )
        .sets(Path(|draft, path| draft.config.cluster_file = Some(path))),
    flag('Z', "enable-ssl")
        .help("Speak TLS; needs -o ssl_chain_cert and ssl_key")
        .sets(Switch(|draft| draft.tls.on = true))
        .reports("ssl_enabled", |now| yes_no(now.config.tls.is_some())),
    flag('e', "memory-file")
        .takes("file", Rule::Path)
        .help(
            "Keep the items in this file, on a file system in memory such as /dev/shm: a clean stop \
             and the next start lose none",
        )
        .sets(Path(|draft, path| {
            draft.config.restart.memory_file = Some(path);
        }))
        .reports("memory_file", |now| {
            let path = now.config.restart.memory_file.as_ref();
            path.map_or("(null)".into(), |path| path.to_string_lossy())
                .into_owned()
        }),
    own_flag("save-path")
        .takes("file", Rule::Path)
        .help(
            "Write the items to this file at a clean stop, and read and remove it at the next \
             start; for ordinary disks",
        )
        .sets(Path(|draft, path| {
            draft.config.restart.save_path = Some(path);
        })),
    own_flag("take-over")
        .takes("socket", Rule::Path)
        .help(
            "Take over listeners and items from the server that runs with the same option, if \
             there is one, and then wait at this unix socket for the next server to do the same",
        )
        .sets(Path(|draft, path| {
            draft.config.restart.take_over = Some(path);
        })),
    own_flag("restart-max-gap")
        .takes("seconds", Rule::Text)
        .help(
            "Start empty if the last server stopped longer ago: deletes were missed meanwhile \
             (default: any time)",
        )
        .sets(TryText(|draft, text| {
            draft.config.restart.max_gap = Some(seconds("--restart-max-gap", text)?);
            Ok(())
        })),
    own_flag("drain-timeout")
        .takes("seconds", Rule::Text)
        .help(
            "At a stop, go on serving active connections for up to this time; idle ones are closed \
             (default 0)",
        )
        .sets(TryText(|draft, text| {
            draft.config.restart.drain_timeout = seconds("--drain-timeout", text)?;
            Ok(())
        })),
    flag('o', "extended")
        .takes("words", Rule::Text)
        .help("Extended options: words, separated by commas")
        .sets(TryText(words::apply)),
    flag('v', "verbose")
        .takes("ignored", Rule::Level)
        .help(
            "Log errors and warnings; -vv also commands and answers, -vvv also what each \
             connection does next",
        )
        .sets(Switch(|draft| draft.config.verbosity += 1))
        .reports("verbosity", |now| now.verbosity.to_string()),
    own_flag("log-file")
        .takes("file", Rule::Path)
        .help("Append log lines to this file instead of standard error; SIGHUP opens it anew")
        .sets(Path(|draft, path| draft.config.log_file = Some(path))),
    own_flag("log-format")
        .takes("name", Rule::Text)
        .help("Format of log lines: text, or json with the members ts and message")
        .default(|_| "text".to_owned())
        .sets(TryText(|draft, text| {
            draft.config.log_format = match text.trim() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                other => {
                    let wrong = format!("--log-format takes text or json, not {other:?}");
                    return Err(CliError::BadValue(wrong));
                }
            };
            Ok(())
        })),
    own_flag("config")
        .takes("file", Rule::Path)
        .help(
            "Read options from this file: one a line, by long names, or flags as in \
             /etc/memcached.conf; the environment (RUSTCACHED_MEMORY_LIMIT) and the command line \
             override it",
        ),
    own_flag("check-config")
        .help("Check all options and the files that they name, and exit")
        .sets(Switch(|draft| draft.ask = Some(Ask::Check))),
    flag('h', "help")
        .help("Print the most used options; --help all prints every option")
        .sets(Switch(|draft| draft.ask = Some(Ask::Help))),
    flag('i', "license")
        .help("Print the licence")
        .sets(Switch(|draft| draft.ask = Some(Ask::License))),
    flag('V', "version")
        .help("Print the version")
        .sets(Switch(|draft| draft.ask = Some(Ask::Version))),
];

/// Returns path and permissions of the first unix socket.
fn unix_socket(listeners: &[Listener]) -> Option<(String, u32)> {
    listeners
        .iter()
        .find_map(|listener| match &listener.endpoint {
            Endpoint::Tcp(_) => None,
            Endpoint::Unix { path, mode } => Some((path.display().to_string(), *mode)),
        })
}

/// Parses a number of seconds, fractions allowed.
fn seconds(option: &str, text: &str) -> Result<Duration, CliError> {
    let seconds = number::fraction(text);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| {
        CliError::BadValue(format!("{option} takes seconds, 0 or more, not {text:?}"))
    })
}
