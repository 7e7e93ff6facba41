//! The load of small items: new ones, as fast as they are accepted.

use std::io::{Read, Write};

use memchr::memchr_iter;

use crate::loadgen::address::Stream;
use crate::loadgen::density::Filler;
use crate::loadgen::failure::Failure;
use crate::loadgen::process::ServerProcess;
use crate::loadgen::stall::link::{connect, now_or_zero};

const KEY_LENGTH: usize = 20;
const STORED: &[u8] = b"STORED\r\n";
/// Sets written at once, and sets that may be unanswered.
const BATCH: u32 = 64;
const WINDOW: u32 = 512;

/// Sets new items, a window of them unanswered.
pub(super) struct Inserter {
    stream: Stream,
    filler: Filler,
    size: usize,
    items: u32,
    sent: u32,
    pub(super) answered: u32,
    request: Vec<u8>,
    written: usize,
    buffer: Vec<u8>,
}

impl Inserter {
    pub(super) fn new(server: &ServerProcess, items: u32, size: usize) -> Result<Self, Failure> {
        Ok(Inserter {
            stream: connect(server)?,
            filler: Filler::new(KEY_LENGTH, size),
            size,
            items,
            sent: 0,
            answered: 0,
            request: Vec::new(),
            written: 0,
            buffer: vec![0; 64 * 1024],
        })
    }

    pub(super) fn turn(&mut self) -> Result<(), Failure> {
        let room = self.sent - self.answered + BATCH <= WINDOW && self.sent < self.items;
        if self.written == self.request.len() && room {
            self.request.clear();
            self.written = 0;
            let end = self.items.min(self.sent + BATCH);
            for key in self.sent..end {
                self.filler.push_set(&mut self.request, key, self.size);
            }
            self.sent = end;
        }
        if self.written < self.request.len() {
            self.written += now_or_zero(self.stream.write(&self.request[self.written..]))?;
        }
        let n = now_or_zero(self.stream.read(&mut self.buffer))?;
        let lines = memchr_iter(b'\n', &self.buffer[..n]).count();
        self.answered += lines as u32;
        // An error line has letters (or a space) that "STORED" has not, however it is cut.
        if self.buffer[..n].iter().all(|byte| STORED.contains(byte)) {
            return Ok(());
        }
        let text = self.buffer[..n.min(80)].escape_ascii();
        Err(Failure::Server(format!("a set was refused: {text}")))
    }
}
