//! Runs the server in process, on ephemeral ports and with a `Config` chosen by
//! the test. Stops it on drop. Tests move its time forward instead of waiting.

use std::net::SocketAddr;
use std::time::Duration;

use rustcached::config::{ClientCertificates, Config, Datagrams, Endpoint, Listener, ProtocolMode};

use crate::TempDir;
use crate::client::{Address, Client};
use crate::tls::Files;

/// A running server.
pub struct Server {
    inner: rustcached::server::Server,
    address: Address,
    _directory: Option<TempDir>,
}

impl Server {
    /// Starts two workers on a TCP port, with default settings otherwise.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// Starts the server as [`Server::start`] does, with `change` applied to
    /// the settings.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let inner = Self::launch(Endpoint::Tcp(any_port), change);
        let address = Address::Tcp(inner.tcp_addrs()[0]);
        Self {
            inner,
            address,
            _directory: None,
        }
    }

    /// Starts the server on a unix socket.
    pub fn start_unix() -> Self {
        Self::unix_with(|_| {})
    }

    /// Starts the server as [`Server::start_unix`] does, with `change` applied
    /// to the settings.
    pub fn unix_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = TempDir::create();
        let path = directory.path("socket");
        let endpoint = Endpoint::Unix {
            path: path.clone(),
            mode: 0o700,
        };
        Self {
            inner: Self::launch(endpoint, change),
            address: Address::Unix(path),
            _directory: Some(directory),
        }
    }

    /// Starts the server as [`Server::start`] does, with UDP as well. Returns
    /// its UDP address too.
    pub fn start_udp() -> (Self, SocketAddr) {
        let server = Self::with(|config| {
            config.udp.push(Datagrams {
                address: SocketAddr::from(([127, 0, 0, 1], 0)),
                protocol: ProtocolMode::Auto,
                optional: false,
            });
        });
        let address = server.inner.udp_addrs()[0];
        (server, address)
    }

    /// Starts the server with TLS on a TCP port.
    pub fn start_tls() -> Self {
        Self::tls_with(|_| {})
    }

    /// Starts the server as [`Server::start_tls`] does, with `change` applied
    /// to the settings.
    pub fn tls_with(change: impl FnOnce(&mut Config)) -> Self {
        let files = Files::create();
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let inner = Self::launch(Endpoint::Tcp(any_port), |config| {
            config.listeners[0].tls = Some(ClientCertificates::Ignore);
            config.tls = Some(files.settings());
            change(config);
        });
        let address = Address::Tls(inner.tcp_addrs()[0], files.trusting());
        Self {
            inner,
            address,
            _directory: Some(files.into_directory()),
        }
    }

    fn launch(endpoint: Endpoint, change: impl FnOnce(&mut Config)) -> rustcached::server::Server {
        let mut config = Config {
            listeners: vec![Listener {
                endpoint,
                protocol: ProtocolMode::Auto,
                tls: None,
                proxy: false,
                optional: false,
            }],
            threads: 2,
            ..Config::default()
        };
        change(&mut config);
        match rustcached::server::Server::start(config) {
            Ok(server) => server,
            Err(error) => panic!("the server must start: {error:?}"),
        }
    }

    /// Returns the address of the first stream listener.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// Returns the address of the TCP listener `number`, for clients without TLS.
    pub fn tcp_address(&self, number: usize) -> Address {
        Address::Tcp(self.inner.tcp_addrs()[number])
    }

    /// Returns the addresses of the admin listeners, as URLs.
    pub fn admin_urls(&self) -> &[String] {
        self.inner.admin_urls()
    }

    /// Connects a client to [`Server::address`].
    pub fn client(&self) -> Client {
        Client::connect(&self.address)
    }

    /// Makes the thread `victim` panic.
    pub fn inject_panic(&self, victim: rustcached::server::PanicTarget) {
        self.inner.inject_panic(victim);
    }

    /// Blocks until a client or a thread requests a stop.
    pub fn wait_for_stop_request(&self) {
        self.inner.wait_for_stop_request();
    }

    /// Moves the server's time forward by `seconds` and 125 ms. Items expire up
    /// to an eighth of a second late, never early.
    pub fn advance(&self, seconds: u64) {
        const GRACE: Duration = Duration::from_millis(125);
        self.inner
            .advance_clock(Duration::from_secs(seconds) + GRACE);
    }
}
