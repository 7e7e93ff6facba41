//! Frame header of UDP datagrams (doc/protocol.txt, "UDP protocol"): eight
//! bytes before the bytes of a stream protocol.

/// Length of the frame header in bytes.
pub const FRAME_BYTES: usize = 8;

/// Longest datagram of a reply in bytes, its frame header included (memcached's
/// `UDP_MAX_PAYLOAD_SIZE`).
pub const DATAGRAM_MAX_BYTES: usize = 1400;

/// Reply to a request split over several datagrams.
pub const MULTI_PACKET: &str = "SERVER_ERROR multi-packet request not supported";

/// A parsed datagram of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Request id chosen by the client, repeated in the reply.
    pub id: u16,
    /// Number of datagrams of the request.
    pub total: u16,
    /// The commands.
    pub payload: &'a [u8],
}

/// Parses a datagram. Returns `None` if it is shorter than a frame header or
/// has no payload.
pub fn parse(bytes: &[u8]) -> Option<Datagram<'_>> {
    let (frame, payload) = bytes.split_first_chunk::<FRAME_BYTES>()?;
    (!payload.is_empty()).then_some(Datagram {
        id: u16::from_be_bytes([frame[0], frame[1]]),
        total: u16::from_be_bytes([frame[4], frame[5]]),
        payload,
    })
}

/// Encodes the frame header of datagram `sequence`, from 0, of `total` of a
/// reply.
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
