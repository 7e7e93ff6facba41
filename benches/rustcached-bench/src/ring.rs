//! The encoded requests of a load.
//!
//! Keys are drawn and requests encoded before the measurement, into a ring of batches. Each
//! connection cycles through the ring from its own start, so sending a batch is a single write from
//! memory. Built once per run, then shared by all workers and never changed.

use super::content::{KeyNames, Values};
use super::plan::{Command, Plan, Popularity};
use super::random::{Random, Zipf};
use super::wire::{
    Expected, Kind, meta_value_length, push_binary_get, push_delete, push_get, push_incr,
    push_meta_get, push_meta_set, push_set, push_touch, value_block_length,
};

const FEWEST_KEYS: usize = 1 << 16;
const MOST_KEYS: usize = 1 << 21;
const FEWEST_BATCHES: usize = 16;
const MOST_BYTES: usize = 256 << 20;
/// Initial value of counters. Long enough that their length does not change during a measurement.
const COUNTER_START: &[u8] = b"1000000000";

/// Encodes the keys and values of a plan, and verifies values.
#[derive(Clone, Debug)]
pub struct Encoder {
    names: KeyNames,
    values: Values,
    plan: Plan,
}

impl Encoder {
    /// Creates an encoder for the keys and values of a plan.
    pub fn new(plan: &Plan) -> Self {
        Encoder {
            names: KeyNames::new(&plan.key_prefix),
            values: Values::new(plan.value_size.max),
            plan: plan.clone(),
        }
    }

    /// Appends a key.
    pub fn push_key(&self, out: &mut Vec<u8>, key: u32) {
        self.names.push(out, key, self.plan.key_length);
    }

    /// Appends a `set` of the key with its value.
    pub fn push_set(&self, out: &mut Vec<u8>, key: u32) {
        let mut name = Vec::with_capacity(self.plan.key_length);
        self.push_key(&mut name, key);
        if self.plan.uses_counters() {
            return push_set(out, &name, self.plan.ttl, COUNTER_START.len(), |out| {
                out.extend_from_slice(COUNTER_START);
            });
        }
        let size = self.plan.value_size.of(key);
        push_set(out, &name, self.plan.ttl, size, |out| {
            self.values.push(out, key, size)
        });
    }

    /// Returns whether `value` belongs to the key. `name`, the key in the reply, overrides `key` if
    /// known.
    pub fn value_is_right(&self, key: u32, name: Option<&[u8]>, value: &[u8]) -> bool {
        let key = name.map_or(Some(key), |name| self.names.number(name));
        key.is_some_and(|key| {
            self.values
                .matches(key, self.plan.value_size.of(key), value)
        })
    }
}

/// The position of a batch in the ring.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
    /// Index of the first request's entry in [`Ring::expected`].
    pub first: usize,
    /// Index behind the last request's entry.
    pub last: usize,
    /// Operations in the batch: requests, or keys in the case of multigets.
    pub operations: u64,
}

/// The encoded batches.
#[derive(Debug)]
pub struct Ring {
    /// All requests, encoded.
    pub bytes: Vec<u8>,
    /// Information about the reply to each request.
    pub expected: Vec<Expected>,
    /// The batches in sending order.
    pub batches: Vec<Batch>,
}

impl Ring {
    /// Draws the keys and encodes the requests of a plan.
    pub fn build(plan: &Plan, encoder: &Encoder) -> Self {
        let wanted = (2 * plan.keys as usize).clamp(FEWEST_KEYS, MOST_KEYS);
        let batches = (wanted / (plan.depth * plan.multiget)).max(FEWEST_BATCHES);
        let mut generator = RequestGenerator::new(plan, encoder);
        let mut ring = Ring {
            bytes: Vec::new(),
            expected: Vec::new(),
            batches: Vec::with_capacity(batches),
        };
        for made in 0..batches {
            if ring.bytes.len() > MOST_BYTES && made >= FEWEST_BATCHES {
                break;
            }
            let (start, first) = (ring.bytes.len(), ring.expected.len());
            for _ in 0..plan.depth {
                generator.push_request(&mut ring);
            }
            let requests = &ring.expected[first..];
            ring.batches.push(Batch {
                start,
                end: ring.bytes.len(),
                first,
                last: ring.expected.len(),
                operations: requests.iter().map(|note| u64::from(note.keys)).sum(),
            });
        }
        ring
    }

    /// Returns information about the replies to a batch.
    pub fn expected_of(&self, batch: usize) -> &[Expected] {
        let Batch { first, last, .. } = self.batches[batch];
        &self.expected[first..last]
    }
}

/// Draws and encodes requests.
struct RequestGenerator<'a> {
    plan: &'a Plan,
    encoder: &'a Encoder,
    random: Random,
    zipf: Option<Zipf>,
    key: Vec<u8>,
}

impl<'a> RequestGenerator<'a> {
    fn new(plan: &'a Plan, encoder: &'a Encoder) -> Self {
        let zipf = match plan.popularity {
            Popularity::Uniform => None,
            Popularity::Zipf(theta) => Some(Zipf::new(u64::from(plan.keys), theta)),
        };
        RequestGenerator {
            plan,
            encoder,
            random: Random::new(plan.seed),
            zipf,
            key: Vec::new(),
        }
    }

    fn draw(&mut self) -> u32 {
        let keys = u64::from(self.plan.keys);
        match &self.zipf {
            None => self.random.below(keys) as u32,
            // Multiplication by a prime spreads neighbouring ranks over the key space.
            Some(zipf) => (zipf.draw(&mut self.random) * 2_654_435_761 % keys) as u32,
        }
    }

