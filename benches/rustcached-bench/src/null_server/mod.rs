//! A server without a store: reads requests and answers each from prepared values.
//!
//! It makes the system calls that every server makes and little else: a poll for all ready
//! connections, a read for each of them, and a write for the replies to each read. Its cost is a
//! lower bound for a server with these system calls. `floor` runs it as a process of its own.
//! `answers` encodes the replies.

mod answers;

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::failure::Failure;

use self::answers::{Canned, Responder, Unsent};

const LISTENER: Token = Token(usize::MAX);
/// Size of the read buffer and maximum line length, in bytes.
const BUFFER: usize = 64 * 1024;

/// Options of the server without a store.
#[derive(Clone, Debug, clap::Args)]
pub struct NullServerOptions {
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: SocketAddr,
    /// Number of different values: a single value stays in the CPU's caches, many come from memory
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub values: u32,
    /// Value size in bytes
    #[arg(long, value_name = "BYTES")]
    pub value_size: usize,
}

/// Serves until an error occurs or the process is killed.
pub fn serve(options: &NullServerOptions) -> Result<Infallible, Failure> {
    let mut server = Server::new(options)?;
    let mut events = Events::with_capacity(1024);
    loop {
        match server.poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result.map_err(Failure::io("waiting for requests"))?,
        }
        for event in &events {
            match event.token() {
                LISTENER => server
                    .accept()
                    .map_err(Failure::io("accepting a connection"))?,
                Token(number) => server.turn(number, event),
            }
        }
    }
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    clients: Slab<Client>,
    responder: Responder,
    buffer: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    /// The socket may be readable. The poll is edge-triggered and does not report that again.
    readable: bool,
    /// Bytes of an incomplete line.
    kept: Vec<u8>,
    /// Missing bytes of a data block.
    skip: usize,
    /// Replies that the socket had no room for.
    unsent: Unsent,
}

/// Whether a connection stays open after a turn.
enum Turn {
    Wait,
    Close,
}

impl Server {
    fn new(options: &NullServerOptions) -> Result<Self, Failure> {
        // Create the values before a client can connect.
        let canned = Canned::new(options.values, options.value_size);
        let listening = || Failure::io(format!("listening on {}", options.listen));
        let mut listener = TcpListener::bind(options.listen).map_err(listening())?;
        let poll = Poll::new().map_err(Failure::io("making a poll"))?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(listening())?;
        Ok(Server {
            poll,
            listener,
            clients: Slab::new(),
            responder: Responder::new(canned),
            buffer: vec![0; BUFFER],
        })
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let (mut stream, _) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let place = self.clients.vacant_entry();
            // Registering for writability too is free with TCP: the kernel reports it only after a
            // short write.
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = Token(place.key());
            self.poll
                .registry()
                .register(&mut stream, token, interest)?;
            place.insert(Client {
                stream,
                readable: false,
                kept: Vec::new(),
                skip: 0,
                unsent: Unsent::default(),
            });
        }
    }

    fn turn(&mut self, number: usize, event: &Event) {
        let Some(client) = self.clients.get_mut(number) else {
            return;
        };
        let ended = event.is_read_closed() || event.is_error();
        client.readable |= event.is_readable() || ended;
        let turn = client.turn(&mut self.responder, &mut self.buffer, ended);
        if !matches!(turn, Ok(Turn::Wait)) {
            // Closing the stream removes it from the poll. A lost client is not an error of this
            // server.
            self.clients.remove(number);
        }
    }
}

impl Client {
    /// Reads and answers until there is no input or the socket is full. After a short read the
    /// socket is normally empty. If `ended` is set, the end of the stream follows, so the loop
    /// reads on.
    fn turn(
        &mut self,
        responder: &mut Responder,
        buffer: &mut [u8],
        ended: bool,
    ) -> io::Result<Turn> {
        loop {
            if !self.unsent.write(&mut self.stream, &responder.canned)? || !self.readable {
                return Ok(Turn::Wait);
            }
            let kept = self.kept.len();
            buffer[..kept].copy_from_slice(&self.kept);
            let room = &mut buffer[kept..];
            let n = match self.stream.read(room) {
                Ok(0) => return Ok(Turn::Close),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(Turn::Wait);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.readable = ended || n == room.len();
            self.kept.clear();
            let data = &buffer[..kept + n];
            let used = responder.answer(data, &mut self.skip);
            if data.len() - used == buffer.len() {
                return Ok(Turn::Close);
            }
            self.kept.extend_from_slice(&data[used..]);
            if !responder.reply.write(&mut self.stream, &responder.canned)? {
                std::mem::swap(&mut self.unsent, &mut responder.reply);
            }
        }
    }
}
