//! Validated settings from the command line. Built once at the start, then
//! never changed. Settings that change at run time are in
//! [`crate::shared::Runtime`].

mod eviction;
mod prefix_limit;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::eviction::{Eviction, Objective};
pub use self::prefix_limit::{MemoryShare, PrefixLimit};
use crate::limits::{CLIENT_MEMORY_MIN_MIB, UDP_REPLY_DEFAULT_BYTES};

/// The memcached release whose behaviour, options and replies this server
/// follows.
pub const COMPATIBLE_VERSION: &str = "1.6.45";

/// The protocols that a listener accepts (`-B`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ProtocolMode {
    /// Text, meta and binary; the first byte of a connection selects.
    #[default]
    Auto,
    /// Text and meta only.
    Ascii,
    /// Binary only.
    Binary,
}

/// Whether a TLS listener requests client certificates (`ssl_verify_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// Requests no certificate.
    #[default]
    Ignore,
    /// Requests a certificate and verifies it. A client without a certificate
    /// is accepted.
    Request,
    /// Requires a certificate that verifies.
    Require,
}

/// File format of a private key (`-o ssl_keyformat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeyFormat {
    /// PEM: base64 between markers.
    #[default]
    Pem,
    /// DER: binary.
    Der,
}

/// Oldest accepted TLS version (`-o ssl_min_version`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V12,
    /// TLS 1.3.
    V13,
}

/// TLS settings (`-Z`, `-o ssl_*`), shared by all TLS listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file of the server's certificate and its intermediates.
    pub chain: PathBuf,
    /// File of the private key; `None` if `chain` contains the key.
    pub key: Option<PathBuf>,
    /// File format of the private key.
    pub key_format: KeyFormat,
    /// PEM file of the certificate authorities that sign client certificates.
    pub ca: Option<PathBuf>,
    /// `ssl_verify_mode` as given, 0 to 3; only reported.
    pub verify_mode: u8,
    /// Oldest accepted TLS version.
    pub min_version: TlsVersion,
    /// Whether clients may resume sessions.
    pub session_cache: bool,
    /// Most encrypted output of a connection that is buffered for its socket,
    /// in bytes.
    pub write_buffer: usize,
    /// `ssl_ciphers` as given; only reported.
    pub ciphers: Option<String>,
    /// `ssl_kernel_tls` was given; only reported.
    pub kernel: bool,
}

impl Default for TlsSettings {
    /// memcached's defaults, without files.
    fn default() -> Self {
        Self {
            chain: PathBuf::new(),
            key: None,
            key_format: KeyFormat::Pem,
            ca: None,
            verify_mode: 0,
            min_version: TlsVersion::V12,
            session_cache: false,
            write_buffer: 16 * 1024,
            ciphers: None,
            kernel: false,
        }
    }
}

/// Address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// TCP address; port 0 selects any free port.
    Tcp(SocketAddr),
    /// Unix stream socket (`-s`).
    Unix {
        /// Path of the socket file.
        path: PathBuf,
        /// Permission bits of the socket file (`-a`).
        mode: u32,
    },
}

/// Settings of one listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Address to listen on.
    pub endpoint: Endpoint,
    /// Protocols it accepts.
    pub protocol: ProtocolMode,
    /// TLS with this policy for client certificates; `None` for plain text.
    pub tls: Option<ClientCertificates>,
    /// Connections begin with a header of the PROXY protocol.
    pub proxy: bool,
    /// Skip this listener if the system lacks its address family. Set for the
    /// IPv6 wildcard beside the IPv4 one.
    pub optional: bool,
}

/// Settings of one UDP address (`-U`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagrams {
    /// Address to bind; port 0 selects any free port.
    pub address: SocketAddr,
    /// Protocols it accepts.
    pub protocol: ProtocolMode,
    /// Skip this address if the system lacks its address family.
    pub optional: bool,
}

/// Settings of the admin listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminSettings {
    /// Listening sockets; none by default.
    pub listeners: Vec<Listener>,
    /// Names, besides addresses and localhost, under which clients may reach
    /// them (`--admin-host`).
    pub hosts: Vec<String>,
    /// Clients need a user and password of [`Config::auth_file`]
    /// (`--admin-auth`).
    pub auth: bool,
}

/// Format of log lines (`--log-format`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// The text alone.
    #[default]
    Text,
    /// A JSON object with the members `ts`, seconds since 1970, and `message`.
    Json,
}

/// What the server records about its clients' requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observe {
    /// Latencies (`-o no_latency` turns them off).
    pub latency: bool,
    /// The most requested keys (`-o no_hotkeys` turns them off).
    pub hot_keys: bool,
    /// The busiest prefixes (`-o no_prefixes` turns them off). Needs
    /// [`Observe::hot_keys`], whose samples count them.
    pub prefixes: bool,
    /// The miss ratio curve (`-o mrc` turns it on).
    pub curve: bool,
    /// Time from which a command is slow (`--slow-log-ms`); `None` for no slow
    /// log.
    pub slow_log: Option<Duration>,
}

