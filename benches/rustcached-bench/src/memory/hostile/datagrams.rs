//! Garbage and amplification datagrams, at a steady rate.
//!
//! Never reads a reply, like an attacker with a forged address.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::memory::hostile::script::{keys_command, packet};
use crate::random::Random;

/// Number of datagrams in the scene.
const COUNT: u64 = 200_000;
/// Maximum number of datagrams per turn.
const AT_ONCE: u64 = 16;
/// Maximum length of garbage in bytes.
const GARBAGE: u64 = 1400;
const GETQ: u8 = 0x09;

/// Sends all datagrams within a given time.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UdpSocket,
    begun: Instant,
    within: Duration,
    sent: u64,
    random: Random,
}

impl Datagrams {
    /// Creates a sender of [`COUNT`] datagrams to `address`, spread evenly over `within`.
    pub(super) fn new(address: SocketAddr, within: Duration) -> Result<Self, Failure> {
        let opening = || Failure::io("opening a UDP socket");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(opening())?;
        socket.connect(address).map_err(opening())?;
        socket.set_nonblocking(true).map_err(opening())?;
        Ok(Datagrams {
            socket,
            begun: Instant::now(),
            within,
            sent: 0,
            random: Random::new(5),
        })
    }

    /// Sends a bounded number of the datagrams that are due. Returns whether any were.
    pub(super) fn turn(&mut self) -> bool {
        let share = self.begun.elapsed().as_secs_f64() / self.within.as_secs_f64();
        let due = ((COUNT as f64 * share) as u64).min(COUNT);
        let now = (due - self.sent.min(due)).min(AT_ONCE);
        for _ in 0..now {
            let datagram = datagram(self.sent, &mut self.random);
            // Datagrams that exceed the socket's buffer are lost, as is usual with UDP.
            let _ = self.socket.send(&datagram);
            self.sent += 1;
        }
        now > 0
    }
}

/// Returns datagram number `number`. The kinds alternate.
fn datagram(number: u64, random: &mut Random) -> Vec<u8> {
    let whole = |body: &[u8]| framed(number as u16, 1, body);
    match number % 10 {
        0 => (0..random.below(GARBAGE))
            .map(|_| random.next_u64() as u8)
            .collect(),
        1 => Vec::new(),
        2 => whole(b"")[..5].to_vec(),
        3 => whole(&keys_command("get", 0..200)),
        4 => framed(number as u16, 5, b"get k0 k1 k2"),
        5 => whole(b"stats\r\nstats items\r\nstats conns\r\n"),
        6 => whole(b"set udp 0 0 1000000\r\nxxxxxxxxxx"),
        7 => whole(&packet(GETQ, b"", b"k7", b"").repeat(40)),
        8 => whole(b"lru_crawler metadump all\r\nwatch fetchers\r\n"),
        _ => whole(&[b'a'; 1300]),
    }
}

/// Returns memcached's frame header of 8 bytes (request ID, sequence number, number of datagrams,
/// zero) and the body.
fn framed(request: u16, datagrams: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + body.len());
    for number in [request, 0, datagrams, 0] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{datagram, framed};
    use crate::random::Random;

    #[test]
    fn datagrams_are_framed_and_fit() {
        assert_eq!(framed(258, 5, b"x"), [1, 2, 0, 0, 0, 5, 0, 0, b'x']);
        let mut random = Random::new(1);
        for number in 0..100 {
            assert!(datagram(number, &mut random).len() <= 1472);
        }
    }
}
