//! Plain settings: what the command line, once validated, asks for. Built
//! once, passed down, never changed; what may change at run time lives in
//! `command::Runtime`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::limits::{CLIENT_MEMORY_MIN_MIB, UDP_REPLY_DEFAULT_BYTES};

/// The memcached release whose behaviour, options and answers this server
/// follows.
pub const COMPATIBLE_VERSION: &str = "1.6.45";

/// The protocols a listener accepts (`-B`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ProtocolMode {
    /// Text, meta and binary, told apart by the first byte.
    #[default]
    Auto,
    /// Text and meta only.
    Ascii,
    /// Binary only.
    Binary,
}

/// What a TLS listener asks of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// No certificate.
    #[default]
    Ignore,
    /// A certificate, which must be good; none will do.
    Request,
    /// A good certificate.
    Require,
}

/// How a private key is written down (`-o ssl_keyformat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeyFormat {
    /// Base64 between markers.
    #[default]
    Pem,
    /// Bare bytes.
    Der,
}

/// Oldest version of TLS that is spoken (`-o ssl_min_version`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// 1.2.
    #[default]
    V12,
    /// 1.3.
    V13,
}

/// Settings of TLS (`-Z`, `-o ssl_*`), which all TLS listeners share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file of the server's certificate and those up to its issuer.
    pub chain: PathBuf,
    /// File of the private key; `None` if it is in the chain's.
    pub key: Option<PathBuf>,
    /// How the key is written.
    pub key_format: KeyFormat,
    /// PEM file of the authorities that vouch for clients.
    pub ca: Option<PathBuf>,
    /// `ssl_verify_mode` as typed, 0 to 3.
    pub verify_mode: u8,
    /// Oldest version spoken.
    pub min_version: TlsVersion,
    /// Let clients resume sessions.
    pub session_cache: bool,
    /// Most encrypted output of a connection that waits for its socket, in
    /// bytes.
    pub write_buffer: usize,
    /// `ssl_ciphers` as typed; only reported.
    pub ciphers: Option<String>,
    /// `ssl_kernel_tls` was asked for; only reported.
    pub kernel: bool,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address; port 0 asks for any free port.
    Tcp(SocketAddr),
    /// A unix stream socket with its permission bits (`-s`, `-a`).
    Unix {
        /// Path of the socket file.
        path: PathBuf,
        /// Permission bits of the socket file.
        mode: u32,
    },
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What it speaks.
    pub protocol: ProtocolMode,
    /// TLS, and what it asks of clients; `None` speaks in the clear.
    pub tls: Option<ClientCertificates>,
    /// An optional listener is passed over when the system lacks its address
    /// family (the IPv6 wildcard beside the IPv4 one).
    pub optional: bool,
}

/// Where datagrams are taken (`-U`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagrams {
    /// The address; port 0 asks for any free port.
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocol: ProtocolMode,
    /// As for a [`Listener`].
    pub optional: bool,
}

/// How sockets are used that the service manager hands over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// What they speak.
    pub protocol: ProtocolMode,
    /// TLS, where they are TCP, and what it asks of clients.
    pub tls: Option<ClientCertificates>,
    /// They take the place of the other listeners, which nobody asked for.
    pub alone: bool,
}

/// How the item is chosen that goes when memory is short (`-o eviction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Eviction {
    /// One bit an item: used since the hand last passed, or not.
    Clock,
    /// By recency and frequency of use, whatever the size.
    Blind,
    /// By recency and frequency of use, small items before large ones.
    #[default]
    Size,
}

/// Where SASL (`-S`) finds its users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaslFiles {
    /// File of `user:password` lines (`MEMCACHED_SASL_PWDB`).
    pub users: Option<PathBuf>,
    /// Settings file or its directory, which may name that file
    /// (`SASL_CONF_PATH`).
    pub conf: Option<PathBuf>,
}

