//! An in-memory server for fuzz targets and tests: one worker without thread or
//! listener, and the client's end of its only connection. Input passes through
//! the code that serves real clients. The server itself does not use it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use mio::Events;

use crate::cluster::Cluster;
use crate::command::{Output, Stalled};
use crate::config::{Config, ProtocolMode};
use crate::events::Kinds;
use crate::server::connection::context::Context;
use crate::server::connection::timing::Timing;
use crate::server::stop::StopRequest;
use crate::server::threads::new_store;
use crate::server::transport::stream::Stream;
use crate::server::worker::event_loop::Worker;
use crate::server::worker::handle::Arrival;
use crate::shared::Shared;
use crate::stats::HotSampler;
use crate::store::Store;
use crate::sync::Ordering;

const EVENTS_MAX: usize = 8;
const CHUNK_BYTES: usize = 64 * 1024;

/// A worker with one connection, driven by its caller.
pub struct Loopback {
    worker: Worker,
    events: Events,
    client: UnixStream,
    store: Arc<Store>,
    closed: bool,
    /// Keeps the channel of `shutdown` open.
    _stop_requests: Receiver<StopRequest>,
}

impl Loopback {
    /// Creates a store and a connection to it. The listeners and threads of
    /// `config` are ignored.
    ///
    /// # Errors
    /// The system has no more descriptors, or the cluster file cannot be used.
    pub fn new(config: Config) -> io::Result<Self> {
        Self::connect(config, false)
    }

    /// Creates a connection as [`Loopback::new`] does, which begins with a header of
    /// the PROXY protocol.
    ///
    /// # Errors
    /// As for [`Loopback::new`].
    pub fn proxied(config: Config) -> io::Result<Self> {
        Self::connect(config, true)
    }

    fn connect(config: Config, proxy: bool) -> io::Result<Self> {
        let mut shared = Shared::new(Config {
            threads: 1,
            ..config
        });
        if let Some(path) = &shared.config.cluster_file {
            shared.cluster = Some(Cluster::load(path).map_err(io::Error::other)?);
        }
        let shared = Arc::new(shared);
        let store = Arc::new(new_store(&shared, None, None));
        shared.connections.open.fetch_add(1, Ordering::Relaxed);
        let (stop, stop_requests) = bounded(1);
        let context = Context {
            store: Arc::clone(&store),
            local: store.local(),
            out: Output::default(),
            stop,
            now: shared.clock.now(),
            connection: -1,
            watched: Kinds::NONE,
            watcher_inbox: None,
            stalled: Arc::new(Stalled::new(1, shared.config.client_memory_limit, false)),
            worker: 0,
            commands: 0,
            sampler: HotSampler::new(Arc::clone(&shared.hot_keys[0]), 0),
            samples: false,
            curve: store.sampling().map(|sampling| sampling.sampler()),
            timing: Timing::new(shared.latencies.first().cloned()),
            shared,
        };
        let (worker, handle) = Worker::new(context, Vec::new())?;
        let (client, served) = UnixStream::pair()?;
        client.set_nonblocking(true)?;
        served.set_nonblocking(true)?;
        let served = mio::net::UnixStream::from_std(served);
        handle.hand_over(Arrival {
            stream: Stream::Unix(served),
            peer: None,
            local: None,
            protocol: ProtocolMode::Auto,
            proxy,
        });
        Ok(Self {
            worker,
            events: Events::with_capacity(EVENTS_MAX),
            client,
            store,
            closed: false,
            _stop_requests: stop_requests,
        })
    }

    /// Sends `input` and returns all replies to it. Input after the connection
    /// is closed is ignored.
    pub fn feed(&mut self, mut input: &[u8]) -> Vec<u8> {
        let mut replies = Vec::new();
        loop {
            let sent = self.send(input);
            input = &input[sent..];
            self.worker.turn(&mut self.events, Some(Duration::ZERO));
            let quiet = self.events.is_empty() && self.worker.is_idle();
            let received = self.receive(&mut replies);
            if self.closed || quiet && sent == 0 && received == 0 && input.is_empty() {
                return replies;
            }
        }
    }

    /// Returns whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns the bytes of input that the server keeps until more arrives.
    pub fn kept_bytes(&self) -> usize {
        self.worker.kept_bytes()
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Sends as much as the socket takes; returns the number of bytes.
    fn send(&mut self, input: &[u8]) -> usize {
        if input.is_empty() {
            return 0;
        }
        // A failed write is tried again. If the connection is closed, the next
        // read finds out.
        self.client.write(input).unwrap_or(0)
    }

    /// Appends the replies that have arrived; returns their length in bytes.
    fn receive(&mut self, replies: &mut Vec<u8>) -> usize {
        let before = replies.len();
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            match self.client.read(&mut chunk) {
                Ok(len) if len > 0 => replies.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.closed = true;
                    break;
                }
            }
        }
        replies.len() - before
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.worker.close_all();
    }
}

#[cfg(test)]
mod tests {
    use super::Loopback;
    use crate::config::Config;

    #[test]
    fn answers_come_however_the_input_is_cut() {
        let input = b"set a 0 0 3\r\nabc\r\nget a\r\nquit\r\n";
        let expected = b"STORED\r\nVALUE a 0 3\r\nabc\r\nEND\r\n";
        for piece in [1, 7, input.len()] {
            let mut loopback = Loopback::new(Config::default()).unwrap();
            let replies: Vec<u8> = input
                .chunks(piece)
                .flat_map(|piece| loopback.feed(piece))
                .collect();
            assert_eq!(replies, expected, "{piece}");
            assert!(loopback.is_closed());
            assert_eq!(loopback.feed(b"get a\r\n"), b"");
        }
    }

    #[test]
    fn more_than_a_socket_holds_goes_both_ways() {
        let mut loopback = Loopback::new(Config::default()).unwrap();
        let value = vec![b'v'; 900_000];
        let mut input = b"set a 0 0 900000\r\n".to_vec();
        input.extend_from_slice(&value);
        input.extend_from_slice(b"\r\nget a a a\r\n");
        let replies = loopback.feed(&input);
        assert_eq!(replies.len(), 8 + 3 * (18 + 900_002) + 5);
        assert_eq!(loopback.kept_bytes(), 0);
    }
}
