//! Stores a plan's keys and verifies that they are present.
//!
//! If keys were missing or evicted, a measurement would measure misses. Therefore each key is
//! fetched and its value compared before a load begins. Used by `run` and `rounds`.

use super::address::Address;
use super::client::Client;
use super::failure::Failure;
use super::plan::Plan;
use super::replies::{Outcome, ReplyHandler};
use super::ring::Encoder;
use super::wire::{Expected, Kind, push_get};

/// Bytes of requests or values per exchange.
const LOAD_BATCH: usize = 64 * 1024;
/// Keys per get of the verification.
const CHECK_KEYS: u32 = 50;

/// Sets every key of the plan, then gets each and checks its value. Fails if any is missing.
pub fn load_keys(plan: &Plan, address: &Address) -> Result<(), Failure> {
    let encoder = Encoder::new(plan);
    let mut client = Client::connect(address, true)?;
    let mut check = LoadCheck {
        encoder: &encoder,
        counters: plan.uses_counters(),
        stored: 0,
        found: 0,
        wrong: 0,
        first_error: None,
    };
    let (mut request, mut expected) = (Vec::new(), Vec::new());
    for key in 0..plan.keys {
        encoder.push_set(&mut request, key);
        expected.push(Expected::one(Kind::Stored, key));
        if request.len() >= LOAD_BATCH || key + 1 == plan.keys {
            client.exchange(&request, &expected, &mut check)?;
            request.clear();
            expected.clear();
        }
    }
    let mut names = Vec::new();
    for first in (0..plan.keys).step_by(CHECK_KEYS as usize) {
        names.clear();
        let end = plan.keys.min(first + CHECK_KEYS);
        for key in first..end {
            encoder.push_key(&mut names, key);
            names.push(b' ');
        }
        names.pop();
        request.clear();
        push_get(&mut request, "get", &names);
        let mut note = Expected::one(Kind::Values, first);
        note.keys = (end - first) as u16;
        client.exchange(&request, &[note], &mut check)?;
    }
    check.verdict(plan.keys)
}

struct LoadCheck<'a> {
    encoder: &'a Encoder,
    counters: bool,
    stored: u32,
    found: u32,
    wrong: u32,
    first_error: Option<String>,
}

impl LoadCheck<'_> {
    fn verdict(self, keys: u32) -> Result<(), Failure> {
        if (self.stored, self.found, self.wrong) == (keys, keys, 0) {
            return Ok(());
        }
        let LoadCheck {
            stored,
            found,
            wrong,
            ..
        } = self;
        let why = self
            .first_error
            .map_or(String::new(), |text| format!(" ({text})"));
        Err(Failure::Server(format!(
            "of {keys} keys {stored} were stored, {found} found again, {wrong} wrong{why}"
        )))
    }
}

impl ReplyHandler for LoadCheck<'_> {
    fn on_reply(&mut self, _index: usize, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Stored => self.stored += 1,
            Outcome::Lookup { hits, .. } => self.found += hits,
            Outcome::Refused(line) => {
                let text = || line.escape_ascii().to_string();
                self.first_error.get_or_insert_with(text);
            }
        }
    }

    fn on_value(&mut self, expected: &Expected, key: Option<&[u8]>, value: &[u8]) {
        let right = self.counters || self.encoder.value_is_right(expected.key, key, value);
        self.wrong += u32::from(!right);
    }
}