/// Everything the server (as opposed to the process) needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Listening sockets; none with `-p 0` alone.
    pub listeners: Vec<Listener>,
    /// UDP addresses; none by default.
    pub udp: Vec<Datagrams>,
    /// Most bytes of an answer over UDP; what is larger goes unanswered
    /// (`--udp-reply-limit`).
    pub udp_reply_limit: usize,
    /// Bytes that the buffers of all clients may take together: output that
    /// clients do not take, input that makes no command yet
    /// (`--client-memory-limit`).
    pub client_memory_limit: usize,
    /// Refuse retrievals at that limit, as memcached does
    /// (`-o read_buf_mem_limit`).
    pub refuse_at_client_limit: bool,
    /// What becomes of sockets that are handed over.
    pub handed_over: HandedOver,
    /// TLS, for the listeners that speak it.
    pub tls: Option<TlsSettings>,
    /// File with the passwords of text clients (`-Y`).
    pub auth_file: Option<PathBuf>,
    /// Worker threads (`-t`).
    pub threads: usize,
    /// Most simultaneous client connections (`-c`).
    pub max_connections: usize,
    /// Refuse at once above the limit, rather than stop accepting
    /// (`-o maxconns_fast`, on by default).
    pub maxconns_fast: bool,
    /// Length of the listen queue (`-b`).
    pub backlog: i32,
    /// Batches a connection may run before others get their turn (`-R`).
    pub requests_per_event: usize,
    /// Memory for items, headers, slack and index, in bytes (`-m`).
    pub max_memory: usize,
    /// Largest item in bytes (`-I`).
    pub max_item_size: usize,
    /// Evict when full; false answers errors instead (`-M`).
    pub evict: bool,
    /// What is evicted (`-o eviction`).
    pub eviction: Eviction,
    /// Give items CAS values (off with `-C`).
    pub cas: bool,
    /// Delimiter of key prefixes for `stats detail` (`-D`).
    pub prefix_delimiter: u8,
    /// Collect `stats detail` from the start (`-D` given).
    pub detail: bool,
    /// Permit `flush_all` (off with `-F`).
    pub flush: bool,
    /// Permit dumps of keys (off with `-X`).
    pub dump: bool,
    /// Begin key dumps without `OK`, for older tools (`-o bare_dumps`).
    pub bare_dumps: bool,
    /// Permit `watch` (off with `-W`).
    pub watch: bool,
    /// Permit the `shutdown` command (`-A`).
    pub shutdown_command: bool,
    /// Clients must authenticate themselves (`-S`).
    pub sasl: Option<SaslFiles>,
    /// Close connections idle for this long (`-o idle_timeout`).
    pub idle_timeout: Option<Duration>,
    /// Log level (`-v`, `-vv`, `-vvv` as 1, 2, 3).
    pub verbosity: u32,
    /// Power of two of the initial index size (`-o hashpower`).
    pub hashpower: u32,
    /// `-n`: smallest space for key, value and flags; only reported.
    pub chunk_size: usize,
    /// `-f`: growth factor; only reported.
    pub growth_factor: f64,
    /// File that receives the bound ports (`MEMCACHED_PORT_FILENAME`).
    pub port_file: Option<PathBuf>,
    /// What operators may tune later on, as it is at the start.
    pub knobs: Knobs,
}

impl Default for Config {
    /// memcached's defaults, listening nowhere.
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            udp: Vec::new(),
            udp_reply_limit: UDP_REPLY_DEFAULT_BYTES,
            client_memory_limit: CLIENT_MEMORY_MIN_MIB << 20,
            refuse_at_client_limit: false,
            handed_over: HandedOver::default(),
            tls: None,
            auth_file: None,
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
            detail: false,
            flush: true,
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
            knobs: Knobs::default(),
        }
    }
}

/// What `lru`, `slabs` and `lru_crawler` change, and words of `-o` begin with.
/// Some of it has a meaning for memcached's queues only, and is kept to be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knobs {
    /// Dead items are swept out in the background, and dumps are permitted.
    pub crawler: bool,
    /// `lru_maintainer` is on. There is no such thread here: without it, the
    /// lines of `stats` are absent that tell of it.
    pub maintainer: bool,
    /// `slab_reassign` is on: operators may take pages from classes, and
    /// `stats` tells of pages that moved.
    pub reassign: bool,
    /// Pause of a sweep that was asked for, in microseconds.
    pub crawler_sleep_us: u32,
    /// Items of a class that such a sweep looks at; 0 for all.
    pub crawler_items: u32,
    /// `slabs automove`.
    pub automove: u32,
    /// `slabs automove ratio`.
    pub automove_ratio: f64,
    /// `slabs automove window`.
    pub automove_window: u32,
    /// `lru tune`: part of the hot and of the warm queue, in percent.
    pub queue_percents: [u32; 2],
    /// `lru tune`: ages of these queues, relative to the cold one.
    pub queue_factors: [f64; 2],
    /// `lru mode segmented`.
    pub segmented: bool,
    /// `lru temp_ttl` is on.
    pub temporary: bool,
    /// `lru temp_ttl`.
    pub temporary_ttl: u32,
}

impl Default for Knobs {
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

/// What the process does before and around the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Detach from the terminal (`-d`).
    pub daemonize: bool,
    /// User to become when started as root (`-u`).
    pub user: Option<String>,
    /// File that receives the process id (`-P`).
    pub pid_file: Option<PathBuf>,
    /// Lock all memory (`-k`).
    pub lock_memory: bool,
    /// Raise the core file limit (`-r`).
    pub core_dumps: bool,
    /// Forbid the process what it does not need (`-o drop_privileges`).
    pub drop_privileges: bool,
    /// Options that were accepted and mean nothing here; told at `-v`.
    pub notices: Vec<String>,
}
