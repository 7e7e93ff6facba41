//! Named limits. Everything a client or an operator can make larger has one,
//! and relations between them are asserted at compile time.

use std::time::Duration;

/// Longest key in bytes (memcached's `KEY_MAX_LENGTH`).
pub const KEY_MAX_BYTES: usize = 250;

/// Largest body of a packet, which is the largest `-I`; a larger one ends the
/// connection (memcached's `ITEM_SIZE_MAX_UPPER_LIMIT`).
pub const BODY_MAX_BYTES: u32 = 1024 * 1024 * 1024;

/// Longest command line in bytes that may be buffered before its newline
/// arrives. A longer one closes the connection, unless it is a `get` or
/// `gets`, whose keys are then handled as they come.
pub const LINE_MAX_BYTES: usize = 2048;

/// Longest command line in bytes, its newline included, that is looked at even
/// if it arrives whole (memcached's `READ_BUFFER_SIZE`). A longer one closes the
/// connection, unless it is a `get` or `gets`.
pub const LINE_WHOLE_MAX_BYTES: usize = 16 * 1024;

/// Tokens of a command line that are looked at, the command included; what
/// follows is ignored, except the keys of a retrieval.
pub const LINE_TOKENS_MAX: usize = 23;

/// Most tokens of a meta command, its name and key included
/// (memcached's `MFLAG_MAX_OPT_LENGTH`).
pub const META_TOKENS_MAX: usize = 20;

/// Longest opaque token of a meta command in bytes, its `O` included
/// (memcached's `MFLAG_MAX_OPAQUE_LENGTH`).
pub const OPAQUE_MAX_BYTES: usize = 32;

/// Commands or keys that are parsed, hashed and prefetched together.
pub const BATCH_MAX: usize = 32;

/// Sockets whose input may belong to one batch.
pub const BATCH_SOCKETS_MAX: usize = 16;

/// Size in bytes of one read buffer of a worker.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Values of at least this many bytes are sent from the item itself; smaller
/// ones are copied into the output.
pub const SEND_BY_REFERENCE_BYTES: usize = 16 * 1024;

/// Unsent output in bytes at which a connection's commands pause, even between
/// two keys of one command, until the output is sent.
pub const OUTPUT_PAUSE_BYTES: usize = 128 * 1024;

/// The same two limits, and the bytes of input read at once, while the buffers
/// of all clients together take half of their limit.
pub const TIGHT_SEND_BY_REFERENCE_BYTES: usize = 4096 + 1;
/// See [`TIGHT_SEND_BY_REFERENCE_BYTES`].
pub const TIGHT_OUTPUT_PAUSE_BYTES: usize = 16 * 1024;
/// See [`TIGHT_SEND_BY_REFERENCE_BYTES`].
pub const TIGHT_READ_BYTES: usize = 8 * 1024;

/// Smallest limit of all clients' buffers together, in MiB, unless another is
/// asked for; otherwise it is this part of the memory limit.
pub const CLIENT_MEMORY_MIN_MIB: usize = 64;
/// See [`CLIENT_MEMORY_MIN_MIB`].
pub const CLIENT_MEMORY_PART: usize = 4;

/// Connections that one step of `stats conns` lists.
pub const CONNS_PER_STEP: usize = 64;

/// Prefixes that one step of `stats detail dump` lists.
pub const PREFIXES_PER_STEP: usize = 64;

/// Data blocks up to this length are waited for in the read buffer; longer
/// ones are received into their item.
pub const WAIT_FOR_BLOCK_BYTES: usize = 4096;

/// Size classes of items; tools know ids 1 to 63.
pub const CLASSES_MAX: usize = 63;

/// Bytes that `stats cachedump` answers at most.
pub const CACHEDUMP_MAX_BYTES: usize = 2 * 1024 * 1024;

/// Longest `lru_crawler sleep`, in microseconds.
pub const CRAWLER_SLEEP_MAX_US: u32 = 1_000_000;

/// Seconds for which a client that asked for a dump may take nothing of it.
pub const DUMP_STALL_MAX_SECONDS: u32 = 30 * 60;

/// Bytes of lines that wait for a watcher to take them.
pub const WATCHER_BUFFER_BYTES: usize = 256 * 1024;

