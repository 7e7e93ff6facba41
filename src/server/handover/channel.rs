//! The connection between a server and its successor: a unix socket that keeps
//! the bounds of messages. A message is a JSON object, with at most one
//! descriptor.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::limits::HANDOVER_MESSAGE_MAX_BYTES;

/// Version of the exchange. Servers with different versions refuse each other.
pub(super) const VERSION: u64 = 1;

/// Longest time for which a message waits for room in the socket's buffer.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Channel {
    socket: Socket,
}

/// Purpose of a stream listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Clients of the cache.
    Clients,
    /// Clients of the cache; the socket came from the service manager.
    Inherited,
    /// Clients of the admin page.
    Admin,
    /// Successors.
    Successors,
}

/// A message. The comment says who sends it, in the order of the exchange.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// Successor: it asks for the sockets. Holds its [`VERSION`].
    Hello(u64),
    /// Either: it will not go on, for this reason.
    Refused(String),
    /// Predecessor: a listening socket, whose descriptor comes with it.
    Listener(Role),
    /// Predecessor: all listeners are sent. Its process ID, its UDP addresses, and
    /// device and inode of its memory file if that has a name.
    Offered {
        process: i32,
        udp: Vec<String>,
        file: Option<(u64, u64)>,
    },
    /// Successor: it can start as soon as it has the memory.
    Ready,
    /// Predecessor: nobody is served any more. The memory comes with it.
    Memory,
    /// Successor: it serves.
    Serving,
}

impl Message {
    fn encode(&self) -> String {
        let value = match self {
            Self::Hello(version) => json!({"say": "hello", "version": version}),
            Self::Refused(reason) => json!({"say": "refused", "reason": reason}),
            Self::Listener(role) => json!({"say": "listener", "role": role.name()}),
            Self::Offered { process, udp, file } => {
                json!({"say": "offered", "process": process, "udp": udp, "file": file})
            }
            Self::Ready => json!({"say": "ready"}),
            Self::Memory => json!({"say": "memory"}),
            Self::Serving => json!({"say": "serving"}),
        };
        value.to_string()
    }

    fn decode(text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let text = |name: &str| value[name].as_str().map(ToOwned::to_owned);
        Some(match value["say"].as_str()? {
            "hello" => Self::Hello(value["version"].as_u64()?),
            "refused" => Self::Refused(text("reason")?),
            "listener" => Self::Listener(Role::named(value["role"].as_str()?)?),
            "offered" => {
                let udp = value["udp"].as_array()?.iter();
                let udp = udp.map(|address| address.as_str().map(ToOwned::to_owned));
                let file = &value["file"];
                Self::Offered {
                    process: value["process"].as_i64()?.try_into().ok()?,
                    udp: udp.collect::<Option<_>>()?,
                    file: file[0].as_u64().zip(file[1].as_u64()),
                }
            }
            "ready" => Self::Ready,
            "memory" => Self::Memory,
            "serving" => Self::Serving,
            _ => return None,
        })
    }
}

impl Role {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Clients, "clients"),
        (Self::Inherited, "inherited"),
        (Self::Admin, "admin"),
        (Self::Successors, "successors"),
    ];

    fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(role, _)| *role == self);
        named.map_or("", |(_, name)| name)
    }

    fn named(name: &str) -> Option<Self> {
        let role = Self::ALL.iter().find(|(_, its)| *its == name);
        role.map(|(role, _)| *role)
    }
}

