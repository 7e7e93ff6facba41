//! rustcached: an in-memory cache server that speaks memcached's protocols.
//!
//! # Threads
//!
//! ```text
//!  listening sockets: TCP, TLS, unix domain, socket activation
//!        │ accept
//!   ┌────▼─────┐   mailbox and wake-up, to the worker with fewest connections
//!   │ acceptor ├───────────────────────────┐
//!   └──────────┘                           │
//!                ┌────────────┬────────────▼─┐  one event loop each, with
//!                │ worker 0   │ … worker N-1 │  UDP sockets of its own
//!                └─────┬──────┴──────┬───────┘
//!    read → parse a batch → hash → prefetch → execute → send
//!                ┌─────▼─────────────▼───────┐
//!                │ store: sharded hash table,│
//!                │ page memory, CLOCK        │
//!                └─────────────▲─────────────┘
//!                              │ sweep, flush, compact, keep the limit
//!                         ┌────┴───┐
//!                         │ upkeep │
//!                         └────────┘
//! ```
//!
//! Two more threads do slow output for the others: `log` sends events to
//! watchers, and `stderr` writes log lines. The thread `signals` handles signals.
//! With `--admin-listen`, the thread `admin` serves operators from snapshots.
//!
//! # Source tree
//!
//! ```text
//! src/
//! ├── main.rs             start, signals, exit code
//! ├── process/            user, resource limits, daemon mode, sandbox
//! ├── server/             threads, listening sockets, watchers
//! │   ├── worker/         event loop, turns, timeouts, back-pressure
//! │   ├── connection/     one connection: state, batches, authentication, UDP
//! │   └── transport/      TCP, unix and TLS streams, UDP sockets
//! ├── command/            execution of requests
//! │   ├── handlers/       one per protocol: request → operation → reply
//! │   ├── ops/            operations on items, with typed outcomes
//! │   └── admin/          commands for operators: stats, dumps, settings, SASL
//! ├── admin/              metrics, page and JSON of the admin listener
//! ├── upkeep/             background work on the store
//! ├── store/              items in bounded memory
//! │   ├── index/          sharded hash table, walks, prefetching
//! │   ├── invalidation/   invalidation of prefixes and tags
//! │   ├── item/           layout, reference counts, building and editing
//! │   ├── memory/         pages, size classes, chunks, magazines
//! │   ├── reclaim/        epochs, deferred freeing of what readers may see
//! │   ├── mrc/            miss ratio curve by simulation
//! │   └── evict/          CLOCK hand, policy, ghosts, moving items, sweeps
//! ├── protocol/           bytes ↔ requests and replies
//! │   ├── text/           classic text commands
//! │   ├── meta/           meta commands
//! │   └── binary/         binary packets
//! ├── options/            command line → settings, and their report
//! ├── auth/  events/  stats/  logging/
//! └── cluster.rs  config.rs  files.rs  limits.rs  shared.rs  supervise.rs  sync.rs  time.rs  tls.rs
//! ```
//!
//! Modules form layers. An import points to a lower layer or stays within its
//! module, and the imports of files never form a circle. `tests/tidy` enforces
//! both.
//!
//! | layer | modules | responsibility |
//! |---|---|---|
//! | 7 | `main` | start, signals, exit code |
//! | 6 | [`server`], `process` | sockets and threads; user, limits and daemon mode of the process |
//! | 5 | [`admin`] | responses of the admin listener |
//! | 4 | [`command`], [`upkeep`] | execution of requests; background work |
//! | 3 | [`store`], [`shared`], [`supervise`] | items in bounded memory; other state that all threads share; exit after a panic |
//! | 2 | [`options`], [`protocol`], [`stats`], [`auth`], [`tls`], [`cluster`], [`events`], [`logging`] | options and their reports; wire formats; counters; authentication; TLS sessions; the list of servers for clients; events for watchers; log lines |
//! | 1 | [`config`], `files`, [`time`] | settings; opening files; the clock |
//! | 0 | [`limits`], [`sync`] | limits of every quantity; atomics |
//!
//! # Path of a request
//!
//! A worker's poll reports the sockets that are ready. Up to 16 of them are
//! read, each into a read buffer of the worker. Their first commands are parsed
//! and their keys hashed. Then the cache lines that they will touch are
//! prefetched, and only then the first command is executed.
//!
//! Replies are copied into one output buffer; large values are sent from the
//! item by reference. Each socket gets one send. Execution pauses between two
//! commands, or two keys of one retrieval, when the unsent output reaches a
//! limit.
//!
//! An idle connection owns no buffer, apart from those of its TLS session. A
//! connection owns memory only for an incomplete command or for unsent output.
//! While it has unsent output, its socket is not read.
//!
//! Text lines and binary packets are two encodings of the same requests. The
//! first byte of a connection selects the protocol, unless its listener fixes
//! it. The operations in [`command`] return typed outcomes. Handlers, one per
//! protocol, pass them to the encoders of [`protocol`]. Datagrams are parsed
//! and executed in the same batches, but no state is kept between them.
//!
//! TLS is a layer of the stream. The handshake happens within the first reads.
//! Decrypted bytes go to the same buffers as those of a plain socket. Text
//! clients that need a password (`-Y`) stay in a state in which no command is
//! parsed. With SASL (`-S`), each packet passes a guard before it is executed.
//!
//! # Fairness and back-pressure
//!
//! Connections with short requests are served as soon as their event arrives.
//! Newcomers, and busy connections that had more work than one turn allows,
//! share time slices of a millisecond between two polls.
//!
//! The state of a stalled connection, which is unsent output or a half-received
//! value, is parked in a table that all threads can reach
//! ([`command::Stalled`]). Any thread may free entries there: when client
//! buffers reach their limit, or when a command needs item memory that stale or
//! half-received values occupy. The worker that owns the connection closes it
//! at its next wake-up.
//!
//! # Life of an item
//!
//! A new item is built in page memory without a lock: its value is received or
//! copied directly into its chunks. It is then linked into the hash table under
//! its shard's write lock.
//!
//! A reader finds the item and copies its value without a lock. A hit writes to
//! no memory that other threads use, except to record an access that is not
//! recorded yet. A large value is pinned under the shard's read lock and sent
//! later. Values of up to 20 bytes, which `incr` changes in place, are copied
//! under this lock.
//!
//! The thread that drops the last reference retires the item.
//! Its chunks are freed once all other threads have left the epoch in which they
//! might have found it: a worker enters before a batch, and leaves before it
//! sends the replies.
//! To move an item to another page, a thread finds it by address and pins it
//! like a reader. It then replaces the item's slot under the write lock.
//!
//! At the memory limit, a store operation evicts items. For each, it advances
//! the CLOCK hand over at most 32 items. It evicts the first item whose stamp
//! has expired, or else the item with the least time left. Victims are chosen
//! regardless of their address and size class. If no chunk of the right size
//! becomes free, a page is drained: the emptiest one of the size class with the
//! most free bytes. Its items move to other pages, and it returns to the pool
//! for any class. Ghosts remember how often evicted items were used, for the
//! case that their keys are stored again.
//!
//! # Observability
//!
//! Counters belong to one thread each, in total and by size class, and are
//! summed when read. Dumps, which walk through all items, are a state of the
//! connection. Its worker writes up to 32 items, under the read lock of one
//! shard at a time, sends them, and serves other connections before the next
//! step.
//!
//! Events go into a bounded ring of the thread where they happen. The `log`
//! thread owns the watchers' sockets and drains the rings. While there is no
//! watcher, events cost one load per batch.
//!
//! All single-valued statistics are declared in one table
//! ([`stats::DECLARATIONS`]), from which the replies to `stats`, the metrics and
//! the documentation take their names.
//!
//! Serving threads never write to standard error. They put log lines into a
//! bounded queue ([`logging`]). While the queue is full, lines are dropped and
//! counted. Every thread is supervised ([`supervise`]): a panic ends the
//! process with exit code 70.
//!
//! # Rules
//!
//! - At most one shard is locked by a thread at a time.
//! - Under a shard's lock nothing is sent or logged, and no chunk is allocated
//!   or freed. An edit collects the chunks that it unlinks and frees them after
//!   unlocking. Only these use the heap under a lock:
//!   - a table that is rebuilt to grow, to shrink or to empty its stash, and a
//!     stash that grows,
//!   - a sweep or a walk, which lists items of the shard,
//!   - a read, which appends the reply to the output buffer.
//! - [`protocol`] has no sockets, no clock, no counters, no allocation per key
//!   and no unsafe code. [`store`] parses no request and encodes no reply.
//!   [`command`] does no I/O on sockets. [`server`] has no cache policy.
//! - Settings are not global mutable state: every thread gets them from
//!   [`shared`].
//! - Every quantity that a client or an operator can increase has a limit in
//!   [`limits`].
//! - Tests do not sleep, use no fixed ports and do not depend on their order.

