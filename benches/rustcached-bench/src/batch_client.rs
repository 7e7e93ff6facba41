//! Sends sets, appends, deletes and gets over a connection, in batches, and counts the replies.
//!
//! A refusal is not an error but counted by its text, since the scenes study how a server refuses
//! when memory is short. The values of hits are compared with their keys. Used by `memory`,
//! `density` and `stall`.

use std::collections::BTreeMap;

use super::client::Client;
use super::content::{KeyNames, Values};
use super::failure::Failure;
use super::replies::{Outcome, ReplyHandler};
use super::wire::{Expected, Kind, push_delete, push_get, push_set};

/// Maximum size of a batch, in bytes and requests. The limit of requests bounds the replies.
/// Batches are large, so that the load of the machine does not delay every reply.
const BATCH_BYTES: usize = 256 * 1024;
const BATCH_REQUESTS: usize = 4096;
/// Reply to an append to a key without an item.
const NOT_STORED: &[u8] = b"NOT_STORED";

/// Counts of replies.
#[derive(Clone, Debug, Default)]
pub struct ReplyCounts {
    /// Sets and appends sent.
    pub sets: u64,
    /// Keys found by gets, or deleted.
    pub hits: u64,
    /// Keys that gets and deletes did not find.
    pub misses: u64,
    /// Hits with a value that does not belong to the key.
    pub wrong_values: u64,
    /// Unsuccessful replies, counted by text.
    pub refusals: BTreeMap<String, u64>,
    /// Indexes, in the batch, of appends that found no item.
    not_stored: Vec<usize>,
}

impl ReplyCounts {
    /// Returns the number of refused requests, without appends that found no item.
    pub fn refused(&self) -> u64 {
        let texts = self.refusals.iter();
        texts
            .filter(|(text, _)| text.as_bytes() != NOT_STORED)
            .map(|(_, times)| times)
            .sum()
    }

    /// Returns all unsuccessful replies and their counts in a single line.
    pub fn refusal_text(&self) -> String {
        let texts = self.refusals.iter();
        let texts = texts.map(|(text, times)| format!("{times} x {text}"));
        texts.collect::<Vec<_>>().join("; ")
    }
}

/// Batches requests on a connection and counts the replies.
#[derive(Debug)]
pub struct BatchClient {
    client: Client,
    names: KeyNames,
    values: Values,
    key_length: usize,
    request: Vec<u8>,
    expected: Vec<Expected>,
    name: Vec<u8>,
    counts: ReplyCounts,
}

impl BatchClient {
    /// Creates a client for keys of `key_length` bytes and values of up to `largest` bytes.
    /// `client` must return whole values.
    pub fn new(client: Client, key_length: usize, largest: usize) -> Self {
        BatchClient {
            client,
            names: KeyNames::new(""),
            values: Values::new(largest),
            key_length,
            request: Vec::new(),
            expected: Vec::new(),
            name: Vec::new(),
            counts: ReplyCounts::default(),
        }
    }

    /// Returns the connection, for other requests. Only valid between batches.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Returns the counts since the last [`BatchClient::take_counts`].
    pub fn counts(&self) -> &ReplyCounts {
        &self.counts
    }

    /// Resets the counts and returns the old ones.
    pub fn take_counts(&mut self) -> ReplyCounts {
        std::mem::take(&mut self.counts)
    }

    /// Queues a set of `key` to its value of `size` bytes. `ttl` is in seconds, 0 for none. Returns
    /// whether this completed a batch.
    pub fn set(&mut self, key: u32, size: usize, ttl: u32) -> Result<bool, Failure> {
        self.encode_key(key);
        push_set(&mut self.request, &self.name, ttl, size, |out| {
            self.values.push(out, key, size);
        });
        self.counts.sets += 1;
        self.expect(Kind::Stored, key)
    }

    /// Sets all the keys. Each comes with the size of its value in bytes. Fails if the server
    /// refuses a set.
    pub fn set_all(&mut self, items: impl Iterator<Item = (u32, usize)>) -> Result<(), Failure> {
        for (key, size) in items {
            self.set(key, size, 0)?;
        }
        self.flush()?;
        match self.counts.refused() {
            0 => Ok(()),
            _ => Err(Failure::Server(format!(
                "sets were refused: {}",
                self.counts.refusal_text()
            ))),
        }
    }

