//! Named limits. Every quantity that a client or an operator can increase has a
//! limit here. Relations between limits are asserted at compile time.

use std::fmt;
use std::num::NonZeroU8;
use std::time::Duration;

/// Longest key in bytes (memcached's `KEY_MAX_LENGTH`).
pub const KEY_MAX_BYTES: usize = 250;

/// Largest body of a binary packet in bytes, equal to the largest `-I`. A
/// larger one closes the connection (memcached's `ITEM_SIZE_MAX_UPPER_LIMIT`).
pub const BODY_MAX_BYTES: u32 = 1024 * 1024 * 1024;

/// Longest command line in bytes that is buffered before its newline arrives. A
/// longer one closes the connection, except for `get` and `gets`
/// ([`GET_LINE_MAX_BYTES`]).
pub const LINE_MAX_BYTES: usize = 2048;

/// Longest `get` or `gets` line in bytes that is buffered before its newline
/// arrives. An error in such a line is the only reply, as in memcached.
pub const GET_LINE_MAX_BYTES: usize = 32 * 1024;

/// Longest complete command line in bytes, its newline included (memcached's
/// `READ_BUFFER_SIZE`). A longer one closes the connection even if it arrives
/// in one read, unless it is a `get` or `gets`.
pub const LINE_WHOLE_MAX_BYTES: usize = 16 * 1024;

/// Most tokens of a command line that are parsed, the command name included.
/// Further tokens are ignored, except the keys of a retrieval.
pub const LINE_TOKENS_MAX: usize = 23;

/// Most tokens of a meta command, its name and key included (memcached's
/// `MFLAG_MAX_OPT_LENGTH`).
pub const META_TOKENS_MAX: usize = 20;

/// Longest opaque token of a meta command in bytes, its `O` included
/// (memcached's `MFLAG_MAX_OPAQUE_LENGTH`).
pub const OPAQUE_MAX_BYTES: usize = 32;

/// Most commands of a socket, or keys of a retrieval, that are parsed, hashed and
/// prefetched together.
pub const BATCH_MAX: usize = 32;

/// Most sockets whose input is combined into one batch.
pub const BATCH_SOCKETS_MAX: usize = 16;

/// Size in bytes of each read buffer of a worker.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Smallest value in bytes that is sent from the item by reference. Smaller
/// values are copied into the output buffer.
pub const SEND_BY_REFERENCE_BYTES: usize = 16 * 1024;

/// Unsent output in bytes at which a connection's commands pause until output
/// is sent. They also pause between two keys of one command.
pub const OUTPUT_PAUSE_BYTES: usize = 128 * 1024;

/// [`SEND_BY_REFERENCE_BYTES`] while the buffers of all clients together use at
/// least half of their limit.
pub const TIGHT_SEND_BY_REFERENCE_BYTES: usize = 4096 + 1;
/// [`OUTPUT_PAUSE_BYTES`] while client buffers use at least half of their
/// limit.
pub const TIGHT_OUTPUT_PAUSE_BYTES: usize = 16 * 1024;
/// Bytes of input received at once while client buffers use at least half of
/// their limit.
pub const TIGHT_READ_BYTES: usize = 8 * 1024;

/// Smallest default of `--client-memory-limit`, in MiB.
pub const CLIENT_MEMORY_MIN_MIB: usize = 64;
/// Divisor that gives the default of `--client-memory-limit` from the memory
/// limit (`-m`).
pub const CLIENT_MEMORY_PART: usize = 4;

/// Most connections that one step of `stats conns` lists.
pub const CONNS_PER_STEP: usize = 64;

/// Most prefixes that one step of `stats detail dump` lists.
pub const PREFIXES_PER_STEP: usize = 64;

/// Longest data block in bytes that is awaited in the read buffer. A longer one
/// is received directly into its item.
pub const WAIT_FOR_BLOCK_BYTES: usize = 4096;

/// Number of size classes. memcached's tools know slab class ids 1 to 63.
pub const CLASSES_MAX: usize = 63;

/// Number of a size class, from 1 to [`CLASSES_MAX`], as statistics and commands
/// show it (memcached's slab class id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClassId(NonZeroU8);

impl ClassId {
    /// Returns the class with this number. `None` if there is none.
    pub fn new(number: impl TryInto<u8>) -> Option<Self> {
        let number = NonZeroU8::new(number.try_into().ok()?)?;
        (usize::from(number.get()) <= CLASSES_MAX).then_some(Self(number))
    }

    /// Returns the class at `index`, from 0, in order of the chunk size.
    #[inline]
    pub const fn from_index(index: usize) -> Self {
        debug_assert!(index < CLASSES_MAX);
        // Clamping avoids a panic branch on a hot path.
        let number = NonZeroU8::MIN.saturating_add(index as u8);
        Self(number)
    }

    /// Returns all classes in ascending order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..CLASSES_MAX).map(Self::from_index)
    }

    /// Returns the number, from 1.
    #[inline]
    pub fn number(self) -> u8 {
        self.0.get()
    }

    /// Returns the index, from 0.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0.get() - 1)
    }
}