#[cfg(not(loom))]
pub mod admin;
#[cfg(not(loom))]
pub mod auth;
#[cfg(not(loom))]
pub mod cluster;
#[cfg(not(loom))]
pub mod command;
#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
pub mod events;
mod files;
#[cfg(not(loom))]
pub mod limits;
#[cfg(not(loom))]
pub mod logging;
#[cfg(not(loom))]
pub mod options;
#[cfg(not(loom))]
pub mod protocol;

#[cfg(not(loom))]
pub mod server;
#[cfg(not(loom))]
pub mod shared;
#[cfg(not(loom))]
pub mod stats;
#[cfg(not(loom))]
pub mod store;
#[cfg(not(loom))]
pub mod supervise;
pub mod sync;
#[cfg(not(loom))]
pub mod time;
#[cfg(not(loom))]
pub mod tls;
#[cfg(not(loom))]
pub mod upkeep;

#[cfg(loom)]
#[allow(dead_code, reason = "its callers are not compiled")]
#[path = "store/index/bucket.rs"]
mod bucket;
#[cfg(loom)]
#[allow(dead_code, reason = "its callers are not compiled")]
#[path = "store/reclaim/epoch.rs"]
mod epoch;
#[cfg(loom)]
#[allow(dead_code, reason = "its callers are not compiled")]
#[path = "store/invalidation/order.rs"]
mod order;
#[cfg(loom)]
#[allow(dead_code, reason = "its callers are not compiled")]
#[path = "store/item/refs.rs"]
mod refs;