    fn push_request(&mut self, ring: &mut Ring) {
        let key = self.draw();
        if self.plan.sets > 0.0 && self.random.unit() < self.plan.sets {
            self.encoder.push_set(&mut ring.bytes, key);
            ring.expected.push(Expected::one(Kind::Stored, key));
            return;
        }
        self.key.clear();
        self.encoder.push_key(&mut self.key, key);
        let mut expected = Expected::one(self.plan.command.kind(), key);
        let size = self.plan.value_size.of(key);
        match self.plan.command {
            Command::Get => {
                let plain = self.plan.value_size.min == self.plan.value_size.max;
                if self.plan.multiget == 1 || plain {
                    expected.hit_length = value_block_length(self.key.len(), size);
                }
                self.push_multiget(ring, &mut expected, "get");
            }
            Command::Gets => self.push_multiget(ring, &mut expected, "gets"),
            Command::Mg => {
                expected.hit_length = meta_value_length(size);
                push_meta_get(&mut ring.bytes, &self.key);
            }
            Command::Set => self.encoder.push_set(&mut ring.bytes, key),
            Command::Ms => {
                let values = &self.encoder.values;
                let push_value = |out: &mut Vec<u8>| values.push(out, key, size);
                push_meta_set(&mut ring.bytes, &self.key, self.plan.ttl, size, push_value);
            }
            Command::Incr => push_incr(&mut ring.bytes, &self.key),
            Command::Delete => push_delete(&mut ring.bytes, &self.key),
            Command::Touch => push_touch(&mut ring.bytes, &self.key, self.plan.ttl),
            Command::BinaryGet => push_binary_get(&mut ring.bytes, &self.key),
        }
        ring.expected.push(expected);
    }

    /// Draws the other keys of a multiget and writes the line.
    fn push_multiget(&mut self, ring: &mut Ring, expected: &mut Expected, verb: &str) {
        for _ in 1..self.plan.multiget {
            let key = self.draw();
            self.key.push(b' ');
            self.encoder.push_key(&mut self.key, key);
        }
        expected.keys = self.plan.multiget as u16;
        push_get(&mut ring.bytes, verb, &self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::{Encoder, Ring};
    use crate::content::SizeRange;
    use crate::plan::{Command, Plan, Popularity};
    use crate::wire::Kind;

    fn build(change: impl FnOnce(&mut Plan)) -> (Plan, Ring) {
        let mut plan = Plan {
            keys: 100,
            key_prefix: "k".to_string(),
            key_length: 5,
            ..Plan::default()
        };
        change(&mut plan);
        plan.check().unwrap();
        let ring = Ring::build(&plan, &Encoder::new(&plan));
        (plan, ring)
    }

    #[test]
    fn batches_follow_each_other_without_gaps() {
        let (_, ring) = build(|plan| plan.depth = 4);
        let mut at = 0;
        for (number, batch) in ring.batches.iter().enumerate() {
            assert_eq!((batch.start, batch.operations), (at, 4));
            at = batch.end;
            let lines = &ring.bytes[batch.start..batch.end];
            assert!(lines.starts_with(b"get k0") && lines.ends_with(b"\r\n"));
            assert_eq!(lines.len(), 4 * "get k0042\r\n".len());
            assert_eq!(ring.expected_of(number).len(), 4);
        }
        assert_eq!(at, ring.bytes.len());
    }

    #[test]
    fn a_multiget_counts_its_keys_and_its_length_only_if_all_are_alike() {
        let multi = |plan: &mut Plan| plan.multiget = 3;
        let (_, ring) = build(multi);
        assert_eq!(ring.batches[0].operations, 3);
        assert_eq!(
            ring.expected[0].hit_length,
            "VALUE k0042 0 100\r\n\r\n".len() as u32 + 100
        );
        let (_, ring) = build(|plan| {
            multi(plan);
            plan.value_size = SizeRange { min: 1, max: 9 };
        });
        assert_eq!(ring.expected[0].hit_length, 0);
    }

    #[test]
    fn the_share_of_sets_is_kept() {
        let (_, ring) = build(|plan| plan.sets = 0.25);
        let sets = ring
            .expected
            .iter()
            .filter(|note| note.kind == Kind::Stored)
            .count();
        let share = sets as f64 / ring.expected.len() as f64;
        assert!((0.24..0.26).contains(&share), "{share}");
    }

    #[test]
    fn the_seed_decides_the_keys_and_zipf_prefers_some() {
        let keys = |seed, popularity| {
            let (_, ring) = build(|plan| (plan.seed, plan.popularity) = (seed, popularity));
            ring.expected
                .iter()
                .map(|note| note.key)
                .collect::<Vec<u32>>()
        };
        let uniform = Popularity::Uniform;
        assert_eq!(keys(1, uniform), keys(1, uniform));
        assert_ne!(keys(1, uniform), keys(2, uniform));
        let most = |keys: Vec<u32>| {
            let count = |wanted| keys.iter().filter(|&&key| key == wanted).count();
            (0..100).map(count).max().unwrap() as f64 / keys.len() as f64
        };
        assert!(most(keys(1, uniform)) < 0.02);
        assert!(most(keys(1, Popularity::Zipf(0.99))) > 0.15);
    }

    #[test]
    fn values_are_known_again_by_key_or_name() {
        let (plan, _) = build(|plan| plan.command = Command::Set);
        let encoder = Encoder::new(&plan);
        let mut set = Vec::new();
        encoder.push_set(&mut set, 42);
        let value = &set["set k0042 0 0 100\r\n".len()..set.len() - 2];
        assert!(encoder.value_is_right(42, None, value));
        assert!(encoder.value_is_right(0, Some(b"k0042"), value));
        assert!(!encoder.value_is_right(42, Some(b"k0043"), value));
    }
}
