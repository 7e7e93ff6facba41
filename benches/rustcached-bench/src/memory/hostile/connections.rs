//! Thousands of hostile connections on a single poll.
//!
//! Opens connections gradually and sends each connection's script as far as the server accepts it.
//! A turn moves a bounded number of bytes and never waits, so the same thread can measure latency.
//! A connection closed by the server is dropped and not reopened.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use rustls::ClientConnection;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::failure::Failure;
use crate::memory::hostile::plan::{Group, Reading, Security};
use crate::memory::hostile::script::Script;

/// Maximum bytes per turn that a connection sends, and that all connections send.
const SEND_BYTES: usize = 64 * 1024;
const TURN_BYTES: usize = 256 * 1024;
/// Maximum number of connections opened per turn, and of connections being opened. The latter is
/// below the backlog.
const OPEN_AT_ONCE: usize = 8;
const OPENING: usize = 128;
/// Receive buffer of a connection that does not read, in bytes. Small, so that the server has to
/// hold the output.
const RECEIVE_BUFFER: usize = 4096;
/// Segment size of such a connection, that of Ethernet. With the large segments of the loopback
/// device, the kernel grants the server megabytes of send buffer per connection.
const SEGMENT_BYTES: u32 = 1448;
/// Bytes that a slow reader takes at a time, and the interval.
const SLOW_READ_BYTES: usize = 4096;
const SLOW_READ_EVERY: Duration = Duration::from_millis(40);
/// Maximum number of slow readers served per turn.
const SLOW_READS_AT_ONCE: usize = 16;

/// All hostile connections of a scene.
pub(super) struct HostileConnections {
    address: SocketAddr,
    groups: VecDeque<(Group, usize)>,
    poll: Poll,
    events: Events,
    connections: Vec<HostileConnection>,
    ready: VecDeque<usize>,
    slow: VecDeque<(Instant, usize)>,
    opening: usize,
    opened: usize,
    buffer: Vec<u8>,
}

struct HostileConnection {
    stream: Option<TcpStream>,
    script: Script,
    reading: Reading,
    security: Security,
    tls: Option<Box<ClientConnection>>,
    is_open: bool,
    is_queued: bool,
}

/// Result of a step of a connection.
enum Step {
    /// Bytes moved; there may be more.
    Moved(usize),
    /// The socket is not ready, or there is nothing left to do.
    Blocked,
}

impl HostileConnections {
    /// Creates the connections of these groups, which [`HostileConnections::turn`] opens in order.
    pub(super) fn new(address: SocketAddr, groups: Vec<Group>) -> Result<Self, Failure> {
        Ok(HostileConnections {
            address,
            groups: groups.into_iter().map(|group| (group, 0)).collect(),
            poll: Poll::new().map_err(Failure::io("making a poll"))?,
            events: Events::with_capacity(256),
            connections: Vec::new(),
            ready: VecDeque::new(),
            slow: VecDeque::new(),
            opening: 0,
            opened: 0,
            buffer: vec![0; SEND_BYTES],
        })
    }

    /// Returns the number of connections that the server's kernel has accepted so far.
    pub(super) fn opened(&self) -> usize {
        self.opened
    }

    /// Returns whether all connections have been opened.
    pub(super) fn is_complete(&self) -> bool {
        self.groups.is_empty() && self.opening == 0
    }

    /// Opens, sends and reads a bounded amount. Returns whether anything happened.
    pub(super) fn turn(&mut self) -> Result<bool, Failure> {
        let mut happened = self.open_some()?;
        self.gather_events()?;
        let mut budget = TURN_BYTES;
        while budget > 0 {
            let Some(index) = self.ready.pop_front() else {
                break;
            };
            happened = true;
            budget = budget.saturating_sub(self.serve(index));
        }
        happened |= self.read_slowly();
        Ok(happened)
    }

    fn open_some(&mut self) -> Result<bool, Failure> {
        for n in 0..OPEN_AT_ONCE {
            if self.opening >= OPENING {
                return Ok(n > 0);
            }
            let Some((group, next)) = self.groups.front_mut() else {
                return Ok(n > 0);
            };
            if *next == group.count {
                self.groups.pop_front();
                continue;
            }
            let connection = HostileConnection::new(self.address, group, *next)?;
            *next += 1;
            self.register(connection)?;
        }
        Ok(true)
    }

    fn register(&mut self, mut connection: HostileConnection) -> Result<(), Failure> {
        let index = self.connections.len();
        if let Some(stream) = &mut connection.stream {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registering = Failure::io("registering a connection");
            let registry = self.poll.registry();
            registry
                .register(stream, Token(index), interest)
                .map_err(registering)?;
        }
        if connection.reading == Reading::Slowly {
            self.slow
                .push_back((Instant::now() + SLOW_READ_EVERY, index));
        }
        self.opening += 1;
        self.connections.push(connection);
        Ok(())
    }

