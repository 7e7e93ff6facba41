//! Load of a single huge value: set, fetched, overwritten and deleted.
//!
//! The generator does not hold the value. It is a repeated small block, from which requests are
//! written and with which replies are compared piece by piece. A turn moves at most a piece, so
//! that the generator itself does not delay the probe.

use std::io::{Read, Write};

use crate::address::Stream;
use crate::content::Values;
use crate::failure::Failure;
use crate::process::ServerProcess;
use crate::stall::load::Load;
use crate::stall::nonblocking::{bytes_or_zero, connect};

const MIB: u64 = 1 << 20;
/// Size of the block and maximum bytes per turn.
const PIECE: usize = 64 * 1024;
/// Offset in the block at which the second value begins, so that it differs from the first.
const OTHER_START: usize = 1001;

/// Executes the steps in sequence on a connection.
pub(super) struct HugeValue {
    stream: Stream,
    block: Vec<u8>,
    steps: Vec<Step>,
    /// Index of the current step.
    step: usize,
    buffer: Vec<u8>,
}

/// A request and its expected reply.
struct Step {
    name: &'static str,
    request: Message,
    reply: Message,
}

/// A message to be sent or received (line, value, line), and its progress.
struct Message {
    head: Vec<u8>,
    /// Length of the value in bytes, and the offset in the block at which it begins.
    body: u64,
    start: usize,
    tail: &'static [u8],
    done: u64,
}

impl HugeValue {
    /// Creates the load for a value of `size` bytes.
    pub(super) fn new(server: &ServerProcess, size: u64) -> Result<Self, Failure> {
        let mut block = Vec::new();
        Values::new(PIECE).push(&mut block, 0, PIECE);
        Ok(HugeValue {
            stream: connect(server)?,
            block,
            steps: steps(size),
            step: 0,
            buffer: vec![0; PIECE],
        })
    }
}

fn steps(size: u64) -> Vec<Step> {
    let set = |name, start| Step {
        name,
        request: Message::with_value(format!("set huge 0 0 {size}\r\n"), size, start, b"\r\n"),
        reply: Message::line("STORED\r\n"),
    };
    let found = format!("VALUE huge 0 {size}\r\n");
    let get = Step {
        name: "get",
        request: Message::line("get huge\r\n"),
        reply: Message::with_value(found, size, 0, b"\r\nEND\r\n"),
    };
    let delete = Step {
        name: "delete",
        request: Message::line("delete huge\r\n"),
        reply: Message::line("DELETED\r\n"),
    };
    vec![set("set", 0), get, set("overwrite", OTHER_START), delete]
}

impl Load for HugeValue {
    fn turn(&mut self) -> Result<(), Failure> {
        let Some(step) = self.steps.get_mut(self.step) else {
            return Ok(());
        };
        if !step.request.is_done() {
            let piece = step.request.next_piece(&self.block);
            step.request.done += bytes_or_zero(self.stream.write(piece))? as u64;
            return Ok(());
        }
        let n = bytes_or_zero(self.stream.read(&mut self.buffer))?;
        let mut received = &self.buffer[..n];
        while !received.is_empty() {
            let piece = step.reply.next_piece(&self.block);
            let length = piece.len().min(received.len());
            if length == 0 || piece[..length] != received[..length] {
                let text = received[..received.len().min(80)].escape_ascii();
                let text = format!("{} was answered \"{text}\"", step.name);
                return Err(Failure::Server(text));
            }
            step.reply.done += length as u64;
            received = &received[length..];
        }
        self.step += usize::from(step.reply.is_done());
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.step == self.steps.len()
    }

    fn phase(&self) -> &str {
        self.steps.get(self.step).map_or("", |step| step.name)
    }

    fn progress(&self) -> String {
        let mib = self.value_bytes() / MIB;
        format!("{mib} MiB ({})", self.phase())
    }

    fn sets(&self) -> u64 {
        let done = self.steps[..self.step].iter();
        done.filter(|step| step.request.body > 0).count() as u64
    }

    /// Always 0: a refusal ends the load with an error, since nothing could be fetched.
    fn refused(&self) -> u64 {
        0
    }

    fn value_bytes(&self) -> u64 {
        let texts = |step: &Step| step.request.body_done() + step.reply.body_done();
        self.steps.iter().map(texts).sum()
    }
}

impl Message {
    fn line(line: &str) -> Self {
        Message::with_value(line.to_string(), 0, 0, b"")
    }

    fn with_value(head: String, body: u64, start: usize, tail: &'static [u8]) -> Self {
        Message {
            head: head.into_bytes(),
            body,
            start,
            tail,
            done: 0,
        }
    }

    fn length(&self) -> u64 {
        self.head.len() as u64 + self.body + self.tail.len() as u64
    }

    fn is_done(&self) -> bool {
        self.done == self.length()
    }

    fn body_done(&self) -> u64 {
        let beyond_head = self.done.saturating_sub(self.head.len() as u64);
        beyond_head.min(self.body)
    }

    /// Returns the next contiguous piece, empty at the end.
    fn next_piece<'a>(&'a self, block: &'a [u8]) -> &'a [u8] {
        if self.done < self.head.len() as u64 {
            return &self.head[self.done as usize..];
        }
        let body_done = self.body_done();
        if body_done < self.body {
            let from = (self.start as u64 + body_done) as usize % block.len();
            let left = usize::try_from(self.body - body_done).unwrap_or(usize::MAX);
            return &block[from..][..left.min(block.len() - from)];
        }
        let tail_done = self.done - self.head.len() as u64 - self.body;
        &self.tail[tail_done as usize..]
    }
}

#[cfg(test)]
mod tests {
    use super::{Message, steps};

    /// Returns the whole message, taken in pieces of at most `most` bytes.
    fn whole(text: &mut Message, block: &[u8], most: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !text.is_done() {
            let piece = text.next_piece(block);
            let length = piece.len().min(most);
            out.extend_from_slice(&piece[..length]);
            text.done += length as u64;
        }
        assert!(text.next_piece(block).is_empty());
        out
    }

    #[test]
    fn a_value_repeats_the_block_however_it_is_cut() {
        for most in [1, 2, 3, 100] {
            let mut text = Message::with_value("head ".to_string(), 8, 2, b" tail");
            assert_eq!(whole(&mut text, b"abc", most), b"head cabcabca tail");
            assert_eq!(text.body_done(), 8);
        }
    }

    #[test]
    fn requests_are_spelt_as_the_protocol_has_them() {
        let block: Vec<u8> = (0..2000).map(|at| b'a' + (at % 23) as u8).collect();
        let request = |index: usize| {
            let mut steps = steps(2);
            String::from_utf8(whole(&mut steps[index].request, &block, 100)).unwrap()
        };
        assert_eq!(request(0), "set huge 0 0 2\r\nab\r\n");
        assert_eq!(request(1), "get huge\r\n");
        assert_eq!(request(2), "set huge 0 0 2\r\nmn\r\n");
        assert_eq!(request(3), "delete huge\r\n");
    }
}
