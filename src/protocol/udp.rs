//! The frame of a datagram (doc/protocol.txt, "UDP protocol"): eight bytes
//! before the same bytes that a stream carries.

/// Bytes of the frame.
pub const FRAME_BYTES: usize = 8;

/// Longest datagram of an answer, its frame included (memcached's
/// `UDP_MAX_PAYLOAD_SIZE`).
pub const DATAGRAM_MAX_BYTES: usize = 1400;

/// What to a request that comes in several datagrams is answered.
pub const MULTI_PACKET: &str = "SERVER_ERROR multi-packet request not supported";

/// A request as a datagram holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The client's number for it, repeated in the answer.
    pub id: u16,
    /// Datagrams that the request comes in.
    pub total: u16,
    /// The commands.
    pub payload: &'a [u8],
}

/// Takes a datagram apart; `None` for one that holds nothing.
pub fn parse(bytes: &[u8]) -> Option<Datagram<'_>> {
    let (frame, payload) = bytes.split_first_chunk::<FRAME_BYTES>()?;
    (!payload.is_empty()).then_some(Datagram {
        id: u16::from_be_bytes([frame[0], frame[1]]),
        total: u16::from_be_bytes([frame[4], frame[5]]),
        payload,
    })
}

/// The frame of one datagram of an answer.
pub fn frame(id: u16, sequence: u16, total: u16) -> [u8; FRAME_BYTES] {
    let [a, b] = id.to_be_bytes();
    let [c, d] = sequence.to_be_bytes();
    let [e, f] = total.to_be_bytes();
    [a, b, c, d, e, f, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::{Datagram, frame, parse};

    #[test]
    fn a_frame_stands_before_the_commands() {
        let want = Datagram {
            id: 0x1234,
            total: 1,
            payload: b"version\r\n",
        };
        let bytes = [&frame(0x1234, 0, 1)[..], b"version\r\n"].concat();
        assert_eq!(parse(&bytes), Some(want));
        for len in 0..=8 {
            assert_eq!(parse(&bytes[..len]), None);
        }
    }

    #[test]
    fn numbers_are_in_network_order() {
        assert_eq!(frame(0x0102, 0x0304, 0x0506), [1, 2, 3, 4, 5, 6, 0, 0]);
    }
}