    fn gather_events(&mut self) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(Failure::io("polling connections")(error));
            }
            _ => {}
        }
        for event in &self.events {
            let Token(index) = event.token();
            let connection = &mut self.connections[index];
            if !connection.is_open {
                connection.is_open = true;
                self.opening -= 1;
                self.opened += usize::from(!event.is_error());
            }
            if !connection.is_queued && (event.is_writable() || connection.wants_input()) {
                connection.is_queued = true;
                self.ready.push_back(index);
            }
        }
        Ok(())
    }

    /// Serves a connection. Returns the bytes moved, at least 1.
    fn serve(&mut self, index: usize) -> usize {
        let connection = &mut self.connections[index];
        connection.is_queued = false;
        match connection.step(&mut self.buffer) {
            Ok(Step::Moved(bytes)) => {
                connection.is_queued = true;
                self.ready.push_back(index);
                bytes.max(1)
            }
            Ok(Step::Blocked) => 1,
            Err(_) => {
                connection.stream = None;
                1
            }
        }
    }

    /// Reads on slow readers that are due.
    fn read_slowly(&mut self) -> bool {
        let now = Instant::now();
        for n in 0..SLOW_READS_AT_ONCE {
            let Some(&(due, index)) = self.slow.front() else {
                return n > 0;
            };
            if due > now {
                return n > 0;
            }
            self.slow.pop_front();
            let connection = &mut self.connections[index];
            let buffer = &mut self.buffer[..SLOW_READ_BYTES];
            match connection
                .stream
                .as_mut()
                .map(|stream| bytes_or_zero(stream.read(buffer)))
            {
                Some(Ok(_)) => self.slow.push_back((now + SLOW_READ_EVERY, index)),
                _ => connection.stream = None,
            }
        }
        true
    }
}

impl HostileConnection {
    fn new(address: SocketAddr, group: &Group, index: usize) -> Result<Self, Failure> {
        let tls = match &group.security {
            Security::Clear => None,
            Security::Records(config) | Security::RawAfterHandshake(config) => {
                let session = config.session();
                let failed = |error| Failure::Usage(format!("TLS: {error}"));
                Some(Box::new(session.map_err(failed)?))
            }
        };
        let connecting = Failure::io("opening a connection");
        let stream = connect(address, group.reading).map_err(connecting)?;
        Ok(HostileConnection {
            stream: Some(stream),
            script: (group.script)(index),
            reading: group.reading,
            security: group.security.clone(),
            tls,
            is_open: false,
            is_queued: false,
        })
    }

    /// Returns whether the connection handles input as soon as it arrives.
    fn wants_input(&self) -> bool {
        self.reading == Reading::All || self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Sends and, if the connection reads all input, reads.
    fn step(&mut self, buffer: &mut [u8]) -> io::Result<Step> {
        let Some(stream) = &mut self.stream else {
            return Ok(Step::Blocked);
        };
        let mut bytes = 0;
        if let Some(tls) = &mut self.tls {
            bytes += continue_handshake(tls, stream)?;
            if tls.is_handshaking() {
                return Ok(if bytes > 0 {
                    Step::Moved(bytes)
                } else {
                    Step::Blocked
                });
            }
        }
        bytes += match (&self.security, &mut self.tls) {
            (Security::Records(_), Some(tls)) => send_records(tls, stream, &mut self.script)?,
            _ => {
                let sent = bytes_or_zero(stream.write(self.script.chunk()))?;
                self.script.advance(sent);
                sent
            }
        };
        if self.reading == Reading::All {
            bytes += read(stream, buffer)?;
        }
        Ok(if bytes > 0 {
            Step::Moved(bytes)
        } else {
            Step::Blocked
        })
    }
}

fn connect(address: SocketAddr, reading: Reading) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    if reading != Reading::All {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.set_tcp_mss(SEGMENT_BYTES)?;
    }
    match socket.connect(&SockAddr::from(address)) {
        Err(error) if !is_under_way(&error) => return Err(error),
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

fn is_under_way(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(Errno::EINPROGRESS as i32)
}

/// Returns the bytes moved, 0 if the socket is not ready.
fn bytes_or_zero(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected
            ) =>
        {
            Ok(0)
        }
        result => result,
    }
}

fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    match stream.read(buffer) {
        Ok(0) => Err(ErrorKind::ConnectionReset.into()),
        result => bytes_or_zero(result),
    }
}

/// Continues the handshake unless it is complete. Returns the bytes moved.
fn continue_handshake(tls: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<usize> {
    let mut bytes = 0;
    while tls.is_handshaking() {
        let mut now = 0;
        while tls.wants_write() {
            match bytes_or_zero(tls.write_tls(stream))? {
                0 => break,
                n => now += n,
            }
        }
        if tls.is_handshaking() {
            let n = match tls.read_tls(stream) {
                Ok(0) => return Err(ErrorKind::ConnectionReset.into()),
                result => bytes_or_zero(result)?,
            };
            tls.process_new_packets().map_err(io::Error::other)?;
            now += n;
        }
        if now == 0 {
            return Ok(bytes);
        }
        bytes += now;
    }
    while tls.wants_write() {
        match bytes_or_zero(tls.write_tls(stream))? {
            0 => break,
            n => bytes += n,
        }
    }
    Ok(bytes)
}

/// Encrypts and sends a part of the script. Returns the bytes moved.
fn send_records(
    tls: &mut ClientConnection,
    stream: &mut TcpStream,
    script: &mut Script,
) -> io::Result<usize> {
    let taken = tls.writer().write(script.chunk())?;
    script.advance(taken);
    let mut bytes = taken;
    while tls.wants_write() {
        match bytes_or_zero(tls.write_tls(stream))? {
            0 => break,
            n => bytes += n,
        }
    }
    Ok(bytes)
}