/// Watchers at a time (memcached's `WATCHER_LIMIT`).
pub const WATCHERS_MAX: usize = 20;

/// Events that wait for the log thread in each worker's ring.
pub const RING_EVENTS: usize = 4096;

/// Most log lines that wait for standard error.
pub const LOG_LINES_MAX: usize = 2048;

/// Longest log line in bytes, its newline included.
pub const LOG_LINE_MAX_BYTES: usize = 1280;

/// How long a stop waits for standard error to take the queued log lines.
pub const LOG_FLUSH_MAX_WAIT: Duration = Duration::from_millis(500);

/// How long a process that ends, or that says it has started, waits for a
/// slow reader of that message.
pub const LAST_WORDS_MAX_WAIT: Duration = Duration::from_millis(500);

/// Most key prefixes that `stats detail` counts for (memcached's
/// `MAX_PREFIX_COUNT`).
pub const PREFIXES_MAX: usize = 1 << 16;

/// Smallest and largest permitted `-I`, in bytes.
pub const ITEM_SIZE_MIN_BYTES: usize = 1024;
/// See [`ITEM_SIZE_MIN_BYTES`].
pub const ITEM_SIZE_MAX_BYTES: usize = 1024 * 1024 * 1024;

/// Most worker threads (`-t`).
pub const THREADS_MAX: usize = 256;

/// Smallest memory limit that `cache_memlimit` accepts, in MiB.
pub const MEMLIMIT_MIN_MIB: u32 = 8;

/// Relative expiry times may be at most this many seconds; larger numbers are
/// Unix times (memcached's `REALTIME_MAXDELTA`, 30 days).
pub const RELATIVE_EXPTIME_MAX: i64 = 60 * 60 * 24 * 30;

/// Highest level that `verbosity` sets.
pub const VERBOSITY_MAX: u32 = 2;

/// Most bytes of an answer over UDP, unless another number is asked for.
/// libmemcached expects values of 20,000 bytes to be answered.
pub const UDP_REPLY_DEFAULT_BYTES: usize = 64 * 1024;
/// The largest such number; it has less datagrams than a frame can count.
pub const UDP_REPLY_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Longest value of the `set` that logs a text client in (memcached's
/// `MAX_AUTH_REQ_LEN`).
pub const LOGIN_BLOCK_MAX_BYTES: usize = 16 * 1024;

/// Shortest line, its CR included, that may log a text client in (memcached's
/// `MIN_AUTH_REQ_LEN`); a shorter one closes the connection.
pub const LOGIN_LINE_MIN_BYTES: usize = 6;

/// Most entries of a password file for text clients (`-Y`), as in memcached.
pub const AUTH_FILE_ENTRIES_MAX: usize = 8;

/// Most entries of a password file for SASL.
pub const SASL_FILE_ENTRIES_MAX: usize = 4096;

/// Longest line of a password file in bytes, without its end (memcached's
/// `MAX_ENTRY_LEN`, less that end).
pub const PASSWORD_LINE_MAX_BYTES: usize = 255;

// A line and a data block that are waited for fit into the smallest read.
const _: () = assert!(LINE_MAX_BYTES + WAIT_FOR_BLOCK_BYTES < TIGHT_READ_BYTES);
const _: () = assert!(LINE_MAX_BYTES < READ_BUFFER_BYTES);
const _: () = assert!(PASSWORD_LINE_MAX_BYTES <= LOGIN_BLOCK_MAX_BYTES);
const _: () = assert!(LINE_MAX_BYTES + LOGIN_BLOCK_MAX_BYTES < READ_BUFFER_BYTES / 2);
const _: () = assert!(KEY_MAX_BYTES < LINE_MAX_BYTES);
const _: () = assert!(KEY_MAX_BYTES <= u8::MAX as usize);
const _: () = assert!(ITEM_SIZE_MAX_BYTES < u32::MAX as usize);
const _: () = assert!(SEND_BY_REFERENCE_BYTES < OUTPUT_PAUSE_BYTES);
// Memory of the log's queue, also while nobody reads standard error.
const _: () = assert!(LOG_LINES_MAX * LOG_LINE_MAX_BYTES <= 4 * 1024 * 1024);
