//! A server that keeps nothing: it reads requests and answers each from canned values.
//!
//! It makes the system calls that any server makes and little else: a poll for all that is ready,
//! one read for each ready connection, one write for all that was read. What it costs is the least
//! that a server with these calls can cost. `floor` runs it as a process of its own; `answers` owns
//! what it says.

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
/// Bytes read at once, and the longest line.
const BUFFER: usize = 64 * 1024;

/// Options of the server that keeps nothing.
#[derive(Clone, Debug, clap::Args)]
pub struct NullServerOptions {
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: SocketAddr,
    /// How many canned values there are: one stays in the processor's cache, many come from memory
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub values: u32,
    /// Bytes of each
    #[arg(long, value_name = "BYTES")]
    pub value_size: usize,
}

/// Serves until something fails or the process is ended.
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
    /// Something may be there to read: the poll does not say so twice.
    readable: bool,
    /// The start of a line whose end has not come.
    kept: Vec<u8>,
    /// Bytes of a value still to come.
    skip: usize,
    /// What the socket had no room for.
    unsent: Unsent,
}

/// Whether a connection goes on.
enum Turn {
    Wait,
    Close,
}

impl Server {
    fn new(options: &NullServerOptions) -> Result<Self, Failure> {
        // Made first: whoever can connect finds the values in place.
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
            // Watching for room as well costs nothing with TCP: the kernel tells of it only after
            // a write that found none.
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
            // Closes it, and thereby takes it out of the poll. A client that has gone away is not
            // this server's failure.
            self.clients.remove(number);
        }
    }
}

impl Client {
    /// Answers until there is nothing to read or no room to write. `ended`: more than a short read
    /// is needed to know that all has been read, since the end of the stream comes after it.
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