impl Default for Observe {
    fn default() -> Self {
        Self {
            latency: true,
            hot_keys: true,
            prefixes: true,
            curve: false,
            slow_log: None,
        }
    }
}

/// What a stop keeps for the next start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestartSettings {
    /// File that holds the item memory (`-e`).
    pub memory_file: Option<PathBuf>,
    /// File to which items are written at a stop (`--save-path`).
    pub save_path: Option<PathBuf>,
    /// Socket at which the server takes over from the running one, and then waits
    /// for its own successor (`--take-over`).
    pub take_over: Option<PathBuf>,
    /// The service manager stores descriptors (`FDSTORE`): a stop gives it the
    /// memory of the items and the listening sockets, unless items are kept in a
    /// file.
    pub fd_store: bool,
    /// Longest time between stop and start after which items are kept
    /// (`--restart-max-gap`); `None` for any.
    pub max_gap: Option<Duration>,
    /// Longest time that a stop waits for active clients (`--drain-timeout`).
    pub drain_timeout: Duration,
}

/// Settings of sockets inherited from the service manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// Protocols they accept.
    pub protocol: ProtocolMode,
    /// TLS with this policy for client certificates, on TCP sockets; `None` for
    /// plain text.
    pub tls: Option<ClientCertificates>,
    /// Inherited sockets replace the default listeners. True if no option named
    /// a port, an address or a unix socket.
    pub alone: bool,
}

/// Files of SASL users (`-S`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaslFiles {
    /// File of `user:password` lines (`MEMCACHED_SASL_PWDB`).
    pub users: Option<PathBuf>,
    /// SASL configuration file or its directory (`SASL_CONF_PATH`). The file
    /// may name the file of users.
    pub conf: Option<PathBuf>,
}

/// All settings of the server. Those of the process are in [`Process`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Listening sockets; none with `-p 0` alone.
    pub listeners: Vec<Listener>,
    /// UDP addresses; none by default.
    pub udp: Vec<Datagrams>,
    /// Largest UDP reply in bytes (`--udp-reply-limit`). A larger reply is not
    /// sent.
    pub udp_reply_limit: usize,
    /// Limit of the buffers of all clients together, in bytes: unsent output
    /// and incomplete input (`--client-memory-limit`).
    pub client_memory_limit: usize,
    /// Value of `-o read_buf_mem_limit` in bytes; 0 if not given. If it is given,
    /// retrievals near the limit are refused, as in memcached.
    pub read_buf_mem_limit: usize,
    /// The admin listeners (`--admin-listen`) and who may use them.
    pub admin: AdminSettings,
    /// What the server records about its clients' requests.
    pub observe: Observe,
    /// Format of log lines.
    pub log_format: LogFormat,
    /// File for log lines (`--log-file`); `None` for standard error.
    pub log_file: Option<PathBuf>,
    /// What a stop keeps for the next start.
    pub restart: RestartSettings,
    /// Settings of inherited sockets.
    pub handed_over: HandedOver,
    /// TLS settings, for the listeners that use TLS.
    pub tls: Option<TlsSettings>,
    /// File with the passwords of text clients (`-Y`).
    pub auth_file: Option<PathBuf>,
    /// File with the list of servers for clients (`--cluster-file`).
    pub cluster_file: Option<PathBuf>,
    /// Number of worker threads (`-t`).
    pub threads: usize,
    /// Most client connections at a time (`-c`).
    pub max_connections: usize,
    /// Refuse connections above that limit at once instead of pausing the
    /// acceptor (`-o maxconns_fast`, on by default).
    pub maxconns_fast: bool,
    /// Length of the listen backlog (`-b`).
    pub backlog: i32,
    /// Most batches of one connection that are executed before other
    /// connections get their turn (`-R`).
    pub requests_per_event: usize,
    /// Memory limit in bytes for items, headers, slack and index (`-m`).
    pub max_memory: usize,
    /// Largest item in bytes (`-I`).
    pub max_item_size: usize,
    /// Evict when memory is full; false returns out-of-memory errors instead
    /// (`-M`).
    pub evict: bool,
    /// Eviction policy (`-o eviction`).
    pub eviction: Eviction,
    /// Assign CAS values to items (off with `-C`).
    pub cas: bool,
    /// Delimiter of key prefixes for `stats detail` (`-D`).
    pub prefix_delimiter: u8,
    /// Limits on the memory of key prefixes (`--prefix-limit`).
    pub prefix_limits: Vec<PrefixLimit>,
    /// Most percent by which TTLs are shortened, by key (`-o ttl_jitter`); 0 for
    /// none.
    pub ttl_jitter: u8,
    /// Collect `stats detail` from the start (`-D` given).
    pub detail: bool,
    /// Permit `flush_all` (off with `-F`).
    pub flush: bool,
    /// Deletions of the keys `@prefix/<prefix>` and `@tag/<tag>` invalidate
    /// (`-o invalidate_keys`).
    pub invalidate_keys: bool,
    /// Permit key dumps (off with `-X`).
    pub dump: bool,
    /// Omit the `OK` line before key dumps, for older tools (`-o bare_dumps`).
    pub bare_dumps: bool,
    /// Permit `watch` (off with `-W`).
    pub watch: bool,
    /// Permit the `shutdown` command (`-A`).
    pub shutdown_command: bool,
    /// Clients must authenticate with SASL (`-S`); `None` if not.
    pub sasl: Option<SaslFiles>,
    /// Idle time after which a connection is closed (`-o idle_timeout`).
    pub idle_timeout: Option<Duration>,
    /// Log level: the number of `-v` given.
    pub verbosity: u32,
    /// `-o hashpower`; only reported.
    pub hashpower: u32,
    /// `-n`, smallest space for key, value and flags, in bytes; only reported.
    pub chunk_size: usize,
    /// `-f`, slab growth factor; only reported.
    pub growth_factor: f64,
    /// File to write the bound ports to (`MEMCACHED_PORT_FILENAME`).
    pub port_file: Option<PathBuf>,
    /// Initial values of the settings that operators may change at run time.
    pub tunables: Tunables,
}

