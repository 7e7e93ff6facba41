//! Load of small items: inserts new items as fast as the server accepts them.

use std::io::{Read, Write};

use memchr::memchr_iter;

use crate::address::Stream;
use crate::content::{KeyNames, Values};
use crate::failure::Failure;
use crate::process::ServerProcess;
use crate::stall::load::Load;
use crate::stall::nonblocking::{bytes_or_zero, connect};
use crate::wire::push_set;

/// Key length in bytes.
pub(super) const KEY_LENGTH: usize = 20;
const STORED: &[u8] = b"STORED\r\n";
/// Reply if the server finds no memory for a size because other sizes use it all.
const REFUSED: &[u8] = b"SERVER_ERROR out of memory";
/// Sets written at once, and maximum number of unanswered sets.
const BATCH: u32 = 64;
const WINDOW: u32 = 512;

/// Items inserted in sequence, whose value sizes repeat.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Name of the phase in the output.
    pub(super) name: String,
    /// Number of items.
    pub(super) items: u32,
    /// Value sizes in bytes, used in turn.
    sizes: Vec<usize>,
}

impl Run {
    /// Creates a run of items with these value sizes in turn.
    pub(super) fn new(items: u32, sizes: &[usize]) -> Self {
        let names: Vec<String> = sizes.iter().map(|size| format!("{size} B")).collect();
        Run {
            name: names.join(", "),
            items,
            sizes: sizes.to_vec(),
        }
    }
}

/// Sets new items, with a window of unanswered sets.
pub(super) struct Inserter {
    stream: Stream,
    names: KeyNames,
    values: Values,
    key: Vec<u8>,
    runs: Vec<Run>,
    /// Index of the current run, and the number of its items sent.
    run: usize,
    sent_of_run: u32,
    first_key: u32,
    items: u32,
    sent: u32,
    answered: u32,
    refused: u32,
    value_bytes: u64,
    request: Vec<u8>,
    written: usize,
    /// Received replies, the last of which may be incomplete.
    buffer: Vec<u8>,
    filled: usize,
}

impl Inserter {
    /// Creates the load. The keys are numbered from `first_key` on.
    pub(super) fn new(
        server: &ServerProcess,
        first_key: u32,
        runs: Vec<Run>,
    ) -> Result<Self, Failure> {
        let sizes = runs.iter().flat_map(|run| &run.sizes);
        Ok(Inserter {
            stream: connect(server)?,
            names: KeyNames::new(""),
            values: Values::new(sizes.copied().max().unwrap_or(0)),
            key: Vec::new(),
            items: runs.iter().map(|run| run.items).sum(),
            runs,
            run: 0,
            sent_of_run: 0,
            first_key,
            sent: 0,
            answered: 0,
            refused: 0,
            value_bytes: 0,
            request: Vec::new(),
            written: 0,
            buffer: vec![0; 64 * 1024],
            filled: 0,
        })
    }

    /// Encodes the next sets, all from the same run.
    fn fill_request(&mut self) {
        self.request.clear();
        self.written = 0;
        while self.sent_of_run == self.runs[self.run].items {
            (self.run, self.sent_of_run) = (self.run + 1, 0);
        }
        let run = &self.runs[self.run];
        let count = BATCH.min(run.items - self.sent_of_run);
        for number in self.sent..self.sent + count {
            let size = run.sizes[number as usize % run.sizes.len()];
            let key = self.first_key + number;
            self.key.clear();
            self.names.push(&mut self.key, key, KEY_LENGTH);
            push_set(&mut self.request, &self.key, 0, size, |out| {
                self.values.push(out, key, size);
            });
            self.value_bytes += size as u64;
        }
        self.sent_of_run += count;
        self.sent += count;
    }

    fn take_replies(&mut self) -> Result<(), Failure> {
        let mut taken = 0;
        for end in memchr_iter(b'\n', &self.buffer[..self.filled]) {
            let line = &self.buffer[taken..=end];
            if line.starts_with(REFUSED) {
                self.refused += 1;
            } else if line != STORED {
                let text = line[..line.len().min(80)].escape_ascii();
                let text = format!("a set was answered \"{text}\"");
                return Err(Failure::Server(text));
            }
            self.answered += 1;
            taken = end + 1;
        }
        self.buffer.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        Ok(())
    }
}

impl Load for Inserter {
    fn turn(&mut self) -> Result<(), Failure> {
        let room = self.sent - self.answered + BATCH <= WINDOW && self.sent < self.items;
        if self.written == self.request.len() && room {
            self.fill_request();
        }
        if self.written < self.request.len() {
            self.written += bytes_or_zero(self.stream.write(&self.request[self.written..]))?;
        }
        self.filled += bytes_or_zero(self.stream.read(&mut self.buffer[self.filled..]))?;
        self.take_replies()
    }

    fn is_finished(&self) -> bool {
        self.answered == self.items
    }

    fn phase(&self) -> &str {
        &self.runs[self.run].name
    }

    fn progress(&self) -> String {
        let millions = f64::from(self.answered) / 1e6;
        format!("{millions:.1} million items ({})", self.phase())
    }

    fn sets(&self) -> u64 {
        u64::from(self.answered)
    }

    fn refused(&self) -> u64 {
        u64::from(self.refused)
    }

    fn value_bytes(&self) -> u64 {
        self.value_bytes
    }
}