impl fmt::Display for ClassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Most tags of an item.
pub const TAGS_MAX: usize = 16;

/// Longest tag in bytes.
pub const TAG_MAX_BYTES: usize = 64;

/// Most counters in a table of invalidations: 8 MiB of them.
pub const INVALIDATION_SLOTS_MAX: usize = 1 << 20;

/// The memory limit divided by this is the largest table of invalidations.
pub const INVALIDATION_PART: usize = 16;

/// Most bytes in the reply to `stats cachedump`.
pub const CACHEDUMP_MAX_BYTES: usize = 2 * 1024 * 1024;

/// Longest `lru_crawler sleep`, in microseconds.
pub const CRAWLER_SLEEP_MAX_US: u32 = 1_000_000;

/// Seconds without progress after which a client that requested a dump is
/// disconnected.
pub const DUMP_STALL_MAX_SECONDS: u32 = 30 * 60;

/// Most bytes of unsent event lines per watcher. Further lines are skipped.
pub const WATCHER_BUFFER_BYTES: usize = 256 * 1024;

/// Most watchers at a time (memcached's `WATCHER_LIMIT`).
pub const WATCHERS_MAX: usize = 20;

/// Capacity of each thread's event ring, in events.
pub const RING_EVENTS: usize = 4096;

/// Capacity of the queue of log lines, in lines.
pub const LOG_LINES_MAX: usize = 2048;

/// Longest log line in bytes, its newline included.
pub const LOG_LINE_MAX_BYTES: usize = 1280;

/// Longest time that a stop waits until the queued log lines are written to
/// standard error.
pub const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Longest time that a process waits for a slow reader of its start message or
/// of its last message.
pub const FINAL_MESSAGE_TIMEOUT: Duration = Duration::from_millis(500);

/// Most key prefixes that `stats detail` counts (memcached's
/// `MAX_PREFIX_COUNT`).
pub const PREFIXES_MAX: usize = 1 << 16;

/// Most prefixes that `stats prefixes` knows.
pub const BUSY_PREFIXES_MAX: usize = 1024;

/// Capacity of the log of slow commands.
pub const SLOW_LOG_ENTRIES: usize = 128;

/// Most bytes that a worker uses to find the most requested keys.
pub const HOT_KEYS_BYTES: usize = 256 * 1024;
/// Most keys that a report of the most requested keys lists.
pub const HOT_KEYS_MAX: usize = 100;

/// Smallest permitted `-I`, in bytes.
pub const ITEM_SIZE_MIN_BYTES: usize = 1024;
/// Largest permitted `-I`, in bytes.
pub const ITEM_SIZE_MAX_BYTES: usize = 1024 * 1024 * 1024;

/// Most worker threads (`-t`).
pub const THREADS_MAX: usize = 256;

/// Smallest memory limit that `cache_memlimit` accepts, in MiB.
pub const MEMLIMIT_MIN_MIB: u32 = 8;

/// Largest relative expiry time in seconds, 30 days. A larger number is a Unix
/// time (memcached's `REALTIME_MAXDELTA`).
pub const RELATIVE_EXPTIME_MAX: i64 = 60 * 60 * 24 * 30;

/// Highest level that the `verbosity` command sets.
pub const VERBOSITY_MAX: u32 = 2;

/// Default of `--udp-reply-limit`, in bytes. libmemcached expects replies to
/// values of 20,000 bytes.
pub const UDP_REPLY_DEFAULT_BYTES: usize = 64 * 1024;
/// Largest `--udp-reply-limit`, in bytes. Such a reply has fewer datagrams than
/// the 16-bit count of the UDP frame can express.
pub const UDP_REPLY_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Longest data block in bytes of the `set` that authenticates a text client
/// (memcached's `MAX_AUTH_REQ_LEN`).
pub const LOGIN_BLOCK_MAX_BYTES: usize = 16 * 1024;

/// Shortest line in bytes, its CR included, of an authentication attempt in
/// text (memcached's `MIN_AUTH_REQ_LEN`). A shorter one closes the connection.
pub const LOGIN_LINE_MIN_BYTES: usize = 6;

/// Most entries of a password file for text clients (`-Y`), as in memcached.
pub const AUTH_FILE_ENTRIES_MAX: usize = 8;

/// Most entries of a password file for SASL.
pub const SASL_FILE_ENTRIES_MAX: usize = 4096;

/// Longest line of a password file in bytes, without its newline (memcached's
/// `MAX_ENTRY_LEN`, less the newline).
pub const PASSWORD_LINE_MAX_BYTES: usize = 255;

/// Longest header of the PROXY protocol in bytes. Those of version 2 could have
/// 64 KiB; proxies send addresses and a few fields.
pub const PROXY_HEADER_MAX_BYTES: usize = 2048;

