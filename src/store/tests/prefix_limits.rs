//! Limits of prefixes: exact sums, and whose items are evicted.

use std::collections::HashMap;

use proptest::prelude::{Just, ProptestConfig, Strategy, any};
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

use crate::config::{Config, MemoryShare, PrefixLimit};
use crate::limits::{KEY_MAX_BYTES, PREFIX_LIMITS_MAX};
use crate::store::{
    Access, BadName, BadPrefixLimit, Growth, ItemSpec, Local, NoMemory, Options, PrefixUse, Store,
    Walk,
};
use crate::time::{Expiry, Now};

const NOW: Now = Now::from_millis(10_000);
const MIB: usize = 1 << 20;

struct Bench {
    store: Store,
    local: Local,
}

impl Bench {
    fn new(max_memory: usize, evict: bool) -> Self {
        let store = Store::new(Options {
            max_memory,
            evict,
            ..Options::from(&Config::default())
        });
        let local = store.local();
        Self { store, local }
    }

    fn limit(&self, prefix: &str, share: MemoryShare) {
        let result = self.store.set_prefix_limit(prefix.as_bytes(), Some(share));
        assert_eq!(result, Ok(()));
    }

    fn set(&mut self, key: &str, len: usize, expiry: Expiry) -> Result<(), NoMemory> {
        let hashed = self.store.hashed(key.as_bytes());
        let spec = ItemSpec {
            expiry,
            ..ItemSpec::new(key.as_bytes(), len)
        };
        let value = vec![b'v'; len];
        let pieces = std::iter::once(&value[..]);
        let (bytes, growth) = (spec.bytes(), Growth::Replaces);
        self.store
            .make_prefix_room(&mut self.local, &hashed, bytes, growth, NOW)?;
        let new = self
            .store
            .new_filled(&mut self.local, &hashed, &spec, NOW, pieces)?;
        self.store
            .edit(&mut self.local, &hashed, NOW, |entry| entry.put(new, 1));
        Ok(())
    }

    fn put(&mut self, key: &str, len: usize) {
        self.set(key, len, Expiry::NEVER).expect("room");
    }

    fn has(&mut self, key: &str) -> bool {
        let hashed = self.store.hashed(key.as_bytes());
        let read = self
            .store
            .read(&mut self.local, &hashed, NOW, |_| (Access::Counted, ()));
        read.is_ok()
    }

    fn delete(&mut self, key: &str) {
        let hashed = self.store.hashed(key.as_bytes());
        self.store
            .edit(&mut self.local, &hashed, NOW, |entry| entry.remove());
    }

    fn count(&self, prefix: &str) -> (u64, u64) {
        let (mut items, mut bytes) = (0, 0);
        let mut walk = Walk::default();
        while self.store.walk(&mut walk, NOW, |item| {
            if item.key().starts_with(prefix.as_bytes()) {
                items += 1;
                bytes += item.bytes() as u64;
            }
        }) {}
        (items, bytes)
    }

    fn used(&self, prefix: &str) -> PrefixUse {
        let uses = self.store.prefix_uses();
        let used = uses
            .into_iter()
            .find(|used| &*used.prefix == prefix.as_bytes());
        used.expect("it has a limit")
    }

    fn sums(&self, prefix: &str) -> (u64, u64) {
        let used = self.used(prefix);
        (used.items, used.bytes)
    }

    fn upkeep(&mut self) {
        while self.store.keep_prefix_limits(&mut self.local) {}
    }
}

#[derive(Clone, Debug)]
enum Act {
    Set(usize, usize, bool),
    Delete(usize),
    Append(usize, usize),
    Limit(usize),
    Unlimit(usize),
    Flush,
    Sweep,
    Upkeep,
}

const PREFIXES: [&str; 4] = ["a:", "a:b:", "c:", "c:d:e:"];

fn key(number: usize) -> String {
    ["a:", "a:b:", "c:", "c:d:e:", "none", ""][number % 6].to_owned() + &number.to_string()
}

fn act() -> impl Strategy<Value = Act> {
    let (key, len) = (
        0..60_usize,
        prop_oneof![4 => 0..300_usize, 1 => 30_000..90_000_usize],
    );
    prop_oneof![
        8 => (key.clone(), len.clone(), any::<bool>()).prop_map(|(key, len, expires)| {
            Act::Set(key, len, expires)
        }),
        2 => key.clone().prop_map(Act::Delete),
        2 => (key, len).prop_map(|(key, len)| Act::Append(key, len)),
        1 => (0..PREFIXES.len()).prop_map(Act::Limit),
        1 => (0..PREFIXES.len()).prop_map(Act::Unlimit),
        1 => Just(Act::Flush),
        1 => Just(Act::Sweep),
        1 => Just(Act::Upkeep),
    ]
}

