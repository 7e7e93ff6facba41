//! Many sets, appends, deletes and gets through one connection, in batches, with every answer
//! tallied.
//!
//! Owns the spelling of batches and what became of them. A refusal is counted by its text, never
//! an error: how a server that is short of memory refuses is what is to be learnt. Values that are
//! read back must be those of their keys. Serves `memory` and `keep`.

use std::collections::BTreeMap;

use super::client::Client;
use super::content::{KeyNames, Values};
use super::failure::Failure;
use super::replies::{Answers, Outcome};
use super::wire::{Expected, Kind, push_delete, push_get, push_set};

/// Bytes of requests per exchange, and requests, so that answers stay few as well. Large, so that a
/// busy machine is not felt in every answer.
const BATCH_BYTES: usize = 256 * 1024;
const BATCH_REQUESTS: usize = 4096;
/// Bytes of every key.
pub const KEY_LENGTH: usize = 20;
/// The answer of an append to a key that has no item (any more).
const NOT_STORED: &[u8] = b"NOT_STORED";

/// What became of requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Sets and appends sent.
    pub sets: u64,
    /// Keys found by gets, and deleted.
    pub hits: u64,
    /// Keys that gets and deletes did not find.
    pub misses: u64,
    /// Values that were not their key's.
    pub wrong_values: u64,
    /// Answers other than the good ones: how often, by their text.
    pub refusals: BTreeMap<String, u64>,
    /// Places in the batch of appends that found no item.
    unfound: Vec<usize>,
}

impl Tally {
    /// Requests refused; appends to nothing are no refusals.
    pub fn refused(&self) -> u64 {
        let texts = self.refusals.iter();
        texts
            .filter(|(text, _)| text.as_bytes() != NOT_STORED)
            .map(|(_, times)| times)
            .sum()
    }

    /// All bad answers in one line.
    pub fn refusal_text(&self) -> String {
        let texts = self.refusals.iter();
        let texts = texts.map(|(text, times)| format!("{times} x {text}"));
        texts.collect::<Vec<_>>().join("; ")
    }
}

/// Sends requests; see the module's documentation.
#[derive(Debug)]
pub struct Player {
    client: Client,
    names: KeyNames,
    values: Values,
    request: Vec<u8>,
    expected: Vec<Expected>,
    name: Vec<u8>,
    tally: Tally,
}

impl Player {
    /// Plays through `client`, which must hand over whole values, values of up to `largest` bytes.
    pub fn new(client: Client, largest: usize) -> Self {
        Player {
            client,
            names: KeyNames::new(""),
            values: Values::new(largest),
            request: Vec::new(),
            expected: Vec::new(),
            name: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// The connection, for other questions; only between batches.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// What became of all requests since the tally was taken last.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Starts a new tally and returns the old one.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Sets a key to its value of this size, sooner or later; whether a batch ended. `ttl` in
    /// seconds, 0 for ever.
    pub fn set(&mut self, key: u32, size: usize, ttl: u32) -> Result<bool, Failure> {
        self.spell(key);
        push_set(&mut self.request, &self.name, ttl, size, |out| {
            self.values.push(out, key, size);
        });
        self.tally.sets += 1;
        self.expect(Kind::Stored, key)
    }

    /// Appends bytes to a key's value, likewise. Such values are not to be read back.
    pub fn append(&mut self, key: u32, size: usize) -> Result<bool, Failure> {
        self.spell(key);
        let head = format!(" 0 0 {size}\r\n");
        for part in [b"append ", self.name.as_slice(), head.as_bytes()] {
            self.request.extend_from_slice(part);
        }
        self.values.push(&mut self.request, key, size);
        self.request.extend_from_slice(b"\r\n");
        self.tally.sets += 1;
        self.expect(Kind::Stored, key)
    }

    /// Gets a key, likewise.
    pub fn get(&mut self, key: u32) -> Result<bool, Failure> {
        self.spell(key);
        push_get(&mut self.request, "get", &self.name);
        self.expect(Kind::Values, key)
    }

    /// Deletes a key, likewise.
    pub fn delete(&mut self, key: u32) -> Result<bool, Failure> {
        self.spell(key);
        push_delete(&mut self.request, &self.name);
        self.expect(Kind::Found, key)
    }

    /// Ends the batch. Returns the keys of appends that found no item.
    pub fn finish(&mut self) -> Result<Vec<u32>, Failure> {
        let mut check = Check {
            tally: &mut self.tally,
            values: &self.values,
        };
        self.client
            .exchange(&self.request, &self.expected, &mut check)?;
        let unfound = std::mem::take(&mut self.tally.unfound);
        let keys = unfound.iter().map(|&index| self.expected[index].key);
        let keys = keys.collect();
        self.request.clear();
        self.expected.clear();
        Ok(keys)
    }

    fn spell(&mut self, key: u32) {
        self.name.clear();
        self.names.push(&mut self.name, key, KEY_LENGTH);
    }

    fn expect(&mut self, kind: Kind, key: u32) -> Result<bool, Failure> {
        self.expected.push(Expected::one(kind, key));
        if self.request.len() < BATCH_BYTES && self.expected.len() < BATCH_REQUESTS {
            return Ok(false);
        }
        // An append whose item is gone begins it anew; the next batch carries that.
        for key in self.finish()? {
            self.spell(key);
            push_set(&mut self.request, &self.name, 0, 0, |_| ());
            self.tally.sets += 1;
            self.expected.push(Expected::one(Kind::Stored, key));
        }
        Ok(true)
    }
}

struct Check<'a> {
    tally: &'a mut Tally,
    values: &'a Values,
}

impl Answers for Check<'_> {
    fn answer(&mut self, index: usize, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Stored => {}
            Outcome::Looked { hits, misses } => {
                self.tally.hits += u64::from(hits);
                self.tally.misses += u64::from(misses);
            }
            Outcome::Refused(line) => {
                if line == NOT_STORED {
                    self.tally.unfound.push(index);
                }
                let text = line.escape_ascii().to_string();
                *self.tally.refusals.entry(text).or_default() += 1;
            }
        }
    }

    fn value(&mut self, expected: &Expected, _key: Option<&[u8]>, value: &[u8]) {
        if !self.values.matches(expected.key, value.len(), value) {
            self.tally.wrong_values += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, Tally};
    use crate::content::Values;
    use crate::replies::{Answers, Outcome};
    use crate::wire::{Expected, Kind};

    #[test]
    fn answers_are_told_apart() {
        let values = Values::new(100);
        let mut tally = Tally::default();
        let mut check = Check {
            tally: &mut tally,
            values: &values,
        };
        check.answer(0, Outcome::Stored);
        check.answer(1, Outcome::Refused(b"NOT_STORED"));
        check.answer(2, Outcome::Refused(b"SERVER_ERROR x"));
        check.answer(3, Outcome::Looked { hits: 1, misses: 0 });
        let mut value = Vec::new();
        values.push(&mut value, 7, 50);
        check.value(&Expected::one(Kind::Values, 7), None, &value);
        check.value(&Expected::one(Kind::Values, 8), None, &value);
        assert_eq!((tally.refused(), tally.hits), (1, 1));
        assert_eq!(
            (tally.wrong_values, tally.unfound.as_slice()),
            (1, &[1][..])
        );
        assert_eq!(tally.refusal_text(), "1 x NOT_STORED; 1 x SERVER_ERROR x");
    }
}