impl Default for Config {
    /// memcached's defaults, without listeners.
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            udp: Vec::new(),
            udp_reply_limit: UDP_REPLY_DEFAULT_BYTES,
            client_memory_limit: CLIENT_MEMORY_MIN_MIB << 20,
            read_buf_mem_limit: 0,
            admin: AdminSettings::default(),
            observe: Observe::default(),
            restart: RestartSettings::default(),
            log_format: LogFormat::default(),
            log_file: None,
            handed_over: HandedOver::default(),
            tls: None,
            auth_file: None,
            cluster_file: None,
            threads: 4,
            max_connections: 1024,
            maxconns_fast: true,
            backlog: 1024,
            requests_per_event: 20,
            max_memory: 64 * 1024 * 1024,
            max_item_size: 1024 * 1024,
            evict: true,
            eviction: Eviction::default(),
            cas: true,
            prefix_delimiter: b':',
            prefix_limits: Vec::new(),
            ttl_jitter: 0,
            detail: false,
            flush: true,
            invalidate_keys: false,
            dump: true,
            bare_dumps: false,
            watch: true,
            shutdown_command: false,
            sasl: None,
            idle_timeout: None,
            verbosity: 0,
            hashpower: 16,
            chunk_size: 48,
            growth_factor: 1.25,
            port_file: None,
            tunables: Tunables::default(),
        }
    }
}

