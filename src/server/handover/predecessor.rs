//! The running server, as the process that takes over from it sees it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{Endpoint, RestartSettings};
use crate::limits::HANDOVER_WAIT_MAX;
use crate::server::error::StartError;
use crate::server::handover::channel::{Channel, Message, Role, VERSION};
use crate::server::inherited::{Inherited, listens_at};

/// A running server that hands over.
#[derive(Debug)]
pub(in crate::server) struct Predecessor {
    path: PathBuf,
    channel: Channel,
    process: i32,
    /// Its listening sockets that are not taken yet.
    listeners: Vec<(Role, OwnedFd)>,
    udp: Vec<SocketAddr>,
    /// Device and inode of its memory file, if that has a name.
    file: Option<(u64, u64)>,
    /// The memory that it has handed over.
    memory: Option<File>,
}

impl Predecessor {
    /// Connects to the server that listens at `path`, and receives its sockets.
    /// Returns `None` if there is no server.
    ///
    /// # Errors
    /// The server refuses, or has failed.
    pub(in crate::server) fn find(path: &Path) -> Result<Option<Self>, StartError> {
        let failed = |error: io::Error| failure(path, &error);
        let channel = match Channel::connect(path) {
            Ok(channel) => channel,
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => return Ok(None),
                _ => return Err(failed(error)),
            },
        };
        let mut found = Self {
            path: path.to_path_buf(),
            channel,
            process: 0,
            listeners: Vec::new(),
            udp: Vec::new(),
            file: None,
            memory: None,
        };
        found.receive_sockets().map_err(failed)?;
        Ok(Some(found))
    }

    fn receive_sockets(&mut self) -> io::Result<()> {
        self.channel.set_patience(Some(HANDOVER_WAIT_MAX))?;
        self.channel.send(&Message::Hello(VERSION), None)?;
        loop {
            match self.channel.receive()? {
                (Message::Listener(role), Some(socket)) => self.listeners.push((role, socket)),
                (Message::Offered { process, udp, file }, _) => {
                    self.process = process;
                    self.udp = udp.iter().filter_map(|text| text.parse().ok()).collect();
                    self.file = file;
                    return self.channel.set_patience(None);
                }
                (Message::Refused(reason), _) => return Err(io::Error::other(reason)),
                _ => return Err(ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Returns its process ID.
    pub(in crate::server) fn process(&self) -> i32 {
        self.process
    }

    /// Fails unless both servers keep their items in the same file, or both in
    /// none.
    ///
    /// # Errors
    /// They do not: the items could not be taken over.
    pub(in crate::server) fn check_memory(
        &self,
        settings: &RestartSettings,
    ) -> Result<(), StartError> {
        let named = settings.memory_file.as_deref();
        let fault = match (named, self.file) {
            (None, None) => return Ok(()),
            (Some(path), Some(file)) if identity(path) == Some(file) => return Ok(()),
            (None, Some(_)) => "it keeps its items in a file: give the same -e (--memory-file)",
            (Some(_), Some(_)) => "it keeps its items in another file than -e (--memory-file)",
            (Some(_), None) => "it does not keep its items in a file: omit -e (--memory-file)",
        };
        Err(StartError::take_over(&self.path, &fault))
    }

    /// Takes the listener for clients at `endpoint`, if the server has it. Port 0
    /// stands for any port.
    pub(in crate::server) fn take_clients(&mut self, endpoint: &Endpoint) -> Option<OwnedFd> {
        self.take(&[Role::Clients, Role::Inherited], endpoint)
    }

    /// Takes the admin listener at `endpoint`, if the server has it.
    pub(in crate::server) fn take_admin(&mut self, endpoint: &Endpoint) -> Option<OwnedFd> {
        self.take(&[Role::Admin], endpoint)
    }

    fn take(&mut self, roles: &[Role], endpoint: &Endpoint) -> Option<OwnedFd> {
        let is_it = |(role, socket): &(Role, OwnedFd)| {
            roles.contains(role) && listens_at(socket.as_fd(), endpoint)
        };
        let place = self.listeners.iter().position(is_it)?;
        Some(self.listeners.swap_remove(place).1)
    }

    /// Takes the sockets that the service manager had passed to the server.
    pub(in crate::server) fn take_inherited(&mut self) -> Inherited {
        let mut inherited = Inherited::default();
        while let Some(socket) = self.take_role(Role::Inherited) {
            inherited.add_listener(socket);
        }
        inherited
    }

    /// Takes the socket at which the server waits for successors.
    pub(in crate::server) fn take_gate(&mut self) -> Option<OwnedFd> {
        self.take_role(Role::Successors)
    }

    /// Takes the first listener with this role.
    fn take_role(&mut self, role: Role) -> Option<OwnedFd> {
        let place = self.listeners.iter().position(|(its, _)| *its == role)?;
        Some(self.listeners.remove(place).1)
    }

    /// Returns the UDP addresses that it has bound.
    pub(in crate::server) fn udp(&self) -> &[SocketAddr] {
        &self.udp
    }

    /// Makes the server stop serving, and waits for its memory.
    ///
    /// # Errors
    /// The server goes on, or has ended.
    pub(in crate::server) fn receive_memory(&mut self) -> Result<File, StartError> {
        // The rest is not wanted. The server keeps its own descriptors of them.
        self.listeners.clear();
        let received = (|| {
            self.channel.send(&Message::Ready, None)?;
            let memory = match self.channel.receive()? {
                (Message::Memory, Some(memory)) => File::from(memory),
                (Message::Refused(reason), _) => return Err(io::Error::other(reason)),
                _ => return Err(ErrorKind::InvalidData.into()),
            };
            Ok((memory.try_clone()?, memory))
        })();
        let (copy, memory) = received.map_err(|error| failure(&self.path, &error))?;
        self.memory = Some(copy);
        Ok(memory)
    }

    /// Returns the memory that it has handed over; `None` before.
    pub(in crate::server) fn memory(&self) -> Option<&File> {
        self.memory.as_ref()
    }

    /// Tells the server that this one serves, so that it ends.
    ///
    /// # Errors
    /// The server has ended already. Nothing is to be done about it.
    pub(in crate::server) fn confirm(self) -> io::Result<()> {
        self.channel.send(&Message::Serving, None)
    }
}

/// Returns the error for a conversation that has failed.
fn failure(path: &Path, error: &io::Error) -> StartError {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
            let reason = "the running server has ended, or another process takes over";
            StartError::take_over(path, &reason)
        }
        ErrorKind::WouldBlock => StartError::take_over(path, &"the running server does not answer"),
        _ => StartError::take_over(path, error),
    }
}

/// Returns device and inode of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