impl Bench {
    fn act(&mut self, act: &Act) {
        match *act {
            Act::Set(number, len, expires) => {
                let expiry = match expires {
                    true => Expiry::from_seconds(-1, NOW),
                    false => Expiry::NEVER,
                };
                let _ = self.set(&key(number), len, expiry);
            }
            Act::Delete(number) => self.delete(&key(number)),
            Act::Append(number, len) => self.append(&key(number), len),
            Act::Limit(index) => self.limit(PREFIXES[index], MemoryShare::Percent(30)),
            Act::Unlimit(index) => {
                let prefix = PREFIXES[index].as_bytes();
                assert_eq!(self.store.set_prefix_limit(prefix, None), Ok(()));
            }
            Act::Flush => self.store.flush_all(&mut self.local),
            Act::Sweep => {
                for shard in 0..self.store.shard_count() {
                    self.store.sweep_shard(&mut self.local, shard, NOW);
                }
            }
            Act::Upkeep => self.upkeep(),
        }
    }

    /// Appends in place where that is possible.
    fn append(&mut self, key: &str, len: usize) {
        let hashed = self.store.hashed(key.as_bytes());
        let value = vec![b'v'; len];
        let pieces = std::iter::once(&value[..]);
        let spec = ItemSpec::new(key.as_bytes(), len);
        let (bytes, growth) = (spec.bytes(), Growth::Joins);
        let room = self
            .store
            .make_prefix_room(&mut self.local, &hashed, bytes, growth, NOW);
        if room.is_err() {
            return;
        }
        let more = self
            .store
            .new_filled(&mut self.local, &hashed, &spec, NOW, pieces);
        let Ok(more) = more else {
            return;
        };
        let mut spare = Vec::new();
        self.store.edit(&mut self.local, &hashed, NOW, |entry| {
            entry.extend(more.item(), &mut spare);
        });
        self.store.discard(&mut self.local, more);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_sums_are_exact(acts in proptest::collection::vec(act(), 1..120)) {
        let mut bench = Bench::new(2 * MIB, true);
        for act in &acts {
            bench.act(act);
        }
        for prefix in PREFIXES {
            bench.limit(prefix, MemoryShare::Percent(100));
        }
        // The dead count until they are removed, and a walk leaves them out.
        bench.act(&Act::Sweep);
        bench.upkeep();
        for prefix in PREFIXES {
            prop_assert_eq!(bench.sums(prefix), bench.count(prefix), "{}", prefix);
            prop_assert!(bench.used(prefix).is_counted);
        }
    }
}

#[test]
fn present_items_are_counted_for_a_new_limit_beside_changes() {
    let mut bench = Bench::new(64 * MIB, true);
    for number in 0..30_000 {
        bench.put(&format!("a:{number}"), 10);
        bench.put(&format!("b:{number}"), 20);
    }
    bench.limit("a:", MemoryShare::Percent(90));
    assert!(!bench.used("a:").is_counted);
    let mut number = 0;
    while bench.store.keep_prefix_limits(&mut bench.local) {
        // In shards that are counted and in ones that are not.
        for _ in 0..10 {
            bench.put(&format!("a:{}", 60_000 - number), number % 100);
            bench.delete(&format!("a:{number}"));
            number += 1;
        }
    }
    assert!(bench.used("a:").is_counted);
    assert_eq!(bench.sums("a:"), bench.count("a:"));
    bench.limit("b:", MemoryShare::Percent(90));
    bench.upkeep();
    assert_eq!(bench.sums("b:"), bench.count("b:"));
    assert_eq!(bench.sums("a:"), bench.count("a:"));
}

#[test]
fn threads_that_count_for_a_new_limit_at_once_count_each_item_once() {
    let mut bench = Bench::new(64 * MIB, true);
    for number in 0..8000 {
        bench.put(&format!("a:b:c:{number}"), 10);
    }
    let prefixes = ["a:", "a:b:", "a:b:c:"];
    let store = &bench.store;
    std::thread::scope(|scope| {
        for prefix in prefixes {
            scope.spawn(move || {
                let share = Some(MemoryShare::Percent(90));
                store.set_prefix_limit(prefix.as_bytes(), share)
            });
        }
    });
    for prefix in prefixes {
        assert_eq!(bench.sums(prefix), bench.count(prefix), "{prefix}");
    }
}

#[test]
fn a_value_that_takes_the_place_of_another_needs_room_for_the_difference_alone() {
    let mut bench = Bench::new(64 * MIB, true);
    bench.limit("a:", MemoryShare::Bytes(MIB));
    bench.put("a:large", 600_000);
    for number in 0..400 {
        bench.put(&format!("a:{number}"), 900);
    }
    let before = bench.sums("a:");
    bench.put("a:large", 600_000);
    bench.put("a:large", 500_000);
    assert_eq!(bench.used("a:").evictions, 0);
    assert_eq!(bench.sums("a:").0, before.0);

    let mut strict = Bench::new(64 * MIB, false);
    strict.limit("a:", MemoryShare::Bytes(MIB));
    strict.put("a:large", 600_000);
    strict.put("a:large", 900_000);
    let refused = strict.set("a:large", MIB, Expiry::NEVER);
    assert_eq!(refused, Err(NoMemory));
}

#[test]
fn a_value_that_grows_stays_within_the_limit() {
    let mut bench = Bench::new(64 * MIB, true);
    bench.limit("a:", MemoryShare::Bytes(MIB));
    for number in 0..8000 {
        bench.put(&format!("a:{number}"), 60);
    }
    bench.put("a:large", 300_000);
    for _ in 0..200 {
        bench.append("a:large", 10_000);
        let used = bench.used("a:").bytes as usize;
        assert!(used <= MIB, "{used}");
    }
    assert!(bench.has("a:large"));
}

#[test]
fn items_are_found_after_the_index_was_rebuilt_and_values_were_replaced() {
    let mut bench = Bench::new(64 * MIB, true);
    // Prefixes one and four share a mark.
    for prefix in ["a:", "b:", "c:", "d:"] {
        bench.limit(prefix, MemoryShare::Percent(50));
    }
    for number in 0..1000 {
        bench.put(&format!("a:{number}"), 100);
        bench.put(&format!("a:{number}"), 200);
    }
    for number in 0..100_000 {
        bench.put(&format!("d:{number}"), 10);
    }
    bench.limit("a:", MemoryShare::Bytes(10_000));
    // A search for items that have lost their mark would have no end.
    let steps = (0..10_000).take_while(|_| bench.store.keep_prefix_limits(&mut bench.local));
    assert!(steps.count() < 10_000);
    assert!(bench.used("a:").bytes <= 10_000);
    assert_eq!(bench.used("d:").items, 100_000);
    assert_eq!(bench.sums("a:"), bench.count("a:"));
}

#[test]
fn what_is_refused_evicts_nothing() {
    let mut bench = Bench::new(64 * MIB, true);
    bench.limit("a:", MemoryShare::Bytes(2 * MIB));
    bench.limit("a:b:", MemoryShare::Bytes(MIB));
    for number in 0..1800 {
        bench.put(&format!("a:{number}"), 1000);
    }
    let refused = bench.set("a:b:large", MIB, Expiry::NEVER);
    assert_eq!(refused, Err(NoMemory));
    assert_eq!(bench.used("a:").evictions, 0);
}

#[test]
fn a_prefix_over_its_limit_evicts_its_own() {
    let mut bench = Bench::new(64 * MIB, true);
    bench.limit("a:", MemoryShare::Bytes(MIB));
    for number in 0..5000 {
        bench.put(&format!("b:{number}"), 100);
    }
    for number in 0..50_000 {
        bench.put(&format!("a:{number}"), 100);
        let used = bench.used("a:").bytes as usize;
        assert!(used <= MIB, "{used} at {number}");
    }
    assert_eq!(bench.count("b:").0, 5000);
    let used = bench.used("a:");
    assert!(used.bytes as usize > MIB * 9 / 10, "{}", used.bytes);
    assert_eq!(used.items + used.evictions, 50_000);
    let sum = bench.store.stats().snapshot();
    assert_eq!(sum.evictions, used.evictions);
    assert_eq!(sum.evicted_for_prefix, used.evictions);
}

#[test]
fn what_is_used_stays() {
    let mut bench = Bench::new(64 * MIB, true);
    bench.limit("a:", MemoryShare::Bytes(MIB));
    let used = |number: usize| format!("a:used{number}");
    for number in 0..2000 {
        bench.put(&used(number), 100);
    }
    let (mut hits, mut reads) = (0, 0);
    for number in 0..60_000 {
        bench.put(&format!("a:{number}"), 100);
        let key = used(number % 2000);
        reads += 1;
        match bench.has(&key) {
            true => hits += 1,
            false => bench.put(&key, 100),
        }
    }
    assert!(hits * 100 > reads * 95, "{hits} of {reads}");
}

#[test]
fn a_prefix_with_few_of_many_items_keeps_its_limit() {
    let mut bench = Bench::new(64 * MIB, true);
    for number in 0..200_000 {
        bench.put(&format!("b:{number}"), 10);
    }
    bench.limit("rare:", MemoryShare::Bytes(MIB));
    bench.upkeep();
    for number in 0..20_000 {
        bench.put(&format!("rare:{number}"), 1000);
        let used = bench.used("rare:").bytes as usize;
        assert!(used <= MIB + MIB / 16, "{used} at {number}");
    }
    bench.upkeep();
    assert!(bench.used("rare:").bytes as usize <= MIB);
    assert_eq!(bench.count("b:").0, 200_000);
}

#[test]
fn upkeep_evicts_what_a_lowered_limit_leaves_over() {
    let mut bench = Bench::new(64 * MIB, true);
    bench.limit("a:", MemoryShare::Percent(50));
    let mut lens = HashMap::new();
    for number in 0..20_000 {
        let len = number % 500;
        bench.put(&format!("a:{number}"), len);
        lens.insert(number, len);
    }
    assert_eq!(bench.used("a:").evictions, 0);
    bench.limit("a:", MemoryShare::Bytes(2 * MIB));
    bench.upkeep();
    let used = bench.used("a:").bytes as usize;
    assert!((MIB..=2 * MIB).contains(&used), "{used}");
    // A percentage follows the memory limit.
    bench.limit("a:", MemoryShare::Percent(2));
    assert_eq!(bench.used("a:").limit_bytes, 64 * MIB / 100 * 2);
    bench.store.set_memory_limit(32 * MIB);
    assert_eq!(bench.used("a:").limit_bytes, 32 * MIB / 100 * 2);
    bench.upkeep();
    assert!(bench.used("a:").bytes as usize <= 32 * MIB / 100 * 2);
    assert_eq!(bench.sums("a:"), bench.count("a:"));
}

#[test]
fn without_eviction_and_for_too_large_items_there_is_no_memory() {
    let mut bench = Bench::new(64 * MIB, true);
    bench.limit("a:", MemoryShare::Percent(1));
    bench.put("a:small", 100);
    assert_eq!(bench.set("a:large", 700_000, Expiry::NEVER), Err(NoMemory));
    assert!(bench.has("a:small"), "nothing was evicted in vain");
    bench.put("b:large", 700_000);

    let mut strict = Bench::new(64 * MIB, false);
    strict.limit("a:", MemoryShare::Bytes(MIB));
    let stored = (0..3).take_while(|number| {
        let key = format!("a:{number}");
        strict.set(&key, 400_000, Expiry::NEVER).is_ok()
    });
    assert_eq!(stored.count(), 2);
    strict.upkeep();
    assert_eq!(strict.used("a:").items, 2);
    strict.put("b:1", 400_000);
}

#[test]
fn only_prefixes_of_keys_have_limits_and_only_so_many() {
    let bench = Bench::new(64 * MIB, true);
    let share = Some(MemoryShare::Percent(5));
    let set = |prefix: &[u8]| bench.store.set_prefix_limit(prefix, share);
    assert_eq!(set(b""), Err(BadPrefixLimit::Name(BadName::Empty)));
    assert_eq!(set(b"a"), Err(BadPrefixLimit::Name(BadName::NotDelimited)));
    let long = [&[b'a'; KEY_MAX_BYTES][..], b":"].concat();
    assert_eq!(set(&long), Err(BadPrefixLimit::Name(BadName::TooLong)));
    for number in 0..PREFIX_LIMITS_MAX {
        assert_eq!(set(format!("{number}:").as_bytes()), Ok(()));
    }
    assert_eq!(set(b"one more:"), Err(BadPrefixLimit::TooMany));
    assert_eq!(set(b"7:"), Ok(()), "a known one can change");
    assert_eq!(bench.store.set_prefix_limit(b"unknown:", None), Ok(()));
    let kept = [PrefixLimit {
        prefix: b"9:"[..].into(),
        share: MemoryShare::Bytes(MIB),
    }];
    assert_eq!(bench.store.replace_prefix_limits(&kept), Ok(()));
    assert_eq!(bench.store.prefix_limits(), kept);
    assert_eq!(bench.store.prefix_uses().len(), 1);
    let other = [PrefixLimit {
        prefix: b"other:"[..].into(),
        share: MemoryShare::Bytes(MIB),
    }];
    let refused = bench.store.replace_prefix_limits(&other);
    assert_eq!(refused, Err((&b"other:"[..], BadPrefixLimit::TooMany)));
}
