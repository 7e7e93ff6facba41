//! UDP client: sends each request in a datagram and reassembles the reply.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use crate::DEADLINE;

const FRAME_BYTES: usize = 8;

/// Maximum request length in bytes, without the frame header.
pub const REQUEST_MAX_BYTES: usize = 60_000;

/// A UDP client with the ID of its last request.
pub struct Datagrams {
    socket: UdpSocket,
    id: u16,
}

impl Datagrams {
    /// Binds a loopback port and connects it to `server`. Receiving fails after
    /// [`DEADLINE`].
    pub fn connect(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.connect(server).expect("a socket can be connected");
        let timeout = socket.set_read_timeout(Some(DEADLINE));
        timeout.expect("a timeout can be set");
        Self { socket, id: 0 }
    }

    /// Receives a datagram. A signal to the process may interrupt that.
    fn receive(&self, buffer: &mut [u8]) -> usize {
        loop {
            match self.socket.recv(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result.expect("an answer comes"),
            }
        }
    }

    /// Sends a request that has exactly one reply, and returns that reply.
    pub fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.id += 1;
        let frame = [self.id, 0, 1, 0];
        let mut bytes: Vec<u8> = frame.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend_from_slice(request);
        self.socket.send(&bytes).expect("a datagram is sent");
        let mut answer = Vec::new();
        let mut buffer = [0; 65_536];
        for sequence in 0.. {
            let len = self.receive(&mut buffer);
            let word = |at: usize| u16::from_be_bytes([buffer[at], buffer[at + 1]]);
            assert_eq!((word(0), word(2)), (self.id, sequence));
            answer.extend_from_slice(&buffer[FRAME_BYTES..len]);
            if sequence + 1 == word(4) {
                break;
            }
        }
        answer
    }
}
