//! rustcached: a cache server that speaks memcached's protocols.
//!
//! # Architecture
//!
//! ```text
//!  listeners (TCP v4 and v6, TLS, unix sockets, handed over ones)
//!        │ accept
//!   ┌────▼─────┐  queue + Waker, to the worker with fewest connections
//!   │ acceptor │ ──────────────────────────────┐
//!   └──────────┘                               │ UDP: a socket of each worker
//!                  ┌──────────────┬────────────▼─┐
//!                  │ worker 1     │ … worker N   │  OS threads, one poll each
//!                  └──────┬───────┴──────┬───────┘
//!          recv → parse ≤ 32 commands → hash → prefetch → execute → send
//!                  ┌──────▼──────────────▼───────┐
//!                  │ store: map of 8-byte slots, │
//!                  │ page memory, CLOCK eviction │
//!                  └──────────────▲──────────────┘
//!                                 │ sweeping, keeping the memory limit
//!                            ┌────┴───┐
//!                            │ upkeep │
//!                            └────────┘
//! ```
//!
//! Folders are layers; an import may point only to a lower one
//! (`tests/tidy.rs`):
//!
//! | layer | modules | what they own |
//! |---|---|---|
//! | 7 | `main` | arguments → settings → server → exit code |
//! | 6 | [`cli`] | the command line |
//! | 5 | [`server`], `process` | sockets and threads; user, limits and background of the process |
//! | 4 | [`command`], [`upkeep`] | what a request means; background work |
//! | 3 | [`store`], [`shared`] | items in bounded memory; what threads share besides |
//! | 2 | [`protocol`], [`stats`], [`auth`], [`tls`], [`events`], [`supervise`] | bytes ↔ requests and answers; counters; who may speak; what watchers are told; the end after a panic |
//! | 1 | [`config`], [`time`], [`logging`] | plain settings; the clock; log lines |
//! | 0 | [`limits`], [`sync`] | plain numbers; atomics |
//!
//! # The way of a request
//!
//! A worker's poll says which sockets are ready. Up to sixteen of them are
//! read, each into a buffer of the worker's; the first commands of all of
//! them are parsed and their keys hashed, and what they will touch in the
//! map is prefetched, before the first is executed. Answers are copied into
//! one buffer, large values are sent from the item itself, and each socket
//! gets one send. Execution pauses between two commands, or two keys of one
//! retrieval, when the unsent output reaches a limit. A connection owns memory
//! only for an incomplete command or for output that its client does not take;
//! while it has such output, nothing more is read from it.
//!
//! What a stalled connection holds (unsent output, a value received in part) is
//! parked in a table that all threads can reach (`command::Stalled`). When the
//! buffers of all clients reach their limit, or a command needs item memory
//! that stale and half-received values occupy, any thread frees entries there;
//! the worker that owns the connection closes it at its next wake-up.
//!
//! A worker serves connections whose requests take little as soon as their
//! events come. New connections, and those that had more to do than their turn
//! allowed, share slices of a millisecond between two polls.
//!
//! Text and packets are two spellings of the same requests: which one a
//! connection speaks its first byte tells, the operations in `command` return
//! outcomes, and only parsing and the writing of answers differ. A datagram
//! is parsed and executed in the same batches, and nothing of it is kept. Under
//! `-S` every step of a connection first passes the guard.
//!
//! TLS lies below all this, in the stream: the handshake happens inside the
//! first reads, and decrypted bytes go where those of a plain socket would.
//! Where a password is needed, a connection is in a state of its own, in which
//! no command is parsed; with `-S` as well, one that begins with a packet goes
//! from there to the guard.
//!
//! # Looking inside
//!
//! Counters, in all and by size class, are each thread's own and summed when
//! asked. What takes a walk through the items (key dumps, sizes) is a state of
//! the connection: its worker takes a step of a few dozen items under one
//! short read lock, sends, and serves others before the next. Events for
//! watchers go into a bounded ring of the thread where they happen; the log
//! thread, whose the watchers' connections are, drains the rings. While nobody
//! watches, that costs a load of a set of kinds per batch.
//!
//! # Logging and panics
//!
//! No serving thread writes to standard error. It puts a log line into a
//! bounded queue ([`logging`]), which the `stderr` thread writes. A line that
//! finds the queue full is dropped and counted. Every thread is supervised
//! ([`supervise`]): a panic ends the process with exit code 70.
//!
//! # The life of an item
//!
//! It is made in page memory without a lock, its value received or copied
//! straight into it, and linked into the map under its shard's write lock. A
//! reader copies from it under the read lock, or takes a reference and sends
//! it later. Whoever gives back the last reference frees its chunks. The page
//! mover takes references like any reader, by address rather than by key,
//! and replaces the slot under the write lock.
//!
//! What everybody asks for, a worker keeps a reference to, and serves without
//! a lock or a look into the map as long as the version of the item's shard
//! says that nothing has changed there. Writers change the version only where
//! somebody relies on it; now and then a hit goes the ordinary way, so that
//! the eviction clock hears of it. Such a hit writes nothing but counters of
//! its worker's; an ordinary one takes the shard's read lock and, once a
//! second, notes the access in the item.
//!
//! When memory is at its limit, a set walks the CLOCK hand over slots until
//! it meets an item whose date has passed, or settles for the worst of some
//! dozens. Victims are chosen without regard to where they lie; if no chunk
//! of the right size comes free, a page of the class with most free chunks is
//! emptied by moving what is left in it, and changes its class.
//!
//! # What must stay absent
//!
//! - `protocol` has no sockets, no clock, no counters, no allocation per key,
//!   no unsafe code.
//! - `store` has no wire words; `command` has no file descriptor; `server`
//!   has no cache policy.
//! - No global mutable settings. No two shards locked at once. Nothing is
//!   sent, logged, allocated or freed under a shard's lock.
//! - No sleep in a test, no fixed port, no order of tests.

#[cfg(not(loom))]
pub mod auth;
#[cfg(not(loom))]
pub mod cli;
#[cfg(not(loom))]
pub mod command;
#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
pub mod events;
#[cfg(not(loom))]
pub mod limits;
#[cfg(not(loom))]
pub mod logging;
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
#[path = "store/item/refs.rs"]
mod refs;
#[cfg(loom)]
#[allow(dead_code, reason = "its callers are not compiled")]
#[path = "store/index/version.rs"]
mod version;