    /// Queues an append of `size` bytes to a key's value. Returns whether this completed a batch.
    /// Such a value must not be read back, as it would fail the comparison.
    pub fn append(&mut self, key: u32, size: usize) -> Result<bool, Failure> {
        self.encode_key(key);
        let head = format!(" 0 0 {size}\r\n");
        for part in [b"append ", self.name.as_slice(), head.as_bytes()] {
            self.request.extend_from_slice(part);
        }
        self.values.push(&mut self.request, key, size);
        self.request.extend_from_slice(b"\r\n");
        self.counts.sets += 1;
        self.expect(Kind::Stored, key)
    }

    /// Queues a get of a key. Returns whether this completed a batch.
    pub fn get(&mut self, key: u32) -> Result<bool, Failure> {
        self.encode_key(key);
        push_get(&mut self.request, "get", &self.name);
        self.expect(Kind::Values, key)
    }

    /// Queues a delete of a key. Returns whether this completed a batch.
    pub fn delete(&mut self, key: u32) -> Result<bool, Failure> {
        self.encode_key(key);
        push_delete(&mut self.request, &self.name);
        self.expect(Kind::Found, key)
    }

    /// Sends the pending batch and reads its replies. Returns the keys of appends that found no
    /// item.
    pub fn flush(&mut self) -> Result<Vec<u32>, Failure> {
        let mut check = Check {
            counts: &mut self.counts,
            values: &self.values,
        };
        self.client
            .exchange(&self.request, &self.expected, &mut check)?;
        let not_stored = std::mem::take(&mut self.counts.not_stored);
        let keys = not_stored.iter().map(|&index| self.expected[index].key);
        let keys = keys.collect();
        self.request.clear();
        self.expected.clear();
        Ok(keys)
    }

    fn encode_key(&mut self, key: u32) {
        self.name.clear();
        self.names.push(&mut self.name, key, self.key_length);
    }

    fn expect(&mut self, kind: Kind, key: u32) -> Result<bool, Failure> {
        self.expected.push(Expected::one(kind, key));
        if self.request.len() < BATCH_BYTES && self.expected.len() < BATCH_REQUESTS {
            return Ok(false);
        }
        // An append found no item, for instance after an eviction. Set it anew in the next batch.
        for key in self.flush()? {
            self.encode_key(key);
            push_set(&mut self.request, &self.name, 0, 0, |_| ());
            self.counts.sets += 1;
            self.expected.push(Expected::one(Kind::Stored, key));
        }
        Ok(true)
    }
}

struct Check<'a> {
    counts: &'a mut ReplyCounts,
    values: &'a Values,
}

impl ReplyHandler for Check<'_> {
    fn on_reply(&mut self, index: usize, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Stored => {}
            Outcome::Lookup { hits, misses } => {
                self.counts.hits += u64::from(hits);
                self.counts.misses += u64::from(misses);
            }
            Outcome::Refused(line) => {
                if line == NOT_STORED {
                    self.counts.not_stored.push(index);
                }
                let text = line.escape_ascii().to_string();
                *self.counts.refusals.entry(text).or_default() += 1;
            }
        }
    }

    fn on_value(&mut self, expected: &Expected, _key: Option<&[u8]>, value: &[u8]) {
        if !self.values.matches(expected.key, value.len(), value) {
            self.counts.wrong_values += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, ReplyCounts};
    use crate::content::Values;
    use crate::replies::{Outcome, ReplyHandler};
    use crate::wire::{Expected, Kind};

    #[test]
    fn answers_are_told_apart() {
        let values = Values::new(100);
        let mut counts = ReplyCounts::default();
        let mut check = Check {
            counts: &mut counts,
            values: &values,
        };
        check.on_reply(0, Outcome::Stored);
        check.on_reply(1, Outcome::Refused(b"NOT_STORED"));
        check.on_reply(2, Outcome::Refused(b"SERVER_ERROR x"));
        check.on_reply(3, Outcome::Lookup { hits: 1, misses: 0 });
        let mut value = Vec::new();
        values.push(&mut value, 7, 50);
        check.on_value(&Expected::one(Kind::Values, 7), None, &value);
        check.on_value(&Expected::one(Kind::Values, 8), None, &value);
        assert_eq!((counts.refused(), counts.hits), (1, 1));
        assert_eq!(
            (counts.wrong_values, counts.not_stored.as_slice()),
            (1, &[1][..])
        );
        assert_eq!(counts.refusal_text(), "1 x NOT_STORED; 1 x SERVER_ERROR x");
    }
}
