//! The sockets of a server: bound, passed by the service manager, or taken over
//! from the server before.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::unistd::getpid;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::Config;
use crate::server::error::StartError;
use crate::server::handover::channel::{Channel, Message, Role};
use crate::server::handover::predecessor::Predecessor;
use crate::server::inherited::Inherited;
use crate::server::listen::{Listening, SocketFile, bind_all, take_inherited};
use crate::server::transport::udp;

/// Would-be successors that may wait to be accepted.
const BACKLOG: i32 = 8;

/// All sockets of a server, before its threads have them. Clones are kept for a
/// successor.
pub(in crate::server) struct Sockets {
    /// Listeners for clients.
    pub(in crate::server) listeners: Vec<Listening>,
    /// Listeners of the admin page.
    pub(in crate::server) admin: Vec<Listening>,
    /// UDP sockets of each worker.
    pub(in crate::server) datagrams: Vec<Vec<udp::Bound>>,
    /// Where the server waits for a successor (`--take-over`).
    pub(in crate::server) gate: Option<GateSocket>,
}

/// Socket at which a server waits for its successor.
pub(in crate::server) struct GateSocket {
    pub(super) socket: Socket,
    /// Removes the socket's file at the end.
    file: Arc<SocketFile>,
}

impl Sockets {
    /// Binds the sockets that the settings name, apart from those that come from
    /// the predecessor.
    ///
    /// # Errors
    /// A socket cannot be bound.
    pub(in crate::server) fn open(
        config: &Config,
        mut inherited: Inherited,
        predecessor: &mut Option<Predecessor>,
    ) -> Result<Self, StartError> {
        let mut take = |endpoint: &_| {
            let taken = predecessor
                .as_mut()
                .and_then(|it| it.take_clients(endpoint));
            taken.or_else(|| inherited.take_left(endpoint))
        };
        let bound = bind_all(&config.listeners, config.backlog, &mut take)?;
        let mut take = |endpoint: &_| {
            let taken = predecessor.as_mut().and_then(|it| it.take_admin(endpoint));
            taken.or_else(|| inherited.take_left(endpoint))
        };
        let admin = bind_all(&config.admin.listeners, config.backlog, &mut take)?;
        let mut listeners = take_inherited(config, inherited).map_err(StartError::Inherited)?;
        listeners.extend(bound);
        let shared = predecessor.as_ref().map_or(&[][..], |found| found.udp());
        let datagrams = udp::bind_all(config, shared)?;
        let gate = match (&config.restart.take_over, predecessor) {
            (None, _) => None,
            (Some(path), found) => {
                let taken = found.as_mut().and_then(|found| found.take_gate());
                let gate = GateSocket::open(path, taken.map(Socket::from));
                Some(gate.map_err(|error| StartError::take_over_file(path, &error))?)
            }
        };
        Ok(Self {
            listeners,
            admin,
            datagrams,
            gate,
        })
    }

    /// Returns the listening sockets that the service manager is to store: those that
    /// it has not passed itself.
    pub(in crate::server) fn into_stored(self) -> Vec<OwnedFd> {
        let listeners = self.listeners.into_iter().chain(self.admin);
        let listeners = listeners.filter(|listener| !listener.is_inherited);
        listeners.map(Listening::leave).collect()
    }

    /// Returns further descriptors of the same sockets.
    ///
    /// # Errors
    /// The process has no more descriptors.
    pub(in crate::server) fn try_clone(&self) -> io::Result<Self> {
        let clones = |listeners: &[Listening]| -> io::Result<_> {
            listeners.iter().map(Listening::try_clone).collect()
        };
        let datagrams = self.datagrams.iter();
        let datagrams = datagrams.map(|worker| worker.iter().map(udp::Bound::try_clone).collect());
        let gate = self.gate.as_ref().map(GateSocket::try_clone);
        Ok(Self {
            listeners: clones(&self.listeners)?,
            admin: clones(&self.admin)?,
            datagrams: datagrams.collect::<io::Result<_>>()?,
            gate: gate.transpose()?,
        })
    }

    /// Makes this process remove the files of unix sockets at the end.
    pub(in crate::server) fn own_files(&self) {
        let listeners = self.listeners.iter().chain(&self.admin);
        listeners.for_each(Listening::own_file);
        if let Some(gate) = &self.gate {
            gate.file.become_ours();
        }
    }

    /// Sends the listeners to a would-be successor, and then what else it must
    /// know.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn offer(&self, channel: &Channel, file: Option<(u64, u64)>) -> io::Result<()> {
        let send =
            |role, socket: BorrowedFd<'_>| channel.send(&Message::Listener(role), Some(socket));
        for listener in &self.listeners {
            let role = match listener.is_inherited {
                true => Role::Inherited,
                false => Role::Clients,
            };
            send(role, listener.as_fd())?;
        }
        for listener in &self.admin {
            send(Role::Admin, listener.as_fd())?;
        }
        if let Some(gate) = &self.gate {
            send(Role::Successors, gate.socket.as_fd())?;
        }
        let udp = self.datagrams.first().map_or(&[][..], |sockets| sockets);
        let udp = udp.iter().filter_map(udp::Bound::local_addr);
        let udp = udp.map(|address| address.to_string()).collect();
        let process = getpid().as_raw();
        channel.send(&Message::Offered { process, udp, file }, None)
    }
}

impl GateSocket {
    /// Uses the socket taken from the predecessor. Without one, binds it, and
    /// replaces a file to which no process listens.
    fn open(path: &Path, taken: Option<Socket>) -> io::Result<Self> {
        let (socket, file) = match taken {
            Some(socket) => (socket, SocketFile::of_predecessor(path)),
            None => (bind(path)?, SocketFile::of(path)),
        };
        socket.set_nonblocking(true)?;
        let file = Arc::new(file);
        Ok(Self { socket, file })
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            file: Arc::clone(&self.file),
        })
    }
}

fn bind(path: &Path) -> io::Result<Socket> {
    SocketFile::remove_stale(path, |path| Channel::connect(path).is_ok())?;
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // The owner alone may take over. Set before `listen`.
    SocketFile::set_mode(path, 0o600)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}