impl Config {
    /// Returns the names of the settings that differ in `other` and cannot change
    /// while the server runs.
    pub fn fixed_differences(&self, other: &Self) -> Vec<&'static str> {
        // By name, so that no setting is forgotten.
        let Self {
            listeners,
            udp,
            udp_reply_limit,
            client_memory_limit,
            read_buf_mem_limit,
            admin,
            observe,
            log_format,
            log_file,
            restart,
            handed_over,
            tls,
            auth_file,
            cluster_file,
            threads,
            max_connections,
            maxconns_fast,
            backlog,
            requests_per_event,
            max_memory: _,
            max_item_size,
            evict,
            eviction,
            cas,
            prefix_delimiter,
            prefix_limits: _,
            ttl_jitter,
            detail,
            flush,
            invalidate_keys,
            dump,
            bare_dumps,
            watch,
            shutdown_command,
            sasl,
            idle_timeout,
            verbosity: _,
            hashpower,
            chunk_size,
            growth_factor,
            port_file,
            tunables,
        } = self;
        let differs = [
            (*listeners != other.listeners, "listeners"),
            (*udp != other.udp, "udp-port"),
            (*udp_reply_limit != other.udp_reply_limit, "udp-reply-limit"),
            (
                *client_memory_limit != other.client_memory_limit,
                "client-memory-limit",
            ),
            (
                *read_buf_mem_limit != other.read_buf_mem_limit,
                "read_buf_mem_limit",
            ),
            (*admin != other.admin, "admin-listen"),
            (*observe != other.observe, "what is observed"),
            (*log_format != other.log_format, "log-format"),
            (*log_file != other.log_file, "log-file"),
            (*restart != other.restart, "what a stop keeps"),
            (*handed_over != other.handed_over, "inherited sockets"),
            (*tls != other.tls, "TLS"),
            (*auth_file != other.auth_file, "auth-file"),
            (*cluster_file != other.cluster_file, "cluster-file"),
            (*threads != other.threads, "threads"),
            (*max_connections != other.max_connections, "conn-limit"),
            (*maxconns_fast != other.maxconns_fast, "maxconns_fast"),
            (*backlog != other.backlog, "listen-backlog"),
            (
                *requests_per_event != other.requests_per_event,
                "max-reqs-per-event",
            ),
            (*max_item_size != other.max_item_size, "max-item-size"),
            (*evict != other.evict, "disable-evictions"),
            (*eviction != other.eviction, "eviction"),
            (*cas != other.cas, "disable-cas"),
            (
                *prefix_delimiter != other.prefix_delimiter,
                "prefix-delimiter",
            ),
            (*ttl_jitter != other.ttl_jitter, "ttl_jitter"),
            (*detail != other.detail, "stats detail"),
            (*flush != other.flush, "disable-flush-all"),
            (*invalidate_keys != other.invalidate_keys, "invalidate_keys"),
            (*dump != other.dump, "disable-dumping"),
            (*bare_dumps != other.bare_dumps, "bare_dumps"),
            (*watch != other.watch, "disable-watch"),
            (
                *shutdown_command != other.shutdown_command,
                "enable-shutdown",
            ),
            (*sasl != other.sasl, "enable-sasl"),
            (*idle_timeout != other.idle_timeout, "idle_timeout"),
            (*hashpower != other.hashpower, "hashpower"),
            (*chunk_size != other.chunk_size, "slab-min-size"),
            (*growth_factor != other.growth_factor, "slab-growth-factor"),
            (*port_file != other.port_file, "the port file"),
            (*tunables != other.tunables, "lru_crawler and its like"),
        ];
        let differs = differs.into_iter().filter(|(differs, _)| *differs);
        differs.map(|(_, name)| name).collect()
    }
}

/// Settings that `lru`, `slabs`, `lru_crawler` and options of `-o` change.
/// Settings of memcached's LRU queues have no effect here: they are stored and
/// reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tunables {
    /// Whether the background sweep removes dead items and key dumps are
    /// permitted (`lru_crawler`).
    pub crawler: bool,
    /// `lru_maintainer`. There is no such thread here; if false, `stats` omits
    /// the lines about it.
    pub maintainer: bool,
    /// `slab_reassign`: permits `slabs reassign` and makes `stats` report moved
    /// pages.
    pub reassign: bool,
    /// Pause between two steps of a requested sweep, in microseconds.
    pub crawler_sleep_us: u32,
    /// Bound on the items that a requested sweep examines, per requested size
    /// class; 0 for none.
    pub crawler_items: u32,
    /// `slabs automove` level; only reported.
    pub automove: u32,
    /// `slabs automove ratio`; only reported.
    pub automove_ratio: f64,
    /// `slabs automove window`; only reported.
    pub automove_window: u32,
    /// `lru tune`: shares of the HOT and the WARM queue in percent; only
    /// reported.
    pub queue_percents: [u32; 2],
    /// `lru tune`: maximum ages of these queues as factors of the COLD queue's
    /// age; only reported.
    pub queue_factors: [f64; 2],
    /// `lru mode segmented`; only reported.
    pub segmented: bool,
    /// `lru temp_ttl` is on; only reported.
    pub temporary: bool,
    /// `lru temp_ttl` in seconds; only reported.
    pub temporary_ttl: u32,
}

impl Default for Tunables {
    /// memcached's defaults.
    fn default() -> Self {
        Self {
            crawler: true,
            maintainer: true,
            reassign: true,
            crawler_sleep_us: 100,
            crawler_items: 0,
            automove: 1,
            automove_ratio: 0.8,
            automove_window: 10,
            queue_percents: [20, 40],
            queue_factors: [0.2, 2.0],
            segmented: true,
            temporary: false,
            temporary_ttl: 61,
        }
    }
}

/// Settings of the process, applied before and around the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Detach from the terminal (`-d`).
    pub daemonize: bool,
    /// User to switch to when started as root (`-u`).
    pub user: Option<String>,
    /// File to write the process id to (`-P`).
    pub pid_file: Option<PathBuf>,
    /// Lock all memory (`-k`).
    pub lock_memory: bool,
    /// Raise the core file limit (`-r`).
    pub core_dumps: bool,
    /// Drop privileges that the process does not need (`-o drop_privileges`).
    pub drop_privileges: bool,
    /// Values of which only the number at the start counts. Reported at any
    /// verbosity: `-m 1g` is one megabyte.
    pub warnings: Vec<String>,
    /// Accepted options without effect, reported at `-v`.
    pub notices: Vec<String>,
}
