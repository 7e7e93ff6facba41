//! UDP sockets: every worker has one of its own for each address, and the
//! system deals the datagrams out among them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{Config, Datagrams, ProtocolMode};
use crate::server::error::StartError;
use crate::server::listen::lacks_family;

/// One worker's socket for an address.
pub(in crate::server) struct Bound {
    socket: UdpSocket,
    pub(in crate::server) protocol: ProtocolMode,
    /// Datagrams may be waiting.
    pub(in crate::server) readable: bool,
}

/// Binds the sockets of all workers, a list for each. An ephemeral port is
/// the same for all of them.
pub(in crate::server) fn bind_all(config: &Config) -> Result<Vec<Vec<Bound>>, StartError> {
    let mut workers: Vec<Vec<Bound>> = (0..config.threads).map(|_| Vec::new()).collect();
    let mut ephemeral = 0;
    for place in &config.udp {
        let mut address = place.address;
        if address.port() == 0 {
            address.set_port(ephemeral);
        }
        for (index, worker) in workers.iter_mut().enumerate() {
            let socket = match bind(address, index == 0) {
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

/// Binds one of the sockets that share an address, the first of which must
/// find it free: others who share ports would take a part of the requests.
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

    pub(in crate::server) fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// Its descriptor and its address, as operators are told of them.
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

    /// Receives one datagram.
    ///
    /// # Errors
    /// None is waiting, or an earlier answer did not arrive.
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

    pub(in crate::server) fn register(
        &mut self,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE)
    }
}
