//! The bytes that a hostile connection sends.
//!
//! A script has its own head, and a body that connections share, so thousands of connections with
//! megabytes each cost the generator little memory. Also encodes requests of all protocols for the
//! scenes. No I/O.

use std::fmt::Write as _;
use std::sync::Arc;

/// Approximate size of a shared body. Larger writes would hardly save system calls.
const BODY_BYTES: usize = 16 * 1024;
const BINARY_REQUEST: u8 = 0x80;

/// The bytes behind the head.
#[derive(Clone, Debug)]
enum Body {
    /// Nothing.
    Empty,
    /// `total` bytes in all: `bytes`, repeated.
    Cycle { bytes: Arc<[u8]>, total: u64 },
    /// The output of `generate` for each round. A round is generated when the previous one has been
    /// sent.
    Generated {
        generate: fn(u64, &mut Vec<u8>),
        next: u64,
        end: u64,
    },
}

/// A sequence of bytes and the position of the next byte to send.
#[derive(Clone, Debug)]
pub(super) struct Script {
    part: Arc<[u8]>,
    at: usize,
    body: Body,
}

impl Script {
    /// Creates a script that sends these bytes.
    pub(super) fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Script {
            part: bytes.into(),
            at: 0,
            body: Body::Empty,
        }
    }

    /// Adds a body of `total` bytes: `bytes` repeated, the last time in part.
    pub(super) fn then(mut self, bytes: &Arc<[u8]>, total: u64) -> Self {
        debug_assert!(!bytes.is_empty());
        let bytes = Arc::clone(bytes);
        self.body = Body::Cycle { bytes, total };
        self
    }

    /// Creates a script that sends the bytes appended by `generate` for each number of `rounds`.
    pub(super) fn generated(rounds: std::ops::Range<u64>, generate: fn(u64, &mut Vec<u8>)) -> Self {
        Script {
            body: Body::Generated {
                generate,
                next: rounds.start,
                end: rounds.end,
            },
            ..Script::new(Vec::new())
        }
    }

    /// Creates a script that sends a request `times` times.
    pub(super) fn repeated(request: &[u8], times: u64) -> Self {
        let copies = (BODY_BYTES / request.len()).max(1);
        let total = request.len() as u64 * times;
        Script::new(Vec::new()).then(&Arc::from(request.repeat(copies)), total)
    }

    /// Returns the next bytes to send, empty at the end.
    pub(super) fn chunk(&mut self) -> &[u8] {
        if self.at == self.part.len() {
            self.next_part();
        }
        &self.part[self.at..self.end()]
    }

    /// Marks `sent` bytes of the chunk as sent.
    pub(super) fn advance(&mut self, sent: usize) {
        self.at += sent;
        if let Body::Cycle { bytes, total } = &mut self.body
            && Arc::ptr_eq(bytes, &self.part)
        {
            *total -= sent as u64;
        }
    }

    fn end(&self) -> usize {
        match &self.body {
            Body::Cycle { bytes, total } if Arc::ptr_eq(bytes, &self.part) => {
                let left = usize::try_from(*total).unwrap_or(usize::MAX);
                self.part.len().min(self.at.saturating_add(left))
            }
            _ => self.part.len(),
        }
    }

    fn next_part(&mut self) {
        match &mut self.body {
            Body::Cycle { bytes, total } if *total > 0 => {
                self.part = Arc::clone(bytes);
                self.at = 0;
            }
            Body::Generated {
                generate,
                next,
                end,
            } if *next < *end => {
                let mut part = Vec::new();
                generate(*next, &mut part);
                *next += 1;
                self.part = part.into();
                self.at = 0;
            }
            _ => {}
        }
    }
}

/// Returns a text command with these words and the keys `k{N}` for each number in `keys`.
pub(super) fn keys_command(words: &str, keys: std::ops::Range<u32>) -> Vec<u8> {
    let mut line = words.to_string();
    for key in keys {
        let _ = write!(line, " k{key}");
    }
    (line + "\r\n").into_bytes()
}

/// Returns a binary request.
pub(super) fn packet(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = packet_head(opcode, extras, key, value.len());
    bytes.extend_from_slice(value);
    bytes
}

/// Returns a binary request for a value of `value` bytes, without the value.
pub(super) fn packet_head(opcode: u8, extras: &[u8], key: &[u8], value: usize) -> Vec<u8> {
    let body = (extras.len() + key.len() + value) as u32;
    let mut bytes = vec![BINARY_REQUEST, opcode];
    bytes.extend_from_slice(&(key.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[extras.len() as u8, 0, 0, 0]);
    bytes.extend_from_slice(&body.to_be_bytes());
    bytes.extend_from_slice(&[0; 12]);
    bytes.extend_from_slice(extras);
    bytes.extend_from_slice(key);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{Script, keys_command, packet};
    use std::sync::Arc;

    /// Returns all bytes of a script, taken in steps of at most `step` bytes.
    fn sent(mut script: Script, step: usize) -> String {
        let mut all = Vec::new();
        while !script.chunk().is_empty() {
            let n = script.chunk().len().min(step);
            all.extend_from_slice(&script.chunk()[..n]);
            script.advance(n);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn scripts_send_their_bytes_whatever_the_step() {
        let body: Arc<[u8]> = Arc::from(&b"abc"[..]);
        for step in 1..5 {
            assert_eq!(sent(Script::new(*b"head"), step), "head");
            let script = Script::new(*b"head ").then(&body, 8);
            assert_eq!(sent(script, step), "head abcabcab");
            assert_eq!(sent(Script::repeated(b"xy", 3), step), "xyxyxy");
            let script =
                Script::generated(2..5, |round, out| out.extend(round.to_string().bytes()));
            assert_eq!(sent(script, step), "234");
        }
        assert_eq!(sent(Script::new(*b"").then(&body, 0), 9), "");
    }

    #[test]
    fn requests_are_spelled() {
        assert_eq!(keys_command("gat 0", 1..3), b"gat 0 k1 k2\r\n");
        let packet = packet(1, &[7; 8], b"ke", b"val");
        assert_eq!(packet[..8], [0x80, 1, 0, 2, 8, 0, 0, 0]);
        assert_eq!(packet[8..12], [0, 0, 0, 13]);
        assert_eq!(packet[24..], *b"\x07\x07\x07\x07\x07\x07\x07\x07keval");
    }
}
