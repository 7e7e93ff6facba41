//! UDP sockets. Each worker has its own for each address (`SO_REUSEPORT`), and
//! the system distributes the datagrams.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{Config, Datagrams, ProtocolMode};
use crate::server::error::StartError;
use crate::server::listen::lacks_family;

/// UDP socket of one worker for one address.
pub(in crate::server) struct Bound {
    socket: UdpSocket,
    /// Protocol of its requests.
    pub(in crate::server) protocol: ProtocolMode,
    /// Set while datagrams may be waiting.
    pub(in crate::server) readable: bool,
}

/// Binds the UDP sockets of all workers. Returns a list for each worker.
///
/// All addresses with port 0 share one ephemeral port. An optional address is
/// skipped if the system lacks its family. The addresses `shared` belong to a
/// server that hands over: both have them for a while.
pub(in crate::server) fn bind_all(
    config: &Config,
    shared: &[SocketAddr],
) -> Result<Vec<Vec<Bound>>, StartError> {
    let mut workers: Vec<Vec<Bound>> = (0..config.threads).map(|_| Vec::new()).collect();
    let mut ephemeral = 0;
    for place in &config.udp {
        let mut address = place.address;
        if address.port() == 0 {
            address.set_port(ephemeral);
        }
        let known = shared.iter().find(|known| {
            let any_port = address.port() == 0;
            known.ip() == address.ip() && (any_port || known.port() == address.port())
        });
        address = known.copied().unwrap_or(address);
        for (index, worker) in workers.iter_mut().enumerate() {
            let socket = match bind(address, index == 0 && known.is_none()) {
                Ok(socket) => socket,
                Err(error) if place.optional && lacks_family(&error) => break,
                Err(error) => return Err(StartError::udp(address, error)),
            };
            if let Ok(bound) = socket.local_addr() {
                address = bound;
            }
            worker.push(Bound::new(socket, place));
        }
        if place.address.port() == 0 {
            ephemeral = address.port();
        }
    }
    Ok(workers)
}

/// Binds one of the sockets that share an address. The first one checks that no
/// other process uses the address: with `SO_REUSEPORT`, both would get a part
/// of the requests.
fn bind(address: SocketAddr, first: bool) -> io::Result<UdpSocket> {
    if first && address.port() != 0 {
        open(address)?.bind(&address.into())?;
    }
    let socket = open(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Bound {
    fn new(socket: UdpSocket, place: &Datagrams) -> Self {
        Self {
            socket,
            protocol: place.protocol,
            readable: true,
        }
    }

    /// Returns a socket with another descriptor of the same one.
    ///
    /// # Errors
    /// The process has no more descriptors.
    pub(in crate::server) fn try_clone(&self) -> io::Result<Self> {
        let descriptor = self.socket.as_fd().try_clone_to_owned()?;
        Ok(Self {
            socket: UdpSocket::from_std(descriptor.into()),
            protocol: self.protocol,
            readable: true,
        })
    }

    /// Returns the bound address.
    pub(in crate::server) fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// Returns the descriptor and the address as `stats conns` reports them.
    pub(in crate::server) fn about(&self) -> (i32, String) {
        let name = match self.local_addr() {
            Some(address) if address.is_ipv4() => format!("udp:{address}"),
            Some(address) => format!("udp6:{address}"),
            None => String::new(),
        };
        (self.fd(), name)
    }

    pub(in crate::server) fn fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    /// Receives one datagram. Returns its length and its sender.
    ///
    /// # Errors
    /// `WouldBlock` if none is waiting, or the error of an earlier reply that
    /// could not be delivered.
    pub(in crate::server) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer)
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// The system does not take it.
    pub(in crate::server) fn send(&self, datagram: &[u8], client: SocketAddr) -> io::Result<usize> {
        self.socket.send_to(datagram, client)
    }

    /// Registers the socket with a poll.
    pub(in crate::server) fn register(
        &mut self,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE)
    }
}