/// Longest header of the PROXY protocol's version 1 in bytes, its CRLF included.
pub const PROXY_V1_MAX_BYTES: usize = 107;

/// Longest time, in seconds, until a PROXY header and a TLS handshake are complete.
pub const HANDSHAKE_MAX_SECONDS: u32 = 10;

/// Longest list of servers for clients (`--cluster-file`, `config set cluster`), in
/// bytes.
pub const CLUSTER_LIST_MAX_BYTES: usize = 32 * 1024 - 2;

/// Most servers in such a list.
pub const CLUSTER_NODES_MAX: usize = 256;

/// Longest host name of such a server in bytes, as in DNS.
pub const CLUSTER_HOST_MAX_BYTES: usize = 253;

/// Most connections of the admin listeners at the same time. A further one is
/// closed.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Longest head of an admin request in bytes.
pub const ADMIN_HEAD_MAX_BYTES: usize = 8 * 1024;

/// Most headers of an admin request.
pub const ADMIN_HEADERS_MAX: usize = 64;

/// Time after which an admin connection that makes no progress is closed.
pub const ADMIN_IDLE_MAX: Duration = Duration::from_secs(30);

/// Seconds of history that the admin page shows.
pub const HISTORY_SECONDS: usize = 15 * 60;

/// Most sampled keys that the miss ratio curve keeps, in all its miniature
/// memories together.
pub const MRC_KEYS_MAX: usize = 64 * 1024 - 1;
/// Most bytes that the miss ratio curve takes: sampled keys, ghosts and rings.
pub const MRC_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Sampled requests per second above which fewer keys are sampled.
pub const MRC_SAMPLES_PER_SECOND: u64 = 10_000;
/// Capacity of all workers' rings of sampled requests together, in requests.
pub const MRC_RING_SAMPLES: usize = 16 * 1024;
/// Most sampled requests that a step of the miss ratio curve replays.
pub const MRC_STEP_SAMPLES_MAX: usize = 2048;

// A buffered line and an awaited data block fit into the smallest read.
const _: () = assert!(LINE_MAX_BYTES + WAIT_FOR_BLOCK_BYTES < TIGHT_READ_BYTES);
const _: () = assert!(LINE_MAX_BYTES < GET_LINE_MAX_BYTES);
const _: () = assert!(GET_LINE_MAX_BYTES <= READ_BUFFER_BYTES / 2);
const _: () = assert!(PASSWORD_LINE_MAX_BYTES <= LOGIN_BLOCK_MAX_BYTES);
const _: () = assert!(LINE_MAX_BYTES + LOGIN_BLOCK_MAX_BYTES < READ_BUFFER_BYTES / 2);
const _: () = assert!(CLUSTER_LIST_MAX_BYTES + 2 <= READ_BUFFER_BYTES / 2);
const _: () = assert!(PROXY_V1_MAX_BYTES <= PROXY_HEADER_MAX_BYTES);
const _: () = assert!(PROXY_HEADER_MAX_BYTES <= READ_BUFFER_BYTES);
const _: () = assert!(KEY_MAX_BYTES < LINE_MAX_BYTES);
const _: () = assert!(KEY_MAX_BYTES <= u8::MAX as usize);
const _: () = assert!(ITEM_SIZE_MAX_BYTES < u32::MAX as usize);
const _: () = assert!(SEND_BY_REFERENCE_BYTES < OUTPUT_PAUSE_BYTES);
// A command with the most and longest tags fits a line.
const _: () = assert!(TAGS_MAX * (TAG_MAX_BYTES + 1) + KEY_MAX_BYTES < LINE_MAX_BYTES);
// Bounds the memory of the log queue while nobody reads standard error.
const _: () = assert!(LOG_LINES_MAX * LOG_LINE_MAX_BYTES <= 4 * 1024 * 1024);
// Each worker has a ring of sampled requests.
const _: () = assert!(MRC_RING_SAMPLES / THREADS_MAX >= 64);
// The places of sampled keys are numbers of 16 bits.
const _: () = assert!(MRC_KEYS_MAX <= u16::MAX as usize);

/// Longest message between a server and its successor (`--take-over`), in bytes.
pub const HANDOVER_MESSAGE_MAX_BYTES: usize = 16 * 1024;

/// Most would-be successors connected at the same time. A further one is refused.
pub const HANDOVER_CONNECTIONS_MAX: usize = 4;

/// Longest time between two messages of a would-be successor until it is ready.
pub const HANDOVER_WAIT_MAX: Duration = Duration::from_secs(60);

/// Shortest time for which a server that hands over finishes what its clients
/// have begun. `--drain-timeout` can be longer.
pub const HANDOVER_DRAIN_MIN: Duration = Duration::from_secs(1);

/// Longest configuration file, in bytes.
pub const CONFIG_FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Most prefixes that have or had a limit (`--prefix-limit`) since the start.
pub const PREFIX_LIMITS_MAX: usize = 64;

/// Most configuration files that include each other.
pub const CONFIG_INCLUDES_MAX: usize = 8;