impl Channel {
    /// Connects to the server that listens at `path`.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` if there is none.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Self::over(socket)
    }

    /// Uses an accepted connection.
    ///
    /// # Errors
    /// The system refuses an option of the socket.
    pub(super) fn over(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(Self { socket })
    }

    /// Limits the time for which [`Channel::receive`] waits; `None` for no limit.
    ///
    /// # Errors
    /// The system refuses the option.
    pub(super) fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(patience)
    }

    /// Returns process and user of a peer that has connected. Of a peer that
    /// listens, the system knows who began to listen, which may be a server before
    /// it.
    ///
    /// # Errors
    /// The system does not know them.
    pub(super) fn peer(&self) -> io::Result<(i32, u32)> {
        let peer = socket_peercred(&self.socket)?;
        Ok((peer.pid.as_raw_nonzero().get(), peer.uid.as_raw()))
    }

    /// Sends a message, with a descriptor if there is one.
    ///
    /// # Errors
    /// The peer is gone, or does not read.
    pub(super) fn send(&self, message: &Message, with: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let text = message.encode();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = with.into_iter().collect();
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let parts = [IoSlice::new(text.as_bytes())];
        sendmsg(&self.socket, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives a message and the descriptor that came with it. Blocks until
    /// there is one.
    ///
    /// # Errors
    /// `UnexpectedEof` if the peer has closed the connection, `InvalidData` if
    /// the message makes no sense.
    pub(super) fn receive(&self) -> io::Result<(Message, Option<OwnedFd>)> {
        self.receive_with(RecvFlags::CMSG_CLOEXEC)
    }

    /// Receives a message as [`Channel::receive`] does, if one has arrived.
    ///
    /// # Errors
    /// `WouldBlock` if none has arrived; otherwise as [`Channel::receive`].
    pub(super) fn receive_arrived(&self) -> io::Result<(Message, Option<OwnedFd>)> {
        self.receive_with(RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
    }

    fn receive_with(&self, flags: RecvFlags) -> io::Result<(Message, Option<OwnedFd>)> {
        let mut text = vec![0; HANDOVER_MESSAGE_MAX_BYTES];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut text)];
            match recvmsg(&self.socket, &mut parts, &mut ancillary, flags) {
                Err(rustix::io::Errno::INTR) => {}
                received => break received?,
            }
        };
        let mut descriptor = None;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
                descriptor = descriptors.next();
            }
        }
        if received.bytes == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let message = Message::decode(&text[..received.bytes]);
        let message = message.ok_or(ErrorKind::InvalidData)?;
        Ok((message, descriptor))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{Channel, Message, Role};
    use crate::limits::HANDOVER_MESSAGE_MAX_BYTES;
    use socket2::{Domain, Socket, Type};
    use std::fs::File;
    use std::io::{ErrorKind, Read, Seek, Write};
    use std::os::fd::AsFd;

    fn pair() -> (Channel, Channel, Socket) {
        let (a, b) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).expect("a pair");
        let raw = a.try_clone().expect("descriptors");
        let over = |socket| Channel::over(socket).expect("a socket");
        (over(a), over(b), raw)
    }

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        let (here, there, _) = pair();
        let messages = [
            Message::Hello(7),
            Message::Refused("no \"room\"\n".to_owned()),
            Message::Listener(Role::Clients),
            Message::Listener(Role::Inherited),
            Message::Listener(Role::Admin),
            Message::Listener(Role::Successors),
            Message::Offered {
                process: 42,
                udp: vec!["[::1]:5".to_owned()],
                file: Some((1, u64::MAX)),
            },
            Message::Offered {
                process: i32::MAX,
                udp: Vec::new(),
                file: None,
            },
            Message::Ready,
            Message::Memory,
            Message::Serving,
        ];
        for message in messages {
            here.send(&message, None).expect("sent");
            let (received, descriptor) = there.receive().expect("received");
            assert_eq!(received, message);
            assert!(descriptor.is_none());
        }
        let none = there.receive_arrived().map_err(|error| error.kind());
        assert_eq!(none.err(), Some(ErrorKind::WouldBlock));
        drop(here);
    }

    #[test]
    fn a_descriptor_comes_with_its_message() {
        let (here, there, raw) = pair();
        let mut file: File = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC)
            .expect("memory")
            .into();
        file.write_all(b"here").expect("written");
        here.send(&Message::Memory, Some(file.as_fd()))
            .expect("sent");
        let (_, descriptor) = there.receive().expect("received");
        let mut received: File = descriptor.expect("a descriptor").into();
        let mut text = String::new();
        received.rewind().expect("seekable");
        received.read_to_string(&mut text).expect("readable");
        assert_eq!(text, "here");
        drop((here, raw));
        let closed = there.receive().map_err(|error| error.kind());
        assert_eq!(closed.err(), Some(ErrorKind::UnexpectedEof));
    }

    #[test]
    fn nonsense_is_refused() {
        let (_here, there, raw) = pair();
        let long = format!("{{\"say\":\"{}\"}}", "x".repeat(HANDOVER_MESSAGE_MAX_BYTES));
        let texts = ["x", "{}", "7", "{\"say\":1}", "{\"say\":\"dance\"}", &long];
        for text in texts {
            raw.send(text.as_bytes()).expect("sent");
            let error = there.receive().map_err(|error| error.kind());
            assert_eq!(error.err(), Some(ErrorKind::InvalidData), "{text}");
        }
    }
}
